"""Platt scaling against hand computation, scipy's minimiser, and what must not change it."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from rocketrank.errors import UsageError
from rocketrank.eval.calibration import cross_validated, fit_platt, probabilities


def drawn(seed: int, count: int = 400, *, shift: float = 1.5, rate: float = 0.2) -> Any:
    """Scores (n,) and labels (n,): relevant passages score higher by ``shift`` in the mean."""
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < rate
    labels[:2] = [True, False]
    return generator.normal(size=count) + shift * labels, labels


def by_scipy(scores: Any, labels: Any) -> Any:
    """Slope and intercept of the least cross-entropy with Platt's targets, by BFGS."""
    positives, negatives = labels.sum(), (~labels).sum()
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def cost(point: Any) -> Any:
        logits = point[0] * scores + point[1]
        value = np.sum(np.logaddexp(0, logits) - targets * logits)
        residuals = expit(logits) - targets
        return value, np.array([residuals @ scores, residuals.sum()])

    start = minimize(cost, [0.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-6})

    def curvature(point: Any) -> Any:
        weights = expit(point[0] * scores + point[1])
        weights = weights * (1 - weights)
        mixed = weights @ scores
        return np.array([[weights @ scores**2, mixed], [mixed, weights.sum()]])

    end = minimize(
        cost, start.x, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}
    )
    return end.x


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.7])
@pytest.mark.parametrize("shift", [0.2, 1.5, 6.0])
def test_slope_and_intercept_are_those_of_another_minimiser(shift: float, rate: float) -> None:
    for seed in range(5):
        scores, labels = drawn(seed, shift=shift, rate=rate)
        assert fit_platt(scores, labels) == pytest.approx(by_scipy(scores, labels), abs=1e-6)


@pytest.mark.parametrize("count", [1, 3, 50, 100_000])
def test_scores_that_tell_all_apart_reach_the_smoothed_targets(count: int) -> None:
    """By hand: at score 1 the probability is (n + 1) / (n + 2), at -1 it is 1 / (n + 2)."""
    scores = np.repeat([1.0, -1.0], count)
    slope, intercept = fit_platt(scores, scores > 0)
    assert slope == pytest.approx(math.log(count + 1), rel=1e-9)
    assert intercept == pytest.approx(0, abs=1e-9)


def test_two_scores_have_the_mean_target_of_each() -> None:
    """By hand: 2 of 3 at score 2 and 1 of 5 at score 0 are relevant; targets 4/5 and 1/7."""
    labels = np.array([1, 1, 0, 1, 0, 0, 0, 0])
    scaling = fit_platt([2, 2, 2, 0, 0, 0, 0, 0], labels)
    high, low = (2 * 4 / 5 + 1 / 7) / 3, (4 / 5 + 4 * 1 / 7) / 5
    assert probabilities([2.0, 0.0], *scaling) == pytest.approx([high, low], abs=1e-9)


def test_where_higher_scores_are_less_relevant_the_slope_is_below_zero() -> None:
    scores, labels = drawn(1)
    slope, intercept = fit_platt(scores, labels)
    turned = fit_platt(-scores, labels)
    assert turned == pytest.approx((-slope, intercept))


def test_probabilities_of_extreme_logits_are_zero_and_one() -> None:
    assert probabilities([-1e6, 0.0, 1e6], 1.0, 0.0).tolist() == [0.0, 0.5, 1.0]


SCORES = st.lists(st.tuples(st.integers(-200, 200), st.booleans()), min_size=4, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2 and len({score for score, _ in pairs}) > 1
)


