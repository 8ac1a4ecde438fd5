"""Filters and deletions: exactly the best of what is left, and as many as were asked for."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    Index,
    PassageList,
    add_passages,
    build_index,
    compact,
    delete_passages,
)

from .small_index import TableEncoder

ROWS = 24_000
VECTORS = np.random.default_rng(5).normal(size=(ROWS, 16)).astype(np.float32)
QUERIES = np.random.default_rng(6).normal(size=(5, 16)).astype(np.float32)
KINDS = ["flat", "ivf", "hnsw", "ivfpq", "ivfpq4", "ivf-rabitq", "PQ8"]


def passage(row: int) -> Passage:
    """Every thousandth is rare, every third is of an odd kind, years run from 1900 to 2019."""
    facts = {"rare": row % 1000 == 7, "third": row % 3, "year": 1900 + row % 120}
    return Passage(f"p{row}", str(row), metadata=facts)


@pytest.fixture(scope="module", params=KINDS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filters") / "index"
    fields = ("rare", "third", "year")
    options = BuildOptions(kind=request.param, shard_size=8192, fields=fields)
    passages = PassageList([passage(row) for row in range(ROWS)])
    build_index(path, passages, TableEncoder(VECTORS), options)
    return path


def exact(mask: NDArray[np.bool_], k: int) -> list[list[int]]:
    """The ``k`` best rows of ``mask`` for each query, by NumPy."""
    scores = (VECTORS[:, np.newaxis].astype(np.float64) * QUERIES).sum(axis=2).astype(np.float32)
    scores[~mask] = -np.inf
    order = np.argsort(-scores, axis=0, kind="stable")[: min(k, mask.sum())]
    return order.T.tolist()  # type: ignore[no-any-return]


def test_a_filter_that_keeps_a_thousandth_gives_the_exact_result(directory: Path) -> None:
    rows = np.arange(ROWS)
    with Index.open(directory) as index:
        found = index.search(QUERIES, 20, "rare = true")
    assert found.rows.tolist() == exact(rows % 1000 == 7, 20)


def test_fewer_than_k_come_back_only_where_fewer_meet_the_filter(directory: Path) -> None:
    with Index.open(directory) as index:
        found = index.search(QUERIES, 60, "rare = true and third = 1")
    expected = exact((np.arange(ROWS) % 1000 == 7) & (np.arange(ROWS) % 3 == 1), 60)
    assert [[row for row in rows if row >= 0] for rows in found.rows.tolist()] == expected
    assert (found.scores[:, len(expected[0]) :] == -np.inf).all()


def test_a_filter_that_keeps_much_finds_most_of_the_exact_result(directory: Path) -> None:
    with Index.open(directory) as index:
        found = index.search(QUERIES, 50, "third != 2 and year >= 1930")
    mask = (np.arange(ROWS) % 3 != 2) & (np.arange(ROWS) % 120 >= 30)
    expected = exact(mask, 50)
    assert mask[found.rows].all()
    shared = [len(set(a) & set(b)) for a, b in zip(found.rows.tolist(), expected, strict=True)]
    assert sum(shared) >= 0.9 * 50 * len(QUERIES)


def share_found(directory: Path, mask: NDArray[np.bool_]) -> float:
    """Of the exact 20 best of ``mask``, how much is found; nothing else may be."""
    with Index.open(directory) as index:
        found = index.search(QUERIES, 20).rows
    assert (found >= 0).all() and mask[found].all()
    pairs = zip(found.tolist(), exact(mask, 20), strict=True)
    return sum(len(set(a) & set(b)) for a, b in pairs) / found.size


def test_after_deletions_the_next_best_are_found_as_well_as_the_best_were(
    directory: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "index"
    shutil.copytree(directory, changed)
    everything = np.ones(ROWS, dtype=bool)
    gone = {row for rows in exact(everything, 20) for row in rows}
    delete_passages(changed, [f"p{row}" for row in gone], ChangeOptions())
    mask = everything.copy()
    mask[list(gone)] = False
    before, after = share_found(directory, everything), share_found(changed, mask)
    # Random vectors have no neighbourhoods: lossy structures find some 60 % of them, and fewer of
    # those that are further away.
    assert before > 0.5 and after > before - 0.25


def test_a_filter_reaches_over_segments(tmp_path: Path) -> None:
    path, encoder = tmp_path / "index", TableEncoder(VECTORS)
    first = PassageList([passage(row) for row in range(200)])
    build_index(path, first, encoder, BuildOptions(fields=("third",)))
    second = PassageList([passage(row) for row in range(200, 500)])
    add_passages(path, second, encoder, ChangeOptions())
    mask = (np.arange(ROWS) < 500) & (np.arange(ROWS) % 3 == 1)
    for _ in range(2):
        with Index.open(path) as index:
            assert index.search(QUERIES, 25, "third = 1").rows.tolist() == exact(mask, 25)
        compact(path, ChangeOptions())


def test_a_field_that_the_index_has_not_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index"
    build_index(path, PassageList([passage(0)]), TableEncoder(VECTORS), BuildOptions())
    with Index.open(path) as index, pytest.raises(UsageError, match="year"):
        index.search(QUERIES, 5, "year = 1900")


@pytest.mark.parametrize("value", [[1], {"a": 1}, 2**63, math.inf, math.nan])
def test_a_value_that_cannot_be_compared_is_named_with_its_passage(
    tmp_path: Path, value: object
) -> None:
    passages = PassageList([passage(0), Passage("x", "1", metadata={"year": value})])
    sentence = (
        r"^passage 2 of 2: expected a text, a finite number of 64 bits or a truth value in field"
    )
    with pytest.raises(DataError, match=sentence):
        build_index(
            tmp_path / "index", passages, TableEncoder(VECTORS), BuildOptions(fields=("year",))
        )


def test_a_field_that_no_passage_has_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passages = PassageList([passage(row) for row in range(3)])
    options = BuildOptions(fields=("year", "yaer"))
    build_index(tmp_path / "index", passages, TableEncoder(VECTORS), options)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "no passage has the field 'yaer' of --fields"
    ]
