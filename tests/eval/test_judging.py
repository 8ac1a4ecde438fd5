"""Judging runs: ties, missing queries, duplicates and the like, each by an example by hand."""

from pathlib import Path
from typing import Any

import pytest

from rocketrank.data import RunEntry
from rocketrank.errors import DataError, UsageError
from rocketrank.eval.judging import JudgeOptions, judge_run, load_qrels
from rocketrank.eval.measures import evaluate, mean
from rocketrank.eval.presets import expand_measures
from rocketrank.eval.results import Ordering, RunResult, TopHit


def judged(
    run: str | list[RunEntry] | Path, qrels: dict[str, dict[str, int]], **options: Any
) -> RunResult:
    """``run`` as "query passage rank score; …"."""
    if isinstance(run, str):
        fields = [line.split() for line in run.split(";")]
        run = [RunEntry(q, p, int(rank), float(score)) for q, p, rank, score in fields]
    measures = tuple(options.pop("measures", ["MRR@10"]))
    return judge_run(run, qrels, JudgeOptions(measures=measures, **options), name="run")


def test_one_score_for_all_passages_is_no_perfect_reciprocal_rank() -> None:
    run = [RunEntry("q", f"p{number}", number, 0.5) for number in range(1, 10)]
    for relevant, trec_eval, own in (("p1", 1 / 9, 1), ("p9", 1, 1 / 9), ("p5", 1 / 5, 1 / 5)):
        result = judged(run, {"q": {relevant: 1}})
        assert result.findings.all_tied == ("q",)
        assert result.values["MRR@10"]["q"] == pytest.approx(trec_eval)
        ordering = Ordering(trec_eval, own, worst=1 / 9, best=1)
        assert result.findings.orderings["MRR@10"] == pytest.approx(ordering)


def test_by_rank_equal_scores_keep_the_order_of_the_run() -> None:
    result = judged("q a 2 1; q b 1 1; q c 3 1", {"q": {"a": 1}}, order="rank")
    assert result.values["MRR@10"] == {"q": 0.5}
    assert result.findings.orderings["MRR@10"] == pytest.approx((1 / 3, 1 / 2, 1 / 3, 1))


def test_equal_ranks_go_by_the_line() -> None:
    run = "q a 0 1; q b 0 3; q c 0 2"
    assert judged(run, {"q": {"b": 1}}, order="rank").values["MRR@10"] == {"q": 0.5}


def test_ties_that_move_no_mean_give_no_orderings() -> None:
    result = judged("q a 1 3; q b 2 2; q c 3 2", {"q": {"a": 1, "b": 0}})
    assert result.findings.tied == ("q",)
    assert result.findings.all_tied == ()
    assert result.findings.orderings == {}


def test_only_the_measures_that_depend_on_the_order_are_listed() -> None:
    result = judged("q a 1 2; q b 2 2", {"q": {"a": 1}}, measures=["R@2", "R@1"])
    assert result.findings.orderings == {"R@1": (0, 1, 0, 1)}


def test_ranks_that_contradict_the_scores_are_found() -> None:
    result = judged("q a 1 1; q b 2 2; r a 1 2; r b 2 1", {"q": {"a": 1}, "r": {"a": 1}})
    assert result.findings.disordered == ("q",)
    assert result.values["MRR@10"] == {"q": 0.5, "r": 1}
    assert result.findings.orderings["MRR@10"] == (0.75, 1, 0.75, 0.75)


def test_ranks_within_a_tie_contradict_nothing() -> None:
    result = judged("q a 3 1; q b 1 1; q c 2 1.00000001", {"q": {"a": 1}})
    assert result.findings.disordered == ()


def test_a_missing_query_counts_as_0_or_is_left_out() -> None:
    qrels = {"here": {"a": 1}, "missing": {"a": 1}}
    zero, skip = (judged("here a 1 1", qrels, missing=each) for each in ("zero", "skip"))
    assert zero.values["MRR@10"] == {"here": 1, "missing": 0}
    assert skip.values["MRR@10"] == {"here": 1}
    assert zero.findings.missing == skip.findings.missing == ("missing",)
    assert (zero.recall[1], skip.recall[1]) == (0.5, 1)


def test_a_query_without_judgements_is_left_out_and_named() -> None:
    result = judged("q a 1 1; other a 1 1; q b 2 0", {"q": {"b": 1}})
    assert result.values["MRR@10"] == {"q": 0.5}
    assert result.findings.unjudged == ("other",)
    assert list(result.top) == ["q"]


def test_a_judged_query_without_relevant_passages_counts_as_0() -> None:
    result = judged("q a 1 1; r a 1 1", {"q": {"a": 1}, "r": {"a": 0}, "s": {}})
    assert result.values["MRR@10"] == {"q": 1, "r": 0, "s": 0}
    assert result.findings.without_relevant == ("r", "s")


