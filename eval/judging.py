"""A run against judgements: its values query by query, and everything odd that they rest on.

A run is read as a stream and measured some hundred queries at a time, so that millions of lines
need little memory. What has to be decided is decided so:

* ``values`` are in trec_eval's order, or with ``order="rank"`` in the run's own: by rank, equal
  ranks as the lines come. The measures of queries whose scores are equal or contradict the ranks
  are computed in the other orders too, and where that moves a mean, the findings say so.
* Every judged query counts: 0 where the run lacks it, unless ``missing="skip"``. Queries without
  judgements are left out.
* A passage retrieved twice for a query counts once, where :mod:`~rocketrank.eval.orderings` says.
* A passage with the query's own id counts as any other, unless ``drop_self``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, get_args

from ..data.lines import STANDARD_INPUT, shown
from ..data.qrels import read_qrels
from ..data.records import RunEntry
from ..data.run_groups import RunGroup, group_entries, read_run_groups
from ..errors import DataError, UsageError
from .measures import evaluate, mean
from .orderings import (
    Hits,
    Orders,
    arrange,
    as_scores,
    is_order_dependent,
    orders,
    seen_grades,
    trec_eval_order,
)
from .results import Findings, Order, Ordering, RunResult, TopHit

Missing = Literal["zero", "skip"]
Qrels = Mapping[str, Mapping[str, int]]

DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BLOCK_HITS = 100_000
_JUDGED_CUTOFF = 10
_DEEPEST_JUDGED = 100
# Means nearer than this are equal: a sum of rounded numbers depends on its order.
_EQUAL = 1e-9
_GRADE = re.compile(r"rel=([0-9]+)")
_RECALL = re.compile(r"(?:R|Recall)[(@]")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """``top``: how many passages of each query to keep; ``depths``: the k of the recall curve."""

    measures: tuple[str, ...]
    drop_self: bool = False
    missing: Missing = "zero"
    order: Order = "score"
    top: int = 10
    depths: tuple[int, ...] = DEPTHS

    def __post_init__(self) -> None:
        if not self.measures:
            raise UsageError("there is nothing to measure: give at least one measure (nDCG@10)")
        for option, value, known in (
            ("missing", self.missing, get_args(Missing)),
            ("order", self.order, get_args(Order)),
        ):
            if value not in known:
                raise UsageError(f"{option} ({value}) must be {' or '.join(known)}")
        if self.top < 0:
            raise UsageError(f"top ({self.top}) must be at least 0")
        for depth in self.depths:
            if not 1 <= depth <= 999_999:
                raise UsageError(f"a depth ({depth}) must be from 1 to 999999")


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What is kept of a query; ``elsewhere`` is order → measure → value, where it may differ."""

    hits: Hits
    length: int
    values: Mapping[str, float]
    elsewhere: Mapping[str, Mapping[str, float]]
    judged: Mapping[int, float]
    top: tuple[TopHit, ...]


