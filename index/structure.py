"""FAISS structures: checking factory strings, filling an index from vector shards, searching it.

FAISS is imported when a function here first needs it. The metric is the inner product everywhere.
Candidates found here are only proposals: ``search.py`` scores them from the stored vectors.
"""

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..durable import explained_write, replacing
from ..errors import DataError, MissingDependencyError, RocketRankError, UsageError
from .kinds import KINDS, POINTS_PER_LIST, TRAINING_POINTS, Choice
from .selection import Selection
from .vectors import VectorShards

LOSSLESS = ("IndexFlat", "IndexFlatIP", "IndexIVFFlat", "IndexHNSWFlat")
"""Structures whose scores are inner products of the vectors themselves."""
_SUPPORTED = (
    *LOSSLESS,
    "IndexPQ",
    "IndexPQFastScan",
    "IndexScalarQuantizer",
    "IndexIVFPQ",
    "IndexIVFPQFastScan",
    "IndexIVFRaBitQ",
    "IndexRaBitQ",
    "IndexIVFScalarQuantizer",
    "IndexHNSWSQ",
)
_UNSELECTIVE = ("IndexPQ", "IndexPQFastScan")
"""Structures that FAISS cannot search in a part of their rows."""
_LINEAR = ("OPQMatrix", "RandomRotationMatrix", "RemapDimensionsTransform")
"""Transforms that keep inner products; PCA and L2norm change which passage is the best."""
_EF_CONSTRUCTION = 128
_SEED = 20_240_229
_NORMS_AT_ONCE = 4096


class Parts(NamedTuple):
    """A FAISS index taken apart; ``inner`` is the index behind a chain of transforms."""

    transforms: list[Any]
    inner: Any

    @property
    def name(self) -> str:
        return type(self.inner).__name__

    @property
    def lossless(self) -> bool:
        return not self.transforms and self.name in LOSSLESS


