"""Which queries are held out of training, and what both models rank for them."""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..data.qrels import read_qrels
from ..data.records import Passage
from ..errors import DataError
from ..two_stage import PassageTexts
from .lists import RankingList, read_lists
from .passages import with_texts
from .recipe import Recipe
from .validation import DevSet

_log = logging.getLogger(__name__)


def held_out_queries(lists: Path, recipe: Recipe, dev: Path | None) -> frozenset[str]:
    """The recipe's share of the queries in ``lists``, drawn from its seed; none beside a ``dev``.

    Queries of ``dev`` that are in ``lists`` too stay there, with a note that counts them.
    """
    if dev is not None:
        asked = {each.query_id for each in read_lists(dev)}
        both = sum(query_id in asked for query_id in {each.query_id for each in read_lists(lists)})
        if both:
            _log.warning(
                "%d of the %d dev queries are training queries too: the dev figures flatter",
                both,
                len(asked),
            )
        return frozenset()
    return drawn_queries(
        {each.query_id for each in read_lists(lists) if each.positives},
        recipe.data.dev_share,
        recipe.seed,
    )


def drawn_queries(query_ids: Collection[str], share: float, seed: int) -> frozenset[str]:
    """``share`` of the queries, the same for the same ids, share and seed."""
    ordered = sorted(query_ids)
    drawn = np.random.default_rng([seed, int.from_bytes(b"dev")]).permutation(len(ordered))
    return frozenset(ordered[number] for number in drawn[: round(share * len(ordered))])


def open_dev(
    lists: Path, only: Collection[str] | None, qrels: Path | None, texts: PassageTexts | None
) -> DevSet | None:
    """The dev queries of ``lists`` (those in ``only``, where given) with all their candidates.

    Judgements come from ``qrels``, and else from the labels. None where there is no query.
    """
    found: dict[str, list[RankingList]] = {}
    wanted = (each for each in read_lists(lists) if only is None or each.query_id in only)
    for each in wanted if texts is None else with_texts(wanted, texts):
        found.setdefault(each.query_id, []).append(each)
    queries, judged, candidates = {}, {}, {}
    for query_id, several in found.items():
        passages: dict[str, Passage] = {}
        grades: dict[str, int] = {}
        for candidate in (one for each in several for one in each.candidates):
            if candidate.text is None:
                raise DataError(
                    f'{lists}: candidate "{candidate.id}" of dev query "{query_id}" has no text: '
                    "say with --passages which index or corpus holds it"
                )
            passage = Passage(candidate.id, candidate.text, candidate.title)
            passages.setdefault(candidate.id, passage)
            grades[candidate.id] = max(candidate.label, grades.get(candidate.id, 0))
        queries[query_id] = several[0].query
        # by id, or the positive that leads every list would win all ties
        candidates[query_id] = sorted(passages.values(), key=lambda passage: passage.id)
        judged[query_id] = {each: grade for each, grade in grades.items() if grade}
    if qrels is not None:
        judged = {query_id: {} for query_id in queries}
        for judgement in read_qrels(qrels):
            if judgement.query_id in judged and judgement.relevance > 0:
                judged[judgement.query_id][judgement.passage_id] = judgement.relevance
    kept = [query_id for query_id in queries if judged[query_id]]
    if not kept:
        return None
    return DevSet(
        {query_id: queries[query_id] for query_id in kept},
        {query_id: judged[query_id] for query_id in kept},
        {query_id: candidates[query_id] for query_id in kept},
    )
