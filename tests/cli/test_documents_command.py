"""``rq index``, ``rq update``, ``rq search`` over a folder of documents, with a tiny real model."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from html import escape
from itertools import islice
from pathlib import Path

import pytest

from rocketrank.data.python_docs import python_documentation
from rocketrank.index import Index
from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.models import open_model

from ..tiny_models import export_here
from .conftest import Run, RunRq, environment_of_rq, sentence

FILES = 2000
LONGEST = 3000


@pytest.fixture(scope="module")
def model(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(shared_reference / "tiny-bert", folder)
    save_settings(folder, ModelSettings(role="dual-encoder", pooling="mean", passage_length=64))
    for tower in ("query", "passage"):
        export_here(open_model(str(folder)), tower, "openvino")
    return folder


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which ``docs`` has three documents and a picture."""
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "eggs.md").write_text("# Eggs\n\nBoil the eggs for nine minutes. " + "Then wait. " * 40)
    (docs / "tea.html").write_text("<title>Tea</title><p>Black tea draws for four minutes.")
    (docs / "bread.txt").write_text("Bread is baked in an oven.")
    (docs / "bread.png").write_bytes(b"\x89PNG\0")
    return tmp_path


def indexed(run: Run, model: Path, *options: str) -> None:
    done = run("index", "docs", "--index", "i", "--model", model, "--precision", "fp32", *options)
    assert done.code == 0, done.err


def test_the_summary_counts_documents_and_lists_what_was_not_read(
    small: Path, model: Path, run: Run
) -> None:
    done = run("index", "docs", "--index", "i", "--model", model, "--precision", "fp32")
    lines = done.out.splitlines()
    assert " chunks of 3 documents in " in lines[0]
    place = lines.index("1 file could not be read and left out:")
    assert lines[place + 1] == "  docs/bread.png: a binary file"


def test_what_a_search_finds_is_named_by_its_place(small: Path, model: Path, run: Run) -> None:
    indexed(run, model)
    hits = json.loads(run("search", "tea", "--index", "i", "--json").out)["hits"]
    source = (small / "docs" / "tea.html").read_text()
    [tea] = [hit for hit in hits if hit["metadata"]["document"] == "docs/tea.html"]
    assert tea["id"] == "docs/tea.html#21-54"
    assert source[21:54] == tea["text"] == "Black tea draws for four minutes."


def test_grouped_by_document_each_is_found_once(small: Path, model: Path, run: Run) -> None:
    indexed(run, model)
    done = run("search", "eggs", "--index", "i", "--group", "document", "--json")
    ids = [hit["id"] for hit in json.loads(done.out)["hits"]]
    assert sorted(ids) == ["docs/bread.txt", "docs/eggs.md", "docs/tea.html"]


def test_documents_are_a_field_to_filter_by(small: Path, model: Path, run: Run) -> None:
    indexed(run, model)
    where = "document = 'docs/eggs.md'"
    hits = json.loads(run("search", "x", "--index", "i", "--where", where, "--json").out)["hits"]
    assert {hit["metadata"]["document"] for hit in hits} == {"docs/eggs.md"}


def test_info_says_how_documents_were_cut(small: Path, model: Path, run: Run) -> None:
    indexed(run, model, "--chunk", "30", "--stride", "20")
    assert "cut into chunks of 30 tokens, one begun every 20" in run("info", "i").out


def test_chunk_0_leaves_documents_whole(small: Path, model: Path, run: Run) -> None:
    indexed(run, model, "--chunk", "0")
    with Index.open(small / "i") as index:
        assert sorted(each.id for each in index.live_passages()) == [
            "docs/bread.txt",
            "docs/eggs.md",
            "docs/tea.html",
        ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--chunk", "63"], "--chunk (63) is more than the 62 tokens of a text that"),
        (["--stride", "5", "--chunk", "0"], "--stride (5) needs --chunk"),
        (
            ["--chunk", "20", "--stride", "30"],
            "--stride (30) must be at least 1 and at most --chunk",
        ),
    ],
)
def test_chunks_that_cannot_be_are_refused_before_anything_is_written(
    small: Path, model: Path, run: Run, options: list[str], said: str
) -> None:
    done = run("index", "docs", "--index", "i", "--model", model, *options)
    assert said in sentence(done)
    assert not (small / "i").exists()


def test_indexing_again_names_the_command_that_updates(small: Path, model: Path, run: Run) -> None:
    indexed(run, model)
    done = run("index", "docs", "--index", "i", "--model", model, "--precision", "fp32")
    assert "bring it up to date with `rq update --insert --prune`" in sentence(done)


def test_an_update_of_the_folder_says_what_it_did(small: Path, model: Path, run: Run) -> None:
    indexed(run, model)
    (small / "docs" / "tea.html").unlink()
    (small / "docs" / "bread.txt").write_text("Bread is baked for an hour.")
    (small / "docs" / "milk.txt").write_text("Milk.")
    done = run("update", "docs", "--index", "i", "--insert", "--prune")
    assert done.out.splitlines()[0].startswith("2 passages added, 2 passages deleted in ")


