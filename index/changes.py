"""Changing an index: adding, replacing and deleting passages by their ids, and compacting it.

Each change is one commit: texts, ids, vectors and structures appear together or not at all. What is
added is a new segment; small ones at the end are taken into it, so that many small additions leave
few segments. What is deleted stays in its segment, marked, until ``compact`` leaves it out.
Repeating a change that was carried out does nothing.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.chunks import ChunkedCorpus
from ..data.lines import shown
from ..data.records import Passage
from ..errors import DataError, UsageError
from .build import with_a_first_one
from .commits import commit, commit_numbers, next_commit, remove_unused, snapshots
from .documents import DocumentJudge
from .encoding import BuildOptions, Corpus, Encoded, PassageEncoder, ShardReader, fill_segment
from .kinds import FLAT_UP_TO, choose, choose_added
from .layout import SegmentFolder
from .manifest import Manifest, Segment
from .merging import merge
from .parts import cut
from .passages import passage_bytes
from .segments import StoredSegment
from .structure import check_kind
from .transaction import Stored, writing
from .writing import (
    build_postings,
    check_encoder,
    check_options,
    finish_segment,
    now,
    open_ledger,
    settings_of,
    unfinished_segment,
)

FOLDED = FLAT_UP_TO
"""Adding makes no larger segment of those before it: up to here their structure is a copy."""


@dataclass(frozen=True, kw_only=True)
class ChangeOptions:
    """``wait`` is how many seconds another writer may take before this one is refused.

    ``missing`` says what ids do that are not in the index: an error, or left out of a deletion
    and added by an update. ``memory`` is how many bytes building a structure may take. ``prune``
    deletes documents that an update is not given.
    """

    shard_size: int = 4096
    skip_duplicates: bool = False
    threads: int | None = None
    wait: float = 0
    missing: Literal["error", "allowed"] = "error"
    memory: int | None = None
    prune: bool = False


class ChangeReport(NamedTuple):
    """What a change did, and the ``passages`` and ``segments`` of the ``commit`` now in force.

    ``unchanged`` passages were there word for word, ``missing`` ids were not there.
    """

    commit: int
    passages: int
    segments: int
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    missing: int = 0
    skipped_empty: int = 0
    skipped_duplicates: int = 0
    resumed_from: int = 0
    seconds: float = 0.0


def add_passages(
    directory: Path,
    corpus: Corpus,
    encoder: PassageEncoder,
    options: ChangeOptions,
    *,
    update: bool = False,
    progress: bool = False,
) -> ChangeReport:
    """Adds the passages of ``corpus``; with ``update`` they replace those that have their ids.

    In an index of documents ``corpus`` has their chunks, cut as the manifest says, and documents
    are what is added and replaced (``documents.py``).

    A passage that is in the index word for word is left as it is. A replaced passage comes, where
    scores are equal, after all that were there before. Raises DataError for an id that another
    passage has, or with ``update`` no passage, and otherwise as ``build_index``.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        before = stack.enter_context(writing(directory, options.wait))
        build = _build_options(before.manifest, options)
        check_encoder(directory, before.manifest, encoder)
        if options.prune and not before.manifest.chunking:
            raise UsageError(
                "prune is for an index of documents, and this one has passages: name what is to be "
                "deleted to rq delete"
            )
        judges = DocumentJudge if before.manifest.chunking else _Judge
        judge = judges(before, update=update, insert=options.missing == "allowed")
        passages = with_a_first_one(corpus)
        segment = unfinished_segment(directory, before.manifest, ("add",))
        settings = settings_of("add", source := Encoded(encoder), build)
        added: StoredSegment | None = None
        with open_ledger(segment, settings, overwrite=True) as ledger:
            reader = ShardReader(corpus, passages, ledger, build, judge.wanted)
            resumed = fill_segment(segment, ledger, reader, source, build, progress=progress)
            if ledger.rows:
                finished = finish_segment(
                    segment,
                    ledger,
                    lambda count: choose_added(before.manifest.kind, count, encoder.dim),
                    encoder.dim,
                    build,
                    progress=progress,
                )
                added = stack.enter_context(
                    StoredSegment(directory, finished, encoder.dim, build.vectors)
                )
        manifest = before.manifest
        unread = corpus.unread if isinstance(corpus, ChunkedCorpus) else ()
        gone = judge.finish(prune=options.prune, unread=unread)
        change = "update" if update else "add"
        if added:
            manifest = _with_added(before, added, gone, change, build)
        elif any(map(len, gone)):
            number = next_commit(directory, manifest)
            manifest = _next(before, change, number, before.without(gone, number))
        if manifest is not before.manifest:
            commit(directory, manifest)
        remove_unused(directory, manifest)
    return _report(
        manifest,
        started,
        added=judge.added,
        replaced=judge.replaced,
        unchanged=judge.unchanged,
        deleted=judge.dropped + judge.pruned,
        skipped_empty=corpus.skipped_empty,
        skipped_duplicates=reader.duplicates,
        resumed_from=resumed,
    )


