"""Products in 8-bit integers against their arithmetic in NumPy, and how limits are chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13

from rocketrank.errors import DataError
from rocketrank.inference import choose_runtime, cpu_has_vnni
from rocketrank.integer_products import (
    Limits,
    Measuring,
    read_limits,
    save_limits,
    use_integers,
)

needs_vnni = pytest.mark.skipif(not cpu_has_vnni(), reason="this CPU has no 8-bit products")

WIDTH, OUTPUTS = 64, 16
Floats = NDArray[np.float32]


def floats(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product(weights: Floats) -> Any:
    """x (texts, tokens, width) → x weights."""
    states = opset13.parameter([-1, -1, len(weights)], np.float32, "states")
    states.output(0).get_tensor().set_names({"states"})
    result = opset13.matmul(states, opset13.constant(weights), False, False)
    return openvino.Model([opset13.result(result)], [states], "product")


def run(program: Any, states: Floats) -> Floats:
    compiled = openvino.Core().compile_model(program, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({"states": states})[0])


def by_hand(states: Floats, weights: Floats, limits: Limits) -> Floats:
    """Jacob et al., eq. 4: integers are multiplied, and their steps multiply the sums."""
    step = (limits.high - limits.low) / 255
    zero = round(-limits.low / step)
    divided = states.astype(np.float64) / limits.divisors
    activations = np.clip(np.rint(divided / step) + zero, 0, 255).astype(np.int64) - zero
    multiplied = weights.astype(np.float64) * limits.divisors[:, None]
    steps = np.abs(multiplied).max(axis=0) / 127
    integers = np.rint(multiplied / steps).astype(np.int64)
    sums: Floats = ((activations @ integers) * step * steps).astype(np.float32)
    return sums


@needs_vnni
@pytest.mark.parametrize("divisor", [1.0, 7.0])
def test_a_product_is_that_of_the_integers(divisor: float) -> None:
    weights, states = floats(1, WIDTH, OUTPUTS), floats(2, 2, 5, WIDTH)
    divisors = np.ones(WIDTH, dtype=np.float32)
    divisors[3] = divisor
    limits = Limits(divisors, -100 * 0.02, 155 * 0.02)
    program = product(weights)
    use_integers(program, [limits], Path("limits"))
    expected = by_hand(states, weights, limits)
    # one activation in a few hundred may lie at a half and be rounded to the other side
    step = 0.02 * np.abs(weights * divisors[:, None]).max()
    np.testing.assert_allclose(run(program, states), expected, atol=2 * step)
    assert np.median(np.abs(run(program, states) - expected)) < 1e-4


@needs_vnni
def test_a_channel_that_sticks_out_costs_the_others_little() -> None:
    weights, states = floats(1, WIDTH, OUTPUTS), floats(2, 1, 500, WIDTH)
    states[:, :, 7] *= 8
    measured = Limits(np.ones(WIDTH, dtype=np.float32), float(states.min()), float(states.max()))
    largest = np.abs(states).max(axis=(0, 1))
    divisors = np.maximum(1, largest / np.quantile(largest, 0.98)).astype(np.float32)
    divided = Limits(divisors, float((states / divisors).min()), float((states / divisors).max()))
    errors = []
    for limits in (measured, divided):
        program = product(weights)
        use_integers(program, [limits], Path("limits"))
        others = states.copy()
        others[:, :, 7] = 0
        errors.append(np.square(run(program, others) - others @ weights).mean())
    assert errors[1] < errors[0] / 4


def test_products_with_one_activation_share_its_limits(tmp_path: Path) -> None:
    states = opset13.parameter([-1, -1, WIDTH], np.float32, "states")
    first, second = (
        opset13.matmul(states, opset13.constant(floats(seed, WIDTH, WIDTH)), False, False)
        for seed in (1, 2)
    )
    last = opset13.matmul(first + second, opset13.constant(floats(3, WIDTH, 8)), False, False)
    program = openvino.Model([opset13.result(last)], [states], "products")
    one = Limits(np.ones(WIDTH, dtype=np.float32), -1.0, 1.0)
    with pytest.raises(DataError, match="limits of 3 activations, and the model has 2"):
        use_integers(program, [one] * 3, Path("int8.safetensors"))
    use_integers(program, [one] * 2, Path("int8.safetensors"))
    kinds = [node.get_type_name() for node in program.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 2


def measured(folder: Path, *texts: Floats, padding: int = 0) -> Limits:
    """The limits of the one activation of a program that reads tokens, over ``texts``."""
    table = np.zeros((sum(map(len, texts)) + 1, WIDTH), dtype=np.float32)
    table[:-1], table[-1] = np.concatenate(texts), 1000.0  # the last one is the padding's
    names = ("input_ids", "attention_mask")
    ids, mask = (opset13.parameter([-1, -1], np.int64, name) for name in names)
    for node, name in zip((ids, mask), names, strict=True):
        node.output(0).get_tensor().set_names({name})
    states = opset13.gather(opset13.constant(table), ids, opset13.constant(np.int64(0)))
    made = opset13.matmul(states, opset13.constant(floats(3, WIDTH, 8)), False, False)
    used = opset13.convert(opset13.unsqueeze(mask, opset13.constant(np.int64(2))), "f32")
    pooled = opset13.reduce_sum(opset13.multiply(made, used), opset13.constant(np.int64(1)), False)
    result = opset13.result(pooled)
    openvino.save_model(openvino.Model([result], [ids, mask]), folder / "program.xml", False)
    program = Measuring(folder / "program.xml", choose_runtime(precision="fp32", engine="openvino"))
    longest = max(map(len, texts)) + padding
    feed = {name: np.zeros((len(texts), longest), dtype=np.int64) for name in names}
    first = 0
    for row, text in enumerate(texts):
        feed["input_ids"][row] = len(table) - 1
        feed["input_ids"][row, : len(text)] = range(first, first + len(text))
        feed["attention_mask"][row, : len(text)] = 1
        first += len(text)
    program.run(feed)
    (limits,) = program.limits()
    return limits


def test_padding_has_no_part_in_the_limits(tmp_path: Path) -> None:
    texts = [floats(1, 3, WIDTH), floats(2, 7, WIDTH)]
    alone, padded = measured(tmp_path, *texts), measured(tmp_path, *texts, padding=5)
    assert alone[1:] == padded[1:]
    np.testing.assert_array_equal(alone.divisors, padded.divisors)


def test_limits_are_means_of_the_least_and_the_largest_of_each_text(tmp_path: Path) -> None:
    texts = [np.ones((4, WIDTH), dtype=np.float32) * scale for scale in (1, 3)]
    for text in texts:
        text[0] *= -0.5
    limits = measured(tmp_path, *texts)
    assert limits.low == pytest.approx(-1.0, rel=0.01)
    assert limits.high == pytest.approx(2.0, rel=0.01)


def test_zero_is_one_of_the_256_numbers(tmp_path: Path) -> None:
    limits = measured(tmp_path, floats(1, 30, WIDTH), floats(2, 30, WIDTH))
    step = (limits.high - limits.low) / 255
    assert limits.low / step == pytest.approx(round(limits.low / step), abs=1e-6)


def test_only_channels_beyond_the_usual_are_divided(tmp_path: Path) -> None:
    text = np.ones((4, WIDTH), dtype=np.float32)
    text[1, 5] = -12
    divisors = measured(tmp_path, text).divisors
    assert divisors[5] == pytest.approx(12)
    assert (np.delete(divisors, 5) == 1).all()


def test_an_activation_that_is_always_zero_has_limits(tmp_path: Path) -> None:
    limits = measured(tmp_path, np.zeros((4, WIDTH), dtype=np.float32))
    assert np.isfinite(limits.divisors).all()
    assert limits.low <= 0 < limits.high


def test_limits_are_read_as_they_were_written(tmp_path: Path) -> None:
    limits = [Limits(floats(seed, 4), -0.25 * seed, 0.5) for seed in range(12)]
    save_limits(tmp_path / "int8.safetensors", limits)
    read = read_limits(tmp_path / "int8.safetensors")
    assert [each[1:] for each in read] == [each[1:] for each in limits]
    for found, written in zip(read, limits, strict=True):
        np.testing.assert_array_equal(found.divisors, written.divisors)


@pytest.mark.parametrize("content", [b"", b"no safetensors"])
def test_a_damaged_file_of_limits_is_named_with_its_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "int8.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"int8\.safetensors cannot be read .* rq quantize"):
        read_limits(tmp_path / "int8.safetensors")
