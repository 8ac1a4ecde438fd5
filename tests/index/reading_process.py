"""A writer's schedule, what each commit of it holds, and a process that reads while it goes on.

``python reading_process.py DIRECTORY NUMBER`` opens the index in ``DIRECTORY/index`` again and
again, and holds one commit over several others, until there is a file ``DIRECTORY/stop``. It checks
all that it finds against what the commit must hold, and ends with a report in JSON.
"""

import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.index import Index

DIM = 16
FIELDS = ("parity",)
CYCLE = 12
"""Commits from one compaction to the next."""
FIRST = 1_000
"""Passages in commit 1."""
ADDED, DELETED, UPDATED = 100, 150, 50
"""Passages of one step; additions are half as many again as deletions, so the size stays."""
TEXTS = 60_000
# Small whole numbers, so that sums are exact in any order; repeated vectors, so that scores tie.
_DISTINCT = np.random.default_rng(3).integers(-40, 41, size=(TEXTS // 4, DIM)).astype(np.float32)
VECTORS = np.concatenate([_DISTINCT] * 4)
"""Row ``n`` is the vector of the passages with the text ``n``."""


@dataclass(frozen=True)
class Step:
    """What makes a commit of the one before: passages with ids and texts, ids, or neither."""

    change: str
    numbers: tuple[int, ...] = ()


class Schedule:
    """The contents of commits, one after another: numbers of passages with their texts, in order.

    Six additions, four deletions, an update and a compaction take turns.
    """

    def __init__(self) -> None:
        self.commit = 1
        self.contents = {number: number for number in range(FIRST)}
        self._next = FIRST

    def advance(self) -> Step:
        """Goes to the next commit; what was done for it."""
        self.commit += 1
        random = np.random.default_rng(self.commit)
        place = self.commit % CYCLE
        if place == 0:
            return Step("compact")
        if place == 6:
            chosen = random.choice([*self.contents], UPDATED, replace=False).tolist()
            for number in chosen:  # a replaced passage comes last in the order
                self.contents[number] = (self.contents.pop(number) + 7_919) % TEXTS
            return Step("update", tuple(chosen))
        if place % 2:
            chosen = [*range(self._next, self._next + ADDED)]
            self._next += ADDED
            self.contents |= {number: number % TEXTS for number in chosen}
            return Step("add", tuple(chosen))
        chosen = random.choice([*self.contents], DELETED, replace=False).tolist()
        for number in chosen:
            del self.contents[number]
        return Step("delete", tuple(chosen))


def passage(number: int, text: int) -> Passage:
    return Passage(f"p{number}", str(text), metadata={"parity": text % 2})


class Commit:
    """What a commit must hold, and the exact search in it."""

    def __init__(self, schedule: Schedule) -> None:
        self.number = schedule.commit
        self.passages = [passage(*each) for each in schedule.contents.items()]
        self._texts = np.array([*schedule.contents.values()])
        self._vectors = VECTORS[self._texts].astype(np.float64)

    def check(self, index: Index, random: np.random.Generator) -> None:
        """Raises AssertionError for a wrong, missing, duplicate or misplaced hit or passage."""
        assert index.manifest.commit == self.number
        assert len(index) == len(self.passages)
        queries = random.integers(-40, 41, size=(4, DIM)).astype(np.float32)
        for k, parity in ((1, None), (10, None), (100, 1), (len(self.passages) + 5, None)):
            where = None if parity is None else f"parity = {parity}"
            found = index.search(queries, k, where=where)
            for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
                places, expected = self._best(query, k, parity)
                count = len(places)
                assert scores[:count].tolist() == expected.tolist()
                assert (rows[:count] >= 0).all() and (rows[count:] == -1).all()
                hits = index.passages(rows[:count].tolist())
                assert hits == [self.passages[place] for place in places]
        chosen = random.choice(len(self.passages), 20).tolist()
        asked = [self.passages[place] for place in chosen]
        assert index.passages_by_id([each.id for each in asked]) == asked

    def check_all(self, index: Index) -> None:
        """Every passage, in the index's order."""
        assert [*index.live_passages()] == self.passages

    def _best(
        self, query: NDArray[np.float32], k: int, parity: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        places = np.arange(len(self._texts))
        if parity is not None:
            places = places[self._texts % 2 == parity]
        scores = self._vectors[places] @ query
        best = np.argsort(-scores, kind="stable")[:k]
        return places[best], scores[best]


class Reader:
    """Opens the newest commit for each round, and holds one until two compactions went over it."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._schedule = Schedule()
        self._random = np.random.default_rng(number)
        self._newest: Commit | None = None
        self._held: tuple[Index, Commit] | None = None
        self.report = Counter(openings=0, commits=0, over_a_compaction=0)

    def round(self) -> None:
        index = Index.open(self._directory, threads=1)
        commit = self._contents(index.manifest.commit)
        commit.check(index, self._random)
        self.report["openings"] += 1
        if self._held is None:
            self._held = index, commit
            return
        self._check_held(*self._held, index.manifest.history_from)
        index.close()

    def _contents(self, number: int) -> Commit:
        while self._schedule.commit < number:
            self._schedule.advance()
        if self._newest is None or self._newest.number < number:
            self._newest = Commit(self._schedule)
            self.report["commits"] += 1
        return self._newest

    def _check_held(self, index: Index, commit: Commit, compacted: int) -> None:
        """``compacted`` is the commit of the last compaction."""
        # A thread that is new opens the files again, so they must be there still.
        _in_a_new_thread(lambda: commit.check(index, self._random))
        if compacted > commit.number:
            self.report["over_a_compaction"] += 1
            _in_a_new_thread(lambda: commit.check_all(index))
            with Index.open(self._directory, threads=1, commit=str(commit.number)) as again:
                commit.check(again, self._random)
        if compacted > commit.number + CYCLE:
            index.close()
            self._held = None


def _in_a_new_thread(action: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(action).result()


def main(directory: Path, number: int) -> None:
    reader = Reader(directory / "index", number)
    reader.round()
    (directory / f"reading-{number}").touch()
    while not (directory / "stop").exists():
        reader.round()
    reader.round()
    print(orjson.dumps(reader.report).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
