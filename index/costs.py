"""What an index will take: bytes on the disk and in memory from counts, seconds by the known forms.

Bytes follow from what is written. Seconds need constants of this machine (``Costs``), which
``calibration.py`` measures; the forms say how they grow. n vectors of width d, L inverted lists:

=====================  =============================================================
coarse k-means         iterations · points · (a + b · L · d); at most 256 points a list
adding to lists        n · (kind's own + a + b · L · d)
quantizers, rotations  a + b · points, at most 16,384 of them
graph                  the m-th vector takes a + b · ln m, so n · a + b · (n ln n - n)
flat                   n · a
=====================  =============================================================
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .filling import sample_size, usual_probes
from .kinds import TRAINING_POINTS, Choice, depth_factor
from .structure import (
    LEAST_DEPTH,
    LOSSLESS,
    faiss_library,
    margin,
    new_index,
    take_apart,
)
from .vectors import VectorType

_ITERATIONS = 10
"""Of FAISS's k-means for inverted lists."""
_POINTS_A_CENTROID = 256
"""FAISS's k-means takes no more."""
_FAST_SCAN_BLOCK = 32
"""Vectors that the 4-bit codes of a list are padded to."""
_BLAS = 24 << 20
"""Inner products of a block of vectors with a block of centroids, and what FAISS keeps of BLAS."""
_SAMPLES = {"ivf": 1, "ivfpq": 3, "ivfpq4": 3, "ivf-rabitq": 4}
"""How often the training sample is in memory: rotated, rotated by FAISS again, as residuals."""
_LIST_ROOM = 1.5
"""Inverted lists grow by doubling; measured over lists of 40 to 300 vectors: 1.3 to 1.5."""
_LINKS = 32
"""Of the graph on its upper levels; twice as many on the lowest."""


