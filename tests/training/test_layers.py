"""The exchanged layers against Paddle's own, and dropout that is replayed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.backbone import load_scorer, load_tower, paddle_module
from rocketrank.model_config import read_config
from rocketrank.training.layers import Noise, prepare, recompute_layers

paddle = paddle_module()
nn = paddle.nn

Array: TypeAlias = NDArray[Any]
ENCODERS = ["tiny-bert", "tiny-roberta", "tiny-mpnet", "tiny-distilbert", "tiny-ernie"]
SCORERS = ["tiny-bert-cross-encoder", "tiny-xlm-roberta-cross-encoder"]
TOLERANCE = 1e-5
RATE = 6554 / 65536  # 0.1 in the 16 bits that a mask is drawn with


def opened(folder: Path) -> Any:
    config = read_config(folder)
    if folder.name in SCORERS:
        return load_scorer(folder, config)
    return load_tower(folder, config, pooling="mean", normalize=False)


@pytest.fixture(params=ENCODERS + SCORERS)
def folder(request: pytest.FixtureRequest, shared_reference: Path) -> Path:
    return shared_reference / str(request.param)


def padded_inputs(pad: int = 1) -> list[Any]:
    """Five texts of 12, 9, 5, 3 and 12 tokens."""
    draw = np.random.default_rng(3)
    ids = draw.integers(5, 300, (5, 12))
    mask = (np.arange(12) < np.array([12, 9, 5, 3, 12])[:, None]).astype(np.int64)
    types = (np.arange(12) >= 6).astype(np.int64) * mask
    return [paddle.to_tensor(each) for each in (np.where(mask == 1, ids, pad), mask, types)]


def outputs_and_gradients(layer: Any) -> tuple[Array, dict[str, Array]]:
    """Of one forward pass, back from a fixed random direction."""
    output = layer(*padded_inputs())
    direction = np.random.default_rng(5).normal(size=output.shape).astype(np.float32)
    (output * paddle.to_tensor(direction)).sum().backward()
    found = {
        name: parameter.grad.numpy()
        for name, parameter in layer.named_parameters()
        if parameter.grad is not None
    }
    layer.clear_gradients()
    return output.numpy(), found


def without_dropout(layer: Any) -> Any:
    """Paddle's own layers in training with every rate at 0."""
    for part in layer.sublayers():
        if isinstance(part, nn.Dropout):
            part.p = 0
        elif isinstance(part, nn.MultiHeadAttention):
            part.dropout = 0
    layer.train()
    return layer


def assert_equal(
    found: tuple[Array, dict[str, Array]], own: tuple[Array, dict[str, Array]]
) -> None:
    np.testing.assert_allclose(found[0], own[0], atol=TOLERANCE)
    assert found[1].keys() == own[1].keys()
    scale = max(1.0, *(float(np.abs(each).max()) for each in own[1].values()))
    for name, gradient in own[1].items():
        np.testing.assert_allclose(found[1][name], gradient, atol=TOLERANCE * scale, err_msg=name)


def test_in_evaluation_the_exchanged_layers_give_what_paddles_own_give(folder: Path) -> None:
    own, exchanged = opened(folder), opened(folder)
    prepare(exchanged, Noise())
    assert_equal(outputs_and_gradients(exchanged), outputs_and_gradients(own))


def test_in_training_without_dropout_the_exchanged_layers_give_what_paddles_own_give(
    folder: Path,
) -> None:
    own, exchanged = without_dropout(opened(folder)), opened(folder)
    prepare(exchanged, Noise(), dropout=0.0)
    exchanged.train()
    assert_equal(outputs_and_gradients(exchanged), outputs_and_gradients(own))


def test_exchanging_layers_leaves_every_weight_and_its_name(folder: Path) -> None:
    own, exchanged = opened(folder), opened(folder)
    prepare(exchanged, Noise())
    before, after = own.state_dict(), exchanged.state_dict()
    assert list(before) == list(after)
    assert all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)


def test_no_linear_layer_norm_dropout_or_attention_of_paddles_own_stays(folder: Path) -> None:
    layer = opened(folder)
    prepare(layer, Noise())
    kinds = {type(part) for part in layer.sublayers()}
    assert not kinds & {nn.Linear, nn.LayerNorm, nn.Dropout, nn.MultiHeadAttention}


# ---------------------------------------------------------------- dropout


def in_training(folder: Path, **options: Any) -> tuple[Any, Noise]:
    layer, noise = opened(folder), Noise()
    prepare(layer, noise, **options)
    layer.train()
    return layer, noise


def test_the_same_seed_gives_the_same_dropout_whatever_paddles_generator_does(folder: Path) -> None:
    layer, noise = in_training(folder)
    noise.start((1, 2))
    output, gradients = outputs_and_gradients(layer)
    paddle.seed(12345)
    noise.start((1, 2))
    again, gradients_again = outputs_and_gradients(layer)
    np.testing.assert_array_equal(again, output)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradients_again[name], gradient)


