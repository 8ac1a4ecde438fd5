"""Texts by id, from an index and from corpus files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data import CorpusReader
from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import BuildOptions, build_index
from rocketrank.training.lists import Candidate, RankingList
from rocketrank.training.passages import open_passages, with_texts

CORPUS = """\
{"_id": "whale", "title": "Whale", "text": "It sings.", "year": 1851}
{"_id": "bread", "text": "It is baked."}
{"_id": "empty", "text": ""}
{"_id": "tea", "title": "Tea", "text": "It is drunk."}
"""
WHALE, BREAD = Passage("whale", "It sings.", "Whale"), Passage("bread", "It is baked.")


class ZeroEncoder:
    """Vectors of zeros: what is tested here reads texts only."""

    dim = 4
    fingerprint = "c" * 64
    name = "zeros"

    def encode_passages(
        self, texts: list[str], titles: list[str] | None = None, *, on_done: object = None
    ) -> NDArray[np.float32]:
        return np.zeros((len(texts), self.dim), dtype=np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    return tmp_path / "corpus.jsonl"


@pytest.fixture(params=["corpus", "index"])
def place(request: pytest.FixtureRequest, corpus: Path, tmp_path: Path) -> Path:
    if request.param == "corpus":
        return corpus
    reader = CorpusReader([corpus], skip_empty=True)
    build_index(tmp_path / "index", reader, ZeroEncoder(), BuildOptions(shard_size=2))  # type: ignore[arg-type]
    return tmp_path / "index"


@pytest.mark.parametrize("wanted", [None, {"whale", "bread"}])
def test_texts_come_in_the_order_asked_for(place: Path, wanted: set[str] | None) -> None:
    found = open_passages([place], wanted).texts(["bread", "whale", "bread"])
    assert [(each.id, each.text, each.title) for each in found] == [
        tuple(each[:3]) for each in (BREAD, WHALE, BREAD)
    ]


def test_missing_ids_are_counted_before_anything_runs(place: Path) -> None:
    with pytest.raises(DataError, match=rf"{place.name}: .* 'cat' \(2 of 3 are missing\)"):
        open_passages([place], ["whale", "cat", "dog", "cat"])


def test_an_id_that_is_missing_later_is_named(place: Path) -> None:
    passages = open_passages([place])
    with pytest.raises(DataError, match=r"the id 'cat' \(1 of 2 are missing\)"):
        passages.texts(["whale", "cat"])


def test_of_a_corpus_only_the_wanted_passages_are_kept(corpus: Path) -> None:
    passages = open_passages([corpus], {"whale"})
    with pytest.raises(DataError, match="'bread'"):
        passages.texts(["bread"])


def test_a_corpus_may_lie_in_several_files(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "more.gz").write_bytes(gzip.compress(b"milk\tIt is white.\n"))
    found = open_passages([corpus, tmp_path / "more.gz"]).texts(["milk", "whale"])
    assert found == [Passage("milk", "It is white."), WHALE]


def test_an_id_with_two_texts_is_refused_where_it_is_wanted(corpus: Path) -> None:
    corpus.write_text(CORPUS + '{"_id": "tea", "text": "Another."}\n', encoding="utf-8")
    open_passages([corpus], {"whale"})
    with pytest.raises(DataError, match=r"jsonl:5: expected one text for each id, .*'tea'"):
        open_passages([corpus], {"tea"})


def test_the_same_passage_twice_is_one(corpus: Path) -> None:
    assert open_passages([corpus, corpus], {"whale"}).texts(["whale"]) == [WHALE]


@pytest.mark.parametrize(
    ("count", "sentence"),
    [(0, "places is empty"), (2, "from one index folder or from corpus files, found")],
)
def test_places_that_fit_nothing_are_refused(tmp_path: Path, count: int, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_passages([tmp_path] * count)


def test_one_place_must_stand_in_a_sequence() -> None:
    with pytest.raises(UsageError, match=r"places must be a sequence; write \['wiki'\]"):
        open_passages("wiki")


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected an index, found a folder"):
        open_passages([tmp_path])


def test_only_candidates_without_a_text_get_one(place: Path) -> None:
    own = Candidate("cat", 0, 2.0, "mine", "It purrs.", "Cat")
    lists = [
        RankingList(str(number), "why", (Candidate("whale", 1, 1.5, "qrels"), own))
        for number in range(150)
    ]
    filled = list(with_texts(lists, open_passages([place])))
    assert [each.query_id for each in filled] == [str(number) for number in range(150)]
    for each in filled:
        assert each.candidates == (
            Candidate("whale", 1, 1.5, "qrels", "It sings.", "Whale"),
            own,
        )


def test_lists_with_texts_ask_for_none(corpus: Path) -> None:
    lists = [RankingList("1", "why", (Candidate("cat", 1, text="It purrs."),))]
    assert list(with_texts(lists, open_passages([corpus]))) == lists
