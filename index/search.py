"""The k best passages in a fixed order, whatever structure proposed the candidates.

FAISS's scores depend, in their last digits, on the batch and on the structure, and it returns equal
vectors in an order of its own. So candidates are scored again from the stored vectors, each by a
sum in float64 that involves no other row, and sorted by falling score and rising row.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .selection import Selection
from .structure import FlatStructure
from .vectors import unpacked

_UNIT_ROUNDOFF = 2.0**-24
_CELLS = 2_000_000
"""FAISS's answer to one block of queries holds at most about this many candidates."""
_WIDENING = 4
_BLOCK = 65_536
"""Vectors that are read at once where they are scanned."""
_GATHERED = 8192
"""Candidates whose vectors are read at once, in the order of the files."""
_CONVERTED = 1024
"""Vectors that are multiplied at once; more do not fit a core's cache, and take longer."""
_SCANNED = 10_000
_SCANNED_SHARE = 20
"""So many rows, or this part of all, are scanned rather than searched for in the structure."""


class SearchResult(NamedTuple):
    """``rows`` int64 and ``scores`` float32, both (n, k), best first; row -1 where k > passages."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Proposing(Protocol):
    """What proposes candidates: a FAISS structure."""

    @property
    def lossless(self) -> bool: ...
    def first_depth(self, k: int) -> int: ...
    def search(
        self,
        queries: NDArray[np.float32],
        depth: int,
        effort: int,
        selection: Any = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


class Selecting(Proposing, Protocol):
    """A structure that says whether it can search a part of its rows."""

    @property
    def selects(self) -> bool: ...


class Stored(Protocol):
    """The vectors themselves."""

    dim: int

    def __len__(self) -> int: ...
    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...
    def gather_stored(self, rows: NDArray[np.int64]) -> NDArray[Any]: ...


class Gathered:
    """Vectors in memory."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.dim = vectors.shape[1]

    def __len__(self) -> int:
        return len(self.vectors)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.vectors[rows]

    gather_stored = gather


def nothing_found(queries: int, k: int) -> SearchResult:
    return SearchResult(
        np.full((queries, k), -1, dtype=np.int64),
        np.full((queries, k), -np.inf, dtype=np.float32),
    )


