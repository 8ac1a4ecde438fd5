"""``rq compact``: one segment of all, without what was deleted."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .show import folder_size, in_words, size_in_words
from .store_shown import commit_line, rq

if TYPE_CHECKING:
    from ..index import ChangeReport, Manifest


def compact(
    directory: options.IndexArgument,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Another vector structure, named as for rq index.",
            show_default="the kind the index has",
        ),
    ] = None,
    bm25: Annotated[
        bool | None,
        typer.Option(
            "--bm25/--no-bm25",
            help="Whether the index keeps postings, to search by words.",
            show_default="as it does",
        ),
    ] = None,
    memory: options.Memory = None,
    wait: options.Wait = 0,
    threads: options.Threads = None,
) -> None:
    """Give back the space of what was deleted.

    All segments become one, with a structure of its own. Nothing is encoded again, and the index
    can be searched meanwhile. Earlier commits cannot be gone back to afterwards, except snapshots,
    which keep their files.
    """
    options.refuse_empty("--kind", kind)
    from ..index import ChangeOptions, committed_manifest, history
    from ..index import compact as compact_index

    before, size = committed_manifest(directory), folder_size(directory)
    change = ChangeOptions(threads=threads, wait=wait, memory=memory)
    report = compact_index(directory, change, kind=kind, bm25=bm25, progress=sys.stderr.isatty())
    manifest = committed_manifest(directory)
    if report.commit == before.commit:
        print("nothing to fold: nothing is deleted, and there is no more than one segment")
    else:
        for line in _summary(report, manifest):
            print(line)
        if manifest.bm25 != before.bm25:
            print("with postings for BM25" if manifest.bm25 else "without postings for BM25")
    print(f"{size_in_words(folder_size(directory))} on the disk, {size_in_words(size)} before")
    print(commit_line(report.commit, report.passages, report.segments))
    if report.commit != before.commit:
        print("Earlier commits cannot be gone back to any more, but for snapshots.")
    names = [name for note in history(directory) if not note.in_force for name in note.names]
    if names:
        example = rq("snapshot", directory, "--drop", names[0])
        print(f"\nSnapshots keep their own files ({', '.join(names)}); to forget one:  {example}")


def _summary(report: "ChangeReport", manifest: "Manifest") -> list[str]:
    if not report.passages:
        return ["no passage is left"]
    lines = [f"{in_words(report.passages, 'passage')} made one segment in {report.seconds:.1f} s"]
    if report.deleted:
        lines.append(f"{in_words(report.deleted, 'deleted passage')} left out")
    return lines + [
        f"structure {segment.structure.factory}: {segment.structure.reason}"
        for segment in manifest.segments
    ]
