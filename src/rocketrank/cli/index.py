"""``rq index``: encode a corpus and store it with a vector index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import chunks, options
from .show import in_words, noted, size_in_words

if TYPE_CHECKING:
    from ..index import BuildReport


def index(
    directory: Annotated[
        Path, typer.Option("--index", metavar="DIR", help="Where the index is written.")
    ],
    corpus: options.CorpusOrNone = None,
    model: options.IndexedBy = "minilm",
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Vector structure: auto, flat, ivf, hnsw, ivfpq, ivfpq4, ivf-rabitq, or a FAISS "
            "factory string.",
        ),
    ] = "auto",
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="NAME,NAME…",
            help="Metadata of the passages to filter searches by (rq search --where).",
        ),
    ] = None,
    chunk: chunks.Chunk = None,
    stride: chunks.Stride = None,
    vectors: Annotated[
        list[Path] | None,
        typer.Option(
            "--vectors",
            metavar="PATH",
            help="Vectors to take instead of encoding, by the ids of passages: folders of rq "
            "encode, .npy with ids, files of Pyserini and Tevatron.",
            show_default=False,
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="FILE", help="The ids of one .npy file of --vectors."),
    ] = None,
    trust_vectors: Annotated[
        bool,
        typer.Option(
            "--trust-vectors", help="Do not compare given vectors with passages encoded here."
        ),
    ] = False,
    vector_type: options.VectorType = "float32",
    bm25: Annotated[
        bool,
        typer.Option("--bm25", help="Keep postings too, to search by words. The index remembers."),
    ] = False,
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    skip_duplicates: options.SkipDuplicates = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an index that is in DIR.")
    ] = False,
    shard_size: options.ShardSize = 4096,
    memory: options.Memory = None,
    wait: options.Wait = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Index a corpus.

    Its passages are encoded with the model and stored, with their text, in DIR. Folders, and files
    of text, Markdown and HTML, are documents, which are cut into chunks. With --vectors vectors are
    taken from files; without CORPUS, too, and the index then answers with ids.

    A run that was killed goes on where it stopped when the same command is given again.
    """
    import sys
    from functools import partial

    from ..data.corpus import CorpusReader
    from ..index import BuildOptions, build_index
    from ..inference import choose_runtime
    from ..models import open_model
    from ..retriever import DualEncoder
    from .vectors_given import Given, check_given, index_vectors

    given = Given(vectors=tuple(vectors or ()), ids=ids, trusted=trust_vectors)
    check_given(given, corpus or ())
    options.refuse_empty("--model", model)
    columns = field_names(fields)
    # What this machine and the files cannot do is refused before a model is looked for.
    runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
    opened = partial(CorpusReader, list(corpus or ()), format=format, skip_empty=skip_empty)
    reader = opened()
    encoder = DualEncoder(open_model(model, role="dual-encoder"), runtime)
    chunking = chunks.chosen_chunking(reader, encoder, chunk, stride)
    build = BuildOptions(
        kind=kind,
        shard_size=shard_size,
        skip_duplicates=skip_duplicates,
        overwrite=overwrite,
        threads=threads,
        precision=runtime.precision,
        vectors=vector_type,
        fields=chunks.with_document(columns, chunking),
        wait=wait,
        memory=memory,
        bm25=bm25,
        chunking=chunking,
    )
    cut = partial(chunks.cut, encoder=encoder, chunking=chunking)
    said: list[str] = []
    if given.vectors:
        corpus_again = (lambda: cut(opened())) if corpus else None
        report, said = index_vectors(directory, corpus_again, encoder, build, given)
    else:
        report = build_index(directory, cut(reader), encoder, build, progress=sys.stderr.isatty())
        said = chunks.unread_lines(reader)
    documents = reader.count if chunking and not given.vectors else None
    truncated = 0 if given.vectors else encoder.truncated_passages
    for line in [*_summary(report, documents, truncated), *said]:
        print(line)
    print(f'\nNow ask it:  rq search "…" --index {directory}')


def field_names(text: str | None) -> tuple[str, ...]:
    """The names of ``--fields``, in their order."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"--fields ({text}) must be names with commas between them")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--fields ({text}) names {twice} twice; once is enough")
    return names


def _summary(report: "BuildReport", documents: int | None, truncated: int) -> list[str]:
    """``documents`` is how many the passages are chunks of, None where they are not."""
    what = in_words(report.passages, "passage")
    if documents is not None:
        what = f"{in_words(report.passages, 'chunk')} of {in_words(documents, 'document')}"
    encoded = report.passages - report.resumed_from
    speed = f", {encoded / report.seconds:,.0f} a second" if encoded else ""
    lines = [
        f"{what} in {report.seconds:.1f} s{speed}, "
        f"{size_in_words(report.bytes_on_disk)} on the disk",
        f"structure {report.factory}: {report.reason}",
    ]
    return lines + noted(
        (report.resumed_from, "had been encoded by an earlier run"),
        (report.skipped_empty, "without title and text left out"),
        (report.skipped_duplicates, "left out because their ids had come before"),
        (truncated, "longer than the model reads, and cut there"),
    )