def search_selected(
    structure: Selecting,
    vectors: Stored,
    largest_norm: float,
    queries: NDArray[np.float32],
    k: int,
    selection: Selection | None,
) -> SearchResult:
    """As ``search_exactly`` among the rows of ``selection``; None means all.

    Few rows, and those of a structure that cannot select, are scanned; else the structure is
    searched the wider the fewer rows it may return.
    """
    if selection is None:
        return search_exactly(structure, vectors, largest_norm, queries, k)
    few = selection.count <= max(_SCANNED, len(vectors) // _SCANNED_SHARE)
    if few or not structure.selects:
        return _scan(vectors, largest_norm, queries, k, selection)
    effort = max(1, round(len(vectors) / selection.count))
    return search_exactly(structure, vectors, largest_norm, queries, k, selection, effort)


def search_exactly(
    structure: Proposing,
    vectors: Stored,
    largest_norm: float,
    queries: NDArray[np.float32],
    k: int,
    selection: Selection | None = None,
    effort: int = 1,
) -> SearchResult:
    """The ``k`` best among the structure's candidates by (-score, row), for each query.

    Candidates are fetched deeper until none that was left out could score as much as the k-th:
    ties at the cut-off are decided by row too. A lossless structure's scores are off by at most
    dim · 2⁻²⁴ · |query| · |vector| (recursive summation; Higham, Accuracy and Stability of
    Numerical Algorithms, 3.5); a lossy one gives equal vectors equal scores, up to that error.
    """
    result = nothing_found(len(queries), k)
    total = len(vectors) if selection is None else selection.count
    wanted = min(k, total)
    depth = structure.first_depth(wanted)
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    errors = (vectors.dim + 4) * _UNIT_ROUNDOFF * norms * largest_norm
    limits = norms * largest_norm + errors
    pending = np.arange(len(queries))
    while len(pending) and depth < total:
        unsettled = []
        block = max(1, _CELLS // depth)
        for start in range(0, len(pending), block):
            numbers = pending[start : start + block]
            proposed, rows = structure.search(queries[numbers], depth, effort, selection)
            scores = _scored(vectors, queries[numbers], rows, limits[numbers])
            best = _best(rows, scores, wanted)
            result.rows[numbers, :wanted], result.scores[numbers, :wanted] = best
            bound = best.scores[:, -1]
            if not structure.lossless:  # its own scores of those that are last by the exact ones
                last = scores == bound[:, np.newaxis]
                bound = np.where(last, proposed, np.inf).min(axis=1)
            count = (rows >= 0).sum(axis=1)
            nearer = proposed[:, -1] + 2 * errors[numbers] < bound
            unsettled.append(numbers[~np.where(count < depth, count >= wanted, nearer)])
        pending = np.concatenate(unsettled)
        depth, effort = depth * _WIDENING, effort * _WIDENING
    if not len(pending):  # the usual case: as many numbers as rows would be made for nothing
        return result
    every = np.arange(total) if selection is None else selection.numbers
    block = max(1, _CELLS // _BLOCK)
    for start in range(0, len(pending), block):
        numbers = pending[start : start + block]
        best = _best_of(every, vectors, queries[numbers], wanted, limits[numbers])
        result.rows[numbers, :wanted], result.scores[numbers, :wanted] = best
    return result


def _best_of(
    every: NDArray[np.int64],
    vectors: Stored,
    queries: NDArray[np.float32],
    count: int,
    limits: NDArray[np.float64],
) -> SearchResult:
    """The ``count`` best of the rows ``every``, all of which are read."""
    best = nothing_found(len(queries), count)
    for start in range(0, len(every), _BLOCK):
        rows = every[start : start + _BLOCK]
        block = vectors.gather(rows)
        scores = np.stack([score(block, query) for query in queries])
        _refuse_damaged(scores, limits)
        best = merged([best, SearchResult(np.broadcast_to(rows, scores.shape), scores)], count)
    return best


def _scan(
    vectors: Stored,
    largest_norm: float,
    queries: NDArray[np.float32],
    k: int,
    selection: Selection,
) -> SearchResult:
    """The ``k`` best of the selected rows, read block by block whatever the structure is."""
    result = nothing_found(len(queries), k)
    every = selection.numbers
    for start in range(0, len(every), _BLOCK):
        numbers = every[start : start + _BLOCK]
        block = Gathered(vectors.gather(numbers))
        flat = FlatStructure(block.vectors)
        found = search_exactly(flat, block, largest_norm, queries, k)
        rows = np.where(found.rows >= 0, numbers[found.rows], -1)
        result = merged([result, SearchResult(rows, found.scores)], k)
    return result


def shifted(result: SearchResult, start: int) -> SearchResult:
    """The result of a part whose row 0 is row ``start`` of the whole."""
    return SearchResult(np.where(result.rows >= 0, result.rows + start, -1), result.scores)


def merged(results: Sequence[SearchResult], k: int) -> SearchResult:
    """The ``k`` best of several results for the same queries, by falling score and rising row."""
    if len(results) == 1:
        return results[0]
    rows = np.concatenate([each.rows for each in results], axis=1)
    scores = np.concatenate([each.scores for each in results], axis=1)
    return _best(rows, scores, k)


def _scored(
    vectors: Stored,
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    limits: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Inner products (n, depth) of ``queries`` with the vectors at ``rows``, -inf for row -1.

    ``limits`` (n,) are what no score may exceed.
    """
    count, depth = rows.shape
    scores = np.empty(rows.shape, dtype=np.float32)
    high = max(1, _GATHERED // depth)
    for top, left in itertools.product(range(0, count, high), range(0, depth, _GATHERED)):
        block = rows[top : top + high, left : left + _GATHERED]
        stored = vectors.gather_stored(np.maximum(block, 0).ravel())
        lines = stored.reshape(block.shape + stored.shape[1:])
        for number, line in enumerate(lines, top):
            scores[number, left : left + len(line)] = score(line, queries[number])
    _refuse_damaged(scores, limits)
    scores[rows < 0] = -np.inf
    return scores


def _best(rows: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> SearchResult:
    """The ``count`` best of each line, by falling score and rising row; row -1 scores -inf."""
    order = np.lexsort((rows, -scores))[:, :count]
    return SearchResult(
        np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def score(stored: NDArray[Any], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products (m,) of ``m`` vectors, as they are stored, with ``query`` (dim,).

    NumPy's pairwise sum over the last axis treats every row alike, unlike a matrix product, whose
    result for a row depends on its place in the batch.
    """
    wide = query.astype(np.float64)
    found = np.empty(len(stored), dtype=np.float32)
    for start in range(0, len(stored), _CONVERTED):
        products = unpacked(stored[start : start + _CONVERTED], np.float64)
        products *= wide
        found[start : start + _CONVERTED] = products.sum(axis=1)
    return found


def _refuse_damaged(scores: NDArray[np.float32], limits: NDArray[np.float64]) -> None:
    """By Cauchy and Schwarz no score exceeds the product of both norms, and NaN is not below it."""
    if not (np.abs(scores) <= limits[:, np.newaxis]).all():
        raise DataError(
            "expected scores no larger than the lengths of the stored vectors allow, found others: "
            "the files in vectors/ are damaged: run rq verify, which names them, and rq repair"
        )
