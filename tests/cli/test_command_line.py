"""The command as a user meets it: what it loads, what it answers, how it ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Completed = subprocess.CompletedProcess[str]
RunRq = Callable[..., Completed]
HEAVY = {"faiss", "numpy", "openvino", "orjson", "paddle", "paddlenlp", "tokenizers", "tqdm"}
COMMANDS = ("index", "encode", "export", "search", "info", "convert", "doctor", "demo")


def sentence(done: Completed) -> str:
    """The one line on standard error, which is all that a failing command may say."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("rq: ")
    assert done.stdout == ""
    return line


def test_help_loads_no_heavy_library() -> None:
    question = (
        "import sys; from rocketrank.cli import main; main(['--help']); "
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", question], env=environment, capture_output=True, text=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert done.returncode == 0
    assert "rocketrank" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_of_it(rq: RunRq, command: str) -> None:
    done = rq(command, "--help")
    assert done.returncode == 0
    _, _, example = done.stdout.partition("Example:\n")
    assert f"rq {command}" in example


def test_version_is_the_version_of_the_package(rq: RunRq) -> None:
    import rocketrank

    assert rq("--version").stdout == f"rocketrank {rocketrank.__version__}\n"


def test_without_a_command_the_help_comes_as_wrong_usage(rq: RunRq) -> None:
    done = rq()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: rq")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sarch"], "'search'"),
        (["search", "x"], "--index"),
        (["index", "--index", "i"], "CORPUS"),
        (["search", "x", "--index", "i", "--k", "0"], "k (0)"),
        (["search", "x", "--index", "i", "--k", "ten"], "--k"),
        (["search", "x", "--index", "i", "--rerank-depth", "5"], "(5) needs --reranker"),
        (
            ["search", "x", "--index", "i", "--reranker", "m", "--rerank-depth", "5"],
            "rerank_depth (5) must be at least k (10)",
        ),
        (["search", "x", "--index", "i", "--rerank-ms", "5"], "(5) needs --reranker"),
        (
            ["search", "x", "--index", "i", "--reranker", "m", "--rerank-ms", "0"],
            "rerank_ms (0.0) must be a number of milliseconds above 0",
        ),
        (["search", "x", "--index", "i", "--min-score", "nan"], "min_score (nan) must be"),
        (
            ["search", "x", "--index", "i", "--min-probability", "50"],
            "min_probability (50.0) must be a number from 0 to 1",
        ),
        (["search", "x", "--index", "i", "--reranker", ""], "--reranker is empty"),
        (["search", "x", "--index", "i", "--precision", "fp16"], "'bf16'"),
        (["search", "x", "--index", "i", "--queries", "q"], "--queries, not both"),
        (["search", "x", "--index", "i", "--output", "run"], "--output (run) needs --queries"),
        (["search", " ", "--index", "i"], "question is empty"),
        (["search", "--index", "i"], "nothing to look for"),
        (["search", "--index", "i", "--queries", "q", "--json"], "--format jsonl"),
        (["search", "--index", "i", "--queries", "q", "--tag", "a b"], "--tag ('a b')"),
        (["search", "--index", "i", "--queries", "q", "--output", "no/run"], "--output (no/run)"),
        (["search", "--index", "i", "--queries", "missing.tsv"], "missing.tsv"),
        (["index", "missing.tsv", "--index", "i"], "missing.tsv"),
        (["index", "x", "--index", "i", "--threads", "0"], "--threads"),
        (["index", "x", "--index", "i", "--device", "tpu"], "device (tpu)"),
        (["search", "x", "--index", "i", "--device", "tpu"], "device (tpu)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    rq: RunRq, arguments: list[str], words: str
) -> None:
    done = rq(*arguments)
    assert words in sentence(done)
    assert done.returncode == 2


@pytest.mark.parametrize("option", ["--k", "--hits", "--topk"])
def test_the_number_of_hits_has_three_names(rq: RunRq, option: str) -> None:
    assert "k (-1)" in sentence(rq("search", "x", "--index", "i", option, "-1"))


def test_wrong_options_are_refused_before_anything_is_loaded() -> None:
    question = (
        "import sys; from rocketrank.cli import main; "
        "code = main(['search', 'x', '--index', 'i', '--k', '0']); "
        "print(code, ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", question], env=environment, capture_output=True, text=True
    )
    code, *loaded = done.stdout.split()
    assert code == "2"
    assert set(loaded) & {"faiss", "openvino", "paddle", "paddlenlp"} == set()


def test_a_missing_index_is_one_sentence_with_its_place(rq: RunRq, tmp_path: Path) -> None:
    done = rq("info", tmp_path / "nothing.index")
    assert str(tmp_path / "nothing.index") in sentence(done)
    assert done.returncode in (1, 2)


def test_an_unexpected_error_is_one_sentence_and_a_file(rq: RunRq, tmp_path: Path) -> None:
    # A broken installation: the first import of NumPy fails in a way that nothing foresees.
    (tmp_path / "numpy.py").write_text("raise ValueError('out of order')\n", encoding="utf-8")
    place = f"{tmp_path}{os.pathsep}{ROOT / 'src'}"
    done = rq("info", "some.index", PYTHONPATH=place, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "ValueError: out of order" in sentence(done)
    (written,) = tmp_path.glob("rq-*.traceback")
    assert str(written) in done.stderr
    assert "Traceback" in written.read_text(encoding="utf-8")


def test_a_developer_sees_the_traceback_of_an_unexpected_error(rq: RunRq, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ValueError('out of order')\n", encoding="utf-8")
    place = f"{tmp_path}{os.pathsep}{ROOT / 'src'}"
    done = rq("info", "some.index", PYTHONPATH=place, RQ_DEBUG="1")
    assert done.stderr.startswith("Traceback")
