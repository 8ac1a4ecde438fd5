"""Queries that an endpoint writes, drawn and checked as those are that are cut out of passages."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from ..data.records import Passage
from .cuts import can_be_asked, drawn_number, reading, word_count
from .endpoint import Endpoint, answers
from .mining_report import MiningReport
from .synthesis import SHORTEST_REST, Draw, Synthesis, SyntheticQuery

_QUERIES_OF_A_PASSAGE = 3


def written_queries(
    passages: Callable[[], Iterable[Passage]],
    endpoint: Endpoint,
    count: int,
    *,
    seed: int,
    ledger: Path,
) -> Synthesis:
    """Up to ``count`` queries, three at most of a passage, for passages drawn from ``seed``.

    Their passages stay whole: nothing of a query need be in them, and one that is there word for
    word is left out. Raises RocketRankError.
    """
    report = MiningReport()
    draw: Draw[Passage] = Draw(math.ceil(count / _QUERIES_OF_A_PASSAGE))
    for passage in passages():
        if word_count(passage.full_text, SHORTEST_REST) == SHORTEST_REST:
            kept = Passage(passage.id, passage.text, passage.title)
            draw.offer(drawn_number(seed, "endpoint", passage.id), passage.id, kept)
    asked = draw.first(len(draw))
    report.count("endpoint", "passages", len(asked))
    found: list[tuple[SyntheticQuery, Passage]] = []
    for passage, written in answers(endpoint, asked, ledger):
        if not written:
            report.count("endpoint", "absent")
        for number, text in enumerate(dict.fromkeys(written[:_QUERIES_OF_A_PASSAGE])):
            rule = _rule(text, passage)
            if rule:
                report.count_synthetic("endpoint", rule, text, passage)
            else:
                name = f"endpoint/{passage.id}/{number}"
                found.append((SyntheticQuery(name, text, "endpoint", passage.id, None), passage))
    times = Counter(reading(query.text) for query, _ in found)
    queries = []
    for query, passage in found:
        if times[reading(query.text)] > 1:
            report.count_synthetic("endpoint", "elsewhere", query.text, passage)
        else:
            queries.append(query)
    report.count("endpoint", "not_drawn", max(0, len(queries) - count))
    report.count("endpoint", "drawn", min(count, len(queries)))
    return Synthesis(sorted(queries[:count]), report)


def _rule(text: str, passage: Passage) -> str:
    if not can_be_asked(text):
        return "length"
    return "repeated" if reading(text) in reading(passage.full_text) else ""
