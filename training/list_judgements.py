"""Ranking lists from judgements (qrels), alone or with a run whose other passages are negatives.

A passage counts as a positive from relevance 1 on.
"""

import logging
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from ..data.lines import shown
from ..data.qrels import read_qrels
from ..data.queries import read_queries
from ..data.runs import read_run
from ..errors import DataError
from .list_records import assembled
from .list_rows import Queries, Row, lists_of_rows, query_by_id
from .lists import Candidate, RankingList

_logger = logging.getLogger("rocketrank.training.list_judgements")

Positives = Mapping[str, Mapping[str, int]]
"""Query id → id of a passage judged relevant → relevance; a query without any has none."""


def read_query_texts(path: str | Path) -> Queries:
    """The texts of a file of queries in any known format, by id."""
    return Queries({query.id: query.text for query in read_queries(path)}, str(path))


def read_judged_positives(path: str | Path) -> Positives:
    """The passages judged relevant, for every query of a file of judgements in its order."""
    positives: dict[str, dict[str, int]] = {}
    for judgement in read_qrels(path):
        relevant = positives.setdefault(judgement.query_id, {})
        if judgement.relevance > 0:
            relevant[judgement.passage_id] = judgement.relevance
    return positives


def judged_lists(path: str | Path, queries: Queries) -> Iterator[RankingList]:
    """A list of the positives of each query, for negatives to be mined; score is the relevance."""
    positives = read_judged_positives(path)
    missing = [query_id for query_id in positives if query_id not in queries.texts]
    if missing:
        raise DataError(
            f"{path}: expected ids of queries that are in {queries.name}, found {shown(missing[0])}"
            f" ({len(missing):,} of {len(positives):,} are missing)"
        )
    for query_id, relevant in positives.items():
        yield assembled(query_id, queries.texts[query_id], _judged(relevant))


def run_lists(path: str | Path, queries: Queries, positives: Positives) -> Iterator[RankingList]:
    """A list for each query of a run: its judged positives, then the others of the run."""

    def rows() -> Iterator[Row]:
        previous = None
        for entry in read_run(path):
            if entry.query_id != previous:
                previous = entry.query_id
                if previous not in queries.texts:
                    raise DataError(
                        f"{path}: expected ids of queries that are in {queries.name}, found "
                        f"{shown(previous)}"
                    )
                searched.add(previous)
                yield previous, _judged(positives.get(previous, {}))
            source = f"run:{entry.rank}"
            yield previous, [Candidate(entry.passage_id, 0, entry.score, source)]

    searched: set[str] = set()
    yield from lists_of_rows(rows(), query_by_id(queries), str(path))
    left = sum(1 for query_id in positives if query_id not in searched)
    if left:
        _logger.info("%s: %s judged queries are not in it and get no list", path, f"{left:,}")


def without_judged_positives(
    lists: Iterator[RankingList], positives: Positives
) -> Iterator[RankingList]:
    """The lists without the negatives that are judged relevant for their query."""
    for each in lists:
        relevant: Set[str] = positives.get(each.query_id, {}).keys()
        kept = (
            candidate
            for candidate in each.candidates
            if candidate.label or candidate.id not in relevant
        )
        yield each._replace(candidates=tuple(kept))


def _judged(relevant: Mapping[str, int]) -> list[Candidate]:
    return [
        Candidate(passage_id, 1, float(relevance), "qrels")
        for passage_id, relevance in relevant.items()
    ]
