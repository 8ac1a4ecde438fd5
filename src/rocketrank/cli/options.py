"""Options that several commands share, declared once so that they read the same everywhere."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import UsageError
from ..search_options import HYBRID_WEIGHT


def _checked_wait(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise UsageError(f"--wait ({seconds}) must be a number of seconds, 0 or more")
    return seconds


def _size(text: str, option: str) -> int:
    """Bytes of a size such as 8GiB, 500MB or 1000000000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{option} ({text}) must be a size such as 8GiB or 500MB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** ("KMGT".find(match[2].upper()) + 1 if match[2] else 0))


def memory_size(text: str) -> int:
    return _size(text, "--memory")


def _disk_size(text: str) -> int:
    return _size(text, "--disk")


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

# Of the commands that read a corpus.
_CORPUS_HELP = "Files, also .gz, .zst and .xz, or folders of documents; - is stdin."
Corpus = Annotated[
    list[str],
    typer.Argument(metavar="CORPUS", help=_CORPUS_HELP),
]
CorpusOrNone = Annotated[
    list[str] | None,
    typer.Argument(metavar="CORPUS", help=_CORPUS_HELP, show_default=False),
]
CorpusFormat = Annotated[
    Literal["auto", "msmarco", "beir", "dpr", "rocketqa"],
    typer.Option("--format", help="How to read the corpus; auto looks at its first lines."),
]
SkipEmpty = Annotated[
    bool, typer.Option("--skip-empty", help="Leave out passages without title and text.")
]
IndexedBy = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="minilm, a model folder or a hub id.")
]
VectorType = Annotated[
    Literal["float32", "float16", "int8"],
    typer.Option(
        "--vector-type",
        help="How vectors are kept: float16 takes half the disk, int8 a quarter.",
    ),
]
SkipDuplicates = Annotated[
    bool, typer.Option("--skip-duplicates", help="Keep the first of passages with the same id.")
]
ShardSize = Annotated[
    int,
    typer.Option(
        "--shard-size",
        metavar="N",
        min=1,
        help="Passages that are encoded between the first savings; up to 16 times as many later.",
    ),
]

IndexDevice = Annotated[
    str | None,
    typer.Option(
        "--index-device",
        metavar="cpu|gpu|gpu:N,M",
        help="Where the index is searched.",
        show_default="as --device",
    ),
]
IndexFloat16 = Annotated[
    bool,
    typer.Option(
        "--index-float16", help="Keep the vectors of a flat index on the GPU in half the bytes."
    ),
]
Group = Annotated[
    Literal["document"] | None,
    typer.Option(
        "--group",
        help="Return documents instead of their chunks, each with its best chunk.",
        show_default="no grouping",
    ),
]
FirstStage = Annotated[
    Literal["dense", "bm25", "hybrid"],
    typer.Option(
        "--first-stage",
        help="What finds passages: vectors, BM25, or both, their scores added; the last two need "
        "an index built with --bm25.",
    ),
]
HybridWeight = Annotated[
    float | None,
    typer.Option(
        "--hybrid-weight",
        metavar="W",
        help="How much the vectors' scores count in --first-stage hybrid, from 0 to 1.",
        show_default=f"{HYBRID_WEIGHT:g}",
    ),
]
Effort = Annotated[
    float,
    typer.Option(
        "--effort",
        metavar="FACTOR",
        help="How much of an approximate index is visited: 2 finds more than 1, and takes longer.",
    ),
]
Refine = Annotated[
    int | None,
    typer.Option(
        "--refine",
        metavar="N",
        help="How many candidates of a quantised index are scored again from its vectors.",
        show_default="the larger of 200 and 10 times K",
    ),
]

# Of the commands that work on an index that is there.
IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")]
IndexToChange = Annotated[
    Path, typer.Option("--index", metavar="DIR", help="The index that is changed.")
]
MovedModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Where the index's own model is now, if it has moved.",
        show_default="the one that filled the index",
    ),
]
IndexPrecision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(
        "--precision",
        help="auto: fp32 in an index that was filled in fp32, else bf16 where the processor has "
        "it.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        callback=_checked_wait,
        help="How long to wait while another process is writing the index.",
    ),
]

Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=memory_size,
        help="What building the structure may take, such as 8GiB; a larger one is built in parts.",
        show_default="no bound",
    ),
]

Disk = Annotated[
    int | None,
    typer.Option(
        "--disk",
        metavar="SIZE",
        parser=_disk_size,
        help="What the index may take on the disk, such as 20GiB.",
        show_default="no bound",
    ),
]


def hybrid_weight(weight: float | None, first_stage: str) -> float:
    """The weight that is meant. UsageError where ``first_stage`` has no use for one."""
    if weight is None:
        return HYBRID_WEIGHT
    if first_stage != "hybrid":
        raise UsageError(
            f"--hybrid-weight ({weight:g}) needs --first-stage hybrid, found {first_stage}"
        )
    return weight


def refuse_empty(option: str, value: object) -> None:
    """An empty value is a variable that was not set, never what was meant."""
    if value == "":
        raise UsageError(f"{option} is empty; give it a value or leave it out")
