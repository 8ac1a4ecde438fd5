"""Which file lies where in an index folder, and which folders are ours to write in.

A folder holds ``manifest.json``, ``build.lock`` and, for each *generation*, ``passages.sqlite``,
``vectors/`` and ``faiss/``. The first build is generation 1 and has these plain names; a build that
replaces an index writes ``passages-2.sqlite``, ``vectors-2/``, ``faiss-2/`` beside it, and so on.
Numbers only grow: a reader that still holds the old manifest then finds its files gone, never
another build's under the same name.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..durable import PARTIAL, explained_write
from ..errors import RocketRankError, UsageError

LOCK = "build.lock"
MANIFEST = "manifest.json"
APPLICATION_ID = 0x52524958
"""SQLite's ``application_id`` of our passages file ("RRIX"), at byte 68 of its header."""

_OURS = re.compile(r"(passages|vectors|faiss)(?:-([1-9]\d*))?(\.sqlite)?")
_INNER = re.compile(r"\d{6,}\.npy|[a-z]+\.faiss")


@dataclass(frozen=True)
class Layout:
    """The paths of one generation."""

    directory: Path
    generation: int

    @property
    def _suffix(self) -> str:
        return "" if self.generation == 1 else f"-{self.generation}"

    @property
    def passages(self) -> Path:
        return self.directory / f"passages{self._suffix}.sqlite"

    @property
    def vectors(self) -> Path:
        return self.directory / f"vectors{self._suffix}"

    @property
    def faiss(self) -> Path:
        return self.directory / f"faiss{self._suffix}"

    def vector_file(self, shard: int) -> Path:
        return self.vectors / f"{shard:06d}.npy"

    def relative(self, path: Path) -> str:
        """How the manifest names ``path``."""
        return path.relative_to(self.directory).as_posix()


def is_ledger(path: Path) -> bool:
    """Whether ``path`` is an SQLite file that RocketRank made."""
    try:
        with open(path, "rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header[:15] == b"SQLite format 3" and header[68:] == APPLICATION_ID.to_bytes(4, "big")


def generations(directory: Path) -> list[int]:
    """Generations that have a passages file, finished or not, in rising order."""
    found = []
    for path in directory.iterdir():
        match = _OURS.fullmatch(path.name)
        if match and match[1] == "passages" and match[3] == ".sqlite" and is_ledger(path):
            found.append(int(match[2] or 1))
    return sorted(found)


def refuse_foreign(directory: Path, *, has_our_manifest: bool) -> None:
    """Refuses a folder that is in use for something else, before anything in it is touched."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected a folder for the index, found a file")
    ours = {LOCK, f"passages.sqlite{PARTIAL}", f"passages.sqlite{PARTIAL}-journal"}
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in ours)
    if not foreign or has_our_manifest or generations(directory):
        return
    raise UsageError(
        f"{directory}: expected an empty folder or an index, found a folder with other things in "
        f"it ({foreign[0]}{', …' if len(foreign) > 1 else ''}): name a new folder with --index"
    )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the right to write in ``directory``; the system frees it when this process dies.

    The lock file stays, because removing it would let two processes lock two different files.
    """
    path = directory / LOCK
    with explained_write(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RocketRankError(
                f"{directory}: another process is building this index: wait until it ends, or "
                "stop it and run the same command again; it goes on where it stopped"
            ) from error
        except OSError as error:
            raise RocketRankError(
                f"{path}: the file system refuses a lock ({error.strerror}): "
                "put the index on a local disk"
            ) from error
        yield
    finally:
        os.close(descriptor)


def remove_generations(directory: Path, *, keep: set[int]) -> None:
    """Removes the files of all generations but ``keep``; only names that we give are touched."""
    for path in sorted(directory.iterdir()):
        match = _OURS.fullmatch(path.name.removesuffix("-journal").removesuffix(PARTIAL))
        if match is None or int(match[2] or 1) in keep:
            continue
        with explained_write(path):
            if match[1] == "passages" and match[3] is not None and path.is_file():
                path.unlink()
            elif match[1] != "passages" and match[3] is None and path.is_dir():
                remove_inner_files(path, keep=set())
                if not any(path.iterdir()):
                    path.rmdir()


def remove_inner_files(folder: Path, *, keep: set[Path]) -> None:
    """Removes vector and FAISS files, whole and partial, from ``folder``, but for ``keep``."""
    for path in sorted(folder.iterdir()):
        if path not in keep and _INNER.fullmatch(path.name.removesuffix(PARTIAL)):
            path.unlink()
