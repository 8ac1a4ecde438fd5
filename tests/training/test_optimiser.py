"""AdamW, its schedule, clipping and averages against plain NumPy and by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rocketrank.backbone import load_tower, paddle_module
from rocketrank.model_config import read_config
from rocketrank.training.models import named_parameters
from rocketrank.training.optimiser import Group, Optimiser, learning_rate_factor
from rocketrank.training.recipe import Stage

from .small_step import Array, Arrays

paddle = paddle_module()
nn = paddle.nn

PLAIN = Stage(weight_decay=0.0, clip=0.0, ema=0.0)
RATES = {"one": 1e-2, "two": 3e-3}
SHAPES = {"dense.weight": (3, 2), "dense.bias": (2,), "norm1.weight": (2,), "norm1.bias": (2,)}
NAMES = [f"{group}/{name}" for group in RATES for name in SHAPES]


def drawn(seed: int) -> Arrays:
    """A value for every parameter of both groups."""
    draw = np.random.default_rng(seed)
    shapes = [SHAPES[name.split("/")[1]] for name in NAMES]
    return {
        name: draw.normal(size=shape).astype(np.float32)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


class Trained:
    """Two small models and their optimiser."""

    def __init__(self, stage: Stage, values: Arrays) -> None:
        self.parameters = {
            name: paddle.create_parameter(
                list(value.shape),
                "float32",
                default_initializer=nn.initializer.Assign(value),
            )
            for name, value in values.items()
        }
        self.optimiser = Optimiser(
            [
                Group(group, {name: self.parameters[f"{group}/{name}"] for name in SHAPES}, rate)
                for group, rate in RATES.items()
            ],
            stage,
        )

    def step(self, gradients: Arrays, factor: float = 1.0, **options: Any) -> float:
        for name, gradient in gradients.items():
            # a backward pass, because that is where gradients come from
            (self.parameters[name] * paddle.to_tensor(gradient)).sum().backward()
        return self.optimiser.step(factor, **options)

    @property
    def values(self) -> Arrays:
        return {name: parameter.numpy() for name, parameter in self.parameters.items()}


class NumpyAdamW:
    """Loshchilov and Hutter's algorithm 2 in float64, decay before the step."""

    def __init__(self, stage: Stage, values: Arrays) -> None:
        self.stage = stage
        self.values = {name: value.astype(np.float64) for name, value in values.items()}
        self.first = {name: np.zeros_like(value) for name, value in self.values.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.values.items()}
        self.steps = 0

    def step(self, gradients: Arrays, factor: float = 1.0) -> None:
        self.steps += 1
        for group in RATES:
            members = [name for name in NAMES if name.startswith(group)]
            norm = math.sqrt(sum(float((gradients[n].astype(float) ** 2).sum()) for n in members))
            clip = self.stage.clip
            shrunk = clip / norm if clip and norm > clip else 1.0
            for name in members:
                self._move(name, gradients[name].astype(np.float64) * shrunk, RATES[group] * factor)

    def _move(self, name: str, gradient: Array, rate: float) -> None:
        if name.endswith("dense.weight"):
            self.values[name] *= 1 - rate * self.stage.weight_decay
        self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
        self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
        mean = self.first[name] / (1 - 0.9**self.steps)
        square = self.second[name] / (1 - 0.999**self.steps)
        self.values[name] -= rate * mean / (np.sqrt(square) + 1e-8)


def assert_close(found: Arrays, expected: Arrays, tolerance: float = 2e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=tolerance, err_msg=name)


