"""Changing an index of documents: what of a document's chunks is kept, added, replaced or dropped.

The unit of a change is the document. One that is in the index chunk by chunk, word for word, is
left as it is; of one that has changed, the chunks that are still the same are left, the others are
replaced, and those that it has no more are deleted, all in one commit.
"""

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from ..data.chunks import DOCUMENT
from ..data.lines import shown
from ..data.records import Passage
from ..errors import DataError
from .passages import passage_bytes
from .transaction import Stored


class DocumentJudge:
    """Decides about each chunk that is given, in the order of the documents, and counts chunks.

    ``dropped`` are those that their documents have no more, ``pruned`` those of documents that
    were not given.
    """

    def __init__(self, before: Stored, *, update: bool, insert: bool) -> None:
        self._before = before
        self._update = update
        self._insert = insert
        self._column = f"field_{before.manifest.fields.index(DOCUMENT)}"
        self._document: str | None = None
        self._location = ""
        self._known = False
        self._old: dict[str, tuple[int, int, Passage]] = {}
        self._stale: list[list[int]] = [[] for _ in before.segments]
        self._seen: set[str] = set()
        self.added = self.replaced = self.unchanged = self.dropped = self.pruned = 0

    def wanted(self, passage: Passage, content: bytes, location: str) -> bool:
        """Whether the chunk is to be stored; DataError where its document must not be changed."""
        document = str(passage.metadata[DOCUMENT])
        if document != self._document:
            self._end_document()
            self._begin(document, location)
        there = self._old.pop(passage.id, None)
        if there is not None and passage_bytes(there[2]) == content:
            self.unchanged += 1
            return False
        self._refuse_change()
        if there is None:
            self.added += 1
        else:
            self.replaced += 1
        return True

    def finish(self, *, prune: bool, unread: Collection[str]) -> list[NDArray[np.int64]]:
        """The rows of each segment that the documents have no more.

        With ``prune`` also those of the documents that were not given, but for ``unread`` ones,
        which are there and could not be read.
        """
        self._end_document()
        if prune:
            kept = self._seen.union(unread)
            for number, row, document in self._documents():
                if document not in kept:
                    self._stale[number].append(row)
                    self.pruned += 1
        return [np.array(sorted(rows), dtype=np.int64) for rows in self._stale]

    def _begin(self, document: str, location: str) -> None:
        self._document, self._location = document, location
        self._seen.add(document)
        self._old = {
            passage.id: (number, row, passage)
            for number, segment in enumerate(self._before.segments)
            for row, passage in segment.live_matching(f"{self._column} = ?", [document])
        }
        self._known = bool(self._old)
        if not self._known and self._update and not self._insert:
            raise DataError(
                f"{location}: expected a document that is in the index, found {shown(document)}: "
                "add new ones with rq add, or with --insert"
            )

    def _end_document(self) -> None:
        if self._old:
            self._refuse_change()
        for number, row, _ in self._old.values():
            self._stale[number].append(row)
            self.dropped += 1
        self._old = {}

    def _refuse_change(self) -> None:
        if self._known and not self._update:
            raise DataError(
                f"{self._location}: expected a document that is not in the index, found "
                f"{shown(self._document)}, which is there with another text or cut otherwise: "
                "replace it with rq update"
            )

    def _documents(self) -> Iterator[tuple[int, int, str]]:
        """Segment, row and document of every chunk that is in the index."""
        for number, segment in enumerate(self._before.segments):
            for row, passage in segment.live_matching("1", []):
                yield number, row, str(passage.metadata[DOCUMENT])
