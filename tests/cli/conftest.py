"""The command in a process of its own, and a small index to ask."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rocketrank.cli import main
from rocketrank.index import Index

from ..index.small_index import build, sentences

ROOT = Path(__file__).resolve().parents[2]
CORPUS = """\
{"_id": "penicillin", "title": "Penicillin", "text": "Alexander Fleming discovered it in 1928."}
{"_id": "telephone", "title": "Telephone", "text": "Bell was granted a patent for it in 1876."}
{"_id": "bread", "title": "Bread", "text": "Flour, water, yeast and salt are baked in an oven."}
{"_id": "whale", "title": "Whale", "text": "A whale is a mammal that lives in the sea."}
"""

Completed = subprocess.CompletedProcess[str]
RunRq = Callable[..., Completed]


class Done(NamedTuple):
    """What a call of ``main`` gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def texts(directory: Path) -> dict[str, str]:
    with Index.open(directory) as index:
        return {passage.id: passage.text for passage in index.live_passages()}


def sentence(done: Done) -> str:
    """The one line on standard error, which is all that a failing command may say."""
    (line,) = done.err.splitlines()
    assert line.startswith("rq: ")
    assert done.out == ""
    return line


def environment_of_rq(**changes: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "RQ_DEBUG"}
    return {**inherited, "PYTHONPATH": str(ROOT / "src"), **changes}


@pytest.fixture(scope="session")
def rq() -> RunRq:
    """Run ``rq`` with arguments and what stands on standard input; there is no terminal."""

    def run(*arguments: str | Path, stdin: str = "", **environment: str) -> Completed:
        return subprocess.run(
            [sys.executable, "-m", "rocketrank", *map(str, arguments)],
            env=environment_of_rq(**environment),
            input=stdin,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def as_a_process() -> Iterator[None]:
    """For a test that calls ``main`` itself: what it sets for its process is taken back."""
    loggers = [logging.getLogger(name) for name in ("rocketrank", "faiss", "bm25s")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    environment = dict(os.environ)
    yield
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], as_a_process: None) -> Run:
    """``rq`` in this process."""

    def run(*arguments: str | Path) -> Done:
        code = main([str(each) for each in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def hashed(tmp_path: Path) -> Path:
    """Thirty passages, doc-0 to doc-29, whose model no command can open."""
    build(tmp_path / "hashed.index", sentences(30))
    return tmp_path / "hashed.index"


@pytest.fixture
def own_eval(capsys: pytest.CaptureFixture[str], as_a_process: None) -> Run:
    """``rq eval`` in this process, which is many times faster than one of its own."""

    def run(*arguments: str | Path) -> Done:
        code = main(["eval", *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory, rq: RunRq) -> Path:
    """Four passages indexed with minilm."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    done = rq("index", folder / "corpus.jsonl", "--index", folder / "small.index")
    assert done.returncode == 0, done.stderr
    return folder / "small.index"
