"""What rocketrank.json may say, and what is inferred where it is absent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.errors import DataError, UsageError
from rocketrank.model_settings import Calibration
from rocketrank.models import (
    ModelSettings,
    max_length,
    open_model,
    save_settings,
)

from .model_folders import BERT, DUAL, write_json, write_model, write_tower

CLASSIFIER = {**BERT, "architectures": ["BertForSequenceClassification"]}
CURVE = {"slope": 2.0, "intercept": -1}
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}


def write_sentence_transformer(
    folder: Path,
    *,
    pooling: dict[str, Any] = MEAN,
    kinds: tuple[str, ...] = ("Transformer", "Pooling"),
    options: dict[str, Any] | None = None,
    length: int | None = 20,
) -> Path:
    write_tower(folder, BERT)
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {
            "idx": i,
            "type": f"sentence_transformers.models.{kind}",
            "path": paths.get(kind, f"{i}_x"),
        }
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length})
    write_json(folder / "config_sentence_transformers.json", options or {})
    return folder


# rocketrank.json


def test_a_written_rocketrank_json_is_read_back_as_it_was(tmp_path: Path) -> None:
    settings = ModelSettings(
        role="dual-encoder",
        pooling="mean",
        normalize=True,
        scale=12.5,
        query_length=16,
        passage_length=64,
        query_prefix="query: ",
        passage_prefix="Überschrift: ",
        title="pair",
    )
    write_model(tmp_path)
    save_settings(tmp_path, settings)
    assert open_model(str(tmp_path)).settings == settings
    assert list(json.loads((tmp_path / "rocketrank.json").read_text()))[:3] == [
        "role",
        "towers",
        "pooling",
    ]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@given(
    st.builds(
        ModelSettings,
        role=st.just("dual-encoder"),
        pooling=st.sampled_from(["cls", "mean"]),
        normalize=st.booleans(),
        scale=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        query_length=st.integers(3, 64),
        passage_length=st.integers(3, 64),
        query_prefix=st.text(st.characters(codec="utf-8")),
        title=st.sampled_from(["join", "pair"]),
        calibration=st.none()
        | st.builds(
            Calibration,
            slope=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
            intercept=st.floats(allow_infinity=False, allow_nan=False),
        ),
    )
)
def test_any_settings_survive_writing_and_reading(settings: ModelSettings) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        save_settings(folder, settings)
        assert open_model(folder).settings == settings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**DUAL, "poling": "cls"}, r'unknown key "poling", expected one of role, towers, pooling'),
        ({**DUAL, "pooling": "max"}, r'pooling is "max", expected "cls" or "mean"'),
        ({"role": "encoder"}, r'role is "encoder", expected "dual-encoder" or "cross-encoder"'),
        ({"pooling": "cls"}, r'the key "role" is missing, expected "dual-encoder" or "cross'),
        ({**DUAL, "normalize": 1}, "normalize is 1, expected true or false"),
        ({**DUAL, "scale": 0}, "scale is 0, expected a number above 0"),
        ({**DUAL, "scale": True}, "scale is true, expected a number above 0"),
        ({**DUAL, "query_length": 2}, "query_length is 2, expected a whole number of at least 3"),
        ({**DUAL, "query_length": 8.0}, r"query_length is 8\.0, expected a whole number"),
        ({**DUAL, "query_prefix": None}, "query_prefix is null, expected a string"),
        ({**DUAL, "title": ["join"]}, r'title is \["join"\], expected "join" or "pair"'),
        ({**DUAL, "passage_length": 65}, "passage_length is 65, .* positions for 64 tokens"),
        ({"role": "cross-encoder", "towers": "separate"}, 'write "towers": "shared"'),
        ({"role": "cross-encoder", "title": "pair"}, 'write "title": "join"'),
        (
            {"role": "cross-encoder", "fusion": -0.5},
            r"fusion is -0\.5, expected a number of at lea",
        ),
        (
            {"role": "cross-encoder", "fusion": None},
            "fusion is null, expected a number of at least",
        ),
        (
            {**DUAL, "calibration": 2},
            "calibration has 2, expected an object with slope, intercept for a dual-encoder: have",
        ),
        (
            {**DUAL, "calibration": {"slope": 2.0}},
            "calibration has the keys slope, expected an object with slope, intercept",
        ),
        (
            {**DUAL, "calibration": {**CURVE, "fusion": 1.0, "retriever": "a"}},
            "calibration has the keys slope, intercept, fusion, retriever, expected an object",
        ),
        (
            {"role": "cross-encoder", "calibration": CURVE},
            "expected an object with fusion, retriever, slope, intercept for a cross-encoder",
        ),
        ({"role": "cross-encoder", "calibration": None}, "calibration has null, expected an obj"),
        (
            {**DUAL, "calibration": {**CURVE, "slope": 0}},
            "slope of calibration is 0, expected a number above 0",
        ),
        (
            {**DUAL, "calibration": {**CURVE, "intercept": "a"}},
            'intercept of calibration is "a", expected a number',
        ),
        (
            {"role": "cross-encoder", "calibration": {**CURVE, "fusion": -1, "retriever": "a"}},
            "fusion of calibration is -1, expected a number of at least 0",
        ),
        (
            {"role": "cross-encoder", "calibration": {**CURVE, "fusion": 1, "retriever": 3}},
            "retriever of calibration is 3, expected a string",
        ),
        ({**DUAL, "fusion": 0.5}, r'fusion is 0\.5 and role is "dual-encoder", but the weight bel'),
        ([], r"expected a JSON object, found \[\]"),
    ],
)
def test_a_bad_value_in_rocketrank_json_is_named_with_what_was_expected(
    values: Any, said: str, tmp_path: Path
) -> None:
    write_model(tmp_path, values)
    with pytest.raises(DataError, match=rf"rocketrank\.json: .*{said}|rocketrank\.json: {said}"):
        open_model(str(tmp_path))


def test_broken_json_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "rocketrank.json").write_text('{\n"role": dual-encoder\n}')
    with pytest.raises(DataError, match=r"rocketrank\.json:2: expected JSON, found"):
        open_model(str(tmp_path))


def test_a_length_that_is_left_out_is_clipped_to_the_positions(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL)
    settings = open_model(str(tmp_path)).settings
    assert (settings.query_length, settings.passage_length) == (32, 64)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_the_weight_of_the_retrievers_score_is_kept_and_is_no_part_of_the_fingerprint(
    weight: float, tmp_path: Path
) -> None:
    settings = ModelSettings(role="cross-encoder", pair_length=64)
    write_model(tmp_path, config={**CLASSIFIER, "num_labels": 1})
    save_settings(tmp_path, settings)
    assert "fusion" not in json.loads((tmp_path / "rocketrank.json").read_text())
    before = open_model(str(tmp_path)).fingerprint
    save_settings(tmp_path, replace(settings, fusion=weight))
    model = open_model(str(tmp_path))
    assert (model.settings.fusion, model.fingerprint) == (weight, before)


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(role="cross-encoder", pair_length=64),
        ModelSettings(role="dual-encoder", pooling="mean", query_length=16, passage_length=16),
    ],
    ids=lambda settings: settings.role,
)
def test_a_calibration_is_kept_and_is_no_part_of_the_fingerprint(
    settings: ModelSettings, tmp_path: Path
) -> None:
    crosses = settings.role == "cross-encoder"
    fused = {"fusion": 22.63, "retriever": "a" * 64} if crosses else {}
    calibration = Calibration(slope=0.1 + 0.2, intercept=-3.5, **fused)  # type: ignore[arg-type]
    write_model(tmp_path, config={**CLASSIFIER, "num_labels": 1} if crosses else BERT)
    save_settings(tmp_path, settings)
    assert "calibration" not in json.loads((tmp_path / "rocketrank.json").read_text())
    before = open_model(str(tmp_path)).fingerprint
    save_settings(tmp_path, replace(settings, calibration=calibration))
    model = open_model(str(tmp_path))
    assert (model.settings.calibration, model.fingerprint) == (calibration, before)
    written = json.loads((tmp_path / "rocketrank.json").read_text())["calibration"]
    assert written == {"slope": 0.1 + 0.2, "intercept": -3.5, **fused}


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_negative_or_not_finite_is_not_saved(
    weight: float, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="expected a number of at least 0"):
        save_settings(tmp_path, ModelSettings(role="cross-encoder", fusion=weight))
    assert list(tmp_path.iterdir()) == []


def test_saving_settings_that_could_not_be_read_back_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scale is -1"):
        save_settings(tmp_path, ModelSettings(role="dual-encoder", scale=-1.0))
    assert list(tmp_path.iterdir()) == []


def test_saving_settings_into_no_folder_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        save_settings(tmp_path / "absent", ModelSettings(role="dual-encoder"))


def test_separate_towers_are_two_folders(tmp_path: Path) -> None:
    write_json(tmp_path / "rocketrank.json", {**DUAL, "towers": "separate"})
    write_tower(tmp_path / "query", BERT)
    write_tower(tmp_path / "passage", {**BERT, "max_position_embeddings": 40})
    model = open_model(str(tmp_path))
    assert model.tower_path("passage") == tmp_path / "passage"
    assert model.config("passage")["max_position_embeddings"] == 40
    assert model.settings.passage_length == 40


def test_separate_towers_of_which_one_is_absent_name_its_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "rocketrank.json", {**DUAL, "towers": "separate"})
    write_tower(tmp_path / "query", BERT)
    with pytest.raises(DataError, match=r"passage has no config\.json"):
        open_model(str(tmp_path))


def test_a_model_of_the_other_role_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, config={**CLASSIFIER, "num_labels": 1})
    assert open_model(str(tmp_path), role="cross-encoder").settings.role == "cross-encoder"
    with pytest.raises(UsageError, match="is a cross-encoder, but a dual-encoder is wanted here"):
        open_model(str(tmp_path), role="dual-encoder")


# Sentence-transformers


@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        (MEAN, "mean"),
        (CLS, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_the_pooling_of_a_sentence_transformer_is_its_pooling_module(
    pooling: dict[str, Any], found: str, tmp_path: Path
) -> None:
    write_sentence_transformer(tmp_path, pooling=pooling)
    assert open_model(str(tmp_path)).settings.pooling == found


@pytest.mark.parametrize("mode", ["max", "mean_sqrt_len", "weightedmean", "lasttoken"])
def test_another_pooling_is_refused_by_its_name(mode: str, tmp_path: Path) -> None:
    suffix = "" if mode == "lasttoken" else "_tokens"
    write_sentence_transformer(tmp_path, pooling={f"pooling_mode_{mode}{suffix}": True})
    with pytest.raises(DataError, match=f"the pooling is {mode}, but only cls or mean alone"):
        open_model(str(tmp_path))


def test_two_poolings_at_once_are_refused(tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path, pooling={**MEAN, "pooling_mode_cls_token": True})
    with pytest.raises(DataError, match="the pooling is cls_token and mean, but only"):
        open_model(str(tmp_path))


@pytest.mark.parametrize("kind", ["Dense", "LSTM", "CNN"])
def test_another_module_is_refused_by_its_name(kind: str, tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path, kinds=("Transformer", "Pooling", kind))
    with pytest.raises(DataError, match=f"modules are Transformer, Pooling, {kind}, but only"):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    ("kinds", "similarity", "normalize", "scale"),
    [
        (("Transformer", "Pooling", "Normalize"), None, True, 20.0),
        (("Transformer", "Pooling", "Normalize"), "dot", True, 20.0),
        (("Transformer", "Pooling"), "cosine", True, 20.0),
        (("Transformer", "Pooling"), "dot", False, 1.0),
        (("Transformer", "Pooling"), None, False, 1.0),
    ],
)
def test_a_sentence_transformer_is_normalised_where_its_module_or_similarity_says_so(
    kinds: tuple[str, ...], similarity: str | None, normalize: bool, scale: float, tmp_path: Path
) -> None:
    options = {"similarity_fn_name": similarity}
    write_sentence_transformer(tmp_path, kinds=kinds, options=options)
    settings = open_model(str(tmp_path)).settings
    assert (settings.normalize, settings.scale) == (normalize, scale)


def test_a_euclidean_similarity_is_refused(tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path, options={"similarity_fn_name": "euclidean"})
    with pytest.raises(DataError, match='similarity_fn_name is "euclidean", but only cosine and'):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    ("prompts", "default", "prefixes"),
    [
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "document": "", "corpus": "c: "}, None, ("q: ", "c: ")),
        ({"query": "q: ", "document": ""}, "query", ("q: ", "")),
        ({"query": "q: "}, None, ("q: ", "")),
        ({"sts": "s: "}, "sts", ("s: ", "s: ")),
        ({"sts": "s: "}, None, ("", "")),
    ],
)
def test_prompts_become_prefixes(
    prompts: dict[str, str], default: str | None, prefixes: tuple[str, str], tmp_path: Path
) -> None:
    options = {"prompts": prompts, "default_prompt_name": default}
    write_sentence_transformer(tmp_path, options=options)
    settings = open_model(str(tmp_path)).settings
    assert (settings.query_prefix, settings.passage_prefix) == prefixes


def test_a_prompt_that_is_left_out_of_the_mean_is_refused(tmp_path: Path) -> None:
    options = {"prompts": {"query": "q: "}}
    pooling = {**MEAN, "include_prompt": False}
    write_sentence_transformer(tmp_path, pooling=pooling, options=options)
    with pytest.raises(DataError, match="include_prompt is false"):
        open_model(str(tmp_path))


@pytest.mark.parametrize(("written", "found"), [(20, 20), (512, 64), (None, 64)])
def test_the_length_of_a_sentence_transformer_is_within_its_positions(
    written: int | None, found: int, tmp_path: Path
) -> None:
    write_sentence_transformer(tmp_path, length=written)
    settings = open_model(str(tmp_path)).settings
    assert (settings.query_length, settings.passage_length) == (found, found)


def test_a_classifier_that_is_the_only_module_is_a_cross_encoder(tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path, kinds=("Transformer",))
    write_json(tmp_path / "config.json", CLASSIFIER)
    assert open_model(str(tmp_path)).settings.role == "cross-encoder"


def test_a_transformer_in_a_subfolder_says_what_to_move(tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(DataError, match="subfolder 0_Transformer: move its files up"):
        open_model(str(tmp_path))


# Cross-encoders


@pytest.mark.parametrize(
    "labels",
    [{"num_labels": 1}, {"id2label": {"0": "LABEL_0"}}, {"num_labels": 2}, {}],
)
def test_one_or_two_labels_make_a_cross_encoder(labels: dict[str, Any], tmp_path: Path) -> None:
    write_model(tmp_path, config={**CLASSIFIER, **labels})
    settings = open_model(str(tmp_path)).settings
    assert (settings.role, settings.pair_length) == ("cross-encoder", 64)


@pytest.mark.parametrize("written", [None, {"role": "cross-encoder"}])
def test_three_labels_are_no_score(written: dict[str, str] | None, tmp_path: Path) -> None:
    labels = {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}}
    write_model(tmp_path, written, config={**CLASSIFIER, **labels})
    with pytest.raises(DataError, match="the classifier has 3 labels, but a cross-encoder"):
        open_model(str(tmp_path))


def test_a_cross_encoder_reads_512_tokens_where_it_has_more_positions(tmp_path: Path) -> None:
    write_model(tmp_path, config={**CLASSIFIER, "max_position_embeddings": 2048})
    assert open_model(str(tmp_path)).settings.pair_length == 512


def test_the_tokenizers_own_limit_shortens_the_pairs_of_a_cross_encoder(tmp_path: Path) -> None:
    write_model(tmp_path, config=CLASSIFIER)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 48})
    assert open_model(str(tmp_path)).settings.pair_length == 48


@pytest.mark.parametrize(
    ("config", "usable"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 130, "pad_token_id": 0}, 129),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 0}, 512),
        ({"model_type": "distilbert"}, 512),
    ],
)
def test_positions_in_front_of_the_first_token_are_not_usable(
    config: dict[str, Any], usable: int
) -> None:
    assert max_length(config) == usable


def test_the_tiny_cross_encoders_are_recognised(shared_reference: Path) -> None:
    for name in ("tiny-bert-cross-encoder", "tiny-xlm-roberta-cross-encoder"):
        assert open_model(str(shared_reference / name)).settings.role == "cross-encoder"


# Plain encoders


def test_a_plain_encoder_says_what_to_write_and_that_works(tmp_path: Path) -> None:
    write_model(tmp_path)
    with pytest.raises(DataError, match="is a plain BertModel, and nothing in it says") as caught:
        open_model(str(tmp_path))
    said = str(caught.value)
    suggestion = said[said.index('{"role"') : said.index("}") + 1]
    (tmp_path / "rocketrank.json").write_text(suggestion)
    assert open_model(str(tmp_path)).settings.pooling == "mean"


def test_another_architecture_is_refused_with_the_list(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL, config={**BERT, "model_type": "t5"})
    types = "bert, distilbert, ernie, mpnet, roberta, xlm-roberta"
    with pytest.raises(DataError, match=f'model_type is "t5", but only {types} can be run'):
        open_model(str(tmp_path))
