"""Retrieval for questions with answers: the share with an answer in the first k passages.

This is DPR's top-k retrieval accuracy: the measure "top-20" of a question is 1 where one of its
first 20 passages has one of its answers in the text, else 0. As in DPR, the title does not count
(a newer option there, off by default, puts it before the text), and a question without passages or
without answers counts as not found. A passage retrieved twice stands once, as everywhere in this
package; DPR lets it take two places.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..data.dpr_results import DprHit, DprResult
from ..data.lines import shown
from ..data.records import Passage, Query, RunEntry
from ..data.run_groups import RunGroup, group_entries, read_run_groups
from ..errors import DataError, UsageError
from .answers import ANSWER_MATCHES, AnswerMatch, AnswerMatcher
from .judging import empty_run_error
from .orderings import Hits, Orders, arrange, orders
from .results import AnswerMarks, Findings, Order, Ordering, RunResult, TopHit

# Passages with these ids, of those that are known.
FindPassages = Callable[[Sequence[str]], Sequence[Passage]]
Run = str | Path | Iterable[RunEntry]

_NEVER = 1 << 62


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How lists are judged.

    ``order`` "rank" reads a list as it stands, or a run by its ranks, as DPR and Pyserini do, which
    see no scores; "score" is trec_eval's order. ``top`` is how many passages of a question are kept
    to be shown, ``depths`` the k of the curve.
    """

    ks: tuple[int, ...] = (1, 5, 20, 100)
    match: AnswerMatch = "string"
    order: Order = "rank"
    top: int = 10
    depths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

    def __post_init__(self) -> None:
        if not self.ks or min((*self.ks, *self.depths)) < 1:
            raise UsageError(
                f"ks ({self.ks}) and depths ({self.depths}) must be whole numbers from 1, such as "
                "1, 5, 20, 100"
            )
        if self.top < 0:
            raise UsageError(f"top ({self.top}) must be at least 0")
        if self.match not in ANSWER_MATCHES:
            raise UsageError(f"match ({self.match}) must be one of {', '.join(ANSWER_MATCHES)}")
        if self.order not in ("score", "rank"):
            raise UsageError(f"order ({self.order}) must be one of score, rank")


class _Judged(NamedTuple):
    """What is kept of a question: ``flags`` are its hits without the passages.

    ``first`` is the rank of the first passage with an answer in each order, _NEVER without one;
    ``marked`` counts the passages with a mark in the file, ``unlike`` those whose mark is not what
    was found, ``textless`` those whose mark was taken because they have no text.
    """

    flags: Hits
    length: int
    first: tuple[int, ...]
    top: tuple[TopHit, ...]
    can_match: bool
    marked: int
    unlike: int
    textless: int


def with_answers(
    results: Iterable[DprResult], *, match: AnswerMatch = "string"
) -> Iterator[DprResult]:
    """The same with ``has_answer`` of every passage that has a text, for writing."""
    for result in results:
        matcher = AnswerMatcher(result.answers, match=match)
        yield result._replace(
            hits=tuple(hit._replace(has_answer=_has_answer(matcher, hit)) for hit in result.hits)
        )


def judge_answers(
    results: Iterable[DprResult], options: AnswerOptions | None = None, *, name: str
) -> RunResult:
    """Questions judged: "top-k" → id of the question → 1.0 or 0.0, in the order of ``results``.

    A passage without a text counts by its ``has_answer``. ``recall`` holds the mean of top-k by k;
    ``findings.without_relevant`` the questions without an answer to look for, and
    ``findings.answers`` counts the marks in the file. Raises UsageError where there are no
    questions and for one that comes twice.
    """
    options = options or AnswerOptions()
    judged: dict[str, _Judged] = {}
    for result in results:
        if result.query_id in judged:
            raise UsageError(
                f"{name}: question {shown(result.query_id)} comes twice: give every question an "
                "id of its own"
            )
        judged[result.query_id] = _judge(result, options)
    if not judged:
        raise UsageError(f"{name}: expected questions with answers, found none: name another file")
    longest = max(one.length for one in judged.values())
    return RunResult(
        name=name,
        values={f"top-{k}": _values(judged, options, k) for k in options.ks},
        findings=_findings(judged, options),
        recall={
            k: _mean_within(judged, k)[_column(options)]
            for k in sorted(set(options.depths))
            if k <= longest
        },
        top={query_id: one.top for query_id, one in judged.items() if one.length},
    )


def judge_run_by_answers(
    run: Run,
    queries: Iterable[Query],
    passages: FindPassages,
    options: AnswerOptions | None = None,
    *,
    name: str,
) -> RunResult:
    """A run judged by the answers of ``queries``: each counts, one that the run lacks with 0.

    ``passages`` gives the passages with the ids it is given. Raises UsageError where the run has
    none of the questions, DataError for a passage that ``passages`` does not know, and what
    reading raises.
    """
    questions = list(queries)
    groups, unjudged = _groups(run, questions, name)
    result = judge_answers(_results(groups, questions, passages, name), options, name=name)
    return replace(result, findings=replace(result.findings, unjudged=unjudged))


def run_results(
    run: Run, queries: Iterable[Query], passages: FindPassages, *, name: str
) -> Iterator[DprResult]:
    """A run as DPR's results, with texts: every question, in the order of its ranks.

    Raises as :func:`judge_run_by_answers`.
    """
    questions = list(queries)
    groups, _ = _groups(run, questions, name)
    return _results(groups, questions, passages, name)


