"""``rq add``, ``rq update`` and ``rq search --where`` in this process, with a tiny real model."""

import json
import shutil
from pathlib import Path

import pytest

from rocketrank.cli.index_model import ModelOptions, open_encoder
from rocketrank.index import committed_manifest
from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.models import open_model

from ..tiny_models import export_here
from .conftest import Run, RunRq, sentence, texts

CORPUS = """\
{"_id": "a", "text": "a storm closed the harbour", "metadata": {"source": "nyt", "year": 2019}}
{"_id": "b", "text": "the bridge is being rebuilt", "metadata": {"source": "nyt", "year": 2021}}
{"_id": "c", "text": "voters elected a new mayor", "metadata": {"source": "bbc", "year": 2022}}
"""


@pytest.fixture(scope="module")
def models(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny models, ``first`` and ``second``."""
    folder = tmp_path_factory.mktemp("models")
    for name, normalize in (("first", True), ("second", False)):
        shutil.copytree(shared_reference / "tiny-bert", folder / name)
        settings = ModelSettings(role="dual-encoder", normalize=normalize, passage_length=64)
        save_settings(folder / name, settings)
    for tower in ("query", "passage"):
        export_here(open_model(str(folder / "first")), tower, "openvino")
    return folder


@pytest.fixture(scope="module")
def three(models: Path, tmp_path_factory: pytest.TempPathFactory, rq: RunRq) -> Path:
    """The three passages of CORPUS with their fields, encoded by ``first``."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    options = ["--model", models / "first", "--precision", "fp32", "--fields", "source, year"]
    done = rq("index", folder / "corpus.jsonl", "--index", folder / "index", *options)
    assert done.returncode == 0, done.stderr
    return folder / "index"


@pytest.fixture
def tiny(three: Path, tmp_path: Path) -> Path:
    """An own copy of ``three``."""
    shutil.copytree(three, tmp_path / "tiny.index")
    return tmp_path / "tiny.index"


def written(path: Path, *passages: tuple[str, str]) -> Path:
    lines = (json.dumps({"_id": passage_id, "text": text}) for passage_id, text in passages)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_added_passages_are_found(run: Run, tiny: Path, tmp_path: Path) -> None:
    done = run("add", written(tmp_path / "more.jsonl", ("d", "a comet")), "--index", tiny)
    assert (done.code, done.err) == (0, "")
    found = run("search", "a comet", "--index", tiny, "--json", "--precision", "fp32")
    assert "d" in [hit["id"] for hit in json.loads(found.out)["hits"]]


def test_adding_says_what_it_did_and_how_to_take_it_back(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    corpus = written(tmp_path / "more.jsonl", ("d", "a comet"))
    corpus.write_text(CORPUS.splitlines(keepends=True)[0] + corpus.read_text())
    done = run("add", corpus, "--index", tiny)
    added, unchanged, commit, _, undo = done.out.splitlines()
    assert added.startswith("1 passage added in ")
    assert unchanged == "1 passage there already, word for word"
    assert commit == "commit 2: 4 passages in 2 segments"
    assert undo == f"Take it back:  rq rollback {tiny} 1"


def test_an_id_that_is_there_with_another_text_is_not_added(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    before = texts(tiny)
    done = run("add", written(tmp_path / "x.jsonl", ("d", "x"), ("a", "other")), "--index", tiny)
    assert done.code == 1
    assert f"{tmp_path / 'x.jsonl'}:2" in sentence(done)
    assert texts(tiny) == before


def test_an_update_replaces_the_passage_with_its_id(run: Run, tiny: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "x.jsonl"
    corpus.write_text(
        '{"_id": "a", "text": "calm sea", "metadata": {"source": "nyt", "year": 2020}}\n'
    )
    done = run("update", corpus, "--index", tiny)
    assert (done.code, done.out.startswith("1 passage replaced in ")) == (0, True)
    assert texts(tiny)["a"] == "calm sea"
    assert len(texts(tiny)) == 3


def test_an_update_adds_only_with_insert(run: Run, tiny: Path, tmp_path: Path) -> None:
    corpus = written(tmp_path / "x.jsonl", ("d", "a comet"))
    refused = run("update", corpus, "--index", tiny)
    assert (refused.code, "--insert" in sentence(refused)) == (1, True)
    assert run("update", corpus, "--index", tiny, "--insert").code == 0
    assert texts(tiny)["d"] == "a comet"


def test_another_model_is_refused_before_anything_is_encoded(
    run: Run, tiny: Path, models: Path, tmp_path: Path
) -> None:
    corpus = written(tmp_path / "x.jsonl", ("d", "a comet"))
    done = run("add", corpus, "--index", tiny, "--model", models / "second")
    assert done.code == 2
    assert "is another one (fingerprint " in sentence(done)
    assert committed_manifest(tiny).commit == 1


def test_the_index_s_model_may_have_moved(
    run: Run, tiny: Path, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "first", tmp_path / "moved")
    corpus = written(tmp_path / "x.jsonl", ("d", "a comet"))
    done = run("add", corpus, "--index", tiny, "--model", tmp_path / "moved")
    assert (done.code, done.err) == (0, "")


def test_an_exact_index_stays_exact(three: Path, models: Path) -> None:
    chosen = ModelOptions(
        model=str(models / "first"), device="cpu", precision="auto", engine="auto", threads=None
    )
    manifest = committed_manifest(three)
    assert open_encoder(three, manifest, chosen).runtime.precision == "fp32"


def test_a_model_that_is_not_found_is_one_sentence_with_the_cure(
    run: Run, hashed: Path, tmp_path: Path
) -> None:
    done = run("add", written(tmp_path / "x.jsonl", ("d", "x")), "--index", hashed)
    assert done.code == 1
    assert "say where with --model" in sentence(done)


def test_fields_filter_a_search(run: Run, tiny: Path) -> None:
    asked = ("search", "a", "--index", tiny, "--json")
    done = run(*asked, "--where", "year >= 2020 and source = 'nyt'")
    assert [hit["id"] for hit in json.loads(done.out)["hits"]] == ["b"]


def test_fields_filter_a_file_of_queries(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("q1\tone\nq2\ttwo\n", encoding="utf-8")
    asked = ("--queries", tmp_path / "q.tsv", "--index", tiny, "--format", "msmarco")
    done = run("search", *asked, "--where", "year = 2022")
    assert done.out == "q1\tc\t1\nq2\tc\t1\n"


@pytest.mark.parametrize("where", ["", " ", "size > 3", "year >", "year = 2020; --"])
def test_a_condition_that_cannot_be_asked_is_refused_before_models_are_looked_for(
    run: Run, hashed: Path, where: str
) -> None:
    done = run("search", "x", "--index", hashed, "--where", where)
    assert done.code == 2
    assert "where" in sentence(done)