def test_by_score_a_duplicate_counts_with_its_highest_score() -> None:
    run = "q a 1 1; q b 2 3; q c 3 2; q a 4 4"
    result = judged(run, {"q": {"c": 1}})
    assert [hit.passage_id for hit in result.top["q"]] == ["a", "b", "c"]
    assert result.top["q"][0].score == 4
    assert result.values["MRR@10"]["q"] == pytest.approx(1 / 3)
    assert result.findings.duplicates == {"q": 1}


def test_by_rank_a_duplicate_counts_where_it_comes_first() -> None:
    run = "q b 2 3; q a 4 9; q c 3 2; q a 1 1; q b 5 8"
    result = judged(run, {"q": {"c": 1}}, order="rank")
    assert [hit.passage_id for hit in result.top["q"]] == ["a", "b", "c"]
    assert result.findings.duplicates == {"q": 2}


def test_a_duplicate_of_a_relevant_passage_is_found_once() -> None:
    result = judged("q a 1 2; q a 2 1", {"q": {"a": 1, "b": 1}}, measures=["R@10", "nDCG@10"])
    assert result.values["R@10"]["q"] == 0.5
    assert result.values["nDCG@10"]["q"] < 1


def test_the_query_itself_counts_unless_it_is_dropped() -> None:
    qrels = {"q": {"a": 1}, "r": {"a": 1}}
    kept, dropped = (judged("q q 1 2; q a 2 1", qrels, drop_self=each) for each in (False, True))
    assert kept.values["MRR@10"]["q"] == 0.5
    assert dropped.values["MRR@10"]["q"] == 1
    assert kept.findings.self_hits == dropped.findings.self_hits == ("q",)
    assert (kept.findings.drops_self, dropped.findings.drops_self) == (False, True)


def test_a_list_with_nothing_but_the_query_itself_is_empty_and_not_missing() -> None:
    result = judged("q q 1 2", {"q": {"a": 1}}, drop_self=True, missing="skip")
    assert result.values["MRR@10"] == {"q": 0}
    assert result.findings.missing == ()
    assert result.top == {"q": ()}
    assert result.findings.judged == {}


def test_a_query_whose_lines_are_apart_is_judged_as_a_whole(tmp_path: Path) -> None:
    lines = [f"q{query} Q0 p{rank} {rank} {-rank} t\n" for rank in range(1, 6) for query in "ab"]
    path = tmp_path / "run"
    qrels = {"qa": {"p4": 1}, "qb": {"p1": 1, "p5": 1}}
    results = []
    for order in (lines, sorted(lines)):
        path.write_text("".join(order))
        options = JudgeOptions(measures=("MRR@10", "AP"))
        results.append(judge_run(path, qrels, options, name="run"))
    assert results[0] == results[1]
    assert results[0].values["MRR@10"] == {"qa": 0.25, "qb": 1}


def test_many_queries_are_measured_in_blocks_as_they_are_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    qrels = {str(query): {f"p{query % 90}": 1} for query in range(250)}
    scores = {query: {f"p{rank}": -float(rank) for rank in range(1000)} for query in qrels}
    path.write_text(
        "".join(
            f"{query} Q0 {passage} {rank} {score} t\n"
            for query, of in scores.items()
            for rank, (passage, score) in enumerate(of.items())
        )
    )
    result = judge_run(path, qrels, JudgeOptions(measures=("RR", "R@50")), name="run")
    assert result.values == evaluate(scores, qrels, ["RR", "R@50"])


def test_the_top_has_scores_and_grades_in_the_order_that_counts() -> None:
    run = "q a 1 2; q b 2 2; q c 3 1; q d 4 0"
    result = judged(run, {"q": {"a": 2, "c": 0}}, top=3)
    assert result.top == {"q": (TopHit("b", 2, None), TopHit("a", 2, 2), TopHit("c", 1, 0))}


def test_the_share_of_judged_passages_is_a_mean_over_the_lists() -> None:
    run = "q a 1 4; q b 2 3; q c 3 2; q d 4 1; r a 1 1; s a 1 1"
    qrels = {"q": {"a": 1, "b": 0, "z": 1}, "r": {"a": 0}, "missing": {"a": 1}}
    result = judged(run, qrels, measures=["nDCG@1", "R@3", "R@500", "AP"])
    assert result.findings.judged == pytest.approx({1: 1, 3: (2 / 3 + 1) / 2, 10: (2 / 4 + 1) / 2})


def test_recall_goes_as_deep_as_the_longest_list() -> None:
    run = "q a 1 4; q b 2 3; q c 3 2; r a 1 1"
    result = judged(run, {"q": {"a": 1, "c": 1}, "r": {"b": 1}}, depths=(3, 1, 2, 5))
    assert result.recall == {1: 0.25, 2: 0.25, 3: 0.5}


def test_a_run_of_no_judged_query_is_refused_with_an_id_of_either_side() -> None:
    for missing in ("zero", "skip"):
        with pytest.raises(
            UsageError,
            match=r"^run: expected .* 1 judged queries \(such as 'q'\), found none of them and 2 "
            r"other queries \(such as 'x'\): name the judgements",
        ):
            judged("x a 1 1; y a 1 1", {"q": {"a": 1}}, missing=missing)


