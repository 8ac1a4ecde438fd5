"""``rq demo --train``: train both models on docstrings, and measure what that has changed.

A docstring's first sentence asks for the rest of it. Everything is kept in one folder, and what is
there is not done again: a demo that was killed goes on where it was.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from ..environment import prepare_training
from ..errors import DataError, RocketRankError, UsageError
from .demo import HITS, build, own_command, say, write_passages
from .show import in_words, print_hits, style_of_output
from .train import STOPPED

if TYPE_CHECKING:
    from ..search_options import Fuse
    from ..stages import Hit
    from ..training.docstring_pairs import DocstringPair
    from ..training.recipe import Recipe, StageName
    from ..training.run import Outcome

RECIPE = "demo"
MEASURE, FIRST = "RR@10", 10
STAGES = ("stage one", "both stages")

Figures = dict[str, dict[str, float]]
"""Stage → question → the reciprocal rank of its answer, 0 below the first ten."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Numbers of questions to train on, to choose by and to measure with; ``depth`` passages are
    re-ranked for each of the last."""

    warm_up: int = 256
    joint: int = 192
    dev: int = 48
    held_out: int = 200
    depth: int = 20


class Questions(NamedTuple):
    """Every passage, and four sets of questions that have none in common."""

    passages: "list[DocstringPair]"
    warm_up: "list[DocstringPair]"
    joint: "list[DocstringPair]"
    dev: "list[DocstringPair]"
    held_out: "list[DocstringPair]"


@dataclass(frozen=True, kw_only=True)
class System:
    """An index and a re-ranker, with the weight that the retriever's score has beside it."""

    name: str
    index: Path
    reranker: Path
    fuse: "Fuse"


def train_demo(corpus: Path, folder: Path, extent: Extent) -> None:
    """Train on the documentation in ``corpus``, or show what an earlier call has trained.

    Raises RocketRankError, and typer.Exit where a signal stopped the training.
    """
    prepare_training(None)
    questions = _questions(corpus, extent)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        before, after = _trained(folder, questions)
        figures = _figures(folder, (before, after), questions, extent)
    except (DataError, UsageError) as error:
        raise RocketRankError(
            f"{error} (here: remove {folder}, and rq demo --train makes it anew)"
        ) from error
    _print_figures(figures, len(questions.passages))
    _answer(_moved(figures, questions.held_out), (before, after), extent)
    _print_next(after, folder)


def _questions(corpus: Path, extent: Extent) -> Questions:
    from ..data.corpus import CorpusReader
    from ..training.docstring_pairs import docstring_pairs, split_pairs

    sizes = (extent.held_out, extent.dev, extent.warm_up, extent.joint)
    try:
        pairs = docstring_pairs(CorpusReader([corpus]))
        held_out, dev, warm_up, joint = split_pairs(pairs, sizes)
    except DataError as error:
        raise DataError(
            f"{error} (here: remove {corpus}, and rq demo --train writes that of this Python)"
        ) from error
    return Questions(pairs, warm_up, joint, dev, held_out)


def _trained(folder: Path, questions: Questions) -> tuple[System, System]:
    """The systems before and after the joint training, trained as far as they are not there."""
    from ..training.recipe import read_recipe

    recipe = read_recipe(RECIPE)
    passages, minilm, index = (folder / name for name in ("passages.jsonl", "minilm", "trained"))
    if not passages.exists():
        count = write_passages(passages, (pair.passage for pair in questions.passages))
        say(
            f"Wrote {passages}: {in_words(count, 'docstring')} without their first sentences, "
            "which ask for the rest"
        )
    _indexed(passages, minilm, "minilm")
    _mine(folder, minilm, questions, recipe)
    warm = _train(folder, recipe, "reranker", "Warming up the re-ranker", questions.warm_up)
    # absolute, or the recipe would be another one in another folder
    models = replace(recipe.models, reranker=str(warm.reranker and warm.reranker.resolve()))
    both = replace(recipe, models=models)
    joint = _train(folder, both, "joint", "Training both models jointly", questions.joint)
    if warm.reranker is None or joint.retriever is None or joint.reranker is None:
        raise DataError(f"{folder} lacks a model that was trained")
    _indexed(passages, index, joint.retriever.resolve())
    weight = joint.metrics["validations"][0]["weight"]
    return (
        System(name="before", index=minilm, reranker=warm.reranker, fuse=weight),
        System(name="after", index=index, reranker=joint.reranker, fuse="auto"),
    )


