"""What the losses keep whatever the scores: invariances, padding, ties, extremes, types."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketrank.backbone import paddle_module
from rocketrank.training.losses import contrastive, distillation, partial_ranking, supervised

paddle = paddle_module()
reproducible = settings(max_examples=40, deadline=None, derandomize=True)

Array: TypeAlias = NDArray[Any]


class Lists(NamedTuple):
    """Student and teacher (B, N) float32, real (B, N) bool; column 0 is real."""

    student: Array
    teacher: Array
    real: Array


class Outcome(NamedTuple):
    """A loss's value, and its gradients to student and teacher: zeros where none flows."""

    value: float
    student: Array
    teacher: Array


def ranked(s: Any, t: Any, real: Any) -> Any:
    return partial_ranking(s, t, real, hardest=3, margin=2.0)[0]


def ranked_with_easy(s: Any, t: Any, real: Any) -> Any:
    # the list's own scores, without their gradient, stand for those of other queries' passages
    easy = s.detach().astype("float32") - 1.0
    return partial_ranking(s, t, real, hardest=3, margin=2.0, easy=easy, easy_real=real)[0]


MEANS: Mapping[str, Callable[..., Any]] = {
    "supervised": lambda s, t, real, **count: supervised(t, real, **count),
    "eq. 4": distillation,
    "other direction": partial(distillation, direction="teacher_student"),
    "static": partial(distillation, teacher_gradient=False),
    "contrastive": lambda s, t, real, **count: contrastive(
        s, real, paddle.zeros([s.shape[0]], dtype="int64"), **count
    ),
}
LOSSES: Mapping[str, Callable[..., Any]] = {
    **MEANS,
    "partial ranking": ranked,
    "partial ranking, easy": ranked_with_easy,
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def outcome(name: str, lists: Lists) -> Outcome:
    s, t = (paddle.to_tensor(x, stop_gradient=False) for x in (lists.student, lists.teacher))
    loss = LOSSES[name](s, t, paddle.to_tensor(lists.real))
    loss.backward()
    assert loss.dtype == paddle.float32
    gradients = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in (s, t)]
    return Outcome(float(loss), gradients[0], gradients[1])


def assert_close(found: Outcome, wanted: Outcome) -> None:
    np.testing.assert_allclose(found.value, wanted.value, atol=1e-5)
    np.testing.assert_allclose(found.student, wanted.student, atol=1e-5)
    np.testing.assert_allclose(found.teacher, wanted.teacher, atol=1e-5)


# so that a shift by eighths, of up to a million, is exact in float32
EIGHTHS = st.integers(-48, 48).map(lambda i: i / 8)


@st.composite
def ranking_lists(
    draw: st.DrawFn, scores: st.SearchStrategy[float] = EIGHTHS, *, distinct: bool = True
) -> Lists:
    """Up to 3 queries of up to 6 candidates; ``distinct``: no two student scores are equal."""
    queries, candidates = draw(st.integers(1, 3)), draw(st.integers(1, 6))

    def matrix(values: st.SearchStrategy[Any], *, unique: bool = False) -> Array:
        row = st.lists(values, min_size=candidates, max_size=candidates, unique=unique)
        return np.array([draw(row) for _ in range(queries)])

    student = matrix(scores, unique=distinct).astype(np.float32)
    teacher = matrix(scores).astype(np.float32)
    real = matrix(st.booleans())
    real[:, 0] = True
    return Lists(student, teacher, real)


shifts = st.lists(st.integers(-8_000_000, 8_000_000).map(lambda i: i / 8), min_size=3, max_size=3)


@every_loss
@reproducible
@given(lists=ranking_lists(), student_shifts=shifts, teacher_shifts=shifts)
def test_adding_a_constant_to_a_list_changes_nothing(
    name: str, lists: Lists, student_shifts: list[float], teacher_shifts: list[float]
) -> None:
    by_query = [
        np.array(shift[: len(lists.real)], np.float32)[:, None]
        for shift in (student_shifts, teacher_shifts)
    ]
    moved = Lists(lists.student + by_query[0], lists.teacher + by_query[1], lists.real)
    assert_close(outcome(name, moved), outcome(name, lists))


