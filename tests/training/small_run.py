"""A training run of a second, and a process that runs ``rq`` in children it can kill.

``python small_run.py`` reads a line of JSON (:class:`Order`) for each command, runs it in a fork of
itself, which has imported everything already, and answers with a line of JSON.
"""

import importlib
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.training.lists import Candidate, RankingList, write_lists
from rocketrank.training.recipe import Recipe, read_recipe
from rocketrank.training.run import Outcome, TrainOptions, train

SOURCE = Path(__file__).resolve().parents[2] / "src"
_COMMON = """
    the of and to in for is on that by this with you it not or be are from at as your all have new
    more an was we will home can us about page my has search free but our other
"""
WORDS = _COMMON.split()
RECIPE = """\
name = "small"
seed = 7
[data]
dev_share = 0.25
[models]
retriever = "{start}"
[joint]
epochs = 4
lists_per_step = 4
list_length = 3
learning_rate = 1e-2
supervised = 1.0
distillation = 1.0
contrastive = 1.0
validate_every = 3
checkpoint_every = 2
"""


def text(number: int, words: int) -> str:
    """Words that are the same for the same number."""
    return " ".join(np.random.default_rng([3, number]).choice(WORDS, size=words))


def passage(query: int, candidate: int) -> str:
    """Only the positive, candidate 0, has numbers, which is what there is to learn."""
    own = "one two three " if candidate == 0 else ""
    return own + text(100 + 10 * query + candidate, 8)


def lists(count: int = 16, negatives: int = 4, *, first: int = 0) -> list[RankingList]:
    """Queries q0, q1, … with a positive p0.0, p1.0, … and negatives p0.1, p0.2, …"""
    return [
        RankingList(
            f"q{query}",
            text(query, 3),
            tuple(
                Candidate(f"p{query}.{each}", int(each == 0), text=passage(query, each))
                for each in range(negatives + 1)
            ),
        )
        for query in range(first, first + count)
    ]


def without_texts(some: Iterable[RankingList]) -> list[RankingList]:
    return [
        each._replace(candidates=tuple(one._replace(text=None) for one in each.candidates))
        for each in some
    ]


def as_candidates(some: list[RankingList], folder: Path) -> dict[str, Any]:
    """MS MARCO's: query id, passage id, rank, label; queries and passages beside them."""
    lines = [
        f"{each.query_id}\t{one.id}\t{rank}\t{one.label}"
        for each in some
        for rank, one in enumerate(each.candidates, start=1)
    ]
    (folder / "lists.tsv").write_text("\n".join(lines) + "\n")
    queries = [f"{each.query_id}\t{each.query}" for each in some]
    (folder / "queries.tsv").write_text("\n".join(queries) + "\n")
    texts = [f"{one.id}\t{one.text}" for each in some for one in each.candidates]
    (folder / "corpus.tsv").write_text("\n".join(texts) + "\n")
    files = {"lists": folder / "lists.tsv", "queries": folder / "queries.tsv"}
    return {**files, "passages": (folder / "corpus.tsv",)}


def as_ids(some: list[RankingList], folder: Path) -> dict[str, Any]:
    """Our own, with the texts in a corpus."""
    write_lists(folder / "ids.jsonl", without_texts(some))
    return {**as_candidates(some, folder), "lists": folder / "ids.jsonl"}


def start_model(reference: Path, folder: Path, **settings: Any) -> Path:
    """``tiny-bert`` as a dual encoder."""
    shutil.copytree(reference / "tiny-bert", folder)
    lengths = {"query_length": 16, "passage_length": 32, "scale": 20.0}
    chosen = {"pooling": "mean", "normalize": True, **lengths, **settings}
    save_settings(folder, ModelSettings(role="dual-encoder", **chosen))
    return folder


class Place(NamedTuple):
    """Lists, a recipe and a start in a folder, and where runs are kept."""

    folder: Path
    start: Path

    @property
    def lists(self) -> Path:
        return self.folder / "lists.jsonl"

    @property
    def recipe_file(self) -> Path:
        return self.folder / "small.toml"

    def recipe(self, **changes: object) -> Recipe:
        """``recipe(joint__epochs=2)`` overrides ``joint.epochs``."""
        overrides = {key.replace("__", "."): str(value) for key, value in changes.items()}
        return read_recipe(self.recipe_file, overrides)

    def options(self, output: str = "run", **changes: Any) -> TrainOptions:
        """Keys with ``__`` override the recipe, others are options."""
        own = {key: value for key, value in changes.items() if "__" not in key and key != "seed"}
        recipe = self.recipe(**{key: changes[key] for key in changes.keys() - own.keys()})
        defaults = {"stage": "joint", "lists": self.lists, "output": self.folder / output}
        return TrainOptions(**{"recipe": recipe, **defaults, **own})

    def train(self, output: str = "run", **changes: Any) -> Outcome:
        return train(self.options(output, **changes))


