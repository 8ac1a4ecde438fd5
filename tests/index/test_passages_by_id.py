"""Passages by their external ids."""

from pathlib import Path

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError
from rocketrank.index import Index

from .small_index import build, sentences


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    build(tmp_path / "index", sentences(25))
    return tmp_path / "index"


def test_passages_come_in_the_order_asked_for(directory: Path) -> None:
    stored = sentences(25)
    with Index.open(directory) as index:
        asked = ["doc-20", "doc-3", "doc-20"]
        assert index.passages_by_id(asked) == [stored[20], stored[3], stored[20]]
        assert index.passages_by_id([]) == []


def test_more_ids_than_one_statement_holds_are_read(tmp_path: Path) -> None:
    stored = sentences(1_200)
    build(tmp_path / "index", stored, shard_size=600)
    with Index.open(tmp_path / "index") as index:
        assert index.passages_by_id([each.id for each in reversed(stored)]) == stored[::-1]


def test_ids_are_compared_as_they_are(tmp_path: Path) -> None:
    stored = [Passage("7", "seven"), Passage("07", "zero seven"), Passage("'\"é", "quotes")]
    build(tmp_path / "index", stored)
    with Index.open(tmp_path / "index") as index:
        assert index.passages_by_id(["'\"é", "07", "7"]) == stored[::-1]
        with pytest.raises(DataError, match=r"the id '7\.0' \(1 of 1"):
            index.passages_by_id(["7.0"])


def test_a_missing_id_is_named_with_the_number_of_missing_ones(directory: Path) -> None:
    asked = ["doc-1", "none", "doc-2", "nothing", "none"]
    with Index.open(directory) as index:
        for refused in (index.passages_by_id, index.check_ids):
            with pytest.raises(DataError, match=r"index: .*the id 'none' \(2 of 4 are missing\)"):
                refused(asked)


def test_ids_that_are_there_pass_the_check(directory: Path) -> None:
    with Index.open(directory) as index:
        index.check_ids({f"doc-{number}" for number in range(25)})
