"""Both stages of a search over many queries, a few of them in memory at a time.

Scores are query id → passage id → score. A retriever's are in the order of its list, and for
passages that a run has found in the order of that run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from .data.records import Passage
from .eval.fusion import fused_scores

if TYPE_CHECKING:
    from .index import Index
    from .reranker import CrossEncoder
    from .retriever import DualEncoder

QUERIES_AT_ONCE = 64

Found = Mapping[str, Mapping[str, float]]
Scores = dict[str, dict[str, float]]
"""Query id → passage id → score, best first."""


class PassageTexts(Protocol):
    """Something that knows passages by their ids."""

    def texts(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in that order.

        Raises DataError that names the first id that is missing and says how many are.
        """


def retrieve(
    index: "Index", retriever: "DualEncoder", queries: Mapping[str, str], depth: int
) -> Scores:
    """The best ``depth`` passages for each query, fewer where the index has fewer."""
    vectors = retriever.encode_queries(list(queries.values()))
    found: Scores = {}
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = list(queries)[start : start + QUERIES_AT_ONCE]
        result = index.search(vectors[start : start + len(part)], min(depth, len(index)))
        for query_id, rows, scores in zip(part, result.rows, result.scores, strict=True):
            there = rows >= 0
            passages = index.passages(rows[there].tolist())
            ids = [passage.id for passage in passages]
            found[query_id] = dict(zip(ids, scores[there].tolist(), strict=True))
    return found


def retriever_scores(
    run: Found, retriever: "DualEncoder", queries: Mapping[str, str], texts: PassageTexts
) -> Scores:
    """The inner products with the passages of ``run``, as an index would give them."""
    scored: Scores = {}
    for part in _parts(run):
        passages = texts.texts(list({each: None for query_id in part for each in run[query_id]}))
        vectors = retriever.encode_passages(
            [each.text for each in passages], [each.title for each in passages]
        )
        row = {passage.id: vector for passage, vector in zip(passages, vectors, strict=True)}
        asked = retriever.encode_queries([queries[query_id] for query_id in part])
        for query_id, vector in zip(part, asked, strict=True):
            scored[query_id] = {each: float(row[each] @ vector) for each in run[query_id]}
    return scored


def reranker_scores(
    found: Found,
    reranker: "CrossEncoder",
    queries: Mapping[str, str],
    texts: PassageTexts,
    *,
    as_read: Callable[[str, Passage], Passage] = lambda _, passage: passage,
    progress: bool,
) -> Scores:
    """The logits of all that was found, in its order.

    ``as_read`` gives what is read of a passage for the query of an id, such as a part of it.
    """
    scored: Scores = {}
    with tqdm(total=len(found), desc="re-ranking", disable=not progress) as bar:
        for part in _parts(found):
            pairs = [(query_id, each) for query_id in part for each in found[query_id]]
            passages = texts.texts([each for _, each in pairs])
            logits = reranker.score(
                [
                    (queries[query_id], as_read(query_id, passage).full_text)
                    for (query_id, _), passage in zip(pairs, passages, strict=True)
                ]
            )
            scored |= {query_id: {} for query_id in part}
            for (query_id, each), logit in zip(pairs, logits.tolist(), strict=True):
                scored[query_id][each] = logit
            bar.update(len(part))
    return scored


def reranked(
    first: Found, logits: Found, *, depth: int | None = None, weight: float = 0.0
) -> Scores:
    """The fused scores of stage one's first ``depth`` (None: all), as a search would give them."""
    found: Scores = {}
    for query_id, scores in first.items():
        ids = best_first(scores)[:depth]
        fused = fused_scores(
            [scores[each] for each in ids], [logits[query_id][each] for each in ids], weight
        )
        found[query_id] = dict(zip(ids, fused.tolist(), strict=True))
    return found


def best_first(scores: Mapping[str, float]) -> list[str]:
    """Passages by falling score; equal ones stay in the order in which they came."""
    return sorted(scores, key=lambda each: -scores[each])


def _parts(found: Found) -> Iterator[Sequence[str]]:
    """The queries that have passages, some at a time; the others get no entry of their own."""
    asked = [query_id for query_id in found if found[query_id]]
    for start in range(0, len(asked), QUERIES_AT_ONCE):
        yield asked[start : start + QUERIES_AT_ONCE]
