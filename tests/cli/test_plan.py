"""``rq plan`` on a corpus so small that few kinds can be built of it."""

import json
import shlex
from pathlib import Path

import pytest

from .conftest import CORPUS, Run, RunRq, sentence


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def test_the_help_has_an_example(run: Run) -> None:
    done = run("plan", "--help")
    assert done.code == 0
    assert "rq plan" in done.out.partition("Example:\n")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "much"], "--memory (much)"),
        (["--disk", "much"], "--disk (much)"),
        (["--sample", "0"], "--sample"),
        (["--model", ""], "--model is empty"),
        (["--fields", "a,,b"], "--fields (a,,b)"),
        (["--vector-type", "int4"], "'int8'"),
        (["--vectors", "int8"], "--vector-type"),
        (["--device", "tpu"], "device (tpu)"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_sentence(
    run: Run, corpus: Path, arguments: list[str], words: str
) -> None:
    done = run("plan", corpus, *arguments)
    assert (done.code, words in sentence(done)) == (2, True)


def test_a_missing_corpus_is_one_sentence(run: Run, tmp_path: Path) -> None:
    done = run("plan", tmp_path / "none.jsonl")
    assert (done.code, "none.jsonl" in sentence(done)) == (2, True)


def test_an_empty_corpus_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    done = run("plan", tmp_path / "empty.jsonl")
    assert (done.code, "at least one passage" in sentence(done)) == (1, True)


@pytest.mark.slow
def test_a_plan_names_the_command_that_builds_what_it_says(
    rq: RunRq, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # processes of their own: the memory that is planned for is that of all the process
    monkeypatch.chdir(tmp_path)
    done = rq("plan", "corpus.jsonl", "--json", "--memory", "3GiB", "--vector-type", "float16")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert (plan["passages"], plan["sample"], plan["chosen"]) == (4, 4, "flat")
    assert plan["command"] == (
        "rq index corpus.jsonl --model minilm --index corpus.index --vector-type float16 "
        "--memory 3GiB"
    )
    kinds = {each["kind"]: each for each in plan["kinds"]}
    assert kinds["ivfpq"]["problem"] == "needs 384 passages to train on, and there are 4"
    assert rq(*shlex.split(plan["command"])[1:]).returncode == 0
    told = json.loads(rq("info", "corpus.index", "--json").stdout)
    assert kinds["flat"]["disk"]["vectors"] == told["bytes"]["vectors"]
    assert kinds["flat"]["disk"]["structure"] == told["bytes"]["structures"]
    assert kinds["flat"]["disk"]["passages"] == told["bytes"]["passages"]


@pytest.mark.slow
def test_where_nothing_fits_the_table_comes_with_exit_code_1(rq: RunRq, corpus: Path) -> None:
    done = rq("plan", corpus, "--disk", "1kB")
    assert done.returncode == 1
    assert "kB of disk, and 1.0 kB are allowed" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("no other kind fits either")
    table = done.stdout.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table[1:]] == [
        "flat", "ivf", "hnsw", "ivfpq", "ivfpq4", "ivf-rabitq",
    ]  # fmt: skip
    assert max(map(len, table)) <= 80
    assert not any(line.startswith("*") for line in table)
