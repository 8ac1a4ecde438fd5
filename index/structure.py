"""FAISS structures: checking factory strings, taking structures apart, searching them.

FAISS is imported when a function here first needs it. The metric is the inner product everywhere.
Candidates found here are only proposals: ``search.py`` scores them from the stored vectors.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingDependencyError, UsageError
from .kinds import KINDS
from .selection import Selection

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
LEAST_DEPTH = 200
"""Candidates of a lossy structure that are scored again, however few results are wanted."""


class Parts(NamedTuple):
    """A FAISS index taken apart; ``inner`` is the index behind a chain of transforms.

    ``whole`` is kept because it owns the others: FAISS hands out bare pointers.
    """

    transforms: list[Any]
    inner: Any
    whole: Any

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
        raise _refused(factory, f"FAISS says: {own_words(error)}") from error
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
    inner_metrics = {each.metric_type for each in nested(parts.inner)}
    if inner_metrics != {faiss.METRIC_INNER_PRODUCT}:
        raise _refused(factory, "a part of it measures L2 distances and cannot do inner products")
    if parts.name not in _SUPPORTED:
        raise _refused(factory, f"it makes an {parts.name}, which RocketRank cannot search")
    return index


def take_apart(index: Any) -> Parts:
    faiss = faiss_library()
    whole = index
    index = faiss.downcast_index(index)
    transforms: list[Any] = []
    if type(index).__name__ == "IndexPreTransform":
        chain = [index.chain.at(position) for position in range(index.chain.size())]
        transforms = [faiss.downcast_VectorTransform(each) for each in chain]
        index = faiss.downcast_index(index.index)
    return Parts(transforms, index, whole)


def nested(index: Any) -> Iterator[Any]:
    """The index, its coarse quantizer and its storage."""
    faiss = faiss_library()
    yield index
    for name in ("quantizer", "storage"):
        if getattr(index, name, None) is not None:
            yield from nested(faiss.downcast_index(getattr(index, name)))


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
                f"({own_words(error)}): build the index again with --overwrite"
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
        usual = max(LEAST_DEPTH, k * self._search.get("depth_factor", 1))
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


def own_words(error: BaseException) -> str:
    """FAISS's message without its C++ function and file."""
    text = " ".join(str(error).split())
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: '.*?' failed: ?)?", "", text) or text


def _refused(factory: str, why: str) -> UsageError:
    kinds: Sequence[str] = KINDS
    return UsageError(
        f"kind {factory!r} cannot be used: {why}; expected {', '.join(kinds)} or a FAISS factory "
        "string such as 'IVF1024,Flat'"
    )
