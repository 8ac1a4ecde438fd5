"""The queries to mine lists for, from a file of queries and its judgements."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ..data.records import Judgement, Query
from ..errors import DataError

_log = logging.getLogger(__name__)


class MiningQuery(NamedTuple):
    """A query with the ids of its labelled positives, in the order of the judgements.

    ``irrelevant`` were judged not relevant. Without positives the query has no judgement at all.
    """

    id: str
    text: str
    positives: tuple[str, ...]
    irrelevant: frozenset[str] = frozenset()


class MiningQueries(NamedTuple):
    """The queries in their file's order, and what ``MiningReport`` counts of them."""

    queries: list[MiningQuery]
    counts: Counter[str]


def select_queries(
    queries: Iterable[Query], judgements: Iterable[Judgement], *, unjudged: bool = False
) -> MiningQueries:
    """The queries with a labelled positive (relevance above 0); with ``unjudged`` also those
    without any judgement. DataError where none is left.
    """
    positives: dict[str, list[str]] = {}
    irrelevant: dict[str, set[str]] = {}
    for query_id, passage_id, relevance in judgements:
        if relevance > 0:
            positives.setdefault(query_id, []).append(passage_id)
        else:
            irrelevant.setdefault(query_id, set()).add(passage_id)
    judged = positives.keys() | irrelevant.keys()
    chosen, known = [], 0
    counts: Counter[str] = Counter()
    for query in queries:
        known += query.id in judged
        kind = _kind(query.id in positives, query.id in irrelevant, unjudged)
        counts[kind] += 1
        if kind in ("labelled", "pseudo"):
            own = tuple(positives.get(query.id, ()))
            judged_out = frozenset(irrelevant.get(query.id, ()))
            chosen.append(MiningQuery(query.id, query.text, own, judged_out))
            counts["positives"] += len(own)
    counts["unknown"] = len(judged) - known
    _refuse_none(counts, len(positives))
    if counts["unknown"]:
        _log.warning(
            "%d of %d judged queries are not among the queries, and are left out",
            counts["unknown"],
            len(judged),
        )
    return MiningQueries(chosen, counts)


def _kind(has_positive: bool, has_irrelevant: bool, unjudged: bool) -> str:
    if has_positive:
        return "labelled"
    if has_irrelevant:
        return "without_positive"
    return "pseudo" if unjudged else "unjudged"


def _refuse_none(counts: Counter[str], positives: int) -> None:
    if counts["labelled"] or counts["pseudo"]:
        return
    total = sum(counts[kind] for kind in ("unjudged", "without_positive"))
    raise DataError(
        f"expected queries with a labelled positive, found none among {total} queries, while the "
        f"judgements name positives of {positives}: give the judgements of these queries"
    )
