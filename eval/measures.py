"""Measures of ranked lists, query by query: nDCG@10, RR@10, R@100, AP and the like.

They are computed by trec_eval's own code (ir_measures over pytrec_eval), so that figures are those
that papers print. Four of its habits decide what a score means:

* Passages are ordered by score, highest first; the rank that a run file states is not read.
* **A score is single precision.** Scores that differ by less than some 6e-8 of themselves are the
  same score, and so are 16777216 and 16777217. Who has an order finer than that passes ranks
  (-1, -2, …) in place of scores.
* **Equal scores are ordered by passage id, the greatest first**, byte by byte in UTF-8: "p9" comes
  before "p10". A search has another rule, so a list with ties may be ordered otherwise than it was
  shown.
* nDCG takes the relevance grade itself as gain, not 2 to its power. Grades below 0 gain nothing.

Judged@k, the share of the first k passages (of all, where there are fewer) that have a judgement of
any grade, is made of trec_eval's P@k too, with every judgement taken for relevant: ir_measures' own
Judged@k has another order for equal scores.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from ..errors import UsageError

_KNOWN = ("nDCG", "RR", "R", "AP", "P", "Success", "Rprec", "Bpref", "Judged")
_ALIASES = {
    "NDCG": "nDCG",
    "MRR": "RR",
    "Recall": "R",
    "MAP": "AP",
    "Precision": "P",
    "RPrec": "Rprec",
    "BPref": "Bpref",
}
_NEEDS_CUTOFF = frozenset({"P", "R", "Success", "Judged"})
_WITHOUT_CUTOFF = frozenset({"Rprec", "Bpref"})
_WITHOUT_REL = frozenset({"nDCG", "Judged"})
# Numbers from 1 on, and not too long: trec_eval ends the process at others.
_OPTION = r"(?:rel=[1-9][0-9]{0,5}|judged_only=(?:True|False))"
_FORM = re.compile(rf"([A-Za-z]+)(\({_OPTION}(?:, ?{_OPTION})*\))?(?:@([1-9][0-9]{{0,5}}))?")


def evaluate(
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    measures: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Measure → query id → value, measures named as given, queries in the order of ``qrels``.

    ``run`` is query id → passage id → score, ``qrels`` query id → passage id → grade. Every query
    of ``qrels`` counts: one that the run lacks, or that has no relevant passage, with 0.0. Queries
    without judgements are left out. A measure is written as ir_measures writes it, "nDCG@10" or
    "AP(rel=2)"; its other names are known too, such as "MRR@10" for "RR@10". Raises UsageError for
    a measure that is not known, for a score that is not finite and for a grade that is no integer.
    """
    import ir_measures

    if isinstance(measures, str):
        raise UsageError(f'expected a list of measures, found one: write ["{measures}"]')
    parsed = {name: _parse(name, ir_measures) for name in measures}
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in parsed}
    checked = _checked_run(run, qrels)
    shares = {name: each for name, each in parsed.items() if each.NAME == "Judged"}
    for name, measure in shares.items():
        values[name].update(_judged_shares(measure.params["cutoff"], checked, qrels, ir_measures))
    asked = _uncut({name: each for name, each in parsed.items() if name not in shares})
    results = _results(set(asked.values()), checked, qrels, ir_measures)
    for name in asked:
        measure = parsed[name]
        cutoff = measure.params.get("cutoff")
        for query_id, value in results[asked[name]].items():
            # trec_eval has no cutoff for the reciprocal rank; a rank is beyond k or it is not
            beyond = measure.NAME == "RR" and cutoff and value and round(1 / value) > cutoff
            values[name][query_id] = 0.0 if beyond else value
    return values


def mean(per_query: Mapping[str, float]) -> float:
    """The mean of the values of all queries. Raises UsageError where there are none."""
    if not per_query:
        raise UsageError("there is no mean over no queries: give judgements of at least one query")
    try:
        return math.fsum(per_query.values()) / len(per_query)
    except OverflowError:  # the sum of what is finite need not be
        return math.fsum(each / len(per_query) for each in per_query.values())


