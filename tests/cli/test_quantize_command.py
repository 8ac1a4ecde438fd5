"""``rq quantize`` and what is done with the model it makes."""

import shutil
from pathlib import Path

import pytest

from rocketrank.inference import cpu_has_vnni
from rocketrank.model_settings import ModelSettings, save_settings

from .conftest import CORPUS, Run, sentence

pytestmark = pytest.mark.skipif(not cpu_has_vnni(), reason="this CPU has no 8-bit products")


@pytest.fixture
def folder(tmp_path: Path, shared_reference: Path) -> Path:
    """A corpus and a model, ``corpus.jsonl`` and ``floats``."""
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    shutil.copytree(shared_reference / "tiny-bert", tmp_path / "floats")
    settings = ModelSettings(role="dual-encoder", query_length=16, passage_length=64)
    save_settings(tmp_path / "floats", settings)
    return tmp_path


def test_an_index_is_filled_with_the_model_it_makes_and_with_no_other(
    folder: Path, run: Run
) -> None:
    corpus, made, index = folder / "corpus.jsonl", folder / "integers", folder / "i.index"
    done = run("quantize", folder / "floats", corpus, "--output", made)
    assert done.code == 0, done.err
    words = "dual-encoder in 8-bit integers, measured on 2 passages."
    assert done.out.splitlines()[0] == f"Wrote {made}: {words}"
    assert run("index", corpus, "--model", made, "--index", index).code == 0
    found = run("search", "who discovered penicillin", "--index", index, "--k", "4")
    assert found.code == 0
    assert "penicillin" in found.out
    refused = run("search", "bread", "--index", index, "--model", folder / "floats")
    assert refused.code == 1
    assert "was built with another model" in sentence(refused)


def test_a_folder_that_is_used_is_left_alone(folder: Path, run: Run) -> None:
    done = run(
        "quantize", folder / "floats", folder / "corpus.jsonl", "--output", folder / "floats"
    )
    assert done.code == 2
    assert sentence(done) == f"rq: {folder / 'floats'} is not empty; name a new folder"
