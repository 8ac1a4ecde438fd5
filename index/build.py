"""Building an index, so that it may be killed at any point and goes on where it stopped.

The next run of the same command reads the corpus again and compares each committed shard's content
instead of encoding it. A build that replaces an index (``overwrite``) works in a segment of its
own; the old commit and its files stay valid until the new one is in force. Killed between the two,
the new index is in force, and the next writer removes what was left.
"""

import logging
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..data.lines import shown
from ..data.records import Passage
from ..durable import make_folder
from ..errors import DataError, UsageError
from .commits import (
    commit,
    forget_uncommitted,
    has_our_manifest,
    manifest_is_lost,
    next_commit,
    read_manifest,
    remove_unused,
)
from .encoding import (
    BuildOptions,
    Corpus,
    Encoded,
    PassageEncoder,
    ShardReader,
    VectorSource,
    fill_segment,
)
from .kinds import choose
from .layout import MANIFEST, locked, refuse_foreign
from .manifest import Manifest, ModelNote, NewerFormatError
from .reader import committed_manifest
from .structure import check_kind
from .writing import (
    check_options,
    finish_segment,
    now,
    open_ledger,
    settings_of,
    unfinished_segment,
)

_log = logging.getLogger("rocketrank.index")


class BuildReport(NamedTuple):
    """What a build did. ``resumed_from`` passages were found encoded by an earlier run."""

    passages: int
    skipped_duplicates: int
    skipped_empty: int
    resumed_from: int
    kind: str
    factory: str
    reason: str
    seconds: float
    bytes_on_disk: int


def build_index(
    directory: Path,
    corpus: Corpus,
    encoder: PassageEncoder,
    options: BuildOptions,
    *,
    progress: bool = False,
) -> BuildReport:
    """Encodes ``corpus`` into the index folder ``directory``, or goes on with a build of it.

    Raises as ``build_index_of``.
    """
    return build_index_of(directory, corpus, Encoded(encoder), options, progress=progress)


def build_index_of(
    directory: Path,
    corpus: Corpus,
    source: VectorSource,
    options: BuildOptions,
    *,
    progress: bool = False,
) -> BuildReport:
    """As ``build_index``, with the vectors of any ``source``.

    Raises UsageError for options and folders that cannot be used, DataError for passages that
    cannot, RocketRankError when the folder is being written elsewhere or cannot be written.
    """
    started = time.monotonic()
    check_options(options)
    check_kind(options.kind, source.dim)
    refuse_foreign(directory, has_our_manifest=has_our_manifest(directory))
    passages = with_a_first_one(corpus)
    make_folder(directory)
    with locked(directory, wait=options.wait):
        current = _replaced(directory, overwrite=options.overwrite)
        forget_uncommitted(directory, current)
        segment = unfinished_segment(directory, current, ("index", None))
        settings = settings_of("index", source, options)
        with open_ledger(segment, settings, overwrite=options.overwrite) as ledger:
            reader = ShardReader(corpus, passages, ledger, options)
            resumed = fill_segment(segment, ledger, reader, source, options, progress=progress)
            for name in reader.unmet_fields:
                _log.warning(
                    "no passage has the field %s of --fields: look at how the corpus spells it in "
                    "its metadata",
                    shown(name),
                )
            finished = finish_segment(
                segment,
                ledger,
                lambda count: choose(options.kind, count, source.dim),
                source.dim,
                options,
                progress=progress,
            )
        number = next_commit(directory, current)
        manifest = Manifest(
            commit=number,
            history_from=number,
            change="index",
            model=ModelNote(
                name=source.name, fingerprint=source.fingerprint, precision=options.precision
            ),
            width=source.dim,
            vectors=options.vectors,
            kind=options.kind,
            fields=options.fields,
            segments=(finished,),
            created=now(),
            bm25=options.bm25,
            chunking=options.chunking,
        )
        commit(directory, manifest)
        remove_unused(directory, manifest, finished="index")
    return BuildReport(
        passages=manifest.count,
        skipped_duplicates=reader.duplicates,
        skipped_empty=corpus.skipped_empty,
        resumed_from=resumed,
        kind=finished.structure.kind,
        factory=finished.structure.factory,
        reason=finished.structure.reason,
        seconds=time.monotonic() - started,
        bytes_on_disk=bytes_on_disk(directory, manifest),
    )


def bytes_on_disk(directory: Path, manifest: Manifest) -> int:
    """What the commit in force takes, with its manifest and the copy of that."""
    files = sum(file.bytes for file in manifest.files())
    return files + 2 * (directory / MANIFEST).stat().st_size


def with_a_first_one(corpus: Corpus) -> Iterator[Passage]:
    """The passages, once it is known that there are some: a file that is no corpus leaves no index.

    Reading one ahead keeps ``corpus.location`` right, because the next is read only after it.
    """
    passages = iter(corpus)
    first = next(passages, None)
    if first is None:
        raise DataError(
            f"expected at least one passage in the corpus, found none ({corpus.skipped_empty} "
            "skipped as empty): name files that hold passages"
        )
    return chain([first], passages)


def _replaced(directory: Path, *, overwrite: bool) -> Manifest | None:
    """The commit that this build will replace, if there is one that may be replaced."""
    try:
        manifest = read_manifest(directory)
    except NewerFormatError:
        raise
    except DataError as error:
        if not overwrite:
            raise
        _log.warning("%s; building it anew", error)
        return None
    if manifest_is_lost(directory) and not overwrite:
        committed_manifest(directory)  # says so
    if manifest is not None and not overwrite:
        cure = (
            "bring it up to date with `rq update --insert --prune`"
            if manifest.chunking
            else "add to it with rq add"
        )
        raise UsageError(
            f"{directory}: already holds an index of {manifest.count} passages made with "
            f"{manifest.model.name}: {cure}, name another folder, or replace it with --overwrite"
        )
    return manifest