def _indexed(passages: Path, index: Path, model: str | Path) -> None:
    if (index / "manifest.json").exists():
        return
    started = time.perf_counter()
    count = build(passages, index, model)
    name = "minilm" if model == "minilm" else "the trained retriever"
    say(f"Indexed {in_words(count, 'passage')} with {name} into {index}", started)


def _mine(folder: Path, directory: Path, questions: Questions, recipe: "Recipe") -> None:
    """The lists of all questions to train on and to choose by, negatives from minilm's index."""
    from ..data.records import Judgement
    from ..index import Index
    from ..retriever import DualEncoder
    from ..training.mining import MiningSources, mine, tokenizer_fingerprint
    from ..training.mining_options import MiningOptions
    from ..training.mining_queries import select_queries

    parts = {"reranker": questions.warm_up, "joint": questions.joint, "dev": questions.dev}
    missing = {name: part for name, part in parts.items() if not _lists(folder, name).exists()}
    if not missing:
        return
    started = time.perf_counter()
    encoder = DualEncoder.load("minilm")
    chosen = MiningOptions(
        depth=recipe.mining.depth, negatives=recipe.mining.negatives, with_text=True
    )
    with Index.open(directory) as index:
        tokenizer = tokenizer_fingerprint(encoder.model)
        sources = MiningSources(index=index, retriever=encoder, tokenizer=tokenizer)
        for name, part in missing.items():
            judged = [Judgement(pair.id, pair.id, 1) for pair in part]
            mine(
                _lists(folder, name),
                select_queries([pair.query for pair in part], judged),
                sources,
                chosen,
            )
    count = sum(len(part) for part in missing.values())
    say(f"Mined negatives for {in_words(count, 'question')}", started)


