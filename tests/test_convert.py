"""RocketQA checkpoints, written by Paddle's own save op, converted and run.

The published archives are not part of the repository, so each test writes a small checkpoint in
their layout. What a converted model computes is compared with a forward pass in numpy over the
original variables, written from RocketQA's ``ernie.py`` and ``transformer_encoder.py``.
"""

import json
import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from rocketrank.convert import convert_checkpoint
from rocketrank.errors import DataError, UsageError
from rocketrank.lod_tensor import read_lod_tensor
from rocketrank.model_settings import folder_settings
from rocketrank.tokenizing import Tokenizer

Array = NDArray[Any]
Variables = dict[str, Array]

WIDTH, LAYERS, HEADS, WORDS = 32, 2, 4, 60
ERNIE_CONFIG: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "max_position_embeddings": 24,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "sent_type_vocab_size": 4,
    "task_type_vocab_size": 3,
    "use_task_id": False,
    "vocab_size": WORDS,
}
DUAL_ENCODER: dict[str, Any] = {"model_type": "dual_encoder", "q_max_seq_len": 9}
DUAL_ENCODER |= {"p_max_seq_len": 16, "share_parameter": 0}
CROSS_ENCODER: dict[str, Any] = {"model_type": "cross_encoder", "max_seq_len": 20}
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "hello", "world", "##world"]
ATTENTION = ("query", "key", "value", "output")
IDS = np.array([[1, 7, 30, 59, 2, 0, 0], [1, 12, 2, 44, 45, 46, 2]])
TYPES = np.array([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]])
MASK = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])


def write_variables(folder: Path, variables: Mapping[str, Array]) -> None:
    """One file per variable through Paddle's static-graph save op, as RocketQA saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle
    paddle.enable_static()
    try:
        with paddle.pir_utils.OldIrGuard():
            program, scope = paddle.static.Program(), paddle.static.Scope()
            with paddle.static.scope_guard(scope):
                block, place = program.global_block(), paddle.CPUPlace()
                saved = []
                for name, value in variables.items():
                    kind = {"shape": value.shape, "dtype": str(value.dtype)}
                    saved.append(block.create_var(name=name, persistable=True, **kind))
                    scope.var(name).get_tensor().set(value, place)
                executor = paddle.static.Executor(place)
                paddle.static.io.save_vars(executor, str(folder), program, vars=saved)
    finally:
        paddle.disable_static()


def encoder_variables(prefix: str, seed: int, tasks: int = 0) -> Variables:
    """A random encoder under RocketQA's names; small, so that LayerNorm's epsilon shows."""
    random = np.random.default_rng(seed)

    def values(*shape: int) -> Array:
        return random.normal(0, 0.08, shape).astype(np.float32)

    found = {"word_embedding": values(WORDS, WIDTH), "pos_embedding": values(24, WIDTH)}
    found["sent_embedding"] = values(4, WIDTH)
    if tasks:
        found["task_embedding"] = values(tasks, WIDTH)
    norms = ["pre_encoder_layer_norm"]
    for layer in (f"encoder_layer_{number}_" for number in range(LAYERS)):
        norms += [f"{layer}post_att_layer_norm", f"{layer}post_ffn_layer_norm"]
        sizes = {f"multi_head_att_{part}_fc": (WIDTH, WIDTH) for part in ATTENTION}
        sizes |= {"ffn_fc_0": (WIDTH, 4 * WIDTH), "ffn_fc_1": (4 * WIDTH, WIDTH)}
        for part, shape in sizes.items():
            found[f"{layer}{part}.w_0"] = 2 * values(*shape)
            found[f"{layer}{part}.b_0"] = values(shape[1])
    for norm in norms:
        found[f"{norm}_scale"], found[f"{norm}_bias"] = 1 + values(WIDTH), values(WIDTH)
    return {prefix + name: value for name, value in found.items()}


def first_states(variables: Mapping[str, Array], prefix: str, activation: str = "gelu") -> Array:
    """Numpy forward pass over the original variables: (batch, width), the states of [CLS]."""
    get = {name: value.astype(np.float64) for name, value in variables.items()}.__getitem__

    def norm(states: Array, name: str) -> Array:
        centred = states - states.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        result: Array = scaled * get(f"{prefix}{name}_scale") + get(f"{prefix}{name}_bias")
        return result

    def linear(states: Array, name: str) -> Array:
        return states @ get(f"{prefix}{name}.w_0") + get(f"{prefix}{name}.b_0")

    def heads(states: Array) -> Array:
        split = states.reshape(*states.shape[:2], HEADS, WIDTH // HEADS)
        return split.transpose(0, 2, 1, 3)

    states = get(f"{prefix}word_embedding")[IDS] + get(f"{prefix}sent_embedding")[TYPES]
    states = states + get(f"{prefix}pos_embedding")[np.arange(IDS.shape[1])]
    if f"{prefix}task_embedding" in variables:
        states = states + get(f"{prefix}task_embedding")[0]
    states = norm(states, "pre_encoder_layer_norm")
    for number in range(LAYERS):
        layer = f"encoder_layer_{number}_"
        query, key, value = (
            heads(linear(states, f"{layer}multi_head_att_{part}_fc")) for part in ATTENTION[:3]
        )
        scores = query @ key.swapaxes(2, 3) / math.sqrt(WIDTH // HEADS)
        scores = scores + 10000.0 * (MASK[:, None, :, None] * MASK[:, None, None, :] - 1.0)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights / weights.sum(-1, keepdims=True) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(states.shape)
        attended = linear(mixed, f"{layer}multi_head_att_output_fc")
        states = norm(states + attended, f"{layer}post_att_layer_norm")
        inner = linear(states, f"{layer}ffn_fc_0")
        gelu = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        inner = np.maximum(inner, 0) if activation == "relu" else gelu
        states = norm(states + linear(inner, f"{layer}ffn_fc_1"), f"{layer}post_ffn_layer_norm")
    first: Array = states[:, 0]
    return first


def write_checkpoint(
    folder: Path,
    variables: Mapping[str, Array],
    config: Mapping[str, Any],
    ernie: Mapping[str, Any] | None = None,
) -> Path:
    """A folder as RocketQA's archives unpack to: config, ERNIE config, vocabulary, variables."""
    folder.mkdir(exist_ok=True)
    paths = {"model_conf_path": "ernie.json", "model_vocab_path": "vocab.txt"}
    paths["model_checkpoint_path"] = "params"
    (folder / "config.json").write_text(json.dumps({**config, **paths}))
    (folder / "ernie.json").write_text(json.dumps({**ERNIE_CONFIG, **(ernie or {})}))
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    write_variables(folder / "params", variables)
    return folder


