"""The gradient of a step: cached, uncached, in chunks and at once, and against plain NumPy."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from rocketrank.backbone import Scorer, Tower, paddle_module, save_weights
from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.training.examples import Example
from rocketrank.training.layers import recompute_layers
from rocketrank.training.recipe import WEIGHTS, Stage
from rocketrank.training.step import Losses, Models, accumulate_gradients

from .losses_by_hand import ByHand
from .small_step import (
    ALL_LOSSES,
    EXAMPLES,
    Arrays,
    example,
    gradients,
    largest,
    largest_difference,
    make_batches,
    open_models,
    parameters,
    start_reranker,
    start_retriever,
)

paddle = paddle_module()

SCRIPT = Path(__file__).with_name("small_step.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
AT_ONCE = 1 << 20
NO_LOSS: dict[str, Any] = dict.fromkeys(WEIGHTS, 0.0)


class Start:
    """Where models start from."""

    def __init__(self, reference: Path, folder: Path, towers: str) -> None:
        self.retriever = start_retriever(reference, folder / "retriever", towers=towers)
        self.reranker = start_reranker(reference, folder / "reranker")

    def models(self, dropout: float = -1.0) -> Models:
        return open_models(self.retriever, self.reranker, dropout=dropout)


@pytest.fixture(scope="module", params=["shared", "separate"])
def start(
    request: pytest.FixtureRequest,
    shared_reference: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Start:
    return Start(shared_reference, tmp_path_factory.mktemp("start"), str(request.param))


@pytest.fixture(scope="module")
def shared(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Shared towers, for what does not depend on them."""
    return Start(shared_reference, tmp_path_factory.mktemp("start"), "shared")


def taken(
    models: Models,
    stage: Stage,
    examples: Sequence[Example] = EXAMPLES,
    seed: Sequence[int] = (3, 4),
    **options: Any,
) -> tuple[Losses, Arrays]:
    """The losses and the gradients of one step."""
    batches = make_batches(models, stage, examples)
    losses = accumulate_gradients(models, batches, stage, seed=seed, **options)
    return losses, gradients(models)


# ---------------------------------------------------------------- one step, taken in many ways


# Without partial ranking, an uncached step takes its batches back one by one.
@pytest.mark.parametrize(("accumulate", "partial_ranking"), [(1, 0.3), (3, 0.3), (3, 0.0)])
def test_a_gradient_cache_with_dropout_gives_the_gradients_of_the_same_chunks_without_one(
    start: Start, accumulate: int, partial_ranking: float
) -> None:
    models = start.models()
    stage = replace(ALL_LOSSES, accumulate=accumulate, partial_ranking=partial_ranking)
    batches = make_batches(models, stage)
    assert all(len(chunks) > 1 for batch in batches for chunks in batch[2:])
    losses, uncached = taken(models, stage)
    cached_losses, cached = taken(models, replace(stage, gradient_cache=True))
    assert largest_difference(cached, uncached) < 1e-5
    assert cached_losses == pytest.approx(losses, abs=1e-6)
    assert largest_difference(taken(models, stage, seed=(3, 5))[1], uncached) > 0.01


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_chunks_without_dropout_give_the_gradients_of_one_unchunked_step(
    start: Start, accumulate: int, cache: bool
) -> None:
    models, stage = start.models(dropout=0.0), replace(ALL_LOSSES, accumulate=accumulate)
    whole = replace(stage, tokens_per_chunk=AT_ONCE)
    assert all(len(chunks) == 1 for batch in make_batches(models, whole) for chunks in batch[1:])
    losses, unchunked = taken(models, whole)
    chunked_losses, chunked = taken(models, replace(stage, gradient_cache=cache))
    assert largest_difference(chunked, unchunked) < 1e-5
    assert chunked_losses == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_gradient_cache_is_exact_for_each_loss_by_itself(shared: Start, weight: str) -> None:
    models = shared.models()
    stage = replace(ALL_LOSSES, **{**NO_LOSS, weight: 2.0})
    _, uncached = taken(models, stage)
    _, cached = taken(models, replace(stage, gradient_cache=True))
    assert largest_difference(cached, uncached) < 1e-5
    trained = {name.split(".")[0] for name in cached}
    assert (
        trained
        == {
            "supervised": {"reranker"},
            "distillation": {"retriever", "reranker"},
            "contrastive": {"retriever"},
            "partial_ranking": {"retriever"},
        }[weight]
    )


@pytest.mark.parametrize("cache", [False, True])
def test_recomputation_with_dropout_changes_no_gradient(start: Start, cache: bool) -> None:
    stage = replace(ALL_LOSSES, accumulate=2, gradient_cache=cache)
    expected = taken(start.models(), stage)[1]
    models = start.models()
    assert models.retriever and models.reranker
    for part in (models.retriever, models.reranker):
        for layer in part.layers.values():
            recompute_layers(layer, models.noise)
    assert largest_difference(taken(models, stage)[1], expected) < 1e-5