def delete_passages(directory: Path, ids: Iterable[str], options: ChangeOptions) -> ChangeReport:
    """Deletes the passages with these external ids.

    Raises DataError, and deletes nothing, where an id is in no passage and ``missing`` is error.
    """
    started = time.monotonic()
    check_options(_build_options(None, options))
    wanted = dict.fromkeys(ids)
    with writing(directory, options.wait) as before:
        rows = before.rows_by_id(wanted)
        deleted = sum(len(each) for each in rows)
        if deleted < len(wanted) and options.missing == "error":
            first = next(each for each in wanted if before.passage(each) is None)
            raise DataError(
                f"{directory}: expected passages with the ids to delete, found none with the id "
                f"{shown(first)} ({len(wanted) - deleted:,} of {len(wanted):,} are missing): leave "
                "them out, or delete what is there with --ignore-missing"
            )
        manifest = before.manifest
        if deleted:
            number = next_commit(directory, manifest)
            manifest = _next(before, "delete", number, before.without(rows, number))
            commit(directory, manifest)
        remove_unused(directory, manifest)
    return _report(
        manifest,
        started,
        deleted=deleted,
        missing=len(wanted) - deleted,
    )


def compact(
    directory: Path,
    options: ChangeOptions,
    *,
    kind: str | None = None,
    bm25: bool | None = None,
    progress: bool = False,
) -> ChangeReport:
    """Makes one segment of all, without what was deleted, and gives the disk space back.

    Earlier commits cannot be gone back to afterwards, but for those that are snapshots. ``kind``
    is another structure for the index, ``bm25`` whether it has postings to search by words; the
    same as before and nothing to fold leaves it as it is.
    """
    started = time.monotonic()
    with writing(directory, options.wait) as before:
        manifest = before.manifest
        wanted = kind or manifest.kind
        check_kind(wanted, manifest.width)
        with_words = manifest.bm25 if bm25 is None else bm25
        build = replace(_build_options(manifest, options), bm25=with_words)
        number = next_commit(directory, manifest)
        whole = manifest.rows == manifest.count and len(manifest.segments) <= 1
        segments: Sequence[Segment] = manifest.segments
        if segments and not (whole and _is_of_kind(manifest, wanted, options.memory)):
            merged = merge(
                before.segments,
                manifest,
                lambda count: choose(wanted, count, manifest.width),
                build,
                purpose="compact",
                progress=progress,
            )
            segments = [merged]
        elif segments and with_words != manifest.bm25:
            segments = [_switched(before, number, progress)]
        # Older ones were forgotten already, even if their files could not be removed.
        kept = {each for each in commit_numbers(directory) if each >= manifest.history_from}
        forgets = bool(kept - {*snapshots(directory).values(), manifest.commit})
        asked = (wanted, with_words)
        if segments != manifest.segments or asked != (manifest.kind, manifest.bm25) or forgets:
            manifest = replace(
                _next(before, "compact", number, segments),
                kind=wanted,
                bm25=with_words,
                history_from=number,
            )
            commit(directory, manifest)
        remove_unused(directory, manifest)
    return _report(
        manifest,
        started,
        deleted=before.manifest.rows - manifest.rows,
    )


def _switched(before: Stored, number: int, progress: bool) -> Segment:
    """The only segment with postings as of commit ``number`` if it has none, or without them.

    They are a file of that commit, as deletions are, so that no name has two contents.
    """
    [segment] = before.manifest.segments
    if segment.postings:
        return replace(segment, postings=None)
    path = SegmentFolder(before.directory, segment.number).postings(number)
    passages = before.directory / segment.passages.file
    postings = build_postings(before.directory, passages, segment.rows, path, progress=progress)
    return replace(segment, postings=postings)


