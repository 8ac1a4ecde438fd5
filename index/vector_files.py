"""Vectors that someone has made already: files of any known format, seen as one table by id.

===================  ===============================================================================
what ``rq encode``   a folder with ``vectors.json``
and ``rq export``
write
NumPy                ``X.npy``, float32 or float16 (n, width), and its n ids in ``X.ids.txt`` or
                     ``X.txt`` (one a line), ``X.ids.json`` or ``X.json`` (a list), ``X.ids.npy``
Pyserini             a folder with a FAISS index ``index`` and its ids ``docid``, or JSON lines with
                     ``id``, ``contents`` and ``vector`` (``embeddings.jsonl``)
Tevatron             pickles of (array, list of ids)
===================  ===============================================================================

A file is known by its first bytes, a folder by what is in it. Rows count from 0 in each file.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.lines import first_block, shown
from ..data.records import Passage
from ..errors import DataError, UsageError
from .vector_parts import (
    NPY_START,
    Part,
    digest_of,
    is_ids_of,
    open_faiss,
    open_json_lines,
    open_npy,
    open_pickle,
    open_shards,
)
from .vector_pickles import PICKLE_START
from .vector_shards import NOTE, UNFINISHED, VectorsNote

_FAISS_START = b"Ix"
_FORMATS = (
    "a folder of rq encode, .npy with ids, Pyserini's index and docid or JSON lines, or Tevatron's "
    "pickles"
)


class VectorFiles:
    """The vectors of files in their order, by row through all of them and by id."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """DataError for widths that differ, and for an id that is there twice."""
        self.parts = list(parts)
        self._starts = np.cumsum([0, *(len(part.ids) for part in self.parts)])
        self.dim = self.parts[0].dim
        self._rows: dict[str, int] = {}
        for part, start in zip(self.parts, self._starts.tolist(), strict=False):
            if part.dim != self.dim:
                raise DataError(
                    f"{part.path}: expected vectors of width {self.dim}, as in "
                    f"{self.parts[0].path}, found width {part.dim}: give files that one model made"
                )
            for row, passage_id in enumerate(part.ids, start=start):
                if self._rows.setdefault(passage_id, row) != row:
                    raise DataError(
                        f"{self.place(row)}: expected an id not seen before, found "
                        f"{shown(passage_id)}, which {self.place(self._rows[passage_id])} has too: "
                        "give each vector once"
                    )

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, passage_id: str) -> bool:
        return passage_id in self._rows

    @property
    def notes(self) -> list[VectorsNote]:
        """What the files say of the models that made them, each once."""
        return list(dict.fromkeys(part.note for part in self.parts if part.note))

    @property
    def unsigned(self) -> list[Part]:
        """The parts that do not say which model made them."""
        return [part for part in self.parts if part.note is None]

    @property
    def has_texts(self) -> bool:
        """Whether every vector comes with the text of its passage."""
        return all(part.texts for part in self.parts)

    @property
    def content_sha256(self) -> str:
        return digest_of(self.parts)

    def place(self, row: int) -> str:
        """``file: row n`` of a row through all files."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self.parts[number].path}: row {row - self._starts[number]}"

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Every vector's place and passage in the order of the rows; no texts where none are."""
        row = 0
        for part in self.parts:
            found = part.texts() if part.texts else (Passage(each, "") for each in part.ids)
            for passage in found:
                yield self.place(row), passage
                row += 1

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that have no vector."""
        return [each for each in ids if each not in self._rows]

    def of_ids(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, dim) of ``ids``, each of which has one.

        DataError for a vector that is not finite.
        """
        rows = np.array([self._rows[each] for each in ids], dtype=np.int64)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            found[here] = self.parts[number].gather(rows[here] - self._starts[number])
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            place = int(bad[0])
            raise DataError(
                f"{self.place(int(rows[place]))}: expected finite numbers as the vector of "
                f"{shown(ids[place])}, found {shown(_first_infinite(found[place]))}: encode this "
                "passage again, or leave it out"
            )
        return found


def _first_infinite(vector: NDArray[np.float32]) -> float:
    return float(vector[~np.isfinite(vector)][0])


def open_vectors(paths: Sequence[Path], *, ids: Path | None = None, copies: Path) -> VectorFiles:
    """The vectors of ``paths``, files and folders, in their order.

    ``ids`` is where the ids of the one NumPy file are; ``copies`` a folder with room for a copy of
    what cannot be read by row. UsageError for paths that are no vectors, DataError for content.
    """
    if not paths:
        raise UsageError("expected files of vectors, found none: name them with --vectors")
    if ids is not None:
        if len(paths) > 1 or not paths[0].is_file() or _start(paths[0]) != NPY_START:
            raise UsageError(
                f"--ids ({ids}) is for one .npy file, and --vectors names "
                f"{', '.join(map(str, paths))}: put the ids of several beside them"
            )
        return VectorFiles([open_npy(paths[0], ids)])
    return VectorFiles([part for path in paths for part in _open(path, copies)])


def _open(path: Path, copies: Path) -> list[Part]:
    if path.is_dir():
        return _open_folder(path, copies)
    start = _start(path)
    if start == NPY_START:
        return [open_npy(path, None)]
    if start.startswith(PICKLE_START):
        return [open_pickle(path, copies)]
    if start.startswith(_FAISS_START):
        return [open_faiss(path)]
    if first_block(path).lstrip().startswith(b"{"):
        return [open_json_lines(path, copies)]
    raise UsageError(f"{path}: expected vectors ({_FORMATS}), found another file: name these")


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(len(NPY_START))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file: check the name") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the name") from None


def _open_folder(folder: Path, copies: Path) -> list[Part]:
    if (folder / NOTE).is_file():
        return open_shards(folder)
    if (folder / UNFINISHED).is_file():
        raise DataError(
            f"{folder}: these vectors are unfinished: run the same `rq encode` command again; it "
            "goes on where it stopped"
        )
    if (folder / "index").is_file():
        return [open_faiss(folder / "index")]
    files = sorted((each for each in folder.iterdir() if each.is_file()), key=_in_order)
    pickles = [each for each in files if each.suffix in (".pkl", ".pickle")]
    arrays = [each for each in files if each.suffix == ".npy" and not is_ids_of(each)]
    lines = [each for each in files if ".jsonl" in each.suffixes]
    if (folder / "embeddings.jsonl").is_file():
        lines = [folder / "embeddings.jsonl"]
    if pickles:
        return [open_pickle(each, copies) for each in pickles]
    if arrays:
        return [open_npy(each, None) for each in arrays]
    if lines:
        return [open_json_lines(each, copies) for each in lines]
    raise UsageError(f"{folder}: expected vectors ({_FORMATS}), found a folder without: name these")


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Names with numbers in the order of the numbers: ``emb.2.pkl`` before ``emb.10.pkl``."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in pieces]
