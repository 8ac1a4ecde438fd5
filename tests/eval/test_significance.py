"""Tests and intervals against SciPy's own, exact enumerations and numbers by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rocketrank.errors import UsageError
from rocketrank.eval import (
    bootstrap_interval,
    crossed_bootstrap_interval,
    holm,
    paired_differences,
    paired_t_test,
    randomisation_test,
)


def values(size: int, seed: int, shift: float = 0.0) -> dict[str, float]:
    numbers = np.random.default_rng(seed).normal(shift, 1, size)
    return {f"q{place}": float(number) for place, number in enumerate(numbers)}


def test_the_t_test_is_scipys() -> None:
    a, b = values(43, 1, 0.3), values(43, 2)
    ours = paired_t_test(a, b)
    theirs = stats.ttest_rel(list(a.values()), list(b.values()))
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.difference == pytest.approx(ours.mean_a - ours.mean_b)
    assert ours.queries == 43


def test_the_t_test_of_three_differences_is_as_worked_out_by_hand() -> None:
    # differences 1, 2, 3: mean 2, standard error 1 / sqrt(3); 2 degrees of freedom have the
    # distribution function 1/2 + t / (2 sqrt(2 + t²))
    found = paired_t_test({"1": 1.0, "2": 2.0, "3": 3.0}, {"1": 0.0, "2": 0.0, "3": 0.0})
    t = 2 * math.sqrt(3)
    assert found.statistic == pytest.approx(t)
    assert found.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t))


@pytest.mark.parametrize(
    ("difference", "statistic", "p_value"),
    [(0.0, 0.0, 1.0), (0.5, math.inf, 0.0), (-0.5, -math.inf, 0.0)],
)
def test_differences_without_variance_have_a_certain_p_value(
    difference: float, statistic: float, p_value: float
) -> None:
    a = {str(number): difference for number in range(4)}
    found = paired_t_test(a, dict.fromkeys(a, 0.0))
    assert (found.statistic, found.p_value) == (statistic, p_value)


def test_pairs_are_made_by_query_and_not_by_order() -> None:
    a, b = values(20, 1), values(20, 2)
    turned = dict(reversed(b.items()))
    assert paired_t_test(a, turned) == paired_t_test(a, b)
    assert randomisation_test(a, turned) == randomisation_test(a, b)


def test_all_sign_patterns_of_few_queries_are_counted_exactly() -> None:
    # of the 8 sums of ±1 ±2 ±4, only 7 and -7 are as large as the observed 7
    found = randomisation_test({"1": 1.0, "2": 2.0, "3": 4.0}, {"1": 0.0, "2": 0.0, "3": 0.0})
    assert found.p_value == 2 / 8
    assert found.statistic == found.difference == pytest.approx(7 / 3)


def test_equal_sums_count_though_they_are_rounded_in_another_order() -> None:
    a = {"1": 0.1, "2": 0.2, "3": 0.3, "4": -0.6}
    assert randomisation_test(a, dict.fromkeys(a, 0.0)).p_value == 1


def test_an_exact_randomisation_test_is_scipys() -> None:
    a, b = values(10, 3, 0.8), values(10, 4)
    theirs = stats.permutation_test(
        (list(a.values()), list(b.values())),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=math.inf,
        vectorized=True,
    )
    assert randomisation_test(a, b).p_value == pytest.approx(theirs.pvalue)


def test_a_random_randomisation_test_is_near_the_exact_one() -> None:
    a, b = values(12, 3, 0.5), values(12, 4)
    exact = randomisation_test(a, b, rounds=2**12).p_value
    drawn = randomisation_test(a, b, rounds=2**12 - 1, seed=5).p_value
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 2**12))


def test_a_randomisation_test_of_many_queries_agrees_with_the_t_test() -> None:
    a, b = values(300, 5, 0.15), values(300, 6)
    expected = paired_t_test(a, b).p_value
    assert 0.005 < expected < 0.5
    assert randomisation_test(a, b).p_value == pytest.approx(expected, abs=0.02)


def test_the_smallest_p_value_of_a_random_test_is_one_in_its_rounds() -> None:
    a = {str(number): 1.0 for number in range(60)}
    assert randomisation_test(a, dict.fromkeys(a, 0.0), rounds=999).p_value == 1 / 1000


def test_a_seed_gives_its_figures_again() -> None:
    a, b = values(30, 1), values(30, 2)
    assert randomisation_test(a, b, seed=7) == randomisation_test(a, b, seed=7)
    assert randomisation_test(a, b, seed=7) != randomisation_test(a, b, seed=8)
    assert bootstrap_interval(a, seed=7) == bootstrap_interval(a, seed=7)
    assert bootstrap_interval(a, seed=7) != bootstrap_interval(a, seed=8)


def test_the_bootstrap_interval_is_near_scipys() -> None:
    sample = values(80, 9, 0.4)
    theirs = stats.bootstrap(
        (list(sample.values()),),
        np.mean,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    low, high = bootstrap_interval(sample, confidence=0.9)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_bootstrap_interval_of_two_values_is_as_worked_out_by_hand() -> None:
    # the mean of two draws from 0 and 1 is 0, 1/2 or 1, with chances 1/4, 1/2 and 1/4
    assert bootstrap_interval({"1": 0.0, "2": 1.0}) == (0.0, 1.0)
    assert bootstrap_interval({"1": 0.0, "2": 1.0}, confidence=0.4) == (0.5, 0.5)


def test_values_that_are_all_alike_have_an_interval_of_no_width() -> None:
    assert bootstrap_interval(dict.fromkeys("abc", 0.25)) == (0.25, 0.25)


def test_a_block_of_rounds_at_a_time_gives_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = values(50, 1, 0.2), values(50, 2)
    whole = randomisation_test(a, b, rounds=1001), bootstrap_interval(a, rounds=1001)
    monkeypatch.setattr("rocketrank.eval.significance._BLOCK", 700)
    assert (randomisation_test(a, b, rounds=1001), bootstrap_interval(a, rounds=1001)) == whole


def test_seeds_that_differ_widen_the_interval_and_seeds_alike_do_not() -> None:
    sample = values(200, 11)
    alone = bootstrap_interval(sample)
    alike = crossed_bootstrap_interval([sample, sample, sample])
    shifted = [{query: one + by for query, one in sample.items()} for by in (-1.0, 0.0, 1.0)]
    apart = crossed_bootstrap_interval(shifted)
    assert alike == pytest.approx(alone, abs=0.02)
    # the mean of three draws from -1, 0 and 1 has the standard deviation sqrt(2) / 3
    spread = math.hypot((alone[1] - alone[0]) / 3.92, math.sqrt(2) / 3)
    assert (apart[1] - apart[0]) / 3.92 == pytest.approx(spread, rel=0.1)


def test_holm_is_as_worked_out_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below an earlier one
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == min(1, len(p_values) * min(p_values))
    ordered = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_queries_that_one_system_lacks_are_counted() -> None:
    with pytest.raises(UsageError) as caught:
        paired_differences({"1": 0.0, "2": 0.0, "3": 0.0}, {"1": 0.0, "4": 0.0})
    assert "3 queries" in str(caught.value)
    assert "2 of the 3 of the first, 1 of the 2 of the second, such as 2" in str(caught.value)


def test_a_single_query_is_refused() -> None:
    with pytest.raises(UsageError, match="values of 1 queries: expected at least 2"):
        paired_t_test({"1": 1.0}, {"1": 0.0})


def test_a_value_that_is_not_finite_is_named() -> None:
    with pytest.raises(UsageError, match="query 2 is nan"):
        bootstrap_interval({"1": 1.0, "2": math.nan})


def test_seeds_over_other_queries_are_refused() -> None:
    with pytest.raises(UsageError, match="2 queries are in one of the runs 1 and 2 only"):
        crossed_bootstrap_interval([{"1": 0.0, "2": 0.0}, {"1": 0.0, "3": 0.0}])
    with pytest.raises(UsageError, match="at least one run"):
        crossed_bootstrap_interval([])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_0_and_1_is_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match=f"confidence \\({confidence}\\)"):
        bootstrap_interval({"1": 1.0, "2": 0.0}, confidence=confidence)


def test_no_rounds_are_refused() -> None:
    with pytest.raises(UsageError, match=r"rounds \(0\)"):
        randomisation_test({"1": 1.0, "2": 0.0}, {"1": 1.0, "2": 0.0}, rounds=0)


def test_a_p_value_outside_0_and_1_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.5"):
        holm([0.1, 1.5])