@pytest.mark.parametrize("cache", [False, True])
def test_a_loss_scale_multiplies_the_gradients_and_not_the_losses(
    shared: Start, cache: bool
) -> None:
    models, stage = shared.models(), replace(ALL_LOSSES, gradient_cache=cache)
    losses, plain = taken(models, stage)
    scaled_losses, scaled = taken(models, stage, scale=1024.0)
    assert scaled_losses == losses
    assert largest_difference(scaled, {name: 1024 * each for name, each in plain.items()}) < 1e-6


def test_gradients_are_added_to_those_that_are_there(shared: Start) -> None:
    models, stage = shared.models(), replace(ALL_LOSSES, gradient_cache=True)
    expected = taken(models, stage)[1]
    batches = make_batches(models, stage)
    for _ in range(2):
        accumulate_gradients(models, batches, stage, seed=(3, 4))
    twice = {name: 2 * each for name, each in expected.items()}
    assert largest_difference(gradients(models), twice) < 1e-5


def test_the_two_batches_of_a_step_have_noise_of_their_own(shared: Start) -> None:
    stage = replace(ALL_LOSSES, contrastive=0.0, partial_ranking=0.0, accumulate=2)
    models = shared.models()
    # Were the noise the same, two equal batches would give the losses of one.
    twice, _ = taken(models, stage, [*EXAMPLES, *EXAMPLES])
    once, _ = taken(models, replace(stage, accumulate=1))
    assert abs(twice.supervised - once.supervised) > 1e-4


def test_the_noise_of_a_chunk_does_not_depend_on_what_was_run_before(shared: Start) -> None:
    models = shared.models()
    stage = replace(ALL_LOSSES, gradient_cache=True)
    expected = taken(models, stage)
    taken(models, stage, EXAMPLES[:2], seed=(9, 9))
    again = taken(models, stage)
    assert again[0] == expected[0]
    for name, gradient in expected[1].items():
        np.testing.assert_array_equal(again[1][name], gradient)


# ---------------------------------------------------------------- against plain NumPy


VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "three batches": {"accumulate": 3},
    "the released code": {"direction": "teacher_student", "reduction": "element"},
    "the released code, three batches": {
        "direction": "teacher_student",
        "reduction": "element",
        "accumulate": 3,
    },
    "without easy negatives": {"easy": False, "hardest": 3},
    "few anchors": {"easy": False, "hardest": 3, "margin": 0.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_losses_are_those_of_plain_numpy_over_texts_encoded_alone(
    start: Start, variant: str
) -> None:
    stage = replace(ALL_LOSSES, gradient_cache=True, **VARIANTS[variant])
    models = start.models(dropout=0.0)
    size = len(EXAMPLES) // stage.accumulate
    parts = [EXAMPLES[first : first + size] for first in range(0, len(EXAMPLES), size)]
    expected = ByHand(models, stage).losses(parts)
    found, _ = taken(models, stage)
    assert found == pytest.approx(expected, abs=2e-5)
    assert min(expected) > 1e-3 or variant == "few anchors"


@pytest.mark.parametrize("model", ["retriever", "reranker"])
def test_the_gradient_is_the_slope_of_the_loss_of_plain_numpy(start: Start, model: str) -> None:
    stage = replace(ALL_LOSSES, gradient_cache=True)
    models = start.models(dropout=0.0)
    found = {name: g for name, g in taken(models, stage)[1].items() if name.startswith(model)}
    norm = float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in found.values())))
    named = parameters(models)
    values = {name: named[name].numpy() for name in found}
    losses = []
    step = 2e-2 / norm
    for sign in (1, -1):
        for name, gradient in found.items():
            named[name].set_value(values[name] + sign * step / norm * gradient)
        losses.append(ByHand(models, stage).losses([EXAMPLES]).total)
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(norm, rel=0.01)


# ---------------------------------------------------------------- who gets a gradient


def test_a_known_positive_is_no_negative_of_its_query(shared: Start) -> None:
    """q0's other positive is in the batch, alone with it: nothing is left to be contrasted."""
    models = shared.models(dropout=0.0)
    stage = Stage(supervised=0.0, distillation=0.0, contrastive=1.0)
    losses, found = taken(models, stage, [example("q0", "p0"), example("q0", "p9")])
    assert losses.contrastive == 0
    assert largest(found) == 0
    assert taken(models, stage, [example("q0", "p0"), example("q0", "p8")])[0].contrastive > 0.01