def run(folder: Path, *, scorer: bool = False) -> Array:
    """Vectors of a converted tower, or scores of a converted cross-encoder."""
    import paddle

    from rocketrank import backbone

    config = json.loads((folder / "config.json").read_text())
    layer = (
        backbone.load_scorer(folder, config)
        if scorer
        else backbone.load_tower(folder, config, pooling="cls", normalize=False)
    )
    with paddle.no_grad():
        output: Array = layer(*(paddle.to_tensor(part) for part in (IDS, MASK, TYPES))).numpy()
    return output


def dual_encoder_variables() -> Variables:
    return encoder_variables("query_", 1) | encoder_variables("titlepara_", 2)


def cross_encoder_variables() -> Variables:
    random = np.random.default_rng(5)
    shapes = {"pooled_fc.w_0": (WIDTH, WIDTH), "pooled_fc.b_0": (WIDTH,)}
    shapes |= {"_cls_out_w": (WIDTH, 2), "_cls_out_b": (2,)}
    head = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    return encoder_variables("", 4) | head


def test_separate_towers_give_the_original_vectors(tmp_path: Path) -> None:
    variables = dual_encoder_variables()
    source = write_checkpoint(tmp_path / "de", variables, DUAL_ENCODER)
    report = convert_checkpoint(source, tmp_path / "model")
    assert (report.role, report.towers) == ("dual-encoder", "separate")
    assert report.weights == len(variables)
    query, passage = run(tmp_path / "model" / "query"), run(tmp_path / "model" / "passage")
    np.testing.assert_allclose(query, first_states(variables, "query_"), atol=2e-5)
    np.testing.assert_allclose(passage, first_states(variables, "titlepara_"), atol=2e-5)


def test_shared_towers_with_relu_and_task_ids_give_the_original_vectors(tmp_path: Path) -> None:
    variables = encoder_variables("titlepara_", 3, tasks=3)
    config = {**DUAL_ENCODER, "share_parameter": 1}
    ernie = {"hidden_act": "relu", "use_task_id": True}
    source = write_checkpoint(tmp_path / "de", variables, config, ernie)
    assert convert_checkpoint(source, tmp_path / "model").towers == "shared"
    expected = first_states(variables, "titlepara_", "relu")
    np.testing.assert_allclose(run(tmp_path / "model"), expected, atol=2e-5)


