"""What a fingerprint depends on, and the hashes that are remembered for it."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rocketrank.models import (
    Model,
    ModelSettings,
    cache_directory,
    open_model,
    save_settings,
)

from .model_folders import BERT, DUAL, write_json, write_model, write_tower


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCKETRANK_CACHE", str(tmp_path_factory.mktemp("cache")))


def fingerprint(folder: Path) -> str:
    return open_model(str(folder)).fingerprint


def test_a_copied_folder_has_the_same_fingerprint(tmp_path: Path) -> None:
    write_model(tmp_path / "a", DUAL)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_inferred_and_written_settings_have_one_fingerprint(minilm: Model, tmp_path: Path) -> None:
    for path in minilm.path.iterdir():
        (tmp_path / path.name).symlink_to(path)
    save_settings(tmp_path, minilm.settings)
    assert fingerprint(tmp_path) == minilm.fingerprint


def test_scale_changes_no_vector_and_no_fingerprint(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL)
    before = fingerprint(tmp_path)
    save_settings(tmp_path, ModelSettings(role="dual-encoder", passage_length=64, scale=7.0))
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "mean"},
        {"normalize": True},
        {"query_length": 31},
        {"passage_length": 63},
        {"query_prefix": "q"},
        {"passage_prefix": "p"},
        {"title": "pair"},
    ],
)
def test_every_setting_that_changes_a_vector_changes_the_fingerprint(
    change: dict[str, Any], tmp_path: Path
) -> None:
    write_model(tmp_path, DUAL)
    before = open_model(str(tmp_path))
    save_settings(tmp_path, replace(before.settings, **change))
    assert fingerprint(tmp_path) != before.fingerprint


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: _flip_last_byte(folder / "model.safetensors"),
        lambda folder: (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nb\n"),
        lambda folder: write_json(folder / "tokenizer_config.json", {"do_lower_case": False}),
        lambda folder: write_json(folder / "sentence_bert_config.json", {"do_lower_case": True}),
        lambda folder: write_json(folder / "config.json", {**BERT, "layer_norm_eps": 1e-5}),
        lambda folder: write_json(folder / "config.json", {**BERT, "hidden_act": "relu"}),
    ],
)
def test_weights_tokenizer_and_architecture_change_the_fingerprint(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    write_model(tmp_path, DUAL)
    before = fingerprint(tmp_path)
    change(tmp_path)
    assert fingerprint(tmp_path) != before


def test_the_history_of_a_config_changes_no_fingerprint(tmp_path: Path) -> None:
    write_model(tmp_path, DUAL)
    before = fingerprint(tmp_path)
    history = {"_name_or_path": "x", "transformers_version": "9", "torch_dtype": "float32"}
    write_json(tmp_path / "config.json", {**history, **dict(reversed(BERT.items()))})
    (tmp_path / "README.md").write_text("A model.")
    assert fingerprint(tmp_path) == before


def test_swapped_towers_are_another_model(tmp_path: Path) -> None:
    for first, second in (("query", "passage"), ("passage", "query")):
        folder = tmp_path / first
        write_json(folder / "rocketrank.json", {**DUAL, "towers": "separate"})
        write_tower(folder / first, BERT)
        write_tower(folder / second, {**BERT, "layer_norm_eps": 1e-5})
    assert fingerprint(tmp_path / "query") != fingerprint(tmp_path / "passage")


def _large_model(folder: Path) -> Path:
    """Weights that are large enough for the cache of hashes, written long enough ago."""
    write_model(folder, DUAL)
    weights = {"embedding": np.zeros(400_000, dtype=np.float32)}
    save_file(weights, folder / "model.safetensors")
    return folder


def _age(path: Path, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the process run ahead: a file's ctime cannot be set."""
    now = path.stat().st_ctime_ns
    monkeypatch.setattr("time.time_ns", lambda: now + seconds * 10**9)


def test_a_large_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = _large_model(tmp_path) / "model.safetensors"
    _age(weights, 60, monkeypatch)
    before = fingerprint(tmp_path)
    [note] = (cache_directory() / "hashes").iterdir()
    note.write_text(note.read_text().replace('"sha256":"', '"sha256":"00'))
    assert fingerprint(tmp_path) != before, "the remembered hash was not used"
    state = weights.stat()
    _flip_last_byte(weights)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    changed = fingerprint(tmp_path)
    _flip_last_byte(weights)
    assert fingerprint(tmp_path) == before != changed


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    _large_model(tmp_path)
    fingerprint(tmp_path)
    assert not (cache_directory() / "hashes").exists()


@pytest.mark.parametrize("note", ["", "[1]", '{"state": 1}', "\x00"])
def test_a_broken_note_in_the_cache_is_made_again(
    note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = _large_model(tmp_path) / "model.safetensors"
    _age(weights, 60, monkeypatch)
    before = fingerprint(tmp_path)
    [path] = (cache_directory() / "hashes").iterdir()
    whole = path.read_bytes()
    path.write_text(note)
    assert fingerprint(tmp_path) == before
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = _large_model(tmp_path / "model") / "model.safetensors"
    _age(weights, 60, monkeypatch)
    before = fingerprint(tmp_path / "model")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROCKETRANK_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.DEBUG, "rocketrank"):
        assert fingerprint(tmp_path / "model") == before
    assert "was not remembered" in caplog.text


def test_the_fingerprint_of_minilm_does_not_depend_on_the_cache(
    minilm: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = minilm.fingerprint
    remembered = open_model("minilm").fingerprint
    monkeypatch.setenv("ROCKETRANK_CACHE", str(tmp_path))
    assert open_model("minilm").fingerprint == first == remembered
