"""What each part of the joint training is worth: variants compared on held-out training queries.

    python benchmarks/ablation.py run --minutes 30    # as often as needed: it goes on
    python benchmarks/ablation.py table               # the results into docs/ablation.md

Every variant starts from the same two warmed-up models of its seed and takes the same steps over
the same lists of the MS MARCO sample; docs/ablation.md says what is compared and how to read it.
A finished run leaves one small file in benchmarks/results/ablation, and is not run again.
"""

import argparse
import contextlib
import hashlib
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent))
from ablation_runs import DEPTH, Lists, Stopped, Study, identity, prepare_lists, run_variant
from ablation_table import (
    PRIMARY,
    START,
    SYSTEMS,
    page_text,
    read_result,
    read_results,
    result_path,
)
from ablation_variants import BASELINE, RECIPE, TRIAL, Settings, steps_of, variants
from page import write_page
from scifact import data_folder

from rocketrank.environment import prepare_training
from rocketrank.errors import RocketRankError, UsageError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablation"
PAGE = ROOT / "docs" / "ablation.md"
# With 6 layers on two idle cores: tokens a second forward and backward, tokens a second forward
# alone, and seconds for a model's update. Estimates, for the plan that is printed.
_TRAINED, _READ, _UPDATE = 1_500, 20_000, 0.15


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "table":
            make_table(options.results, options.page)
        else:
            prepare_training()
            run_all(_study(options), range(1, options.seeds + 1), options.only, options.minutes)
    except RocketRankError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="carry out what has no result yet")
    run.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 1 to N (default 3)")
    run.add_argument(
        "--only",
        action="append",
        choices=[START, *variants(Settings())],
        help="this variant; may be given several times (default: all)",
    )
    run.add_argument("--minutes", type=float, metavar="N", help="stop after N minutes, go on later")
    add_msmarco(run)
    run.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        default=Path(tempfile.gettempdir()) / "rocketrank-ablation",
        help="where lists, warmed-up models and unfinished runs are kept (default: %(default)s)",
    )
    run.add_argument("--results", type=Path, metavar="DIR", help="default: the repository's")
    run.add_argument(
        "--trial", action="store_true", help="minutes instead of hours: does the script work?"
    )
    table = commands.add_parser("table", help="write the table into the page")
    table.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    table.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    return parser


def add_msmarco(parser: argparse.ArgumentParser) -> None:
    """``--msmarco``, the folder with collection.tsv, queries.train.tsv, candidates.train.tsv."""
    default = data_folder() / "msmarco"
    parser.add_argument("--msmarco", type=Path, default=default, metavar="DIR")


def _study(options: argparse.Namespace) -> Study:
    """A study whose folder belongs to its settings and data alone."""
    if not (options.msmarco / "candidates.train.tsv").is_file():
        raise UsageError(
            f"--msmarco ({options.msmarco}) must hold candidates.train.tsv, queries.train.tsv and "
            "collection.tsv: name the folder of the MS MARCO sample"
        )
    study = Study(
        settings=TRIAL if options.trial else Settings(),
        data=options.msmarco,
        work=options.work,
        results=RESULTS,
    )
    digest = hashlib.sha256(orjson.dumps(identity(study))).hexdigest()[:8]
    work = options.work / digest
    results = options.results or (work / "results" if options.trial else RESULTS)
    return replace(study, work=work, results=results)


