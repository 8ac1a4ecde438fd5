"""``rq encode``: vectors of a corpus or of queries, in files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import chunks, options
from .show import in_words, noted, size_in_words

if TYPE_CHECKING:
    from ..index.vector_encoding import EncodeReport


def encode(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The folder that is written.")
    ],
    corpus: options.CorpusOrNone = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", metavar="FILE", help="Queries to encode instead of a corpus."),
    ] = None,
    chunk: chunks.Chunk = None,
    stride: chunks.Stride = None,
    model: options.IndexedBy = "minilm",
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    skip_duplicates: options.SkipDuplicates = False,
    shard_size: options.ShardSize = 4096,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Write vectors of a corpus or of queries.

    DIR gets NumPy files of float32, their ids, and which model made them. rq index --vectors makes
    an index of such a folder, with the same model, without encoding again.

    A run that was killed goes on where it stopped when the same command is given again.
    """
    import shlex
    import sys

    from ..data.corpus import CorpusReader
    from ..data.queries import read_queries
    from ..inference import choose_runtime
    from ..models import open_model
    from ..retriever import DualEncoder

    options.refuse_empty("--model", model)
    if bool(corpus) == (queries is not None):
        given = "both" if corpus else "neither"
        raise UsageError(f"give either a CORPUS or --queries FILE; this command has {given}")
    runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
    reader = CorpusReader(list(corpus or ()), format=format, skip_empty=skip_empty)
    asked = list(read_queries(queries)) if queries else []
    encoder = DualEncoder(open_model(model, role="dual-encoder"), runtime)

    from ..index.vector_encoding import EncodeOptions, encode_corpus, encode_queries

    chosen = EncodeOptions(
        shard_size=shard_size, skip_duplicates=skip_duplicates, precision=runtime.precision
    )
    shown = sys.stderr.isatty()
    chunking = chunks.chosen_chunking(reader, encoder, chunk, stride)
    if queries is None:
        cut = chunks.cut(reader, encoder, chunking)
        report = encode_corpus(output, cut, encoder, chosen, progress=shown)
    else:
        report = encode_queries(output, asked, encoder, chosen, progress=shown)
    for line in _summary(report):
        print(line)
    for line in noted(
        (reader.skipped_empty, "without title and text left out"),
        (report.skipped_duplicates, "left out because their ids had come before"),
        (encoder.truncated_passages, "longer than the model reads, and cut there"),
    ):
        print(line)
    for line in chunks.unread_lines(reader):
        print(line)
    if corpus:
        command = ["rq", "index", *corpus, "--vectors", str(output), "--model", model]
        if chunking:
            command += ["--chunk", str(chunking.limit), "--stride", str(chunking.stride)]
        print(f"\nMake an index of it:  {shlex.join([*command, '--index', 'DIR'])}")


def _summary(report: "EncodeReport") -> list[str]:
    made = report.vectors - report.resumed_from
    speed = f", {made / report.seconds:,.0f} a second" if made else ""
    lines = [
        f"{in_words(report.vectors, 'vector')} of width {report.width} in {report.seconds:.1f} s"
        f"{speed}, {size_in_words(report.bytes_on_disk)} on the disk"
    ]
    if report.resumed_from:
        lines.append(f"{in_words(report.resumed_from, 'vector')} made by an earlier run")
    return lines
