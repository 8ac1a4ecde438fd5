"""Files of vectors with the ids of their rows, each format read so that any rows can be asked for.

What cannot be read by row (JSON lines, pickles) is copied to the disk once, to a file without a
name, which is gone when the process ends.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.lines import LineFile, MalformedError, iter_lines, shown
from ..data.passage_formats import parse_id, parse_object, parse_text
from ..data.records import Passage
from ..durable import explained_write, sha256_of
from ..errors import DataError, UsageError
from .structure import faiss_library, own_words, take_apart
from .vector_pickles import checked_ids, read_pickle
from .vector_shards import VectorsNote, check_shard, read_note, shard_ids

NPY_START = b"\x93NUMPY"
_LINES_AT_ONCE = 1024

Gather = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows (m,) → a copy of their vectors (m, dim)."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The vectors of a file and the ids of its rows.

    ``content_sha256`` is of both; ``note`` says what made them, where the file does; ``texts`` are
    the passages, where the file holds them.
    """

    path: Path
    ids: list[str]
    dim: int
    gather: Gather
    content_sha256: str
    note: VectorsNote | None = None
    texts: Callable[[], Iterator[Passage]] | None = None


def copied(folder: Path, blocks: Iterable[NDArray[np.float32]], dim: int) -> Gather:
    """Copies ``blocks`` of vectors (n, dim) to a file without a name in ``folder``."""
    rows = 0
    with explained_write(folder), tempfile.TemporaryFile(dir=folder) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
            rows += len(block)
        file.flush()
        shape = (rows, dim)
        mapped: Any = np.memmap(file, "<f4", "r", shape=shape) if rows else np.empty(shape)

    def gather(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array(mapped[wanted], dtype=np.float32)

    return gather


def open_shards(folder: Path) -> list[Part]:
    """The shards of a folder of ``rq encode``, compared with their checksums."""
    note, shards, _ = read_note(folder)
    parts = []
    for shard in shards:
        check_shard(folder, shard)
        path, ids = folder / shard.vectors, shard_ids(folder, shard)
        dim, gather = _npy(path, len(ids))
        if dim != note.width or len(ids) != shard.rows:
            raise DataError(
                f"{path}: expected {shard.rows} vectors of width {note.width}, found {len(ids)} of "
                f"width {dim}: encode again"
            )
        digest = shard.vectors_sha256 + shard.ids_sha256
        parts.append(
            Part(path=path, ids=ids, dim=dim, gather=gather, content_sha256=digest, note=note)
        )
    return parts


def open_npy(path: Path, ids: Path | None) -> Part:
    """A NumPy file with its ids in a file beside it, or in ``ids``."""
    beside = ids or _ids_beside(path)
    read = read_ids(beside)
    dim, gather = _npy(path, len(read), beside)
    digest = _digest(path) + _digest(beside)
    return Part(path=path, ids=read, dim=dim, gather=gather, content_sha256=digest)


def _ids_beside(path: Path) -> Path:
    stem = path.name.removesuffix(".npy")
    for ending in (".ids.txt", ".ids.json", ".ids.npy", ".txt", ".json"):
        if (beside := path.with_name(stem + ending)).is_file():
            return beside
    raise UsageError(
        f"{path}: expected the ids of its rows beside it, found none: write them to "
        f"{stem}.ids.txt, one a line in the order of the rows, or name their file with --ids"
    )


def is_ids_of(path: Path) -> bool:
    """Whether a NumPy file holds the ids of another one, by its name."""
    return path.name.endswith(".ids.npy")


def read_ids(path: Path) -> list[str]:
    """The ids of a file: lines, a list of JSON, or an array of NumPy."""
    try:
        with open(path, "rb") as file:
            start = file.read(len(NPY_START))
        if start == NPY_START:
            found = np.load(path, allow_pickle=False)
            if found.ndim != 1 or found.dtype.kind not in "iuU":
                raise ValueError(f"{found.dtype} of shape {found.shape}")
            listed: Any = found.tolist()
        elif path.suffix == ".json":
            listed = orjson.loads(path.read_bytes())
        else:
            return [line for _, line in iter_lines(path)]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the name") from None
    except ValueError as error:
        if isinstance(error, UsageError | DataError):
            raise
        raise _no_ids(path, str(error)) from error
    if not isinstance(listed, list):
        raise _no_ids(path, type(listed).__name__)
    return checked_ids(path, listed)


def _no_ids(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: expected ids as a list of JSON, or as a NumPy array of strings or integers, "
        f"found {found}: write them one a line to a .txt file"
    )


def _npy(path: Path, ids: int, ids_path: Path | None = None) -> tuple[int, Gather]:
    """Width and rows of a NumPy file, which must have as many as there are ``ids``."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the name") from None
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected vectors as NumPy saves them, found a file that cannot be read "
            f"({error}): write them again with numpy.save"
        ) from error
    if mapped.ndim != 2 or mapped.dtype.kind != "f" or mapped.dtype.itemsize not in (2, 4):
        raise DataError(
            f"{path}: expected float32 or float16 of shape (n, width), found {mapped.dtype} of "
            f"shape {mapped.shape}: convert it with .astype(numpy.float32)"
        )
    _check_count(path, len(mapped), ids_path or path, ids)

    def gather(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        # Mapped anew each time: a mapped file costs a file descriptor.
        return np.array(np.load(path, mmap_mode="r")[rows], dtype=np.float32)

    return mapped.shape[1], gather


def _check_count(path: Path, rows: int, ids_path: Path, ids: int) -> None:
    if rows != ids:
        raise DataError(
            f"{path}: expected an id for each of its {rows:,} vectors, found {ids:,} ids in "
            f"{ids_path}: take the ids that belong to these vectors"
        )


def open_faiss(path: Path) -> Part:
    """Pyserini's FAISS file with its ids in the file ``docid`` beside it."""
    faiss = faiss_library()
    ids_path = path.with_name("docid")
    if not ids_path.is_file():
        raise DataError(
            f"{path}: expected Pyserini's file of ids {ids_path.name} beside it, found none: copy "
            "the whole folder"
        )
    ids = [line for _, line in iter_lines(ids_path)]
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise DataError(
            f"{path}: expected a FAISS index, found a file that FAISS cannot read "
            f"({own_words(error)}): copy it again"
        ) from error
    parts = take_apart(index)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataError(
            f"{path}: expected a FAISS index of inner products, found one of another metric, whose "
            "order an index of ours would not keep: write an IndexFlatIP of vectors that are meant "
            "for inner products"
        )
    if not parts.lossless:
        raise DataError(
            f"{path}: expected a FAISS index that holds the vectors themselves (IndexFlatIP), "
            f"found an {parts.name}, which keeps codes of them: encode with --to-faiss, and give "
            "what that writes"
        )
    _check_count(path, index.ntotal, ids_path, len(ids))
    if hasattr(parts.inner, "nlist"):
        parts.inner.make_direct_map()

    def gather(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = index.reconstruct_batch(rows)
        return found

    digest = _digest(path) + _digest(ids_path)
    return Part(path=path, ids=ids, dim=index.d, gather=gather, content_sha256=digest)


class _Line(NamedTuple):
    """A line of Pyserini's JSON."""

    passage: Passage
    vector: NDArray[np.float32]


def open_json_lines(path: Path, copies: Path) -> Part:
    """Pyserini's JSON lines: id, contents and vector."""
    file, ids = LineFile(path), list[str]()
    first = LineFile(path).peek(1)
    if not first:
        raise DataError(
            f"{path}: expected a vector on each line, found an empty file: leave it out"
        )
    dim = len(_first(path, first[0]).vector)

    def vectors() -> Iterator[NDArray[np.float32]]:
        for line in file.parsed(_parse_line):
            if len(line.vector) != dim:
                file.fail(
                    f"vectors of width {dim}, as on the first line",
                    f"one of width {len(line.vector)} for {shown(line.passage.id)}",
                )
            ids.append(line.passage.id)
            yield line.vector

    def blocks() -> Iterator[NDArray[np.float32]]:
        remaining = vectors()
        while block := list(islice(remaining, _LINES_AT_ONCE)):
            yield np.stack(block)

    gather = copied(copies, blocks(), dim)

    def texts() -> Iterator[Passage]:
        return LineFile(path).parsed(lambda line: _parse_line(line).passage)

    return Part(
        path=path, ids=ids, dim=dim, gather=gather, content_sha256=_digest(path), texts=texts
    )


def _first(path: Path, line: str) -> _Line:
    try:
        return _parse_line(line)
    except MalformedError as error:
        raise DataError(f"{path}:1: expected {error.expected}, found {error.found}") from None


def _parse_line(line: str) -> _Line:
    record = parse_object(line)
    for key in ("id", "vector"):
        if key not in record:
            raise MalformedError(f"the key {key!r}", f"the keys {shown([*record])}")
    contents = record.get("contents", "")
    if isinstance(contents, list) and all(isinstance(each, str) for each in contents):
        contents = "\n".join(contents)
    vector = record["vector"]
    if not isinstance(vector, list) or not vector:
        raise MalformedError("a list of numbers in 'vector'", shown(vector))
    try:
        numbers = np.array(vector)
    except ValueError:  # lists of several lengths
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or numbers.dtype.kind not in "fi":
        raise MalformedError("a list of numbers in 'vector'", shown(vector))
    passage = Passage(parse_id(record["id"], "id"), parse_text(contents, "contents"))
    with np.errstate(over="ignore"):  # what is too large is refused as infinite where it is used
        return _Line(passage, numbers.astype(np.float32))


def open_pickle(path: Path, copies: Path) -> Part:
    """A file of Tevatron's."""
    vectors, ids = read_pickle(path)
    _check_count(path, len(vectors), path, len(ids))
    dim = vectors.shape[1]
    gather = copied(copies, [vectors], dim)
    return Part(path=path, ids=ids, dim=dim, gather=gather, content_sha256=_digest(path))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the name") from None


def digest_of(parts: Iterable[Part]) -> str:
    """SHA-256 over the contents of parts in their order."""
    return hashlib.sha256("".join(part.content_sha256 for part in parts).encode()).hexdigest()
