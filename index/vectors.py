"""The encoded passages: one NumPy file a shard, float32, one vector a row."""

import hashlib
import io
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..durable import write_durably
from ..errors import DataError

LARGEST_NORM = 1e18
"""Above it squares leave float32's range, and inner products become infinite or NaN."""


def write_vectors(path: Path, vectors: NDArray[np.float32]) -> str:
    """Writes ``vectors`` (n, dim) as ``path`` durably; the SHA-256 of the file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(vectors, dtype="<f4"))
    content = buffer.getbuffer()
    write_durably(path, [content], alone=True)
    return hashlib.sha256(content).hexdigest()


def map_vectors(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """The file's vectors (rows, dim), read from disk only where they are touched."""
    try:
        mapped = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected a file of {rows} vectors, found one that cannot be read ({error}): "
            "build the index again with --overwrite"
        ) from error
    if mapped.shape != (rows, dim) or mapped.dtype != np.dtype("<f4"):
        raise DataError(
            f"{path}: expected float32 of shape ({rows}, {dim}), found {mapped.dtype} of shape "
            f"{mapped.shape}: build the index again with --overwrite"
        )
    # A plain array: np.memmap costs microseconds at every indexing.
    array: NDArray[np.float32] = mapped.view(np.ndarray)
    return array


class VectorShards:
    """Consecutive vector files seen as one (n, dim) array of which only touched rows are read.

    Mapped files are kept open up to a share of the process's limit, least recently used first out,
    because each costs a file descriptor and a large corpus has thousands. Safe for many threads.
    """

    def __init__(self, paths: Sequence[Path], rows: Sequence[int], dim: int) -> None:
        self.dim = dim
        self._paths = list(paths)
        self._rows = list(rows)
        self._starts = np.concatenate([[0], np.cumsum(self._rows)]).astype(np.int64)
        self._mapped: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._capacity = 4096 if limit == resource.RLIM_INFINITY else max(16, limit // 4)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def shard(self, number: int) -> NDArray[np.float32]:
        with self._lock:
            array = self._mapped.get(number)
            if array is not None:
                self._mapped.move_to_end(number)
                return array
            array = map_vectors(self._paths[number], self._rows[number], self.dim)
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
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        found: NDArray[np.float32] = np.empty((len(rows), self.dim), dtype=np.float32)
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self.shard(int(number))[rows[here] - self._starts[number]]
        return found

    def close(self) -> None:
        with self._lock:
            self._mapped.clear()
