"""BM25 over the segments of a commit, with the statistics of all its live passages.

Lucene's form (Kamphuis et al., ECIR 2020): a word that ``n`` of ``N`` passages have gives a
passage of length ``l`` that has it ``f`` times

    log(1 + (N - n + 0.5) / (n + 0.5)) · f / (f + k1 · (1 - b + b · l / average length))

N, n and the average are counted over what is not deleted in any segment, so scores are those of a
new index of the same passages, to the last bit: each is a sum in float64 in the order of the
words, whatever segment the passage is in.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..data.words import K1, B, words
from .postings import Occurrences, Postings
from .search import SearchResult, nothing_found
from .selection import Selection

_BLOCK = 1_000_000
"""Postings that are scored at once."""
_SPARSE = 16
"""With at most this part of a segment's rows in the postings of a query, only those get a sum."""


class LiveWords:
    """The postings of a segment without what is deleted from it."""

    def __init__(self, postings: Postings, live: Selection | None) -> None:
        self.postings = postings
        self._live = live

    @cached_property
    def passages(self) -> int:
        return self.postings.counts.rows if self._live is None else self._live.count

    @cached_property
    def tokens(self) -> int:
        """The words of all passages."""
        if self._mask is None:
            return self.postings.counts.tokens
        return int(self.postings.lengths[self._mask].sum(dtype=np.int64))

    @cached_property
    def _mask(self) -> NDArray[np.bool_] | None:
        return None if self._live is None else self._live.mask

    def find(self, word: str) -> Occurrences:
        """As ``Postings.find``."""
        found = self.postings.find(word)
        if self._mask is None or not len(found.rows):
            return found
        kept = self._mask[found.rows]
        return Occurrences(found.rows[kept], found.frequencies[kept])


class _Statistics:
    """What a score depends on beside its passage."""

    def __init__(self, segments: Sequence[LiveWords]) -> None:
        self._passages = sum(segment.passages for segment in segments)
        tokens = sum(segment.tokens for segment in segments)
        self.average = tokens / self._passages if self._passages else 0.0

    def weight(self, having: int) -> float:
        """The inverse document frequency of a word that so many passages have."""
        return math.log(1 + (self._passages - having + 0.5) / (having + 0.5))


def search_words(
    segments: Sequence[LiveWords],
    queries: Sequence[str],
    k: int,
    selected: Sequence[Selection] | None,
) -> SearchResult:
    """The ``k`` best passages for each query by (-score, row), of those that share a word with it.

    Rows count through ``segments``. A word counts as often as the query has it. ``selected`` says
    which rows of each segment may be found; it changes no score.
    """
    result = nothing_found(len(queries), k)
    statistics = _Statistics(segments)
    masks = [None] * len(segments) if selected is None else [each.mask for each in selected]
    for number, query in enumerate(queries):
        found = _found_words(segments, query, statistics)
        rows, scores = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        start = 0
        for segment, occurrences, mask in zip(segments, found, masks, strict=True):
            here, sums = _sums(segment.postings, occurrences, statistics.average)
            if mask is not None:
                here, sums = here[mask[here]], sums[mask[here]]
            best = _best(here, sums, k)
            rows.append(here[best] + start)
            scores.append(sums[best])
            start += segment.postings.counts.rows
        every_row, every_score = np.concatenate(rows), np.concatenate(scores)
        best = _best(every_row, every_score, k)
        result.rows[number, : len(best)] = every_row[best]
        result.scores[number, : len(best)] = every_score[best]
    return result


def _found_words(
    segments: Sequence[LiveWords], query: str, statistics: _Statistics
) -> list[list[tuple[float, Occurrences]]]:
    """For each segment the occurrences of the query's words, with their weights."""
    found: list[list[tuple[float, Occurrences]]] = [[] for _ in segments]
    for word, times in sorted(Counter(words(query)).items()):
        occurrences = [segment.find(word) for segment in segments]
        having = sum(len(each.rows) for each in occurrences)
        weight = times * statistics.weight(having)
        for here, each in zip(found, occurrences, strict=True):
            if len(each.rows):
                here.append((weight, each))
    return found


def _sums(
    postings: Postings, found: Sequence[tuple[float, Occurrences]], average: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of a segment that have one of the words, rising, and their scores."""
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    total = sum(len(occurrences.rows) for _, occurrences in found)
    few = total * _SPARSE <= postings.counts.rows
    candidates = np.unique(np.concatenate([each.rows for _, each in found])) if few else None
    sums = np.zeros(postings.counts.rows if candidates is None else len(candidates))
    for weight, (every_row, frequencies) in found:
        for start in range(0, len(every_row), _BLOCK):
            rows = every_row[start : start + _BLOCK]
            often = frequencies[start : start + _BLOCK]
            norms = K1 * (1 - B + B * postings.lengths[rows] / average)
            places = rows if candidates is None else np.searchsorted(candidates, rows)
            sums[places] += weight * (often / (often + norms))  # a row comes once in a word
    if candidates is None:
        candidates = np.flatnonzero(sums)
        sums = sums[candidates]
    return candidates.astype(np.int64), sums.astype(np.float32)


def _best(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the ``k`` best by (-score, row), in that order."""
    places = np.arange(len(rows))
    if len(rows) > k:
        # All that tie with the last place stay until the order by row decides.
        last = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= last)
    order = np.lexsort((rows[places], -scores[places]))[:k]
    found: NDArray[np.int64] = places[order]
    return found