@given(SCORES, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_an_affine_change_of_the_scores_changes_no_probability(
    pairs: list[tuple[int, bool]], factor: float, constant: float
) -> None:
    scores = np.array([score for score, _ in pairs], float) / 10
    labels = [label for _, label in pairs]
    changed = factor * scores + constant
    expected = probabilities(scores, *fit_platt(scores, labels))
    assert probabilities(changed, *fit_platt(changed, labels)) == pytest.approx(expected, abs=1e-6)


@given(SCORES)
def test_probabilities_rise_with_the_score_where_the_slope_is_above_zero(
    pairs: list[tuple[int, bool]],
) -> None:
    scores = np.array([score for score, _ in pairs], float) / 10
    scaling = fit_platt(scores, [label for _, label in pairs])
    steps = np.diff(probabilities(np.sort(scores), *scaling))
    assert (steps * np.sign(scaling.slope) >= 0).all()


@given(SCORES)
def test_the_mean_probability_is_the_mean_target(pairs: list[tuple[int, bool]]) -> None:
    """The derivative by the intercept is 0 at the minimum."""
    labels = np.array([label for _, label in pairs])
    scores = np.array([score for score, _ in pairs], float)
    positives, negatives = labels.sum(), (~labels).sum()
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    found = probabilities(scores, *fit_platt(scores, labels))
    assert found.mean() == pytest.approx(targets.mean(), abs=1e-8)


def test_figures_are_of_queries_that_were_not_fitted_on() -> None:
    """Two queries are a half each: the other's curve and share, by hand."""
    scores = np.array([3.0, 1.0, 0.5, 2.0, 2.5, -1.0, 0.0])
    labels = np.array([1, 0, 0, 1, 0, 0, 0])
    queries = np.array(["a", "a", "a", "b", "b", "b", "b"])
    figures = cross_validated(scores, labels, queries)
    assert figures is not None
    calibrated, base = np.empty(7), np.empty(7)
    for fitted, told in (("a", "b"), ("b", "a")):
        known = queries == fitted
        scaling = by_scipy(scores[known], labels[known] == 1)
        calibrated[queries == told] = expit(scaling[0] * scores[queries == told] + scaling[1])
        base[queries == told] = labels[known].mean()

    def log_loss(found: Any) -> float:
        return float(-np.mean(np.log(np.where(labels == 1, found, 1 - found))))

    assert figures.log_loss == pytest.approx(log_loss(calibrated), abs=1e-6)
    assert figures.base_log_loss == pytest.approx(log_loss(base))
    assert figures.brier == pytest.approx(np.mean((calibrated - labels) ** 2), abs=1e-6)
    assert figures.base_brier == pytest.approx(np.mean((base - labels) ** 2))


def test_scores_that_tell_beat_the_base_rate_and_those_that_do_not_tell_do_not() -> None:
    scores, labels = drawn(2, count=4000, shift=3.0)
    queries = np.arange(4000) // 10
    told = cross_validated(scores, labels, queries)
    noise = cross_validated(np.random.default_rng(3).normal(size=4000), labels, queries)
    assert told is not None
    assert noise is not None
    assert told.log_loss < 0.7 * told.base_log_loss
    assert told.brier < 0.7 * told.base_brier
    assert noise.log_loss == pytest.approx(noise.base_log_loss, rel=0.01)


@pytest.mark.parametrize(
    ("scores", "labels", "queries"),
    [
        ([1.0, 2.0, 3.0], [0, 1, 0], ["a", "a", "b"]),
        ([1.0, 2.0, 3.0], [0, 1, 0], ["a", "a", "a"]),
        ([1.0, 1.0, 3.0, 4.0], [0, 1, 0, 1], ["a", "a", "b", "b"]),
    ],
    ids=["a half without relevant passages", "one query", "equal scores in a half"],
)
def test_too_few_queries_have_no_figures(
    scores: list[float], labels: list[int], queries: list[str]
) -> None:
    assert cross_validated(scores, labels, queries) is None


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([1.0, math.nan], [0, 1], "the score at place 1 is nan: expected finite numbers"),
        ([math.inf, 1.0], [0, 1], "the score at place 0 is inf: expected finite numbers"),
        ([1.0, 2.0], [0, 0], "2 passages to calibrate on have no relevant one among them"),
        ([1.0, 2.0], [1, 1], "2 passages to calibrate on have no other one among them"),
        ([], [], "0 passages to calibrate on have no relevant one"),
        ([1.0, 2.0], [0, 2], "the label at place 1 is 2: expected 0 or 1"),
        ([1.5, 1.5], [0, 1], r"all 2 scores are 1\.5: expected scores that differ"),
        ([1.0, 2.0], [0], r"shape \(2,\) and labels of shape \(1,\)"),
    ],
)
def test_what_cannot_be_calibrated_is_a_sentence(scores: Any, labels: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit_platt(scores, labels)
