"""The losses against ``losses.npz``, against plain loops over the formulas, and by hand."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.backbone import paddle_module
from rocketrank.training.losses import contrastive, distillation, partial_ranking, supervised

paddle = paddle_module()

Array: TypeAlias = NDArray[Any]
Lists: TypeAlias = Mapping[str, Array]
TOLERANCE = 1e-5


def tensor(values: Array) -> Any:
    """Bool and integers as they are; floating point as float32 that wants a gradient."""
    if values.dtype.kind in "bi":
        return paddle.to_tensor(values)
    return paddle.to_tensor(values.astype(np.float32), stop_gradient=False)


def expect(loss: Any, inputs: Mapping[str, Any], value: float, gradients: Lists) -> None:
    """``loss`` has this value and these gradients; an input that is not named gets none."""
    loss.backward()
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(value, abs=TOLERANCE)
    for name, found in inputs.items():
        if name in gradients:
            np.testing.assert_allclose(found.grad.numpy(), gradients[name], atol=TOLERANCE)
        else:
            assert found.grad is None, f"a gradient flows into {name}"


# ---------------------------------------------------------------- the reference values

Loss = Callable[[Mapping[str, Any]], Any]


def ranked(hardest: int, margin: float, *, easy: bool) -> Loss:
    def loss(x: Mapping[str, Any]) -> Any:
        total, anchors = partial_ranking(
            x["student"],
            x["teacher"],
            x["real"],
            hardest=hardest,
            margin=margin,
            easy=x["easy"] if easy else None,
        )
        return total / anchors

    return loss


def distilled(**options: Any) -> Loss:
    return lambda x: distillation(x["student"], x["teacher"], x["real"], **options)


RELEASED_CODE: dict[str, Any] = {"direction": "teacher_student", "teacher_gradient": False}
ENTRIES: dict[str, Loss] = {
    "supervised": lambda x: supervised(x["teacher"], x["real"]),
    "kl_student_teacher": distilled(),
    "kl_teacher_student": distilled(**RELEASED_CODE),
    "kl_teacher_student_both": distilled(direction="teacher_student"),
    "kl_teacher_student_element": distilled(**RELEASED_CODE, count=60),
    "cprd_k6_margin3": ranked(6, 3.0, easy=False),
    "cprd_k6_margin3_easy": ranked(6, 3.0, easy=True),
    "cprd_k11_margin100": ranked(11, 100.0, easy=False),
    "cprd_k11_margin100_ties": ranked(11, 100.0, easy=True),
    "contrastive": lambda x: contrastive(x["scores"], x["allowed"], x["positive"]),
}


@pytest.fixture(scope="module")
def reference(shared_reference: Path) -> Lists:
    with np.load(shared_reference / "losses.npz") as entries:
        return dict(entries)


def test_every_loss_of_the_reference_is_compared(reference: Lists) -> None:
    assert {name[: -len("_loss")] for name in reference if name.endswith("_loss")} == set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
def test_values_and_gradients_are_those_of_the_reference(entry: str, reference: Lists) -> None:
    arrays = {name: reference[name] for name in ("student", "teacher", "real", "easy")}
    arrays |= {n: reference[f"contrastive_{n}"] for n in ("scores", "allowed", "positive")}
    if entry.endswith("_ties"):
        arrays["teacher"] = np.round(arrays["teacher"])
    inputs = {name: tensor(values) for name, values in arrays.items()}
    wanted = {
        name: reference[f"{entry}_d_{name}"]
        for name in inputs
        # float32 [0.] says in this file that no gradient flows
        if f"{entry}_d_{name}" in reference and reference[f"{entry}_d_{name}"].dtype == np.float64
    }
    scores = {name: inputs[name] for name in ("student", "teacher", "easy", "scores")}
    expect(ENTRIES[entry](inputs), scores, float(reference[f"{entry}_loss"]), wanted)


# ---------------------------------------------------------------- plain loops over the formulas


def logsumexp(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def loop_supervised(x: Lists) -> float:
    total = 0.0
    for logits, real in zip(x["teacher"], x["real"], strict=True):
        total += logsumexp(list(logits[real])) - logits[0]
    return total / len(x["teacher"])


def loop_distillation(x: Lists, log_of_p: str, log_of_r: str) -> float:
    total = 0.0
    for query in range(len(x["real"])):
        real = [j for j, is_real in enumerate(x["real"][query]) if is_real]
        p, r = x[log_of_p][query], x[log_of_r][query]
        p_norm, r_norm = logsumexp([p[j] for j in real]), logsumexp([r[j] for j in real])
        for j in real:
            total += math.exp(p[j] - p_norm) * ((p[j] - p_norm) - (r[j] - r_norm))
    return total / len(x["real"])


def loop_contrastive(x: Lists) -> float:
    total = 0.0
    for scores, allowed, positive in zip(x["scores"], x["allowed"], x["positive"], strict=True):
        seen = [j for j in range(len(scores)) if allowed[j] or j == positive]
        total += logsumexp([scores[j] for j in seen]) - scores[positive]
    return total / len(x["scores"])


def loop_partial_ranking(x: Lists, hardest: int, margin: float, *, easy: bool) -> float:
    total = 0.0
    for query in range(len(x["real"])):
        s, t = x["student"][query], x["teacher"][query]
        negatives = [
            j
            for j in range(1, len(s))
            if x["real"][query][j] and not ("duplicate" in x and x["duplicate"][query][j])
        ]
        hard = sorted(negatives, key=lambda j: -s[j])[:hardest]
        easy_scores = list(x["easy"][query][x["easy_real"][query]]) if easy else []
        terms = []
        for j in hard:
            beaten = [s[k] for k in hard if t[k] < t[j]] + easy_scores
            if t[j] >= t[0] - margin and beaten:
                terms.append(logsumexp([*beaten, s[j]]) - s[j])
        if terms:
            total += sum(terms) / len(terms)
    return total


def numerical_gradient(formula: Callable[[Lists], float], x: Lists, name: str) -> Array:
    """Central differences in float64."""
    step = 1e-5
    gradient = np.zeros_like(x[name])
    for place in np.ndindex(*gradient.shape):
        moved = []
        for sign in (1.0, -1.0):
            values = x[name].copy()
            values[place] += sign * step
            moved.append(formula({**x, name: values}))
        gradient[place] = (moved[0] - moved[1]) / (2 * step)
    return gradient


def random_lists(seed: int) -> dict[str, Array]:
    """Three queries of seven candidates, with padding, duplicates and easy negatives."""
    draw = np.random.default_rng(seed)
    real = draw.random((3, 7)) < 0.8
    real[:, 0] = True
    return {
        "student": draw.normal(scale=3.0, size=(3, 7)),
        "teacher": np.round(draw.normal(scale=3.0, size=(3, 7))),  # some of them equal
        "real": real,
        "duplicate": draw.random((3, 7)) < 0.2,
        "easy": draw.normal(scale=3.0, size=(3, 4)),
        "easy_real": draw.random((3, 4)) < 0.7,
        "scores": draw.normal(scale=3.0, size=(3, 9)),
        "allowed": draw.random((3, 9)) < 0.6,
        "positive": draw.integers(0, 9, size=3),
    }


LOOPS: dict[str, tuple[Loss, Callable[[Lists], float], tuple[str, ...]]] = {
    "supervised": (ENTRIES["supervised"], loop_supervised, ("teacher",)),
    "eq. 4": (
        distilled(),
        lambda x: loop_distillation(x, "student", "teacher"),
        ("student", "teacher"),
    ),
    "released code": (
        distilled(**RELEASED_CODE),
        lambda x: loop_distillation(x, "teacher", "student"),
        ("student",),
    ),
    "contrastive": (ENTRIES["contrastive"], loop_contrastive, ("scores",)),
    "partial ranking": (
        lambda x: partial_ranking(
            x["student"],
            x["teacher"],
            x["real"],
            hardest=4,
            margin=2.0,
            duplicate=x["duplicate"],
        )[0],
        lambda x: loop_partial_ranking(x, 4, 2.0, easy=False),
        ("student",),
    ),
    "partial ranking, easy": (
        lambda x: partial_ranking(
            x["student"],
            x["teacher"],
            x["real"],
            hardest=3,
            margin=4.0,
            duplicate=x["duplicate"],
            easy=x["easy"],
            easy_real=x["easy_real"],
        )[0],
        lambda x: loop_partial_ranking(x, 3, 4.0, easy=True),
        ("student", "easy"),
    ),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", LOOPS)
def test_values_and_gradients_are_those_of_plain_loops(name: str, seed: int) -> None:
    loss, formula, trained = LOOPS[name]
    x = random_lists(seed)
    inputs = {key: tensor(values) for key, values in x.items()}
    scores = {key: inputs[key] for key in ("student", "teacher", "easy", "scores")}
    gradients = {key: numerical_gradient(formula, x, key) for key in trained}
    expect(loss(inputs), scores, formula(x), gradients)


# ---------------------------------------------------------------- by hand


def rank_one_list(
    student: list[float], teacher: list[float], **options: Any
) -> tuple[float, int, list[float]]:
    """One list of real candidates → the sum, the queries with an anchor, the student's gradient."""
    s, t = tensor(np.array([student])), tensor(np.array([teacher]))
    total, anchors = partial_ranking(s, t, paddle.ones_like(t, dtype="bool"), **options)
    total.backward()
    return float(total), anchors, s.grad.numpy()[0].tolist()