def _groups(
    run: Run, questions: Sequence[Query], name: str
) -> tuple[dict[str, RunGroup], tuple[str, ...]]:
    """What the run has of the questions, and the ids of its other queries."""
    read = read_run_groups(run) if isinstance(run, str | Path) else group_entries(run)
    known = {question.id for question in questions}
    groups: dict[str, RunGroup] = {}
    others: dict[str, None] = {}
    for group in read:
        if group.query_id in known:
            groups[group.query_id] = group
        else:
            others[group.query_id] = None
    if not groups and not others:
        raise empty_run_error(run, name)
    if not groups:
        raise UsageError(
            f"{name}: expected a run of these {len(known)} questions (such as "
            f"{shown(min(known, default=''))}), found {len(others)} other "
            f"quer{'y' if len(others) == 1 else 'ies'} (such as {shown(min(others))}): name the "
            "questions that the run was made for; where their file has no ids, a question's id is "
            "its line number from 0"
        )
    return groups, tuple(others)


def _results(
    groups: Mapping[str, RunGroup],
    questions: Iterable[Query],
    passages: FindPassages,
    name: str,
) -> Iterator[DprResult]:
    for question in questions:
        group = groups.get(question.id)
        hits = _hits(group, passages, name) if group is not None else ()
        yield DprResult(question.id, question.text, question.answers, hits)


def _hits(group: RunGroup, passages: FindPassages, name: str) -> tuple[DprHit, ...]:
    wanted = list(dict.fromkeys(group.ids))
    found = {passage.id: passage for passage in passages(wanted)}
    missing = [passage_id for passage_id in wanted if passage_id not in found]
    if missing:
        raise DataError(
            f"{name}: expected the passages of question {shown(group.query_id)} in the corpus, "
            f"found no passage {shown(missing[0])} ({len(missing)} of {len(wanted)} are missing): "
            "name the corpus that the run was made on"
        )
    entries = sorted(
        zip(group.ranks, group.ids, group.scores, strict=True), key=lambda entry: entry[0]
    )
    return tuple(
        DprHit(passage_id, score, found[passage_id].text, found[passage_id].title)
        for _, passage_id, score in entries
    )


def _judge(result: DprResult, options: AnswerOptions) -> _Judged:
    matcher = AnswerMatcher(result.answers, match=options.match)
    found: dict[str, int] = {}
    marked = unlike = textless = 0
    for hit in result.hits:
        has = _has_answer(matcher, hit)
        found[hit.id] = max(int(has), found.get(hit.id, 0))
        marked += hit.has_answer is not None
        unlike += hit.has_answer is not None and has != hit.has_answer
        textless += hit.text is None
    group = RunGroup(
        result.query_id,
        [hit.id for hit in result.hits],
        list(range(1, len(result.hits) + 1)),
        [hit.score for hit in result.hits],
    )
    hits = arrange(group)
    own = list(hits.scores)
    in_orders = Orders(own, own, own, own) if hits.one_order else orders(hits, found)
    shown_order = in_orders[_column(options)][: options.top]
    return _Judged(
        hits._replace(scores={}),
        len(own),
        tuple(_first(order, found) for order in in_orders),
        tuple(TopHit(each, hits.scores[each], found[each]) for each in shown_order),
        matcher.can_match,
        marked,
        unlike,
        textless,
    )


def _has_answer(matcher: AnswerMatcher, hit: DprHit) -> bool:
    return matcher.matches(hit.text) if hit.text is not None else bool(hit.has_answer)


def _first(order: Sequence[str], found: Mapping[str, int]) -> int:
    return next((rank for rank, each in enumerate(order, 1) if found[each]), _NEVER)


def _column(options: AnswerOptions) -> int:
    """Which of the orders counts."""
    return Orders._fields.index("own" if options.order == "rank" else "trec_eval")


def _values(judged: Mapping[str, _Judged], options: AnswerOptions, k: int) -> dict[str, float]:
    column = _column(options)
    return {query_id: float(one.first[column] <= k) for query_id, one in judged.items()}


def _mean_within(judged: Mapping[str, _Judged], k: int) -> Ordering:
    """Share of questions with an answer in the first k passages, in each of the orders."""
    columns = zip(*(one.first for one in judged.values()), strict=True)
    return Ordering(*(sum(rank <= k for rank in ranks) / len(judged) for ranks in columns))


def _findings(judged: Mapping[str, _Judged], options: AnswerOptions) -> Findings:
    def those(holds: Callable[[_Judged], bool]) -> tuple[str, ...]:
        return tuple(query_id for query_id, one in judged.items() if holds(one))

    orderings = {f"top-{k}": _mean_within(judged, k) for k in options.ks}
    return Findings(
        missing=those(lambda one: not one.length),
        without_relevant=those(lambda one: not one.can_match),
        duplicates={
            query_id: one.flags.duplicates
            for query_id, one in judged.items()
            if one.flags.duplicates
        },
        tied=those(lambda one: one.flags.tied),
        all_tied=those(lambda one: one.flags.all_tied),
        disordered=those(lambda one: one.flags.disordered),
        orderings={name: each for name, each in orderings.items() if len(set(each)) > 1},
        order=options.order,
        longest=max(one.length for one in judged.values()),
        answers=AnswerMarks(
            marked=sum(one.marked for one in judged.values()),
            unlike=sum(one.unlike for one in judged.values()),
            textless=sum(one.textless for one in judged.values()),
        ),
    )
