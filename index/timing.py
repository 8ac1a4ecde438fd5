"""The constants of ``costs.py`` on this machine: FAISS's own steps, timed on small structures.

Structures are filled by the function that a build fills them with, so threads, numbers of points
and iterations are those of a build; the vectors are made from a sample's.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..durable import sha256_of
from .calibration import enlarged, of_lists
from .costs import Costs, Line, clustering_seconds, line_of, line_through
from .filling import Filled, fill, write_index
from .kinds import Choice, choose
from .search import score
from .structure import FlatStructure, Structure, faiss_library, margin, omp_threads
from .vectors import VectorShards, VectorType, write_vectors

QUANTIZED = ("ivfpq", "ivfpq4", "ivf-rabitq")

_LIST_VECTORS, _FEW_LISTS, _MANY_LISTS = 8192, 64, 512
_CODE_VECTORS, _CODE_LISTS = 1024, 16
_GRAPH_VECTORS, _GRAPH_SHARD = 16_384, 2048
_FAR_BYTES = 256 << 20
"""More than the caches of a processor hold."""
_QUERIES = 16
_DEPTHS = margin(100), 1000


class Bench(NamedTuple):
    """Vectors (n, dim) for timing, how they are stored, and a folder for the files."""

    vectors: NDArray[np.float32]
    vector_type: VectorType
    folder: Path

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def stored(self, count: int, shard: int) -> VectorShards:
        """The first ``count`` vectors as files of ``shard`` each."""
        paths, rows = [], []
        for start in range(0, count, shard):
            path = self.folder / f"{count}-{shard}-{start}.npy"
            part = self.vectors[start : min(start + shard, count)]
            if not path.exists():
                write_vectors(path, part, self.vector_type)
            paths.append(path)
            rows.append(len(part))
        return VectorShards(paths, rows, self.dim, self.vector_type)


class _Timed(NamedTuple):
    """A structure filled: seconds to train it, and those of adding each shard of ``rows``."""

    filled: Filled
    training: float
    adding: list[float]
    rows: int

    @property
    def adding_each(self) -> float:
        return sum(self.adding) / len(self.adding) / self.rows


def measure_costs(
    vectors: NDArray[np.float32],
    count: int,
    kinds: Sequence[str],
    *,
    vector_type: VectorType,
    folder: Path,
    threads: int | None,
    progress: bool,
) -> Costs:
    """The costs of building and searching ``kinds`` for ``count`` vectors like ``vectors``."""
    made = max(_GRAPH_VECTORS, 4 * vectors.shape[1])
    bench = Bench(enlarged(vectors, made), vector_type, folder)
    codes = [kind for kind in QUANTIZED if kind in kinds]
    found = _Found(bench)
    steps: list[Callable[[], None]] = [found.flat, lambda: found.memory(count)]
    if codes or "ivf" in kinds:
        steps.append(found.lists)
    steps += [_one(found.codes, kind) for kind in codes]
    if "hnsw" in kinds:
        steps.append(lambda: found.graph(count))
    bar = tqdm(
        total=len(steps),
        desc="timing structures",
        disable=not progress,
        file=sys.stderr,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}",
    )
    with bar, omp_threads(threads):
        for step in steps:
            step()
            bar.update()
    return found.costs()


def _one(step: Callable[[str], None], kind: str) -> Callable[[], None]:
    return lambda: step(kind)


class _Found:
    """What has been measured so far."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        nothing = Line(0.0, 0.0)
        self.clustering = self.assigning = self.linking = self.refining = nothing
        self.training: dict[str, Line] = {"ivf": nothing}
        self.adding: dict[str, float] = {"ivf": 0.0}
        self.querying: dict[str, Line] = {}
        self.scanning = self.writing = self.hashing = 0.0
        self.far = 1.0

    def costs(self) -> Costs:
        return Costs(
            clustering=self.clustering,
            assigning=self.assigning,
            training=self.training,
            adding=self.adding,
            linking=self.linking,
            querying=self.querying,
            scanning=self.scanning,
            refining=self.refining,
            far=self.far,
            writing_a_byte=self.writing,
            hashing_a_byte=self.hashing,
        )

    def flat(self) -> None:
        """Copying, the norms that every kind needs, writing a file and its checksum."""
        bench = self._bench
        choice = choose("flat", _LIST_VECTORS, bench.dim)
        self._filled(choice, 512, 256)  # FAISS and its BLAS start their threads
        timed = self._filled(choice, _GRAPH_VECTORS, _GRAPH_SHARD)
        self.adding["flat"] = timed.adding_each
        path = bench.folder / "flat.faiss"
        self.writing = _seconds(lambda: write_index(timed.filled.index, path))
        self.hashing = _seconds(lambda: sha256_of(path))
        size = path.stat().st_size
        self.writing, self.hashing = self.writing / size, self.hashing / size

    def memory(self, count: int) -> None:
        """Vectors read in order, in any order, and scored again."""
        bench = self._bench
        rows = max(_GRAPH_VECTORS, min(count, _FAR_BYTES // (4 * bench.dim)))
        far = np.resize(bench.vectors, (rows, bench.dim))
        flat = FlatStructure(far)
        queries = bench.vectors[:_QUERIES]
        scan = [_seconds(lambda q=q: flat.search(q[np.newaxis], 100, 1)) for q in queries]  # type: ignore[misc]
        self.scanning = float(np.median(scan)) / rows
        self.far = max(1.0, _in_any_order(far) / _in_any_order(far[:_GRAPH_VECTORS]))
        files = bench.stored(_GRAPH_VECTORS, _GRAPH_SHARD)
        generator = np.random.default_rng(0)
        points = []
        for depth in _DEPTHS:
            chosen = generator.integers(_GRAPH_VECTORS, size=(_QUERIES, depth))
            spent = [
                _seconds(lambda r=r, q=q: score(files.gather_stored(r), q))  # type: ignore[misc]
                for r, q in zip(chosen, queries, strict=True)
            ]
            points.append((float(depth), float(np.median(spent))))
        self.refining = line_through(points[0], points[1])

    def lists(self) -> None:
        """Coarse k-means and assigning, over two numbers of lists."""
        bench = self._bench
        clustering, assigning = [], []
        for lists in (_FEW_LISTS, _MANY_LISTS):
            choice = of_lists(choose("ivf", _LIST_VECTORS, bench.dim), lists)
            timed = self._filled(choice, _LIST_VECTORS, _LIST_VECTORS // 2)
            cells = float(lists * bench.dim)
            # Seconds of one point in one iteration: the form with a line of 1 gives their number.
            times = clustering_seconds(_LIST_VECTORS, lists, bench.dim, Line(1.0, 0.0))
            clustering.append((cells, timed.training / times))
            assigning.append((cells, timed.adding_each))
        self.clustering = line_through(*clustering)
        self.assigning = line_through(*assigning)
        self.querying["ivf"] = self._visits("ivf", timed, _MANY_LISTS, _DEPTHS[0])

    def codes(self, kind: str) -> None:
        """Rotations and quantizers over two numbers of points, without the coarse k-means."""
        bench = self._bench
        points = []
        few = max(_CODE_VECTORS, bench.dim)  # fewer than they are wide would kill the process
        for count in (few, 4 * few):
            choice = of_lists(choose(kind, _LIST_VECTORS, bench.dim), _CODE_LISTS)
            timed = self._filled(choice, count, count // 2)
            coarse = clustering_seconds(count, _CODE_LISTS, bench.dim, self.clustering)
            points.append((float(count), max(0.0, timed.training - coarse)))
        self.training[kind] = line_through(*points)
        assigning = self.assigning.at(_CODE_LISTS * bench.dim)
        self.adding[kind] = max(0.0, timed.adding_each - assigning)
        self.querying[kind] = self._visits(kind, timed, _CODE_LISTS, _DEPTHS[1])

    def graph(self, count: int) -> None:
        """Adding to a graph as it grows, in the cache; and a search of it."""
        bench = self._bench
        vectors = min(_GRAPH_VECTORS, max(2 * _GRAPH_SHARD, count))
        vectors -= vectors % _GRAPH_SHARD
        timed = self._filled(choose("hnsw", vectors, bench.dim), vectors, _GRAPH_SHARD)
        self.linking = line_of(
            [
                (math.log((number + 0.5) * timed.rows), seconds / timed.rows)
                for number, seconds in enumerate(timed.adding, start=1)
            ]
        )
        structure = self._opened("hnsw", timed, {})
        seconds = self._query(structure, _DEPTHS[0])
        self.querying["hnsw"] = Line(0.0, seconds / math.log(vectors))

    def _filled(self, choice: Choice, count: int, shard: int) -> _Timed:
        files = self._bench.stored(count, shard)
        moments = [time.perf_counter()]
        filled = fill(choice, files, lambda _added, _total: moments.append(time.perf_counter()))
        first, *others = np.diff(moments).tolist()
        # The first shard's time is that of training too.
        return _Timed(filled, max(0.0, first - sum(others) / len(others)), others, shard)

    def _visits(self, kind: str, timed: _Timed, lists: int, depth: int) -> Line:
        """A query's seconds over the vectors it visits: those of one list, and all."""
        total = timed.filled.index.ntotal
        points = []
        for probes in (1, lists):
            structure = self._opened(kind, timed, {"nprobe": probes})
            points.append((total * probes / lists, self._query(structure, depth)))
        return line_through(*points)

    def _opened(self, kind: str, timed: _Timed, search: dict[str, int]) -> Structure:
        path = self._bench.folder / f"{kind}.faiss"
        write_index(timed.filled.index, path)
        return Structure(
            path, timed.filled.index.ntotal, self._bench.dim, {**timed.filled.search, **search}
        )

    def _query(self, structure: Structure, depth: int) -> float:
        queries = self._bench.vectors[:_QUERIES]
        spent = [_seconds(lambda q=q: structure.search(q[np.newaxis], depth, 1)) for q in queries]  # type: ignore[misc]
        return float(np.median(spent))


def _seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _in_any_order(vectors: NDArray[np.float32]) -> float:
    """Seconds of an inner product with a row, rows chosen at random, as a graph is searched."""
    faiss = faiss_library()
    count = 20_000
    generator = np.random.default_rng(0)
    products = np.empty(count, dtype=np.float32)
    spent = []
    for _ in range(3):
        rows = generator.integers(len(vectors), size=count)
        query = np.ascontiguousarray(vectors[0])
        arguments = [faiss.swig_ptr(each) for each in (products, query, vectors, rows)]
        spent.append(
            _seconds(
                lambda: faiss.fvec_inner_products_by_idx(*arguments, vectors.shape[1], 1, count)  # noqa: B023
            )
        )
    return min(spent) / count
