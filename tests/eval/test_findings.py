"""What a terminal is told about a run."""

import pytest

from rocketrank.data import RunEntry
from rocketrank.eval.findings import describe_findings, describe_judgements
from rocketrank.eval.judging import JudgeOptions, judge_run
from rocketrank.eval.results import AnswerMarks, Findings, Ordering, RunResult


def found(*measures: str, **findings: object) -> RunResult:
    values = {each: {"q1": 0.5, "q2": 0.0, "q3": 1.0} for each in measures or ("MRR@10",)}
    told = Findings(**findings)  # type: ignore[arg-type]
    return RunResult(name="run", values=values, findings=told)


def described(*measures: str, **findings: object) -> list[str]:
    return describe_findings(found(*measures, **findings))


def test_a_run_with_nothing_odd_gives_no_sentence() -> None:
    run = [RunEntry("q", "a", 1, 2.0), RunEntry("q", "b", 2, 1.0)]
    options = JudgeOptions(measures=("MRR@10",))
    assert describe_findings(judge_run(run, {"q": {"a": 1, "b": 0}}, options, name="run")) == []


def test_missing_queries_are_told_as_they_were_counted() -> None:
    assert described(missing=("q2",)) == [
        "1 of 3 judged queries is not in the run (such as q2) and counts as 0; --missing skip "
        "leaves it out"
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
        (
            {"duplicates": {"q1": 2, "q3": 1}},
            "2 queries have passages that were retrieved more than once (such as q1); each counts",
            "3 further occurrences are left out",
        ),
        ({"self_hits": ("q1",)}, "1 query has a passage with the query's own id", "--drop-self"),
        (
            {"self_hits": ("q1",), "drops_self": True},
            "1 query has a passage with the query's own id (such as q1), which was left out",
            "left out",
        ),
        (
            {"all_tied": ("q1", "q2")},
            "2 queries have scores that are all equal in single precision, as trec_eval holds them",
            "--order rank",
        ),
        ({"disordered": ("q3",)}, "1 query has ranks that contradict the scores", "--order rank"),
        (
            {"orderings": {"MRR@10": Ordering(0.5, 0.25, 0.125, 0.75)}},
            "MRR@10 depends on the order: 0.5000 (in the table) by score, equal ones by id, as in "
            "trec_eval; 0.2500 by the run's ranks; from 0.1250 to 0.7500",
            "scores that differ in single precision make it one figure",
        ),
        (
            {"judged": {1: 1.0, 10: 0.904}, "judged_per_query": 200.0},
            "90.4% of the first 10 passages",
            "not relevant",
        ),
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


def test_measures_deeper_than_the_longest_list_are_told_with_what_they_are() -> None:
    measures = ("R(rel=2)@100", "R(rel=2)@1000", "nDCG@500", "AP")
    assert described(*measures, longest=100) == [
        "no list has more than 100 passages, so R(rel=2)@1000 is R(rel=2)@100; search deeper for it"
    ]
    assert described("top-5", "top-20", "Success@100", longest=1) == [
        "no list has more than 1 passage, so top-5 is top-1, top-20 is top-1 and Success@100 is "
        "Success@1; search deeper for them"
    ]


def test_lists_that_are_empty_or_long_enough_are_not_told() -> None:
    assert described("top-100", longest=0) == []
    assert described("R@1000", "R@10", longest=1000) == []


def test_by_rank_nothing_recommends_to_go_by_rank() -> None:
    findings = {
        "tied": ("q1",),
        "all_tied": ("q1",),
        "disordered": ("q2",),
        "orderings": {"MRR@10": Ordering(0.5, 0.25, 0.125, 0.75)},
    }
    by_rank = described(order="rank", **findings)
    assert len(by_rank) == 3
    assert not any("--order rank" in sentence for sentence in by_rank)
    assert "0.2500 (in the table) by the run's ranks" in by_rank[2]
    by_score = described(order="score", **findings)
    assert not any("--order score" in sentence for sentence in by_score)
    assert "0.5000 (in the table) by score" in by_score[2]


def test_the_cure_for_ranks_that_contradict_scores_is_not_the_one_for_ties() -> None:
    def cure(run: str) -> str:
        fields = [line.split() for line in run.split("; ")]
        entries = [RunEntry("q", each, int(rank), float(score)) for each, rank, score in fields]
        options = JudgeOptions(measures=("MRR@10",))
        result = judge_run(entries, {"q": {"a": 1}}, options, name="run")
        return describe_findings(result)[-1].rpartition("; ")[2]

    assert cure("a 1 1; b 2 2") == "scores that fall with the rank make it one figure"
    assert cure("a 1 1; b 2 1") == "scores that differ in single precision make it one figure"
    assert cure("a 1 1; b 2 1; c 3 2") == (
        "scores that differ in single precision and that fall with the rank make it one figure"
    )


def test_scores_beyond_single_precision_are_said_to_be_equal_there() -> None:
    run = [RunEntry("q", "a", 1, 1e300), RunEntry("q", "b", 2, 1e200)]
    options = JudgeOptions(measures=("MRR@10",))
    sentence = describe_findings(judge_run(run, {"q": {"a": 1}}, options, name="run"))[0]
    assert "all equal in single precision, as trec_eval holds them" in sentence
    assert "one score" not in sentence


@pytest.mark.parametrize(
    "findings",
    [
        {"judged": {10: 0.95}, "judged_per_query": 200.0},
        {"judged": {10: 0.1}, "judged_per_query": 1.1},
        {"judged": {1: 0.5, 100: 0.5}, "judged_per_query": 200.0},
    ],
)
def test_shares_that_are_high_of_few_judgements_or_of_other_depths_are_not_told(
    findings: dict[str, object],
) -> None:
    assert described(**findings) == []


def test_a_single_one_is_told_in_the_singular() -> None:
    (sentence,) = described(duplicates={"q1": 1})
    assert sentence.endswith("and 1 further occurrence is left out")
    (sentence,) = described(answers=AnswerMarks(textless=1))
    assert sentence.startswith("1 passage has no text")
    (sentence,) = described(answers=AnswerMarks(marked=1, unlike=1))
    assert sentence.startswith("1 of 1 mark (has_answer) in the file is not what")


def test_what_is_true_of_the_judgements_is_told_once_for_all_runs() -> None:
    one, two = (found(without_relevant=ids) for ids in (("q1", "q2"), ("q2", "q1")))
    assert describe_findings(one) == []
    assert describe_judgements([one, two]) == [
        "2 of the judged queries have no relevant passage (such as q1) and can only count as 0; "
        "take them out of the judgements for means over the others"
    ]
    (sentence,) = describe_judgements([found(without_relevant=("q1",))])
    assert "1 of the judged queries has no" in sentence
    assert "take it out" in sentence
    assert describe_judgements([found(missing=("q1",))]) == []


def test_questions_have_sentences_without_the_options_of_judgements() -> None:
    result = found(
        "top-1",
        missing=("q2",),
        without_relevant=("q1", "q2"),
        unjudged=("x",),
        order="rank",
        answers=AnswerMarks(),
    )
    assert describe_findings(result) == [
        "1 of 3 questions has no passages (such as q2) and counts as not found, as in DPR",
        "1 query of the run is none of the questions (such as x) and is left out",
    ]
    assert describe_judgements([result, result]) == [
        "2 of the 3 questions have no answer to look for (such as q1) and count as not found, as "
        "in DPR"
    ]
