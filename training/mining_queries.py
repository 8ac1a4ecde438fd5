"""The queries to mine lists for, from a file of queries and its judgements."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ..data.records import Judgement, Query
from ..errors import DataError
from .cuts import Cut, QueryKind
from .mining_report import MiningReport
from .synthesis import Synthesis

_log = logging.getLogger(__name__)


class MiningQuery(NamedTuple):
    """A query with the ids of its labelled positives, in the order of the judgements.

    ``irrelevant`` were judged not relevant. Without positives the query has no judgement at all.
    A synthetic query has a ``kind``; its candidates are read without the piece that is ``cut``.
    """

    id: str
    text: str
    positives: tuple[str, ...]
    irrelevant: frozenset[str] = frozenset()
    kind: QueryKind | None = None
    cut: Cut | None = None


class MiningQueries(NamedTuple):
    """The queries in their file's order, and what ``MiningReport`` counts of them.

    ``made`` is the report of the synthetic ones among them.
    """

    queries: list[MiningQuery]
    counts: Counter[str]
    made: MiningReport | None = None


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


def with_synthetic(queries: MiningQueries | None, made: Synthesis) -> MiningQueries:
    """``queries`` and behind them those that were made. DataError for an id of both."""
    own = queries or MiningQueries([], Counter())
    taken = {each.id for each in own.queries}
    for each in made.queries:
        if each.id in taken:
            raise DataError(
                f"expected other ids of queries than those of synthetic ones, found {each.id}: "
                "give the query another id"
            )
    synthetic = [
        MiningQuery(each.id, each.text, (each.passage_id,), kind=each.kind, cut=each.cut)
        for each in made.queries
    ]
    counts = own.counts + Counter(synthetic=len(synthetic))
    return MiningQueries([*own.queries, *synthetic], counts, made.report)


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