def test_equally_ranked_negatives_do_not_compete() -> None:
    # 1 and 2 are equal to the teacher: each beats 3 alone, and 3 has nothing to beat
    found, anchors, _ = rank_one_list(
        [0.0, 0.5, 1.0, 2.0], [9.0, 4.0, 4.0, 1.0], hardest=3, margin=100.0
    )
    by_hand = (math.log1p(math.exp(2.0 - 0.5)) + math.log1p(math.exp(2.0 - 1.0))) / 2
    assert anchors == 1
    assert found == pytest.approx(by_hand, abs=1e-6)


def test_a_negative_below_the_margin_is_no_anchor_and_still_competes() -> None:
    # 2 is 6 below the positive, 1 is 3 below: with a margin of 5, 1 alone is an anchor
    found, anchors, gradient = rank_one_list(
        [0.0, 0.0, 0.0, 0.0], [9.0, 6.0, 3.0, 1.0], hardest=3, margin=5.0
    )
    assert anchors == 1
    assert found == pytest.approx(math.log(3.0), abs=1e-6)
    assert gradient == pytest.approx([0.0, 1 / 3 - 1, 1 / 3, 1 / 3], abs=1e-6)


def test_of_equal_scores_the_earlier_candidate_is_the_harder_one() -> None:
    _, _, gradient = rank_one_list(
        [0.0, 1.0, 1.0, 1.0], [9.0, 8.0, 7.0, 6.0], hardest=2, margin=100.0
    )
    assert gradient == pytest.approx([0.0, -0.5, 0.5, 0.0], abs=1e-6)


