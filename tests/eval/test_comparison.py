"""Systems against a baseline: by hand, against SciPy, and what must not change."""

import math
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rocketrank.errors import UsageError
from rocketrank.eval.comparison import compare
from rocketrank.eval.results import RunResult


def result(name: str, **values: Mapping[str, float]) -> RunResult:
    return RunResult(name=name, values=values)


def drawn(name: str, seed: int, shift: float = 0.0, size: int = 40) -> RunResult:
    generator = random.Random(seed)
    values = {f"q{number}": generator.random() + shift for number in range(size)}
    return result(name, AP=values, RR=dict.fromkeys(values, shift))


OURS = result("ours", AP={"1": 0.5, "2": 0.9, "3": 0.25, "4": 0.1})
BASE = result("base", AP={"1": 0.5, "2": 0.3, "3": 0.5, "4": 0.0})


def test_wins_ties_losses_and_the_difference_are_as_counted_by_hand() -> None:
    (found,) = compare([OURS, BASE], "base")
    assert (found.system, found.baseline, found.measure) == ("ours", "base", "AP")
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.mean == pytest.approx(1.75 / 4)
    assert found.baseline_mean == pytest.approx(1.3 / 4)
    assert found.difference == pytest.approx(0.45 / 4)


def test_the_queries_that_changed_come_largest_first_and_without_ties() -> None:
    (found,) = compare([OURS, BASE], "base")
    assert found.changed == (("2", 0.9, 0.3), ("3", 0.25, 0.5), ("4", 0.1, 0.0))
    (found,) = compare([OURS, BASE], "base", changed=1)
    assert found.changed == (("2", 0.9, 0.3),)
    (found,) = compare([OURS, BASE], "base", changed=0)
    assert found.changed == ()


def test_equal_changes_come_by_query_id_though_their_rounding_differs() -> None:
    ours = result("ours", AP={"b": 0.3, "a": 0.2, "c": 0.9})
    base = result("base", AP={"b": 0.1, "a": 0.0, "c": 1.1})
    assert 0.3 - 0.1 != 0.2 - 0.0
    (found,) = compare([ours, base], "base")
    assert [query_id for query_id, *_ in found.changed] == ["a", "b", "c"]


def test_values_that_differ_by_rounding_alone_are_a_tie() -> None:
    ours = result("ours", AP={"1": 0.1 + 0.2, "2": 0.5, "3": 0.5 + 1e-8})
    base = result("base", AP={"1": 0.3, "2": 0.5, "3": 0.5})
    assert ours.values["AP"]["1"] != base.values["AP"]["1"]
    (found,) = compare([ours, base], "base")
    assert (found.wins, found.ties, found.losses) == (1, 2, 0)
    assert [query_id for query_id, *_ in found.changed] == ["3"]


def test_one_system_has_the_p_value_of_scipys_paired_t_test() -> None:
    ours, base = drawn("ours", 1, 0.1), drawn("base", 2)
    found = compare([base, ours], "base", measures=["AP"])[0]
    theirs = stats.ttest_rel(list(ours.values["AP"].values()), list(base.values["AP"].values()))
    assert found.t_test == pytest.approx(theirs.pvalue, rel=1e-9)


def test_few_queries_have_scipys_exact_permutation_test() -> None:
    ours, base = drawn("ours", 3, 0.2, size=9), drawn("base", 4, size=9)
    found = compare([base, ours], "base", measures=["AP"])[0]
    theirs = stats.permutation_test(
        (list(ours.values["AP"].values()), list(base.values["AP"].values())),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=math.inf,
        vectorized=True,
    )
    assert found.randomisation == pytest.approx(theirs.pvalue)


def test_p_values_of_several_systems_are_adjusted_by_hand_measure_by_measure() -> None:
    base = drawn("base", 1)
    others = [drawn(f"s{seed}", seed, shift) for seed, shift in ((2, 0.05), (3, 0.3), (4, 0.15))]
    alone = [compare([base, one], "base", measures=["AP"])[0] for one in others]
    together = compare([base, *others], "base", measures=["AP", "RR"])
    for of in ("t_test", "randomisation"):
        one, two, three = (getattr(each, of) for each in alone)
        assert two < three < one  # by which the least is times 3, the next times 2
        expected = [max(one, 2 * three, 3 * two), 3 * two, max(2 * three, 3 * two)]
        found = [getattr(each, of) for each in together if each.measure == "AP"]
        assert found == pytest.approx([min(1.0, each) for each in expected])


def test_differences_come_system_by_system_and_then_by_measure() -> None:
    found = compare([drawn("b", 1), drawn("base", 2), drawn("a", 3)], "base")
    assert [(each.system, each.measure) for each in found] == [
        ("b", "AP"),
        ("b", "RR"),
        ("a", "AP"),
        ("a", "RR"),
    ]


