"""The k best passages in a fixed order, whatever structure proposed the candidates.

FAISS's scores depend, in their last digits, on the batch and on the structure, and it returns equal
vectors in an order of its own. So candidates are scored again from the stored vectors, each by a
sum in float64 that involves no other row, and sorted by falling score and rising row.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .structure import Structure
from .vectors import VectorShards

_UNIT_ROUNDOFF = 2.0**-24
_CELLS = 2_000_000
"""FAISS's answer to one block of queries holds at most about this many candidates."""
_WIDENING = 4


class SearchResult(NamedTuple):
    """``rows`` int64 and ``scores`` float32, both (n, k), best first; row -1 where k > passages."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


def search_exactly(
    structure: Structure,
    vectors: VectorShards,
    largest_norm: float,
    queries: NDArray[np.float32],
    k: int,
) -> SearchResult:
    """The ``k`` best among the structure's candidates by (-score, row), for each query.

    Candidates are fetched deeper until none that was left out could score as much as the k-th:
    ties at the cut-off are decided by row too. A lossless structure's scores are off by at most
    dim · 2⁻²⁴ · |query| · |vector| (recursive summation; Higham, Accuracy and Stability of
    Numerical Algorithms, 3.5); a lossy one gives equal vectors equal scores, up to that error.
    """
    result = SearchResult(
        np.full((len(queries), k), -1, dtype=np.int64),
        np.full((len(queries), k), -np.inf, dtype=np.float32),
    )
    total, wanted = len(vectors), min(k, len(vectors))
    depth, effort = structure.first_depth(wanted), 1
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    errors = (vectors.dim + 4) * _UNIT_ROUNDOFF * norms * largest_norm
    pending = np.arange(len(queries))
    while len(pending) and depth < total:
        unsettled = []
        block = max(1, _CELLS // depth)
        for start in range(0, len(pending), block):
            numbers = pending[start : start + block]
            proposed, rows = structure.search(queries[numbers], depth, effort)
            for place, number in enumerate(numbers):
                found = rows[place][rows[place] >= 0]
                scores = score(vectors.gather(found), queries[number])
                _refuse_damaged(scores)
                _keep_best(result, number, found, scores, wanted)
                guesses = proposed[place][: len(found)]
                tolerance = float(errors[number])
                if not _settled(guesses, scores, depth, wanted, tolerance, structure.lossless):
                    unsettled.append(number)
        pending = np.array(unsettled, dtype=np.int64)
        depth, effort = depth * _WIDENING, effort * _WIDENING
    for number in pending:
        scores = np.concatenate([score(each, queries[number]) for each in vectors.shards()])
        _refuse_damaged(scores)
        _keep_best(result, number, np.arange(total), scores, wanted)
    return result


def score(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products (m,) of ``vectors`` (m, dim) with ``query`` (dim,), each on its own.

    NumPy's pairwise sum over the last axis treats every row alike, unlike a matrix product, whose
    result for a row depends on its place in the batch.
    """
    step = max(1, _CELLS // max(1, vectors.shape[1]))
    wide = query.astype(np.float64)
    parts = [(vectors[i : i + step] * wide).sum(axis=1) for i in range(0, len(vectors), step)]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, dtype=np.float32)


def _settled(
    proposed: NDArray[np.float32],
    scores: NDArray[np.float32],
    depth: int,
    wanted: int,
    tolerance: float,
    lossless: bool,
) -> bool:
    """Whether no passage beyond the candidates can belong to the ``wanted`` best.

    ``proposed`` are the structure's own scores of the candidates, falling; ``scores`` the exact
    ones.
    """
    if len(scores) < wanted:
        return False
    if len(scores) < depth:
        return True
    worst = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    if lossless:
        return bool(proposed[-1] + 2 * tolerance < worst)
    return bool(proposed[-1] + 2 * tolerance < proposed[scores == worst].min())


def _refuse_damaged(scores: NDArray[np.float32]) -> None:
    """Vectors were finite when they were written, and queries are checked."""
    if not np.isfinite(scores).all():
        raise DataError(
            "expected finite scores from the stored vectors, found others: the files in vectors/ "
            "are damaged: build the index again with --overwrite"
        )


def _keep_best(
    result: SearchResult,
    number: int,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    wanted: int,
) -> None:
    order = np.lexsort((rows, -scores))[:wanted]
    result.rows[number, : len(order)] = rows[order]
    result.scores[number, : len(order)] = scores[order]
