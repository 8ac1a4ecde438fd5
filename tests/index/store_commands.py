"""A life of an index in thirteen commands, and a process that carries them out and is disturbed.

``python -m tests.index.store_commands`` reads one job a line from its input and forks a child for
each, because starting Python and FAISS costs more than any of the commands. A child may be killed
or meet a failure at a *point*: a call of the system that touches the index folder, a statement, or
fifty steps of SQLite's machine.
"""

import builtins
import errno
import fcntl
import gc
import io
import os
import resource
import select
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import faiss  # noqa: F401 - so that no child has to
import orjson

from rocketrank.data.records import Passage
from rocketrank.errors import RocketRankError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    add_passages,
    build_index,
    compact,
    delete_passages,
    drop_snapshot,
    roll_back,
    take_snapshot,
)

from .small_index import HashingEncoder, ListCorpus, sentences

ALL = sentences(80)
FIRST, SECOND, THIRD = ALL[:44], ALL[44:60], ALL[60:72]
CHANGED = [passage._replace(text=passage.text[::-1]) for passage in [*ALL[10:17], *ALL[50:52]]]
OTHERS = [passage._replace(id=f"other-{passage.id}") for passage in ALL[20:60]]
DELETED = [ALL[place].id for place in (0, 5, 11, 12, 43, 44, 50, 59)]
DELETED_AGAIN = [ALL[place].id for place in (3, 4, 56, 57, 0)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command and what the index holds after it.

    A repeat of a command that was carried out changes nothing; but it may be ``refused`` in these
    words, and ``anew`` says that it makes the same index once more, as the next commit.
    """

    name: str
    run: Callable[[Path], object]
    holds: dict[str, Passage]
    refused: str | None = None
    anew: bool = False


def _by_id(*parts: Iterable[Passage], without: Iterable[str] = ()) -> dict[str, Passage]:
    gone = set(without)
    return {each.id: each for part in parts for each in part if each.id not in gone}


def _index(directory: Path, passages: list[Passage], *, overwrite: bool, kind: str) -> None:
    options = BuildOptions(
        kind=kind, shard_size=10, overwrite=overwrite, fields=("number",), bm25=not overwrite
    )
    build_index(directory, ListCorpus(passages), HashingEncoder(), options)


def _add(directory: Path, passages: list[Passage], *, update: bool = False) -> None:
    options = ChangeOptions(shard_size=10)
    add_passages(directory, ListCorpus(passages), HashingEncoder(), options, update=update)


def _delete(directory: Path, ids: list[str]) -> None:
    delete_passages(directory, ids, ChangeOptions())


def _delete_there(directory: Path, ids: list[str]) -> None:
    delete_passages(directory, ids, ChangeOptions(missing="allowed"))


def _compact(directory: Path, kind: str | None = None) -> None:
    compact(directory, ChangeOptions(shard_size=10), kind=kind)


_ADDED = _by_id(FIRST, SECOND)
_LEFT = _by_id(FIRST, SECOND, CHANGED, without=DELETED)
_LEFT_AGAIN = _by_id(FIRST, SECOND, without=DELETED_AGAIN)
STEPS = (
    Step(
        name="index",
        run=lambda folder: _index(folder, FIRST, overwrite=False, kind="flat"),
        holds=_by_id(FIRST),
        refused="already holds an index",
    ),
    Step(name="add", run=lambda folder: _add(folder, SECOND), holds=_ADDED),
    Step(name="snapshot", run=lambda folder: take_snapshot(folder, "first"), holds=_ADDED),
    Step(
        name="update",
        run=lambda folder: _add(folder, CHANGED, update=True),
        holds=_by_id(FIRST, SECOND, CHANGED),
    ),
    Step(
        name="delete",
        run=lambda folder: _delete(folder, DELETED),
        holds=_LEFT,
        refused="found none with the id",
    ),
    Step(
        name="add and fold",
        run=lambda folder: _add(folder, THIRD),
        holds=_LEFT | _by_id(THIRD),
    ),
    Step(name="rollback", run=lambda folder: roll_back(folder, "first"), holds=_ADDED),
    Step(
        name="delete what is there",
        run=lambda folder: _delete_there(folder, DELETED_AGAIN),
        holds=_LEFT_AGAIN,
    ),
    Step(name="compact", run=_compact, holds=_LEFT_AGAIN),
    Step(name="compact to ivf", run=lambda folder: _compact(folder, "ivf"), holds=_LEFT_AGAIN),
    Step(name="rollback past it", run=lambda folder: roll_back(folder, "first"), holds=_ADDED),
    Step(
        name="drop the snapshot",
        run=lambda folder: drop_snapshot(folder, "first"),
        holds=_ADDED,
        refused="expected the name of a snapshot",
    ),
    Step(
        name="index --overwrite",
        run=lambda folder: _index(folder, OTHERS, overwrite=True, kind="ivf"),
        holds=_by_id(OTHERS),
        anew=True,
    ),
)
ONCE_THERE = [*DELETED, *DELETED_AGAIN, THIRD[0].id, OTHERS[0].id]
"""Ids that some commits have and others have not."""

FAILURES: dict[str, tuple[int, ...]] = {
    "fsync": (errno.EIO, errno.ENOSPC),
    "replace": (errno.EIO, errno.ENOSPC),
    "unlink": (errno.EIO, errno.EROFS),
    "rmdir": (errno.EIO,),
    "mkdir": (errno.ENOSPC, errno.EROFS),
    "create": (errno.ENOSPC, errno.EROFS, errno.EMFILE),
    "open": (errno.EIO, errno.EMFILE),
    "write": (errno.ENOSPC, errno.EIO),
    "close": (errno.ENOSPC, errno.EDQUOT),
    "flock": (errno.ENOLCK,),
}
"""The system's errors that each kind of point can fail with; ``create`` opens for writing."""
_UNSEEN = ("SELECT", "INSERT INTO passages", "INSERT INTO fields")
"""Statements that leave nothing on the disk, or nothing that the steps do not also meet."""
_NEEDS_SPACE = ("fsync", "replace", "mkdir", "create", "write", "close")


def limit_files(size: int, action: signal.Handlers) -> None:
    """Lets no file grow beyond ``size`` bytes: the system ends the process, or the call fails."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, action)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@dataclass(kw_only=True)
class Points:
    """Counts the points that are met below ``folder``, and acts at number ``at``."""

    folder: str
    at: int | None = None
    error: int | None = None
    lasting: bool = False
    met: list[str] = field(default_factory=list)

    def meet(self, name: str, place: Any) -> None:
        """Kills this process, or raises OSError, if this is the point. Counts from 1."""
        if isinstance(place, int):
            place = os.readlink(f"/proc/self/fd/{place}")
        place = os.fspath(place)
        if not isinstance(place, str) or not place.startswith(self.folder):
            return
        self.met.append(f"{name} {Path(place).name}")
        number = len(self.met)
        if self.error is None:
            if number == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        elif self.at is not None and (
            number == self.at or (self.lasting and number > self.at and name in _NEEDS_SPACE)
        ):
            raise OSError(self.error, os.strerror(self.error), place)


class _Written:
    """A file open for writing, whose writes and closing are points. A failing write is cut off."""

    def __init__(self, file: Any, points: Points, place: Any) -> None:
        self._file = file
        self._points = points
        self._place = place

    def write(self, data: Any) -> Any:
        try:
            self._points.meet("write", self._place)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def close(self) -> None:
        try:
            if not self._file.closed:
                self._points.meet("close", self._place)
        finally:
            self._file.close()

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: BaseException | type[BaseException] | TracebackType | None) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def watch(points: Points, pages: int | None) -> None:
    """Makes points of what this process calls from now on; ``pages`` bounds SQLite files."""
    for name, which in {"fsync": 0, "replace": 1, "unlink": 0, "rmdir": 0, "mkdir": 0}.items():
        setattr(os, name, _met(getattr(os, name), points, name, which))
    fcntl.flock = _met(fcntl.flock, points, "flock", 0)
    open_file, open_descriptor, connect = builtins.open, os.open, sqlite3.connect

    def opening(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        writes = any(letter in mode for letter in "wxa+")
        if not isinstance(file, int):
            points.meet("create" if writes else "open", file)
        opened = open_file(file, mode, *arguments, **named)
        return _Written(opened, points, file) if writes else opened

    def opening_descriptor(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        points.meet("create" if flags & os.O_CREAT else "open", path)
        return open_descriptor(path, flags, *arguments, **named)

    def executing(statement: str, database: Any) -> None:
        if not statement.startswith(_UNSEEN):
            points.meet("statement", database)

    def connecting(database: Any, *arguments: Any, **named: Any) -> Any:
        connection = connect(database, *arguments, **named)
        if not named.get("uri"):
            if pages is not None:
                connection.execute(f"PRAGMA max_page_count = {pages}")
            connection.set_trace_callback(lambda text: executing(text, database))
            connection.set_progress_handler(lambda: points.meet("step", database), 50)
        return connection

    builtins.open = io.open = opening
    os.open = opening_descriptor
    sqlite3.connect = connecting


def _met(original: Callable[..., Any], points: Points, name: str, which: int) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        points.meet(name, arguments[which])
        return original(*arguments, **named)

    return call


def _carry_out(job: dict[str, Any]) -> dict[str, Any]:
    """Runs the job's command in this process, disturbed as the job says."""
    directory = Path(job["directory"])
    points = Points(
        folder=str(directory),
        at=job.get("at"),
        error=job.get("error"),
        lasting=job.get("lasting", False),
    )
    if job.get("watched"):
        watch(points, job.get("pages"))
    if "bytes" in job:
        limit_files(job["bytes"], signal.SIG_DFL if job["kill"] else signal.SIG_IGN)
    try:
        STEPS[job["step"]].run(directory)
        ended, words = "done", ""
    except RocketRankError as error:
        ended, words = "refused", str(error)
    except BaseException:
        ended, words = "traceback", traceback.format_exc()
    return {"ended": ended, "words": words, "points": points.met}


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Runs the job in a child and says how it ended: done, refused, traceback or killed."""
    reading, writing = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if not child:
        os.write(writing, orjson.dumps(_carry_out(job)))
        os._exit(0)
    os.close(writing)
    if "seconds" in job and not select.select([reading], [], [], job["seconds"])[0]:
        os.kill(child, signal.SIGKILL)
    content = b"".join(iter(lambda: os.read(reading, 1 << 16), b""))
    os.close(reading)
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"ended": "killed", "words": name, "points": [], "seconds": seconds}
    return {**orjson.loads(content), "seconds": seconds}


if __name__ == "__main__":
    gc.freeze()  # so that collecting garbage in a child copies none of this process's memory
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(perform(orjson.loads(line))) + b"\n")
        sys.stdout.buffer.flush()
