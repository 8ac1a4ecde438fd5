"""Searching on real GPUs. Skipped where FAISS sees none.

To run them, on Linux with an NVIDIA driver, in an environment with RocketRank's source:

    pip uninstall faiss-cpu && pip install faiss-gpu-cu12
    pytest tests/index/test_gpu.py

Those of several GPUs are skipped where there is one. Nothing else should use the GPUs meanwhile:
two tests measure their free memory.
"""

import gc
import logging
import threading
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, ChangeOptions, Index, build_index, delete_passages
from rocketrank.index.filling import write_index
from rocketrank.index.gpu import Gpus, free_bytes, gpu_count, require_gpus
from rocketrank.index.gpu_plan import GpuOptions, device_bytes, shape_of
from rocketrank.index.structure import Structure, take_apart

from .small_index import ListCorpus, TableEncoder

GPUS = gpu_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        GPUS == 0,
        reason="FAISS sees no GPU here; with one: pip install faiss-gpu-cu12",
    ),
]
several = pytest.mark.skipif(GPUS < 2, reason=f"needs 2 GPUs, and FAISS sees {GPUS}")

COUNT, WIDTH = 30_000, 64
ONE = GpuOptions(devices=1)


def clustered(count: int, width: int, seed: int = 3) -> NDArray[np.float32]:
    """Unit vectors around 300 centres, as encoders give them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(300, width))
    vectors = centres[random.integers(300, size=count)] + random.normal(size=(count, width)) * 0.5
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit


@cache
def corpus() -> NDArray[np.float32]:
    return clustered(COUNT, WIDTH)


@cache
def queries() -> NDArray[np.float32]:
    return clustered(200, WIDTH, seed=4)


def built(directory: Path, kind: str) -> Path:
    passages = [
        Passage(f"p{row}", str(row), metadata={"year": 1990 + row % 30}) for row in range(COUNT)
    ]
    options = BuildOptions(kind=kind, shard_size=2000, fields=("year",))
    build_index(directory, ListCorpus(passages), TableEncoder(corpus()), options)
    return directory


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gpu")
    return {kind: built(folder / kind, kind) for kind in ("flat", "ivf", "ivfpq", "hnsw")}


def both(directory: Path, options: GpuOptions, k: int, where: str | None = None) -> tuple[Any, Any]:
    """The results of the CPU and of the GPU."""
    with Index.open(directory) as cpu, Index.open(directory, gpus=options) as gpu:
        return cpu.search(queries(), k, where), gpu.search(queries(), k, where)


def recall(found: Any) -> float:
    exact = np.argsort(-(queries().astype(np.float64) @ corpus().T.astype(np.float64)), axis=1)[
        :, :10
    ]
    pairs = zip(found.rows[:, :10], exact, strict=True)
    return float(np.mean([len(set(mine) & set(best)) / 10 for mine, best in pairs]))


@pytest.mark.parametrize("kind", ["flat", "ivf"])
@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_results_of_whole_vectors_are_those_of_the_cpu(
    indexes: dict[str, Path], kind: str, k: int
) -> None:
    expected, found = both(indexes[kind], ONE, k)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_results_of_product_quantized_vectors_are_as_good_as_the_cpus(
    indexes: dict[str, Path],
) -> None:
    expected, found = both(indexes["ivfpq"], ONE, 10)
    assert recall(found) >= recall(expected) - 0.01
    assert recall(found) >= 0.95


def test_more_candidates_than_a_gpu_selects_are_found_too(indexes: dict[str, Path]) -> None:
    expected, found = both(indexes["flat"], ONE, 3000)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_float16_gives_the_results_of_float32_where_scores_are_apart(
    indexes: dict[str, Path],
) -> None:
    expected, found = both(indexes["flat"], GpuOptions(float16=True), 10)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("where", ["year >= 1995", "year = 2001"])
def test_a_filter_keeps_its_results(indexes: dict[str, Path], where: str) -> None:
    expected, found = both(indexes["flat"], ONE, 50, where)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_deleted_passages_are_not_found_and_all_others_are(tmp_path: Path) -> None:
    directory = built(tmp_path / "index", "flat")
    delete_passages(directory, [f"p{row}" for row in range(0, COUNT, 10)], ChangeOptions())
    expected, found = both(directory, ONE, 100)
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert (found.rows % 10 != 0).all()


def test_scores_on_the_gpu_are_inner_products_in_float32(indexes: dict[str, Path]) -> None:
    """A structure is called lossless only if its scores keep Higham's bound: no TF32."""
    gpus = Gpus(ONE)
    name = next(indexes["flat"].rglob("flat.faiss"))
    moved = gpus.move({"x": (name.name, Structure(name, COUNT, WIDTH, {}))})["x"]
    scores, rows = moved.search(queries(), 100, 1)
    exact = np.einsum("ijk,ik->ij", corpus()[rows].astype(np.float64), queries().astype(np.float64))
    norms = np.linalg.norm(queries().astype(np.float64), axis=1, keepdims=True)
    assert (np.abs(scores - exact) <= (WIDTH + 4) * 2.0**-24 * norms * 1.0001).all()


