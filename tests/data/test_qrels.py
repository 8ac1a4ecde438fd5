"""Reading relevance judgements."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocketrank.data import Judgement, read_qrels
from rocketrank.errors import DataError, UsageError

Read = Callable[..., list[Judgement]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(content: str, **options: Any) -> list[Judgement]:
        path = tmp_path / "qrels"
        path.write_text(content, encoding="utf-8", newline="")
        return list(read_qrels(path, **options))

    return reader


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("scifact/qrels/train.tsv", {1: 919}),
        ("scifact/qrels/test.tsv", {1: 339}),
        ("msmarco/qrels.train.tsv", {1: 540}),
        ("msmarco/qrels.dl19.txt", {0: 5158, 1: 1601, 2: 1804, 3: 697}),
    ],
)
def test_real_judgements_are_known_and_complete(
    shared_data: Path, name: str, grades: dict[int, int]
) -> None:
    judgements = list(read_qrels(shared_data / name))
    assert Counter(judgement.relevance for judgement in judgements) == grades


@pytest.mark.parametrize("line", ["q1\t0\tp1\t2", "q1 Q0 p1 2", "q1  0 \tp1 2 "])
def test_four_columns_are_trec_whatever_separates_them(read: Read, line: str) -> None:
    assert read(f"{line}\r\n") == [Judgement("q1", "p1", 2)]


def test_beir_is_read_with_its_header_and_without(read: Read) -> None:
    expected = [Judgement("q 1", "p 1", -1)]
    assert read("query-id\tcorpus-id\tscore\nq 1\tp 1\t-1\n") == expected
    assert read("q 1\tp 1\t-1\n", format="beir") == expected


def test_a_judgement_that_comes_twice_is_given_once(read: Read) -> None:
    assert read("q1 0 p1 1\nq1 0 p1 1\n") == [Judgement("q1", "p1", 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 0 p1 1\nq1 0 p1 0\n", ":2: expected the relevance 1 that line 1 gives .* found 0"),
        ("q1 0 p1 1\nq2 0 p1\n", r":2: expected 4 columns .* found 3: 'q2 0 p1'"),
        ("q1 0 p1 1\nq2 0 p1 0.5\n", ":2: expected a whole number as relevance, found '0.5'"),
        ("q1\tp1\t1\n\tp1\t1\n", ":2: expected a query id and a passage id"),
        ("q1 p1\n", ":1: expected judgements .* found 'q1 p1'"),
    ],
)
def test_a_bad_line_says_where_and_what_is_wrong(read: Read, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_an_empty_file_has_no_judgements(read: Read) -> None:
    assert read("") == []


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format \(csv\) must be one of auto, trec, beir"):
        read_qrels(tmp_path, format="csv")  # type: ignore[arg-type]