def run_all(
    study: Study, seeds: Sequence[int], only: Sequence[str] | None, minutes: float | None
) -> None:
    """Every run that has no result yet, a seed after the other."""
    from rocketrank.training.device import prepare_device

    names = [each for each in (START, *variants(study.settings)) if not only or each in only]
    todo = [(seed, name) for seed in seeds for name in names if not _has_result(study, name, seed)]
    with stopping_after(minutes, study.asked_to_stop):
        prepare_device("cpu", "fp32")
        lists = prepare_lists(study)
        print(budget(study, lists, todo), flush=True)
        for number, (seed, name) in enumerate(todo, start=1):
            began = time.monotonic()
            try:
                result = run_variant(study, name, seed, lists)
            except Stopped:
                print(f"stopped before run {number} of {len(todo)} ended; run again to go on")
                return
            means = ", ".join(
                f"{system} {statistics.fmean(result.values[system][PRIMARY]):.4f}"
                for system in SYSTEMS
            )
            print(
                f"{number}/{len(todo)} seed {seed} {name}: {PRIMARY} {means} "
                f"({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    print(f"results in {study.results}")


def _has_result(study: Study, name: str, seed: int) -> bool:
    """Whether there is a result of these very settings; UsageError for one of others."""
    path = result_path(study.results, name, seed)
    if not path.exists():
        return False
    result = read_result(path)
    recipe = dict(variants(study.settings)[name].recipe) if name != START else {}
    if result.settings != identity(study) or result.recipe != recipe:
        raise UsageError(
            f"{path} was made with other settings than this script has now: remove it, and all "
            "results beside it, to run the ablation again"
        )
    return True


@contextlib.contextmanager
def stopping_after(minutes: float | None, asked: list[int]) -> Iterator[None]:
    """Inside, the time limit, Ctrl-C or SIGTERM fill ``asked``; training then checkpoints."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.signal(each, lambda number, _: asked.append(number)) for each in signals}
    timer = None
    if minutes is not None:
        timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        for each, handler in before.items():
            signal.signal(each, handler)


def budget(study: Study, lists: Lists, todo: Sequence[tuple[int, str]]) -> str:
    """What the runs that are left will cost on two idle cores, from the lengths of the texts."""
    settings = study.settings
    query, passage, pair = _mean_tokens(lists.train)
    steps = steps_of(settings, lists.train_count)
    joint = settings.list_length * (passage + pair) + query
    joint *= steps * settings.lists_per_step
    epochs = (settings.retriever_warmup_epochs, settings.reranker_warmup_epochs)
    warm = epochs[0] * (settings.warmup_list_length * passage + query)
    warm += epochs[1] * settings.warmup_list_length * pair
    warm *= lists.train_count
    warm_steps = sum(epochs) * (lists.train_count // settings.warmup_lists_per_step)
    dev = lists.dev_count * (query + DEPTH * (passage + pair))
    denoising = lists.train_count * DEPTH * pair
    cold = {seed for seed, _ in todo if not (study.seed_folder(seed) / "warm-reranker").exists()}
    runs = sum(name != START for _, name in todo)
    hybrid = sum(name != START and variants(settings)[name].hybrid for _, name in todo)
    seconds = (len(cold) * warm + runs * joint) / _TRAINED
    seconds += (len(cold) * warm_steps + runs * 2 * steps) * _UPDATE
    seconds += (len(todo) * dev + hybrid * denoising) / _READ
    of_run = joint / _TRAINED + dev / _READ + 2 * steps * _UPDATE
    return (
        f"{lists.train_count} training and {lists.dev_count} dev queries, {steps} steps; mean "
        f"tokens: query {query:.0f}, passage {passage:.0f}, pair {pair:.0f}\n"
        f"a run: {joint:,.0f} tokens trained and {dev:,.0f} read for dev, about {of_run:.0f} s; "
        f"a seed's warm-up: {warm:,.0f} tokens trained\n"
        f"{len(todo)} runs and {len(cold)} warm-ups left: about {seconds / 60:.0f} minutes on two "
        "idle cores"
    )


def _mean_tokens(lists: Path) -> tuple[float, float, float]:
    """Of a query, a passage and a pair, special tokens included, as the recipe cuts them."""
    from rocketrank.models import open_model
    from rocketrank.tokenizing import Tokenizer
    from rocketrank.training.lists import read_lists
    from rocketrank.training.recipe import read_recipe

    section = read_recipe(RECIPE).models
    folder = open_model(section.retriever).path
    found = list(read_lists(lists))
    passages = [candidate.text or "" for each in found for candidate in each.candidates]
    pairs = [(each.query, one.text or "") for each in found for one in each.candidates]

    def longest(length: int) -> Tokenizer:
        return Tokenizer.load(folder, length=length)

    encoded = (
        longest(section.query_length).encode([each.query for each in found]),
        longest(section.passage_length).encode(passages),
        longest(section.pair_length).encode_pairs(pairs),
    )
    query, passage, pair = (
        statistics.fmean(len(tokens.ids) for tokens in each) for each in encoded
    )
    return query, passage, pair


def make_table(results: Path, page: Path) -> None:
    labels = {name: variant.label for name, variant in variants(Settings()).items()}
    write_page(page, Path(__file__).name, page_text(read_results(results), labels, BASELINE))
    print(f"{page} has the table")


if __name__ == "__main__":
    sys.exit(main())
