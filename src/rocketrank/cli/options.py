"""Options that several commands share, declared once so that they read the same everywhere."""

from typing import Annotated, Literal

import typer

from ..errors import UsageError

Device = Annotated[
    str, typer.Option("--device", metavar="cpu|gpu|gpu:N", help="Where the model runs.")
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(
        "--precision", help="auto: bf16 where the processor has it; fp32 is exact and slower."
    ),
]
Engine = Annotated[
    Literal["auto", "openvino", "paddle"],
    typer.Option("--engine", help="What runs the model; auto: OpenVINO on a CPU if installed."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", min=1, help="CPU threads to use.", show_default="all cores"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def refuse_empty(option: str, value: object) -> None:
    """An empty value is a variable that was not set, never what was meant."""
    if value == "":
        raise UsageError(f"{option} is empty; give it a value or leave it out")
