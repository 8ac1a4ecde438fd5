"""Structures of a part of a segment each, so that building one stays within a bound on memory.

A part is a run of whole vector files. All parts of a segment are of one kind and, where there are
several, of one factory; a search asks each of them and merges what they find.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from .costs import structure_memory
from .kinds import KINDS, Choice, choose
from .manifest import Manifest, Segment, VectorFile
from .vectors import VectorShards, VectorType

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
    rows: Sequence[int],
    choice: Callable[[int], Choice],
    dim: int,
    memory: int | None,
    vector_type: VectorType = "float32",
) -> tuple[list[range], Choice]:
    """Runs of vector files (of so many ``rows`` each) for the parts, and the structure of each.

    As few parts as keep to ``memory``, which bounds the bytes that a build takes beyond what it
    maps. Raises UsageError where not even a part of 50,000 vectors can be built within it.
    """
    total = sum(rows)
    whole = choice(total)
    if memory is None:
        return [range(len(rows))], whole
    least = 0
    for count in range(1, max(1, total // min(total, _ROWS_AT_LEAST)) + 1):
        runs = _divided(rows, count)
        largest = max(([rows[number] for number in run] for run in runs), key=sum)
        # Of the kind that was chosen for all: by its own size a part might be of another.
        named = whole.kind in KINDS and len(runs) > 1
        part = choose(whole.kind, sum(largest), dim) if named else whole
        needed = memory_of(part, largest, dim, vector_type)
        least = min(least or needed, needed)
        if needed <= memory and len(runs) == 1:
            return runs, whole
        if needed <= memory:
            reason = f"{whole.reason}; in {len(runs)} parts, to be built within {memory >> 20} MiB"
            return runs, Choice(part.kind, part.factory, reason)
    raise UsageError(
        f"memory ({memory >> 20} MiB) must be at least {-(-least // (1 << 20))} MiB to build "
        f"{whole.kind} for vectors of width {dim} in files of up to {max(rows):,}: allow more, or "
        "choose another kind"
    )


def _divided(rows: Sequence[int], count: int) -> list[range]:
    """``count`` runs of about equal numbers of rows, or fewer where there are fewer files."""
    runs: list[range] = []
    total, first, done = sum(rows), 0, 0
    for number, each in enumerate(rows):
        done += each
        if done * count >= total * (len(runs) + 1):
            runs.append(range(first, number + 1))
            first = number + 1
    # Files grow towards the end, and what the last one leaves may be too little to train on.
    if len(runs) > 1 and 2 * sum(rows[number] for number in runs[-1]) * len(runs) < total:
        runs[-2:] = [range(runs[-2].start, runs[-1].stop)]
    return runs


def memory_of(
    choice: Choice, rows: Sequence[int], dim: int, vector_type: VectorType = "float32"
) -> int:
    """Bytes that building the structure for files of so many ``rows`` takes, with the process."""
    return _BASE + structure_memory(choice, rows, dim, vector_type)
