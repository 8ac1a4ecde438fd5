"""What a terminal is told about a run."""

import pytest

from rocketrank.data import RunEntry
from rocketrank.eval.findings import describe_findings
from rocketrank.eval.judging import JudgeOptions, judge_run
from rocketrank.eval.results import Findings, Ordering, RunResult


def described(**findings: object) -> list[str]:
    values = {"MRR@10": {"q1": 0.5, "q2": 0.0, "q3": 1.0}}
    told = Findings(**findings)  # type: ignore[arg-type]
    return describe_findings(RunResult(name="run", values=values, findings=told))


def test_a_run_with_nothing_odd_gives_no_sentence() -> None:
    run = [RunEntry("q", "a", 1, 2.0), RunEntry("q", "b", 2, 1.0)]
    options = JudgeOptions(measures=("MRR@10",))
    assert describe_findings(judge_run(run, {"q": {"a": 1, "b": 0}}, options, name="run")) == []


def test_missing_queries_are_told_as_they_were_counted() -> None:
    assert described(missing=("q2",)) == [
        "1 of 3 judged queries is not in the run (such as q2) and counts as 0; --missing skip "
        "leaves them out"
    ]
    assert described(missing=("q7", "q8")) == [
        "2 of 5 judged queries are not in the run (such as q7) and are left out; --missing zero "
        "counts them as 0"
    ]


def test_a_run_of_other_queries_is_told_as_such() -> None:
    (sentence,) = described(missing=("q1", "q2", "q3"))
    assert sentence.startswith("none of the 3 judged queries, such as q1, is in the run")


@pytest.mark.parametrize(
    ("findings", "start", "cure"),
    [
        ({"unjudged": ("x", "y")}, "2 queries of the run have no judgements (such as x)", "left"),
        ({"without_relevant": ("q1",)}, "1 of the judged queries has no relevant passage", "0"),
        (
            {"duplicates": {"q1": 2, "q3": 1}},
            "2 queries have passages that were retrieved more than once (such as q1), 3 times",
            "each counts once",
        ),
        ({"self_hits": ("q1",)}, "1 query has a passage with the query's own id", "--drop-self"),
        (
            {"self_hits": ("q1",), "drops_self": True},
            "1 query has a passage with the query's own id (such as q1), which was left out",
            "left out",
        ),
        ({"all_tied": ("q1", "q2")}, "2 queries have one score for all passages", "--order rank"),
        ({"disordered": ("q3",)}, "1 query has ranks that contradict the scores", "--order score"),
        (
            {"orderings": {"MRR@10": Ordering(0.5, 0.25, 0.125, 0.75)}},
            "MRR@10 depends on the order: 0.5000 as trec_eval orders equal scores, 0.2500 by",
            "from 0.1250 to 0.7500",
        ),
        ({"judged": {1: 1.0, 10: 0.904}}, "90.4% of the first 10 passages", "not relevant"),
    ],
)
def test_a_finding_is_one_sentence_with_its_numbers_and_its_cure(
    findings: dict[str, object], start: str, cure: str
) -> None:
    (sentence,) = described(**findings)
    assert sentence.startswith(start)
    assert cure in sentence
    assert "\n" not in sentence


def test_ties_that_move_nothing_are_not_told() -> None:
    assert described(tied=("q1", "q2")) == []