@every_loss
@reproducible
@given(lists=ranking_lists(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_negatives_does_not_matter(name: str, lists: Lists, random: Any) -> None:
    negatives = list(range(1, lists.real.shape[1]))
    random.shuffle(negatives)
    order = [0, *negatives]
    wanted = outcome(name, lists)
    found = outcome(name, Lists(*(x[:, order] for x in lists)))
    assert_close(found, Outcome(wanted.value, wanted.student[:, order], wanted.teacher[:, order]))


@every_loss
@reproducible
@given(
    lists=ranking_lists(),
    value=st.sampled_from([0.0, 1e9, -1e30, -3e38, 3e38, np.inf, -np.inf, np.nan]),
)
def test_padding_may_hold_any_value_and_gets_no_gradient(
    name: str, lists: Lists, value: float
) -> None:
    filled = [np.where(lists.real, x, np.float32(value)) for x in lists[:2]]
    found = outcome(name, Lists(filled[0], filled[1], lists.real))
    assert np.all(found.student[~lists.real] == 0.0)
    assert np.all(found.teacher[~lists.real] == 0.0)
    wanted = outcome(name, lists)
    assert found.value == wanted.value
    np.testing.assert_array_equal(found.student, wanted.student)
    np.testing.assert_array_equal(found.teacher, wanted.teacher)


@every_loss
@reproducible
@given(lists=ranking_lists(st.sampled_from([-500.0, 0.0, 500.0]), distinct=False))
def test_scores_of_500_give_finite_values_and_gradients(name: str, lists: Lists) -> None:
    assert all(np.all(np.isfinite(x)) for x in outcome(name, lists))


@every_loss
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@reproducible
@given(lists=ranking_lists(st.floats(-60.0, 60.0, width=16), distinct=False))
def test_half_precision_scores_give_the_loss_of_their_values_in_float32(
    name: str, precision: str, lists: Lists
) -> None:
    half = [paddle.to_tensor(x).astype(precision) for x in lists[:2]]
    real = paddle.to_tensor(lists.real)
    found = LOSSES[name](*half, real)
    assert found.dtype == paddle.float32
    assert float(found) == float(LOSSES[name](*(x.astype("float32") for x in half), real))


@every_loss
def test_a_single_candidate_costs_nothing_and_teaches_nothing(name: str) -> None:
    scores = np.array([[3.0], [-2.0]], np.float32)
    found = outcome(name, Lists(scores, -scores, np.ones((2, 1), np.bool_)))
    assert found.value == 0.0
    assert not found.student.any()
    assert not found.teacher.any()


@pytest.mark.parametrize("name", MEANS)
@reproducible
@given(lists=ranking_lists())
def test_chunks_divided_by_the_count_of_all_add_up_to_the_whole(name: str, lists: Lists) -> None:
    queries = len(lists.real)
    chunks = [[paddle.to_tensor(x[i : i + 1]) for x in lists] for i in range(queries)]
    found = sum(float(MEANS[name](*chunk, count=queries)) for chunk in chunks)
    assert found == pytest.approx(outcome(name, lists).value, abs=1e-5)


@reproducible
@given(lists=ranking_lists())
def test_sums_and_anchors_of_the_partial_ranking_add_up_over_chunks(lists: Lists) -> None:
    chunks = [[paddle.to_tensor(x[i : i + 1]) for x in lists] for i in range(len(lists.real))]
    parts = [partial_ranking(*chunk, hardest=3, margin=2.0) for chunk in chunks]
    whole, anchors = partial_ranking(*(paddle.to_tensor(x) for x in lists), hardest=3, margin=2.0)
    assert sum(queries for _, queries in parts) == anchors
    assert sum(float(total) for total, _ in parts) == pytest.approx(float(whole), abs=1e-5)


@reproducible
@given(lists=ranking_lists())
def test_no_divergence_is_negative_and_that_of_equal_distributions_is_zero(lists: Lists) -> None:
    for name in ("eq. 4", "other direction"):
        assert outcome(name, lists).value >= -1e-6
        same = outcome(name, lists._replace(teacher=lists.student + 2.0))
        np.testing.assert_allclose(same.value, 0.0, atol=1e-6)
        np.testing.assert_allclose(same.student, 0.0, atol=1e-6)


@reproducible
@given(lists=ranking_lists())
def test_without_an_anchor_the_loss_is_zero_and_its_gradient_too(lists: Lists) -> None:
    all_equal = lists._replace(teacher=np.ones_like(lists.teacher))
    s = paddle.to_tensor(all_equal.student, stop_gradient=False)
    t, real = paddle.to_tensor(all_equal.teacher), paddle.to_tensor(all_equal.real)
    total, anchors = partial_ranking(s, t, real, hardest=5, margin=100.0)
    total.backward()
    assert (float(total), anchors) == (0.0, 0)
    assert not s.grad.numpy().any()


@reproducible
@given(lists=ranking_lists(), below=st.integers(1, 40))
def test_negatives_far_below_the_positive_are_no_anchors(lists: Lists, below: int) -> None:
    lists.teacher[:, 0] = lists.teacher[:, 1:].max(axis=1, initial=0.0) + 1.0 + below / 8
    x = [paddle.to_tensor(values) for values in lists]
    total, anchors = partial_ranking(*x, hardest=5, margin=1.0, easy=x[0])
    assert (float(total), anchors) == (0.0, 0)


@reproducible
@given(lists=ranking_lists(), data=st.data())
def test_a_repeated_passage_is_treated_as_padding_by_the_partial_ranking(
    lists: Lists, data: st.DataObject
) -> None:
    size = lists.real.size
    flags = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    duplicate = np.array(flags).reshape(lists.real.shape)
    duplicate[:, 0] = False
    s, t, real = (paddle.to_tensor(x) for x in lists)
    found = partial_ranking(
        s, t, real, hardest=3, margin=2.0, duplicate=paddle.to_tensor(duplicate)
    )
    unique = paddle.to_tensor(lists.real & ~duplicate)
    wanted = partial_ranking(s, t, unique, hardest=3, margin=2.0)
    assert (float(found[0]), found[1]) == (float(wanted[0]), wanted[1])


@reproducible
@given(lists=ranking_lists(), extra=st.integers(0, 100))
def test_more_hardest_than_negatives_takes_them_all(lists: Lists, extra: int) -> None:
    x = [paddle.to_tensor(values) for values in lists]
    found = partial_ranking(*x, hardest=5 + extra, margin=2.0)
    wanted = partial_ranking(*x, hardest=lists.real.shape[1], margin=2.0)
    assert (float(found[0]), found[1]) == (float(wanted[0]), wanted[1])


@reproducible
@given(
    lists=ranking_lists(),
    value=st.sampled_from([0.0, 7.0, -3e38, 3e38, np.inf, np.nan]),
    positive=st.integers(0, 5),
)
def test_a_false_negative_that_is_not_allowed_has_no_influence_on_the_contrastive_loss(
    lists: Lists, value: float, positive: int
) -> None:
    queries, passages = lists.real.shape
    column = paddle.full([queries], positive % passages, dtype="int64")
    excluded = ~lists.real & (np.arange(passages) != positive % passages)
    values = []
    for scores in (lists.student, np.where(excluded, np.float32(value), lists.student)):
        s = paddle.to_tensor(scores, stop_gradient=False)
        loss = contrastive(s, paddle.to_tensor(lists.real), column)
        loss.backward()
        assert np.all(s.grad.numpy()[excluded] == 0.0)
        values.append(float(loss))
    assert values[0] == values[1]


@reproducible
@given(lists=ranking_lists())
def test_the_positive_counts_as_allowed_whatever_the_mask_says(lists: Lists) -> None:
    s, allowed = paddle.to_tensor(lists.student), lists.real.copy()
    column = paddle.zeros([len(allowed)], dtype="int64")
    wanted = float(contrastive(s, paddle.to_tensor(allowed), column))
    allowed[:, 0] = False
    assert float(contrastive(s, paddle.to_tensor(allowed), column)) == wanted
