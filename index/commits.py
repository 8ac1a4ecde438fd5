"""Commits: putting one in force, keeping earlier ones, and removing what none of them needs.

A commit is written to ``commits/NUMBER.json`` and then, by renaming, to ``manifest.json``: that is
when it is in force. Its number is one more than that of the commit before. Kept are the commit in
force, the last ten before it back to the last rebuild or compaction, those that have a snapshot's
name, and those that a reader holds: a reader keeps a shared lock on its commit's file, which the
system frees when the reader ends, however it ends.
"""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from ..data.lines import shown
from ..durable import explained_write, fsync, make_folder, write_durably
from ..errors import DataError, RocketRankError, UsageError
from .layout import (
    COMMITS,
    MANIFEST,
    SNAPSHOTS,
    SegmentFolder,
    remove_files,
    segment_numbers,
    stray_files,
)
from .manifest import Manifest, is_our_manifest, manifest_bytes, read_manifest_file
from .passages import PURPOSE, Ledger

_log = logging.getLogger("rocketrank.index")
KEPT = 10
"""Commits before the one in force that can be gone back to without a snapshot."""
_COMMIT = re.compile(r"(\d{6,})\.json")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def read_manifest(directory: Path) -> Manifest | None:
    """The commit in force, None when there is none; errors as ``read_manifest_file``."""
    return read_manifest_file(directory / MANIFEST)


def has_our_manifest(directory: Path) -> bool:
    return is_our_manifest(directory / MANIFEST)


def commit_file(directory: Path, number: int) -> Path:
    return directory / COMMITS / f"{number:06d}.json"


def commit_numbers(directory: Path) -> list[int]:
    """Commits that have a file, in rising order."""
    folder = directory / COMMITS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _COMMIT.fullmatch(name)))


def commit(directory: Path, manifest: Manifest) -> None:
    """Puts ``manifest`` in force in one step."""
    content = manifest_bytes(manifest)
    make_folder(directory / COMMITS)
    write_durably(commit_file(directory, manifest.commit), [content], alone=True)
    write_durably(directory / MANIFEST, [content], alone=True)


def manifest_is_lost(directory: Path) -> bool:
    """Whether there is no commit in force though one was; ``rq repair`` puts the last in force.

    A first commit alone may have been written and never put in force: then the build goes on.
    """
    return not (directory / MANIFEST).exists() and commit_numbers(directory) not in ([], [1])


def forget_uncommitted(directory: Path, current: Manifest | None) -> None:
    """Removes commits that were written and never put in force, because their writer was killed.

    Only the holder of the write lock may call this. Without a commit in force that is the first
    one; where others are, ``manifest.json`` itself is lost, and they stay.
    """
    numbers = commit_numbers(directory)
    if current is not None:
        never = [each for each in numbers if each > current.commit]
    else:
        never = [1] if numbers == [1] else []
    for number in never:
        with explained_write(commit_file(directory, number)):
            commit_file(directory, number).unlink()


def next_commit(directory: Path, current: Manifest | None) -> int:
    """The number of the commit after the one in force; what is above was never in force."""
    if current is not None:
        return current.commit + 1
    return max([0, *commit_numbers(directory)]) + 1


def read_snapshots(directory: Path) -> tuple[dict[str, int], list[Path]]:
    """Names that were given to commits, with the commits' numbers; and the files that are damaged.

    Raises RocketRankError for a file that the system does not let us read.
    """
    named, damaged = {}, []
    for path in sorted((directory / SNAPSHOTS).glob("*.json")):
        try:
            named[path.stem] = int(orjson.loads(path.read_bytes())["commit"])
        except FileNotFoundError:
            continue  # dropped meanwhile
        except OSError as error:
            raise RocketRankError(
                f"{path}: cannot be read ({error.strerror}): check permissions"
            ) from error
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            damaged.append(path)
    return named, damaged


def snapshots(directory: Path) -> dict[str, int]:
    """As ``read_snapshots``, DataError for a damaged file."""
    named, damaged = read_snapshots(directory)
    if damaged:
        raise DataError(
            f"{damaged[0]}: expected the number of a commit, found a damaged file: remove it, and "
            "take the snapshot again"
        )
    return named


