"""Processes that search while another one writes find exactly what their commit holds."""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    ChangeReport,
    Index,
    add_passages,
    build_index,
    compact,
    delete_passages,
)
from rocketrank.index.commits import HeldCommit

from .reading_process import CYCLE, FIELDS, VECTORS, Schedule, Step, passage
from .small_index import ListCorpus, TableEncoder

SCRIPT = Path(__file__).with_name("reading_process.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
ENCODER = TableEncoder(VECTORS)
OPTIONS = ChangeOptions(shard_size=64, threads=1)


def start(directory: Path, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, SCRIPT, directory, str(number)],
        env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def build(directory: Path, schedule: Schedule) -> None:
    corpus = ListCorpus([passage(*each) for each in schedule.contents.items()])
    options = BuildOptions(kind="ivf", shard_size=64, fields=FIELDS, threads=1)
    build_index(directory, corpus, ENCODER, options)


def write(directory: Path, step: Step, schedule: Schedule) -> ChangeReport:
    """Makes the commit that ``schedule`` has come to by ``step``."""
    if step.change == "compact":
        return compact(directory, OPTIONS)
    if step.change == "delete":
        return delete_passages(directory, [f"p{number}" for number in step.numbers], OPTIONS)
    corpus = ListCorpus([passage(number, schedule.contents[number]) for number in step.numbers])
    return add_passages(directory, corpus, ENCODER, OPTIONS, update=step.change == "update")


def check_alive(readers: list[subprocess.Popen[bytes]]) -> None:
    for reader in readers:
        if reader.poll() is not None:
            pytest.fail(reader.communicate()[1].decode())


def write_beside_readers(
    directory: Path, *, readers: int, commits: int, seconds: float
) -> Counter[str]:
    """Makes ``commits`` commits in not less than ``seconds``; what all were done with."""
    schedule = Schedule()
    done: Counter[str] = Counter()
    build(directory / "index", schedule)
    processes = [start(directory, number) for number in range(readers)]
    try:
        while not all((directory / f"reading-{number}").exists() for number in range(readers)):
            check_alive(processes)
            time.sleep(0.05)
        started = time.monotonic()
        for number in range(commits):
            check_alive(processes)
            step = schedule.advance()
            report = write(directory / "index", step, schedule)
            assert (report.commit, report.passages) == (schedule.commit, len(schedule.contents))
            done[step.change] += len(step.numbers)
            early = started + seconds * (number + 1) / commits - time.monotonic()
            time.sleep(max(0, early))
        (directory / "stop").touch()
        for process in processes:
            output, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
            done += Counter(orjson.loads(output))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return done


def test_processes_that_read_beside_a_writer_find_what_their_commit_holds(tmp_path: Path) -> None:
    done = write_beside_readers(tmp_path, readers=2, commits=3 * CYCLE, seconds=4)
    assert done["over_a_compaction"] >= 2
    assert done["openings"] >= done["commits"] >= 4


def test_a_reader_that_comes_too_late_for_a_commit_opens_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the manifest and taking hold of its commit, a writer forgets that commit.

    Its files are there for a while longer, because another reader holds a commit that shares them.
    """
    schedule = Schedule()
    build(tmp_path, schedule)
    others: list[Index] = []

    def too_late(directory: Path, number: int) -> HeldCommit:
        if number == 1:
            delete_passages(directory, ["p0"], OPTIONS)
            others.append(Index.open(directory))
            compact(directory, OPTIONS)
        return HeldCommit(directory, number)

    monkeypatch.setattr("rocketrank.index.reader.HeldCommit", too_late)
    with Index.open(tmp_path) as index:
        others[0].close()
        delete_passages(tmp_path, ["p1"], OPTIONS)
        assert index.manifest.commit == 3
        with ThreadPoolExecutor(1) as pool:
            [found] = pool.submit(index.passages_by_id, ["p1"]).result()
        assert found == passage(1, 1)


@pytest.mark.slow
def test_four_processes_read_for_a_minute_while_10000_passages_come_and_go(tmp_path: Path) -> None:
    done = write_beside_readers(tmp_path, readers=4, commits=204, seconds=60)
    assert done["add"] >= 10_000 and done["delete"] >= 10_000
    assert done["over_a_compaction"] >= 4
