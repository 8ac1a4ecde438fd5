"""A segment of a commit, opened: its passages, vectors, structure and what is deleted from it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..errors import DataError
from .effort import USUAL_EFFORT, Effort
from .gpu import GpuStructure
from .manifest import Segment, StoredFile
from .parts import Part, parts_of
from .passages import PassageReader
from .postings import Postings
from .search import SearchResult, merged, nothing_found, search_selected, shifted
from .selection import Selection
from .structure import Structure
from .vectors import RowRange, VectorShards, VectorType
from .word_search import LiveWords

_AT_ONCE = 1000
"""Passages in memory while all of a segment are read."""


class StoredSegment:
    """Passages and vectors of a segment, without the structure: what writers read."""

    def __init__(
        self,
        directory: Path,
        segment: Segment,
        width: int,
        vector_type: VectorType = "float32",
    ) -> None:
        """Raises DataError for a file that is missing or of another size than was written."""
        check_sizes(directory, segment.files())
        self.directory = directory
        self.segment = segment
        self.passages = PassageReader(directory / segment.passages.file)
        self.vectors = VectorShards(
            [directory / file.file for file in segment.vectors],
            [file.rows for file in segment.vectors],
            width,
            vector_type,
        )
        self.live = (
            Selection.read(directory / segment.live.file, segment.rows, segment.count)
            if segment.live
            else None
        )
        stored = self.passages.count()
        if stored != segment.rows:
            self.close()
            raise DataError(
                f"{directory / segment.passages.file}: expected {segment.rows} passages, found "
                f"{stored}: run `rq repair`, or build the index again with --overwrite"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.passages.close()
        self.vectors.close()

    def live_rows(self) -> NDArray[np.int64]:
        """The rows that are not deleted, rising."""
        return np.arange(self.segment.rows) if self.live is None else self.live.numbers

    def rows_by_id(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of those ``ids`` that are here and not deleted."""
        found = self.passages.rows_by_id(ids)
        if self.live is None:
            return found
        return {passage_id: row for passage_id, row in found.items() if row in self.live}

    def passages_by_id(self, ids: Collection[str]) -> dict[str, Passage]:
        """Those of ``ids`` that are here and not deleted."""
        if self.live is None:
            return self.passages.by_id(ids)
        return self.passages.by_id(self.rows_by_id(ids))

    def live_passages(self) -> Iterator[Passage]:
        """The passages that are not deleted, in the order of their rows."""
        for rows in self._batches():
            yield from self.passages.passages(rows)

    def live_ids(self) -> Iterator[str]:
        """The external ids of what is not deleted, in the order of the rows."""
        for rows in self._batches():
            yield from self.passages.ids(rows)

    def live_matching(
        self, condition: str, parameters: Sequence[Any]
    ) -> Iterator[tuple[int, Passage]]:
        """Rows and passages that meet an SQL condition over the columns of fields, not deleted."""
        rows = self.passages.matching(condition, parameters)
        if self.live is not None:
            rows = rows[np.isin(rows, self.live.numbers)]
        for start in range(0, len(rows), _AT_ONCE):
            batch = rows[start : start + _AT_ONCE].tolist()
            yield from zip(batch, self.passages.passages(batch), strict=True)

    def live_vectors(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and vectors (n, dim) of what is not deleted, some at a time, in the rows' order."""
        for rows in self._batches():
            yield self.passages.ids(rows), self.vectors.gather(np.array(rows, dtype=np.int64))

    def _batches(self) -> Iterator[list[int]]:
        rows = self.live_rows()
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE].tolist()


class OpenSegment(StoredSegment):
    """A segment that can be searched, by several threads at once."""

    def __init__(
        self,
        directory: Path,
        segment: Segment,
        width: int,
        vector_type: VectorType = "float32",
        effort: Effort = USUAL_EFFORT,
    ) -> None:
        self._parts: list[tuple[Part, Structure | GpuStructure]] = []
        super().__init__(directory, segment, width, vector_type)
        search = effort.of(segment.structure.search)
        try:
            self._parts = [
                (part, Structure(directory / part.file.file, part.file.rows, width, search))
                for part in parts_of(segment)
            ]
            self.words = self._words()
        except BaseException:
            self.close()
            raise

    def structures(self) -> dict[str, tuple[str, Structure]]:
        """The structures on the CPU by the checksum of their file, with its name."""
        return {
            part.file.sha256: (part.file.file, each)
            for part, each in self._parts
            if isinstance(each, Structure)
        }

    def use(self, moved: Mapping[str, GpuStructure]) -> None:
        """Searches on GPUs from now on where ``moved`` has a structure of the same checksum."""
        self._parts = [(part, moved.get(part.file.sha256, each)) for part, each in self._parts]

    def close(self) -> None:
        for _, each in self._parts:
            if isinstance(each, GpuStructure):
                each.close()
        super().close()

    def search(
        self, queries: NDArray[np.float32], k: int, selection: Selection | None
    ) -> SearchResult:
        """The ``k`` best rows of ``selection`` (None: all that are not deleted) and their scores.

        ``selection`` is the caller's filter; deleted rows are never found.
        """
        chosen = self.live
        if selection is not None:
            chosen = selection if self.live is None else selection & self.live
        if chosen is not None and not chosen.count:
            return nothing_found(len(queries), k)
        norm = self.segment.largest_norm
        if len(self._parts) == 1:
            [(_, structure)] = self._parts
            return search_selected(structure, self.vectors, norm, queries, k, chosen)
        found = []
        for part, structure in self._parts:
            vectors = RowRange(self.vectors, part.start, part.stop)
            inside = None if chosen is None else chosen.between(part.start, part.stop)
            result = search_selected(structure, vectors, norm, queries, k, inside)
            found.append(shifted(result, part.start))
        return merged(found, k)

    def _words(self) -> LiveWords | None:
        """What ``search_words`` reads; None where the segment has no postings."""
        file = self.segment.postings
        if file is None:
            return None
        postings = Postings(self.directory / file.file)
        if postings.counts.rows != self.segment.rows:
            raise DataError(
                f"{postings.path}: expected the postings of {self.segment.rows} passages, found "
                f"those of {postings.counts.rows}: run `rq repair`"
            )
        return LiveWords(postings, self.live)

    def matching(self, condition: str, parameters: Sequence[Any]) -> Selection:
        """The rows that meet an SQL condition over the columns of fields."""
        return Selection.of_numbers(
            self.passages.matching(condition, parameters), self.segment.rows
        )


def check_sizes(directory: Path, files: Iterable[StoredFile]) -> None:
    """DataError for the first file that is missing or of another size than was written."""
    for file in files:
        problem = size_problem(directory, file)
        if problem is not None:
            raise DataError(problem)


def size_problem(directory: Path, file: StoredFile) -> str | None:
    path = directory / file.file
    if not path.is_file():
        return (
            f"{path}: this file of the index is missing: run `rq repair {directory}`, or build the "
            "index again with --overwrite"
        )
    size = path.stat().st_size
    if size != file.bytes:
        return (
            f"{path}: expected {file.bytes} bytes, found {size}: run `rq repair {directory}`, or "
            "build the index again with --overwrite"
        )
    return None
