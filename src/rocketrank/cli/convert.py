"""``rq convert``: a model folder out of a RocketQA or PaddleNLP checkpoint."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .show import in_words


def convert(
    source: Annotated[Path, typer.Argument(help="Folder or file with the checkpoint.")],
    target: Annotated[Path, typer.Argument(help="The model folder to make; must not exist.")],
    role: Annotated[
        Literal["dual-encoder", "cross-encoder"] | None,
        typer.Option("--role", help="What the checkpoint is, where it does not say so itself."),
    ] = None,
    passage_encoder: Annotated[
        Path | None,
        typer.Option(
            "--passage-encoder",
            metavar="DIR",
            help="Checkpoint of the passage tower, where it has weights of its own.",
        ),
    ] = None,
) -> None:
    """Convert a checkpoint.

    A RocketQA or PaddleNLP checkpoint becomes a model folder that rq can load.
    """
    from ..convert import convert_checkpoint

    report = convert_checkpoint(source, target, role=role, passage=passage_encoder)
    towers = ", separate towers" if report.towers == "separate" else ""
    print(f"Wrote {report.target}: {report.role}{towers}, {in_words(report.weights, 'weight')}.")
    if report.optimizer:
        count = in_words(len(report.optimizer), "variable")
        print(f"Left out the optimizer's state ({count}).")
    if report.unused:
        print(f"Left out as unused: {', '.join(report.unused)}.")
    option = "--model" if report.role == "dual-encoder" else "--reranker"
    command = "index CORPUS --index DIR" if option == "--model" else 'search "…" --index DIR'
    print(f"Use it with: rq {command} {option} {report.target}")
