"""Structures of a part of a segment each, so that building one stays within a bound on memory.

A part is a run of whole vector files. All parts of a segment are of one kind and, where there are
several, of one factory; a search asks each of them and merges what they find.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from .kinds import KINDS, Choice, choose, training_points
from .manifest import Manifest, Segment, VectorFile
from .vectors import VectorShards

_BASE = 400 << 20
"""Python, NumPy, FAISS and SQLite's caches, with some room."""
_ROWS_AT_LEAST = 50_000
"""Fewer in a part would make searches slow; a corpus that is smaller has one part anyway."""


class Part(NamedTuple):
    """A structure's file and the vectors that it holds: rows ``start`` … ``stop`` - 1."""

    file: VectorFile
    vectors: tuple[VectorFile, ...]
    start: int
    stop: int


def parts_of(segment: Segment) -> Iterator[Part]:
    """The parts of a segment in the order of their rows."""
    remaining = iter(segment.vectors)
    start = 0
    for file in segment.structure.files:
        vectors: list[VectorFile] = []
        while sum(each.rows for each in vectors) < file.rows:
            vectors.append(next(remaining))
        yield Part(file, tuple(vectors), start, start + file.rows)
        start += file.rows


def part_vectors(directory: Path, part: Part, manifest: Manifest) -> VectorShards:
    """The vectors that the structure of a part is made of."""
    return VectorShards(
        [directory / file.file for file in part.vectors],
        [file.rows for file in part.vectors],
        manifest.width,
        manifest.vectors,
    )


def cut(
    rows: Sequence[int], choice: Callable[[int], Choice], dim: int, memory: int | None
) -> tuple[list[range], Choice]:
    """Runs of vector files (of so many ``rows`` each) for the parts, and the structure of each.

    ``memory`` bounds the bytes that a build takes beyond what it maps. Raises UsageError where not
    even a part of 50,000 vectors can be built within it.
    """
    total = sum(rows)
    whole = choice(total)
    if memory is None or memory_of(whole, total, dim) <= memory:
        return [range(len(rows))], whole
    most = _rows_within(memory, whole, total, dim)
    if max(rows) > most or most < min(total, _ROWS_AT_LEAST):
        least = memory_of(whole, max(*rows, min(total, _ROWS_AT_LEAST)), dim)
        raise UsageError(
            f"memory ({memory >> 20} MiB) must be at least {-(-least // (1 << 20))} MiB to build "
            f"{whole.kind} for vectors of width {dim} in files of up to {max(rows):,}: allow more, "
            "or choose another kind"
        )
    runs = _runs(rows, most)
    largest = max(sum(rows[number] for number in run) for run in runs)
    # Of the kind that was chosen for all: by its own size a part might be of another.
    part = choose(whole.kind, largest, dim) if whole.kind in KINDS else whole
    reason = f"{whole.reason}; in {len(runs)} parts, to be built within {memory >> 20} MiB"
    return runs, Choice(part.kind, part.factory, reason)


def _rows_within(memory: int, choice: Choice, total: int, dim: int) -> int:
    """The most vectors whose structure can be built within ``memory``, by bisection."""
    low, high = 0, total
    while low < high:
        middle = (low + high + 1) // 2
        if memory_of(choice, middle, dim) <= memory:
            low = middle
        else:
            high = middle - 1
    return low


def _runs(rows: Sequence[int], most: int) -> list[range]:
    """Runs of about equal size with at most ``most`` rows each; no file has more than that."""
    count = -(-sum(rows) // most)
    while True:
        runs = _divided(rows, count)
        if max(sum(rows[number] for number in run) for run in runs) <= most:
            return runs
        count += 1


def _divided(rows: Sequence[int], count: int) -> list[range]:
    """``count`` runs of about equal numbers of rows, or fewer where there are fewer files."""
    runs: list[range] = []
    total, first, done = sum(rows), 0, 0
    for number, each in enumerate(rows):
        done += each
        if done * count >= total * (len(runs) + 1):
            runs.append(range(first, number + 1))
            first = number + 1
    return runs


def memory_of(choice: Choice, count: int, dim: int) -> int:
    """Bytes that building the structure for ``count`` vectors takes, measured and rounded up.

    Vectors or codes with their row numbers, twice where lists grow; a graph's links; the sample.
    """
    sample = min(count, training_points(choice, count)) * dim * 4 * 2
    each = {
        "flat": dim * 4,
        "ivf": 2 * (dim * 4 + 8),
        "hnsw": dim * 4 + 300,
        "ivfpq": 2 * (max(1, dim // 4) + 8),
        "ivfpq4": 2 * (max(1, dim // 4) + 8),
        "ivf-rabitq": 2 * (dim // 8 + 16),
    }.get(choice.kind, 2 * (dim * 4 + 64))
    return _BASE + sample + count * each