def test_the_measures_are_those_that_all_results_have_unless_asked_for() -> None:
    ours = result("ours", RR=OURS.values["AP"], AP=OURS.values["AP"], P=OURS.values["AP"])
    base = result("base", AP=BASE.values["AP"], RR=BASE.values["AP"])
    assert [each.measure for each in compare([ours, base], "base")] == ["AP", "RR"]
    found = compare([ours, base], "base", measures=["RR", "RR"])
    assert [each.measure for each in found] == ["RR"]


def test_a_system_that_is_the_baseline_under_another_name_is_no_different() -> None:
    (found,) = compare([result("copy", AP=BASE.values["AP"]), BASE], "base")
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert (found.t_test, found.randomisation) == (1, 1)
    assert (found.wins, found.ties, found.losses, found.changed) == (0, 4, 0, ())


VALUES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    min_size=2,
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_swapping_system_and_baseline_turns_every_sign(
    values: dict[str, tuple[float, float]],
) -> None:
    one = result("one", AP={query_id: pair[0] for query_id, pair in values.items()})
    two = result("two", AP={query_id: pair[1] for query_id, pair in values.items()})
    (there,) = compare([one, two], "two", rounds=200)
    (back,) = compare([one, two], "one", rounds=200)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
    assert back.t_test == pytest.approx(there.t_test)
    assert back.randomisation == there.randomisation
    assert back.changed == tuple((query_id, b, a) for query_id, a, b in there.changed)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_queries_changes_nothing(
    values: dict[str, tuple[float, float]], generator: random.Random
) -> None:
    def system(name: str, place: int) -> RunResult:
        order = list(values)
        generator.shuffle(order)
        return result(name, AP={query_id: values[query_id][place] for query_id in order})

    first = compare([system("one", 0), system("two", 1)], "two", rounds=50)
    assert compare([system("one", 0), system("two", 1)], "two", rounds=50) == first


def test_a_wider_confidence_gives_a_wider_interval_around_the_difference() -> None:
    results = [drawn("ours", 1, 0.1), drawn("base", 2)]
    wide, narrow = (
        compare(results, "base", measures=["AP"], confidence=each)[0] for each in (0.99, 0.8)
    )
    assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high


def refusal(*results: RunResult, baseline: str = "base", **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        compare(results, baseline, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_baseline_that_is_none_of_the_results_is_answered_with_their_names() -> None:
    assert 'did you mean "base" (given: ours, base)?' in refusal(OURS, BASE, baseline="bass")
    message = refusal(OURS, BASE, baseline="quite another")
    assert '"quite another" is not among the results: name one of ours, base' in message


def test_two_results_of_one_name_are_named_with_their_places() -> None:
    assert 'the results 1 and 3 have one name, "ours"' in refusal(OURS, BASE, OURS)


def test_a_baseline_alone_is_nothing_to_compare() -> None:
    assert "nothing to compare" in refusal(BASE)


def test_results_over_other_queries_are_refused_with_an_example() -> None:
    other = result("other", AP={"1": 0.5, "2": 0.5, "5": 0.5})
    message = refusal(OURS, other, BASE)
    assert '"other" and the baseline "base" were not measured on the same queries' in message
    assert "AP: 1 of 3 and 2 of 4 are in one only, such as 5" in message
    fewer = result("fewer", AP={"1": 0.5, "2": 0.5, "3": 0.5})
    assert "AP: 0 of 3 and 1 of 4 are in one only, such as 4" in refusal(fewer, BASE)


def test_a_single_query_is_refused_with_both_names() -> None:
    message = refusal(result("ours", AP={"1": 0.5}), result("base", AP={"1": 0.5}))
    assert '"ours" and the baseline "base" have values of AP for 1 queries' in message


def test_a_measure_that_a_result_lacks_is_refused() -> None:
    assert 'the measure "RR" is not in all results: those that are in all are AP' in refusal(
        OURS, BASE, measures=["RR"]
    )
    assert "ours: AP; base: RR" in refusal(OURS, result("base", RR=BASE.values["AP"]))
    assert 'write ["AP"]' in refusal(OURS, BASE, measures="AP")


def test_a_negative_number_of_changed_queries_is_refused() -> None:
    assert "changed (-1)" in refusal(OURS, BASE, changed=-1)


def test_two_names_of_one_measure_are_compared_as_one() -> None:
    values = {"1": 0.5, "2": 1.0, "3": 0.25}
    one = RunResult(name="one", values={"MRR@10": values})
    two = RunResult(name="two", values={"RR@10": {**values, "3": 0.5}})
    [found] = compare([one, two], "one")
    assert (found.measure, found.wins, found.ties) == ("MRR@10", 1, 2)
    assert compare([one, two], "one", measures=["RR@10"]) == [found]


def test_the_cure_for_other_queries_names_the_option() -> None:
    one = RunResult(name="one", values={"AP": {"1": 1.0, "2": 0.5}})
    two = RunResult(name="two", values={"AP": {"1": 1.0}})
    with pytest.raises(UsageError, match="--missing zero"):
        compare([one, two], "one")