def test_an_empty_run_is_refused_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(DataError, match=f"^{path}: expected a run, found no lines"):
        judged(path, {"q": {"a": 1}})
    with pytest.raises(DataError, match=r"^run: expected a run, found no lines"):
        judged([], {"q": {"a": 1}})


@pytest.mark.parametrize(
    ("measures", "grade"),
    [
        (["nDCG@10", "RR(rel=2)"], 2),
        (["R@10", "RR(rel=2)"], 1),
        (["RR(rel=2)", "Recall(rel=3)@10"], 3),
        (["Rprec", "AP"], 1),
    ],
)
def test_the_curve_is_of_the_recall_that_is_asked_for(measures: list[str], grade: int) -> None:
    grades = {"a": 1, "b": 2, "c": 3}
    result = judged("q a 1 3; q b 2 2; q c 3 1", {"q": grades}, measures=measures, depths=(1, 2, 3))
    ids = [each for each in grades if grades[each] >= grade]
    expected = {k: len(set("abc"[:k]) & set(ids)) / len(ids) for k in (1, 2, 3)}
    assert result.recall_grade == grade
    assert result.recall == pytest.approx(expected)


def test_the_length_of_the_longest_list_the_order_and_the_depth_of_judging_are_kept() -> None:
    qrels = {"q": {"a": 1, "b": 0}, "r": {"a": 1}}
    found = judged("q a 1 3; q b 2 2; q b 3 1; x a 1 1; r a 1 1", qrels, order="rank").findings
    assert (found.longest, found.order, found.judged_per_query) == (2, "rank", 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": []}, "give at least one measure"),
        ({"measures": ["ndcg@10"]}, 'write "nDCG@10"'),
        ({"missing": "drop"}, r"missing \(drop\) must be zero or skip"),
        ({"order": "id"}, r"order \(id\) must be score or rank"),
        ({"top": -1}, r"top \(-1\) must be at least 0"),
        ({"depths": (10, 0)}, r"a depth \(0\) must be from 1"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        judged("q a 1 1", {"q": {"a": 1}}, **options)


def test_no_judgements_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no judgements"):
        judged("q a 1 1", {})
    path = tmp_path / "qrels"
    for content in ("", "\n", "query-id\tcorpus-id\tscore\n"):
        path.write_text(content)
        with pytest.raises(DataError, match=f"{path}: expected relevance judgements, found none"):
            load_qrels(path)


def test_judgements_are_read_by_query(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("q 0 a 1\nr 0 a 0\nq 0 b 3\n")
    assert load_qrels(path) == {"q": {"a": 1, "b": 3}, "r": {"a": 0}}


def test_a_bad_line_of_a_run_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 a 1 1 t\nq Q0 b 2 nan t\n")
    with pytest.raises(DataError, match=f"{path}:2: expected a finite score, found 'nan'"):
        judged(path, {"q": {"a": 1}})


PUBLISHED = [
    ("bm25", 0.5058),
    ("bm25_rm3", 0.5216),
    ("d_bert_kd_tasb", 0.7210),
    ("open_ai_ada2", 0.7035),
    ("splade_p_p_ensemble_distil", 0.7308),
]


@pytest.mark.parametrize(("system", "published"), PUBLISHED)
def test_trec_dl_2019_has_its_published_figures(
    shared_data: Path, system: str, published: float
) -> None:
    folder = shared_data / "msmarco"
    options = JudgeOptions(measures=expand_measures([], "dl"))
    run = folder / "runs" / f"dl19.{system}.trec"
    result = judge_run(run, load_qrels(folder / "qrels.dl19.txt"), options, name=system)
    assert round(result.mean("nDCG@10"), 4) == published
    assert result.queries == 43


def test_judged_at_k_is_the_share_of_what_is_there_in_the_order_of_trec_eval() -> None:
    run = {"q": {"p10": 1.0, "p9": 1.0, "p1": 1.0}, "empty": {}}
    qrels = {"q": {"p9": 0, "p1": -1}, "empty": {"a": 1}, "missing": {"a": 1}}
    values = evaluate(run, qrels, ["Judged@1", "Judged@2", "Judged@10"])
    assert values["Judged@1"] == {"q": 1, "empty": 0, "missing": 0}  # p9 is first
    assert values["Judged@2"]["q"] == 0.5
    assert values["Judged@10"]["q"] == pytest.approx(2 / 3)


def test_judged_at_k_of_real_runs_is_what_the_findings_say(shared_data: Path) -> None:
    folder = shared_data / "msmarco"
    options = JudgeOptions(measures=("Judged@10", "Judged@50"))
    run = folder / "runs" / "dl19.splade_p_p_ensemble_distil.trec"
    result = judge_run(run, load_qrels(folder / "qrels.dl19.txt"), options, name="splade")
    assert result.findings.judged == pytest.approx(
        {10: mean(result.values["Judged@10"]), 50: mean(result.values["Judged@50"])}
    )