def place(folder: Path, start: Path) -> Place:
    folder.mkdir(exist_ok=True)
    made = Place(folder, start)
    write_lists(made.lists, lists())
    made.recipe_file.write_text(RECIPE.format(start=start))
    return made


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of the saved models of a run."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("re*/model.safetensors")}


def logged(folder: Path) -> list[dict[str, Any]]:
    """The log of a run without what is measured by a clock."""
    clocks = {"elapsed", "seconds", "queries_per_second", "tokens_per_second"}
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in clocks}
        for line in lines
    ]


def one_sentence(error: BaseException) -> str:
    said = str(error)
    assert said and "\n" not in said and len(said) < 500
    return said


# Commands in children


class Order(NamedTuple):
    """What to run and when to end it.

    At ``after_step`` in the log of ``run``, or when ``while_there``, a pattern of file names,
    finds one in that folder, the child gets ``signal``. None of its files may grow beyond
    ``file_limit`` bytes. Its standard error is a terminal of so many ``columns``, 0: a file.
    """

    arguments: Sequence[str]
    run: str = ""
    after_step: int = -1
    while_there: str = ""
    signal: int = signal.SIGKILL
    file_limit: int = -1
    columns: int = 0


class Done(NamedTuple):
    """``status`` is the exit code, -9 after SIGKILL."""

    status: int
    stdout: str
    stderr: str


class Rq:
    """``rq`` in children of a process that waits for orders."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, *arguments: object, **order: Any) -> Done:
        full = Order([str(each) for each in arguments], **order)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(full._asdict()) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))


@contextmanager
def serving(cache: Path) -> Iterator[Rq]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "ROCKETRANK_CACHE": str(cache)}
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, "FLAGS_paddle_num_threads": "1", "OMP_NUM_THREADS": "1"},
        text=True,
    )
    try:
        yield Rq(process)
    finally:
        assert process.stdin and process.stdout
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _serve() -> None:
    from rocketrank.cli import main

    with warnings.catch_warnings(action="ignore"):
        importlib.import_module("paddlenlp.transformers")  # which takes longer than a run
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = Order(**json.loads(line))
        with tempfile.TemporaryFile() as output, _errors(order.columns) as (written, read):
            child = os.fork()
            if child == 0:
                for number, descriptor in enumerate((output.fileno(), written), start=1):
                    os.dup2(descriptor, number)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
                if order.file_limit >= 0:
                    limits = (order.file_limit, resource.RLIM_INFINITY)
                    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                status = main(order.arguments)
                sys.stdout.flush()
                os._exit(status)
            errors: list[bytes] = []
            status = _end(child, order, lambda: errors.append(read()))  # noqa: B023
            output.seek(0)
            said = [text.decode() for text in (output.read(), b"".join(errors))]
        answers.write(json.dumps([status, *said]) + "\n")
        answers.flush()


@contextmanager
def _errors(columns: int) -> Iterator[tuple[int, Callable[[], bytes]]]:
    """Where a child writes its errors, and how what it has written so far is read."""
    if not columns:
        with tempfile.TemporaryFile() as file:
            place = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
            yield file.fileno(), lambda: os.read(place, 1 << 20)
            os.close(place)
        return
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, columns))
    os.set_blocking(ours, False)

    def read() -> bytes:
        try:
            return os.read(ours, 1 << 20)
        except BlockingIOError:
            return b""

    yield theirs, read
    os.close(ours)
    os.close(theirs)


def _end(child: int, order: Order, listen: Callable[[], object]) -> int:
    """Wait for the child, or for the moment to signal it; its exit code."""
    run, signalled = Path(order.run), False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        listen()
        if ended:
            return os.waitstatus_to_exitcode(status)
        there = order.while_there and any(run.glob(order.while_there))
        reached = 0 <= order.after_step <= last_step(run)
        if (there or reached) and not signalled:
            signalled = True
            os.kill(child, order.signal)
        time.sleep(0.001)


def last_step(run: Path) -> int:
    """The last step in a log, -1 before the first."""
    log = run / "metrics.jsonl"
    if not log.exists():
        return -1
    whole = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    steps: list[Mapping[str, Any]] = [json.loads(line) for line in whole]
    return max((entry["step"] for entry in steps if "losses" in entry), default=-1)


if __name__ == "__main__":
    _serve()
