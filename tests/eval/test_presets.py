"""Which measures a name stands for."""

import pytest

from rocketrank.errors import UsageError
from rocketrank.eval.measures import evaluate
from rocketrank.eval.presets import NQ_MEASURES, PRESETS, expand_measures


@pytest.mark.parametrize("preset", PRESETS)
def test_every_measure_of_a_preset_exists(preset: str) -> None:
    values = evaluate({"q": {"a": 1.0}}, {"q": {"a": 2}}, expand_measures([], preset))
    assert tuple(values) == PRESETS[preset]


def test_the_track_counts_grade_2_as_relevant_and_gains_every_grade() -> None:
    run = {"q": {"a": 2.0, "b": 1.0}}
    values = evaluate(run, {"q": {"a": 1, "b": 2}}, expand_measures([], "dl"))
    assert values["RR(rel=2)"]["q"] == values["AP(rel=2)"]["q"] == 0.5
    assert 0.5 < values["nDCG@10"]["q"] < 1


def test_given_measures_follow_those_of_the_preset_once_each() -> None:
    expanded = expand_measures(["R@100", "AP", "AP"], "beir")
    assert expanded == ("nDCG@10", "R@100", "MRR@10", "AP")


def test_one_argument_may_hold_several_measures() -> None:
    given = ["nDCG@10, R@5", "P(rel=2, judged_only=True)@5 AP"]
    assert expand_measures(given, None) == (
        "nDCG@10",
        "R@5",
        "P(rel=2, judged_only=True)@5",
        "AP",
    )


def test_without_measures_and_preset_it_is_beir() -> None:
    assert expand_measures([], None) == PRESETS["beir"]


def test_answer_accuracy_stands_alone() -> None:
    assert expand_measures([], "nq") == NQ_MEASURES
    assert expand_measures(["top-20"], None) == ("top-20",)


@pytest.mark.parametrize(
    ("given", "preset"), [(["nDCG@10"], "nq"), (["top-20"], "beir"), (["top-5,AP"], None)]
)
def test_answer_accuracy_with_measures_of_judgements_is_refused(
    given: list[str], preset: str | None
) -> None:
    with pytest.raises(UsageError, match="run the command once with --preset nq and once"):
        expand_measures(given, preset)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"\(trec\): expected one of msmarco, dl, beir, nq"):
        expand_measures([], "trec")


def test_an_accuracy_that_is_not_computed_is_refused() -> None:
    with pytest.raises(UsageError, match='"top-7": expected one of top-1, top-5'):
        expand_measures(["top-7"], None)
