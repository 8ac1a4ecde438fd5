"""``rq add`` and ``rq update``: new passages in an index, and other texts under the same ids."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .index_model import ModelOptions, check_model_options, open_encoder
from .show import in_words, noted
from .store_shown import commit_line, undo_line

if TYPE_CHECKING:
    from ..data.corpus import CorpusReader
    from ..index import ChangeOptions, ChangeReport


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

    encoder = open_encoder(directory, committed_manifest(directory), model)
    report = add_passages(
        directory, reader, encoder, change, update=update, progress=sys.stderr.isatty()
    )
    for line in _summary(report, encoder.truncated_passages):
        print(line)
    print(commit_line(report.commit, report.passages, report.segments))
    if report.added or report.replaced:
        print(undo_line(directory, report.commit))


def _summary(report: "ChangeReport", truncated: int) -> list[str]:
    done = [
        f"{in_words(count, 'passage')} {what}"
        for count, what in ((report.added, "added"), (report.replaced, "replaced"))
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
