"""Earlier commits: listing them, giving one a name that keeps it, and going back to one."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .commits import (
    commit,
    commit_file,
    commit_numbers,
    drop_name,
    find_commit,
    name_commit,
    next_commit,
    remove_unused,
    snapshots,
)
from .manifest import Manifest, read_manifest_file
from .reader import committed_manifest
from .segments import check_sizes
from .transaction import writing
from .writing import now


class CommitNote(NamedTuple):
    """A commit that can be gone back to; ``names`` are its snapshots."""

    number: int
    change: str
    passages: int
    segments: int
    created: str
    names: tuple[str, ...]
    in_force: bool


def history(directory: Path) -> list[CommitNote]:
    """The commits that are kept, oldest first. A commit whose file is damaged is left out."""
    current = committed_manifest(directory)
    named = snapshots(directory)
    found = {current.commit: current}
    for number in commit_numbers(directory):
        if number < current.commit:
            try:
                manifest = read_manifest_file(commit_file(directory, number))
            except DataError:
                continue
            if manifest is not None:
                found[number] = manifest
    return [
        CommitNote(
            number=number,
            change=manifest.change,
            passages=manifest.count,
            segments=len(manifest.segments),
            created=manifest.created,
            names=tuple(name for name, its in named.items() if its == number),
            in_force=number == current.commit,
        )
        for number, manifest in sorted(found.items())
    ]


def take_snapshot(directory: Path, name: str, *, wait: float = 0) -> int:
    """Keeps the commit in force, under ``name``, until the name is dropped; its number.

    Raises UsageError for a name that is taken or none.
    """
    with writing(directory, wait) as current:
        name_commit(directory, name, current.manifest.commit)
        return current.manifest.commit


def drop_snapshot(directory: Path, name: str, *, wait: float = 0) -> None:
    """Forgets a name and removes what was kept for it alone. UsageError when there is none."""
    with writing(directory, wait) as current:
        drop_name(directory, name)
        remove_unused(directory, current.manifest)


def roll_back(directory: Path, which: str, *, wait: float = 0) -> Manifest:
    """Puts a commit, by its number or its snapshot's name, in force again, as a new commit.

    So it can be undone in the same way. Raises UsageError for a commit that is not kept, DataError
    when a file of it is missing.
    """
    with writing(directory, wait) as current:
        found = find_commit(directory, which)
        manifest = current.manifest
        if _content(found) != _content(manifest):
            check_sizes(directory, found.files())
            manifest = replace(
                found,
                commit=next_commit(directory, manifest),
                history_from=manifest.history_from,
                change=f"rollback to {found.commit}",
                created=now(),
            )
            commit(directory, manifest)
        remove_unused(directory, manifest)
        return manifest


def _content(manifest: Manifest) -> Manifest:
    """What two commits that hold the same have in common."""
    return replace(manifest, commit=0, history_from=0, change="", created="")
