"""What a mining run has finished, batch by batch, so that a killed run goes on where it was.

The file lies beside the output as ``OUTPUT.mining.partial``: JSON lines, the first with what the
run was begun with, then one for each batch of queries, fsynced before the next batch is begun. A
line that is torn, and what follows it, was never finished and is cut off.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from ..durable import PARTIAL, explained_write, fsync
from ..errors import RocketRankError, UsageError

_BEGINNING = b'{"mining":{'

_log = logging.getLogger(__name__)


def ledger_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.mining{PARTIAL}")


class MiningLedger:
    """The finished batches of one run; a context manager that holds the file for this process.

    Where the run fails before its first batch is finished, the file is removed.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, object], *, restart: bool = False
    ) -> None:
        """Opens the ledger at ``path`` or begins one.

        ``identity`` is all that the batches depend on; a ledger that was begun with another is a
        UsageError, or with ``restart`` begun anew. RocketRankError while another process mines.
        """
        self.path = path
        self.finished = 0
        with explained_write(path):
            existed = path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._file: BinaryIO = os.fdopen(descriptor, "r+b")
            if not existed:
                fsync(path.parent)
        try:
            self._lock()
            self._recover({"mining": dict(identity)}, restart=restart)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self.finished:
            with suppress(RocketRankError):  # nothing is lost; the first error is the one to tell
                self.remove()
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # a second word about what could not be written
            self._file.close()

    def append(self, record: Mapping[str, object]) -> None:
        """Stores the next batch durably; when this returns it is finished."""
        self._write({"batch": self.finished, **record})
        self.finished += 1

    def records(self) -> Iterator[dict[str, Any]]:
        """The finished batches in order, one in memory at a time."""
        with open(self.path, "rb") as file:
            file.readline()
            for line in file:
                yield orjson.loads(line)

    def remove(self) -> None:
        """Deletes the file: what it holds is in the output."""
        with explained_write(self.path):
            self.path.unlink(missing_ok=True)
            fsync(self.path.parent)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RocketRankError(
                f"{self.path}: another process is mining these lists: wait until it ends, or stop "
                "it and run the same command again; it goes on where it stopped"
            ) from error
        except OSError as error:
            raise RocketRankError(
                f"{self.path}: the file system refuses a lock ({error.strerror}): write the lists "
                "to a local disk"
            ) from error

    def _recover(self, beginning: Mapping[str, object], *, restart: bool) -> None:
        first = self._file.readline()
        if first[: len(_BEGINNING)] != _BEGINNING[: len(first)]:
            raise UsageError(
                f"{self.path}: expected the ledger of an unfinished mining run, found another "
                "file: move it away"
            )
        found = _parsed(first)
        ours = orjson.loads(orjson.dumps(beginning))
        if found is not None and found != ours:
            if not restart:
                raise UsageError(self._difference(found["mining"], ours["mining"]))
            found = None
        end = 0 if found is None else len(first) + self._finished_bytes()
        with explained_write(self.path):
            if end < os.fstat(self._file.fileno()).st_size:
                _log.info("%s: a batch that was not finished is left out", self.path)
            self._file.truncate(end)
            self._file.seek(end)
        if found is None:
            self._write(beginning)

    def _finished_bytes(self) -> int:
        """Counts the finished batches behind the first line, and gives their bytes."""
        size = 0
        for line in self._file:
            record = _parsed(line)
            if record is None or record.get("batch") != self.finished:
                break
            size += len(line)
            self.finished += 1
        return size

    def _write(self, record: Mapping[str, object]) -> None:
        with explained_write(self.path):
            self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _difference(self, theirs: Mapping[str, object], ours: Mapping[str, object]) -> str:
        name = next(key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key))
        return (
            f"{self.path}: this unfinished mining run was begun with {name.replace('_', ' ')} "
            f"{theirs.get(name)}, and this command has {ours.get(name)}: run it as before to go "
            "on, or start again with --overwrite"
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The object on a whole line, None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
