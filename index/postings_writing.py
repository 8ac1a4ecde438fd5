"""Writing a segment's postings from its texts with a bound on memory.

The texts are split once, in the order of their rows; each passage's words go, as pairs of a word's
number and its frequency, to a temporary file. When the vocabulary and the number of postings of
each word are known, the pairs are read back in pieces and put where they belong in the mapped
output. In memory are the vocabulary, one piece, and 8 bytes for each passage. The result depends
neither on the size of the pieces nor on the order in which words were met.
"""

import mmap
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..data.words import words
from ..durable import PARTIAL, explained_write, replacing
from .postings import ESCAPED, Counts, extents, header_bytes, size_of

_PIECE = 2_000_000
"""Pairs in memory at once: some 100 MB while they are sorted."""


def write_postings(path: Path, texts: Iterable[str], *, piece: int = _PIECE) -> None:
    """Writes the postings of ``texts``, one a row, as ``path`` durably.

    Only one process may write ``path``. Raises RocketRankError where it cannot be written.
    """
    with explained_write(path), _temporary(path) as spilled:
        split = _Split(spilled, piece)
        for text in texts:
            split.add(text)
        split.flush()
        with replacing(path, alone=True) as partial:
            _write(partial, split)


@contextmanager
def _temporary(path: Path) -> Iterator[IO[bytes]]:
    """A file beside ``path`` that is gone when it is closed, or when this process dies."""
    place = path.with_name(f"{path.stem}-pairs{path.suffix}{PARTIAL}")
    with open(place, "w+b") as file:
        place.unlink()
        yield file


class _Split:
    """The texts so far: the vocabulary, the passages' lengths, and pairs in a file."""

    def __init__(self, spilled: IO[bytes], piece: int) -> None:
        self.piece = piece
        self.spilled = spilled
        self.numbers: defaultdict[str, int] = defaultdict()
        self.numbers.default_factory = self.numbers.__len__
        self.lengths = array("i")
        self.distinct = array("i")
        self.passages_with = np.zeros(0, dtype=np.int64)
        """For each word's number how many passages have it."""
        self.large = 0
        self._found = array("I")
        self._frequencies = array("I")

    def add(self, text: str) -> None:
        counted = Counter(words(text))
        self.lengths.append(counted.total())
        self.distinct.append(len(counted))
        self._found.extend([self.numbers[word] for word in counted])
        self._frequencies.extend(counted.values())
        if len(self._found) >= self.piece:
            self.flush()

    def flush(self) -> None:
        """Puts the pairs that are in memory into the file."""
        found = np.frombuffer(self._found, dtype=np.uint32)
        frequencies = np.frombuffer(self._frequencies, dtype=np.uint32)
        counted = np.bincount(found, minlength=len(self.numbers))
        counted[: len(self.passages_with)] += self.passages_with
        self.passages_with = counted
        self.large += int((frequencies >= ESCAPED).sum())
        self.spilled.write(np.column_stack([found, frequencies]).tobytes())
        self._found, self._frequencies = array("I"), array("I")

    def pieces(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        """The numbers and frequencies of all pairs, in the order of the passages."""
        self.spilled.seek(0)
        while content := self.spilled.read(8 * self.piece):
            pairs = np.frombuffer(content, dtype=np.uint32).reshape(-1, 2)
            yield pairs[:, 0], pairs[:, 1]


def _write(path: Path, split: _Split) -> None:
    vocabulary = sorted(split.numbers)  # by code points, which is the order of their bytes too
    encoded = [word.encode() for word in vocabulary]
    counts = Counts(
        rows=len(split.lengths),
        tokens=sum(split.lengths),
        words=len(vocabulary),
        letters=sum(map(len, encoded)),
        postings=int(split.passages_with.sum()),
        large=split.large,
    )
    order = np.fromiter((split.numbers[word] for word in vocabulary), dtype=np.int64)
    with open(path, "w+b") as file:
        # Room that is missing is an error here; when a mapped page is written, a signal.
        os.posix_fallocate(file.fileno(), 0, size_of(counts))
        with mmap.mmap(file.fileno(), size_of(counts)) as mapped:
            mapped[: len(header_bytes(counts))] = header_bytes(counts)
            # Views must be gone when the map is closed, so they are a function's own.
            _fill(mapped, counts, split, encoded, order)
            mapped.flush()


def _fill(
    mapped: mmap.mmap,
    counts: Counts,
    split: _Split,
    encoded: list[bytes],
    order: NDArray[np.int64],
) -> None:
    """Writes the arrays; ``order`` has the number of each word of the sorted vocabulary."""
    content = np.frombuffer(mapped, dtype=np.uint8)
    arrays = {name: each.of(content) for name, each in extents(counts).items()}
    arrays["vocabulary"][:] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    arrays["word_ends"][0] = arrays["starts"][0] = 0
    arrays["word_ends"][1:] = np.cumsum([len(word) for word in encoded], dtype=np.int64)
    arrays["starts"][1:] = np.cumsum(split.passages_with[order])
    arrays["lengths"][:] = np.frombuffer(split.lengths, dtype=np.int32)
    _sort(arrays, split, order)


def _sort(arrays: dict[str, NDArray[Any]], split: _Split, order: NDArray[np.int64]) -> None:
    """Puts the pairs in the order of words and, of each word, of rows: a counting sort."""
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    free = arrays["starts"][:-1].copy()
    row_ends = np.cumsum(np.frombuffer(split.distinct, dtype=np.int32), dtype=np.int64)
    done, large_places, large = 0, [], []
    for numbers, frequencies in split.pieces():
        rows = np.searchsorted(row_ends, np.arange(done, done + len(numbers)), side="right")
        done += len(numbers)
        word_places = places[numbers]
        sorting = np.argsort(word_places, kind="stable")
        met, first, count = np.unique(word_places[sorting], return_index=True, return_counts=True)
        targets = np.arange(len(sorting)) + np.repeat(free[met] - first, count)
        free[met] += count
        arrays["rows"][targets] = rows[sorting]
        sorted_frequencies = frequencies[sorting]
        arrays["frequencies"][targets] = np.minimum(sorted_frequencies, ESCAPED)
        above = sorted_frequencies >= ESCAPED
        large_places.append(targets[above])
        large.append(sorted_frequencies[above])
    if large:
        by_place = np.argsort(np.concatenate(large_places))
        arrays["large_places"][:] = np.concatenate(large_places)[by_place]
        arrays["large"][:] = np.concatenate(large)[by_place]
