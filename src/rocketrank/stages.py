"""The two stages of a search: passages found by vectors, by words or by both, then re-ranked."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .data.chunks import document_of
from .data.records import Passage
from .errors import UsageError
from .model_settings import Calibration
from .search_options import FirstStage, Group

_PORTION = 8
"""Pairs that are scored between two looks at the clock."""
_DEEPER = 4
"""How many times as many chunks are looked for where they are of too few documents."""
_FUSED_AT_LEAST = 100
"""Passages that each of two lists has before they are fused."""
_SMALLEST = float(np.finfo(np.float64).tiny)


class Hit(NamedTuple):
    """A found passage. ``score`` is the last stage's or the fused one; ``rank`` starts at 1.

    ``retriever_score`` is the first stage's: an inner product, or for ``bm25`` and ``hybrid`` the
    BM25 score and the fused one, from 0 to 1. ``probability`` is the calibrated score's, None
    where there is no calibration for such a search.
    """

    rank: int
    id: str
    score: float
    retriever_score: float
    reranker_score: float | None
    title: str
    text: str
    metadata: Mapping[str, Any]
    probability: float | None = None


class Retriever(Protocol):
    """What the first stage needs of a dual encoder."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Reranker(Protocol):
    """What the second stage needs of a cross-encoder."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]: ...


class RowsAndScores(Protocol):
    """(n, k) int64 and float32: for n queries the rows of what was found, -1 behind the last."""

    @property
    def rows(self) -> NDArray[np.int64]: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...


class PassageIndex(Protocol):
    """What both stages need of an index."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def model_name(self) -> str: ...
    def search(self, queries: NDArray[np.float32], k: int, where: str | None = None) -> Any: ...
    def search_words(self, queries: Sequence[str], k: int, where: str | None = None) -> Any: ...
    @property
    def has_words(self) -> bool: ...
    def check_where(self, where: str | None) -> object: ...
    def passages(self, rows: Sequence[int]) -> list[Passage]: ...
    def opened_again(self) -> "PassageIndex": ...
    def __len__(self) -> int: ...
    def close(self) -> None: ...


class Request(NamedTuple):
    """What a search was asked for, and the index as it was opened then."""

    opened: PassageIndex
    k: int
    depth: int
    weight: float
    where: str | None
    first_stage: FirstStage
    hybrid_weight: float
    rerank_ms: float | None
    group: Group | None


class Least(NamedTuple):
    """What a hit must reach to come back, and what makes a probability of its score."""

    score: float | None
    probability: float | None
    calibration: Calibration | None

    def of(self, hits: Sequence[Hit]) -> list[Hit]:
        """The hits that reach it, in their order, with their probabilities."""
        kept = [hit for hit in hits if self.score is None or hit.score >= self.score]
        if self.calibration is None or not kept:
            return kept
        from .eval.calibration import probabilities

        scores = [hit.score for hit in kept]
        found = probabilities(scores, self.calibration.slope, self.calibration.intercept).tolist()
        return [
            hit._replace(probability=probability)
            for hit, probability in zip(kept, found, strict=True)
            if self.probability is None or probability >= self.probability
        ]


def fitting(
    known: Calibration | None, request: Request, retriever: str, *, reranks: bool
) -> Calibration | None:
    """``known`` where it is of the scores that the search gives, else None.

    The weight must be the calibration's own exactly, and so must ``retriever``, a fingerprint.
    """
    if known is None or request.first_stage != "dense":
        return None
    expected = (request.weight, retriever) if reranks else (None, None)
    return known if (known.fusion, known.retriever) == expected else None


def describe(request: Request, *, reranks: bool) -> str:
    """What the scores of a search are of, in words."""
    first = "the retriever" if request.first_stage == "dense" else request.first_stage
    if not reranks:
        return first
    return f"the re-ranker after {first}, fused at weight {request.weight:g}"


def retrieve(
    request: Request, texts: Sequence[str], vectors: NDArray[np.float32] | None
) -> list[list[Hit]]:
    """Stage one: for each query its first hits; equal scores in the index's order.

    ``vectors`` are those of the queries' ``texts``, None where the first stage is BM25 alone.
    """
    depth, where = request.depth, request.where
    lists: list[RowsAndScores] = []
    if request.first_stage == "hybrid":
        depth = max(depth, _FUSED_AT_LEAST)
    if vectors is not None:
        lists.append(request.opened.search(vectors, depth, where))
    if request.first_stage != "dense":
        lists.append(request.opened.search_words(texts, depth, where))
    if len(lists) == 1:
        every_row, every_score = lists[0].rows, lists[0].scores
    else:
        dense, words = lists
        every_row, every_score = fused_by_score(dense, words, request.hybrid_weight, request.depth)
    found = []
    for rows, scores in zip(every_row, every_score, strict=True):
        there = rows >= 0
        passages = request.opened.passages(rows[there].tolist())
        found.append(
            [
                Hit(rank, p.id, score, score, None, p.title, p.text, p.metadata)
                for rank, (p, score) in enumerate(
                    zip(passages, scores[there].tolist(), strict=True), start=1
                )
            ]
        )
    return found


