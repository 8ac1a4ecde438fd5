"""What the commands that change an index say in the same words."""

import shlex
from datetime import datetime
from pathlib import Path

from .show import in_words

_DELETED_SHARE, _MOST_SEGMENTS = 0.2, 20
"""Above these rq compact is worth its time."""


def commit_line(commit: int, passages: int, segments: int) -> str:
    """The commit in force after a command, and what it holds."""
    held = in_words(passages, "passage")
    return f"commit {commit}: {held} in {in_words(segments, 'segment')}"


def undo_line(directory: Path, commit: int) -> str:
    """The command that takes back what ``commit`` did."""
    return f"\nTake it back:  {rq('rollback', directory, commit - 1)}"


def rq(command: str, directory: Path, *arguments: object) -> str:
    """A command line of ours that can be typed as it stands."""
    return shlex.join(["rq", command, str(directory), *map(str, arguments)])


def local_time(created: str) -> str:
    """When a commit was made, by the clock of whoever reads it."""
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:  # the one part of a manifest that its checksum leaves out
        return created


def compacting_hint(directory: Path, passages: int, deleted: int, segments: int) -> str:
    """The command that makes searches faster, where that is worth its time; else nothing.

    A search reads what is deleted, and asks every segment.
    """
    command = f"searches are faster after  {rq('compact', directory)}"
    if deleted > _DELETED_SHARE * (passages + deleted):
        share = 100 * deleted / (passages + deleted)
        return f"{share:.0f} % of what is stored is deleted; {command}"
    if segments > _MOST_SEGMENTS:
        return f"{segments} segments; {command}"
    return ""
