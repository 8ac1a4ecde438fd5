"""``rq train``: a stage of a recipe on lists, or the whole pipeline of a recipe."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..environment import prepare_training
from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..training.recipe import Recipe

StageName = Literal["retriever", "reranker", "joint"]
STOPPED = 143
"""The exit status of a run that a signal stopped after it wrote a checkpoint."""
_POSITIVES = {"seen": "positives of training too", "unseen": "other positives"}


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A TOML file, or a bundled recipe's name.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the run is kept.")],
    stage: Annotated[
        StageName, typer.Option("--stage", help="Which models: one alone, or both.")
    ] = "joint",
    lists: Annotated[
        Path | None,
        typer.Option("--lists", metavar="FILE", help="Ranking lists that a stage trains on."),
    ] = None,
    passages: Annotated[
        list[Path] | None,
        typer.Option(
            "--passages",
            metavar="PATH",
            help="Index or corpus with the texts that the lists name by id.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", metavar="FILE", help="Texts of queries, for lists of ids."),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            "--dev",
            metavar="FILE",
            help="Lists to validate on.",
            show_default="a share of --lists, held out",
        ),
    ] = None,
    dev_qrels: Annotated[
        Path | None,
        typer.Option("--dev-qrels", metavar="FILE", help="Judgements for --dev."),
    ] = None,
    pipeline: Annotated[
        bool,
        typer.Option(
            "--pipeline", help="All stages: index, mine, warm up, denoise, train, evaluate."
        ),
    ] = False,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The folder of the recipe's files.")
    ] = Path("."),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe: joint.epochs=3."),
    ] = None,
    retriever: Annotated[
        str | None, typer.Option("--retriever", metavar="MODEL", help="Start of the retriever.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option("--reranker", metavar="MODEL", help="Start of the re-ranker.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Another seed.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse lists that cannot be trained on.")
    ] = False,
    any_tokenizer: Annotated[
        bool,
        typer.Option("--any-tokenizer", help="Take lists that another tokenizer's model mined."),
    ] = False,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Train a retriever, a re-ranker, or both together.

    The same command goes on with a run that was stopped. Several processes train together under
    python -m paddle.distributed.launch.
    """
    overrides = _overrides(settings or [], retriever, reranker, seed)
    from ..training.recipe import read_recipe

    checked = read_recipe(recipe, overrides)
    given = {"--passages": passages, "--queries": queries, "--dev": dev, "--dev-qrels": dev_qrels}
    _check(pipeline, lists, data, given)
    prepare_training(threads)
    if pipeline:
        _run_pipeline(checked, data, output, device, threads, strict)
        return
    from ..training.run import TrainOptions
    from ..training.run import train as train_stage

    outcome = train_stage(
        TrainOptions(
            recipe=checked,
            stage=stage,
            lists=lists or Path(),
            output=output,
            passages=tuple(passages or ()),
            queries=queries,
            dev=dev,
            dev_qrels=dev_qrels,
            device=device,
            strict=strict,
            any_tokenizer=any_tokenizer,
            progress=_is_watched(),
        )
    )
    if not outcome.finished:
        typer.echo(
            f"Stopped after step {outcome.step} of {outcome.steps}, which is kept in {output}: the "
            "same command goes on from there.",
            err=True,
        )
        raise typer.Exit(STOPPED)
    _print_outcome(outcome.metrics, output)


def _overrides(
    settings: Sequence[str], retriever: str | None, reranker: str | None, seed: int | None
) -> dict[str, str]:
    """What ``--set`` and the flags that stand for a key say, by dotted key."""
    overrides = {"models.retriever": retriever, "models.reranker": reranker}
    overrides["seed"] = None if seed is None else str(seed)
    found = {key: value for key, value in overrides.items() if value is not None}
    for each in settings:
        key, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"--set {each}: expected KEY=VALUE, such as joint.epochs=3")
        if key in found and found[key] != value:
            raise UsageError(f"{key} is given twice, as {found[key]} and as {value}: say it once")
        found[key] = value
    return found


def _run_pipeline(
    recipe: "Recipe", data: Path, output: Path, device: str, threads: int | None, strict: bool
) -> None:
    from ..training.pipeline import run_pipeline

    outcome = run_pipeline(
        recipe,
        data=data,
        output=output,
        device=device,
        threads=threads,
        strict=strict,
        progress=_is_watched(),
    )
    if not outcome.finished:
        typer.echo(
            f"Stopped after step {outcome.step} of {outcome.steps} of {outcome.stage}; the same "
            "command goes on.",
            err=True,
        )
        raise typer.Exit(STOPPED)
    _print_results(outcome.results, output)