def retrieve_documents(
    request: Request, texts: Sequence[str], vectors: NDArray[np.float32] | None
) -> list[list[Hit]]:
    """Stage one, so deep that each query's hits are chunks of ``request.k`` documents at least.

    Fewer where the index has fewer.
    """
    depth, most = request.depth, len(request.opened)
    while True:
        found = retrieve(request._replace(depth=min(depth, most)), texts, vectors)
        if depth >= most or all(
            len(hits) < depth or len({_document(hit) for hit in hits}) >= request.k
            for hits in found
        ):
            return found
        depth *= _DEEPER


def best_of_documents(hits: Sequence[Hit]) -> list[Hit]:
    """The best chunk of each document, in the order of the hits, under the document's id."""
    best: dict[str, Hit] = {}
    for hit in hits:
        document = _document(hit)
        best.setdefault(document, hit._replace(id=document))
    return list(best.values())


def _document(hit: Hit) -> str:
    return document_of(hit.id, hit.metadata)


def fused_by_score(
    dense: RowsAndScores, words: RowsAndScores, weight: float, depth: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Convex combination of two lists (n, m) of the same n queries: rows and scores.

    A row scores ``weight`` times its place between the last (0) and the first (1) score of its
    dense list, and (1 - ``weight``) times its share of the best BM25 score; a list that lacks it
    adds 0 (Bruch, Gai and Ingber, TOIS 2023). The best ``depth`` come back by (-score, row), with
    row -1 where there are no more.
    """
    count = len(dense.rows)
    rows = np.full((count, depth), -1, dtype=np.int64)
    scores = np.full((count, depth), -np.inf, dtype=np.float32)
    for number in range(count):
        in_dense, in_words = dense.rows[number] >= 0, words.rows[number] >= 0
        by_vectors = _between_ends(dense.scores[number][in_dense].astype(np.float64))
        by_words = words.scores[number][in_words].astype(np.float64)
        shares = [weight * by_vectors, (1 - weight) * by_words / by_words.max(initial=_SMALLEST)]
        every = np.concatenate([dense.rows[number][in_dense], words.rows[number][in_words]])
        distinct, places = np.unique(every, return_inverse=True)
        sums = np.bincount(places, weights=np.concatenate(shares), minlength=len(distinct))
        order = np.lexsort((distinct, -sums))[:depth]
        rows[number, : len(order)] = distinct[order]
        scores[number, : len(order)] = sums[order]
    return rows, scores


def _between_ends(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the highest to 0 for the lowest; 1 where all are equal."""
    if not len(scores) or scores.max() == scores.min():
        return np.ones_like(scores)
    found: NDArray[np.float64] = (scores - scores.min()) / (scores.max() - scores.min())
    return found


def rerank(
    reranker: Reranker, queries: Sequence[str], found: list[list[Hit]], weight: float
) -> list[list[Hit]]:
    """Stage two: every list in the order of the fused scores; weight 0 is the re-ranker alone."""
    from .eval.fusion import fused_scores

    check_texts(found)
    pairs = [
        (query, Passage(hit.id, hit.text, hit.title).full_text)
        for query, hits in zip(queries, found, strict=True)
        for hit in hits
    ]
    ends = np.cumsum([len(hits) for hits in found])
    reranked = []
    for hits, scores in zip(found, np.split(reranker.score(pairs), ends[:-1]), strict=True):
        fused = fused_scores([hit.retriever_score for hit in hits], scores, weight)
        scored = [
            hit._replace(score=score, reranker_score=own)
            for hit, score, own in zip(hits, fused.tolist(), scores.tolist(), strict=True)
        ]
        # sorted is stable: equal scores stay in stage one's order
        reranked.append(sorted(scored, key=lambda hit: -hit.score))
    return reranked


def check_texts(found: Sequence[Sequence[Hit]]) -> None:
    """UsageError where none of the hits has a text: their vectors were given without."""
    if any(found) and not any(hit.text or hit.title for hits in found for hit in hits):
        raise UsageError(
            "re-ranking needs the texts of passages, and those that were found have none: index "
            "their corpus with the vectors (rq index CORPUS --vectors PATH), or search without"
        )


def rerank_in_time(reranker: Reranker, query: str, hits: list[Hit], request: Request) -> list[Hit]:
    """Stage two of one query over as many of its first hits as ``request.rerank_ms`` has time for.

    At least ``request.k`` are scored, or chunks of so many documents. A portion is begun when there
    is time for one more like the last, so that the time is kept and not met by chance.
    """
    started = time.perf_counter()
    allowed = (request.rerank_ms or 0) / 1000
    done: list[Hit] = []
    while len(done) < len(hits):
        begun = time.perf_counter()
        portion = hits[len(done) : len(done) + _PORTION]
        done += rerank(reranker, [query], [portion], request.weight)[0]
        now = time.perf_counter()
        units = {_document(hit) for hit in done} if request.group else done
        if len(units) >= request.k and now - started + (now - begun) > allowed:
            break
    return sorted(done, key=lambda hit: -hit.score)
