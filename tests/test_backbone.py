"""The transformers against outputs of an independent implementation."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from rocketrank import backbone
from rocketrank.errors import DataError
from rocketrank.model_settings import ModelSettings
from rocketrank.models import open_model, save_settings

paddle = backbone.paddle_module()

ENCODERS = ["tiny-bert", "tiny-distilbert", "tiny-roberta", "tiny-mpnet", "tiny-ernie"]
CROSS_ENCODERS = ["tiny-bert-cross-encoder", "tiny-xlm-roberta-cross-encoder"]


def read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = orjson.loads((folder / "config.json").read_bytes())
    return config


def load(folder: Path) -> Any:
    config = read_config(folder)
    if config["architectures"][0].endswith("ForSequenceClassification"):
        return backbone.load_scorer(folder, config)
    return backbone.load_tower(folder, config, pooling="cls", normalize=False)


def run(layer: Any, expected: Any, kind: str) -> NDArray[np.float32]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [
        paddle.to_tensor(expected[f"{kind}_{name}"]) if f"{kind}_{name}" in expected else None
        for name in names
    ]
    with paddle.no_grad():
        output: NDArray[np.float32] = layer(*inputs).numpy()
    return output


@pytest.mark.parametrize("kind", ["single", "pair"])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_position_equals_the_reference_padding_included(
    shared_reference: Path, name: str, kind: str
) -> None:
    folder = shared_reference / name
    expected = np.load(folder / "expected.npz")
    states = run(load(folder).encoder, expected, kind)
    np.testing.assert_allclose(states, expected[f"{kind}_output"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["single", "pair"])
@pytest.mark.parametrize("name", CROSS_ENCODERS)
def test_every_score_equals_the_reference(shared_reference: Path, name: str, kind: str) -> None:
    folder = shared_reference / name
    expected = np.load(folder / "expected.npz")
    scores = run(load(folder), expected, kind)
    np.testing.assert_allclose(scores, expected[f"{kind}_output"][:, 0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ENCODERS + CROSS_ENCODERS)
def test_saved_weights_read_back_as_they_were(
    shared_reference: Path, tmp_path: Path, name: str
) -> None:
    folder = shared_reference / name
    backbone.save_weights(load(folder), tmp_path, read_config(folder))
    before, after = (
        load_file(folder / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    left_out = set(before) - set(after)
    assert set(after) <= set(before)
    assert all("pooler" in tensor for tensor in left_out)
    assert all(np.array_equal(before[tensor], after[tensor]) for tensor in after)


def test_a_saved_model_is_a_model_directory(shared_reference: Path, tmp_path: Path) -> None:
    folder = shared_reference / "tiny-bert"
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(folder / file, tmp_path)
    backbone.save_weights(load(folder), tmp_path, read_config(folder))
    save_settings(tmp_path, ModelSettings(role="dual-encoder", query_length=32, passage_length=64))
    expected = np.load(folder / "expected.npz")
    model = open_model(str(tmp_path), role="dual-encoder")
    states = run(load(model.path).encoder, expected, "single")
    np.testing.assert_allclose(states, expected["single_output"], atol=2e-5, rtol=0)


def test_weights_in_bfloat16_are_read_as_the_nearest_values(
    shared_reference: Path, tmp_path: Path
) -> None:
    folder = shared_reference / "tiny-bert"
    shutil.copy(folder / "config.json", tmp_path)
    exact = load_file(folder / "model.safetensors")
    # bfloat16 is the upper half of a float32: clear the lower half and both hold the same value
    halves = {
        name: (value.view(np.uint32) >> 16).astype(np.uint16) for name, value in exact.items()
    }
    write_bfloat16(tmp_path / "model.safetensors", halves)
    name = "embeddings.word_embeddings.weight"
    layer = load(tmp_path)
    found = layer.encoder.transformer.embeddings.word_embeddings.weight.numpy()
    wanted = (halves[name].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, wanted)


def write_bfloat16(path: Path, halves: dict[str, NDArray[np.uint16]]) -> None:
    """The safetensors format by hand: NumPy has no bfloat16 to give to the library."""
    header: dict[str, Any] = {}
    offset = 0
    for name, value in halves.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(value.shape),
            "data_offsets": [offset, offset + value.nbytes],
        }
        offset += value.nbytes
    encoded = orjson.dumps(header)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for value in halves.values():
            file.write(value.tobytes())


def test_missing_unknown_and_misshapen_weights_are_all_listed(
    shared_reference: Path, tmp_path: Path
) -> None:
    folder = shared_reference / "tiny-bert"
    shutil.copy(folder / "config.json", tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    weights["encoder.layer.7.output.dense.bias"] = np.zeros(32, np.float32)
    weights["embeddings.position_embeddings.weight"] = np.zeros((7, 32), np.float32)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert "missing: encoder.layer.1.output.dense.bias" in message
    assert "unknown: encoder.layer.7.output.dense.bias" in message
    assert "embeddings.position_embeddings.weight [7, 32] for [130, 32]" in message


def test_an_unknown_activation_is_refused_by_name(shared_reference: Path) -> None:
    folder = shared_reference / "tiny-bert"
    config = {**read_config(folder), "hidden_act": "quick_gelu"}
    with pytest.raises(DataError, match="the activation 'quick_gelu' is not supported"):
        backbone.load_tower(folder, config, pooling="cls", normalize=False)


def test_the_two_classes_of_a_classifier_become_their_difference(
    shared_reference: Path, tmp_path: Path
) -> None:
    folder = shared_reference / "tiny-bert-cross-encoder"
    config = read_config(folder)
    weights = load_file(folder / "model.safetensors")
    one = weights["classifier.weight"]
    weights["classifier.weight"] = np.concatenate([-one, 2 * one])
    weights["classifier.bias"] = np.array([0.25, 1.0], np.float32)
    save_file(weights, tmp_path / "model.safetensors")
    labels = {"0": "no", "1": "yes"}
    scorer = backbone.load_scorer(tmp_path, {**config, "id2label": labels})
    expected = np.load(folder / "expected.npz")
    bias = load_file(folder / "model.safetensors")["classifier.bias"][0]
    by_hand = 3 * (expected["pair_output"][:, 0] - bias) + 0.75
    np.testing.assert_allclose(run(scorer, expected, "pair"), by_hand, atol=5e-5, rtol=0)


def test_roberta_numbers_positions_from_2_when_its_config_names_no_pad_token(
    shared_reference: Path,
) -> None:
    folder = shared_reference / "tiny-roberta"
    config = read_config(folder)
    ids = paddle.to_tensor([[101, 300, 400, 102]])
    states = []
    for pad in (1, None):
        tower = backbone.load_tower(
            folder, {**config, "pad_token_id": pad}, pooling="cls", normalize=False
        )
        with paddle.no_grad():
            states.append(tower(ids, paddle.ones_like(ids)).numpy())
    np.testing.assert_array_equal(states[1], states[0])