def load_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Query id → passage id → grade. Raises DataError for a bad line and for a file without any."""
    qrels: dict[str, dict[str, int]] = {}
    for query_id, passage_id, relevance in read_qrels(path):
        qrels.setdefault(query_id, {})[passage_id] = relevance
    if not qrels:
        raise DataError(
            f"{path}: expected relevance judgements, found none: name the file that holds them"
        )
    return qrels


def judge_run(
    run: str | Path | Iterable[RunEntry], qrels: Qrels, options: JudgeOptions, *, name: str
) -> RunResult:
    """The run of a file (or ``-``), or of entries, measured.

    Raises DataError for a bad line, with its place, and for an empty run; UsageError for a measure
    that is not known, for no judgements, and for a run that has none of the judged queries.
    """
    evaluate({}, {}, options.measures)  # before a long file is read
    if not qrels:
        raise UsageError("there are no judgements: give those of at least one query")
    groups = read_run_groups(run) if isinstance(run, str | Path) else group_entries(run)
    found: dict[str, _Judged] = {}
    of_run: dict[str, None] = {}
    for block in _blocks(groups):
        of_run.update(dict.fromkeys(group.query_id for group in block))
        found.update(_judge([each for each in block if each.query_id in qrels], qrels, options))
    if not of_run:
        raise empty_run_error(run, name)
    if not found:
        _refuse_other_queries([*of_run], qrels, name)
    counted = [query_id for query_id in qrels if query_id in found or options.missing == "zero"]
    return RunResult(
        name=name,
        values={each: _values(each, found, counted) for each in options.measures},
        findings=_findings(found, [each for each in of_run if each not in qrels], qrels, options),
        recall=_recall(found, counted, options),
        recall_grade=_recall_grade(options.measures),
        top={query_id: found[query_id].top for query_id in counted if query_id in found},
    )


def empty_run_error(run: object, name: str) -> DataError:
    """For a run without a line; ``name`` is for one that is no file."""
    place = run if isinstance(run, str | Path) and str(run) != STANDARD_INPUT else name
    return DataError(
        f"{place}: expected a run, found no lines: name the file that the search wrote, or search "
        "again"
    )


def _refuse_other_queries(of_run: Sequence[str], qrels: Qrels, name: str) -> NoReturn:
    raise UsageError(
        f"{name}: expected a run of the {len(qrels)} judged queries (such as "
        f"{shown(next(iter(qrels)))}), found none of them and {len(of_run)} other "
        f"quer{'y' if len(of_run) == 1 else 'ies'} (such as {shown(of_run[0])}): name the "
        "judgements of the queries that the run was made for, with ids written alike"
    )


def _blocks(groups: Iterable[RunGroup]) -> Iterator[list[RunGroup]]:
    block: list[RunGroup] = []
    hits = 0
    for group in groups:
        block.append(group)
        hits += len(group.ids)
        if hits >= _BLOCK_HITS:
            yield block
            block, hits = [], 0
    yield block


def _judge(block: Sequence[RunGroup], qrels: Qrels, options: JudgeOptions) -> dict[str, _Judged]:
    """Of a query that comes twice, the later group, which is the whole one."""
    arranged = {each.query_id: arrange(each, drop_self=options.drop_self) for each in block}
    of_block = {query_id: qrels[query_id] for query_id in arranged}
    listed = {query_id: _listed(hits, options.order) for query_id, hits in arranged.items()}
    scores = {
        query_id: hits.scores
        if options.order == "score" or hits.one_order
        else as_scores(listed[query_id])
        for query_id, hits in arranged.items()
    }
    values = evaluate(scores, of_block, (*options.measures, *_recall_measures(options).values()))
    elsewhere = _elsewhere(arranged, listed, of_block, options.measures)
    judged = _judged_shares(listed, of_block, options.measures)
    return {
        query_id: _Judged(
            hits=hits._replace(scores={}),
            length=len(hits.scores),
            values={measure: of[query_id] for measure, of in values.items()},
            elsewhere=elsewhere.get(query_id, {}),
            judged=judged[query_id] if hits.scores else {},
            top=tuple(
                TopHit(each, hits.scores[each], qrels[query_id].get(each))
                for each in listed[query_id][: options.top]
            ),
        )
        for query_id, hits in arranged.items()
    }


def _listed(hits: Hits, order: Order) -> list[str]:
    """The passages in the order that counts."""
    if order == "score" and not hits.one_order:
        return trec_eval_order(hits)
    return list(hits.scores)


def _elsewhere(
    arranged: Mapping[str, Hits],
    listed: Mapping[str, Sequence[str]],
    qrels: Qrels,
    measures: Sequence[str],
) -> dict[str, dict[str, dict[str, float]]]:
    """Query id → order → measure → value, for orders that show a measure other grades."""
    runs: dict[str, dict[str, dict[str, float]]] = {order: {} for order in Orders._fields}
    for query_id, hits in arranged.items():
        grades = qrels[query_id]
        if is_order_dependent(hits, grades):
            seen = seen_grades(listed[query_id], grades)
            for order, ids in orders(hits, grades)._asdict().items():
                if seen_grades(ids, grades) != seen:
                    runs[order][query_id] = as_scores(ids)
    values: dict[str, dict[str, dict[str, float]]] = {}
    for order, run in runs.items():
        measured = evaluate(run, {query_id: qrels[query_id] for query_id in run}, measures)
        for query_id in run:
            of_query = {measure: of[query_id] for measure, of in measured.items()}
            values.setdefault(query_id, {})[order] = of_query
    return values


def _judged_shares(
    listed: Mapping[str, Sequence[str]], qrels: Qrels, measures: Sequence[str]
) -> dict[str, dict[int, float]]:
    """Query id → k → share of the first k that is judged, for k = 10 and the cutoffs up to 100."""
    given = {int(found[1]) for each in measures if (found := re.search(r"@([0-9]+)\Z", each))}
    cutoffs = sorted({_JUDGED_CUTOFF, *(each for each in given if each <= _DEEPEST_JUDGED)})
    first = {query_id: as_scores(ids[: cutoffs[-1]]) for query_id, ids in listed.items()}
    shares = evaluate(first, qrels, [f"Judged@{cutoff}" for cutoff in cutoffs])
    return {
        query_id: {cutoff: shares[f"Judged@{cutoff}"][query_id] for cutoff in cutoffs}
        for query_id in listed
    }


def _recall_measures(options: JudgeOptions) -> dict[int, str]:
    """The measures of the curve by their k, from the lowest."""
    grade = _recall_grade(options.measures)
    option = f"(rel={grade})" if grade > 1 else ""
    return {depth: f"R{option}@{depth}" for depth in sorted(set(options.depths))}


def _recall_grade(measures: Sequence[str]) -> int:
    """From which grade on a passage is relevant to recall that is asked for, or else to any
    measure that says so."""
    grades = {each: int(found[1]) for each in measures if (found := _GRADE.search(each))}
    recall = next((each for each in measures if _RECALL.match(each)), None)
    return grades.get(recall, 1) if recall else next(iter(grades.values()), 1)


def _values(
    measure: str,
    found: Mapping[str, _Judged],
    counted: Iterable[str],
    order: str | None = None,
) -> dict[str, float]:
    """Query id → value, in the order that counts or in another."""
    values = dict.fromkeys(counted, 0.0)
    for query_id in values:
        if each := found.get(query_id):
            values[query_id] = each.elsewhere.get(order or "", each.values)[measure]
    return values


def _recall(
    found: Mapping[str, _Judged], counted: Sequence[str], options: JudgeOptions
) -> dict[int, float]:
    longest = _longest(found)
    return {
        depth: mean(_values(measure, found, counted))
        for depth, measure in _recall_measures(options).items()
        if depth <= longest
    }


def _longest(found: Mapping[str, _Judged]) -> int:
    return max(each.length for each in found.values())


def _findings(
    found: Mapping[str, _Judged], unjudged: Sequence[str], qrels: Qrels, options: JudgeOptions
) -> Findings:
    hits = {query_id: each.hits for query_id, each in found.items()}
    counted = [query_id for query_id in qrels if query_id in found or options.missing == "zero"]
    return Findings(
        missing=tuple(query_id for query_id in qrels if query_id not in found),
        unjudged=tuple(unjudged),
        without_relevant=tuple(
            query_id for query_id, of in qrels.items() if all(grade < 1 for grade in of.values())
        ),
        duplicates={each: of.duplicates for each, of in hits.items() if of.duplicates},
        self_hits=tuple(query_id for query_id, of in hits.items() if of.has_self),
        drops_self=options.drop_self,
        tied=tuple(query_id for query_id, of in hits.items() if of.tied),
        all_tied=tuple(query_id for query_id, of in hits.items() if of.all_tied),
        disordered=tuple(query_id for query_id, of in hits.items() if of.disordered),
        judged=_mean_shares([each.judged for each in found.values() if each.judged]),
        judged_per_query=sum(map(len, qrels.values())) / len(qrels),
        orderings=_orderings(found, counted, options.measures),
        order=options.order,
        longest=_longest(found),
    )


def _mean_shares(shares: Sequence[Mapping[int, float]]) -> dict[int, float]:
    cutoffs = shares[0] if shares else ()
    return {each: sum(of[each] for of in shares) / len(shares) for each in cutoffs}


def _orderings(
    found: Mapping[str, _Judged], counted: Sequence[str], measures: Sequence[str]
) -> dict[str, Ordering]:
    if not any(each.elsewhere for each in found.values()):
        return {}
    orderings: dict[str, Ordering] = {}
    for measure in measures:
        means = [mean(_values(measure, found, counted, order)) for order in Orders._fields]
        if max(means) - min(means) > _EQUAL:
            orderings[measure] = Ordering(*means)
    return orderings
