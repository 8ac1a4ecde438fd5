"""Random runs with everything odd in them against second implementations from the definitions."""

import ctypes
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytrec_eval
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rocketrank.data import RunEntry, write_run
from rocketrank.eval.judging import JudgeOptions, judge_run
from rocketrank.eval.results import RunResult

MEASURES = ("MRR@10", "R@2", "nDCG@10", "AP")
QUERIES = st.sampled_from(["q1", "q2", "q3", "p2"])
PASSAGES = st.sampled_from(["p1", "p2", "p10", "p9", "é", "\ue000", "\U0001f600"])
# some are equal in single precision only: near 0, near 1, from 2 ** 24 on, beyond its range
SCORES = st.sampled_from(
    (
        *(1e30, -1e30, 3e38, 1e300, 1e308, 5e-324, 1e-40, -1e-46, 0.0, -0.0),
        *(1.0, 1.00000001, 1.0000002, 16777216.0, 16777217.0, 0.1, 0.30000000000000004, 0.3),
    )
)
GRADES = st.sampled_from([-1, 0, 0, 1, 1, 2, 3])
QRELS = st.dictionaries(QUERIES, st.dictionaries(PASSAGES, GRADES, max_size=5), min_size=1)
ENTRY = st.builds(RunEntry, QUERIES, PASSAGES, st.integers(0, 5), SCORES)
RUN = st.lists(ENTRY, max_size=22)
random_runs = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Case(NamedTuple):
    run: list[RunEntry]
    qrels: dict[str, dict[str, int]]
    drop_self: bool
    missing: str
    order: str


CASES = st.builds(
    Case,
    RUN,
    QRELS,
    st.booleans(),
    st.sampled_from(["zero", "skip"]),
    st.sampled_from(["score", "rank"]),
)


def judge(path: Path, case: Case) -> RunResult:
    write_run(path, case.run)
    options: dict[str, Any] = case._asdict()
    del options["run"], options["qrels"]
    return judge_run(path, case.qrels, JudgeOptions(measures=MEASURES, **options), name="run")


def is_judged(case: Case) -> bool:
    return any(each.query_id in case.qrels for each in case.run)


def single(score: float) -> float:
    """The number that C's float holds."""
    return ctypes.c_float(score).value


def lists(case: Case, order: str) -> dict[str, list[str]]:
    """Query id → passage ids, best first, by sorting all lines and taking a passage's first."""
    lines = list(enumerate(case.run))
    if order == "score":
        lines.sort(key=lambda line: line[1].passage_id.encode(), reverse=True)
        lines.sort(key=lambda line: single(line[1].score), reverse=True)
    else:
        lines.sort(key=lambda line: (line[1].rank, line[0]))
    found: dict[str, list[str]] = {each.query_id: [] for each in case.run}
    for _, entry in lines:
        of_query = found[entry.query_id]
        is_self = entry.query_id == entry.passage_id
        if entry.passage_id not in of_query and not (is_self and case.drop_self):
            of_query.append(entry.passage_id)
    return found


def by_definition(ids: Sequence[str], grades: dict[str, int]) -> dict[str, float]:
    relevant = [each for each, grade in grades.items() if grade > 0]
    if not relevant:
        return dict.fromkeys(MEASURES, 0.0)
    ranks = [rank for rank, each in enumerate(ids, 1) if each in relevant]
    gains = [max(0, grades.get(each, 0)) for each in ids]
    best = sorted((grades[each] for each in relevant), reverse=True)

    def gained(gains: Sequence[int]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], 1))

    return {
        "MRR@10": 1 / ranks[0] if ranks and ranks[0] <= 10 else 0.0,
        "R@2": sum(rank <= 2 for rank in ranks) / len(relevant),
        "nDCG@10": gained(gains) / gained(best),
        "AP": sum(found / rank for found, rank in enumerate(ranks, 1)) / len(relevant),
    }


@random_runs
@given(case=CASES.filter(is_judged))
def test_values_and_lists_are_those_of_a_second_implementation(tmp_path: Path, case: Case) -> None:
    result = judge(tmp_path / "run", case)
    found = lists(case, case.order)
    counted = [each for each in case.qrels if each in found or case.missing == "zero"]
    for measure in MEASURES:
        assert result.values[measure] == pytest.approx(
            {
                each: by_definition(found.get(each, []), case.qrels[each])[measure]
                for each in counted
            }
        )
    assert {query_id: [hit.passage_id for hit in top] for query_id, top in result.top.items()} == {
        query_id: found[query_id] for query_id in counted if query_id in found
    }


