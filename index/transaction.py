"""What a writer works with: the commit in force, opened, and the right to write the next."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..durable import make_folder, write_durably
from .commits import commit_file, forget_uncommitted
from .layout import SegmentFolder, locked
from .manifest import Manifest, Segment, manifest_bytes
from .reader import committed_manifest
from .segments import StoredSegment
from .selection import Selection
from .writing import stored

_IDS_AT_ONCE = 10_000


class Stored:
    """The commit in force as a writer reads it; its segments are opened when they are needed."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest

    @cached_property
    def segments(self) -> list[StoredSegment]:
        """Raises DataError for a file that is missing or of another size than was written."""
        with ExitStack() as opened:
            found = [
                opened.enter_context(
                    StoredSegment(self.directory, each, self.manifest.width, self.manifest.vectors)
                )
                for each in self.manifest.segments
            ]
            opened.pop_all()
        return found

    def close(self) -> None:
        for segment in vars(self).get("segments", ()):
            segment.close()

    def passage(self, passage_id: str) -> Passage | None:
        """The passage with this id, unless it is deleted or was never there."""
        for segment in self.segments:
            found = segment.passages_by_id([passage_id])
            if found:
                return found[passage_id]
        return None

    def rows_by_id(self, ids: Iterable[str]) -> list[NDArray[np.int64]]:
        """For each segment the rows of those ``ids`` that it holds."""
        rows: list[list[int]] = [[] for _ in self.segments]
        remaining = iter(ids)
        while batch := list(islice(remaining, _IDS_AT_ONCE)):
            for found, segment in zip(rows, self.segments, strict=True):
                found += segment.rows_by_id(batch).values()
        return [np.array(each, dtype=np.int64) for each in rows]

    def without(self, rows: Sequence[NDArray[np.int64]], number: int) -> list[Segment]:
        """The segments as they are in commit ``number``, in which ``rows`` are deleted.

        Segments of which nothing is left are left out.
        """
        left = []
        for segment, deleted in zip(self.segments, rows, strict=True):
            known = segment.segment
            if len(deleted) == known.count:
                continue
            if len(deleted):
                live = segment.live or Selection.everything(known.rows)
                path = SegmentFolder(self.directory, known.number).live(number)
                make_folder(path.parent)
                write_durably(path, [live.without(deleted).bits.tobytes()], alone=True)
                known = replace(
                    known, count=known.count - len(deleted), live=stored(self.directory, path)
                )
            left.append(known)
        return left


@contextmanager
def writing(directory: Path, wait: float) -> Iterator[Stored]:
    """The commit in force, for the one process that may write.

    Raises as ``committed_manifest`` and ``locked``.
    """
    committed_manifest(directory)  # a folder that is no index is refused before a lock is put there
    with locked(directory, wait=wait):
        manifest = committed_manifest(directory)
        forget_uncommitted(directory, manifest)
        path = commit_file(directory, manifest.commit)
        if not path.exists():  # format 1 kept no commits
            make_folder(path.parent)
            write_durably(path, [manifest_bytes(manifest)], alone=True)
        opened = Stored(directory, manifest)
        try:
            yield opened
        finally:
            opened.close()