def _check(pipeline: bool, lists: Path | None, data: Path, of_stages: Mapping[str, object]) -> None:
    if pipeline and lists is not None:
        raise UsageError(
            "--lists is for a stage alone; with --pipeline ready lists are named in the recipe: "
            f"--set data.candidates={lists}"
        )
    for option, value in of_stages.items():
        if pipeline and value:
            raise UsageError(
                f"{option} is for a stage alone; with --pipeline files are named in the recipe's "
                "[data]: leave it out, or override the recipe with --set"
            )
    if not pipeline and lists is None:
        raise UsageError(
            "a stage needs the lists it trains on: give --lists, or --pipeline to have them mined"
        )
    if lists is not None and not lists.is_file():
        raise UsageError(f"--lists {lists} is no file: mine lists with rq mine, or check the name")
    if not data.is_dir():
        raise UsageError(f"--data {data} is no folder: name the folder of the recipe's files")


def _print_outcome(metrics: Mapping[str, Any], output: Path) -> None:
    """The dev measures before and after, and what can be done next."""
    last, steps, best = metrics["last_step"], metrics["steps"], metrics["best_step"]
    if metrics["stopped_early"]:
        print(f"Stopped early after step {last} of {steps}, which did not improve on step {best}.")
    chosen: Mapping[str, Any] = {}
    if metrics["validations"]:
        first, *_ = metrics["validations"]
        chosen = next(each for each in metrics["validations"] if each["step"] == best)
        when = f"step {best}, the best of {last}" if best else "no step, for none improved on that"
        print(f"Dev queries, before training -> after {when}:")
        _print_measures(first["measures"], chosen["measures"])
    models = {name: output / name for name in metrics["models"]}
    print(f"Wrote {' and '.join(map(str, models.values()))}.")
    print(f"Curves: {output / 'curves.html'}")
    if "retriever" in models:
        print(f"Next: rq index CORPUS --model {models['retriever']} --index INDEX")
    if "reranker" in models:
        lead = "     " if "retriever" in models else "Next:"
        fuse = " --fuse auto" if "weight" in chosen else ""
        print(f'{lead} rq search "QUESTION" --index INDEX --reranker {models["reranker"]}{fuse}')


def _print_measures(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> None:
    """A line for each system, a column for each measure."""
    names = list(dict.fromkeys(name for values in after.values() for name in values))
    rows = [["", *names]]
    rows += [
        [
            system.replace("_", " "),
            *(f"{before[system][name]:.4f} -> {values[name]:.4f}" for name in names),
        ]
        for system, values in after.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {'  '.join(cells)}".rstrip())


def _print_results(results: Mapping[str, Any], output: Path) -> None:
    """The figures of dev and test, and how the pair is searched with."""
    for part in ("dev", "test"):
        if part in results:
            _print_part(part, results[part])
    depth = results["rerank_depth"]
    print(f"The figures, with every interval, are in {output / 'results.json'}.")
    pair = ""
    if depth is not None:
        pair = f" --reranker {output / 'reranker'} --rerank-depth {max(depth, 10)} --fuse auto"
    print(f'Now ask it:  rq search "…" --index {output / "index"}{pair}')
    print(f'or by words too:  rq search "…" --index {output / "index"} --first-stage hybrid')


def _print_part(part: str, figures: Mapping[str, Any]) -> None:
    """A line for each system and each difference; nDCG@10 with its interval of 95 %."""
    systems, differences = figures["systems"], figures["differences"]
    measures = list(next(iter(systems.values())))
    rows = [[f"{part}, {figures['queries']:,} queries", *measures, ""]]
    for name, by_measure in {**systems, **differences}.items():
        sign = "+" if name in differences else ""
        first, *others = by_measure.values()
        interval = ""
        if "low" in first:
            interval = f" ({first['low']:{sign}.4f} to {first['high']:{sign}.4f})"
        cells = [f"{each['mean']:{sign}.4f}" for each in (first, *others)]
        cells[0] += interval
        p_value = f"p {first['p_value']:.4f}" if "p_value" in first else ""
        rows.append([_in_words(name), *cells, p_value])
    _print_columns(rows, "")
    for kind, words in _POSITIVES.items():
        found = figures["positives"][kind]
        if found["positives"]:
            means = [f"{_in_words(each)} {value:.4f}" for each, value in found["nDCG@10"].items()]
            count = f"{found['passages']:,} passages, {found['queries']:,} queries"
            print(f"{words} ({count}), nDCG@10: {', '.join(means)}")
    print()


def _print_columns(rows: Sequence[Sequence[str]], indent: str) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"{indent}{'  '.join(cells)}".rstrip())


def _in_words(system: str) -> str:
    return system.replace("two_stages", "two stages")


def _is_watched() -> bool:
    return sys.stderr.isatty()
