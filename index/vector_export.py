"""``rq export``: the vectors of an index in files that other programs read.

==============  ====================================================================================
``rocketrank``  what ``rq encode`` writes
``npy``         ``vectors.npy``, float32 (n, width), and ``vectors.ids.txt``, one id a line
``pyserini``    ``index``, a FAISS file of an IndexFlatIP, and ``docid``, one id a line
``tevatron``    ``corpus_emb.0.pkl``, …: pickles of (float32 array, list of ids)
==============  ====================================================================================

Each is a folder that appears whole. With texts it holds ``corpus.jsonl`` too, in BEIR's form.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.records import Passage
from ..durable import check_new_folder, explained_write, make_folder, replacing
from ..errors import DataError, UsageError
from .progress import Progress
from .reader import Index
from .vector_pickles import write_pickle
from .vector_shards import VectorsNote, write_note, write_shard

ExportFormat = Literal["rocketrank", "npy", "pyserini", "tevatron"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
CORPUS = "corpus.jsonl"
_SHARD_BYTES = 64 << 20
_PICKLE_BYTES = 256 << 20

Batch = tuple[list[str], NDArray[np.float32]]
"""Ids (n) and vectors (n, dim)."""


class ExportReport(NamedTuple):
    """What was written."""

    vectors: int
    width: int
    bytes_on_disk: int


def export_vectors(
    index: Index,
    to: ExportFormat,
    folder: Path,
    *,
    texts: bool = False,
    progress: bool = False,
) -> ExportReport:
    """Writes what is not deleted in ``index``, in the order of its rows, as ``folder``.

    UsageError for a folder in use, DataError for ids that the format cannot hold; then nothing is
    written.
    """
    if to not in EXPORT_FORMATS:
        raise UsageError(f"to ({to!r}) must be one of {', '.join(EXPORT_FORMATS)}")
    check_new_folder(folder)
    if not len(index):
        raise DataError(f"{index.directory}: expected passages to export, found none: add some")
    make_folder(folder.absolute().parent)
    write: Callable[[Path, Index, Iterator[Batch]], None] = {
        "rocketrank": _write_shards,
        "npy": _write_npy,
        "pyserini": _write_faiss,
        "tevatron": _write_pickles,
    }[to]
    with explained_write(folder), replacing(folder) as partial:
        partial.mkdir()
        with Progress("exporting", shown=progress, total=len(index)) as bar:
            write(partial, index, _watched(index.live_vectors(), bar))
        if texts:
            _write_texts(partial / CORPUS, index)
    return ExportReport(
        vectors=len(index),
        width=index.dim,
        bytes_on_disk=sum(each.stat().st_size for each in folder.iterdir()),
    )


def _watched(batches: Iterable[Batch], bar: Progress) -> Iterator[Batch]:
    for ids, vectors in batches:
        yield ids, vectors
        bar.advance(len(ids), of=len(ids), position=None)


def _regrouped(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """The same vectors, about ``rows`` at a time."""
    ids: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    for some, vectors in batches:
        ids += some
        blocks.append(vectors)
        if len(ids) >= rows:
            yield ids, np.concatenate(blocks)
            ids, blocks = [], []
    if ids:
        yield ids, np.concatenate(blocks)


def _rows_of(size: int, dim: int) -> int:
    return max(1, size // (4 * dim))


def _write_shards(folder: Path, index: Index, batches: Iterator[Batch]) -> None:
    shards = [
        write_shard(folder, number, ids, vectors)
        for number, (ids, vectors) in enumerate(
            _regrouped(batches, _rows_of(_SHARD_BYTES, index.dim))
        )
    ]
    model = index.manifest.model
    note = VectorsNote(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision,
        width=index.dim,
        side="passages",
    )
    write_note(folder, note, shards)


def _write_npy(folder: Path, index: Index, batches: Iterator[Batch]) -> None:
    with (
        open(folder / "vectors.npy", "wb") as file,
        open(folder / "vectors.ids.txt", "wb") as ids_file,
    ):
        shape = (len(index), index.dim)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        for ids, vectors in batches:
            file.write(_bytes(vectors))
            ids_file.writelines(_line(index, each) for each in ids)


def _write_faiss(folder: Path, index: Index, batches: Iterator[Batch]) -> None:
    """An IndexFlatIP as FAISS writes it, without having all vectors in memory.

    Its file is a header (FAISS's write_index_header, then the length of the vectors in numbers of 4
    bytes) and the vectors.
    """
    count, dim = len(index), index.dim
    unused, trained, inner_product = 1 << 20, True, 0
    with open(folder / "index", "wb") as file, open(folder / "docid", "wb") as ids_file:
        file.write(b"IxFI")
        file.write(
            struct.pack("<iqqq?iQ", dim, count, unused, unused, trained, inner_product, count * dim)
        )
        for ids, vectors in batches:
            file.write(_bytes(vectors))
            ids_file.writelines(_line(index, each) for each in ids)


def _write_pickles(folder: Path, index: Index, batches: Iterator[Batch]) -> None:
    regrouped = _regrouped(batches, _rows_of(_PICKLE_BYTES, index.dim))
    for number, (ids, vectors) in enumerate(regrouped):
        write_pickle(folder / f"corpus_emb.{number}.pkl", vectors, ids)


def _bytes(vectors: NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(vectors, dtype="<f4").data


def _line(index: Index, passage_id: str) -> bytes:
    """An id on a line of its own; DataError for one that would not come back from there."""
    if passage_id != passage_id.strip() or passage_id.splitlines() != [passage_id]:
        raise DataError(
            f"{index.directory}: expected ids that fit on a line of their own, found "
            f"{shown(passage_id)}: export --to rocketrank or tevatron, which hold any id"
        )
    return passage_id.encode() + b"\n"


def _write_texts(path: Path, index: Index) -> None:
    some = False
    with open(path, "wb") as file:
        for passage in index.live_passages():
            some = some or bool(passage.full_text)
            file.write(_beir_line(passage))
    if not some:
        raise DataError(
            f"{index.directory}: expected passages with texts, found none with one: leave out "
            "--texts"
        )


def _beir_line(passage: Passage) -> bytes:
    record: dict[str, object] = {"_id": passage.id, "title": passage.title, "text": passage.text}
    if passage.metadata:
        record["metadata"] = dict(passage.metadata)
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
