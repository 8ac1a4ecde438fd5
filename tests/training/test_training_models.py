"""Models in training: how they start, what a recipe changes, and what is saved."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rocketrank.backbone import paddle_module
from rocketrank.data.records import Passage
from rocketrank.errors import UsageError
from rocketrank.model_settings import Calibration, ModelSettings, save_settings
from rocketrank.models import open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder
from rocketrank.tokenizing import Tokens
from rocketrank.training.layers import Noise
from rocketrank.training.models import (
    Reranker,
    Retriever,
    named_parameters,
    open_reranker,
    open_retriever,
)
from rocketrank.training.recipe import ModelsSection

from ..tiny_models import export_here
from .small_step import Array, start_reranker, start_retriever, text

paddle = paddle_module()
nn = paddle.nn

ARCHITECTURES = ["tiny-bert", "tiny-roberta", "tiny-mpnet", "tiny-distilbert", "tiny-ernie"]
PASSAGES = [Passage(f"p{number}", text(number), "a title" * (number % 2)) for number in range(4)]
QUERIES = [text(100 + number) for number in range(4)]


@pytest.fixture
def start(shared_reference: Path, tmp_path: Path) -> Path:
    return start_retriever(shared_reference, tmp_path / "start")


def retriever_of(folder: Path, **section: Any) -> Retriever:
    return open_retriever(ModelsSection(retriever=str(folder), **section), Noise())


def reranker_of(folder: Path, *, seed: int = 1, **section: Any) -> Reranker:
    return open_reranker(ModelsSection(retriever=str(folder), **section), Noise(), seed=seed)


def outputs(layer: Any, tokens: list[Tokens]) -> Array:
    """One text at a time, without dropout."""
    layer.eval()
    with paddle.no_grad():
        rows = [
            layer(
                paddle.to_tensor([each.ids]),
                paddle.ones([1, len(each.ids)], dtype="int64"),
                paddle.to_tensor([each.type_ids]),
            )
            for each in tokens
        ]
    return np.asarray(paddle.concat(rows).numpy())


def vectors(retriever: Retriever) -> tuple[Array, Array]:
    return (
        outputs(retriever.query.layer, retriever.query_tokens(QUERIES)),
        outputs(retriever.passage.layer, retriever.passage_tokens(PASSAGES)),
    )


def logits(reranker: Reranker) -> Array:
    return outputs(reranker.pair.layer, reranker.pair_tokens(QUERIES, PASSAGES))


def moved(layers: dict[str, Any]) -> None:
    """Change every parameter a little, as training does."""
    draw = np.random.default_rng(1)
    for _, parameter in named_parameters(layers):
        change = draw.normal(0, 0.02, parameter.shape).astype(np.float32)
        parameter.set_value(parameter.numpy() + change)


# ---------------------------------------------------------------- starting


def test_shared_towers_are_one_layer_and_separate_ones_are_two(
    shared_reference: Path, tmp_path: Path
) -> None:
    shared = retriever_of(start_retriever(shared_reference, tmp_path / "one"))
    assert shared.passage.layer is shared.query.layer
    separate = retriever_of(start_retriever(shared_reference, tmp_path / "two", towers="separate"))
    assert separate.passage.layer is not separate.query.layer
    names = [name for name, _ in named_parameters(separate.layers)]
    assert len(set(names)) == len(names)
    assert {name.split(".")[0] for name in names} == {"query", "passage"}


def test_models_are_opened_in_training_with_the_dropout_of_the_recipe(start: Path) -> None:
    for rate in (-1.0, 0.0, 0.3):
        expected = 0.1 if rate < 0 else rate
        for layer in (
            retriever_of(start, dropout=rate).query.layer,
            reranker_of(start, dropout=rate).pair.layer,
        ):
            assert layer.training
            parts = [part for part in layer.sublayers() if isinstance(part, nn.Dropout)]
            assert {part.p for part in parts if part.p} == {expected} - {0.0}


def test_a_new_head_is_drawn_from_the_seed_on_the_retrievers_encoder(start: Path) -> None:
    one, same, other = (reranker_of(start, seed=seed).pair.layer for seed in (1, 1, 2))
    weight = one.head.output.weight.numpy()
    assert weight.shape == (32, 1) and one.head.dense is None
    assert 0.01 < weight.std() < 0.03 and not one.head.output.bias.numpy().any()
    np.testing.assert_array_equal(same.head.output.weight.numpy(), weight)
    assert np.abs(other.head.output.weight.numpy() - weight).max() > 0.01
    encoder = retriever_of(start).query.layer.encoder.state_dict()
    for name, value in one.encoder.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), encoder[name].numpy(), err_msg=name)


def test_a_new_head_reads_the_first_tokens_state(start: Path) -> None:
    reranker = reranker_of(start)
    tokens = reranker.pair_tokens(QUERIES, PASSAGES)
    found = logits(reranker)
    head = reranker.pair.layer.head.output
    for row, each in enumerate(tokens):
        with paddle.no_grad():
            states = reranker.pair.layer.encoder(
                paddle.to_tensor([each.ids]),
                paddle.ones([1, len(each.ids)], dtype="int64"),
                paddle.to_tensor([each.type_ids]),
            )
        expected = states[0, 0].numpy() @ head.weight.numpy()[:, 0] + head.bias.numpy()[0]
        assert found[row] == pytest.approx(expected, abs=1e-5)


def test_a_cross_encoder_keeps_the_head_it_has(shared_reference: Path, tmp_path: Path) -> None:
    folder = start_reranker(shared_reference, tmp_path / "reranker")
    one, other = (reranker_of(folder, reranker=str(folder), seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(logits(one), logits(other))
    assert one.pair.layer.head.dense is not None


def test_a_new_reranker_reads_pairs_as_long_as_query_and_passage_together(start: Path) -> None:
    assert reranker_of(start).settings.pair_length == 32 + 48
    assert reranker_of(start, pair_length=40).settings.pair_length == 40
    assert reranker_of(start, pair_length=40).pair.tokenizer.length == 40


def test_lengths_and_scale_of_the_recipe_replace_those_of_the_model(start: Path) -> None:
    plain = retriever_of(start)
    assert (plain.settings.query_length, plain.settings.scale) == (32, 20.0)
    changed = retriever_of(start, query_length=8, passage_length=12, scale=3.0)
    assert (changed.query.tokenizer.length, changed.passage.tokenizer.length) == (8, 12)
    assert changed.settings.scale == 3.0
    long = " ".join([text(1)] * 9)
    assert len(changed.query_tokens([long])[0].ids) == 8
    assert len(changed.passage_tokens([Passage("p", long)])[0].ids) == 12


@pytest.mark.parametrize("key", ["query_length", "passage_length", "pair_length"])
def test_a_length_beyond_the_models_positions_is_refused_in_a_sentence(
    start: Path, key: str
) -> None:
    section: dict[str, Any] = {key: 131}
    opener = reranker_of if key == "pair_length" else retriever_of
    expected = rf"^models\.{key} is 131, but .* has positions for 130 tokens: write 130 or less$"
    with pytest.raises(UsageError, match=expected):
        opener(start, **section)


# ---------------------------------------------------------------- fewer layers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_first_layers_are_those_of_the_whole_model(
    shared_reference: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "start"
    shutil.copytree(shared_reference / name, folder)
    save_settings(folder, ModelSettings(role="dual-encoder", query_length=32, passage_length=48))
    whole, short = retriever_of(folder), retriever_of(folder, layers=1)
    state = short.query.layer.state_dict()
    assert len(state) < len(whole.query.layer.state_dict())
    assert not any(".1." in each for each in state)
    for key, value in state.items():
        np.testing.assert_array_equal(
            value.numpy(), whole.query.layer.state_dict()[key].numpy(), err_msg=key
        )
    short.save(tmp_path / "short")
    saved = retriever_of(tmp_path / "short")
    for one, other in zip(vectors(saved), vectors(short), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_more_layers_than_there_are_is_refused_in_a_sentence(start: Path) -> None:
    with pytest.raises(UsageError, match=r"^models\.layers is 3, but the model has 2: write 2$"):
        retriever_of(start, layers=3)
    with pytest.raises(UsageError, match=r"^models\.layers is 3, but the model has 2: write 2$"):
        reranker_of(start, layers=3)


def test_a_new_head_stands_on_the_last_layer_that_is_kept(start: Path, tmp_path: Path) -> None:
    short = reranker_of(start, layers=1)
    assert not any(".1." in each for each in short.pair.layer.encoder.state_dict())
    np.testing.assert_array_equal(
        short.pair.layer.head.output.weight.numpy(),
        reranker_of(start).pair.layer.head.output.weight.numpy(),
    )


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("towers", ["shared", "separate"])
@pytest.mark.parametrize("title", ["join", "pair"])
def test_a_saved_retriever_opens_as_what_it_was(
    shared_reference: Path, tmp_path: Path, towers: str, title: str
) -> None:
    folder = start_retriever(
        shared_reference,
        tmp_path / "start",
        towers=towers,
        title=title,
        query_prefix="ask: ",
        passage_prefix="read: ",
    )
    trained = retriever_of(folder, query_length=16, scale=5.0)
    moved(trained.layers)
    trained.save(tmp_path / "saved")
    saved = retriever_of(tmp_path / "saved")
    assert saved.settings == trained.settings
    for one, other in zip(vectors(saved), vectors(trained), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    opened = open_model(str(tmp_path / "saved"), role="dual-encoder")
    assert opened.settings == trained.settings
    assert opened.fingerprint != open_model(str(folder)).fingerprint


@pytest.mark.parametrize("new_head", [True, False])
def test_a_saved_reranker_opens_as_what_it_was(
    shared_reference: Path, tmp_path: Path, new_head: bool
) -> None:
    starter = start_retriever if new_head else start_reranker
    trained = reranker_of(starter(shared_reference, tmp_path / "start"), pair_length=40)
    moved(trained.layers)
    replace(trained, settings=replace(trained.settings, fusion=0.5)).save(tmp_path / "saved")
    saved = reranker_of(tmp_path / "saved", seed=99)
    assert saved.settings == replace(trained.settings, fusion=0.5)
    np.testing.assert_allclose(logits(saved), logits(trained), atol=1e-6)


def test_a_model_in_training_has_no_calibration_of_the_scores_it_had_before(start: Path) -> None:
    before = open_model(start).settings
    save_settings(start, replace(before, calibration=Calibration(slope=2.0, intercept=-1.0)))
    assert retriever_of(start).settings == before


def test_a_saved_model_lowers_case_where_its_start_does(start: Path, tmp_path: Path) -> None:
    """sentence-transformers writes do_lower_case into a file named after the architecture."""
    tokenizer = start / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["normalizer"] = None
    tokenizer.write_text(json.dumps(content))
    (start / "tokenizer_config.json").unlink()
    (start / "sentence_roberta_config.json").write_text('{"do_lower_case": true}')
    trained = retriever_of(start)
    trained.save(tmp_path / "saved")
    saved = retriever_of(tmp_path / "saved")
    assert trained.query_tokens(["The NEWS"]) == trained.query_tokens(["the news"])
    assert saved.query_tokens(["The NEWS"]) == trained.query_tokens(["The NEWS"])


def test_saving_leaves_the_start_as_it_was(start: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in start.iterdir()}
    trained = retriever_of(start)
    moved(trained.layers)
    trained.save(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in start.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("towers", ["shared", "separate"])
@pytest.mark.parametrize("title", ["join", "pair"])
def test_a_trained_retriever_searches_with_the_vectors_that_training_saw(
    shared_reference: Path, tmp_path: Path, towers: str, title: str
) -> None:
    folder = start_retriever(
        shared_reference,
        tmp_path / "start",
        towers=towers,
        title=title,
        query_prefix="ask: ",
        passage_prefix="read: ",
    )
    trained = retriever_of(folder)
    moved(trained.layers)
    trained.save(tmp_path / "saved")
    model = open_model(str(tmp_path / "saved"))
    export_here(model, "query", "openvino")
    export_here(model, "passage", "openvino")
    encoder = DualEncoder.load(model, engine="openvino", precision="fp32")
    queries, passages = vectors(trained)
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), queries, atol=1e-5)
    found = encoder.encode_passages(
        [passage.text for passage in PASSAGES], [passage.title for passage in PASSAGES]
    )
    np.testing.assert_allclose(found, passages, atol=1e-5)


@pytest.mark.slow
def test_a_trained_reranker_scores_as_training_saw_it(start: Path, tmp_path: Path) -> None:
    trained = reranker_of(start)
    moved(trained.layers)
    trained.save(tmp_path / "saved")
    model = open_model(str(tmp_path / "saved"), role="cross-encoder")
    export_here(model, "query", "openvino")
    scorer = CrossEncoder.load(model, engine="openvino", precision="fp32")
    pairs = [(query, passage.full_text) for query, passage in zip(QUERIES, PASSAGES, strict=True)]
    np.testing.assert_allclose(scorer.score(pairs), logits(trained), atol=1e-5)
