"""Examples of a file of lists: what is drawn, what is dropped, and what never is a negative."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from rocketrank.errors import DataError
from rocketrank.training.examples import Dropped, Example, Examples, epoch_order
from rocketrank.training.list_formats import read_any_lists
from rocketrank.training.lists import Candidate, ListsHeader, RankingList, read_lists, write_lists


def ranking(query_id: str, positives: str, negatives: str) -> RankingList:
    candidates = [Candidate(each, 1) for each in positives.split()]
    candidates += [Candidate(each, 0) for each in negatives.split()]
    return RankingList(query_id, f"query {query_id}", tuple(candidates))


def ids(example: Example) -> list[str]:
    return [candidate.id for candidate in example.candidates]


class Opener:
    """Opens lists as examples, from a file that closes with the test."""

    def __init__(self, path: Path, closing: ExitStack) -> None:
        self.path = path
        self._closing = closing

    def __call__(self, *lists: RankingList, held_out: tuple[str, ...] = ()) -> Examples:
        write_lists(self.path, lists, ListsHeader(retriever="some"))
        return self.again(held_out)

    def again(self, held_out: tuple[str, ...] = ()) -> Examples:
        examples = Examples(self.path, held_out=held_out)
        self._closing.callback(examples.close)
        return examples


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as closing:
        yield Opener(tmp_path / "lists.jsonl", closing)


TWENTY = " ".join(f"n{number}" for number in range(20))


def test_a_sample_has_the_positive_first_and_distinct_negatives_of_its_line(opened: Opener) -> None:
    examples = opened(ranking("q", "p", TWENTY))
    for epoch in range(5):
        example = examples.sample(0, 8, (42, epoch))
        first, *others = ids(example)
        assert (example.query_id, example.query, first) == ("q", "query q", "p")
        assert len(set(others)) == 7 and set(others) <= set(TWENTY.split())


def test_a_line_with_fewer_negatives_than_asked_for_gives_all_of_them(opened: Opener) -> None:
    example = opened(ranking("q", "p", "a b c")).sample(0, 8, (1, 0))
    assert ids(example)[0] == "p" and sorted(ids(example)[1:]) == ["a", "b", "c"]


def test_every_negative_is_drawn_equally_often(opened: Opener) -> None:
    examples = opened(ranking("q", "p", TWENTY))
    drawn = Counter(
        each for epoch in range(800) for each in ids(examples.sample(0, 6, (42, epoch)))[1:]
    )
    # 5 of 20 in each of 800 draws: 200 expected, with a deviation of sqrt(800 · 1/4 · 3/4) = 12
    assert set(drawn) == set(TWENTY.split())
    assert all(abs(count - 200) < 5 * 12.3 for count in drawn.values())


def test_a_sample_depends_on_seed_epoch_and_number_alone(opened: Opener) -> None:
    lists = [ranking(f"q{number}", "p", TWENTY) for number in range(3)]
    examples = opened(*lists)
    expected = {
        (seed, epoch, number): ids(examples.sample(number, 8, (seed, epoch)))
        for seed in (1, 2)
        for epoch in (0, 1)
        for number in (0, 1, 2)
    }
    assert len({tuple(each) for each in expected.values()}) == len(expected)
    again = opened.again()
    for (seed, epoch, number), drawn in sorted(expected.items(), reverse=True):
        assert ids(again.sample(number, 8, (seed, epoch))) == drawn


def test_a_longer_list_begins_as_a_shorter_one(opened: Opener) -> None:
    examples = opened(ranking("q", "p", TWENTY))
    assert ids(examples.sample(0, 16, (3, 4)))[:8] == ids(examples.sample(0, 8, (3, 4)))


def test_every_positive_of_a_line_has_an_example_with_the_same_negatives(opened: Opener) -> None:
    examples = opened(ranking("q", "p1 p2 p3", "a b c"))
    found = [ids(examples.sample(number, 9, (1, 0))) for number in range(len(examples))]
    assert [each[0] for each in found] == ["p1", "p2", "p3"]
    assert all(sorted(each[1:]) == ["a", "b", "c"] for each in found)


def test_no_positive_of_a_query_is_a_negative_in_another_line_of_it(opened: Opener) -> None:
    """Undenoised and denoised lists of one query are lines of their own."""
    examples = opened(
        ranking("q", "p", "a b c"),
        ranking("other", "c", "p b"),
        ranking("q", "b", "p a d"),
    )
    assert examples.positives == {"q": {"p", "b"}, "other": {"c"}}
    drawn = [sorted(ids(examples.sample(number, 9, (1, 0)))[1:]) for number in range(3)]
    assert drawn == [["a", "c"], ["b", "p"], ["a", "d"]]


def test_lines_that_give_no_example_are_counted_by_reason(opened: Opener) -> None:
    examples = opened(
        ranking("good", "p", "a"),
        ranking("no positive", "", "a b"),
        ranking("alone", "p", ""),
        ranking("many alone", "p1 p2", ""),
        ranking("dev", "p", "a"),
        ranking("dev", "", "a"),
        held_out=("dev", "nowhere"),
    )
    assert examples.dropped == Dropped(held_out=2, without_positive=1, without_negative=2)
    assert len(examples) == 1


def test_a_line_whose_negatives_are_positives_elsewhere_is_dropped(opened: Opener) -> None:
    examples = opened(
        ranking("q", "p", "b"),
        ranking("q", "b", "p"),
        ranking("q", "p", "b c"),
    )
    assert examples.dropped == Dropped(held_out=0, without_positive=0, without_negative=2)
    assert [ids(examples.sample(number, 9, (1, 0))) for number in range(len(examples))] == [
        ["p", "c"]
    ]


def test_a_file_without_any_list_has_no_example(opened: Opener) -> None:
    assert len(opened()) == 0


def test_a_broken_line_is_named(opened: Opener) -> None:
    write_lists(opened.path, [ranking("q", "p", "a")])
    with opened.path.open("ab") as file:
        file.write(b'{"query_id": "r"}\n')
    with pytest.raises(DataError, match=r"lists\.jsonl:2: "):
        opened.again()


def test_a_file_that_changed_since_it_was_opened_is_no_example(opened: Opener) -> None:
    examples = opened(ranking("first", "p", TWENTY), ranking("q", "p", TWENTY))
    opened.path.write_bytes(b"x" * opened.path.stat().st_size)
    with pytest.raises(DataError, match="has changed since it was opened: train again"):
        examples.sample(1, 8, (1, 0))


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    np.testing.assert_array_equal(epoch_order(50, 1, 1), orders[1])


def test_of_the_msmarco_sample_60_of_600_queries_are_dropped(
    shared_data: Path, opened: Opener
) -> None:
    """60 queries have no positive among their 20 candidates; counted from the file itself too."""
    folder = shared_data / "msmarco"
    rows = [line.split("\t") for line in (folder / "candidates.train.tsv").read_text().splitlines()]
    positives = {(row[0], row[1]) for row in rows if int(row[3])}
    assert len({row[0] for row in rows}) == 600
    write_lists(
        opened.path,
        read_any_lists(folder / "candidates.train.tsv", queries=folder / "queries.train.tsv"),
    )
    assert sum(1 for _ in read_lists(opened.path)) == 600
    examples = opened.again()
    assert examples.dropped == Dropped(held_out=0, without_positive=60, without_negative=0)
    assert len(examples) == len(positives) >= 540
    drawn = [examples.sample(number, 8, (42, 0)) for number in range(len(examples))]
    assert {(each.query_id, each.candidates[0].id) for each in drawn} == positives
    assert not {(e.query_id, c.id) for e in drawn for c in e.candidates[1:]} & positives
    assert all(len(each.candidates) == 8 for each in drawn)