def test_a_two_class_cross_encoder_scores_by_the_difference_of_its_logits(tmp_path: Path) -> None:
    variables = cross_encoder_variables()
    source = write_checkpoint(tmp_path / "ce", variables, CROSS_ENCODER)
    report = convert_checkpoint(source, tmp_path / "model")
    assert (report.role, report.weights) == ("cross-encoder", len(variables))
    states = first_states(variables, "")
    pooled = np.tanh(states @ variables["pooled_fc.w_0"] + variables["pooled_fc.b_0"])
    logits = pooled @ variables["_cls_out_w"] + variables["_cls_out_b"]
    scores = run(tmp_path / "model", scorer=True)
    np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], atol=5e-5)


def test_a_cross_encoder_of_version_2_scores_the_bare_cls_state(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    head = {"qtp__cls_out_w": random.normal(size=(WIDTH, 1)).astype(np.float32)}
    head["qtp__cls_out_b"] = np.array([0.25], np.float32)
    variables = encoder_variables("qtp_", 7) | head
    source = write_checkpoint(tmp_path / "ce", variables, {**CROSS_ENCODER, "joint_training": 1})
    convert_checkpoint(source, tmp_path / "model")
    expected = first_states(variables, "qtp_") @ head["qtp__cls_out_w"] + head["qtp__cls_out_b"]
    np.testing.assert_allclose(run(tmp_path / "model", scorer=True), expected[:, 0], atol=5e-5)
    assert not any("pooler" in name for name in load_file(tmp_path / "model/model.safetensors"))


def test_settings_hold_the_lengths_and_the_title_as_a_segment_of_its_own(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "de", dual_encoder_variables(), DUAL_ENCODER)
    convert_checkpoint(source / "config.json", tmp_path / "model")
    settings = folder_settings(tmp_path / "model")
    assert (settings.query_length, settings.passage_length) == (9, 16)
    assert (settings.title, settings.pooling, settings.normalize) == ("pair", "cls", False)
    tokenizer = Tokenizer.load(tmp_path / "model" / "passage", length=16)
    (tokens,) = tokenizer.encode_pairs([("", "Hello WORLD")])
    assert (tokens.ids, tokens.type_ids) == ([1, 2, 5, 6, 2], [0, 0, 1, 1, 1])


def test_a_chinese_model_drops_spaces_and_reads_a_vocabulary_with_ids(tmp_path: Path) -> None:
    source = write_checkpoint(
        tmp_path / "ce", cross_encoder_variables(), {**CROSS_ENCODER, "for_cn": True}
    )
    lines = [f"{token}\t{50 - number}" for number, token in enumerate(TOKENS)]
    (source / "vocab.txt").write_text("\n".join(lines) + "\n")
    convert_checkpoint(source, tmp_path / "model")
    tokenizer = Tokenizer.load(tmp_path / "model", length=20)
    assert tokenizer.pad_id == 50
    assert tokenizer.encode(["hello world"])[0].ids == [49, 45, 43, 48]


def test_optimizer_state_and_other_models_are_left_out_and_unknown_names_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, count = np.ones(1, np.float32), np.array([7], np.int64)
    optimizer: Variables = {
        "@LR_DECAY_COUNTER@": count,
        "query_word_embedding_moment1_0": one,
        "query_encoder_layer_0_ffn_fc_0.w_0_beta2_pow_acc_0": one,
        "scheduled_learning_rate": one,
    }
    variables = dual_encoder_variables()
    extra = optimizer | encoder_variables("qtp_", 7) | {"surprise_fc.w_0": one}
    source = write_checkpoint(tmp_path / "de", variables | extra, DUAL_ENCODER)
    with caplog.at_level(logging.WARNING):
        report = convert_checkpoint(source, tmp_path / "model")
    assert report.optimizer == tuple(sorted(optimizer))
    assert report.unused == tuple(sorted(encoder_variables("qtp_", 7)))
    assert report.unknown == ("surprise_fc.w_0",)
    assert "surprise_fc.w_0" in caplog.text
    assert report.weights == len(variables)


def test_float16_variables_become_float32_of_the_same_value(tmp_path: Path) -> None:
    variables = encoder_variables("titlepara_", 3)
    name = "titlepara_encoder_layer_1_ffn_fc_0.w_0"
    variables[name] = variables[name].astype(np.float16)
    config = {**DUAL_ENCODER, "share_parameter": 1}
    convert_checkpoint(write_checkpoint(tmp_path / "de", variables, config), tmp_path / "model")
    found = load_file(tmp_path / "model/model.safetensors")[
        "encoder.layer.1.intermediate.dense.weight"
    ]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, variables[name].T)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_a_variable_file_of_paddle_is_read_in_its_own_type(tmp_path: Path, dtype: str) -> None:
    values = np.arange(-300, 300).reshape(2, 300, 1).astype(dtype)
    write_variables(tmp_path, {"variable": values})
    found = read_lod_tensor(tmp_path / "variable")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_levels_of_detail_before_the_values_are_skipped(tmp_path: Path) -> None:
    write_variables(tmp_path, {"variable": np.arange(3, dtype=np.float32)})
    content = (tmp_path / "variable").read_bytes()
    level = b"\x01" + bytes(7) + b"\x10" + bytes(7) + bytes(8) + b"\x03" + bytes(7)
    (tmp_path / "variable").write_bytes(content[:4] + level + content[12:])
    np.testing.assert_array_equal(read_lod_tensor(tmp_path / "variable"), [0, 1, 2])


