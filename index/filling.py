"""Filling a FAISS structure from vector shards, so that the same vectors give the same bytes."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..durable import explained_write, replacing
from ..errors import RocketRankError, UsageError
from .kinds import POINTS_PER_LIST, TRAINING_POINTS, Choice, depth_factor
from .structure import (
    Parts,
    faiss_library,
    nested,
    new_index,
    omp_threads,
    own_words,
    take_apart,
)
from .vectors import VectorShards

_EF_CONSTRUCTION = 128
_SEED = 20_240_229
_NORMS_AT_ONCE = 4096
_POINTS_READ_PER_LIST = POINTS_PER_LIST + 11


class Filled(NamedTuple):
    """A filled FAISS index with the parameters it should be searched with."""

    index: Any
    search: dict[str, int]
    largest_norm: float


def fill(choice: Choice, vectors: VectorShards, on_added: Callable[[int, int], None]) -> Filled:
    """Trains an index on a sample of ``vectors`` and adds them all, shard by shard.

    The same vectors give the same bytes: samples are seeded, and graphs, whose form depends on the
    order in which threads come by, are built by one thread.
    """
    index = new_index(choice.factory, vectors.dim)
    parts = take_apart(index)
    graph = any(hasattr(each, "hnsw") for each in nested(parts.inner))
    for each in nested(parts.inner):
        if hasattr(each, "hnsw"):
            each.hnsw.efConstruction = _EF_CONSTRUCTION
    largest = 0.0
    with omp_threads(1 if graph else None):
        try:
            if not index.is_trained:
                _train(choice, index, parts, vectors)
            for shard in vectors.shards():
                index.add(shard)
                largest = max(largest, _largest_norm(shard))
                on_added(len(shard), index.ntotal)
        except (RuntimeError, MemoryError) as error:
            raise RocketRankError(
                f"kind {choice.factory!r} could not be built; FAISS says: {own_words(error)}: "
                "run the same command with another --kind; nothing is encoded again"
            ) from error
    return Filled(index, _search_parameters(choice, parts), largest)


def _largest_norm(vectors: NDArray[np.float32]) -> float:
    """In double precision, some vectors at a time."""
    blocks = [vectors[i : i + _NORMS_AT_ONCE] for i in range(0, len(vectors), _NORMS_AT_ONCE)]
    return max(float(np.linalg.norm(each.astype(np.float64), axis=1).max()) for each in blocks)


def _train(choice: Choice, index: Any, parts: Parts, vectors: VectorShards) -> None:
    required = required_points(parts)
    if len(vectors) < required:
        raise UsageError(
            f"kind {choice.factory!r} needs at least {required} passages to train on, and there "
            f"are {len(vectors)}: run the same command with --kind auto; nothing is encoded "
            "again"
        )
    rotation_quantizers = _bound_training(parts)
    count = sample_size(parts, len(vectors))
    chosen = np.random.default_rng(_SEED).choice(len(vectors), size=count, replace=False)
    sample = vectors.gather(np.sort(chosen))
    inputs = sample
    # Quantizers are trained by one thread: threads change their last bits, and these many small
    # steps are slower with threads that wait for each other. The coarse k-means gains from them.
    with omp_threads(1):
        for transform in parts.transforms:
            if not transform.is_trained:
                transform.train(inputs)
            inputs = transform.apply(inputs)
    for transform, _ in rotation_quantizers:
        transform.pq = None
    if hasattr(parts.inner, "train_q1"):
        pointer = faiss_library().swig_ptr(inputs)
        parts.inner.train_q1(len(inputs), pointer, False, parts.inner.metric_type)
    with omp_threads(1):
        index.train(sample)


def sample_size(parts: Parts, count: int) -> int:
    """Vectors that the structure is trained on where there are ``count``."""
    lists = int(getattr(parts.inner, "nlist", 0))
    wanted = max(TRAINING_POINTS, _POINTS_READ_PER_LIST * lists, 2 * required_points(parts))
    return min(count, wanted)


def required_points(parts: Parts) -> int:
    """Vectors without which the structure cannot be trained."""
    lists = int(getattr(parts.inner, "nlist", 1))
    bits = int(parts.inner.pq.nbits) if hasattr(parts.inner, "pq") else 0
    # An OPQ rotation trains a quantizer of 8 bits of its own, and with fewer vectors than they are
    # wide FAISS writes outside its memory.
    rotations = [each for each in parts.transforms if type(each).__name__ == "OPQMatrix"]
    return max(lists, 1 << bits, *(max(256, int(each.d_in)) for each in rotations))


def _bound_training(parts: Parts) -> list[tuple[Any, Any]]:
    """Bounds training's work and keeps FAISS from warning on standard error about small samples.

    Returns the rotations with the quantizers they train by: FAISS holds bare pointers to these.
    """
    if hasattr(parts.inner, "cp"):
        parts.inner.cp.min_points_per_centroid = 1
    if hasattr(parts.inner, "pq"):
        # Reorders codes for a Hamming filter that is never used, for most of the training's time.
        if hasattr(parts.inner, "do_polysemous_training"):
            parts.inner.do_polysemous_training = False
        parts.inner.pq.cp.min_points_per_centroid = 1
        parts.inner.pq.cp.max_points_per_centroid = TRAINING_POINTS // 256
    quantizers = []
    for transform in parts.transforms:
        if type(transform).__name__ == "OPQMatrix":
            quantizer = faiss_library().ProductQuantizer(transform.d_out, transform.M, 8)
            quantizer.cp.min_points_per_centroid = 1
            transform.max_train_points = TRAINING_POINTS
            transform.niter, transform.niter_pq_0 = 8, 10
            transform.pq = quantizer
            quantizers.append((transform, quantizer))
    return quantizers


def _search_parameters(choice: Choice, parts: Parts) -> dict[str, int]:
    """Defaults that put recall before speed."""
    parameters: dict[str, int] = {}
    if hasattr(parts.inner, "nlist"):
        lists = int(parts.inner.nlist)
        parameters["nprobe"] = usual_probes(lists)
    if hasattr(parts.inner, "hnsw"):
        parameters["efSearch"] = 256
    if not parts.lossless:
        parameters["depth_factor"] = depth_factor(choice.kind)
    return parameters


def usual_probes(lists: int) -> int:
    """Of so many inverted lists, how many a search visits unless told otherwise.

    An eighth, up to 256 lists: where there are as many as ``list_count`` makes, so many find no
    less of a large corpus than of a small one (docs/scale.md).
    """
    return min(lists, max(64, min(256, lists // 8)))


def write_index(index: Any, path: Path) -> None:
    """Writes a FAISS index durably; nothing is left when that fails.

    Through a file of ours: FAISS's own loses the last bytes on a full disk without an error.
    """
    faiss = faiss_library()
    with explained_write(path), replacing(path, alone=True) as partial:
        try:
            with open(partial, "wb") as file:
                faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        except RuntimeError as error:
            raise OSError(errno.EIO, own_words(error)) from error