def test_easy_negatives_without_a_column_are_none() -> None:
    scores = ([0.0, 0.5, 1.0, 2.0], [9.0, 4.0, 3.0, 1.0])
    without = rank_one_list(*scores, hardest=3, margin=100.0)
    empty = rank_one_list(*scores, hardest=3, margin=100.0, easy=paddle.zeros([1, 0]))
    assert empty == without


def test_two_candidates_of_equal_scores_cost_the_logarithm_of_two() -> None:
    real = paddle.to_tensor([[True, True]])
    assert float(supervised(paddle.zeros([1, 2]), real)) == pytest.approx(math.log(2.0))


def test_the_divergence_of_a_half_from_a_quarter_is_known_in_both_directions() -> None:
    real = paddle.to_tensor([[True, True]])
    half = paddle.zeros([1, 2])
    quarter = paddle.to_tensor([[0.0, math.log(3.0)]])  # a quarter, three quarters
    there = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    back = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert float(distillation(half, quarter, real)) == pytest.approx(there, abs=1e-6)
    found = distillation(half, quarter, real, direction="teacher_student")
    assert float(found) == pytest.approx(back, abs=1e-6)


def test_a_list_of_padding_alone_adds_nothing() -> None:
    x = random_lists(0)
    real = x["real"].copy()
    real[1] = False
    s, t, all_but_one = tensor(x["student"]), tensor(x["teacher"]), tensor(real)
    kept = [tensor(x[key][[0, 2]]) for key in ("student", "teacher", "real")]
    assert float(supervised(t, all_but_one, count=3)) == pytest.approx(
        float(supervised(kept[1], kept[2], count=3)), abs=1e-6
    )
    assert float(distillation(s, t, all_but_one, count=3)) == pytest.approx(
        float(distillation(*kept, count=3)), abs=1e-6
    )
    whole, anchors = partial_ranking(s, t, all_but_one, hardest=7, margin=100.0)
    part, anchors_of_part = partial_ranking(*kept, hardest=7, margin=100.0)
    assert anchors == anchors_of_part
    assert float(whole) == pytest.approx(float(part), abs=1e-6)