def name_commit(directory: Path, name: str, number: int) -> None:
    """Keeps commit ``number`` under ``name``. UsageError for a name that is taken or none."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"snapshot {shown(name)}: expected a name that begins with a letter and has up to 64 "
            "letters, digits, dots, dashes or underscores"
        )
    taken = snapshots(directory).get(name)
    if taken == number:
        return
    if taken is not None:
        raise UsageError(
            f"snapshot {name!r} is of commit {taken} already, not of commit {number}: drop it "
            "first, or choose another name"
        )
    make_folder(directory / SNAPSHOTS)
    content = orjson.dumps({"commit": number}, option=orjson.OPT_APPEND_NEWLINE)
    write_durably(directory / SNAPSHOTS / f"{name}.json", [content], alone=True)


def drop_name(directory: Path, name: str) -> None:
    """Takes the name from a commit; UsageError when there is no such snapshot."""
    if name not in snapshots(directory):
        raise _no_snapshot(directory, name)
    with explained_write(directory / SNAPSHOTS / f"{name}.json"):
        (directory / SNAPSHOTS / f"{name}.json").unlink()
        fsync(directory / SNAPSHOTS)  # or the name might come back without its commit


def find_commit(directory: Path, which: str) -> Manifest:
    """The commit with this number or this snapshot's name. UsageError when it is not kept.

    A number above that in force was being written when a process died.
    """
    current = read_manifest(directory)
    last = current.commit if current else 0
    if which.isascii() and which.isdigit() and len(which) < 19:
        number = int(which)
    else:
        named = snapshots(directory)
        if which not in named:
            raise _no_snapshot(directory, which)
        number = named[which]
    found = read_manifest_file(commit_file(directory, number)) if number <= last else None
    if found is None:
        numbers = [each for each in commit_numbers(directory) if each <= last]
        kept = ", ".join(str(each) for each in numbers) or "none"
        raise UsageError(
            f"{directory}: expected a commit that is kept ({kept}), found {which}: "
            f"`rq snapshot {directory}` lists them"
        )
    return found


def _no_snapshot(directory: Path, name: str) -> UsageError:
    names = ", ".join(snapshots(directory)) or "there is none"
    return UsageError(
        f"{directory}: expected the name of a snapshot ({names}), found {name!r}: "
        f"`rq snapshot {directory}` lists commits by number and name"
    )


def remove_unused(
    directory: Path, current: Manifest | None, *, finished: str | None = None
) -> None:
    """Removes commits that need not be kept, and every file that no kept commit names.

    Only the holder of the write lock may call this. An unfinished segment of a whole index stays,
    so that ``rq index`` goes on with it, unless that is what has ``finished``.
    """
    try:
        kept = list(_kept(directory, current))
        segments = segment_numbers(directory)
    except RocketRankError as error:  # what was committed stays committed
        _log.warning("%s; nothing is removed for now", error)
        return
    damaged = [each for each, manifest in kept if manifest is None]
    if damaged:
        _log.warning(
            "%s: cannot be read, so nothing is removed for now; run `rq repair`",
            commit_file(directory, damaged[0]),
        )
        return
    manifests = [manifest for _, manifest in kept if manifest]
    numbers = {segment.number for each in manifests for segment in each.segments}
    used = {file.file for each in manifests for file in each.files()}
    used |= {f"{COMMITS}/{number:06d}.json" for number, _ in kept}
    unfinished = []
    for number in segments:
        segment = SegmentFolder(directory, number)
        if number in numbers or (work := begun(segment)).complete:
            continue
        if work.purpose == "index" and finished != "index":
            unfinished.append(segment.folder)
        elif work.purpose == "add" and work.passages:
            _log.warning(
                "%s: dropped %d passages that an interrupted rq add or update had encoded; the "
                "same command goes on with such work only before any other change",
                directory,
                work.passages,
            )
    stray = [
        path
        for path in stray_files(directory, used)
        if not any(path.is_relative_to(folder) for folder in unfinished)
    ]
    if stray and (directory / COMMITS).is_dir():
        with explained_write(directory / COMMITS):
            fsync(directory / COMMITS)  # a commit must not come back without its files
    remove_files(directory, stray)


def _kept(directory: Path, current: Manifest | None) -> Iterator[tuple[int, Manifest | None]]:
    """Each commit that must stay, None for one whose file is damaged; the others are dropped."""
    named = set(snapshots(directory).values())
    oldest = max(current.history_from, current.commit - KEPT) if current else 0
    for number in commit_numbers(directory):
        if current is not None and number == current.commit:
            continue
        recent = current is not None and oldest <= number < current.commit
        if number in named or recent or not _drop(commit_file(directory, number)):
            try:
                yield number, read_manifest_file(commit_file(directory, number))
            except DataError:
                yield number, None
    if current is not None:
        yield current.commit, current


class Begun(NamedTuple):
    """What a segment was begun for, None where its ledger cannot be read, and how far it is."""

    purpose: str | None
    passages: int
    complete: bool


def begun(segment: SegmentFolder) -> Begun:
    with suppress(RocketRankError), Ledger(segment.passages, {}) as ledger:
        return Begun(ledger.settings.get(PURPOSE), ledger.rows, ledger.complete)
    return Begun(None, 0, False)


class HeldCommit:
    """A reader's hold on a commit: while it lasts, the commit's files are not removed.

    ``lost`` says that a writer is removing the commit, and that a later one is in force.
    """

    def __init__(self, directory: Path, number: int) -> None:
        """Where there is no such file, or no locks, there is nothing to hold, and all goes on."""
        self._descriptor: int | None = None
        self.lost = False
        with suppress(OSError):
            path = commit_file(directory, number)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lost = True
            self.lost = self.lost or os.fstat(self._descriptor).st_nlink == 0

    @property
    def found(self) -> bool:
        """Whether the commit had a file: the one in force has none in an index of format 1."""
        return self._descriptor is not None

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


def _drop(path: Path) -> bool:
    """Removes a commit's file unless a reader holds it; none can get hold of it meanwhile."""
    with explained_write(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return True