def test_another_seed_gives_other_dropout_and_evaluation_gives_none(folder: Path) -> None:
    layer, noise = in_training(folder)
    outputs = []
    for seed in ((1, 2), (1, 3), (2, 2)):
        noise.start(seed)
        outputs.append(layer(*padded_inputs()).numpy())
    layer.eval()
    outputs.append(layer(*padded_inputs()).numpy())
    for number, one in enumerate(outputs):
        assert all(np.abs(one - other).max() > 1e-3 for other in outputs[:number])
    np.testing.assert_allclose(outputs[-1], opened(folder)(*padded_inputs()).numpy(), atol=1e-5)


def test_a_mask_keeps_nine_in_ten_and_scales_them_to_a_mean_of_one() -> None:
    mask = Noise().mask(0, (400, 501), 0.1).numpy()
    assert mask.shape == (400, 501) and mask.dtype == np.float32
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / (1 - RATE))}
    four_deviations = 4 * np.sqrt(RATE * (1 - RATE) / mask.size)
    assert np.mean(mask == 0) == pytest.approx(RATE, abs=four_deviations)
    assert mask.mean() == pytest.approx(1, abs=four_deviations / (1 - RATE))


@pytest.mark.parametrize("neighbour", [0, 1])
def test_elements_of_a_mask_do_not_follow_their_neighbours(neighbour: int) -> None:
    dropped = Noise().mask(0, (512, 512), 0.5).numpy() == 0
    moved = np.roll(dropped, 1, axis=neighbour)
    assert np.mean(dropped == moved) == pytest.approx(0.5, abs=4 * 0.5 / 512)


def test_masks_of_two_layers_and_of_two_seeds_are_independent() -> None:
    noise = Noise()
    noise.start((4, 5))
    one, other_layer = (noise.mask(layer, (512, 512), 0.5).numpy() for layer in (3, 4))
    again = noise.mask(3, (512, 512), 0.5).numpy()
    noise.start((4, 6))
    other_seed = noise.mask(3, (512, 512), 0.5).numpy()
    np.testing.assert_array_equal(one, again)
    for other in (other_layer, other_seed):
        assert np.mean(one == other) == pytest.approx(0.5, abs=4 * 0.5 / 512)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (5, 1, 1), (4, 4)])
def test_a_mask_has_any_shape(shape: tuple[int, ...]) -> None:
    assert tuple(Noise().mask(0, shape, 0.3).shape) == shape


def test_a_given_rate_replaces_all_rates_but_those_of_zero(shared_reference: Path) -> None:
    layer = opened(shared_reference / "tiny-bert")
    first = next(part for part in layer.sublayers() if isinstance(part, nn.Dropout))
    first.p = 0
    prepare(layer, Noise(), dropout=0.25)
    rates = {part.p for part in layer.sublayers() if isinstance(part, nn.Dropout) and part.p}
    rates |= {part.dropout for part in layer.sublayers() if isinstance(part, nn.MultiHeadAttention)}
    assert first.p == 0 and rates == {0.25}


def test_dropout_of_a_constant_is_a_mask_of_its_rate() -> None:
    layer = nn.Sequential(nn.Dropout(0.25))
    prepare(layer, Noise())
    values = layer(paddle.full([200, 200], 3.0)).numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(4)}
    assert np.mean(values == 0) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 40_000))


# ---------------------------------------------------------------- recomputation


def test_recomputation_with_dropout_gives_the_same_gradients(folder: Path) -> None:
    (plain, noise), (recomputed, other_noise) = in_training(folder), in_training(folder)
    recompute_layers(recomputed, other_noise)
    noise.start((7,))
    other_noise.start((7,))
    assert_equal(outputs_and_gradients(recomputed), outputs_and_gradients(plain))


def calls_of_first_linear(layer: Any) -> Callable[[], int]:
    """How often the first linear layer of the first transformer layer has run."""
    calls: list[int] = []
    inner = next(
        part
        for outer in layer.sublayers()
        if type(outer).__name__ in ("TransformerEncoderLayer", "MPNetLayer")
        for part in outer.sublayers()
        if isinstance(part, nn.Linear)
    )
    inner.register_forward_pre_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


def test_recomputation_runs_the_inside_of_every_layer_again_for_gradients_only(
    folder: Path,
) -> None:
    layer, noise = in_training(folder)
    recompute_layers(layer, noise)
    calls = calls_of_first_linear(layer)
    with paddle.no_grad():
        layer(*padded_inputs())
    assert calls() == 1
    outputs_and_gradients(layer)
    assert calls() == 3


def test_recomputation_of_two_chunks_with_one_backward_pass_replays_each_chunks_noise(
    folder: Path,
) -> None:
    totals = []
    for recomputes in (False, True):
        layer, noise = in_training(folder)
        if recomputes:
            recompute_layers(layer, noise)
        total = 0.0
        for chunk in range(2):
            noise.start((chunk,))
            output = layer(*padded_inputs())
            total = total + (output**2).sum() * (chunk + 1)
        noise.start((99,))
        total.backward()  # type: ignore[attr-defined]
        totals.append(
            {name: p.grad.numpy() for name, p in layer.named_parameters() if p.grad is not None}
        )
    assert_equal((np.zeros(1), totals[1]), (np.zeros(1), totals[0]))
