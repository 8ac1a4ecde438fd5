"""Which FAISS structure an index uses: the named kinds, and how ``auto`` chooses among them."""

import math
from typing import NamedTuple

KINDS = ("auto", "flat", "ivf", "hnsw", "ivfpq", "ivfpq4", "ivf-rabitq")
FLAT_UP_TO = 100_000
HNSW_UP_TO = 2_000_000
POINTS_PER_LIST = 39
"""FAISS's own lower bound of training vectors for each k-means centroid."""
TRAINING_POINTS = 16_384
"""Enough for 256 centroids or a rotation; more makes their training slow and little better."""
PRODUCT_QUANTIZER_POINTS = 256
"""An 8-bit product quantizer has 256 centroids and cannot be trained on fewer vectors."""


class Choice(NamedTuple):
    """A FAISS factory string and one sentence that says why it is that one."""

    kind: str
    factory: str
    reason: str


def choose(kind: str, count: int, dim: int) -> Choice:
    """The structure for ``count`` ≥ 1 vectors of width ``dim``; other kinds are factory strings."""
    if kind == "auto":
        return _choose_by_size(count, dim)
    if kind == "flat":
        return Choice("flat", "Flat", "flat was asked for")
    if kind == "ivf":
        return Choice("ivf", f"IVF{list_count(count)},Flat", "ivf was asked for")
    if kind == "hnsw":
        return Choice("hnsw", "HNSW32,Flat", "hnsw was asked for")
    if kind in _QUANTIZED:
        needed = points_needed(kind, dim)
        if count < needed:
            return Choice(
                "flat",
                "Flat",
                f"{kind} was asked for, but it needs {needed} passages to train on and there are "
                f"{count}, so the search is exhaustive (flat)",
            )
        return Choice(kind, _QUANTIZED[kind](count, dim), f"{kind} was asked for")
    return Choice("custom", kind, "the factory string was given")


def choose_added(kind: str, count: int, dim: int) -> Choice:
    """The structure for ``count`` vectors that are added to an index of ``kind``."""
    if count <= FLAT_UP_TO:
        reason = f"up to {FLAT_UP_TO:,} added passages are searched exhaustively until rq compact"
        return Choice("flat", "Flat", reason)
    return choose(kind, count, dim)


def points_needed(kind: str, dim: int) -> int:
    """Vectors of width ``dim`` without which a named kind cannot be trained.

    As many as a quantizer has centroids; FAISS's OPQ writes outside its memory, and ends the
    process, where it is given fewer vectors than they are wide.
    """
    if kind not in _QUANTIZED:
        return 1
    return max(PRODUCT_QUANTIZER_POINTS, dim if kind in ROTATED else 1)


def depth_factor(kind: str) -> int:
    """Candidates of a quantised structure that are scored again for each result that is wanted.

    Codes of 8 bits find with five what they find with ten; those of 4 bits and of 1 do not.
    """
    return 5 if kind == "ivfpq" else 10


def _choose_by_size(count: int, dim: int) -> Choice:
    size = f"auto chose {{}} for {count:,} passage{'' if count == 1 else 's'}: "
    if count <= FLAT_UP_TO:
        reason = (
            f"up to {FLAT_UP_TO:,} an exhaustive search is exact, fast enough and needs no training"
        )
        return Choice("flat", "Flat", size.format("flat") + reason)
    if count <= HNSW_UP_TO:
        gigabytes = count * (dim * 4 + 64 * 4) / 1e9
        reason = (
            f"above {FLAT_UP_TO:,} reading every vector for each query is too slow, and the graph "
            f"with its vectors takes about {gigabytes:.1f} GB of memory"
        )
        return Choice("hnsw", "HNSW32,Flat", size.format("hnsw") + reason)
    gigabytes = count * (_subquantizers(dim) + 8) / 1e9
    reason = (
        f"above {HNSW_UP_TO:,} whole vectors take too much memory, and their product-quantized "
        f"codes take about {gigabytes:.1f} GB"
    )
    return Choice("ivfpq", _ivfpq(count, dim), size.format("ivfpq") + reason)


def list_count(count: int) -> int:
    """Inverted lists for ``count`` vectors: 4·√n, with enough vectors to train each."""
    return max(1, min(4 * math.isqrt(count), count // POINTS_PER_LIST))


def _ivfpq(count: int, dim: int) -> str:
    parts = _subquantizers(dim)
    return f"OPQ{parts},IVF{list_count(count)},PQ{parts}"


def _subquantizers(dim: int) -> int:
    """Bytes a code: the largest divisor of ``dim`` that leaves 4 dimensions or more to a byte."""
    return max(m for m in range(1, max(1, min(dim // 4, 128)) + 1) if dim % m == 0)


def _ivfpq4(count: int, dim: int) -> str:
    """Half a byte for two dimensions or so: as many bits as ``ivfpq``, and faster to read."""
    parts = max(m for m in range(1, max(1, min(dim // 2, 256)) + 1) if dim % m == 0)
    return f"OPQ{parts},IVF{list_count(count)},PQ{parts}x4fs"


def _ivf_rabitq(count: int, dim: int) -> str:
    """A bit a dimension after a random rotation (RaBitQ; Gao and Long, SIGMOD 2024)."""
    return f"RR{dim},IVF{list_count(count)},RaBitQ"


ROTATED = ("ivfpq", "ivfpq4")
"""Kinds behind a rotation that OPQ finds."""
_QUANTIZED = {"ivfpq": _ivfpq, "ivfpq4": _ivfpq4, "ivf-rabitq": _ivf_rabitq}
