"""What a page of results carries for its script, as compact JSON inside the page."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .results import Difference, RunResult, TopHit

TIE = 1e-9
"""Values of a query that differ by no more are alike: the same terms summed in another order."""

_LONGEST = 360  # characters of a passage: a paragraph to recognise it by, times 10 hits a query


class Pair(NamedTuple):
    """Places of two systems among the results, of which ``of`` is measured against ``against``."""

    of: int
    against: int


def names_of_measures(results: Iterable[RunResult]) -> list[str]:
    """Every measure that a result has, in the order in which they come."""
    return list(dict.fromkeys(measure for result in results for measure in result.measures))


def query_ids(results: Iterable[RunResult]) -> list[str]:
    """Every query that has a value, in the order in which they come."""
    return list(
        dict.fromkeys(
            query_id
            for result in results
            for values in result.values.values()
            for query_id in values
        )
    )


def pairs_of_systems(results: Sequence[RunResult], differences: Sequence[Difference]) -> list[Pair]:
    """Every two systems once: first those of ``differences``, then later against earlier ones."""
    places = {result.name: place for place, result in enumerate(results)}
    found = [
        Pair(places[each.system], places[each.baseline])
        for each in differences
        if each.system in places and each.baseline in places
    ]
    count = len(results)
    found += [Pair(of, against) for against in range(count) for of in range(against + 1, count)]
    unique: dict[frozenset[int], Pair] = {}
    for pair in found:
        if pair.of != pair.against:
            unique.setdefault(frozenset(pair), pair)
    return list(unique.values())


def differences_by_query(a: RunResult, b: RunResult, measure: str) -> list[float]:
    """a - b of each query that has both values; those that are alike are 0."""
    first, second = a.values.get(measure, {}), b.values.get(measure, {})
    exact = [value - second[query_id] for query_id, value in first.items() if query_id in second]
    return [0.0 if abs(value) <= TIE else value for value in exact if math.isfinite(value)]


def page_data(
    results: Sequence[RunResult],
    pairs: Sequence[Pair],
    queries: Mapping[str, str],
    passages: Mapping[str, str],
) -> dict[str, Any]:
    """Systems, queries and passages are named once, and by their places from then on.

    ``values`` is system → measure → query, None where there is none; ``tops`` system → query → rows
    of (passage, score, grade), None where the run lacks the query; ``passage_texts`` may be cut.
    """
    measures, ids = names_of_measures(results), query_ids(results)
    found = dict.fromkeys(
        hit.passage_id for result in results for hits in result.top.values() for hit in hits
    )
    place = {passage_id: at for at, passage_id in enumerate(found)}
    return {
        "systems": [result.name for result in results],
        "measures": measures,
        "pairs": pairs,
        "queries": ids,
        "query_texts": [queries.get(query_id) for query_id in ids],
        "passages": list(found),
        "passage_texts": [_cut(passages.get(passage_id)) for passage_id in found],
        "values": [
            [_values(result.values.get(measure, {}), ids) for measure in measures]
            for result in results
        ],
        "tops": [
            [_rows(result.top[one], place) if one in result.top else None for one in ids]
            for result in results
        ],
    }


def as_script_text(value: object) -> str:
    """``value`` as JSON that may stand in a script element: nothing in it can end the element.

    U+2028 and U+2029, which end a line in older JavaScript, are escaped too.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _values(values: Mapping[str, float], ids: Sequence[str]) -> list[float | None]:
    return [_finite(values.get(query_id)) for query_id in ids]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rows(
    hits: Sequence[TopHit], place: Mapping[str, int]
) -> list[tuple[int, float | None, int | None]]:
    # six digits: a score is single precision and is there to be looked at
    return [(place[hit.passage_id], _finite(float(f"{hit.score:.6g}")), hit.grade) for hit in hits]


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST:
        return text
    return text[:_LONGEST].rstrip() + "…"
