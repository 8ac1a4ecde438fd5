"""PaddleNLP folders: saved from PaddleNLP's own classes, converted, and compared with their output.

PaddleNLP computes ERNIE with a LayerNorm epsilon of 1e-12, RocketQA with 1e-5 (which PaddleNLP's
own task for RocketQA sets as well): the classes that serve as reference get 1e-5 here.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from rocketrank.convert import convert_checkpoint
from rocketrank.errors import DataError, MissingDependencyError, UsageError
from rocketrank.model_settings import folder_settings

Array = NDArray[Any]

CONFIG: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "task_type_vocab_size": 3,
    "type_vocab_size": 4,
    "use_task_id": True,
    "vocab_size": 60,
}
IDS = np.array([[1, 7, 30, 59, 2, 0, 0], [1, 12, 2, 44, 45, 46, 2]])
TYPES = np.array([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]])
MASK = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])


def ernie(name: str, seed: int, **options: Any) -> Any:
    """A random model of PaddleNLP's class ``name``, in evaluation mode, epsilon 1e-5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle
        from paddlenlp import transformers
    paddle.seed(seed)
    config = transformers.ErnieConfig(**CONFIG, **options)
    model = getattr(transformers, name)(config)
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.LayerNorm):
            layer._epsilon = 1e-5
    # The pad row of a trained checkpoint is not zero, and biases are not.
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.05 * paddle.randn(parameter.shape))
    model.eval()
    return model


def states(model: Any) -> list[Array]:
    """What ``model`` computes of the test tokens: its first output, and the others."""
    import paddle

    with paddle.no_grad():
        inputs = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
        output = model(**{name: paddle.to_tensor(value) for name, value in inputs.items()})
    return [part.numpy() for part in (output if isinstance(output, tuple) else (output,))]


def write_folder(folder: Path, variables: dict[str, Any], config: dict[str, Any]) -> Path:
    import paddle

    folder.mkdir()
    paddle.save(variables, str(folder / "model_state.pdparams"))
    (folder / "config.json").write_text(json.dumps(config))
    words = [f"word{number}" for number in range(50)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *words]))
    return folder


def run(folder: Path, *, scorer: bool = False) -> Array:
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


def test_a_query_and_a_passage_folder_become_one_model_of_two_towers(tmp_path: Path) -> None:
    query, passage = ernie("ErnieModel", 1), ernie("ErnieModel", 2)
    config = {**CONFIG, "architectures": ["ErnieModel"]}
    first = write_folder(tmp_path / "query", query.state_dict(), config)
    second = write_folder(tmp_path / "passage", passage.state_dict(), config)
    report = convert_checkpoint(first, tmp_path / "model", passage=second)
    assert (report.role, report.towers, report.unknown) == ("dual-encoder", "separate", ())
    assert report.unused == ("pooler.dense.bias", "pooler.dense.weight")
    for model, name in ((query, "query"), (passage, "passage")):
        expected = states(model)[0][:, 0]
        np.testing.assert_allclose(run(tmp_path / "model" / name), expected, atol=2e-5)


def test_a_two_class_classifier_gives_the_difference_of_its_logits(tmp_path: Path) -> None:
    model = ernie("ErnieForSequenceClassification", 3, num_labels=2)
    config = {**CONFIG, "architectures": ["ErnieForSequenceClassification"]}
    source = write_folder(tmp_path / "ranker", model.state_dict(), config)
    assert convert_checkpoint(source, tmp_path / "model").role == "cross-encoder"
    logits = states(model)[0]
    scores = run(tmp_path / "model", scorer=True)
    np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], atol=2e-5)


def test_rocketqav2_classifies_the_bare_cls_state(tmp_path: Path) -> None:
    model = ernie("ErnieEncoder", 4, num_labels=2)
    source = write_folder(
        tmp_path / "rocketqav2-en-marco-cross-encoder", model.state_dict(), CONFIG
    )
    convert_checkpoint(source, tmp_path / "model")
    first = states(model)[0][:, 0]
    logits = first @ model.classifier.weight.numpy() + model.classifier.bias.numpy()
    scores = run(tmp_path / "model", scorer=True)
    np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], atol=2e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_saved_dual_encoder_is_shared_where_its_two_sides_are_equal(
    tmp_path: Path, shared: bool
) -> None:
    query = ernie("ErnieEncoder", 5, num_labels=2)
    title = query if shared else ernie("ErnieEncoder", 6, num_labels=2)
    variables = {f"query_ernie.{name}": value for name, value in query.state_dict().items()}
    variables |= {f"title_ernie.{name}": value for name, value in title.state_dict().items()}
    source = write_folder(tmp_path / "de", variables, CONFIG)
    report = convert_checkpoint(source, tmp_path / "model")
    assert (report.towers, report.unknown) == ("shared" if shared else "separate", ())
    passage = run(tmp_path / "model" if shared else tmp_path / "model" / "passage")
    np.testing.assert_allclose(passage, states(title)[0][:, 0], atol=2e-5)
    assert folder_settings(tmp_path / "model").title == "pair"


