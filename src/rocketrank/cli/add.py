"""``rq add`` and ``rq update``: new passages in an index, and other texts under the same ids."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import chunks, options
from .index_model import ModelOptions, check_model_options, open_encoder
from .show import in_words, noted
from .store_shown import commit_line, undo_line

if TYPE_CHECKING:
    from ..data.corpus import CorpusReader
    from ..index import ChangeOptions, ChangeReport, Manifest


def add(
    corpus: options.Corpus,
    directory: options.IndexToChange,
    model: options.MovedModel = None,
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    skip_duplicates: options.SkipDuplicates = False,
    shard_size: options.ShardSize = 4096,
    memory: options.Memory = None,
    wait: options.Wait = 0,
    device: options.Device = "cpu",
    precision: options.IndexPrecision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Add passages to an index.

    All of them are found from one moment on, or none. A passage that is there word for word is left
    as it is; another one with an id that is there is an error (rq update replaces).

    A run that was killed goes on where it stopped when the same command is given again, before any
    other change of the index.
    """
    from ..data.corpus import CorpusReader
    from ..index import ChangeOptions

    chosen = ModelOptions(
        model=model, device=device, precision=precision, engine=engine, threads=threads
    )
    check_model_options(chosen)
    reader = CorpusReader(list(corpus), format=format, skip_empty=skip_empty)
    change = ChangeOptions(
        shard_size=shard_size,
        skip_duplicates=skip_duplicates,
        memory=memory,
        threads=threads,
        wait=wait,
    )
    _change(directory, reader, chosen, change, update=False)


def update(
    corpus: options.Corpus,
    directory: options.IndexToChange,
    insert: Annotated[
        bool, typer.Option("--insert", help="Add passages whose ids are not in the index.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Delete documents of the index that are not in CORPUS any more."
        ),
    ] = False,
    model: options.MovedModel = None,
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    skip_duplicates: options.SkipDuplicates = False,
    shard_size: options.ShardSize = 4096,
    memory: options.Memory = None,
    wait: options.Wait = 0,
    device: options.Device = "cpu",
    precision: options.IndexPrecision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Replace passages of an index.

    Each takes the place of the one that has its id, all from one moment on. A passage that is there
    word for word is left as it is; an id that is not there is an error, unless --insert.

    A run that was killed goes on where it stopped when the same command is given again, before any
    other change of the index.
    """
    from ..data.corpus import CorpusReader
    from ..index import ChangeOptions

    chosen = ModelOptions(
        model=model, device=device, precision=precision, engine=engine, threads=threads
    )
    check_model_options(chosen)
    reader = CorpusReader(list(corpus), format=format, skip_empty=skip_empty)
    change = ChangeOptions(
        shard_size=shard_size,
        skip_duplicates=skip_duplicates,
        memory=memory,
        threads=threads,
        wait=wait,
        missing="allowed" if insert else "error",
        prune=prune,
    )
    _change(directory, reader, chosen, change, update=True)


def _change(
    directory: Path,
    reader: "CorpusReader",
    model: ModelOptions,
    change: "ChangeOptions",
    *,
    update: bool,
) -> None:
    from ..index import add_passages, committed_manifest

    manifest = committed_manifest(directory)
    _check_documents(directory, reader, manifest, prune=change.prune)
    encoder = open_encoder(directory, manifest, model)
    cut = chunks.cut(reader, encoder, manifest.chunking)
    report = add_passages(
        directory, cut, encoder, change, update=update, progress=sys.stderr.isatty()
    )
    for line in [*_summary(report, encoder.truncated_passages), *chunks.unread_lines(reader)]:
        print(line)
    print(commit_line(report.commit, report.passages, report.segments))
    if report.added or report.replaced or report.deleted:
        print(undo_line(directory, report.commit))


def _check_documents(
    directory: Path, reader: "CorpusReader", manifest: "Manifest", *, prune: bool
) -> None:
    """UsageError where the index has passages and what is asked for is about documents."""
    if manifest.chunking:
        return
    what = (
        "--prune" if prune else "a folder or a file of documents" if reader.holds_documents else ""
    )
    if what:
        raise UsageError(
            f"{what} is for an index of documents, and {directory} holds passages that were not "
            "cut from any: build an index with `rq index --chunk`"
        )


def _summary(report: "ChangeReport", truncated: int) -> list[str]:
    done = [
        f"{in_words(count, 'passage')} {what}"
        for count, what in (
            (report.added, "added"),
            (report.replaced, "replaced"),
            (report.deleted, "deleted"),
        )
        if count
    ]
    speed = f" in {report.seconds:.1f} s" if done else ""
    lines = [(", ".join(done) or "nothing to change") + speed]
    return lines + noted(
        (report.unchanged, "there already, word for word"),
        (report.resumed_from, "had been encoded by an earlier run"),
        (report.skipped_empty, "without title and text left out"),
        (report.skipped_duplicates, "left out because their ids had come before"),
        (truncated, "longer than the model reads, and cut there"),
    )