def _lists(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


def _train(
    folder: Path, recipe: "Recipe", stage: "StageName", doing: str, part: "list[DocstringPair]"
) -> "Outcome":
    from ..training.run import TrainOptions, train

    output = folder / f"{stage}-run"
    is_there = (output / "metrics.json").exists()
    if not is_there:
        say(f"{doing} on {in_words(len(part), 'question')}, about a minute or two")
    started = time.perf_counter()
    outcome = train(
        TrainOptions(
            recipe=recipe,
            stage=stage,
            lists=_lists(folder, stage),
            output=output,
            dev=_lists(folder, "dev") if stage == "joint" else None,
            progress=sys.stderr.isatty(),
        )
    )
    if not outcome.finished:
        say(f"Stopped after step {outcome.step} of {outcome.steps}; the same command goes on")
        raise typer.Exit(STOPPED)
    if not is_there:
        say(f"Trained {in_words(outcome.steps, 'step')} into {output}", started)
    return outcome


def _figures(
    folder: Path, systems: Sequence[System], questions: Questions, extent: Extent
) -> dict[str, Figures]:
    """The figures of each system, measured where they are not in the folder yet."""
    import orjson

    from ..durable import write_durably

    path = folder / "figures.json"
    figures: dict[str, Figures] = orjson.loads(path.read_bytes()) if path.exists() else {}
    for system in systems:
        if system.name not in figures:
            started = time.perf_counter()
            figures[system.name] = _measured(system, questions.held_out, extent.depth)
            write_durably(path, [orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n"])
            say(
                f"Asked {in_words(extent.held_out, 'held-out question')}, {system.name} the joint "
                "training",
                started,
            )
    return figures


def _measured(system: System, pairs: "Sequence[DocstringPair]", depth: int) -> Figures:
    from ..engine import SearchEngine
    from ..eval.measures import evaluate

    asked = [pair.question for pair in pairs]
    wanted = {pair.id: {pair.id: 1} for pair in pairs}
    with SearchEngine.open(system.index, reranker=system.reranker) as engine:
        alone = engine.without_reranker()
        found = (
            alone.search_many(asked, k=FIRST),
            engine.search_many(asked, k=FIRST, rerank_depth=depth, fuse=system.fuse),
        )
    figures = {}
    for stage, answers in zip(STAGES, found, strict=True):
        # ranks in place of scores: an evaluation has a rule of its own for ties
        run = {
            pair.id: {hit.id: -float(hit.rank) for hit in hits}
            for pair, hits in zip(pairs, answers, strict=True)
        }
        figures[stage] = evaluate(run, wanted, [MEASURE])[MEASURE]
    return figures


def _print_figures(figures: dict[str, Figures], passages: int) -> None:
    from ..eval.measures import mean
    from ..eval.significance import bootstrap_interval, paired_differences

    before, after = figures["before"], figures["after"]
    count = len(before[STAGES[0]])
    print(
        f"\nMRR@10 on {in_words(count, 'held-out question')} over {in_words(passages, 'passage')}"
    )
    print(f"{'':<14}{'before':<24}{'after':<24}difference")
    for stage in STAGES:
        change = paired_differences(after[stage], before[stage])
        cells = [
            f"{mean(values):.3f} ({low:.3f} to {high:.3f})"
            for values in (before[stage], after[stage])
            for low, high in [bootstrap_interval(values)]
        ]
        low, high = bootstrap_interval(change)
        moved = f"{mean(change):+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"{stage:<14}{cells[0]:<24}{cells[1]:<24}{moved}")
    print(
        "in brackets: 95 % intervals over questions. Before: minilm, and the re-ranker after its\n"
        "warm-up alone (minilm has none). Both stages: the two scores together, weighed on dev\n"
        "questions."
    )


def _moved(figures: dict[str, Figures], pairs: "Sequence[DocstringPair]") -> "DocstringPair":
    """The first question whose answer minilm and the trained pair have at another rank.

    Whether it rose or fell has no part in it.
    """
    first, last = figures["before"][STAGES[0]], figures["after"][STAGES[1]]
    return next((pair for pair in pairs if first[pair.id] != last[pair.id]), pairs[0])


def _answer(pair: "DocstringPair", systems: tuple[System, System], extent: Extent) -> None:
    """The answers of minilm, of the trained retriever and of both trained models."""
    from ..engine import SearchEngine

    before, after = systems
    print(f"\nA held-out question whose answer has moved: {pair.question}")
    with SearchEngine.open(before.index) as engine:
        _print_answers("minilm", pair, engine.search(pair.question, k=FIRST))
    with SearchEngine.open(after.index, reranker=after.reranker) as engine:
        alone = engine.without_reranker()
        _print_answers("the trained retriever", pair, alone.search(pair.question, k=FIRST))
        both = engine.search(pair.question, k=FIRST, rerank_depth=extent.depth, fuse=after.fuse)
        _print_answers("both trained models", pair, both)


def _print_answers(name: str, pair: "DocstringPair", hits: "Sequence[Hit]") -> None:
    rank = next((hit.rank for hit in hits if hit.id == pair.id), None)
    place = "not among the first 10" if rank is None else f"at rank {rank}"
    print(f"\n{name}, with {pair.id} {place}:")
    print_hits(hits[:HITS], pair.question, style_of_output())


def _print_next(after: System, folder: Path) -> None:
    print(f"\nCurves of the training:  {folder / 'joint-run' / 'curves.html'}")
    print(
        f'Ask both models:         {own_command()} search "wait for a process to end" '
        f"--index {after.index} --reranker {after.reranker} --fuse auto"
    )
    print(f"Train your own:          {own_command()} train --help")
