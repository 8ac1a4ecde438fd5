"""``rq train``: a stage of a recipe on lists, or the whole pipeline of a recipe."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import UsageError
from . import options

StageName = Literal["retriever", "reranker", "joint"]
STOPPED = 143
"""The exit status of a run that a signal stopped after it wrote a checkpoint."""


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A TOML file, or a bundled recipe's name.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the run is kept.")],
    stage: Annotated[
        StageName, typer.Option("--stage", help="Which models: one alone, or both.")
    ] = "joint",
    lists: Annotated[
        Path | None, typer.Option("--lists", metavar="FILE", help="What a stage trains on.")
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
    _check(pipeline, lists, data)
    options.prepare_training(threads)
    if pipeline:
        from ..training.pipeline import run_pipeline

        run_pipeline(checked, data=data, output=output, device=device, progress=_is_watched())
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
            f"Stopped after step {outcome.step} of {outcome.steps}; the same command goes on.",
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


def _check(pipeline: bool, lists: Path | None, data: Path) -> None:
    if pipeline and lists is not None:
        raise UsageError(
            "--lists is for a stage alone; with --pipeline ready lists are named in the recipe: "
            f"--set data.candidates={lists}"
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
    validations = metrics["validations"]
    best = metrics["best_step"]
    if validations:
        first = validations[0]
        chosen = next(each for each in validations if each["step"] == best)
        print(f"dev queries, before -> after (step {best} of {metrics['steps']}, the best)")
        for system, after in chosen["measures"].items():
            before = first["measures"][system]
            values = [f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in after]
            print(f"  {system.replace('_', ' '):<11}{', '.join(values)}")
    print(f"models   {' and '.join(metrics['models'])} in {output}")
    print(f"curves   {output / 'curves.html'}")


def _is_watched() -> bool:
    return sys.stderr.isatty()
