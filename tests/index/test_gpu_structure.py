"""What a structure on a GPU does and what it asks of the CPU; no GPU is needed here.

Where a test needs an index on a GPU it has one in memory instead: both are searched alike.
"""

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketrank.index.filling import write_index
from rocketrank.index.gpu import (
    GpuStructure,
    Moved,
    combined,
    flat_shard,
    gpu_probes,
    list_shard,
    only_selected,
    selected_depth,
)
from rocketrank.index.gpu_plan import LIMIT
from rocketrank.index.search import Gathered, search_selected
from rocketrank.index.selection import Selection
from rocketrank.index.structure import Structure, new_index, take_apart


def random_vectors(count: int, dim: int = 16, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def filled(factory: str, vectors: NDArray[np.float32]) -> Any:
    index = new_index(factory, vectors.shape[1])
    inner = take_apart(index).inner
    if hasattr(inner, "cp"):
        inner.cp.min_points_per_centroid = 1
    if hasattr(inner, "pq"):
        inner.do_polysemous_training = False  # takes minutes
        inner.pq.cp.niter = 2
    index.train(vectors[:2000])
    index.add(vectors)
    return index


def stored(path: Path, factory: str, vectors: NDArray[np.float32], **search: int) -> Structure:
    write_index(filled(factory, vectors), path)
    return Structure(path, len(vectors), vectors.shape[1], search)


def on_gpu(structure: Structure, index: Any = None, **options: Any) -> GpuStructure:
    """``structure`` as if ``index``, by default its own, were its copy on a GPU."""
    copy = structure.parts.inner if index is None else index
    return GpuStructure(structure, Moved(copy, [copy], threading.RLock()), **options)


def test_more_lists_than_a_gpu_visits_are_cut_at_first_and_left_to_the_cpu_later() -> None:
    assert gpu_probes(2048, 4) == 2048
    assert gpu_probes(2500, 1) == 2048
    assert gpu_probes(2500, 4) is None


def test_candidates_up_to_the_limit_are_the_gpus_and_more_are_the_cpus(tmp_path: Path) -> None:
    vectors = random_vectors(3000)
    structure = stored(tmp_path / "x", "Flat", vectors)
    gpu = on_gpu(structure, filled("Flat", vectors[::-1]))  # rows tell who answered
    query = vectors[:1]
    _, mine = gpu.search(query, LIMIT, 1)
    _, theirs = structure.search(query, LIMIT, 1)
    np.testing.assert_array_equal(mine, 2999 - theirs)
    np.testing.assert_array_equal(
        gpu.search(query, LIMIT + 1, 1)[1], structure.search(query, LIMIT + 1, 1)[1]
    )


def test_few_selected_rows_are_searched_for_on_the_cpu(tmp_path: Path) -> None:
    vectors = random_vectors(3000)
    structure = stored(tmp_path / "x", "Flat", vectors)
    gpu = on_gpu(structure, filled("Flat", vectors[::-1]))
    selection = Selection.of_numbers(np.arange(1499, dtype=np.int64), 3000)
    np.testing.assert_array_equal(
        gpu.search(vectors[:3], 50, 1, selection)[1],
        structure.search(vectors[:3], 50, 1, selection)[1],
    )


def test_with_few_deleted_rows_the_gpu_answers_with_what_is_left(tmp_path: Path) -> None:
    vectors = random_vectors(3000)
    structure = stored(tmp_path / "x", "Flat", vectors)
    empty = stored(tmp_path / "y", "Flat", np.zeros_like(vectors))  # whose answers would be wrong
    copy = structure.parts.inner
    gpu = GpuStructure(empty, Moved(copy, [copy], threading.RLock()))
    gone = np.random.default_rng(5).choice(3000, 300, replace=False)
    selection = Selection.everything(3000).without(gone)
    scores, rows = gpu.search(vectors[:20], 50, 1, selection)
    expected_scores, expected = structure.search(vectors[:20], 50, 1, selection)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


def test_a_query_whose_best_rows_are_all_deleted_is_answered_by_the_cpu(tmp_path: Path) -> None:
    vectors = random_vectors(3000)
    structure = stored(tmp_path / "x", "Flat", vectors)
    _, best = structure.search(vectors[:1], 1000, 1)
    selection = Selection.everything(3000).without(best[0])
    gpu = on_gpu(structure)
    both = vectors[:2]
    np.testing.assert_array_equal(
        gpu.search(both, 20, 1, selection)[1], structure.search(both, 20, 1, selection)[1]
    )


def test_half_of_the_rows_and_more_are_worth_a_search_on_the_gpu() -> None:
    assert selected_depth(100, Selection.of_mask(np.arange(1000) < 500)) == 216
    assert selected_depth(100, Selection.of_mask(np.arange(1000) < 499)) > LIMIT
    assert selected_depth(990, Selection.of_mask(np.arange(1000) < 991)) == 1000


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_only_selected_is_a_filter_of_each_line(data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=40)))
    depth = data.draw(st.integers(1, 12))
    lines = data.draw(st.integers(1, 3))
    width = data.draw(st.integers(1, 15))
    rows = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(-1, len(mask) - 1), min_size=width, max_size=width),
                min_size=lines,
                max_size=lines,
            )
        )
    )
    scores = -np.arange(rows.size, dtype=np.float32).reshape(rows.shape)
    kept_scores, kept = only_selected(scores, rows, Selection.of_mask(mask), depth)
    for line in range(lines):
        pairs = [
            (r, s) for r, s in zip(rows[line], scores[line], strict=True) if r >= 0 and mask[r]
        ]
        pairs = (pairs + [(-1, np.finfo(np.float32).min)] * depth)[:depth]
        assert list(zip(kept[line], kept_scores[line], strict=True)) == pairs