def faiss_library() -> Any:
    """The ``faiss`` module, or one sentence that says how to get it."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            'FAISS is not installed: pip install "rocketrank[cpu]"'
        ) from error
    return faiss


def check_kind(kind: str, dim: int) -> None:
    """Refuses a kind that no index of width ``dim`` can have, before anything is encoded."""
    faiss_library()
    if kind not in KINDS:
        new_index(kind, dim)


def new_index(factory: str, dim: int) -> Any:
    """An empty FAISS index. UsageError for strings that FAISS or RocketRank cannot use."""
    faiss = faiss_library()
    if re.search(r"(?<![\d])0+(?!\d)", factory):
        raise _refused(factory, "a count in it is 0, which makes FAISS stop the whole process")
    if re.search(r"HNSW1(?!\d)", factory):
        raise _refused(factory, "HNSW needs at least 2 links, and 1 makes FAISS end the process")
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError) as error:
        raise _refused(factory, f"FAISS says: {_own_words(error)}") from error
    parts = take_apart(index)
    if parts.name in ("IndexIDMap", "IndexIDMap2"):
        raise _refused(factory, "RocketRank gives the row numbers itself, so leave IDMap out")
    if "Refine" in parts.name:
        raise _refused(
            factory, "RocketRank scores candidates again itself, so leave the refining out"
        )
    changing = [
        type(each).__name__ for each in parts.transforms if type(each).__name__ not in _LINEAR
    ]
    if changing:
        raise _refused(factory, f"its {changing[0]} changes inner products and with them the order")
    inner_metrics = {each.metric_type for each in _nested(parts.inner)}
    if inner_metrics != {faiss.METRIC_INNER_PRODUCT}:
        raise _refused(factory, "a part of it measures L2 distances and cannot do inner products")
    if parts.name not in _SUPPORTED:
        raise _refused(factory, f"it makes an {parts.name}, which RocketRank cannot search")
    return index


def take_apart(index: Any) -> Parts:
    faiss = faiss_library()
    index = faiss.downcast_index(index)
    transforms: list[Any] = []
    if type(index).__name__ == "IndexPreTransform":
        chain = [index.chain.at(position) for position in range(index.chain.size())]
        transforms = [faiss.downcast_VectorTransform(each) for each in chain]
        index = faiss.downcast_index(index.index)
    return Parts(transforms, index)


def _nested(index: Any) -> Iterator[Any]:
    """The index, its coarse quantizer and its storage."""
    faiss = faiss_library()
    yield index
    for name in ("quantizer", "storage"):
        if getattr(index, name, None) is not None:
            yield from _nested(faiss.downcast_index(getattr(index, name)))


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
    graph = any(hasattr(each, "hnsw") for each in _nested(parts.inner))
    for each in _nested(parts.inner):
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
                f"kind {choice.factory!r} could not be built; FAISS says: {_own_words(error)}: "
                "run the same command with another --kind; nothing is encoded again"
            ) from error
    return Filled(index, _search_parameters(parts), largest)


def _largest_norm(vectors: NDArray[np.float32]) -> float:
    """In double precision, some vectors at a time."""
    blocks = [vectors[i : i + _NORMS_AT_ONCE] for i in range(0, len(vectors), _NORMS_AT_ONCE)]
    return max(float(np.linalg.norm(each.astype(np.float64), axis=1).max()) for each in blocks)


def _train(choice: Choice, index: Any, parts: Parts, vectors: VectorShards) -> None:
    required = _required_points(parts)
    if len(vectors) < required:
        raise UsageError(
            f"kind {choice.factory!r} needs at least {required} passages to train on, and the "
            f"corpus has {len(vectors)}: run the same command with --kind auto; nothing is encoded "
            "again"
        )
    rotation_quantizers = _bound_training(parts)
    lists = int(getattr(parts.inner, "nlist", 0))
    wanted = max(TRAINING_POINTS, (POINTS_PER_LIST + 11) * lists, 2 * required)
    count = min(len(vectors), wanted)
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


def _required_points(parts: Parts) -> int:
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


def _search_parameters(parts: Parts) -> dict[str, int]:
    """Defaults that put recall before speed."""
    parameters: dict[str, int] = {}
    if hasattr(parts.inner, "nlist"):
        lists = int(parts.inner.nlist)
        parameters["nprobe"] = min(lists, max(64, lists // 8))
    if hasattr(parts.inner, "hnsw"):
        parameters["efSearch"] = 256
    if not parts.lossless:
        parameters["depth_factor"] = 10
    return parameters


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
            raise OSError(errno.EIO, _own_words(error)) from error


class Structure:
    """A FAISS index read from a file, memory-mapped where its kind allows; for many threads."""

    def __init__(self, path: Path, count: int, dim: int, search: dict[str, int]) -> None:
        faiss = faiss_library()
        try:
            flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY
            self._index = faiss.read_index(str(path), flags)
        except RuntimeError as error:
            raise DataError(
                f"{path}: expected a FAISS index, found a file that FAISS cannot read "
                f"({_own_words(error)}): build the index again with --overwrite"
            ) from error
        if (self._index.ntotal, self._index.d) != (count, dim):
            raise DataError(
                f"{path}: expected {count} vectors of width {dim}, found {self._index.ntotal} of "
                f"width {self._index.d}: build the index again with --overwrite"
            )
        self._parts = take_apart(self._index)
        self._search = search
        self.lossless = self._parts.lossless
        self.selects = self._parts.name not in _UNSELECTIVE

    @property
    def parts(self) -> Parts:
        """The FAISS index itself, to be read."""
        return self._parts

    def probes(self, effort: int) -> int:
        """Inverted lists that a search visits; 0 where there are none."""
        lists = int(getattr(self._parts.inner, "nlist", 0))
        return min(lists, self._search.get("nprobe", 64) * effort)

    def first_depth(self, k: int) -> int:
        """Candidates to fetch for ``k`` results, before any widening."""
        if self.lossless:
            return margin(k)
        usual = max(200, k * self._search.get("depth_factor", 1))
        return max(k, self._search.get("refine", usual))

    def search(
        self,
        queries: NDArray[np.float32],
        depth: int,
        effort: int,
        selection: Selection | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Approximate scores and rows, both (n, depth), best first; row -1 where there is none.

        ``effort`` ≥ 1 multiplies how much of the structure is visited. Only rows of ``selection``
        are found; it must be None where the structure does not ``selects``.
        """
        parameters = self._parameters(depth, effort, selection)
        scores, rows = self._index.search(queries, depth, params=parameters)
        return scores, rows

    def _parameters(self, depth: int, effort: int, selection: Selection | None) -> Any:
        faiss = faiss_library()
        inner, parameters = self._parts.inner, None
        chosen: dict[str, Any] = {}
        if selection is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(selection.bits)
        if hasattr(inner, "nlist"):
            probes = self.probes(effort)
            coarse = faiss.downcast_index(inner.quantizer)
            if hasattr(coarse, "hnsw"):
                ef_search = max(64, 2 * probes)
                chosen["quantizer_params"] = faiss.SearchParametersHNSW(efSearch=ef_search)
            parameters = faiss.SearchParametersIVF(nprobe=probes, **chosen)
        elif hasattr(inner, "hnsw"):
            ef_search = max(self._search.get("efSearch", 256) * effort, 2 * depth)
            parameters = faiss.SearchParametersHNSW(efSearch=ef_search, **chosen)
        elif chosen:
            parameters = faiss.SearchParameters(**chosen)
        if self._parts.transforms and parameters is not None:
            return faiss.SearchParametersPreTransform(index_params=parameters)
        return parameters


class FlatStructure:
    """An exhaustive search of vectors in memory, as a structure."""

    lossless = True

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    def first_depth(self, k: int) -> int:
        return margin(k)

    def search(
        self, queries: NDArray[np.float32], depth: int, effort: int, selection: None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``Structure.search``."""
        faiss = faiss_library()
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = faiss.knn(
            queries, self._vectors, depth, metric=faiss.METRIC_INNER_PRODUCT
        )
        return found


def margin(k: int) -> int:
    """Candidates for ``k`` results of a lossless structure, some more for ties."""
    return k + max(16, k // 4)


@contextmanager
def omp_threads(count: int | None) -> Iterator[None]:
    """Runs FAISS with ``count`` threads inside; the setting belongs to the calling thread."""
    if count is None:
        yield
        return
    faiss = faiss_library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _own_words(error: BaseException) -> str:
    """FAISS's message without its C++ function and file."""
    text = " ".join(str(error).split())
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: '.*?' failed: ?)?", "", text) or text


def _refused(factory: str, why: str) -> UsageError:
    kinds: Sequence[str] = KINDS
    return UsageError(
        f"kind {factory!r} cannot be used: {why}; expected {', '.join(kinds)} or a FAISS factory "
        "string such as 'IVF1024,Flat'"
    )
