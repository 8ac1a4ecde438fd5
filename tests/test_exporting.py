"""The cache of exported programs when things go wrong: kills, damage, other processes."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rocketrank.errors import DataError, RocketRankError
from rocketrank.exporting import (
    export_into_cache,
    exported_program,
    is_exported,
    program_folder,
)
from rocketrank.models import Model, open_model
from rocketrank.reranker import CrossEncoder

from .tiny_models import ENGINES, tiny_encoder, tiny_scorer

PAIRS = [("what is a flea", "a flea is small"), ("do goldfish grow", "they do")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    monkeypatch.setenv("ROCKETRANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(shared_reference: Path) -> Model:
    return open_model(str(shared_reference / "tiny-bert-cross-encoder"))


def score(model: Model) -> list[float]:
    scores: list[float] = CrossEncoder.load(model, precision="fp32").score(PAIRS).tolist()
    return scores


@pytest.mark.parametrize("name", ["program.bin", "program.xml", "complete.json"])
@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_damaged_program_is_exported_again(
    cache: Path, model: Model, name: str, damage: str
) -> None:
    export_into_cache(model, "query", "openvino")
    before = score(model)
    file = program_folder(model, "query", "openvino") / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-3])
    assert not is_exported(model, "query", "openvino")
    export_into_cache(model, "query", "openvino")
    assert score(model) == before


def test_processes_that_export_at_once_both_succeed(cache: Path, model: Model) -> None:
    code = (
        "from rocketrank.exporting import exported_program; "
        "from rocketrank.models import open_model; "
        f"print(exported_program(open_model({model.name!r}), 'query', 'openvino'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    children = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    printed = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    assert len(printed) == 1
    assert is_exported(model, "query", "openvino")
    assert len(score(model)) == 2
    folder = program_folder(model, "query", "openvino")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_export_left_is_removed_later(cache: Path, model: Model) -> None:
    folder = program_folder(model, "query", "openvino")
    old, young = (folder.parent / f".{folder.name}.{name}" for name in ("old", "young"))
    for left_over in (old, young):
        left_over.mkdir(parents=True)
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    export_into_cache(model, "query", "openvino")
    assert not old.exists()
    assert young.exists()


def test_a_file_named_like_a_module_in_the_users_folder_is_not_imported(
    cache: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets.py").write_text("raise RuntimeError('my own file')")
    monkeypatch.chdir(tmp_path)
    assert exported_program(model, "query", "openvino").is_file()


def test_a_cache_that_is_a_file_is_said_in_words(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("not a folder")
    monkeypatch.setenv("ROCKETRANK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RocketRankError, match=r"cannot be used \(Not a directory\); set ROCKETR"):
        export_into_cache(model, "query", "openvino")


def test_damaged_weights_are_named_with_the_cure(
    cache: Path, shared_reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shared_reference / "tiny-bert-cross-encoder", folder)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read as safetensors"):
        export_into_cache(open_model(str(folder)), "query", "openvino")


def test_the_reason_of_a_failed_export_reaches_the_parent(
    cache: Path, shared_reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shared_reference / "tiny-bert-cross-encoder", folder)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(RocketRankError, match=r"^.*/model\.safetensors cannot be read as safet"):
        exported_program(open_model(str(folder)), "query", "openvino")


def test_a_text_as_long_as_the_model_has_positions_is_not_padded_beyond_them(
    shared_reference: Path,
) -> None:
    # 130 positions are no multiple of the padding step of 8, and Paddle checks its lookups.
    folder = shared_reference / "tiny-bert-cross-encoder"
    long_pair = [("flea " * 300, "small " * 300)]
    scores = [tiny_scorer(folder, engine).score(long_pair) for engine in ENGINES]
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-5)


def test_a_text_without_a_token_has_a_vector(shared_reference: Path) -> None:
    vectors = tiny_encoder(shared_reference / "tiny-bert", pooling="mean").encode_passages(
        ["", "a"]
    )
    assert np.isfinite(vectors).all()


def test_values_that_are_not_finite_are_refused(
    cache: Path, shared_reference: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(shared_reference / "tiny-bert-cross-encoder", folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][:] = np.nan
    save_file(weights, folder / "model.safetensors")
    scorer = tiny_scorer(folder)
    with pytest.raises(RocketRankError, match="the model gave values that are not finite"):
        scorer.score(PAIRS)