def assert_same_bits(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# ---------------------------------------------------------------- AdamW


@pytest.mark.parametrize("clip", [0.0, 1.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_those_of_plain_numpy(clip: float, weight_decay: float) -> None:
    stage = replace(PLAIN, clip=clip, weight_decay=weight_decay)
    trained, by_hand = Trained(stage, drawn(0)), NumpyAdamW(stage, drawn(0))
    for number in range(1, 9):
        # some gradients are longer than the bound, some are not
        gradients = {name: each * 0.1 * number for name, each in drawn(number).items()}
        trained.step(gradients, factor=number / 8)
        by_hand.step(gradients, factor=number / 8)
    assert_close(trained.values, by_hand.values)


def test_decay_is_apart_from_the_gradient_and_spares_norms_and_biases() -> None:
    trained = Trained(replace(PLAIN, weight_decay=0.5), drawn(0))
    trained.step({name: np.zeros_like(each) for name, each in drawn(0).items()})
    factors = {"one": 1 - 1e-2 * 0.5, "two": 1 - 3e-3 * 0.5}
    expected = {
        name: value * (factors[name[:3]] if name.endswith("dense.weight") else 1)
        for name, value in drawn(0).items()
    }
    assert_close(trained.values, expected, 1e-7)


@pytest.mark.parametrize(
    "name", ["tiny-bert", "tiny-roberta", "tiny-mpnet", "tiny-distilbert", "tiny-ernie"]
)
def test_every_weight_of_a_linear_or_embedding_decays_and_no_other(
    shared_reference: Path, name: str
) -> None:
    folder = shared_reference / name
    layer = load_tower(folder, read_config(folder), pooling="mean", normalize=False)
    parameters = dict(named_parameters({"": layer}))
    before = {each: parameter.numpy() for each, parameter in parameters.items()}
    optimiser = Optimiser([Group("retriever", parameters, 1e-2)], replace(PLAIN, weight_decay=0.5))
    for parameter in parameters.values():
        (parameter * 0.0).sum().backward()
    optimiser.step(1.0)
    moved = {each for each in before if not np.array_equal(before[each], parameters[each].numpy())}
    # MPNet's bias of positions is an embedding by its class and a bias by its meaning.
    expected = {
        f"{prefix}.weight"
        for prefix, part in layer.named_sublayers()
        if isinstance(part, nn.Linear | nn.Embedding) and "relative_attention_bias" not in prefix
    }
    assert moved == expected


def test_a_gradient_is_clipped_by_the_norm_of_its_own_model() -> None:
    """Adam forgets the length of a single gradient, but not the ratio of two: 8 against 1 / 2."""
    stage = replace(PLAIN, clip=1.0)
    zeros = {name: np.zeros_like(each) for name, each in drawn(0).items()}
    weights = [each for each in NAMES if each.endswith("dense.weight")]
    long = {**zeros, **dict.fromkeys(weights, np.full((3, 2), 8 / math.sqrt(6), np.float32))}
    short = {name: each / 16 for name, each in long.items()}
    trained, by_hand = Trained(stage, drawn(0)), NumpyAdamW(stage, drawn(0))
    one = [name for name in NAMES if name.startswith("one")]
    first = {name: (long if name in one else short)[name] for name in NAMES}
    assert trained.step(first) == pytest.approx(8, rel=1e-6)
    by_hand.step(first)
    assert trained.step(short) == pytest.approx(0.5, rel=1e-6)
    by_hand.step(short)
    assert_close(trained.values, by_hand.values)
    # the first group's 8 became 1, the second group's 0.5 was left: moments say so
    state = trained.optimiser.state()
    moments = {n: float(np.linalg.norm(state[f"{n}/moment1_0"])) for n in weights}
    assert moments["one/dense.weight"] == pytest.approx(0.9 * 0.1 * 1 + 0.1 * 0.5, rel=1e-5)
    assert moments["two/dense.weight"] == pytest.approx(0.9 * 0.1 * 0.5 + 0.1 * 0.5, rel=1e-5)


def test_gradients_of_a_scaled_loss_are_scaled_back_before_anything_else() -> None:
    stage = replace(PLAIN, clip=1.0)
    plain, scaled = Trained(stage, drawn(0)), Trained(stage, drawn(0))
    for number in range(1, 4):
        norm = plain.step(drawn(number))
        larger = {name: each * 1024 for name, each in drawn(number).items()}
        assert scaled.step(larger, scale=1024.0) == norm
    assert_same_bits(scaled.values, plain.values)


def test_gradients_are_forgotten_after_a_step() -> None:
    trained, by_hand = Trained(PLAIN, drawn(0)), NumpyAdamW(PLAIN, drawn(0))
    for number in (1, 2):
        trained.step(drawn(number))
        by_hand.step(drawn(number))
        grads = [each.grad for each in trained.parameters.values()]
        assert all(grad is None or not grad.numpy().any() for grad in grads)
    assert_close(trained.values, by_hand.values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("group", RATES)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told(
    group: str, value: float
) -> None:
    stage = replace(PLAIN, clip=1.0, weight_decay=0.1, ema=0.9)
    trained = Trained(stage, drawn(0))
    trained.step(drawn(1))
    before, state = trained.values, trained.optimiser.state()
    broken = drawn(2)
    broken[f"{group}/dense.bias"][1] = value
    assert not math.isfinite(trained.step(broken))
    assert_same_bits(trained.values, before)
    assert_same_bits(trained.optimiser.state(), state)
    untouched = Trained(stage, drawn(0))
    for seed in (1, 3):
        untouched.step(drawn(seed))
    trained.step(drawn(3))
    assert_same_bits(trained.values, untouched.values)


# ---------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            "cosine",
            [1 / 3, 2 / 3, 1]
            + [(1 + math.cos(math.pi * done / 8)) / 2 for done in (1, 2, 3, 4, 5, 6, 7)],
        ),
    ],
)
def test_a_schedule_warms_up_and_falls_as_by_hand(schedule: Any, expected: list[float]) -> None:
    stage = replace(PLAIN, schedule=schedule, warmup=0.2)
    found = [learning_rate_factor(step, 10, stage) for step in range(10)]
    assert found == pytest.approx(expected)


def test_without_a_warm_up_the_first_step_has_the_whole_rate() -> None:
    for schedule in ("constant", "linear", "cosine"):
        stage = replace(PLAIN, schedule=schedule, warmup=0.0)
        assert learning_rate_factor(0, 7, stage) == 1.0
    assert learning_rate_factor(0, 1, replace(PLAIN, warmup=1.0)) == 0.5


@pytest.mark.parametrize("total", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_no_step_has_a_rate_of_zero_or_above_the_whole(total: int, warmup: float) -> None:
    for schedule in ("constant", "linear", "cosine"):
        stage = replace(PLAIN, schedule=schedule, warmup=warmup)
        assert all(0 < learning_rate_factor(step, total, stage) <= 1 for step in range(total))


# ---------------------------------------------------------------- averages, and going on


def test_the_average_follows_the_parameters_as_by_hand() -> None:
    trained = Trained(replace(PLAIN, ema=0.75), drawn(0))
    average = {name: value.astype(np.float64) for name, value in drawn(0).items()}
    for number in range(1, 5):
        trained.step(drawn(number))
        average = {name: 0.75 * average[name] + 0.25 * trained.values[name] for name in average}
    with trained.optimiser.averaged():
        assert_close(trained.values, average, 1e-6)


def test_after_averaging_every_parameter_is_what_it_was() -> None:
    trained = Trained(replace(PLAIN, ema=0.75), drawn(0))
    trained.step(drawn(1))
    before = trained.values
    with pytest.raises(InterruptedError), trained.optimiser.averaged():
        assert not np.array_equal(trained.values["one/dense.weight"], before["one/dense.weight"])
        raise InterruptedError
    assert_same_bits(trained.values, before)


def test_without_averages_the_parameters_stand_for_themselves() -> None:
    trained = Trained(PLAIN, drawn(0))
    trained.step(drawn(1))
    before = trained.values
    with trained.optimiser.averaged():
        assert_same_bits(trained.values, before)


def test_a_state_restored_into_another_optimiser_goes_on_with_the_same_bits() -> None:
    stage = replace(PLAIN, clip=1.0, weight_decay=0.1, ema=0.9)
    through = Trained(stage, drawn(0))
    for number in (1, 2, 3):
        through.step(drawn(number), factor=number / 3)
    kept = {name: value.copy() for name, value in through.optimiser.state().items()}
    resumed = Trained(stage, through.values)
    resumed.optimiser.restore(kept)
    assert_same_bits(resumed.optimiser.state(), kept)
    for number in (4, 5):
        through.step(drawn(number))
        resumed.step(drawn(number))
    assert_same_bits(resumed.values, through.values)
    assert_same_bits(resumed.optimiser.state(), through.optimiser.state())


def test_a_state_is_named_by_group_and_parameter_alike_in_every_run() -> None:
    one, other = Trained(PLAIN, drawn(0)), Trained(PLAIN, drawn(0))
    for each in (one, other):
        each.step(drawn(1))
    assert one.optimiser.state().keys() == other.optimiser.state().keys()
    assert {name.rsplit("/", 1)[0] for name in one.optimiser.state()} == set(NAMES)
