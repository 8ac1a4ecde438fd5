"""Finding a known data set's files in a folder, and saying what is missing and what is there."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ..errors import UsageError
from .dataset_names import KnownSet, Split

# A file that was unpacked goes before the packed one beside it.
_COMPRESSIONS = ("", ".gz", ".zst", ".xz")
_SHOWN_NAMES = 5


class Files(NamedTuple):
    """The files of a split by role; no ``qrels`` where it needs none."""

    corpus: Path
    queries: Path
    qrels: Path | None


class _Found(NamedTuple):
    corpus: Path | None
    queries: Path | None
    qrels: Path | None


def find_in_folder(
    sets: Sequence[KnownSet], data: Path, split: str | None
) -> tuple[KnownSet, str, Files]:
    """The set that the folder holds, the split and its files.

    The set is looked for in ``data/<its name>`` and then in ``data`` itself; the first of them
    with its corpus counts, and all files are taken from there. Raises UsageError when the folder
    cannot be read, bears the name of another set, or lacks a file, and when it holds both sets
    that the name may mean.
    """
    try:
        if not data.is_dir():
            found = "a file" if data.exists() else "nothing"
            raise UsageError(
                f"{data}: expected the folder of {sets[0].name}, found {found}; give the folder "
                "with --data"
            )
        known, folder = _choose(sets, data, split)
        name = split or known.default_split
        return known, name, _complete(known, name, data, folder)
    except OSError as error:
        raise UsageError(
            f"{error.filename or data}: cannot be read: {error.strerror}; change its permissions"
        ) from None


def _choose(sets: Sequence[KnownSet], data: Path, split: str | None) -> tuple[KnownSet, Path]:
    """The set and its folder: with the corpus if there is one, else with any of its files."""
    holding = [(known, folder) for known in sets if (folder := _holding(known, data, split))]
    if len(holding) > 1:
        places = " and ".join(f"{known.name} in {folder}" for known, folder in holding)
        raise UsageError(
            f"{data}: expected one of the sets that the name may mean, found {places}; give the "
            "folder of the one that you mean"
        )
    if holding:
        return holding[0]
    for known in sets:
        for folder in _folders(known, data):
            files = _find(folder, known.splits[split or known.default_split])
            if files.queries or files.qrels:
                return known, folder
    return sets[0], _folders(sets[0], data)[0]


def _holding(known: KnownSet, data: Path, split: str | None) -> Path | None:
    names = known.splits[split or known.default_split]
    return next((each for each in _folders(known, data) if _find(each, names).corpus), None)


def _folders(known: KnownSet, data: Path) -> list[Path]:
    inner = [data / name for name in known.folders if (data / name).is_dir()]
    return [*inner, data]


def _find(folder: Path, split: Split) -> _Found:
    return _Found(*(_first(folder, names) for names in split.roles.values()))


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    paths = (folder / f"{name}{end}" for name in names for end in _COMPRESSIONS)
    return next((path for path in paths if path.is_file()), None)


def _complete(known: KnownSet, split: str, data: Path, folder: Path) -> Files:
    found = _find(folder, known.splits[split])
    own = folder.absolute().name.casefold()
    if folder == data and found.corpus and own in known.siblings:
        raise UsageError(
            f"{folder}: expected the folder of {known.name}, found that of {own}, as its name "
            "says; name that set, or give another folder with --data"
        )
    roles = known.splits[split].roles
    missing = [role for role in roles if roles[role] and getattr(found, role) is None]
    if found.corpus and found.queries and not missing:
        return Files(found.corpus, found.queries, found.qrels)
    wanted = _wanted({role: roles[role] for role in missing})
    if found.corpus and (splits := _splits_there(known, folder)):
        raise UsageError(
            f"{folder}: expected the split {split} of {known.name} with its {wanted}, found the "
            f"splits {', '.join(splits)}; name one of them, or {_cure(known, data, folder)}"
        )
    raise UsageError(
        f"{folder}: expected {known.name}'s {wanted}, found {_listing(folder)}; "
        f"{_cure(known, data, folder)}"
    )


def _splits_there(known: KnownSet, folder: Path) -> list[str]:
    def is_there(split: Split) -> bool:
        found = _find(folder, split)
        return bool(found.queries and (found.qrels or not split.qrels))

    return [name for name, split in known.splits.items() if is_there(split)]


def _wanted(missing: Mapping[str, Sequence[str]]) -> str:
    """``corpus (a or b) and queries (c)``; a file looked for in several folders comes once."""
    roles = []
    for role, names in missing.items():
        first = {PurePath(name).name: name for name in reversed(names)}
        roles.append(f"{role} ({' or '.join(reversed(first.values()))})")
    *most, last = roles
    listed = f"{', '.join(most)} and {last}" if most else last
    return f"{listed}, plain or with {', '.join(_COMPRESSIONS[1:])}"


def _listing(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    if not names:
        return "an empty folder"
    more = len(names) - _SHOWN_NAMES
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"{shown} and {more} more" if more > 0 else f"only {shown}"


def _cure(known: KnownSet, data: Path, folder: Path) -> str:
    packed = [data / name for name in known.archives] + [folder / name for name in known.archives]
    if archive := next((path for path in packed if path.is_file()), None):
        return f"unpack {archive}"
    if not known.is_public:
        return f"{known.page} says how to make the files, which are not public"
    return f"get the files from {known.page}, or give another folder with --data"
