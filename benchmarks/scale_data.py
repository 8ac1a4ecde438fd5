"""Made-up clustered vectors of any number in bounded memory, and the exact answers over them.

A point is a cluster's centre plus noise, in few dimensions; cosines of random projections of it
bend them through many, and the whole is brought to length 1. The inner product of two vectors then
falls with the distance of their points (random Fourier features; Rahimi and Recht, NIPS 2007), and
near neighbours differ in as few directions as embeddings of texts do, however many rows there are.
The numbers below were chosen beside MiniLM's vectors of 22,622 passages of MS MARCO: there, these
have a local dimension (by maximum likelihood over the 100 nearest) of 20 where those have 13, and
inverted lists find somewhat less with the same share of lists. Row i is the same however many rows
there are, so a smaller collection is the beginning of a larger one.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rocketrank.data.records import Passage

Floats = NDArray[np.float32]

WIDTH = 384
BLOCK = 65_536
CENTRES = 3_000
_DIMENSIONS = 20
_SPREAD = 0.45
"""Standard deviation of points around a centre; that of centres is 1."""
_FREQUENCY = 0.38
"""Standard deviation of the projections: how fast inner products fall with the distance."""
_EVERYWHERE = 0.1
"""Length of noise in all directions beside a vector of length 1."""
_SEED = 20_261_121
_QUERIES_FROM = 1 << 40
"""Block numbers of queries, far from those of rows."""


class Vectors:
    """The made-up vectors; ``block`` and ``queries`` give the same numbers whenever asked."""

    def __init__(self, width: int = WIDTH, centres: int = CENTRES) -> None:
        random = np.random.default_rng(_SEED)
        self.width = width
        self._centres = random.standard_normal((centres, _DIMENSIONS), dtype=np.float32)
        projections = random.standard_normal((_DIMENSIONS, width), dtype=np.float32)
        self._projections = projections * np.float32(_FREQUENCY)
        self._phases = (random.random(width) * 2 * np.pi).astype(np.float32)
        self._last: tuple[int, Floats] | None = None

    def block(self, number: int) -> Floats:
        """Rows ``number * BLOCK`` … (BLOCK, width)."""
        if self._last is None or self._last[0] != number:
            self._last = (number, self._made(number, BLOCK))
        return self._last[1]

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start`` … ``stop`` - 1."""
        parts = []
        for number in range(start // BLOCK, (stop - 1) // BLOCK + 1):
            first = number * BLOCK
            parts.append(self.block(number)[max(0, start - first) : stop - first])
        return np.concatenate(parts)

    def queries(self, count: int) -> Floats:
        """Drawn as the rows are, and none of them."""
        return self._made(_QUERIES_FROM, count)

    def _made(self, number: int, count: int) -> Floats:
        random = np.random.default_rng([_SEED, number])
        # A few clusters are large and many are small.
        chosen = (random.random(count) ** 2 * len(self._centres)).astype(np.int64)
        points = self._centres[chosen]
        points += random.standard_normal(points.shape, dtype=np.float32) * np.float32(_SPREAD)
        made = points @ self._projections
        made += self._phases
        made = _units(np.cos(made, out=made))
        noise = random.standard_normal((count, self.width), dtype=np.float32)
        made += noise * np.float32(_EVERYWHERE / np.sqrt(self.width))
        return _units(made)

    def fingerprint(self) -> str:
        """Another one for other vectors."""
        return hashlib.sha256(self.queries(4).tobytes()).hexdigest()


def _units(vectors: Floats) -> Floats:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class MadePassages:
    """So many short passages as a corpus; a passage's text is its number."""

    skipped_empty = 0

    def __init__(self, count: int) -> None:
        self._count = count
        self.bytes_total: int | None = count
        self.bytes_read: int | None = 0
        self.location = ""

    def __iter__(self) -> Iterator[Passage]:
        for number in range(self._count):
            self.location = f"passage {number}"
            self.bytes_read = number
            yield Passage(f"p{number}", str(number))


class MadeEncoder:
    """Looks a passage's vector up by the number that is its text; passages come in order."""

    name = "made"

    def __init__(self, vectors: Vectors) -> None:
        self.dim = vectors.width
        self.fingerprint = vectors.fingerprint()
        self._vectors = vectors

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> Floats:
        found = self._vectors.rows(int(texts[0]), int(texts[-1]) + 1)
        if on_done:
            on_done(len(texts))
        return found


def exact(
    vectors: Vectors, queries: Floats, counts: Sequence[int], k: int, keep: Path
) -> dict[int, NDArray[np.int64]]:
    """For each of ``counts`` rows the ``k`` best of them for each query, kept in ``keep``.

    By inner products in float32 over all rows, a block at a time.
    """
    keep.mkdir(parents=True, exist_ok=True)
    which = f"{vectors.fingerprint()[:8]}-{len(queries)}-{k}"
    paths = {count: keep / f"exact-{count}-{which}.npy" for count in counts}
    missing = sorted(count for count, path in paths.items() if not path.exists())
    best_rows = np.empty((len(queries), 0), dtype=np.int64)
    best_scores = np.empty((len(queries), 0), dtype=np.float32)
    done = 0
    for count in missing:
        while done < count:
            stop = min(count, (done // BLOCK + 1) * BLOCK)
            scores = queries @ vectors.rows(done, stop).T
            rows = np.broadcast_to(np.arange(done, stop), scores.shape)
            best_scores = np.concatenate([best_scores, scores], axis=1)
            best_rows = np.concatenate([best_rows, rows], axis=1)
            order = np.argpartition(-best_scores, min(k, best_scores.shape[1]) - 1, axis=1)[:, :k]
            best_rows = np.take_along_axis(best_rows, order, axis=1)
            best_scores = np.take_along_axis(best_scores, order, axis=1)
            done = stop
        np.save(paths[count], best_rows)
    return {count: np.load(path) for count, path in paths.items()}