class Line(NamedTuple):
    """``fixed + each · x``."""

    fixed: float
    each: float

    def at(self, x: float) -> float:
        return self.fixed + self.each * x


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds on this machine. ``…`` by kind where a mapping.

    ``clustering`` and ``assigning`` are for one point (in one iteration), over lists · width;
    ``training`` over points, without the coarse k-means; ``adding`` for one vector, without
    assigning; ``linking`` for one vector of a graph, over the logarithm of how many are there.
    ``querying`` is for one query, over the vectors visited; ``scanning`` for one vector of float32
    that is read in order, ``refining`` over the candidates that are scored again. ``far`` is how
    many times longer a vector out of the processor's caches takes where the order is random.
    """

    clustering: Line
    assigning: Line
    training: Mapping[str, Line]
    adding: Mapping[str, float]
    linking: Line
    querying: Mapping[str, Line]
    scanning: float
    refining: Line
    far: float
    writing_a_byte: float
    hashing_a_byte: float


def lists_of(choice: Choice, dim: int) -> int:
    """The inverted lists of a structure; 0 where it has none."""
    index = new_index(choice.factory, dim)
    return int(getattr(take_apart(index).inner, "nlist", 0))


def vector_bytes(rows: Sequence[int], dim: int, vector_type: VectorType) -> int:
    """Files of so many ``rows`` of vectors: each has a header of 128 bytes."""
    each = {"float32": 4 * dim, "float16": 2 * dim, "int8": dim + 4}[vector_type]
    return sum(rows) * each + 128 * len(rows)


def structure_bytes(choice: Choice, count: int, dim: int) -> int:
    """The file of a structure of ``count`` vectors.

    Exact but for the upper levels of a graph, which are drawn at random, and for how far the lists
    of 4-bit codes are from a whole number of blocks: for both the expectation is taken.
    """
    index = new_index(choice.factory, dim)
    empty = len(faiss_library().serialize_index(index))
    parts = take_apart(index)
    if hasattr(parts.inner, "hnsw"):
        upper = _LINKS / (_LINKS - 1) - 1
        links = 4 * _LINKS * (2 + upper)
        # The level (4 bytes) and the place of the links (8) of each.
        return empty + round(count * (4 * dim + links + 12))
    size = empty + count * int(parts.inner.code_size)
    lists = int(getattr(parts.inner, "nlist", 0))
    if lists:
        size += 8 * count + lists * (4 * dim + 8)
    if type(parts.inner).__name__ == "IndexIVFPQFastScan":
        size += round(lists * (_FAST_SCAN_BLOCK - 1) / 2 * int(parts.inner.code_size))
    return size + 4 * dim * dim * len(parts.transforms)


def grown(rows: Sequence[int], each: int) -> tuple[int, int]:
    """Bytes at the peak and at the end of an array to which ``rows`` of ``each`` bytes are added.

    It doubles when it is full, and while it moves, the old and the new one are there.
    """
    size = room = peak = 0
    for count in rows:
        if size + count > room:
            room = size + max(size, count)
            peak = max(peak, 2 * size + count)
        size += count
        peak = max(peak, size)
    return peak * each, size * each


def structure_memory(choice: Choice, rows: Sequence[int], dim: int, vector_type: VectorType) -> int:
    """Bytes at the peak of building a structure of files of ``rows``, beyond what is mapped.

    Training comes before the first vector is added, so the larger of both counts.
    """
    parts = take_apart(new_index(choice.factory, dim))
    inner, count = parts.inner, sum(rows)
    lists = hasattr(inner, "nlist")
    # A file's vectors as float32, and behind a rotation or as residuals.
    copies = (4 if vector_type != "float32" else 0) + (4 if lists or parts.transforms else 0)
    shard = max(rows) * dim * copies
    if hasattr(inner, "hnsw"):
        code = int(faiss_library().downcast_index(inner.storage).code_size)
        links = 4 * int(inner.hnsw.nb_neighbors(0)) + 20
        filled = grown(rows, code)[0] + grown(rows, links)[0]
    elif lists:
        filled = round(_LIST_ROOM * count * (int(inner.code_size) + 8))
    else:
        filled = grown(rows, int(inner.code_size))[0]
    if parts.name in LOSSLESS and not lists and not parts.transforms:
        return filled + shard
    points = sample_size(parts, count) * dim * 4
    training = _SAMPLES.get(choice.kind, 4) * points
    if hasattr(inner, "pq") or parts.transforms:
        training += 3 * min(count, TRAINING_POINTS) * dim * 4
    return _BLAS + max(training, filled + shard)


def shard_memory(rows: Sequence[int], content_bytes: int, dim: int) -> int:
    """Bytes that the largest shard takes while it is encoded, beyond those for encoding itself.

    Its vectors, those in double precision or as the file's content, and its texts: as objects,
    as what is fed to the model, and as what is hashed.
    """
    share = max(rows) / sum(rows)
    return max(rows) * dim * 4 * 3 + round(3 * content_bytes * share)


def build_seconds(choice: Choice, count: int, dim: int, costs: Costs) -> float:
    """Training a structure of ``count`` vectors and adding them."""
    if choice.kind == "flat":
        return count * costs.adding["flat"]
    if choice.kind == "hnsw":
        far = max(1.0, costs.far)
        linking = costs.linking
        return far * (count * linking.fixed + linking.each * (count * math.log(count) - count))
    parts = take_apart(new_index(choice.factory, dim))
    lists, points = int(parts.inner.nlist), sample_size(parts, count)
    return (
        clustering_seconds(points, lists, dim, costs.clustering)
        + costs.training[choice.kind].at(min(points, TRAINING_POINTS))
        + count * (costs.adding[choice.kind] + costs.assigning.at(lists * dim))
    )


def clustering_seconds(points: int, lists: int, dim: int, clustering: Line) -> float:
    """The coarse k-means; ``clustering`` is for one point in one iteration."""
    used = min(points, _POINTS_A_CENTROID * lists)
    return _ITERATIONS * used * clustering.at(lists * dim)


def query_seconds(choice: Choice, count: int, dim: int, k: int, costs: Costs) -> float:
    """One query for the ``k`` best of a structure that is in memory; rough."""
    if choice.kind == "flat":
        return count * costs.scanning + costs.refining.at(margin(k))
    querying = costs.querying[choice.kind]
    if choice.kind == "hnsw":
        return max(1.0, costs.far) * querying.at(math.log(count)) + costs.refining.at(margin(k))
    lists = lists_of(choice, dim)
    visited = count * usual_probes(lists) / lists
    again = max(LEAST_DEPTH, depth_factor(choice.kind) * k)
    depth = margin(k) if choice.kind == "ivf" else again
    each = max(querying.each, costs.scanning) if choice.kind == "ivf" else querying.each
    scanning = lists * costs.scanning + querying.fixed + visited * each
    return scanning + costs.refining.at(min(depth, count))


def line_through(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """Through two points (x, y), neither part below 0: time does not run backwards."""
    (x0, y0), (x1, y1) = first, second
    each = max(0.0, (y1 - y0) / (x1 - x0))
    return Line(max(0.0, y0 - each * x0), each)


def line_of(points: Sequence[tuple[float, float]]) -> Line:
    """The line nearest to points (x, y) by least squares, its slope not below 0."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    each = max(0.0, slope)
    return Line(mean_y - each * mean_x, each)
