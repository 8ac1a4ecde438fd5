"""Indexes of up to 8.8 million vectors: what building and searching them costs.

    python benchmarks/scale.py build --count 8800000 --kind ivfpq --memory 8
    python benchmarks/scale.py search --count 8800000 --kind ivfpq
    python benchmarks/scale.py overhead --count 8800000 --kind ivfpq
    python benchmarks/scale.py peer --count 1000000 --library hnswlib
    python benchmarks/scale.py table

Each command is a process of its own, whose peak memory is its own, and leaves one small file in
benchmarks/results/scale; ``table`` writes docs/scale.md from them. Vectors are made up (see
scale_data.py), passages are a number each; the index is built and searched as any other.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from peers.worker import seconds
from scale_data import Floats, MadeEncoder, MadePassages, Vectors, exact
from scale_table import write_tables

from rocketrank.index import BuildOptions, Effort, Index, build_index
from rocketrank.index.structure import faiss_library
from rocketrank.index.vectors import VECTOR_TYPES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scale"
PAGE = ROOT / "docs" / "scale.md"
K = 100
QUERIES = 200
EFFORTS = (0.125, 0.25, 0.5, 1.0, 2.0)
REFINES = (200, 500, 1000)
GOAL = 0.95
ENOUGH = 0.99
"""Above this recall no more effort is tried."""
ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.command == "table":
        write_tables(RESULTS, PAGE)
        print(f"{PAGE} has the table")
        return
    options.work.mkdir(parents=True, exist_ok=True)
    commands: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "build": build,
        "search": search,
        "overhead": overhead,
        "peer": peer,
    }
    memory = PeakMemory()
    result = commands[options.command](options)
    result |= {"count": options.count, "peak_bytes": memory.stop(), "goal": GOAL}
    name = options.library if options.command == "peer" else options.kind
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{options.command}-{name}-{options.count}.json"
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(path.read_text(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "search", "overhead", "peer"):
        command = commands.add_parser(name)
        command.add_argument("--count", type=int, required=True, metavar="N")
        command.add_argument(
            "--work",
            type=Path,
            metavar="DIR",
            default=Path(tempfile.gettempdir()) / "rocketrank-scale",
            help="where indexes and exact answers are kept (default: %(default)s)",
        )
        if name == "peer":
            command.add_argument("--library", choices=["hnswlib", "usearch"], required=True)
            continue
        command.add_argument("--kind", required=True)
        if name == "build":
            command.add_argument("--memory", type=float, metavar="GIB", help="as rq index's")
            command.add_argument("--vectors", choices=VECTOR_TYPES, default="float16")
    commands.add_parser("table")
    return parser


def index_folder(options: argparse.Namespace) -> Path:
    which = Vectors().fingerprint()[:8]
    folder: Path = options.work / f"{options.kind}-{options.count}-{which}.index"
    return folder


def build(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to write passages and vectors, and to make the structure; bytes on the disk."""
    encoder = MadeEncoder(Vectors())
    folder = index_folder(options)
    chosen = BuildOptions(
        kind=options.kind,
        vectors=options.vectors,
        memory=None if options.memory is None else int(options.memory * (1 << 30)),
        overwrite=True,
    )
    started = time.perf_counter()
    build_index(folder, MadePassages(options.count), encoder, chosen)
    taken = time.perf_counter() - started
    with Index.open(folder) as index:
        segment = index.manifest.segments[0]
        return {
            "kind": segment.structure.kind,
            "factory": segment.structure.factory,
            "parts": len(segment.structure.files),
            "vectors": options.vectors,
            "memory_gib": options.memory,
            "seconds": taken,
            "passages_bytes": segment.passages.bytes,
            "vectors_bytes": sum(file.bytes for file in segment.vectors),
            "structure_bytes": sum(file.bytes for file in segment.structure.files),
        }


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Opening, and recall@100 and milliseconds a query for each effort and number refined."""
    folder = index_folder(options)
    opening = [seconds(lambda: Index.open(folder).close()) for _ in range(ROUNDS)]
    vectors = Vectors()
    queries = vectors.queries(QUERIES)
    truth = exact(vectors, queries, [options.count], K, options.work)[options.count]
    tried = []
    for refine in REFINES:
        for factor in EFFORTS:
            with Index.open(folder, effort=Effort(factor=factor, refine=refine)) as index:
                tried.append(
                    {"effort": factor, "refine": refine, **measured(index, queries, truth)}
                )
                print(tried[-1], flush=True)
            if tried[-1]["recall"] >= ENOUGH:
                break
    with Index.open(folder) as index:
        usual = measured(index, queries, truth)
    return {"opening_seconds": opening, "usual": usual, "tried": tried}


def measured(index: Index, queries: Floats, truth: NDArray[np.int64]) -> dict[str, Any]:
    found = index.search(queries, K).rows  # pages are read in here
    one = [seconds(lambda i=i: index.search(queries[i : i + 1], K)) for i in range(len(queries))]
    many = [
        seconds(lambda i=i: index.search(queries[i : i + 32], K)) / 32
        for i in range(0, len(queries) - 31, 32)
    ]
    return {
        "recall": recall(found, truth),
        "ms_p50": float(np.percentile(one, 50)) * 1000,
        "ms_p99": float(np.percentile(one, 99)) * 1000,
        "ms_of_32": float(np.median(many)) * 1000,
    }


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """The structure's file opened plainly and through the store, alternating: time ratios.

    Both ask for what the store takes by itself: the same parameters and as many candidates.
    """
    faiss = faiss_library()
    folder = index_folder(options)
    queries = Vectors().queries(QUERIES)
    ratios: dict[str, list[float]] = {"1": [], "32": []}
    plain_ms: dict[str, list[float]] = {"1": [], "32": []}
    with Index.open(folder) as index:
        segment = index.manifest.segments[0]
        [file] = segment.structure.files
        structure = index._segments[0]._parts[0][1]
        plain = faiss.read_index(
            str(folder / file.file), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY
        )
        depth = structure.first_depth(K)
        parameters = structure._parameters(depth, 1, None)

        def of_store(part: Floats) -> object:
            return index.search(part, K)

        def of_faiss(part: Floats) -> object:
            return plain.search(part, depth, params=parameters)

        for _ in range(ROUNDS + 1):
            for size in (1, 32):
                stored = plainly = 0.0
                for start in range(0, QUERIES - size + 1, size):
                    part = queries[start : start + size]
                    pair = [(of_store, 0), (of_faiss, 1)]
                    for function, which in pair if start // size % 2 else reversed(pair):
                        taken = seconds(lambda f=function, p=part: f(p))
                        stored, plainly = (
                            (stored, plainly + taken) if which else (stored + taken, plainly)
                        )
                ratios[str(size)].append(stored / plainly)
                plain_ms[str(size)].append(plainly / (QUERIES // size * size) * 1000)
    return {
        "ratio": {size: values[1:] for size, values in ratios.items()},
        "plain_ms": {size: values[1:] for size, values in plain_ms.items()},
        "depth": depth,
    }


def peer(options: argparse.Namespace) -> dict[str, Any]:
    """Another library's graph over the same vectors, with two threads to build and one to search.

    M and construction effort are those of our ``hnsw``: 32 links, 128 candidates.
    """
    vectors = Vectors()
    queries = vectors.queries(QUERIES)
    truth = exact(vectors, queries, [options.count], K, options.work)[options.count]
    path = options.work / f"{options.library}-{options.count}-{vectors.fingerprint()[:8]}.graph"
    graph = _Hnswlib(options.count, path) if options.library == "hnswlib" else _Usearch(path)
    started = time.perf_counter()
    if not path.exists():
        for start in range(0, options.count, 65_536):
            stop = min(options.count, start + 65_536)
            graph.add(vectors.rows(start, stop), np.arange(start, stop))
        graph.save()
    building = time.perf_counter() - started
    tried = []
    for breadth in (100, 200, 400, 800):
        graph.set_breadth(breadth)
        found = graph.search(queries)
        one = [seconds(lambda i=i: graph.search(queries[i : i + 1])) for i in range(QUERIES)]
        tried.append(
            {
                "breadth": breadth,
                "recall": recall(found, truth),
                "ms_p50": float(np.percentile(one, 50)) * 1000,
                "ms_p99": float(np.percentile(one, 99)) * 1000,
            }
        )
        print(tried[-1], flush=True)
    return {"seconds": building, "bytes": path.stat().st_size, "tried": tried}


class _Hnswlib:
    def __init__(self, count: int, path: Path) -> None:
        import hnswlib

        self._path = path
        self._index = hnswlib.Index(space="ip", dim=384)
        if path.exists():
            self._index.load_index(str(path), max_elements=count)
        else:
            self._index.init_index(max_elements=count, ef_construction=128, M=32, random_seed=1)

    def add(self, vectors: Floats, labels: NDArray[np.int64]) -> None:
        self._index.add_items(vectors, labels, num_threads=2)

    def save(self) -> None:
        self._index.save_index(str(self._path))

    def set_breadth(self, breadth: int) -> None:
        self._index.set_ef(breadth)

    def search(self, queries: Floats) -> NDArray[np.int64]:
        labels, _ = self._index.knn_query(queries, k=K, num_threads=1)
        return np.asarray(labels, dtype=np.int64)


class _Usearch:
    def __init__(self, path: Path) -> None:
        from usearch.index import Index as Graph

        self._path = path
        self._index = Graph(ndim=384, metric="ip", dtype="f32", connectivity=32, expansion_add=128)
        if path.exists():
            self._index.load(str(path))

    def add(self, vectors: Floats, labels: NDArray[np.int64]) -> None:
        self._index.add(labels, vectors, threads=2)

    def save(self) -> None:
        self._index.save(str(self._path))

    def set_breadth(self, breadth: int) -> None:
        self._index.expansion_search = breadth

    def search(self, queries: Floats) -> NDArray[np.int64]:
        found = self._index.search(queries, K, threads=1).keys
        return np.asarray(found, dtype=np.int64).reshape(len(queries), K)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(best)) / len(best) for one, best in pairs]))


class PeakMemory(threading.Thread):
    """The most memory of this process that is no file's, which the system can drop at any time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._peak = 0
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.1):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self._peak


if __name__ == "__main__":
    main()
