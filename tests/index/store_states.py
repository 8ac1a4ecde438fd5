"""What an index holds, the undisturbed life that others are compared with, and the comparison.

The undisturbed life is that of ``store_commands.STEPS``: stage n is the folder after n commands.
"""

import contextlib
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import Index, history, roll_back

from .store_commands import ONCE_THERE, STEPS

_T = TypeVar("_T")
ROOT = Path(__file__).resolve().parents[2]
WORDS = ["w1 w2 w3", "title w7"]
QUERIES = np.random.default_rng(5).standard_normal((17, 16)).astype(np.float32)


@dataclass(frozen=True)
class Content:
    """All passages in the order of their rows, and for each query all ids and scores in order.

    With more queries than a vector has dimensions the scores are as telling as the vectors.
    ``words`` are the same for queries by words, where the index has postings.
    """

    passages: tuple[Passage, ...]
    found: tuple[tuple[str, ...], ...]
    scores: bytes
    words: tuple[tuple[tuple[str, float], ...], ...] | None


@dataclass(frozen=True)
class State:
    """The commit in force, what it holds, and what each snapshot holds."""

    commit: int
    content: Content
    snapshots: dict[str, Content]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended; see ``store_commands.perform``."""

    ended: str
    words: str
    points: list[str]
    seconds: float


class Commands:
    """The process that carries out jobs."""

    def __init__(self) -> None:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads do not survive a fork
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.index.store_commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **one, "PYTHONPATH": str(ROOT / "src")},
        )

    def run(self, directory: Path, step: int, **disturbance: Any) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"directory": str(directory), "step": step, **disturbance}
        self._process.stdin.write(orjson.dumps(job) + b"\n")
        self._process.stdin.flush()
        return Outcome(**orjson.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def content_of(
    directory: Path, commit: str | None = None, queries: NDArray[np.float32] = QUERIES
) -> tuple[int, Content]:
    """A commit's number and what it holds; deleted ids are asked for, too."""
    with Index.open(directory, commit=commit, threads=1) as index:
        rows = index.rows()
        passages = tuple(index.passages(rows.tolist()))
        result = index.search(queries, len(index) + 3)
        assert (result.rows[:, len(index) :] == -1).all()
        ids = dict(zip(rows.tolist(), (passage.id for passage in passages), strict=True))
        found = tuple(tuple(ids[row] for row in each[: len(index)]) for each in result.rows)
        there = set(ids.values())
        assert len(there) == len(index)
        for passage_id in set(ONCE_THERE) - there:
            with pytest.raises(DataError, match="found none with the id"):
                index.check_ids([passage_id])
        assert tuple(index.passages_by_id(list(ids.values()))) == passages
        content = Content(passages, found, result.scores.tobytes(), _found_by_words(index, ids))
        return index.manifest.commit, content


def _found_by_words(
    index: Index, ids: dict[int, str]
) -> tuple[tuple[tuple[str, float], ...], ...] | None:
    if not index.has_words:
        return None
    result = index.search_words(WORDS, len(index) + 3)
    return tuple(
        tuple((ids[row], score) for row, score in zip(*each, strict=True) if row >= 0)
        for each in zip(result.rows.tolist(), result.scores.tolist(), strict=True)
    )


def state_of(directory: Path) -> State | None:
    """None where there is no index yet; every other thing that does not open is an error."""
    if not (directory / "manifest.json").exists():
        return None
    number, content = content_of(directory)
    names = sorted(path.stem for path in (directory / "snapshots").glob("*.json"))
    return State(number, content, {name: content_of(directory, name)[1] for name in names})


def tree(directory: Path) -> dict[str, Any]:
    """Every file's content, without the times in manifests."""
    found: dict[str, Any] = {}
    for path in directory.rglob("*"):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            found[name] = path.read_bytes()
            if path.suffix == ".json":
                found[name] = orjson.loads(found[name])
                found[name].pop("created", None)
    return found


