"""``rq snapshot`` and ``rq rollback``: the earlier states of an index."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..text_width import padded, printable, width_of
from . import options
from .store_shown import commit_line, local_time, rq, undo_line

if TYPE_CHECKING:
    from ..index import CommitNote


def snapshot(
    directory: options.IndexArgument,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A name for the commit in force.", show_default=False),
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="NAME", help="Forget this snapshot.")
    ] = None,
    json: options.Json = False,
    wait: options.Wait = 0,
) -> None:
    """Keep a commit by a name, or list what is kept.

    Every change is a commit. The last ten can be gone back to, until rq compact or a rebuild; a
    commit with a NAME until the name is dropped. Without NAME: a table of what is kept.
    """
    options.refuse_empty("NAME", name)
    options.refuse_empty("--drop", drop)
    if name is not None and drop is not None:
        raise UsageError(f"give either a name to take ({name}) or --drop ({drop}), not both")
    if json and (name is not None or drop is not None):
        raise UsageError("--json is for the table of commits; leave out the name")
    from ..index import drop_snapshot, history, take_snapshot

    if drop is not None:
        drop_snapshot(directory, drop, wait=wait)
        print(f"snapshot {drop} dropped; what was kept for it alone is gone")
    elif name is not None:
        number = take_snapshot(directory, name, wait=wait)
        print(f"commit {number} is kept as {name}")
        print(f"\nGo back to it:  {rq('rollback', directory, name)}")
    elif json:
        _print_json(directory, history(directory))
    else:
        for line in _table(history(directory)):
            print(line)


def rollback(
    directory: options.IndexArgument,
    commit: Annotated[
        str,
        typer.Argument(metavar="COMMIT", help="A number that rq snapshot lists, or a snapshot."),
    ],
    wait: options.Wait = 0,
) -> None:
    """Go back to an earlier commit.

    The index holds again what that commit held, as a new commit: nothing in between is lost, and
    the rollback can be taken back in the same way. Which commits are kept: rq snapshot INDEX.
    """
    options.refuse_empty("COMMIT", commit)
    from ..index import committed_manifest, roll_back

    before = committed_manifest(directory)
    manifest = roll_back(directory, commit, wait=wait)
    if manifest.commit == before.commit:
        print("nothing to change: the commit in force holds the same")
    else:
        print(manifest.change)
    print(commit_line(manifest.commit, manifest.count, len(manifest.segments)))
    if manifest.commit != before.commit:
        print(undo_line(directory, manifest.commit))


def _table(notes: "Sequence[CommitNote]") -> list[str]:
    """A line a commit, oldest first; the one in force has a star."""
    rows = [("", "commit", "when", "what", "passages", "segments", "snapshots")]
    rows += [
        (
            "*" if note.in_force else "",
            str(note.number),
            local_time(note.created),
            printable(note.change),
            f"{note.passages:,}",
            str(note.segments),
            ", ".join(note.names),
        )
        for note in notes
    ]
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    right = (False, True, False, False, True, True, False)
    return [
        "  ".join(
            padded(cell, width, right=numeric)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _print_json(directory: Path, notes: "Sequence[CommitNote]") -> None:
    import json

    commits = [note._asdict() for note in notes]
    print(json.dumps({"index": str(directory), "commits": commits}, indent=2))
