"""Opening a committed index and searching it."""

import logging
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.records import Passage
from ..errors import DataError, RocketRankError, UsageError
from .commits import HeldCommit, commit_numbers, find_commit, manifest_is_lost, read_manifest
from .effort import USUAL_EFFORT, Effort
from .gpu import Gpus, opened_gpus
from .gpu_plan import GpuOptions, NoRoomOnGpuError
from .layout import MANIFEST, segment_numbers
from .manifest import Manifest
from .search import SearchResult, merged, nothing_found, shifted
from .segments import OpenSegment
from .selection import Selection
from .structure import omp_threads
from .vectors import LARGEST_NORM
from .where import Condition
from .word_search import search_words

_log = logging.getLogger("rocketrank.index")

_ATTEMPTS = 10
_REMEMBERED = 3
"""Conditions, beside the last one, whose rows are kept."""


class Index:
    """A commit of an index, read-only. Several threads may search it and read passages at once.

    What is written to the index meanwhile is not seen: open it again for that.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        held: HeldCommit | None = None,
        threads: int | None = None,
        effort: Effort = USUAL_EFFORT,
        gpus: Gpus | None = None,
    ) -> None:
        """Opens the files that ``manifest`` names; use ``Index.open``."""
        self.directory = directory
        self.manifest = manifest
        self._threads = threads
        self._effort = effort
        self._gpus = gpus
        self._held = held
        self._closed = False
        self._selected: dict[str, list[Selection]] = {}
        self._segments: list[OpenSegment] = []
        try:
            for segment in manifest.segments:
                self._segments.append(
                    OpenSegment(directory, segment, manifest.width, manifest.vectors, effort)
                )
            if gpus is not None:
                self._move(gpus)
        except BaseException:
            self.close()
            raise
        rows = [segment.rows for segment in manifest.segments]
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        threads: int | None = None,
        commit: str | None = None,
        effort: Effort = USUAL_EFFORT,
        gpus: GpuOptions | Gpus | None = None,
    ) -> Self:
        """Opens the index in ``directory`` without reading its data.

        ``commit`` is the number of an earlier commit or the name of a snapshot, ``effort`` how hard
        approximate structures are searched, ``gpus`` where, if not in memory. Raises DataError
        for a folder that is no finished index or has a damaged file, UsageError for ``threads``
        below 1 and a commit that is not kept.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads ({threads}) must be at least 1")
        there = opened_gpus(gpus) if isinstance(gpus, GpuOptions) else gpus
        for attempt in range(1, _ATTEMPTS + 1):
            manifest = committed_manifest(directory)
            wanted = manifest if commit is None else find_commit(directory, commit)
            held = HeldCommit(directory, wanted.commit)
            try:
                # Its file goes before the files that it names, which may all be there still.
                gone = not held.found and committed_manifest(directory).commit != wanted.commit
                if held.lost or gone:
                    raise DataError(
                        f"{directory}: commit {wanted.commit} has just been removed by a writer: "
                        "open the index again"
                    )
                return cls(directory, wanted, held=held, threads=threads, effort=effort, gpus=there)
            except RocketRankError:
                held.close()
                # A writer may have put a commit in force since, and removed this one's files.
                if committed_manifest(directory).commit == manifest.commit or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Passages that are not deleted."""
        return self.manifest.count

    @property
    def dim(self) -> int:
        return self.manifest.width

    @property
    def fingerprint(self) -> str:
        return self.manifest.model.fingerprint

    @property
    def model_name(self) -> str:
        return self.manifest.model.name

    def search(
        self, queries: NDArray[np.float32], k: int, where: str | None = None
    ) -> SearchResult:
        """The ``k`` best passages for each of ``queries`` (n, dim) float32.

        Sorted by falling score, ties by row; row -1 and score -inf where the index has fewer than
        ``k`` passages that meet ``where``, a condition on its fields (see ``where.py``). Raises
        UsageError for queries that do not fit the index and conditions that cannot be read.
        """
        self._check(queries, k)
        selected = self._selections(where)
        queries = np.ascontiguousarray(queries)
        found = [nothing_found(len(queries), k)]
        with omp_threads(self._threads):
            for number, segment in enumerate(self._segments):
                chosen = selected[number] if selected else None
                result = segment.search(queries, k, chosen)
                found.append(shifted(result, int(self._starts[number])))
        return merged(found[1:] or found, k)

    @property
    def has_words(self) -> bool:
        """Whether ``search_words`` can search: the index has postings."""
        return self.manifest.bm25

    def search_words(
        self, queries: Sequence[str], k: int, where: str | None = None
    ) -> SearchResult:
        """The ``k`` best passages for each of ``queries`` by BM25; shapes and order as ``search``.

        Only passages that share a word with a query are found, and their scores are above 0. The
        statistics are those of all passages that are not deleted: ``where`` says what may be
        found, and changes no score. Raises UsageError for an index without postings, and as
        ``search``.
        """
        self._check_open()
        if not self.has_words:
            raise UsageError(
                f"{self.directory}: expected postings to search by words, found an index without: "
                "build it with `rq index --bm25`, or run `rq compact --bm25`"
            )
        if k < 1:
            raise UsageError(f"k ({k}) must be at least 1")
        if isinstance(queries, str):
            raise UsageError("expected a list of queries, found one text: pass [query]")
        segments = [segment.words for segment in self._segments if segment.words]
        return search_words(segments, queries, k, self._selections(where))

    def check_where(self, where: str | None) -> Condition | None:
        """The condition that ``where`` says; UsageError for one that cannot be read."""
        return None if where is None else Condition(where, self.manifest.fields)

    def _selections(self, where: str | None) -> list[Selection] | None:
        """What meets the condition in each segment; the last few conditions are remembered."""
        if where is None:
            return None
        found = self._selected.get(where)
        if found is None:
            condition = Condition(where, self.manifest.fields)
            found = [each.matching(condition.sql, condition.values) for each in self._segments]
            self._selected = {**dict(list(self._selected.items())[-_REMEMBERED:]), where: found}
        return found

    def _move(self, gpus: Gpus) -> None:
        found = {key: each for one in self._segments for key, each in one.structures().items()}
        moved = gpus.move(found)
        for segment in self._segments:
            segment.use(moved)

    def opened_again(self) -> Self:
        """The index as it is now. This one stays open for those who still read it."""
        again = partial(type(self).open, self.directory, threads=self._threads, effort=self._effort)
        try:
            return again(gpus=self._gpus)
        except NoRoomOnGpuError as error:  # this one is there still, and a change is committed
            _log.warning("%s; the index as it is now is searched on the CPU", error)
            return again()

    def rows(self) -> NDArray[np.int64]:
        """The rows of all passages that are not deleted, rising."""
        parts = [
            start + segment.live_rows()
            for start, segment in zip(self._starts, self._segments, strict=False)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages at ``rows``, in that order. UsageError for a row that is none."""
        self._check_open()
        wanted = np.asarray(rows, dtype=np.int64)
        if len(self._segments) == 1:
            return self._segments[0].passages.passages(wanted.tolist())
        outside = wanted[(wanted < 0) | (wanted >= self._starts[-1])]
        if len(outside):
            raise UsageError(
                f"expected rows from 0 to {self._starts[-1] - 1}, found {outside[0]}: "
                "pass rows that a search returned"
            )
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        found: dict[int, Passage] = {}
        for number in np.unique(numbers).tolist():
            here = wanted[numbers == number]
            inner = (here - self._starts[number]).tolist()
            found |= zip(
                here.tolist(), self._segments[number].passages.passages(inner), strict=True
            )
        return [found[row] for row in wanted.tolist()]

    def passages_by_id(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these external ids, in that order. Raises as ``check_ids``."""
        self._check_open()
        found: dict[str, Passage] = {}
        for segment in self._segments:
            found |= segment.passages_by_id(ids)
        if len(found) < len(set(ids)):
            self.check_ids(ids)
        return [found[passage_id] for passage_id in ids]

    def check_ids(self, ids: Collection[str]) -> None:
        """Raises DataError that names the first of ``ids`` that is in no passage."""
        distinct = dict.fromkeys(ids)
        there: set[str] = set()
        for segment in self._segments:
            there |= segment.rows_by_id(distinct).keys()
        missing = [each for each in distinct if each not in there]
        if missing:
            raise DataError(
                f"{self.directory}: expected passages with the ids asked for, found none with the "
                f"id {shown(missing[0])} ({len(missing):,} of {len(distinct):,} are missing): use "
                "the index that the ids come from, or index their corpus"
            )

    def live_passages(self) -> Iterator[Passage]:
        """All passages that are not deleted, in the order of their rows."""
        for segment in self._segments:
            yield from segment.live_passages()

    def live_vectors(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and vectors (n, dim) of the same, some at a time."""
        for segment in self._segments:
            yield from segment.live_vectors()

    def close(self) -> None:
        """Gives the files back; the index can be neither searched nor read afterwards."""
        self._closed = True
        for segment in self._segments:
            segment.close()
        if self._held:
            self._held.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.directory}: this index was closed: open it again")

    def _check(self, queries: NDArray[Any], k: int) -> None:
        self._check_open()
        if k < 1:
            raise UsageError(f"k ({k}) must be at least 1")
        if queries.ndim != 2:
            raise UsageError(
                f"expected queries of shape (n, {self.dim}), found shape {queries.shape}: "
                "a single vector goes in as queries[np.newaxis]"
            )
        if queries.shape[1] != self.dim:
            raise UsageError(
                f"expected queries of width {self.dim}, as in the index filled by "
                f"{self.model_name}, found width {queries.shape[1]}: encode them with that model"
            )
        if queries.dtype != np.float32:
            raise UsageError(
                f"expected queries of type float32, found {queries.dtype}: "
                "convert them with .astype(np.float32)"
            )
        norms = np.linalg.norm(queries.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(norms <= LARGEST_NORM))
        if len(bad):
            raise UsageError(
                f"expected finite query vectors, found one of length {norms[bad[0]]} at position "
                f"{bad[0]}: encode it again with --precision fp32"
            )


def committed_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``, or DataError that says what is there instead."""
    manifest = read_manifest(directory)
    if manifest is not None:
        return manifest
    if not directory.exists():
        raise DataError(
            f"{directory}: there is no such folder: build an index with "
            f"`rq index CORPUS --index {directory}`"
        )
    if not directory.is_dir():
        raise DataError(f"{directory}: expected an index folder, found a file: name the folder")
    if manifest_is_lost(directory):
        raise DataError(
            f"{directory / MANIFEST}: this file of the index is missing: `rq repair {directory}` "
            f"puts commit {commit_numbers(directory)[-1]} in force again"
        )
    if segment_numbers(directory):
        raise DataError(
            f"{directory}: this index is unfinished: run the same `rq index` command again; it "
            "goes on where it stopped"
        )
    cure = (
        "name the folder of an index"
        if any(directory.iterdir())
        else f"build one with `rq index CORPUS --index {directory}`"
    )
    raise DataError(f"{directory}: expected an index, found a folder without {MANIFEST}: {cure}")