class Life:
    """The undisturbed life, kept in a folder of its own, and disturbed repetitions of its steps."""

    def __init__(self, folder: Path, commands: Commands) -> None:
        self.folder = folder
        self.commands = commands
        self.work = folder / "work"
        self.states: list[State | None] = [None]
        self.trees: list[dict[str, Any]] = [{}]
        self.outcomes: list[Outcome] = []
        self._contents: dict[int, tuple[int, Content]] = {}
        for step in range(len(STEPS)):
            self._start_at(step)
            self.outcomes.append(commands.run(self.work, step, watched=True))
            assert self.outcomes[-1].ended == "done", self.outcomes[-1].words
            state = state_of(self.work)
            assert state is not None
            self.states.append(state)
            self.trees.append(tree(self.work))
            self._contents[state.commit] = content_of(self.work, queries=QUERIES[:2])
            shutil.copytree(self.work, folder / str(step + 1))

    def _start_at(self, stage: int) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if stage:
            shutil.copytree(self.folder / str(stage), self.work)

    def largest_file(self, step: int) -> int:
        return max(path.stat().st_size for path in (self.folder / str(step + 1)).rglob("*"))

    def usual_seconds(self, step: int) -> float:
        """The duration of the step when nobody counts its points."""
        self._start_at(step)
        return self.commands.run(self.work, step).seconds

    def disturbed(self, step: int, **disturbance: Any) -> Outcome:
        """Carries out the step disturbed, then again undisturbed, and examines both results.

        AssertionError when anything is lost or the repeat does not lead where it should.
        """
        self._start_at(step)
        outcome = self.commands.run(self.work, step, **disturbance)
        assert outcome.ended != "traceback", outcome.words
        self._complete(step, self._examine(step))
        return outcome

    def _examine(self, step: int) -> State | None:
        """The state, which must be that before the step or that after it, with all commits."""
        state = state_of(self.work)
        assert state in self.states[step : step + 2]
        if state is not None:
            for note in history(self.work):
                kept = content_of(self.work, str(note.number), QUERIES[:2])
                assert kept == self._contents[note.number]
            with pytest.raises(UsageError, match="expected a commit that is kept"):
                Index.open(self.work, commit=str(state.commit + 1))
        return state

    def _complete(self, step: int, state: State | None) -> None:
        after = self.states[step + 1]
        assert after is not None
        again = self.commands.run(self.work, step)
        refused, carried_out = STEPS[step].refused, state == after
        if carried_out and STEPS[step].anew:
            assert again.ended == "done"
            assert content_of(self.work) == (after.commit + 1, after.content)
            return
        if carried_out and refused is not None:
            assert again.ended == "refused"
            assert refused in again.words
            roll_back(self.work, str(after.commit))  # changes nothing, and removes what was left
        else:
            assert (again.ended, again.words) == ("done", "")
        assert tree(self.work) == self.trees[step + 1]  # whose state was looked at


@contextlib.contextmanager
def undisturbed() -> Iterator[Life]:
    """The life in a folder that is removed afterwards: in memory, if the system has such a place.

    What a killed process leaves does not depend on the disk, and thousands of fsyncs take time.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    commands = Commands()
    try:
        with tempfile.TemporaryDirectory(prefix="rocketrank-", dir=place) as folder:
            yield Life(Path(folder), commands)
    finally:
        commands.close()


class Tally:
    """Counts what the full test did, for a table of a row a command."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, step: int, column: str, count: int) -> None:
        self._counts[STEPS[step].name, column] = count

    def show(self) -> None:
        columns = list(dict.fromkeys(column for _, column in self._counts))
        counts = [[self._counts.get((step.name, each), 0) for each in columns] for step in STEPS]
        rows = [(step.name, row) for step, row in zip(STEPS, counts, strict=True)]
        rows.append(("together", [sum(column) for column in zip(*counts, strict=True)]))
        print("\n")
        print("|", " | ".join(["command", *columns]), "|")
        print("|---|", "--:|" * len(columns), sep="")
        for name, cells in rows:
            print("|", name, "|", " | ".join(str(cell) for cell in cells), "|")


def share(choices: Sequence[_T], seed: int) -> list[_T]:
    """All, or the share of them that ``$CRASH_SHARE`` says, in their order."""
    count = math.ceil(float(os.environ.get("CRASH_SHARE", "1")) * len(choices))
    places = sorted(random.Random(seed).sample(range(len(choices)), count))
    return [choices[place] for place in places]
