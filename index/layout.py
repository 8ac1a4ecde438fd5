"""Which file lies where in an index folder, and which folders are ours to write in.

``manifest.json`` names the files of the commit in force; ``commits/`` holds a copy of each commit
that is kept, ``snapshots/`` the names that some were given. A *segment* is a folder of passages,
vectors, their FAISS structure and perhaps postings, written once and never changed: what is deleted
from it is said by a file of bits beside them, a new one for each commit. A number is used again
only when no commit that is kept has it, so a name never has two contents.
"""

import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..durable import PARTIAL, explained_write
from ..errors import RocketRankError, UsageError

LOCK = "write.lock"
MANIFEST = "manifest.json"
COMMITS = "commits"
SNAPSHOTS = "snapshots"
SEGMENTS = "segments"
APPLICATION_ID = 0x52524958
"""SQLite's ``application_id`` of our passages file ("RRIX"), at byte 68 of its header."""

_SEGMENT = re.compile(r"\d{6,}")
_INNER = r"passages\.sqlite|vectors/\d{6,}\.npy|[a-z0-9-]+\.(faiss|bm25)|live-\d{6,}\.bits"
# Format 1 kept one segment in the index folder itself, a rebuilt one under numbered names.
_FORMAT_1 = r"passages(-\d+)?\.sqlite|vectors(-\d+)?/\d{6,}\.npy|faiss(-\d+)?/[a-z]+\.faiss"
_FOLDER = re.compile(rf"{SEGMENTS}/\d{{6,}}(/vectors)?|(vectors|faiss)(-\d+)?")
_OURS = re.compile(rf"{SEGMENTS}/\d{{6,}}/({_INNER})|{_FORMAT_1}|{COMMITS}/\d{{6,}}\.json")
_HALF = re.compile(rf"({re.escape(MANIFEST)}|{SNAPSHOTS}/[^/]+\.json){re.escape(PARTIAL)}")
"""What a process that died may leave beside files that no commit names."""


@dataclass(frozen=True)
class SegmentFolder:
    """The paths of one segment of the index in ``directory``."""

    directory: Path
    number: int

    @property
    def folder(self) -> Path:
        return self.directory / SEGMENTS / f"{self.number:06d}"

    @property
    def passages(self) -> Path:
        return self.folder / "passages.sqlite"

    @property
    def vectors(self) -> Path:
        return self.folder / "vectors"

    def vector_file(self, shard: int) -> Path:
        return self.vectors / f"{shard:06d}.npy"

    def structure(self, kind: str, part: int = 0) -> Path:
        return self.folder / (f"{kind}-{part + 1}.faiss" if part else f"{kind}.faiss")

    def postings(self, commit: int | None = None) -> Path:
        """The postings that the segment was made with, or got as of ``commit``."""
        return self.folder / ("postings.bm25" if commit is None else f"postings-{commit:06d}.bm25")

    def live(self, commit: int) -> Path:
        """The bits that say which rows were not deleted, as of ``commit``."""
        return self.folder / f"live-{commit:06d}.bits"


def relative(directory: Path, path: Path) -> str:
    """How the manifest names ``path``."""
    return path.relative_to(directory).as_posix()


def is_ledger(path: Path) -> bool:
    """Whether ``path`` is an SQLite file that RocketRank made.

    Raises RocketRankError for a file that cannot be read: it may well be one, and its segment's
    number must not be given again.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(72)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise RocketRankError(
            f"{path}: cannot be read ({error.strerror}): check permissions and the disk, then run "
            "the same command again"
        ) from error
    return header[:15] == b"SQLite format 3" and header[68:] == APPLICATION_ID.to_bytes(4, "big")


def segment_numbers(directory: Path) -> list[int]:
    """Segments that have a passages file, committed or not, in rising order."""
    folder = directory / SEGMENTS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(name) for name in names if _SEGMENT.fullmatch(name))
    return [each for each in numbers if is_ledger(SegmentFolder(directory, each).passages)]


def refuse_foreign(directory: Path, *, has_our_manifest: bool) -> None:
    """Refuses a folder that is in use for something else, before anything in it is touched."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected a folder for the index, found a file")
    if has_our_manifest or segment_numbers(directory):
        return
    foreign = sorted(path.name for path in directory.iterdir() if path.name != LOCK)
    if foreign == [SEGMENTS]:  # a build that was killed before its first segment had a ledger
        inner = {path.name for path in (directory / SEGMENTS).rglob("*")}
        if all(_SEGMENT.fullmatch(name) or name.startswith("passages.sqlite") for name in inner):
            return
    if foreign:
        raise UsageError(
            f"{directory}: expected an empty folder or an index, found a folder with other things "
            f"in it ({foreign[0]}{', …' if len(foreign) > 1 else ''}): name a new folder with "
            "--index"
        )


@contextmanager
def locked(directory: Path, *, wait: float = 0) -> Iterator[None]:
    """Holds the right to write in ``directory``; the system frees it when this process dies.

    Another writer is waited for, up to ``wait`` seconds. The lock file stays, because removing it
    would let two processes lock two different files.
    """
    if not 0 <= wait < float("inf"):
        raise UsageError(f"wait ({wait}) must be a number of seconds, 0 or more")
    path = directory / LOCK
    with explained_write(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + wait
        while not _try_lock(descriptor, path):
            if time.monotonic() >= deadline:
                raise RocketRankError(
                    f"{directory}: another process is writing this index"
                    f"{f', still after {wait:g} s' if wait else ''}: wait until it ends (--wait "
                    "SECONDS), or stop it and run its command again, which goes on where it "
                    "stopped"
                )
            time.sleep(0.02)
        yield
    finally:
        # A process that was forked meanwhile holds the descriptor too, and with it the lock.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise RocketRankError(
            f"{path}: the file system refuses a lock ({error.strerror}): "
            "put the index on a local disk"
        ) from error
    return True


def stray_files(directory: Path, used: Collection[str]) -> list[Path]:
    """Files under names that we give which ``used`` (paths below ``directory``) does not name.

    What was being written when a process died is among them, a file of the user's never.
    """
    names = set(used)
    found = []
    for path in sorted(directory.rglob("*")):
        name = relative(directory, path)
        whole = name.removesuffix("-journal").removesuffix(PARTIAL)
        ours = _OURS.fullmatch(whole) or _HALF.fullmatch(name)
        if ours and name not in names and not path.is_dir():
            found.append(path)
    return found


def remove_files(directory: Path, paths: Collection[Path]) -> None:
    """Removes ``paths`` and the folders under names that we give that are empty then."""
    for path in sorted(paths):
        with explained_write(path):
            path.unlink(missing_ok=True)
    folders = [path for path in directory.rglob("*") if path.is_dir()]
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        with explained_write(folder):
            if _FOLDER.fullmatch(relative(directory, folder)) and not any(folder.iterdir()):
                folder.rmdir()
