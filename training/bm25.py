"""BM25 over the passages of an index, by the optional package ``bm25s``.

Lucene's form of BM25 (Kamphuis et al., ECIR 2020) with the words and parameters of
``data/words.py``, as an index with postings has it.
"""

import importlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..data.words import K1, B, words
from ..errors import DataError, MissingDependencyError, UsageError


class Bm25Hit(NamedTuple):
    """``row`` is the passage's place in the corpus, from 0; ``score`` is above 0."""

    row: int
    score: float


class Bm25:
    """The corpus as postings in memory: about 8 bytes for each distinct word of each passage."""

    def __init__(self, corpus: Iterable[Passage]) -> None:
        """Reads the corpus once. MissingDependencyError without ``bm25s``, DataError for a corpus
        that has no word."""
        library = _library()
        self._vocabulary: dict[str, int] = {}
        # Arrays: a list of Python integers would take ten times the memory.
        documents = [array("i", self._add_words(passage.full_text)) for passage in corpus]
        if not self._vocabulary:
            raise DataError(
                f"expected words in the corpus for BM25, found none in {len(documents)} passages: "
                "leave BM25 out for this corpus"
            )
        self._scorer = library.BM25(k1=K1, b=B, method="lucene", backend="numpy")
        self._scorer.index(
            (documents, self._vocabulary), create_empty_token=False, show_progress=False
        )

    def search(self, queries: Sequence[str], depth: int) -> list[list[Bm25Hit]]:
        """The best ``depth`` passages for each query, best first, equal scores in corpus order.

        Only passages that share a word with the query are found. UsageError for a depth below 1.
        """
        if depth < 1:
            raise UsageError(f"depth ({depth}) must be at least 1")
        return [self._search(query, depth) for query in queries]

    def _search(self, query: str, depth: int) -> list[Bm25Hit]:
        known = [self._vocabulary[word] for word in words(query) if word in self._vocabulary]
        if not known:
            return []
        scores: NDArray[np.float32] = self._scorer.get_scores_from_ids(known)
        rows = np.flatnonzero(scores > 0)
        if len(rows) > depth:
            # All that tie with the last place stay until the order by row decides.
            last = np.partition(scores[rows], len(rows) - depth)[len(rows) - depth]
            rows = rows[scores[rows] >= last]
        best = rows[np.lexsort((rows, -scores[rows]))[:depth]]
        return [
            Bm25Hit(row, score)
            for row, score in zip(best.tolist(), scores[best].tolist(), strict=True)
        ]

    def _add_words(self, text: str) -> list[int]:
        vocabulary = self._vocabulary
        return [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]


def _library() -> Any:
    try:
        return importlib.import_module("bm25s")
    except ImportError as error:
        raise MissingDependencyError(
            'BM25 needs the package bm25s, which is not installed: pip install "rocketrank[bm25]"'
        ) from error
