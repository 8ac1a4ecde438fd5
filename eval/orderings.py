"""The orders in which the passages of a query can be read, where scores are equal or contradicted.

Four of them: trec_eval's (by score in single precision, equal ones by descending passage id), the
run's own (by rank, equal ones as the lines come), and by score with the relevant passages of a tie
all last or all first, between which every other way of breaking ties lies.

A passage that was retrieved twice stands once, at its better place in each order: in the run's own
where it comes first, by score with its highest score. A reader would have met it there; the further
occurrences are left out, and the passages after them move up. (trec_eval refuses such a run.)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.run_groups import RunGroup

Grades = Mapping[str, int]


class Hits(NamedTuple):
    """The passages of a query, each once: ``scores`` is id → score in the run's own order.

    ``duplicates`` is how many further occurrences there were, ``has_self`` whether the query's own
    id was among them. In single precision: ``tied`` is that some scores are equal, ``all_tied``
    that all of two or more are, ``disordered`` that a score is higher than one before it.
    """

    query_id: str
    scores: dict[str, float]
    duplicates: int
    has_self: bool
    tied: bool
    all_tied: bool
    disordered: bool

    @property
    def one_order(self) -> bool:
        """The run's own order is the only one."""
        return not self.tied and not self.disordered


class Orders(NamedTuple):
    """Passage ids, best first, in each of the orders."""

    trec_eval: list[str]
    own: list[str]
    worst: list[str]
    best: list[str]


def arrange(group: RunGroup, *, drop_self: bool = False) -> Hits:
    """The group in the run's own order, each passage once, without the query itself if so asked."""
    ids, ranks, scores = group.ids, group.ranks, group.scores
    if ranks != sorted(ranks):
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        ids, scores = [ids[at] for at in order], [scores[at] for at in order]
    hits = dict(zip(ids, scores, strict=True))
    duplicates = len(ids) - len(hits)
    if duplicates:
        for passage_id, score in zip(ids, scores, strict=True):
            hits[passage_id] = max(score, hits[passage_id])
    has_self = group.query_id in hits
    if has_self and drop_self:
        del hits[group.query_id]
    single = _single(list(hits.values()))
    disordered = bool(np.any(single[1:] > single[:-1]))
    in_order = np.sort(single) if disordered else single
    equal = in_order[1:] == in_order[:-1]
    return Hits(
        group.query_id,
        hits,
        duplicates,
        has_self,
        tied=bool(equal.any()),
        all_tied=len(single) > 1 and bool(equal.all()),
        disordered=disordered,
    )


def trec_eval_order(hits: Hits) -> list[str]:
    """Passage ids by score in single precision, equal ones by id, the greatest first.

    The order of Python's strings, by code point, is that of their bytes in UTF-8.
    """
    ids, ties = _by_score(hits)
    for start, end in ties:
        ids[start:end] = sorted(ids[start:end], reverse=True)
    return ids


def orders(hits: Hits, grades: Grades) -> Orders:
    """All four orders. What is not relevant, by a grade of 0 or below or by none, is one grade."""
    by_score, ties = _by_score(hits)
    trec_eval, worst, best = by_score[:], by_score[:], by_score[:]
    for start, end in ties:
        tie = sorted(by_score[start:end], reverse=True)
        trec_eval[start:end] = tie
        tie.sort(key=lambda passage_id: max(0, grades.get(passage_id, 0)))
        worst[start:end] = tie
        best[start:end] = tie[::-1]
    return Orders(trec_eval, list(hits.scores), worst, best)


def is_order_dependent(hits: Hits, grades: Grades) -> bool:
    """Whether the orders can differ in what a measure sees, the grades from the top down.

    A quick answer for most lists: where rank and score agree, passages without a judgement change
    places among themselves unseen.
    """
    if hits.disordered or not hits.tied:
        return hits.disordered
    ids, ties = _by_score(hits)
    judged = grades.keys()
    return any(not judged.isdisjoint(ids[start:end]) for start, end in ties)


def seen_grades(order: Sequence[str], grades: Grades) -> list[int | None]:
    """What a measure sees of an order."""
    return [grades.get(passage_id) for passage_id in order]


def as_scores(order: Sequence[str]) -> dict[str, float]:
    """Scores that give this order and are whole numbers that single precision can tell apart."""
    return dict(zip(order, map(float, range(len(order), 0, -1)), strict=True))


def _single(scores: Sequence[float]) -> NDArray[np.float32]:
    """The scores as trec_eval holds them; those beyond its range are all infinite there."""
    with np.errstate(over="ignore"):
        return np.array(scores, np.float64).astype(np.float32)


def _by_score(hits: Hits) -> tuple[list[str], Iterator[tuple[int, int]]]:
    """Ids by falling score, and where each tie begins and ends among them."""
    ids = list(hits.scores)
    single = _single(list(hits.scores.values()))
    if hits.disordered:
        order = np.argsort(-single, kind="stable")
        ids, single = [ids[at] for at in order.tolist()], single[order]
    changes = np.flatnonzero(single[1:] != single[:-1]) + 1
    edges = np.concatenate(([0], changes, [len(single)]))
    ties = np.flatnonzero(np.diff(edges) > 1)
    return ids, zip(edges[ties].tolist(), edges[ties + 1].tolist(), strict=True)
