"""The encoded passages: one NumPy file a shard, one vector a row, in one of three types.

``float16`` halves the space; ``int8`` takes a quarter: each vector has a scale of its own, its
largest component / 127. What is stored is the truth from then on: structures are filled from it and
scores are taken of it. Scales have 16 bits of mantissa, so that codes times scale are exact in
float32 and a vector that is read and stored again has the same bytes.
"""

import errno
import hashlib
import io
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..durable import write_durably
from ..errors import DataError, RocketRankError, UsageError

LARGEST_NORM = 1e18
"""Above it squares leave float32's range, and inner products become infinite or NaN."""


VectorType = Literal["float32", "float16", "int8"]
VECTOR_TYPES: tuple[VectorType, ...] = get_args(VectorType)


def write_vectors(
    path: Path, vectors: NDArray[np.float32], vector_type: VectorType = "float32"
) -> str:
    """Writes ``vectors`` (n, dim) as ``path`` durably; the SHA-256 of the file."""
    buffer = io.BytesIO()
    np.save(buffer, packed(vectors, vector_type))
    content = buffer.getbuffer()
    write_durably(path, [content], alone=True)
    return hashlib.sha256(content).hexdigest()


def packed(vectors: NDArray[np.float32], vector_type: VectorType) -> NDArray[Any]:
    """Vectors (n, dim) as they are stored. UsageError for values beyond float16's range."""
    dtype = _stored_type(vector_type, vectors.shape[1])
    if vector_type != "int8":
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(vectors, dtype=dtype)
        if not np.isfinite(converted).all():
            raise UsageError(
                f"vector type {vector_type} can hold numbers up to 65504, and the model gave "
                f"{np.abs(vectors).max():g}: store them as float32 or int8"
            )
        return converted
    records = np.zeros(len(vectors), dtype=dtype)
    largest = np.abs(vectors).max(axis=1, initial=0).astype(np.float64)
    mantissas, exponents = np.frexp(largest / 127)
    scales = np.ldexp(np.ceil(mantissas * 2**16) / 2**16, exponents)
    records["scale"] = scales
    divisors = np.where(scales > 0, scales, 1)[:, np.newaxis]
    records["codes"] = np.rint(vectors / divisors)
    return records


def unpacked(stored: NDArray[Any], dtype: Any = np.float32) -> NDArray[Any]:
    """The vectors (n, dim) of what was stored, as float32 or float64; itself if it is that.

    Both are exact: float64 is for those who would convert them next.
    """
    if stored.dtype.names:
        scales: NDArray[Any] = stored["scale"].astype(dtype)
        product: NDArray[Any] = stored["codes"].astype(dtype) * scales[:, np.newaxis]
        return product
    if stored.dtype == np.float16:
        return _widened(stored).astype(dtype, copy=False)
    return stored.astype(dtype, copy=False)


def _widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Finite float16 as float32, exactly; NumPy's own conversion takes six times as long.

    A float16 is a sign, 5 bits of exponent and 10 of mantissa. Spread to the places that float32
    has for them they mean the same number but for the exponents' biases, 15 and 127.
    """
    bits = np.ascontiguousarray(halves).view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70002000)  # the sign, and what was moved
    wide = bits.view(np.float32)
    wide *= np.float32(2.0 ** (127 - 15))
    return wide


def _stored_type(vector_type: VectorType, dim: int) -> np.dtype[Any]:
    if vector_type == "int8":
        return np.dtype([("scale", "<f4"), ("codes", "i1", (dim,))])
    return np.dtype("<f4" if vector_type == "float32" else "<f2")


def map_vectors(
    path: Path, rows: int, dim: int, vector_type: VectorType = "float32"
) -> NDArray[Any]:
    """The file's vectors as they are stored, read from disk only where they are touched."""
    try:
        mapped = np.load(path, mmap_mode="r")
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise RocketRankError(
                f"{path}: cannot be opened ({error.strerror}): allow more open files (ulimit -n), "
                "or make fewer files with rq compact"
            ) from error
        raise DataError(
            f"{path}: expected a file of {rows} vectors, found one that cannot be read "
            f"({error.strerror or error}): check permissions, or run `rq repair`"
        ) from error
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected a file of {rows} vectors, found one that cannot be read ({error}): "
            "build the index again with --overwrite"
        ) from error
    expected = (rows,) if vector_type == "int8" else (rows, dim)
    if mapped.shape != expected or mapped.dtype != _stored_type(vector_type, dim):
        raise DataError(
            f"{path}: expected {vector_type} of shape {expected}, found {mapped.dtype} of shape "
            f"{mapped.shape}: build the index again with --overwrite"
        )
    # A plain array: np.memmap costs microseconds at every indexing.
    array: NDArray[Any] = mapped.view(np.ndarray)
    return array


class VectorShards:
    """Consecutive vector files seen as one (n, dim) array of which only touched rows are read.

    Mapped files are kept open up to a share of the process's limit, least recently used first out,
    because each costs a file descriptor and a large corpus has thousands. Safe for many threads.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        rows: Sequence[int],
        dim: int,
        vector_type: VectorType = "float32",
    ) -> None:
        self.dim = dim
        self.vector_type = vector_type
        self._paths = list(paths)
        self._rows = list(rows)
        self._starts = np.concatenate([[0], np.cumsum(self._rows)]).astype(np.int64)
        self._mapped: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._capacity = 4096 if limit == resource.RLIM_INFINITY else max(16, limit // 4)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def shard(self, number: int) -> NDArray[np.float32]:
        """The vectors of one file (rows, dim)."""
        return unpacked(self._stored(number))

    def _stored(self, number: int) -> NDArray[Any]:
        with self._lock:
            array = self._mapped.get(number)
            if array is not None:
                self._mapped.move_to_end(number)
                return array
            array = map_vectors(self._paths[number], self._rows[number], self.dim, self.vector_type)
            self._mapped[number] = array
            if len(self._mapped) > self._capacity:
                self._mapped.popitem(last=False)
            return array

    def shards(self) -> Iterator[NDArray[np.float32]]:
        """Each file's vectors in the order of the rows."""
        for number in range(len(self._paths)):
            yield self.shard(number)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the vectors at ``rows`` (m,) → (m, dim)."""
        return unpacked(self.gather_stored(rows))

    def gather_stored(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """As ``gather``, the vectors as they are stored, for ``unpacked``."""
        if len(self._paths) == 1:
            return self._stored(0)[rows]
        order = np.argsort(rows, kind="stable")
        rising = rows[order]
        bounds = np.searchsorted(rising, self._starts)
        stored_type = _stored_type(self.vector_type, self.dim)
        shape = (len(rows),) if stored_type.names else (len(rows), self.dim)
        found: NDArray[Any] = np.empty(shape, dtype=stored_type)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            places = slice(bounds[number], bounds[number + 1])
            found[order[places]] = self._stored(number)[rising[places] - self._starts[number]]
        return found

    def close(self) -> None:
        with self._lock:
            self._mapped.clear()


class RowRange:
    """The rows ``start`` … ``stop`` - 1 of vector files, counted from 0."""

    def __init__(self, vectors: VectorShards, start: int, stop: int) -> None:
        self.dim = vectors.dim
        self._vectors = vectors
        self._start = start
        self._rows = stop - start

    def __len__(self) -> int:
        return self._rows

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """As ``VectorShards.gather``."""
        return self._vectors.gather(rows + self._start)

    def gather_stored(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """As ``VectorShards.gather_stored``."""
        return self._vectors.gather_stored(rows + self._start)