@pytest.mark.parametrize("options", [["--prune"], []])
def test_documents_for_an_index_of_passages_are_refused(
    small: Path, model: Path, run: Run, options: list[str]
) -> None:
    (small / "c.tsv").write_text("p1\tone\n")
    assert run("index", "c.tsv", "--index", "p", "--model", model).code == 0
    done = run("update", "docs", "--index", "p", *options)
    assert "is for an index of documents, and p holds passages" in sentence(done)


def test_encoded_documents_become_the_index_of_the_same_chunks(
    small: Path, model: Path, run: Run
) -> None:
    fp32 = ["--model", str(model), "--precision", "fp32"]
    indexed(run, model)
    done = run("encode", "docs", "--output", "v", *fp32)
    command = shlex.split(done.out.splitlines()[-1].partition(":  ")[2].replace("DIR", "given"))
    assert run(*command[1:]).code == 0
    answers = [
        run("search", "tea", "--index", each, "--json", *fp32[2:]).out for each in ("i", "given")
    ]
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand files below ``docs``: sources as text, documentation as Markdown and HTML."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "docs").mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(path for path in library.rglob("*.py") if "-packages" not in str(path))
    assert len(sources) > FILES // 4
    for number, path in enumerate(sources[: FILES // 4]):
        text = path.read_text(encoding="utf-8", errors="replace")[:LONGEST]
        (folder / "docs" / f"{number}-{path.name}").write_text(text or "empty", encoding="utf-8")
    left = FILES - FILES // 4
    for number, passage in enumerate(islice(python_documentation(), left)):
        if number % 2:
            content, name = f"# {passage.title}\n\n{passage.text}\n", "md"
        else:
            paragraphs = "".join(f"<p>{escape(line)}</p>" for line in passage.text.split("\n"))
            content, name = f"<title>{escape(passage.title)}</title>{paragraphs}", "html"
        (folder / "docs" / f"page-{number}.{name}").write_text(content, encoding="utf-8")
    return folder


def shards(index: Path) -> dict[str, int]:
    """The encoded shards and when they were written."""
    files = index.glob("segments/*/vectors/*.npy")
    return {str(file.relative_to(index)): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def killed_and_resumed(many: Path, model: Path, rq: RunRq) -> str:
    """``i`` in the folder of ``many``, whose first run was killed; what the second run said."""
    command = ["index", "docs", "--index", "i", "--model", str(model), "--precision", "fp32"]
    command += ["--shard-size", "512", "--bm25"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rocketrank", *command],
        env=environment_of_rq(),
        cwd=many,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(shards(many / "i")) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (many / "i" / "manifest.json").exists()
    done = subprocess.run(
        [sys.executable, "-m", "rocketrank", *command],
        env=environment_of_rq(),
        cwd=many,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
class TestTwoThousandFiles:
    def test_all_are_indexed(self, many: Path, killed_and_resumed: str) -> None:
        with Index.open(many / "i") as index:
            found = {str(each.metadata["document"]) for each in index.live_passages()}
        assert found == {f"docs/{name}" for name in os.listdir(many / "docs")}

    def test_a_killed_run_goes_on_where_it_was(self, killed_and_resumed: str) -> None:
        [line] = [each for each in killed_and_resumed.splitlines() if "an earlier run" in each]
        assert int(line.split()[0].replace(",", "")) >= 3 * 512 - 512

    def test_every_chunk_of_a_source_stands_at_its_place(
        self, many: Path, killed_and_resumed: str
    ) -> None:
        checked = 0
        with Index.open(many / "i") as index:
            for chunk in index.live_passages():
                document = many / str(chunk.metadata["document"])
                if document.suffix == ".py":
                    with document.open(encoding="utf-8", newline="") as file:
                        text = file.read()
                    start, end = chunk.metadata["start"], chunk.metadata["end"]
                    assert text[start:end] == chunk.text
                    checked += 1
        assert checked > 1000

    def test_the_words_of_a_chunk_find_its_document(
        self, many: Path, killed_and_resumed: str, rq: RunRq
    ) -> None:
        with Index.open(many / "i") as index:
            chunks = list(islice(index.live_passages(), 0, None, 5000))
        for chunk in chunks:
            text = " ".join(chunk.text.split())
            options = ["--first-stage", "bm25", "--group", "document", "--k", "5", "--json"]
            done = rq("search", text, "--index", many / "i", *options)
            found = [hit["id"] for hit in json.loads(done.stdout)["hits"]]
            assert chunk.metadata["document"] in found

    def test_of_a_changed_file_alone_something_is_encoded(
        self, many: Path, killed_and_resumed: str, tmp_path: Path, rq: RunRq
    ) -> None:
        shutil.copytree(many / "docs", tmp_path / "docs")
        shutil.copytree(many / "i", tmp_path / "i")
        changed = next((tmp_path / "docs").glob("page-*.md"))
        changed.write_text("# Changed\n\nThis is another text about marmalade.\n")
        before = shards(tmp_path / "i")
        done = subprocess.run(
            [sys.executable, "-m", "rocketrank", "update", "docs", "--index", "i"],
            env=environment_of_rq(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        with Index.open(tmp_path / "i") as index:
            added = index.manifest.segments[-1]
            texts = [each.text for each in index.live_passages() if "marmalade" in each.text]
        assert added.rows == 1
        assert texts == ["Changed\n\nThis is another text about marmalade."]
        assert before.items() <= shards(tmp_path / "i").items()
