"""Changing an index through the engine that searches it, and searching it with a filter."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank import SearchEngine
from rocketrank.data.records import Passage
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import BuildOptions, Index, PassageList, build_index

from .index.small_index import HashingEncoder

COLOURS = [
    Passage("red", "red apple", metadata={"year": 2001}),
    Passage("green", "green apple", metadata={"year": 2005}),
    Passage("blue", "blue sky", metadata={"year": 2009}),
]


class HashingRetriever(HashingEncoder):
    """Encodes queries as it does passages."""

    def __init__(self) -> None:
        super().__init__(dim=64)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_passages(texts)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SearchEngine]:
    directory = tmp_path / "index"
    options = BuildOptions(fields=("year",))
    build_index(directory, PassageList(COLOURS), HashingRetriever(), options)
    with SearchEngine(Index.open(directory), HashingRetriever()) as opened:
        yield opened


def found(engine: SearchEngine, query: str, **options: object) -> list[str]:
    return [hit.id for hit in engine.search(query, **options)]  # type: ignore[arg-type]


def test_an_added_passage_is_found_by_the_same_engine(engine: SearchEngine) -> None:
    report = engine.add([Passage("yellow", "yellow sun")])
    assert (report.added, report.passages) == (1, 4)
    assert found(engine, "yellow sun", k=1) == ["yellow"]


def test_a_replaced_passage_is_found_by_its_new_text_only(engine: SearchEngine) -> None:
    engine.update([Passage("blue", "yellow sun")])
    [best] = engine.search("yellow sun", k=1)
    assert (best.id, best.text) == ("blue", "yellow sun")
    assert len(engine.index) == 3


def test_a_deleted_passage_is_not_found(engine: SearchEngine) -> None:
    engine.delete(["red"])
    assert sorted(found(engine, "red apple")) == ["blue", "green"]


def test_all_or_nothing_is_added(engine: SearchEngine) -> None:
    with pytest.raises(DataError, match="passage 2 of 2: expected an id that is not in the index"):
        engine.add([Passage("new", "one"), Passage("red", "another text")])
    assert len(engine.index) == 3


def test_an_update_of_an_unknown_id_is_refused_unless_it_may_insert(engine: SearchEngine) -> None:
    with pytest.raises(DataError, match="passage 1 of 1: expected the id of a passage in the"):
        engine.update([Passage("new", "one")])
    assert engine.update([Passage("new", "one")], insert=True).added == 1


def test_deleting_an_unknown_id_is_refused_unless_it_may_be_missing(engine: SearchEngine) -> None:
    with pytest.raises(DataError, match="found none with the id 'pink'"):
        engine.delete(["red", "pink"])
    assert len(engine.index) == 3
    report = engine.delete(["red", "pink"], ignore_missing=True)
    assert (report.deleted, report.missing) == (1, 1)


def test_a_search_that_has_begun_ends_with_the_index_as_it_was(engine: SearchEngine) -> None:
    results = engine.search_stream(["red apple"] * 300, k=3)
    before = [hit.id for hit in next(results)]
    engine.delete(["red", "green", "blue"])
    assert all([hit.id for hit in hits] == before for hits in results)
    assert found(engine, "red apple") == []


def test_a_filter_keeps_what_meets_it(engine: SearchEngine) -> None:
    assert found(engine, "red apple", where="year > 2001") == ["green", "blue"]


def test_a_filter_that_cannot_be_read_is_refused_before_anything_is_encoded(
    engine: SearchEngine,
) -> None:
    with pytest.raises(UsageError, match="year"):
        engine.search_stream(["red apple"], where="month = 3")


def test_one_text_is_no_list_of_ids(engine: SearchEngine) -> None:
    with pytest.raises(UsageError, match=r"expected a list of ids, found one text: write \[id\]"):
        engine.delete("red")


def test_a_dictionary_is_no_passage(engine: SearchEngine) -> None:
    with pytest.raises(UsageError, match="passage 1 of 1: expected a Passage, found dict"):
        engine.add([{"id": "x", "text": "y"}])  # type: ignore[list-item]


def test_an_index_that_was_built_anew_with_another_model_is_not_changed(
    engine: SearchEngine,
) -> None:
    directory = engine.index.directory  # type: ignore[attr-defined]
    other = HashingEncoder(dim=64, fingerprint="b" * 64)
    build_index(directory, PassageList(COLOURS), other, BuildOptions(overwrite=True))
    with pytest.raises(RocketRankError, match="the index was built with another model"):
        engine.delete(["red"])
    with Index.open(directory) as index:
        assert len(index) == 3


def test_changes_of_several_threads_are_all_seen_by_the_engine(engine: SearchEngine) -> None:
    def add(number: int) -> None:
        engine.add([Passage(f"new-{number}", f"passage {number}")])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engine.index) == 7


def test_a_closed_engine_says_so(engine: SearchEngine) -> None:
    engine.close()
    with pytest.raises(UsageError, match="this index was closed: open it again"):
        engine.search("red apple")