def _uncut(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The measures to ask for: the reciprocal rank without its cutoff, the others as they are."""
    return {
        name: type(measure)(**{key: one for key, one in measure.params.items() if key != "cutoff"})
        if measure.NAME == "RR"
        else measure
        for name, measure in parsed.items()
    }


def _results(
    measures: set[Any],
    run: dict[str, dict[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    ir_measures: ModuleType,
) -> dict[Any, dict[str, float]]:
    results: dict[Any, dict[str, float]] = {measure: {} for measure in measures}
    grades = {query_id: _checked_grades(query_id, of) for query_id, of in qrels.items()}
    if measures and grades:
        for each in ir_measures.pytrec_eval.iter_calc(measures, grades, run):
            results[each.measure][each.query_id] = float(each.value)
    return results


def _judged_shares(
    cutoff: int,
    run: dict[str, dict[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    ir_measures: ModuleType,
) -> dict[str, float]:
    """P@k with every judgement as a relevant one, of the passages that there are."""
    precision = ir_measures.P @ cutoff
    judged = {query_id: dict.fromkeys(of, 1) for query_id, of in qrels.items()}
    shares = _results({precision}, run, judged, ir_measures)[precision]
    return {
        query_id: round(share * cutoff) / min(cutoff, len(run[query_id]))
        for query_id, share in shares.items()
        if run.get(query_id)
    }


def _checked_run(
    run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """The judged queries' scores as the float of Python that pytrec_eval asks for."""
    checked = {
        query_id: scores
        if type(scores) is dict and set(map(type, scores.values())) <= {float}
        else {passage_id: float(score) for passage_id, score in scores.items()}
        for query_id, scores in run.items()
        if query_id in qrels
    }
    for query_id, scores in checked.items():
        if all(map(math.isfinite, scores.values())):
            continue
        for passage_id, score in scores.items():
            if not math.isfinite(score):
                raise UsageError(
                    f"the score of query {query_id} and passage {passage_id} is {score}: expected "
                    "a finite number"
                )
    return checked


def _checked_grades(query_id: str, grades: Mapping[str, int]) -> dict[str, int]:
    for passage_id, grade in grades.items():
        if int(grade) != grade or grade > 1_000_000:  # trec_eval counts up to the highest grade
            raise UsageError(
                f"the relevance of passage {passage_id} to query {query_id} is {grade}: expected a "
                "whole number of at most 1000000"
            )
    return {passage_id: int(grade) for passage_id, grade in grades.items()}


def _parse(name: str, ir_measures: ModuleType) -> Any:
    match = _FORM.fullmatch(name)
    known = match and _ALIASES.get(match[1], match[1])
    if match is None or known not in _KNOWN:
        raise UsageError(f'unknown measure "{name}": {_cure(name)}')
    if known in _NEEDS_CUTOFF and match[3] is None:
        raise UsageError(f'the measure "{name}" needs a cutoff: write "{name}@10"')
    try:
        # its parser uses what Python 3.12 calls deprecated
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            measure = ir_measures.parse_measure(name)
            measure.validate_params()
    except (AssertionError, ValueError):
        raise UsageError(
            f'the measure "{name}" has a cutoff or an option that {known} does not know: write '
            f'"{known}{"@10" if known in (*_NEEDS_CUTOFF, "nDCG") else ""}"'
        ) from None
    return measure


def canonical_name(name: str) -> str:
    """One name for a measure that has several: "RR@10" for "MRR@10"; any other text as it is."""
    match = _FORM.fullmatch(name)
    if match is None or match[1] not in _ALIASES:
        return name
    return _ALIASES[match[1]] + name[match.end(1) :]


def _cure(name: str) -> str:
    """A measure that exists and is written alike but for case, cutoff or options, or a list."""
    word = re.match(r"[A-Za-z]+(?:_rank)?", name)
    names = {**{each: each for each in _KNOWN}, **_ALIASES, "recip_rank": "RR"}
    folded = {each.casefold(): known for each, known in names.items()}
    alike = folded.get(word[0].casefold()) if word else None
    if alike is None:
        return "expected one of nDCG@k, RR@k, R@k, P@k, Success@k, Judged@k, AP, Rprec and Bpref"
    bare, _, options = name.partition("(")
    if options:
        options, _, after = options.partition(")" if ")" in options else "@")
        bare += "@" + after.lstrip("@") if after else ""
    at = _cure_cutoff(alike, bare)
    if alike == "nDCG" and "dcg" in options.casefold():
        return (
            f'another gain than the grade itself, as in trec_eval, is not offered: write "nDCG{at}"'
        )
    least = re.search(r"rel *= *(-?[0-9]+)", options)
    if least is None or alike in _WITHOUT_REL:
        return f'write "{alike}{at}"'
    if int(least[1]) < 1:
        return f'rel, the least grade that is relevant, starts at 1: write "{alike}(rel=1){at}"'
    return f'write "{alike}(rel={int(least[1])}){at}"'


def _cure_cutoff(alike: str, bare: str) -> str:
    """The cutoff that was meant, with its @; nothing where there is none to give."""
    if alike in _WITHOUT_CUTOFF:
        return ""
    cutoff = re.search(r"(?<![0-9])[1-9][0-9]{0,5}\Z", bare)
    if cutoff or alike in _NEEDS_CUTOFF or "@" in bare:
        return f"@{cutoff[0] if cutoff else 10}"
    return ""
