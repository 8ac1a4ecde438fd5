"""Repairing an index: everything that can be made again is, and what cannot is said.

A file that a kept commit names is replaced only by the very bytes it had. Where they cannot be had
again, the new file has a new name, a new commit names it, and so do then the earlier commits that
shared the damaged one. Each step is put in place at once; a repair that was killed is run again.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson

from ..durable import explained_write, fsync, make_folder, write_durably
from ..errors import DataError
from .checking import latest_readable, readable_commit
from .commits import (
    KEPT,
    commit,
    commit_file,
    commit_numbers,
    next_commit,
    read_manifest,
    read_snapshots,
    remove_unused,
)
from .encoding import PassageEncoder
from .layout import COMMITS, MANIFEST, SNAPSHOTS, locked, stray_files
from .manifest import Manifest, NewerFormatError, manifest_bytes
from .mending import Mender
from .reader import committed_manifest
from .segment_checks import sqlite_says
from .writing import now

ASIDE = ".damaged"
"""At the end of the name of a file that was set aside."""


class RepairReport(NamedTuple):
    """The ``commit`` in force after it; what was ``done`` and what is ``left``, in sentences."""

    commit: int
    done: tuple[str, ...]
    left: tuple[str, ...]


def repair_index(
    directory: Path,
    encoder_for: Callable[[Manifest], PassageEncoder] | None = None,
    *,
    drop_unfinished: bool = False,
    threads: int | None = None,
    wait: float = 0.0,
    progress: bool = False,
) -> RepairReport:
    """Makes again what of the index is damaged and can be made again.

    ``encoder_for`` is called only where passages must be encoded again. ``drop_unfinished`` removes
    an unfinished build too. Raises DataError for a folder without any commit that can be read,
    UsageError for another model than the index's, and as ``locked`` while another process writes.
    """
    if _readable(directory) is None:
        committed_manifest(directory)  # says what is there instead
    done: list[str] = []
    left: list[str] = []
    with locked(directory, wait=wait):
        current, lost = _in_force(directory, done)
        _mend_commit_files(directory, current, done, left)
        _mend_snapshots(directory, current, done)
        kept = _kept(directory, current)
        mender = Mender(directory, kept, encoder_for, threads=threads, progress=progress)
        for manifest, segment in mender.damaged_segments():
            mender.mend(manifest, segment, done, left)
        mender.mend_postings(done, left)
        current = _adopt(directory, current, kept, mender, done, left)
        whole = [each for each in _kept(directory, current) if mender.is_whole(each)]
        if current in whole:
            _set_hopeless_aside(directory, current, mender, done, left)
            if not lost:  # what only a lost commit named is left to whoever can still use it
                _remove(directory, current, drop_unfinished, done)
        else:
            left += _not_whole(directory, current, mender, whole)
    return RepairReport(current.commit, tuple(done), tuple(left))


def _readable(directory: Path) -> Manifest | None:
    try:
        manifest = read_manifest(directory)
    except NewerFormatError:
        raise
    except DataError:
        found = latest_readable(directory)
        if found is None:
            raise
        return found
    return manifest or latest_readable(directory)


def _in_force(directory: Path, done: list[str]) -> tuple[Manifest, bool]:
    """The commit in force; where none can be read, the last one that can is put in force.

    The truth value says that later commits are lost.
    """
    try:
        manifest = read_manifest(directory)
    except NewerFormatError:
        raise
    except DataError:
        manifest = None
    if manifest is not None:
        return manifest, False
    latest = _readable(directory)
    if latest is None:
        return committed_manifest(directory), False
    last = commit_numbers(directory)[-1]
    if latest.commit == last:
        write_durably(directory / MANIFEST, [manifest_bytes(latest)], alone=True)
        done.append(f"{directory / MANIFEST}: was missing or damaged: put commit {last} in force")
        return latest, False
    # A number never gets a second content, so those that were damaged stay taken.
    again = replace(latest, commit=last + 1, change="repair", created=now())
    commit(directory, again)
    done.append(
        f"{directory / MANIFEST}: was missing or damaged, and so is commit {last}: put commit "
        f"{latest.commit} in force as commit {again.commit}; what was changed after it is lost, "
        "and its files stay until the next change"
    )
    return again, True


def _mend_commit_files(
    directory: Path, current: Manifest, done: list[str], left: list[str]
) -> None:
    """Writes the file of the commit in force again, and sets damaged ones of others aside."""
    own = commit_file(directory, current.commit)
    if readable_commit(directory, current.commit) != current:
        if _write_commit(directory, current):
            done.append(f"{own}: was missing or damaged: wrote it again from {MANIFEST}")
        else:
            left.append(_read_meanwhile(own))
    for number in commit_numbers(directory):
        if number != current.commit and readable_commit(directory, number) is None:
            _set_commit_aside(directory, number, "cannot be read", done, left)


def _mend_snapshots(directory: Path, current: Manifest, done: list[str]) -> None:
    """Drops names of commits that are gone, and names again what only a damaged name kept.

    New names are written before the damaged one goes, so that nothing between removes the commit.
    """
    named, damaged = read_snapshots(directory)
    numbers = {current.commit, *commit_numbers(directory)}
    for name, number in named.items():
        if number not in numbers:
            path = directory / SNAPSHOTS / f"{name}.json"
            _set_aside(path)
            done.append(f"{path}: names commit {number}, which is gone: set aside as *{ASIDE}")
    oldest = max(current.history_from, current.commit - KEPT)
    kept_by_it = sorted(
        number for number in numbers if number < oldest and number not in named.values()
    )
    for path in damaged:
        if len(kept_by_it) == 1:
            write_durably(path, [_snapshot_bytes(kept_by_it[0])], alone=True)
            done.append(
                f"{path}: was damaged: names commit {kept_by_it[0]} again, which nothing else keeps"
            )
            continue
        for number in kept_by_it:
            write_durably(
                path.with_name(f"{path.stem[:50]}-{number}.json"),
                [_snapshot_bytes(number)],
                alone=True,
            )
        _set_aside(path)
        names = ", ".join(f"{path.stem[:50]}-{number}" for number in kept_by_it)
        done.append(
            f"{path}: was damaged: set aside as *{ASIDE}; it named one of the commits that are "
            f"kept{f', of which these are now called {names}' if names else ''}"
        )


def _kept(directory: Path, current: Manifest) -> list[Manifest]:
    """The commits that can be gone back to, the one in force first."""
    earlier = [number for number in commit_numbers(directory) if number < current.commit]
    found = [readable_commit(directory, number) for number in reversed(earlier)]
    return [current, *(each for each in found if each)]


def _adopt(
    directory: Path,
    current: Manifest,
    kept: Sequence[Manifest],
    mender: Mender,
    done: list[str],
    left: list[str],
) -> Manifest:
    """Puts what was made again under new names in force, and lets earlier commits name it too."""
    adopted = mender.adopted(current)
    if adopted != current:
        number = next_commit(directory, current)
        adopted = replace(adopted, commit=number, change="repair", created=now())
        commit(directory, adopted)
        done.append(f"put commit {number} in force, which holds what commit {current.commit} held")
    for earlier in kept:
        mended = mender.adopted(earlier)
        if mended != earlier:
            path = commit_file(directory, earlier.commit)
            if _write_commit(directory, mended):
                done.append(f"{path}: names what was made again")
            else:
                left.append(_read_meanwhile(path))
    return adopted


def _set_hopeless_aside(
    directory: Path, current: Manifest, mender: Mender, done: list[str], left: list[str]
) -> None:
    """Earlier commits that can never be whole again: to go back to them would bring damage back."""
    for manifest in _kept(directory, current)[1:]:
        lost = mender.hopeless(manifest)
        if lost:
            reason = f"needs {directory / lost[0].file}, which cannot be made again"
            _set_commit_aside(directory, manifest.commit, reason, done, left)


def _not_whole(
    directory: Path, current: Manifest, mender: Mender, whole: Sequence[Manifest]
) -> Iterator[str]:
    """What cannot be mended in the commit in force, and which commit could be gone back to."""
    lost = mender.hopeless(current)
    for file in lost:
        path = directory / file.file
        says = ""
        if path.name.endswith(".sqlite") and path.is_file():
            says = f" (SQLite's own check of it: {sqlite_says(path)})"
        yield f"{path}: {mender.damaged[file]}{says}: this cannot be made again"
    if lost and whole:
        number = whole[0].commit
        yield (
            f"commit {current.commit} stays in force: `rq rollback {directory} {number}` goes back "
            f"to commit {number}, the last that is whole"
        )
    elif lost:
        yield f"{directory}: no commit is whole: index the corpus again with --overwrite"
    yield "nothing was removed, because the commit in force is not whole"


def _remove(directory: Path, current: Manifest, drop_unfinished: bool, done: list[str]) -> None:
    before = stray_files(directory, ())
    remove_unused(directory, current, finished="index" if drop_unfinished else None)
    removed = [path for path in before if not path.exists()]
    if removed:
        files = "file" if len(removed) == 1 else "files"
        done.append(f"removed {len(removed)} {files} that no commit needs, such as {removed[0]}")


def _set_commit_aside(
    directory: Path, number: int, reason: str, done: list[str], left: list[str]
) -> None:
    path = commit_file(directory, number)
    with _alone(path) as alone:
        if not alone:
            left.append(_read_meanwhile(path))
            return
        _set_aside(path)
    done.append(f"{path}: {reason}: set aside as *{ASIDE}, so commit {number} is kept no longer")
    for name, its in read_snapshots(directory)[0].items():
        if its == number:
            snapshot = directory / SNAPSHOTS / f"{name}.json"
            _set_aside(snapshot)
            done.append(f"{snapshot}: was the name of commit {number}: set aside as *{ASIDE}")


def _write_commit(directory: Path, manifest: Manifest) -> bool:
    """Replaces a commit's file, unless a reader relies on it."""
    make_folder(directory / COMMITS)
    path = commit_file(directory, manifest.commit)
    with _alone(path) as alone:
        if alone:
            write_durably(path, [manifest_bytes(manifest)], alone=True)
        return alone


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no reader holds the commit of this file; none can get hold of it inside."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _read_meanwhile(path: Path) -> str:
    return f"{path}: a reader holds this commit: run the same command again when it has ended"


def _set_aside(path: Path) -> None:
    with explained_write(path):
        os.replace(path, path.with_name(path.name + ASIDE))
        fsync(path.parent)


def _snapshot_bytes(number: int) -> bytes:
    return orjson.dumps({"commit": number}, option=orjson.OPT_APPEND_NEWLINE)