def _report(manifest: Manifest, started: float, **counts: int) -> ChangeReport:
    """What a change did, and what the commit in force after it holds."""
    return ChangeReport(
        commit=manifest.commit,
        passages=manifest.count,
        segments=len(manifest.segments),
        seconds=time.monotonic() - started,
        **counts,
    )


class _Judge:
    """Decides about each passage that is given, and counts."""

    dropped = pruned = 0

    def __init__(self, before: Stored, *, update: bool, insert: bool) -> None:
        self._before = before
        self._update = update
        self._insert = insert
        self.added = self.replaced = self.unchanged = 0

    def wanted(self, passage: Passage, content: bytes, location: str) -> bool:
        """Whether the passage is to be stored; DataError where its id says that it must not."""
        there = self._before.passage(passage.id)
        if there is None:
            if self._update and not self._insert:
                raise DataError(
                    f"{location}: expected the id of a passage in the index, found "
                    f"{shown(passage.id)}: add new passages with rq add, or with --insert"
                )
            self.added += 1
            return True
        if passage_bytes(there) == content:
            self.unchanged += 1
            return False
        if not self._update:
            raise DataError(
                f"{location}: expected an id that is not in the index, found {shown(passage.id)}, "
                "which another passage has: replace that with rq update, or give this one an id "
                "of its own"
            )
        self.replaced += 1
        return True

    def finish(self, *, prune: bool, unread: Collection[str]) -> list[NDArray[np.int64]]:
        """No passage is deleted but by its id."""
        return [np.empty(0, dtype=np.int64) for _ in self._before.segments]


def _with_added(
    before: Stored,
    added: StoredSegment,
    gone: Sequence[NDArray[np.int64]],
    change: str,
    options: BuildOptions,
) -> Manifest:
    """The next commit, in which ``added`` replaces what has its ids and takes in small segments.

    Without the rows ``gone`` of each segment.
    """
    directory, manifest = before.directory, before.manifest
    number = next_commit(directory, manifest)
    rows = before.rows_by_id(added.live_ids() if change == "update" else ())
    rows = [np.union1d(*pair) for pair in zip(rows, gone, strict=True)]
    segments = before.without(rows, number)
    folded = _foldable(segments, added.segment)
    if not folded:
        return _next(before, change, number, [*segments, added.segment])
    with ExitStack() as stack:
        opened = [
            stack.enter_context(StoredSegment(directory, each, manifest.width, manifest.vectors))
            for each in folded
        ]
        merged = merge(
            [*opened, added],
            manifest,
            lambda count: choose_added(manifest.kind, count, manifest.width),
            options,
            purpose="fold",
            progress=False,
        )
    return _next(before, change, number, [*segments[: -len(folded)], merged])


def _foldable(segments: Sequence[Segment], added: Segment) -> Sequence[Segment]:
    """The flat segments at the end, each no larger than all that come after it together."""
    count, start = added.count, len(segments)
    while start:
        before = segments[start - 1]
        count_with = count + before.count
        if before.structure.kind != "flat" or before.rows > count or count_with > FOLDED:
            break
        start, count = start - 1, count_with
    return segments[start:]


def _next(before: Stored, change: str, number: int, segments: Sequence[Segment]) -> Manifest:
    return replace(
        before.manifest, commit=number, change=change, segments=tuple(segments), created=now()
    )


def _build_options(manifest: Manifest | None, options: ChangeOptions) -> BuildOptions:
    build = BuildOptions(
        shard_size=options.shard_size,
        skip_duplicates=options.skip_duplicates,
        overwrite=True,
        threads=options.threads,
        fields=manifest.fields if manifest else (),
        vectors=manifest.vectors if manifest else "float32",
        bm25=manifest.bm25 if manifest else False,
        wait=options.wait,
        memory=options.memory,
    )
    check_options(build)
    return build


def _is_of_kind(manifest: Manifest, kind: str, memory: int | None) -> bool:
    """Whether building the one segment's structure again would give what it has.

    In how many parts matters only where a bound is given.
    """
    [segment] = manifest.segments
    rows, dim, has = [file.rows for file in segment.vectors], manifest.width, segment.structure
    if memory is None and len(has.files) > 1:
        return has.kind == choose(kind, segment.count, dim).kind
    runs, choice = cut(rows, lambda count: choose(kind, count, dim), dim, memory, manifest.vectors)
    return len(runs) == len(has.files) and has.factory == choice.factory
