"""Which queries are held out, and what both models rank for them."""

import logging
import random
from pathlib import Path

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError
from rocketrank.training.dev import drawn_queries, held_out_queries, open_dev
from rocketrank.training.lists import Candidate, RankingList, write_lists
from rocketrank.training.passages import open_passages

from .small_run import Place, lists, place, without_texts


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return place(tmp_path / "place", tmp_path / "start")


def shuffled(some: list[RankingList], seed: int) -> list[RankingList]:
    """The same lists with their candidates, and themselves, in another order."""
    numbers = random.Random(seed)
    mixed = [
        each._replace(candidates=tuple(numbers.sample(each.candidates, len(each.candidates))))
        for each in some
    ]
    return numbers.sample(mixed, len(mixed))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 10), (0.25, 25), (0.5, 50)])
def test_a_share_of_the_queries_is_drawn(share: float, count: int) -> None:
    queries = [f"q{number}" for number in range(100)]
    assert len(drawn_queries(queries, share, 7)) == count
    assert drawn_queries(queries, share, 7) <= {*queries}


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    queries = [f"q{number}" for number in range(100)]
    assert drawn_queries(queries, 0.2, 7) == drawn_queries(queries[::-1], 0.2, 7)
    assert drawn_queries(queries, 0.2, 7) != drawn_queries(queries, 0.2, 8)


def test_only_queries_with_a_positive_are_held_out(here: Place) -> None:
    bare = [
        RankingList(f"bare{number}", "why", (Candidate("a", 0, text="x"),)) for number in range(30)
    ]
    write_lists(here.lists, [*lists(), *bare])
    held_out = held_out_queries(here.lists, here.recipe(data__dev_share=0.5), None)
    assert len(held_out) == 8
    assert held_out <= {each.query_id for each in lists()}


def test_with_dev_lists_nothing_is_held_out_and_shared_queries_are_counted(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    dev = here.folder / "dev.jsonl"
    write_lists(dev, [*lists(5, first=13), *lists(1, first=13)])
    with caplog.at_level(logging.INFO, "rocketrank"):
        assert held_out_queries(here.lists, here.recipe(), dev) == frozenset()
    assert caplog.messages == [
        "3 of the 5 dev queries are training queries too: the dev figures flatter"
    ]


def test_dev_lists_of_other_queries_give_no_note(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    write_lists(here.folder / "dev.jsonl", lists(5, first=16))
    held_out_queries(here.lists, here.recipe(), here.folder / "dev.jsonl")
    assert caplog.messages == []


def test_the_order_in_the_file_does_not_matter(here: Place) -> None:
    one = open_dev(here.lists, {"q3", "q5"}, None, None)
    write_lists(here.lists, shuffled(lists(), 1))
    other = open_dev(here.lists, {"q3", "q5"}, None, None)
    assert one is not None
    assert one == other
    assert [passage.id for passage in one.candidates["q3"]] == [f"p3.{each}" for each in range(5)]
    assert one.qrels == {"q3": {"p3.0": 1}, "q5": {"p5.0": 1}}
    assert one.queries["q5"] == lists()[5].query


def test_several_lists_of_a_query_become_one(here: Place) -> None:
    both = [
        RankingList("q", "why", (Candidate("b", 1, text="x"), Candidate("d", 0, text="y"))),
        RankingList("q", "why", (Candidate("a", 1, text="z"), Candidate("d", 0, text="y"))),
        RankingList("q", "why", (Candidate("d", 0, text="y"), Candidate("c", 0, text="w"))),
    ]
    write_lists(here.lists, both)
    dev = open_dev(here.lists, None, None, None)
    assert dev is not None
    assert dev.qrels == {"q": {"a": 1, "b": 1}}
    expected = [("a", "z"), ("b", "x"), ("c", "w"), ("d", "y")]
    assert dev.candidates["q"] == [Passage(*each) for each in expected]


def test_a_positive_of_one_list_is_one_where_another_calls_it_a_negative(here: Place) -> None:
    both = [
        RankingList("q", "why", (Candidate("a", 1, text="x"), Candidate("b", 0, text="y"))),
        RankingList("q", "why", (Candidate("b", 1, text="y"), Candidate("a", 0, text="x"))),
    ]
    write_lists(here.lists, both)
    dev = open_dev(here.lists, None, None, None)
    assert dev is not None
    assert dev.qrels == {"q": {"a": 1, "b": 1}}


def test_judgements_take_the_place_of_labels(here: Place) -> None:
    qrels = here.folder / "qrels"
    qrels.write_text("q1 0 p1.2 3\nq1 0 p1.3 0\nq1 0 elsewhere 1\nq2 0 p2.1 0\nq99 0 x 1\n")
    dev = open_dev(here.lists, {"q1", "q2", "q3"}, qrels, None)
    assert dev is not None
    # a relevant passage that is no candidate counts as one not found
    assert dev.qrels == {"q1": {"p1.2": 3, "elsewhere": 1}}
    assert [*dev.queries] == [*dev.candidates] == ["q1"]


def test_without_a_relevant_passage_there_is_no_dev_set(here: Place) -> None:
    bare = RankingList("q", "why", (Candidate("a", 0, text="x"), Candidate("b", 0, text="y")))
    write_lists(here.lists, [bare])
    assert open_dev(here.lists, None, None, None) is None
    assert open_dev(here.lists, frozenset(), None, None) is None


def test_texts_come_from_the_passages(here: Place) -> None:
    corpus = here.folder / "corpus.jsonl"
    corpus.write_text(
        "".join(
            f'{{"_id": "{one.id}", "title": "of {one.id}", "text": "{one.text}"}}\n'
            for one in lists()[4].candidates
        )
    )
    write_lists(here.lists, without_texts(lists()))
    dev = open_dev(here.lists, {"q4"}, None, open_passages([corpus]))
    assert dev is not None
    expected = [Passage(one.id, one.text or "", f"of {one.id}") for one in lists()[4].candidates]
    assert dev.candidates["q4"] == expected


def test_a_candidate_without_text_is_named(here: Place) -> None:
    write_lists(here.lists, without_texts(lists()))
    with pytest.raises(DataError, match=r'candidate "p4.0" of dev query "q4" has no text: say'):
        open_dev(here.lists, {"q4"}, None, None)