@pytest.mark.parametrize("length", [3, 14, 21, 400])
def test_a_variable_file_that_is_cut_short_is_named(tmp_path: Path, length: int) -> None:
    variables = encoder_variables("titlepara_", 3)
    config = {**DUAL_ENCODER, "share_parameter": 1}
    source = write_checkpoint(tmp_path / "de", variables, config)
    damaged = source / "params" / "titlepara_word_embedding"
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(DataError, match=f"titlepara_word_embedding.*{length}"):
        convert_checkpoint(source, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["de"]


@pytest.mark.parametrize(
    ("config", "ernie", "message"),
    [
        ({}, {"vocab_size": 61}, r"word_embedding in shape \(61, 32\) by .*json, found \(60, 32\)"),
        ({}, {"hidden_size": 64}, r"shape \(60, 64\) by .*ernie.json, found \(60, 32\)"),
        ({}, {"vocab_size": 5}, "ids up to 7, but vocab_size in .*ernie.json is 5"),
        ({}, {"num_hidden_layers": 1}, "has 2 layers, but num_hidden_layers in .* is 1"),
        ({}, {"num_hidden_layers": 3}, r"lacks variables .*\(16 of 53\): .*_2_ffn.* and 8 more"),
        ({}, {"hidden_act": "swish"}, "'hidden_act', found 'swish'"),
        ({}, {"num_attention_heads": 5}, r"hidden_size \(32\) .* num_attention_heads \(5\)"),
        ({}, {"max_position_embeddings": 0}, "'max_position_embeddings', found 0"),
        ({"p_max_seq_len": 25}, {}, r"p_max_seq_len \(25\) must be at most .* \(24\)"),
        ({"model_type": "ranker"}, {}, "'model_type', found 'ranker'"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_both_values(
    tmp_path: Path, config: dict[str, Any], ernie: dict[str, Any], message: str
) -> None:
    variables = dual_encoder_variables()
    source = write_checkpoint(tmp_path / "de", variables, {**DUAL_ENCODER, **config}, ernie)
    with pytest.raises(DataError, match=message):
        convert_checkpoint(source, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["de"]


def test_one_encoder_that_is_not_said_to_be_shared_is_refused_with_the_cure(tmp_path: Path) -> None:
    variables = encoder_variables("titlepara_", 3)
    source = write_checkpoint(tmp_path / "de", variables, DUAL_ENCODER)
    with pytest.raises(DataError, match=r"share_parameter is 0 but .* write 1"):
        convert_checkpoint(source, tmp_path / "model")


def test_whole_numbers_where_weights_belong_are_refused(tmp_path: Path) -> None:
    variables = cross_encoder_variables()
    variables["pooled_fc.b_0"] = np.zeros(WIDTH, np.int64)
    source = write_checkpoint(tmp_path / "ce", variables, CROSS_ENCODER)
    with pytest.raises(DataError, match=r"pooled_fc.b_0 to hold floating-point .* found int64"):
        convert_checkpoint(source, tmp_path / "model")


def test_a_target_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "ce", cross_encoder_variables(), CROSS_ENCODER)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="model is not empty"):
        convert_checkpoint(source, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_checkpoint_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is no checkpoint: expected RocketQA's config.json"):
        convert_checkpoint(tmp_path / "empty", tmp_path / "model")
    with pytest.raises(UsageError, match="absent does not exist"):
        convert_checkpoint(tmp_path / "absent", tmp_path / "model")