def test_a_passage_that_repeats_the_positive_is_no_negative(shared: Start) -> None:
    """p7* is p7 under another id: the losses are those of the list without it."""
    models, stage = shared.models(dropout=0.0), ALL_LOSSES
    losses, found = taken(models, stage, [example("q2", "p7 p8 p7* p1"), EXAMPLES[2]])
    expected, expected_gradients = taken(models, stage, [example("q2", "p7 p8 p1"), EXAMPLES[2]])
    assert losses == pytest.approx(expected, abs=1e-5)
    assert largest_difference(found, expected_gradients) < 1e-5


def test_a_passage_that_repeats_a_negative_counts_once(shared: Start) -> None:
    models, stage = shared.models(dropout=0.0), ALL_LOSSES
    losses, _ = taken(models, stage, [example("q2", "p7 p8 p8* p1"), EXAMPLES[2]])
    expected, _ = taken(models, stage, [example("q2", "p7 p8 p1"), EXAMPLES[2]])
    assert losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cache", [False, True])
def test_a_frozen_reranker_gets_no_gradient_and_has_no_dropout(shared: Start, cache: bool) -> None:
    models = shared.models()._replace(frozen=True)
    assert models.reranker
    models.reranker.pair.layer.eval()
    stage = replace(ALL_LOSSES, supervised=0.0, gradient_cache=cache)
    _, found = taken(models, stage)
    assert found and all(name.startswith("retriever.") for name in found)
    batches = make_batches(models, stage)
    assert models.retriever
    models.retriever.query.layer.eval()
    one, other = (accumulate_gradients(models, batches, stage, seed=(n,)) for n in (1, 2))
    assert one == other


@pytest.mark.parametrize("cache", [False, True])
def test_a_reranker_without_teacher_gradient_learns_from_its_own_loss_alone(
    shared: Start, cache: bool
) -> None:
    models = shared.models()
    stage = replace(ALL_LOSSES, teacher_gradient=False, gradient_cache=cache)
    alone = Stage(supervised=1.0, distillation=0.0, tokens_per_chunk=stage.tokens_per_chunk)
    found, expected = (
        {name: g for name, g in taken(models, each)[1].items() if name.startswith("reranker.")}
        for each in (stage, alone)
    )
    assert largest_difference(found, expected) < 1e-5


@pytest.mark.parametrize("absent", ["retriever", "reranker"])
def test_a_stage_of_one_model_needs_no_other(shared: Start, absent: str) -> None:
    weight = "supervised" if absent == "retriever" else "contrastive"
    stage = replace(ALL_LOSSES, gradient_cache=True, **{**NO_LOSS, weight: 1.0})
    both = shared.models()
    one = both._replace(retriever=None) if absent == "retriever" else both._replace(reranker=None)
    losses, found = taken(one, stage)
    expected_losses, expected = taken(both, stage)
    assert losses == pytest.approx(expected_losses, abs=1e-6)
    assert largest_difference(found, expected) < 1e-6


def test_a_passage_of_several_lists_is_encoded_once(shared: Start) -> None:
    models = shared.models()
    (batch,) = make_batches(models, ALL_LOSSES)
    rows = np.concatenate([chunk.rows for chunk in batch.passages])
    distinct = {c.text for each in EXAMPLES for c in each.candidates}
    assert sorted(rows) == list(range(len(distinct)))
    assert sum(len(each.candidates) for each in EXAMPLES) > len(distinct)


# ---------------------------------------------------------------- memory


def larger_model(folder: Path, tokenizer: Path, role: str) -> None:
    """A BERT of 3 layers of width 128 with weights as they are drawn."""
    config = {
        "model_type": "bert",
        "vocab_size": 4000,
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "num_labels": 1,
    }
    folder.mkdir()
    (folder / "config.json").write_bytes(orjson.dumps(config))
    (folder / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    if role == "dual-encoder":
        layer: Any = Tower(config, pooling="mean", normalize=True)
        settings = ModelSettings(role="dual-encoder", passage_length=64, scale=20.0)
    else:
        layer = Scorer(config)
        settings = ModelSettings(role="cross-encoder", pair_length=64)
    save_weights(layer, folder, config)
    save_settings(folder, settings)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_a_gradient_cache_memory_does_not_grow_with_the_length_of_lists(
    shared_reference: Path, tmp_path: Path
) -> None:
    larger_model(tmp_path / "retriever", shared_reference / "tiny-bert", "dual-encoder")
    larger_model(tmp_path / "reranker", shared_reference / "tiny-bert", "cross-encoder")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "memory", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    short, long, uncached = map(float, done.stdout.split())
    assert uncached - long > 100, "the measurement does not see activations"
    assert long - short < (uncached - long) / 8