def test_the_nested_config_of_older_releases_means_the_same(tmp_path: Path) -> None:
    model = ernie("ErnieForSequenceClassification", 7, num_labels=1)
    source = write_folder(tmp_path / "old", model.state_dict(), {})
    nested = {"init_args": [{**CONFIG, "init_class": "ErnieModel"}]}
    nested["init_class"] = "ErnieForSequenceClassification"  # type: ignore[assignment]
    (source / "config.json").unlink()
    (source / "model_config.json").write_text(json.dumps(nested))
    convert_checkpoint(source, tmp_path / "model")
    scores = run(tmp_path / "model", scorer=True)
    np.testing.assert_allclose(scores, states(model)[0][:, 0], atol=2e-5)


def test_safetensors_in_paddles_orientation_and_bfloat16_are_read(tmp_path: Path) -> None:
    model = ernie("ErnieModel", 8)
    source = write_folder(tmp_path / "plain", model.state_dict(), CONFIG)
    (source / "model_state.pdparams").unlink()
    variables = {name: value.numpy() for name, value in model.state_dict().items()}
    save_file(variables, source / "model.safetensors", metadata={"format": "np"})
    convert_checkpoint(source, tmp_path / "model")
    np.testing.assert_allclose(run(tmp_path / "model"), states(model)[0][:, 0], atol=2e-5)

    rounded = {name: value.astype("bfloat16") for name, value in model.state_dict().items()}
    convert_checkpoint(write_folder(tmp_path / "half", rounded, CONFIG), tmp_path / "bf16")
    found = load_file(tmp_path / "bf16" / "model.safetensors")["embeddings.LayerNorm.bias"]
    expected = rounded["embeddings.layer_norm.bias"].astype("float32").numpy()
    np.testing.assert_array_equal(found, expected)


def test_one_of_two_towers_alone_is_converted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variables = ernie("ErnieEncoder", 9, num_labels=2).state_dict()
    source = write_folder(tmp_path / "rocketqa-zh-base-query-encoder", variables, CONFIG)
    with caplog.at_level(logging.WARNING):
        report = convert_checkpoint(source, tmp_path / "model")
    assert (report.role, report.towers) == ("dual-encoder", "shared")
    assert "one of two towers by its name" in caplog.text


def test_a_classifier_of_unknown_purpose_needs_the_role(tmp_path: Path) -> None:
    variables = ernie("ErnieEncoder", 9, num_labels=2).state_dict()
    source = write_folder(tmp_path / "mine", variables, CONFIG)
    with pytest.raises(UsageError, match=r"pass the role \(dual-encoder or cross-encoder\)"):
        convert_checkpoint(source, tmp_path / "model")
    report = convert_checkpoint(source, tmp_path / "model", role="dual-encoder")
    assert "classifier.weight" in report.unused


def test_other_architectures_projections_and_damaged_files_are_refused(tmp_path: Path) -> None:
    variables = dict(ernie("ErnieModel", 1).state_dict())
    gram = write_folder(tmp_path / "gram", variables, {**CONFIG, "model_type": "ernie_gram"})
    with pytest.raises(DataError, match="'ernie' or 'bert', found 'ernie_gram'"):
        convert_checkpoint(gram, tmp_path / "model")
    (gram / "model_state.pdparams").write_bytes(b"\x80\x04 cut short")
    with pytest.raises(DataError, match=r"model_state.pdparams cannot be read \("):
        convert_checkpoint(gram, tmp_path / "model")
    projected = variables | {"emb_reduce_linear.weight": variables["pooler.dense.weight"]}
    source = write_folder(tmp_path / "search", projected, CONFIG)
    with pytest.raises(DataError, match="projects its vectors"):
        convert_checkpoint(source, tmp_path / "model")
    del variables["encoder.layers.1.norm2.bias"]
    source = write_folder(tmp_path / "holes", variables, CONFIG)
    with pytest.raises(
        DataError, match=r"lacks variables .*\(1 of 38\): encoder.layers.1.norm2.bias"
    ):
        convert_checkpoint(source, tmp_path / "model")


def test_without_paddle_a_pdparams_file_names_the_command_that_cures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "de", ernie("ErnieModel", 1).state_dict(), CONFIG)
    monkeypatch.setitem(sys.modules, "paddle", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "rocketrank\[cpu\]"'):
        convert_checkpoint(source, tmp_path / "model")