@random_runs
@given(case=CASES.filter(is_judged))
def test_findings_are_those_of_counting(tmp_path: Path, case: Case) -> None:
    findings = judge(tmp_path / "run", case).findings
    of_query: dict[str, list[RunEntry]] = {}
    for entry in sorted(case.run, key=lambda entry: entry.rank):
        of_query.setdefault(entry.query_id, []).append(entry)
    judged = {each: of for each, of in of_query.items() if each in case.qrels}
    assert set(findings.missing) == case.qrels.keys() - of_query.keys()
    assert set(findings.unjudged) == of_query.keys() - case.qrels.keys()
    assert set(findings.self_hits) == {
        each for each, of in judged.items() if each in {entry.passage_id for entry in of}
    }
    assert dict(findings.duplicates) == {
        each: more
        for each, of in judged.items()
        if (more := len(of) - len({entry.passage_id for entry in of}))
    }
    for query_id, of in judged.items():
        best: dict[str, float] = {}
        for entry in of:
            if not (case.drop_self and entry.passage_id == query_id):
                score = single(entry.score)
                best[entry.passage_id] = max(score, best.get(entry.passage_id, score))
        scores = list(best.values())
        assert (query_id in findings.tied) == (len(set(scores)) < len(scores))
        assert (query_id in findings.all_tied) == (len(set(scores)) == 1 < len(scores))
        assert (query_id in findings.disordered) == (scores != sorted(scores, reverse=True))


@random_runs
@given(case=CASES.filter(is_judged))
def test_orderings_hold_the_means_of_every_way_to_break_ties(tmp_path: Path, case: Case) -> None:
    result = judge(tmp_path / "run", case)
    by_score, by_rank = lists(case, "score"), lists(case, "rank")
    for measure in MEASURES:
        means = [0.0] * 4
        for query_id in result.values[measure]:
            grades = case.qrels[query_id]
            possible = [
                by_definition(ids, grades)[measure]
                for ids in tie_breaks(case, query_id, by_score.get(query_id, []))
            ]
            own = by_definition(by_rank.get(query_id, []), grades)[measure]
            for at, value in enumerate((possible[0], own, min(possible), max(possible))):
                means[at] += value / result.queries
        if max(means) - min(means) > 1e-8:
            assert result.findings.orderings[measure] == pytest.approx(means)
        else:
            assert measure not in result.findings.orderings


def tie_breaks(case: Case, query_id: str, ids: list[str]) -> list[list[str]]:
    """``ids``, which are by score, and every order in which its ties could come instead."""

    def score(passage_id: str) -> float:
        return max(
            single(each.score)
            for each in case.run
            if (each.query_id, each.passage_id) == (query_id, passage_id)
        )

    ties = [list(tie) for _, tie in itertools.groupby(ids, key=score)]
    ways = itertools.product(*map(itertools.permutations, ties))
    return [list(itertools.chain.from_iterable(way)) for way in ways]


ONCE = st.lists(ENTRY, max_size=22, unique_by=lambda entry: (entry.query_id, entry.passage_id))


@random_runs
@given(run=ONCE, qrels=QRELS)
def test_a_run_without_duplicates_has_the_values_of_pytrec_eval(
    tmp_path: Path, run: list[RunEntry], qrels: dict[str, dict[str, int]]
) -> None:
    case = Case(run, qrels, False, "zero", "score")
    assume(is_judged(case))
    result = judge(tmp_path / "run", case)
    scores: dict[str, dict[str, float]] = {}
    for entry in run:
        scores.setdefault(entry.query_id, {})[entry.passage_id] = entry.score
    names = {"MRR@10": "recip_rank", "R@2": "recall_2", "nDCG@10": "ndcg_cut_10", "AP": "map"}
    direct = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate(scores)
    for measure, name in names.items():
        # lists have at most 7 passages, so that the cutoff at 10 takes nothing away
        expected = {each: direct[each][name] if each in direct else 0.0 for each in qrels}
        assert result.values[measure] == expected


@random_runs
@given(
    ranked=st.dictionaries(
        st.integers(1, 6),
        st.lists(st.integers(1, 16), unique=True, max_size=14),
    ),
    relevant=st.dictionaries(
        st.integers(1, 8), st.sets(st.integers(1, 16), min_size=1, max_size=2), min_size=1
    ),
    shuffled=st.randoms(use_true_random=False),
    has_scores=st.booleans(),
)
def test_by_rank_it_is_the_official_rule_of_ms_marco(
    tmp_path: Path,
    ranked: dict[int, list[int]],
    relevant: dict[int, set[int]],
    shuffled: Any,
    has_scores: bool,
) -> None:
    assume(any(ranked.get(query) for query in relevant))
    total = 0.0
    for query, passages in relevant.items():
        for rank, passage in enumerate(ranked.get(query, [])[:10], start=1):
            if passage in passages:
                total += 1 / rank
                break
    lines = [
        f"{query} Q0 {passage} {rank} {shuffled.choice([0.5, 0.5, rank])} t\n"
        if has_scores
        else f"{query}\t{passage}\t{rank}\n"
        for query, ids in ranked.items()
        for rank, passage in enumerate(ids, start=1)
    ]
    shuffled.shuffle(lines)
    path = tmp_path / "run"
    path.write_text("".join(lines))
    qrels = {str(query): {str(each): 1 for each in of} for query, of in relevant.items()}
    for order in ("rank",) if has_scores else ("rank", "score"):
        options = JudgeOptions(measures=("MRR@10",), order=order)  # type: ignore[arg-type]
        result = judge_run(path, qrels, options, name="run")
        assert result.mean("MRR@10") == pytest.approx(total / len(relevant))
