"""Reading queries of every format."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data import Query, read_queries
from rocketrank.errors import DataError, UsageError

Read = Callable[..., list[Query]]
ANSWER = st.text(st.sampled_from("ab'\"\\é, "), max_size=6)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(content: str, **options: Any) -> list[Query]:
        path = tmp_path / "queries"
        path.write_text(content, encoding="utf-8", newline="")
        return list(read_queries(path, **options))

    return reader


def failure(read: Read, content: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(content, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        (
            "scifact/queries.jsonl",
            1_109,
            Query("0", "0-dimensional biomaterials lack inductive properties."),
        ),
        (
            "nq/questions.jsonl",
            2_655,
            Query("0", "who got the first nobel prize in physics", ("Wilhelm Conrad Röntgen",)),
        ),
        ("msmarco/queries.dl19.tsv", 43, Query("264014", "how long is life cycle of flea")),
        (
            "msmarco/queries.train.tsv",
            600,
            Query("1000170", "where does blood come from before it enters the left atrium"),
        ),
    ],
)
def test_real_queries_are_known_and_complete(
    shared_data: Path, name: str, count: int, first: Query
) -> None:
    queries = list(read_queries(shared_data / name))
    assert queries[0] == first
    assert len(queries) == len({query.id for query in queries}) == count


@pytest.mark.parametrize("header", ["", "qid\tquery\n", "id\ttext\n"])
def test_tsv_is_read_with_and_without_header(read: Read, header: str) -> None:
    assert read(f"{header}q1\tone\nq2\t[two]\n") == [Query("q1", "one"), Query("q2", "[two]")]


@pytest.mark.parametrize(
    "record",
    [{"_id": "7", "text": "one"}, {"id": 7, "query": "one"}, {"qid": "7", "question": "one"}],
)
def test_json_keys_of_other_tools_are_read(read: Read, record: object) -> None:
    assert read(orjson.dumps(record).decode()) == [Query("7", "one")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.lists(ANSWER, max_size=3), min_size=1, max_size=5))
def test_dpr_answers_are_what_the_csv_module_wrote(read: Read, answers: list[list[str]]) -> None:
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
    writer.writerows(["who was it", repr(accepted)] for accepted in answers)
    assert read(lines.getvalue()) == [
        Query(str(number), "who was it", tuple(accepted)) for number, accepted in enumerate(answers)
    ]


def test_dpr_answers_are_read_unquoted_too(read: Read) -> None:
    assert read('who said "no"\t["O\'Neil", \'B\']\n') == [
        Query("0", 'who said "no"', ("O'Neil", "B"))
    ]


def test_rocketqa_query_files_are_read(read: Read) -> None:
    assert read("one\t-\t-\t0\ntwo\t-\t-\t0\n") == [Query("0", "one"), Query("1", "two")]


def test_plain_text_is_one_query_a_line_numbered_from_1(read: Read) -> None:
    assert read("first query\nsecond\n") == [Query("1", "first query"), Query("2", "second")]


def test_an_empty_file_has_no_queries(read: Read) -> None:
    assert read("") == []


def test_a_duplicate_id_is_an_error_with_both_lines(read: Read) -> None:
    message = failure(read, "q1\tone\nq2\ttwo\nq1\tthree\n")
    assert ":3: expected an id that is new, found 'q1', which line 1 has too" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1\tone\nq2\t \n", ":2: expected a query, found an empty text with the id 'q2'"),
        ("q1\tone\n\ttwo\n", ":2: expected an id, found an empty one"),
        ("q1\tone\nq2\ttwo\tmore\nq3\tc\n", ":2: expected 2 fields (id and text), found 3: "),
        ("one\n" * 64 + "two\tmore\n", ":65: expected a query on a line of its own"),
        ("one\t['a']\n" * 64 + "two\t[a]\n", ":65: expected a Python list of answer strings"),
        ('{"question": "a", "answers": 3}\n', ":1: expected a list of strings in 'answers'"),
        ('{"_id": "1"}\n', ":1: expected the key 'text' or 'query' or 'question', found the keys"),
        ('{"_id": "1", "text": "a"}\n{"text": "b"}\n', ":2: expected an id as on the first line"),
        ("a\tb\tc\td\te\n", ":1: expected queries of a known format (tsv, jsonl, dpr, "),
    ],
)
def test_a_bad_line_says_where_and_what_is_wrong(read: Read, content: str, message: str) -> None:
    assert message in failure(read, content)


def test_a_given_format_overrides_the_rule(read: Read) -> None:
    assert read("q1\t['a']\n", format="tsv") == [Query("q1", "['a']")]


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format \(csv\) must be one of auto, tsv, jsonl"):
        read_queries(tmp_path, format="csv")  # type: ignore[arg-type]