@pytest.mark.parametrize(
    ("factory", "search"),
    [
        ("Flat", {}),
        ("IVF20,Flat", {"nprobe": 5}),
        ("RR16,IVF20,PQ4", {"nprobe": 5, "depth_factor": 10}),
    ],
)
@pytest.mark.parametrize("deleted", [0, 40])
def test_results_are_those_of_the_structure_it_came_from(
    tmp_path: Path, factory: str, search: dict[str, int], deleted: int
) -> None:
    vectors = random_vectors(20_000)
    structure = stored(tmp_path / "x", factory, vectors, **search)
    selection = Selection.everything(20_000).without(np.arange(deleted)) if deleted else None
    norm = float(np.linalg.norm(vectors, axis=1).max())
    expected, found = (
        search_selected(each, Gathered(vectors), norm, vectors[:30], 10, selection)
        for each in (structure, on_gpu(structure))
    )
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_rounded_vectors_are_a_lossy_structure_with_twice_the_candidates(tmp_path: Path) -> None:
    structure = stored(tmp_path / "x", "Flat", random_vectors(300))
    exact, rounded = on_gpu(structure), on_gpu(structure, float16=True)
    assert (exact.lossless, rounded.lossless) == (True, False)
    assert exact.first_depth(100) == structure.first_depth(100) == 125
    assert [rounded.first_depth(k) for k in (10, 300, 1024, 1500, 3000)] == [
        200,
        600,
        2048,
        2048,
        3750,
    ]


def test_float16_leaves_lists_as_they_are(tmp_path: Path) -> None:
    structure = stored(tmp_path / "x", "IVF20,Flat", random_vectors(300), nprobe=5)
    assert on_gpu(structure, float16=True).lossless


def test_rounded_vectors_give_the_results_of_whole_ones(tmp_path: Path) -> None:
    vectors = random_vectors(3000)
    structure = stored(tmp_path / "x", "Flat", vectors)
    halves = filled("Flat", vectors.astype(np.float16).astype(np.float32))
    norm = float(np.linalg.norm(vectors, axis=1).max())
    expected, found = (
        search_selected(each, Gathered(vectors), norm, vectors[:50], 20, None)
        for each in (structure, on_gpu(structure, halves, float16=True))
    )
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_a_search_that_fails_on_the_gpu_is_done_on_the_cpu_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = random_vectors(100)
    structure = stored(tmp_path / "x", "Flat", vectors)
    gpu = on_gpu(structure, faiss.IndexReplicas(16, True), name="x.faiss")
    with caplog.at_level(logging.WARNING, logger="rocketrank.index"):
        _, rows = gpu.search(vectors[:2], 5, 1)
    np.testing.assert_array_equal(rows, structure.search(vectors[:2], 5, 1)[1])
    assert "x.faiss: a search on the GPU failed (" in caplog.text
    assert "no replicas in index" in caplog.text


