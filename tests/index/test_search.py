"""Searching: compared with a brute force in float64 that shares no code with the package."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.errors import UsageError
from rocketrank.index import Index

from .small_index import build_table

Floats = NDArray[np.float32]


def brute_force(vectors: Floats, queries: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    rows, scores = [], []
    for query in queries:
        exact = [np.float32(sum(a * b for a, b in zip(v, query.tolist(), strict=True)))
                 for v in vectors.tolist()]  # fmt: skip
        order = sorted(range(len(vectors)), key=lambda row: (-exact[row], row))[:k]
        rows.append(order)
        scores.append([exact[row] for row in order])
    return np.array(rows, dtype=np.int64), np.array(scores, dtype=np.float32)


def clustered(count: int, dim: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Unit vectors around 40 centres, and 50 queries near some of them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(40, dim))
    points = centres[random.integers(40, size=count)] + 0.6 * random.normal(size=(count, dim))
    queries = points[:50] + 0.3 * random.normal(size=(50, dim))
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (points, queries)]
    return units[0].astype(np.float32), units[1].astype(np.float32)


def test_flat_search_equals_a_brute_force_in_python_floats(tmp_path: Path) -> None:
    vectors, queries = clustered(700, 12)
    build_table(tmp_path / "index", vectors, shard_size=64)
    with Index.open(tmp_path / "index") as index:
        result = index.search(queries, 30)
    rows, scores = brute_force(vectors, queries, 30)
    np.testing.assert_array_equal(result.rows, rows)
    np.testing.assert_array_equal(result.scores, scores)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq", "ivfpq4", "ivf-rabitq", "SQ8"])
def test_ties_come_in_the_order_of_rows_also_at_the_cut_off(tmp_path: Path, kind: str) -> None:
    vectors, _ = clustered(600, 16)
    vectors[100:160] = vectors[7]
    build_table(tmp_path / "index", vectors, kind, shard_size=50)
    query = vectors[7:8]
    with Index.open(tmp_path / "index") as index:
        result = index.search(query, 10)
    assert result.rows[0].tolist() == [7, *range(100, 109)]
    assert len(set(result.scores[0].tolist())) == 1


def test_ten_thousand_equal_vectors_come_in_the_order_of_rows(tmp_path: Path) -> None:
    vectors = np.ones((10_000, 4), dtype=np.float32)
    build_table(tmp_path / "index", vectors, "hnsw", shard_size=4000)
    with Index.open(tmp_path / "index") as index:
        assert index.search(vectors[:1], 5).rows.tolist() == [[0, 1, 2, 3, 4]]


def test_exact_ties_of_different_vectors_come_in_the_order_of_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    vectors = random.integers(-2, 3, size=(500, 8)).astype(np.float32)
    queries = random.integers(-2, 3, size=(20, 8)).astype(np.float32)
    build_table(tmp_path / "index", vectors)
    with Index.open(tmp_path / "index") as index:
        result = index.search(queries, 25)
    rows, scores = brute_force(vectors, queries, 25)
    np.testing.assert_array_equal(result.rows, rows)
    np.testing.assert_array_equal(result.scores, scores)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_a_query_alone_and_in_a_batch_has_the_same_result(tmp_path: Path, kind: str) -> None:
    vectors, queries = clustered(2000, 24)
    build_table(tmp_path / "index", vectors, kind)
    with Index.open(tmp_path / "index") as index:
        batch = index.search(queries, 10)
        alone = [index.search(queries[i : i + 1], 10) for i in range(len(queries))]
    np.testing.assert_array_equal(batch.rows, np.concatenate([each.rows for each in alone]))
    np.testing.assert_array_equal(batch.scores, np.concatenate([each.scores for each in alone]))


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivfpq", "OPQ8,PQ8", "IVF32_HNSW16,Flat"])
def test_recall_at_100_of_approximate_kinds_is_at_least_098(tmp_path: Path, kind: str) -> None:
    vectors, queries = clustered(6000, 32)
    build_table(tmp_path / "index", vectors, kind, shard_size=2000)
    with Index.open(tmp_path / "index") as index:
        result = index.search(queries, 100)
    truth = np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)))[:, :100]
    found = [len(set(a) & set(b)) for a, b in zip(result.rows, truth, strict=True)]
    assert np.mean(found) >= 98


@pytest.mark.parametrize("kind", ["auto", "flat", "ivf", "hnsw", "ivfpq", "SQ8"])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_tiny_corpora_work_with_every_kind(tmp_path: Path, kind: str, count: int) -> None:
    vectors = np.eye(10, 3, dtype=np.float32)[:count]
    build_table(tmp_path / "index", vectors, kind)
    with Index.open(tmp_path / "index") as index:
        result = index.search(np.array([[0, 1, 0]], dtype=np.float32), 12)
    expected = [row for row in [1, 0, *range(2, 10)] if row < count]
    assert result.rows[0].tolist() == expected + [-1] * (12 - count)
    assert result.scores[0, count:].tolist() == [-np.inf] * (12 - count)


def test_vectors_of_width_one_can_be_searched(tmp_path: Path) -> None:
    vectors = np.arange(300, dtype=np.float32)[:, np.newaxis]
    build_table(tmp_path / "index", vectors, "ivfpq")
    with Index.open(tmp_path / "index") as index:
        assert index.search(vectors[1:2], 3).rows.tolist() == [[299, 298, 297]]


def test_no_queries_give_an_empty_result(tmp_path: Path) -> None:
    build_table(tmp_path / "index", np.eye(4, dtype=np.float32))
    with Index.open(tmp_path / "index") as index:
        assert index.search(np.empty((0, 4), dtype=np.float32), 3).rows.shape == (0, 3)


def test_unnormalized_vectors_are_ranked_by_inner_product(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    vectors = (random.normal(size=(800, 9)) * random.lognormal(0, 3, (800, 1))).astype(np.float32)
    queries = random.normal(size=(5, 9)).astype(np.float32)
    build_table(tmp_path / "index", vectors)
    with Index.open(tmp_path / "index") as index:
        result = index.search(queries, 800)
    np.testing.assert_array_equal(result.rows, brute_force(vectors, queries, 800)[0])


@pytest.mark.parametrize(
    ("queries", "k", "sentence"),
    [
        (np.zeros((1, 5), np.float32), 1, "expected queries of width 4, as in the index filled by "
         "table, found width 5"),
        (np.zeros(4, np.float32), 1, r"expected queries of shape \(n, 4\), found shape \(4,\)"),
        (np.zeros((1, 4)), 1, "expected queries of type float32, found float64"),
        (np.array([[0, np.nan, 0, 0]], np.float32), 1, "expected finite query vectors, found one "
         "of length nan at position 0"),
        (np.zeros((1, 4), np.float32), 0, r"k \(0\) must be at least 1"),
    ],
)  # fmt: skip
def test_queries_that_do_not_fit_are_refused_in_words(
    tmp_path: Path, queries: Floats, k: int, sentence: str
) -> None:
    build_table(tmp_path / "index", np.eye(4, dtype=np.float32))
    with Index.open(tmp_path / "index") as index, pytest.raises(UsageError, match=sentence):
        index.search(queries, k)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_several_threads_get_what_one_gets(tmp_path: Path, kind: str) -> None:
    vectors, queries = clustered(1500, 16)
    build_table(tmp_path / "index", vectors, kind, shard_size=100)
    found: dict[int, tuple[list[list[int]], list[str]]] = {}
    with Index.open(tmp_path / "index", threads=1) as index:
        expected = index.search(queries, 10).rows.tolist()

        def work(number: int) -> None:
            for _ in range(5):
                rows = index.search(queries, 10).rows
                ids = [passage.id for passage in index.passages(rows[number].tolist())]
                found[number] = (rows.tolist(), ids)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert found == {
        number: (expected, [f"p{row}" for row in expected[number]]) for number in range(6)
    }
