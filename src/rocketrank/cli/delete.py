"""``rq delete``: passages out of an index, by their ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError, UsageError
from . import options
from .show import in_words
from .store_shown import commit_line, compacting_hint, undo_line

if TYPE_CHECKING:
    from ..index import ChangeReport


def delete(
    directory: options.IndexToChange,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="The ids; after -- also those that begin with a dash."),
    ] = None,
    ids_file: Annotated[
        str | None,
        typer.Option("--ids", metavar="FILE", help="A file of ids, one a line; - is stdin."),
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Pass over ids that are not in the index.")
    ] = False,
    wait: options.Wait = 0,
) -> None:
    """Delete passages from an index.

    They are found no more from one moment on, all or, where an id is not there, none. What they
    take on the disk is given back by rq compact.
    """
    options.refuse_empty("--ids", ids_file)
    given = list(ids or ())
    if not given and ids_file is None:
        raise UsageError("nothing to delete; give ids, or --ids FILE with one a line (- is stdin)")
    from ..index import ChangeOptions, committed_manifest, delete_passages

    committed_manifest(directory)  # no index: say so before ids are waited for
    _refuse_bytes(given)
    if ids_file is not None:
        given += _read(ids_file)
    change = ChangeOptions(wait=wait, missing="allowed" if ignore_missing else "error")
    report = delete_passages(directory, given, change)
    for line in _summary(report, directory):
        print(line)


def _read(path: str) -> Iterator[str]:
    from ..data.lines import iter_lines

    found = False
    for _, line in iter_lines(path):
        found = True
        if line.strip():
            yield line
    if not found:
        raise DataError(f"{path}: expected ids, one a line, found an empty file")


def _refuse_bytes(ids: list[str]) -> None:
    """An argument that is no UTF-8 reaches us with halves of surrogate pairs in it."""
    for each in ids:
        if any("\ud800" <= letter <= "\udfff" for letter in each):
            raise UsageError(f"the id {each!a} holds bytes that are no UTF-8; write it in UTF-8")


def _summary(report: "ChangeReport", directory: Path) -> list[str]:
    from ..index import committed_manifest

    lines = [f"{in_words(report.deleted, 'passage')} deleted"]
    if report.missing:
        lines.append(f"{in_words(report.missing, 'id')} not in the index")
    lines.append(commit_line(report.commit, report.passages, report.segments))
    if report.deleted:
        lines.append(undo_line(directory, report.commit))
    manifest = committed_manifest(directory)
    deleted = manifest.rows - manifest.count
    hint = compacting_hint(directory, manifest.count, deleted, len(manifest.segments))
    return [*lines, hint] if hint else lines
