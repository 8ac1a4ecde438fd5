"""How hard an approximate structure is searched."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.errors import UsageError
from rocketrank.index import Effort, Index

from .small_index import build_table
from .test_search import brute_force, clustered

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def table() -> tuple[Floats, Floats]:
    return clustered(6000, 32)


@pytest.fixture(scope="module", params=["ivf", "hnsw", "ivfpq"])
def index(
    request: pytest.FixtureRequest,
    table: tuple[Floats, Floats],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("effort") / "index"
    build_table(path, table[0], request.param, shard_size=1000)
    return path


def recall(path: Path, table: tuple[Floats, Floats], effort: Effort) -> float:
    """Of the 20 best, how many are found, from 0 to 1."""
    vectors, queries = table
    best = brute_force(vectors, queries, 20)[0]
    with Index.open(path, effort=effort) as opened:
        found = opened.search(queries, 20).rows
    return float(np.mean([len(set(a) & set(b)) / 20 for a, b in zip(found, best, strict=True)]))


@pytest.mark.parametrize("index", ["ivf", "ivfpq"], indirect=True)
def test_less_effort_finds_less(index: Path, table: tuple[Floats, Floats]) -> None:
    low, usual = (recall(index, table, Effort(factor=factor)) for factor in (0.01, 1.0))
    assert low < usual


def test_effort_multiplies_what_is_visited_of_lists_and_graphs() -> None:
    usual = {"nprobe": 64, "efSearch": 256, "depth_factor": 10}
    assert Effort(factor=0.5).of(usual) == {"nprobe": 32, "efSearch": 128, "depth_factor": 10}


def test_enough_effort_and_refining_find_what_is_best(
    index: Path, table: tuple[Floats, Floats]
) -> None:
    assert recall(index, table, Effort(factor=100, refine=6000)) == 1


@pytest.mark.parametrize("refine", [1, 20, 500])
def test_scores_are_exact_however_few_candidates_are_refined(
    index: Path, table: tuple[Floats, Floats], refine: int
) -> None:
    vectors, queries = table
    with Index.open(index, effort=Effort(refine=refine)) as opened:
        result = opened.search(queries, 5)
    exact = np.einsum("qkd,qd->qk", vectors[result.rows].astype(np.float64), queries)
    np.testing.assert_allclose(result.scores, exact, rtol=1e-6)


def test_an_index_that_is_opened_again_keeps_its_effort(
    index: Path, table: tuple[Floats, Floats]
) -> None:
    queries = table[1]
    with Index.open(index, effort=Effort(factor=0.01)) as opened, opened.opened_again() as again:
        np.testing.assert_array_equal(
            again.search(queries, 20).rows, opened.search(queries, 20).rows
        )


@pytest.mark.parametrize("factor", [0, -1, 1001, float("nan"), float("inf")])
def test_an_effort_that_means_nothing_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="must be above 0 and at most 1000"):
        Effort(factor=factor)


def test_refining_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"refine \(0\) must be at least 1"):
        Effort(refine=0)