def test_a_closed_one_is_searched_on_the_cpu_and_holds_nothing(tmp_path: Path) -> None:
    vectors = random_vectors(100)
    structure = stored(tmp_path / "x", "Flat", vectors)
    copy = filled("Flat", vectors[::-1])
    held = weakref.ref(copy)
    gpu = on_gpu(structure, copy)
    del copy
    assert gpu.search(vectors[:1], 1, 1)[1].tolist() == [[99]]
    gpu.close()
    gc.collect()
    assert held() is None
    assert gpu.search(vectors[:1], 1, 1)[1].tolist() == [[0]]


def test_a_copy_is_kept_while_another_index_holds_it(tmp_path: Path) -> None:
    vectors = random_vectors(100)
    structure = stored(tmp_path / "x", "Flat", vectors)
    copy = filled("Flat", vectors[::-1])
    moved = Moved(copy, [copy], threading.RLock())
    first, second = GpuStructure(structure, moved), GpuStructure(structure, moved)
    first.close()
    assert second.search(vectors[:1], 1, 1)[1].tolist() == [[99]]


def test_threads_that_visit_different_numbers_of_lists_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    vectors = random_vectors(2000)
    structure = stored(tmp_path / "x", "IVF20,Flat", vectors, nprobe=1)
    gpu = on_gpu(structure, filled("IVF20,Flat", vectors))
    expected = {effort: structure.search(vectors[:20], 30, effort)[1] for effort in (1, 20)}
    wrong = []

    def searching(effort: int) -> Callable[[], None]:
        def search() -> None:
            for _ in range(30):
                found = gpu.search(vectors[:20], 30, effort)[1]
                wrong.append(not np.array_equal(found, expected[effort]))

        return search

    threads = [threading.Thread(target=searching(effort)) for effort in (1, 20, 1, 20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(wrong) == 120
    assert not any(wrong)


@pytest.mark.parametrize("factory", ["Flat", "IVF20,Flat", "IVF20,PQ8"])
def test_shards_together_are_the_whole(tmp_path: Path, factory: str) -> None:
    vectors = random_vectors(1001)
    structure = stored(tmp_path / "x", factory, vectors)
    inner = structure.parts.inner
    flat = factory == "Flat"
    shards = [
        filled("Flat", flat_shard(inner, number, 3)) if flat else list_shard(inner, number, 3)
        for number in range(3)
    ]
    assert [each.ntotal for each in shards] in ([333, 334, 334], [334, 334, 333])
    index = combined(shards, "sharded", flat=flat)
    for each in [inner, *shards]:
        if not flat:
            each.nprobe = 7
    scores, rows = index.search(vectors[:50], 20)
    expected_scores, expected = inner.search(vectors[:50], 20)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_replicas_divide_the_queries_and_visit_as_many_lists_as_they_are_told(
    tmp_path: Path,
) -> None:
    vectors = random_vectors(1000)
    structure = stored(tmp_path / "x", "IVF20,Flat", vectors, nprobe=6)
    copies = [filled("IVF20,Flat", vectors) for _ in range(2)]
    moved = Moved(combined(copies, "replicated", flat=False), copies, threading.RLock())
    _, rows = GpuStructure(structure, moved).search(vectors[:51], 20, 1)
    np.testing.assert_array_equal(rows, structure.search(vectors[:51], 20, 1)[1])
    assert [each.nprobe for each in copies] == [6, 6]


def test_one_copy_is_searched_as_it_is() -> None:
    index = filled("Flat", random_vectors(10))
    assert combined([index], "one", flat=True) is index
