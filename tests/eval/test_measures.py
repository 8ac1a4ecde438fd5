"""Measures against numbers worked out by hand and against published figures."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rocketrank.data import read_qrels, read_run
from rocketrank.errors import UsageError
from rocketrank.eval import canonical_name, evaluate, mean

RUN = {"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}}


def test_ndcg_is_the_grades_over_the_logarithm_of_the_rank_and_of_the_best_order() -> None:
    values = evaluate(RUN, {"q": {"b": 1, "c": 3, "e": 2}}, ["nDCG@3"])
    gained = 1 / math.log2(3) + 3 / math.log2(4)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert values["nDCG@3"]["q"] == pytest.approx(gained / best, abs=1e-12)


def test_average_precision_recall_and_success_are_as_worked_out_by_hand() -> None:
    values = evaluate(RUN, {"q": {"b": 1, "d": 1, "e": 1}}, ["AP", "R@3", "Success@1", "P@4"])
    assert values["AP"]["q"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert values["R@3"]["q"] == pytest.approx(1 / 3)
    assert values["Success@1"]["q"] == 0
    assert values["P@4"]["q"] == 0.5


@pytest.mark.parametrize(("measure", "value"), [("RR@2", 0.0), ("RR@3", 1 / 3), ("RR", 1 / 3)])
def test_the_reciprocal_rank_is_0_beyond_its_cutoff(measure: str, value: float) -> None:
    assert evaluate(RUN, {"q": {"c": 1}}, [measure])[measure]["q"] == pytest.approx(value)


@pytest.mark.parametrize("rank", [3, 10, 49, 93, 999])
def test_the_last_rank_within_a_cutoff_counts(rank: int) -> None:
    run = {"q": {str(each): -float(each) for each in range(1, 1001)}}
    measures = [f"RR@{rank - 1}", f"RR@{rank}"]
    values = evaluate(run, {"q": {str(rank): 1}}, measures)
    assert [values[each]["q"] for each in measures] == [0.0, pytest.approx(1 / rank)]


def test_an_alias_gives_the_values_of_its_measure_under_the_name_that_was_asked_for() -> None:
    values = evaluate(RUN, {"q": {"c": 1}}, ["MRR@10", "RR@10", "Recall@5", "MAP"])
    assert list(values) == ["MRR@10", "RR@10", "Recall@5", "MAP"]
    assert values["MRR@10"] == values["RR@10"] == {"q": pytest.approx(1 / 3)}


def test_a_relevance_level_counts_the_grades_from_it_on() -> None:
    qrels = {"q": {"a": 1, "c": 2}}
    values = evaluate(RUN, qrels, ["RR(rel=2)@10", "RR@10", "AP(rel=2)", "nDCG@10"])
    assert values["RR(rel=2)@10"]["q"] == pytest.approx(1 / 3)
    assert values["RR@10"]["q"] == 1
    assert values["AP(rel=2)"]["q"] == pytest.approx(1 / 3)
    assert values["nDCG@10"] == evaluate(RUN, qrels, ["nDCG@10"])["nDCG@10"]


def test_judged_only_closes_the_gaps_that_unjudged_passages_leave() -> None:
    values = evaluate(RUN, {"q": {"b": 0, "c": 1}}, ["RR(judged_only=True)@2", "RR@2"])
    assert values["RR(judged_only=True)@2"]["q"] == 0.5
    assert values["RR@2"]["q"] == 0


def test_every_judged_query_counts_and_no_other() -> None:
    run = {"found": {"a": 1.0}, "unjudged": {"a": 1.0}, "empty": {}}
    qrels = {"missing": {"a": 1}, "found": {"a": 1}, "empty": {"a": 1}, "irrelevant": {"a": 0}}
    values = evaluate(run, {**qrels, "without": {}}, ["nDCG@10", "AP", "RR@10"])
    for of in values.values():
        assert of == {"missing": 0, "found": 1, "empty": 0, "irrelevant": 0, "without": 0}
        assert list(of) == [*qrels, "without"]
        assert mean(of) == pytest.approx(1 / 5)


def test_an_empty_run_is_0_for_every_query() -> None:
    assert evaluate({}, {"q": {"a": 1}}, ["nDCG@10"]) == {"nDCG@10": {"q": 0.0}}


def test_equal_scores_are_ordered_by_descending_id() -> None:
    run = {"q": {"p10": 1.0, "p9": 1.0, "p1": 1.0}}
    first = [evaluate(run, {"q": {each: 1}}, ["RR"])["RR"]["q"] for each in ("p9", "p10", "p1")]
    assert first == pytest.approx([1, 1 / 2, 1 / 3])


def test_scores_that_differ_in_double_precision_only_are_equal() -> None:
    higher = 1 + 1e-9
    assert np.float32(higher) == np.float32(1)
    run = {"q": {"a": higher, "b": 1.0}}
    assert evaluate(run, {"q": {"a": 1}}, ["RR"])["RR"]["q"] == 0.5
    assert evaluate(run | {"q": {"a": -1.0, "b": -2.0}}, {"q": {"a": 1}}, ["RR"])["RR"]["q"] == 1


def test_the_order_of_single_precision_scores_is_kept() -> None:
    score = np.float32(0.7)
    run = {"q": {"a": float(np.nextafter(score, np.float32(1))), "b": float(score)}}
    assert evaluate(run, {"q": {"a": 1}}, ["RR"])["RR"]["q"] == 1


def test_numbers_of_numpy_are_taken() -> None:
    run: Any = {"q": {"a": np.float32(0.5), "b": np.float64(0.25)}}
    qrels: Any = {"q": {"b": np.int64(1)}}
    assert evaluate(run, qrels, ["RR@10"])["RR@10"]["q"] == 0.5


def test_a_grade_below_0_is_not_relevant() -> None:
    qrels = {"q": {"a": -2, "b": 1}}
    assert evaluate(RUN, qrels, ["RR@10"])["RR@10"]["q"] == 0.5
    assert evaluate(RUN, qrels, ["nDCG@10"])["nDCG@10"]["q"] == pytest.approx(1 / math.log2(3))


def test_cutoffs_of_an_earlier_call_are_forgotten() -> None:
    qrels = {"q": {"c": 1}}
    first = evaluate(RUN, qrels, ["nDCG@2", "R@2"])
    assert evaluate(RUN, qrels, ["nDCG@3", "R@3"]) == {"nDCG@3": {"q": 0.5}, "R@3": {"q": 1.0}}
    assert (
        evaluate(RUN, qrels, ["nDCG@2", "R@2"])
        == first
        == {
            "nDCG@2": {"q": 0.0},
            "R@2": {"q": 0.0},
        }
    )


@pytest.mark.parametrize(
    ("measure", "cure"),
    [
        ("ndcg@10", 'write "nDCG@10"'),
        ("recall_100", 'write "R@100"'),
        ("nDCG@0", 'write "nDCG@10"'),  # trec_eval would end the process
        ("R", 'write "R@10"'),
        ("Rprec@5", 'write "Rprec"'),
        ("nDCG(rel=2)@10", 'write "nDCG@10"'),
        ("map", 'write "AP"'),
        ("recip_rank", 'write "RR"'),
        ("ndcg_cut_10", 'write "nDCG@10"'),
        ("ndcg_cut.10", 'write "nDCG@10"'),
        ("P_10", 'write "P@10"'),
        ("success_1", 'write "Success@1"'),
        ("rprec", 'write "Rprec"'),
        ("bpref", 'write "Bpref"'),
        ("AP(rel=2", 'write "AP(rel=2)"'),
        ("R(rel=2@50", 'write "R(rel=2)@50"'),
        ("AP(rel=0)", 'starts at 1: write "AP(rel=1)"'),
        ("R(rel=0)@100", 'starts at 1: write "R(rel=1)@100"'),
        ('nDCG(dcg="exp-log2")@10', 'is not offered: write "nDCG@10"'),
        ("accuracy", "expected one of nDCG@k, RR@k"),
        ("", "expected one of nDCG@k, RR@k"),
        ("__import__('os')", "expected one of nDCG@k, RR@k"),
    ],
)
def test_a_measure_that_is_not_known_is_named_with_its_cure(measure: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(RUN, {"q": {"a": 1}}, [measure])
    assert f'"{measure}"' in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("MRR@10", "RR@10"),
        ("MAP(rel=2)", "AP(rel=2)"),
        ("Recall@5", "R@5"),
        ("nDCG@10", "nDCG@10"),
        ("top-5", "top-5"),
    ],
)
def test_other_names_of_a_measure_have_one_canonical_name(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


def test_one_measure_instead_of_a_list_is_refused() -> None:
    with pytest.raises(UsageError, match=r'write \["nDCG@10"\]'):
        evaluate(RUN, {"q": {"a": 1}}, "nDCG@10")


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_named(score: float) -> None:
    with pytest.raises(UsageError, match=f"query q and passage b is {score}"):
        evaluate({"q": {"a": 1.0, "b": score}}, {"q": {"a": 1}}, ["RR"])


@pytest.mark.parametrize("grade", [0.5, 2**40])
def test_a_grade_that_is_no_small_integer_is_named(grade: int) -> None:
    with pytest.raises(UsageError, match=f"passage a to query q is {grade}"):
        evaluate(RUN, {"q": {"a": grade}}, ["RR"])


def test_the_mean_of_no_queries_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one query"):
        mean({})


def test_importing_the_part_loads_no_library_of_measures_or_tests() -> None:
    code = (
        "import sys, rocketrank.eval; "
        "print([name for name in ('ir_measures', 'scipy', 'paddle') if name in sys.modules])"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=source, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("system", "published"),
    [
        ("bm25", 0.5058),
        ("bm25_rm3", 0.5216),
        ("d_bert_kd_tasb", 0.7210),
        ("open_ai_ada2", 0.7035),
        ("splade_p_p_ensemble_distil", 0.7308),
    ],
)
def test_trec_dl_2019_has_its_published_figures(
    shared_data: Path, system: str, published: float
) -> None:
    qrels: dict[str, dict[str, int]] = {}
    for judgement in read_qrels(_file(shared_data, "qrels.dl19*")):
        qrels.setdefault(judgement.query_id, {})[judgement.passage_id] = judgement.relevance
    run: dict[str, dict[str, float]] = {}
    for entry in read_run(_file(shared_data, f"runs/*.{system}.trec")):
        run.setdefault(entry.query_id, {})[entry.passage_id] = entry.score
    values = evaluate(run, qrels, ["nDCG@10"])["nDCG@10"]
    assert len(values) == 43
    assert round(mean(values), 4) == published


def _file(data: Path, pattern: str) -> Path:
    (found,) = (data / "msmarco").glob(pattern)
    return found
