"""The commands that delete, compact and go back, in this process, on small indexes."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rocketrank.index import committed_manifest
from rocketrank.index.layout import locked

from ..index.small_index import build, sentences
from .conftest import Run, environment_of_rq, sentence, texts

HEAVY = {"faiss", "openvino", "paddle", "paddlenlp", "tokenizers"}


def test_ids_are_deleted(run: Run, hashed: Path) -> None:
    done = run("delete", "doc-3", "doc-7", "--index", hashed)
    assert done.code == 0
    assert done.out.startswith("2 passages deleted\ncommit 2: 28 passages in 1 segment\n")
    assert texts(hashed).keys() == {f"doc-{n}" for n in range(30)} - {"doc-3", "doc-7"}


def test_ids_come_from_a_file_one_a_line(run: Run, hashed: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("doc-1\ndoc-2\n", encoding="utf-8")
    done = run("delete", "doc-0", "--ids", tmp_path / "ids.txt", "--index", hashed)
    assert done.out.startswith("3 passages deleted\n")


def test_an_id_that_begins_with_a_dash_comes_after_two(run: Run, tmp_path: Path) -> None:
    [first, second] = sentences(2)
    build(tmp_path / "i", [first, type(second)(id="-7", text="x")])
    assert run("delete", "--index", tmp_path / "i", "--", "-7").code == 0
    assert texts(tmp_path / "i").keys() == {"doc-0"}


def test_a_missing_id_deletes_nothing_unless_it_may_be_missing(run: Run, hashed: Path) -> None:
    refused = run("delete", "doc-1", "none", "--index", hashed)
    assert (refused.code, "'none'" in sentence(refused)) == (1, True)
    assert len(texts(hashed)) == 30
    done = run("delete", "doc-1", "none", "--index", hashed, "--ignore-missing")
    assert done.out.startswith("1 passage deleted\n1 id not in the index\n")


def test_compacting_folds_deletions_and_gives_their_space_back(run: Run, hashed: Path) -> None:
    run("delete", *(f"doc-{number}" for number in range(20)), "--index", hashed)
    done = run("compact", hashed)
    assert done.code == 0
    assert "20 deleted passages left out\n" in done.out
    manifest = committed_manifest(hashed)
    assert (manifest.rows, manifest.count) == (10, 10)


def test_compacting_twice_does_nothing_the_second_time(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    run("compact", hashed)
    done = run("compact", hashed)
    assert done.out.startswith("nothing to fold")
    assert committed_manifest(hashed).commit == 3


def test_compacting_can_change_the_structure(run: Run, hashed: Path) -> None:
    done = run("compact", hashed, "--kind", "hnsw")
    assert "structure HNSW32,Flat: hnsw was asked for\n" in done.out
    assert committed_manifest(hashed).segments[0].structure.factory == "HNSW32,Flat"


def test_compacting_names_the_snapshots_that_keep_files(run: Run, hashed: Path) -> None:
    run("snapshot", hashed, "before")
    run("delete", "doc-0", "--index", hashed)
    assert run("compact", hashed).out.endswith(f"rq snapshot {hashed} --drop before\n")


def test_the_table_of_commits_has_a_line_for_each(run: Run, hashed: Path) -> None:
    run("snapshot", hashed, "before")
    run("delete", "doc-0", "--index", hashed)
    header, first, second = run("snapshot", hashed).out.splitlines()
    assert header.split() == ["commit", "when", "what", "passages", "segments", "snapshots"]
    assert (first.split()[0], first.split()[3:]) == ("1", ["index", "30", "1", "before"])
    assert (second.split()[:2], second.split()[4:]) == (["*", "2"], ["delete", "29", "1"])


def test_the_table_of_commits_as_json(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    told = json.loads(run("snapshot", hashed, "--json").out)
    assert [(each["number"], each["passages"]) for each in told["commits"]] == [(1, 30), (2, 29)]


@pytest.mark.parametrize("which", ["1", "before"])
def test_a_rollback_brings_back_what_was_deleted(run: Run, hashed: Path, which: str) -> None:
    whole = texts(hashed)
    run("snapshot", hashed, "before")
    run("delete", "doc-0", "--index", hashed)
    done = run("rollback", hashed, which)
    assert done.out.startswith("rollback to 1\ncommit 3: 30 passages in 1 segment\n")
    assert texts(hashed) == whole


def test_a_rollback_is_taken_back_by_the_command_it_names(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    undo = run("rollback", hashed, "1").out.splitlines()[-1].partition("rq ")[2]
    assert undo == f"rollback {hashed} 2"
    assert run(*undo.split()).code == 0
    assert len(texts(hashed)) == 29


def test_a_dropped_snapshot_cannot_be_gone_back_to(run: Run, hashed: Path) -> None:
    run("snapshot", hashed, "before")
    assert run("snapshot", hashed, "--drop", "before").code == 0
    done = run("rollback", hashed, "before")
    assert (done.code, "'before'" in sentence(done)) == (2, True)


def test_another_writer_is_said_and_not_waited_for(run: Run, hashed: Path) -> None:
    with locked(hashed):
        done = run("delete", "doc-0", "--index", hashed)
    assert (done.code, "another process is writing" in sentence(done)) == (1, True)


def test_another_writer_is_waited_for_where_asked(run: Run, hashed: Path) -> None:
    holding = threading.Event()

    def write() -> None:
        with locked(hashed):
            holding.set()
            time.sleep(0.3)

    writer = threading.Thread(target=write)
    writer.start()
    holding.wait()
    assert run("delete", "doc-0", "--index", hashed, "--wait", "60").code == 0
    writer.join()


@pytest.mark.parametrize(
    "command",
    [
        ["delete", "doc-0", "--index"],
        ["snapshot"],
        ["rollback"],
        ["compact"],
        ["info"],
        ["verify", "--no-model"],
        ["add", "more.tsv", "--index"],
    ],
    ids=" ".join,
)
def test_a_folder_that_is_no_index_is_one_sentence(
    run: Run, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.tsv").write_text("d\tx\n", encoding="utf-8")
    more = ["1"] if command == ["rollback"] else []
    done = run(*command, tmp_path / "nothing", *more)
    assert done.code == 1
    assert str(tmp_path / "nothing") in sentence(done)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["delete", "--index", "i"], "nothing to delete; give ids, or --ids FILE"),
        (["delete", "--index", "i", "--ids", ""], "--ids is empty"),
        (["delete", "x"], "--index"),
        (["delete", "x", "--index", "i", "--wait", "nan"], "--wait (nan)"),
        (["delete", "x", "--index", "i", "--wait", "-1"], "--wait (-1.0)"),
        (["snapshot", "i", "a", "--drop", "b"], "not both"),
        (["snapshot", "i", "a", "--json"], "--json is for the table"),
        (["rollback", "i"], "COMMIT"),
        (["rollback", "i", ""], "COMMIT is empty"),
        (["compact", "i", "--kind", ""], "--kind is empty"),
        (["verify", "i", "--model", "m", "--no-model"], "not both"),
        (["verify", "i", "--sample", "-1"], "--sample"),
        (["verify", "i", "--device", "tpu"], "device (tpu)"),
        (["repair", "i", "--model", ""], "--model is empty"),
        (["add", "missing.tsv", "--index", "i"], "missing.tsv"),
        (["update", "x", "--index", "i", "--device", "tpu"], "device (tpu)"),
        (["index", "x", "--index", "i", "--fields", "a,,b"], "--fields (a,,b)"),
        (["index", "x", "--index", "i", "--fields", ""], "--fields ()"),
        (["index", "x", "--index", "i", "--fields", "a,b, a"], "names a twice"),
        (["index", "x", "--index", "i", "--wait", "inf"], "--wait (inf)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    run: Run, arguments: list[str], words: str
) -> None:
    done = run(*arguments)
    assert words in sentence(done)
    assert done.code == 2


def test_bytes_that_are_no_text_are_no_id(run: Run, hashed: Path) -> None:
    done = run("delete", "caf\udce9", "--index", hashed)
    assert (done.code, "no UTF-8" in sentence(done)) == (2, True)


@pytest.mark.parametrize(
    "command",
    ["add", "update", "delete", "compact", "snapshot", "rollback", "verify", "repair"],
)
def test_the_help_of_a_command_has_an_example_of_it(run: Run, command: str) -> None:
    _, _, example = run(command, "--help").out.partition("Example:\n")
    assert f"rq {command} " in example


def test_every_command_stands_under_a_heading(run: Run) -> None:
    shown = run("--help").out
    assert "Commands:" not in shown
    assert "\nChange an index:\n  add " in shown


@pytest.mark.parametrize(
    "command", ["delete doc-0 --index INDEX", "snapshot INDEX", "snapshot INDEX name"]
)
def test_what_needs_no_model_loads_no_library_for_models_or_faiss(
    hashed: Path, command: str
) -> None:
    arguments = command.replace("INDEX", str(hashed)).split()
    question = (
        f"import sys; from rocketrank.cli import main; code = main({arguments!r}); "
        "print(); print(code, ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", question], env=environment_of_rq(), capture_output=True, text=True
    )
    code, *loaded = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    assert set(loaded) & HEAVY == set()


@pytest.mark.parametrize("size", ["8 bits", "", "-1GB", "1e9"])
def test_a_size_that_is_none_is_refused_with_examples(run: Run, hashed: Path, size: str) -> None:
    refused = run("compact", hashed, "--memory", size)
    expected = f"--memory ({size}) must be a size such as 8GiB or 500MB"
    assert (refused.code, expected in sentence(refused)) == (2, True)


@pytest.mark.parametrize("size", ["1KB", "1000", "0.9KiB", "1kb"])
def test_a_size_is_read_in_thousands_or_in_powers_of_two(run: Run, hashed: Path, size: str) -> None:
    run("delete", "doc-0", "--index", hashed)
    refused = run("compact", hashed, "--memory", size, "--kind", "ivf")
    assert "memory (0 MiB) must be at least 425 MiB to build ivf" in sentence(refused)
