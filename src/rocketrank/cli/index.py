"""``rq index``: encode a corpus and store it with a vector index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options
from .show import in_words, size_in_words

if TYPE_CHECKING:
    from ..index import BuildReport


def index(
    corpus: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS", help="Files to read, also .gz, .zst and .xz; - is stdin."),
    ],
    directory: Annotated[
        Path, typer.Option("--index", metavar="DIR", help="Where the index is written.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="minilm, a model folder or a hub id.")
    ] = "minilm",
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="auto|flat|ivf|hnsw|ivfpq|FACTORY",
            help="Vector structure; FACTORY is a FAISS factory string.",
        ),
    ] = "auto",
    format: Annotated[
        Literal["auto", "msmarco", "beir", "dpr", "rocketqa"],
        typer.Option("--format", help="How to read the corpus; auto looks at its first lines."),
    ] = "auto",
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave out passages without title and text.")
    ] = False,
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Keep the first of passages with the same id.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an index that is in DIR.")
    ] = False,
    shard_size: Annotated[
        int,
        typer.Option(
            "--shard-size",
            metavar="N",
            min=1,
            help="Passages that are encoded between two savings.",
        ),
    ] = 4096,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Index a corpus.

    Its passages are encoded with the model and stored, with their text, in DIR.

    A run that was killed goes on where it stopped when the same command is given again.
    """
    import sys

    from ..data.corpus import CorpusReader
    from ..index import BuildOptions, build_index
    from ..inference import choose_runtime
    from ..models import open_model
    from ..retriever import DualEncoder

    options.refuse_empty("--model", model)
    # What this machine and the files cannot do is refused before a model is looked for.
    runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
    reader = CorpusReader(list(corpus), format=format, skip_empty=skip_empty)
    encoder = DualEncoder(open_model(model, role="dual-encoder"), runtime)
    build = BuildOptions(
        kind=kind,
        shard_size=shard_size,
        skip_duplicates=skip_duplicates,
        overwrite=overwrite,
        threads=threads,
        precision=runtime.precision,
    )
    report = build_index(directory, reader, encoder, build, progress=sys.stderr.isatty())
    for line in _summary(report, encoder.truncated_passages):
        print(line)
    print(f'\nNow ask it:  rq search "…" --index {directory}')


def _summary(report: "BuildReport", truncated: int) -> list[str]:
    encoded = report.passages - report.resumed_from
    speed = f", {encoded / report.seconds:,.0f} a second" if encoded else ""
    lines = [
        f"{in_words(report.passages, 'passage')} in {report.seconds:.1f} s{speed}, "
        f"{size_in_words(report.bytes_on_disk)} on the disk",
        f"structure {report.factory}: {report.reason}",
    ]
    for count, what in (
        (report.resumed_from, "had been encoded by an earlier run"),
        (report.skipped_empty, "without title and text left out"),
        (report.skipped_duplicates, "left out because their ids had come before"),
        (truncated, "longer than the model reads, and cut there"),
    ):
        if count:
            lines.append(f"{in_words(count, 'passage')} {what}")
    return lines