def test_threads_get_the_results_of_one(indexes: dict[str, Path]) -> None:
    found: list[Any] = []
    with Index.open(indexes["ivf"], gpus=ONE) as index:
        expected = index.search(queries(), 20).rows
        threads = [
            threading.Thread(
                target=lambda: found.extend(index.search(queries(), 20).rows for _ in range(20))
            )
            for _ in range(4)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(found) == 80
    assert all(np.array_equal(rows, expected) for rows in found)


def test_a_kind_for_the_cpu_is_refused_or_stays_there_with_a_note(
    indexes: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="an IndexHNSWFlat on the CPU only"):
        Index.open(indexes["hnsw"], gpus=ONE)
    with caplog.at_level(logging.WARNING, logger="rocketrank.index"):
        expected, found = both(indexes["hnsw"], GpuOptions(partial=True), 10)
    assert "it is searched on the CPU" in caplog.text
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=f"GPU {GPUS} was asked for, and FAISS sees {GPUS}"):
        require_gpus(GPUS + 1)


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["Flat", "IVF500,Flat", "IVF500,PQ32"])
@pytest.mark.parametrize("float16", [False, True])
def test_a_structure_takes_the_memory_that_is_predicted(
    tmp_path: Path, factory: str, float16: bool
) -> None:
    """0.5 GiB of vectors: free memory, by the driver, before and after, to 25 % and 64 MiB."""
    vectors = clustered(1_000_000, 128)
    index = faiss.index_factory(128, factory, faiss.METRIC_INNER_PRODUCT)
    if hasattr(index, "do_polysemous_training"):
        index.do_polysemous_training = False  # takes minutes
    index.train(vectors[:50_000])
    index.add(vectors)
    write_index(index, tmp_path / "x")
    gpus = Gpus(GpuOptions(float16=float16))
    small = faiss.IndexFlatIP(128)
    small.add(vectors[:1])
    write_index(small, tmp_path / "small")
    # The first structure makes FAISS take its scratch memory.
    warm = gpus.move({"small": ("small", Structure(tmp_path / "small", 1, 128, {}))})
    before = free_bytes(0)
    structure = Structure(tmp_path / "x", 1_000_000, 128, {"nprobe": 32})
    moved = gpus.move({"x": ("x", structure)})
    after = free_bytes(0)
    assert before is not None and after is not None
    predicted = device_bytes(shape_of("x", take_apart(index)), float16=float16)
    taken = before - after
    assert taken <= predicted * 1.25 + (64 << 20)
    assert predicted <= taken * 1.25 + (64 << 20)
    del moved, warm


def test_an_index_that_is_closed_gives_its_memory_back(indexes: dict[str, Path]) -> None:
    def opened() -> int:
        with Index.open(indexes["flat"], gpus=ONE) as index:
            index.search(queries(), 10)
        gc.collect()
        free = free_bytes(0)
        assert free is not None
        return free

    first = opened()
    assert abs(min(opened() for _ in range(5)) - first) < 32 << 20


def test_an_index_that_is_opened_again_keeps_what_is_on_the_gpu(tmp_path: Path) -> None:
    directory = built(tmp_path / "index", "flat")
    with Index.open(directory, gpus=ONE) as index:
        expected = index.search(queries(), 10).rows
        delete_passages(directory, ["p1"], ChangeOptions())
        again = index.opened_again()
        index.close()
        with again:
            found = again.search(queries(), 10).rows
    unchanged = ~(expected == 1).any(axis=1)
    np.testing.assert_array_equal(found[unchanged], expected[unchanged])


@several
@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq"])
@pytest.mark.parametrize("mode", ["replicated", "sharded"])
def test_several_gpus_give_the_results_of_one(
    indexes: dict[str, Path], kind: str, mode: Any
) -> None:
    with (
        Index.open(indexes[kind], gpus=ONE) as one,
        Index.open(indexes[kind], gpus=GpuOptions(devices=2, mode=mode)) as two,
    ):
        expected, found = one.search(queries(), 10), two.search(queries(), 10)
    if kind == "ivfpq":
        assert abs(recall(found) - recall(expected)) <= 0.01
    else:
        np.testing.assert_array_equal(found.rows, expected.rows)
