"""Lists as JSON lines: what is written comes back, and what cannot be read is a sentence."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.training.lists import (
    Candidate,
    ListsHeader,
    RankingList,
    defect,
    read_header,
    read_lists,
    text_id,
    write_lists,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
CANDIDATE = st.builds(
    Candidate,
    WORD,
    st.integers(0, 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.none() | TEXT,
    TEXT,
)
LIST = st.builds(
    RankingList,
    WORD,
    WORD.filter(str.strip),
    st.lists(CANDIDATE, max_size=4, unique_by=lambda each: each.id).map(tuple),
)
ONE = RankingList("q", "why", (Candidate("a", 1), Candidate("b", 0)))
LINE: dict[str, Any] = {"query_id": "q", "query": "why", "candidates": [{"id": "a", "label": 1}]}


def read(path: Path, content: str) -> list[RankingList]:
    path.write_text(content, encoding="utf-8")
    return list(read_lists(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists=st.lists(LIST, max_size=5))
def test_lists_come_back_as_written(tmp_path: Path, lists: list[RankingList]) -> None:
    path = tmp_path / "lists.jsonl"
    assert write_lists(path, lists) == len(lists)
    assert list(read_lists(path)) == lists


def test_a_line_holds_what_is_known_and_nothing_else(tmp_path: Path) -> None:
    known = Candidate("7", 1, 12.5, "bm25:3", "text", "title")
    write_lists(tmp_path / "lists", [RankingList("1", "why", (known, Candidate("8", 0)))])
    assert (tmp_path / "lists").read_text() == (
        '{"query_id":"1","query":"why","candidates":[{"id":"7","label":1,"score":12.5,'
        '"source":"bm25:3","title":"title","text":"text"},{"id":"8","label":0}]}\n'
    )


def test_the_header_is_read_apart_from_the_lists(tmp_path: Path) -> None:
    header = ListsHeader(tokenizer="f00", index="wiki", retriever="r")
    write_lists(tmp_path / "lists", [ONE], header)
    assert read_header(tmp_path / "lists") == header
    assert list(read_lists(tmp_path / "lists")) == [ONE]


@pytest.mark.parametrize("lists", [[], [ONE]])
def test_a_file_may_have_no_header(tmp_path: Path, lists: list[RankingList]) -> None:
    write_lists(tmp_path / "lists", lists)
    assert read_header(tmp_path / "lists") is None


def test_a_header_may_have_keys_of_a_later_release(tmp_path: Path) -> None:
    (tmp_path / "lists").write_text('{"lists": {"index": "i", "new": 7}}\n')
    assert read_header(tmp_path / "lists") == ListsHeader(index="i")


def test_compressed_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "lists").write_bytes(gzip.compress(json.dumps(LINE).encode()))
    assert [each.query for each in read_lists(tmp_path / "lists")] == ["why"]


def test_positives_and_negatives_keep_their_order() -> None:
    each = RankingList(
        "q",
        "why",
        tuple(Candidate(name, label) for name, label in zip("abcd", (0, 1, 0, 1), strict=True)),
    )
    assert [candidate.id for candidate in each.positives] == ["b", "d"]
    assert [candidate.id for candidate in each.negatives] == ["a", "c"]


def test_integers_may_stand_for_ids_and_scores(tmp_path: Path) -> None:
    candidates = [{"id": 7, "label": 0, "score": 3, "text": None, "score_of": "unknown key"}]
    [each] = read(tmp_path / "l", json.dumps({**LINE, "query_id": 1, "candidates": candidates}))
    assert each == RankingList("1", "why", (Candidate("7", 0, 3.0),))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"query": " "}, r"l:2: expected a query, found an empty text with the id 'q'"),
        ({"query": None}, r"l:2: expected a string in 'query', found None"),
        ({"query_id": ""}, r"l:2: expected an id in 'query_id', found an empty one"),
        ({"candidates": {}}, r"l:2: expected a list in 'candidates', found {}"),
        ({"candidates": [7]}, r"l:2: expected candidates with 'id' and 'label', found 7"),
        ({"candidates": [{"id": "a"}]}, r"l:2: expected candidates with 'id' and 'label', found"),
        ({"candidates": [{"id": "a", "label": 2}]}, r"expected 1 \(positive\) or 0 .*, found 2"),
        ({"candidates": [{"id": "a", "label": True}]}, r"in 'label', found True"),
        ({"candidates": [{"id": "a", "label": 1, "score": "1"}]}, r"a number in 'score', found"),
        ({"candidates": [{"id": "a", "label": 1, "text": 1}]}, r"a string in 'text', found 1"),
        (
            {"candidates": [{"id": "a", "label": 1}, {"id": "a", "label": 0}]},
            r"l:2: expected each id once in 'candidates', found 'a' twice",
        ),
        ({"lists": {}}, r"l:2: expected a list, the header being the first line, found another"),
    ],
)
def test_a_bad_line_is_named_with_expected_and_found(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "l", f"{json.dumps(LINE)}\n{json.dumps({**LINE, **changes})}\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "l:1: expected a JSON object"),
        ("[1]", r"l:1: expected a JSON object, found \[1\]"),
        ('{"query_id": "q"}', r"expected the keys .*, found the keys \['query_id'\]"),
        ('{"query_id": "q", "query": "w", "candidates": [{"id": "a", "label": 1, "score": NaN}]}',
         "l:1: expected a JSON object"),
        ('{"lists": 7}', "l:1: expected an object in 'lists', found 7"),
        ('{"lists": {"index": 7}}', "l:1: expected a string in 'index', found 7"),
    ],
)  # fmt: skip
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "l", line)


def test_a_missing_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: cannot be read"):
        read_lists(tmp_path / "none")


@pytest.mark.parametrize(
    ("each", "sentence"),
    [
        (ONE._replace(query=""), "a query id and a query, found ''"),
        (
            ONE._replace(candidates=(Candidate("a", 1), Candidate("a", 0))),
            "each id once, found 'a' twice",
        ),
        (ONE._replace(candidates=(Candidate("a", 2),)), "ids and labels 0 or 1"),
        (ONE._replace(candidates=(Candidate("", 1),)), "ids and labels 0 or 1"),
        (ONE._replace(candidates=(Candidate("a", 1, float("nan")),)), "finite scores, found"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, each: RankingList, sentence: str
) -> None:
    with pytest.raises(UsageError, match=rf"the list of query 'q' must have .*{sentence}"):
        write_lists(tmp_path / "lists", [ONE, each])
    assert list(tmp_path.iterdir()) == []


def test_scores_and_labels_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    candidate = Candidate("a", np.int64(1), np.float32(0.5))  # type: ignore[arg-type]
    write_lists(tmp_path / "lists", [ONE._replace(candidates=(candidate,))])
    assert next(read_lists(tmp_path / "lists")).candidates == (Candidate("a", 1, 0.5),)


def test_a_failure_leaves_the_former_file_as_it_was(tmp_path: Path) -> None:
    def failing() -> Iterator[RankingList]:
        yield ONE._replace(query="other")
        raise DataError("bad line")

    write_lists(tmp_path / "lists", [ONE])
    with pytest.raises(DataError, match="bad line"):
        write_lists(tmp_path / "lists", failing())
    assert list(read_lists(tmp_path / "lists")) == [ONE]
    assert [path.name for path in tmp_path.iterdir()] == ["lists"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RocketRankError, match=r"lists: cannot be written \(No such file"):
        write_lists(tmp_path / "none" / "lists", [ONE])


def test_lists_may_be_rewritten_while_they_are_read(tmp_path: Path) -> None:
    write_lists(tmp_path / "lists", [ONE] * 3)
    assert write_lists(tmp_path / "lists", read_lists(tmp_path / "lists")) == 3


@pytest.mark.parametrize(
    ("text", "title", "digest"),
    [
        ("water boils", "", "bda43a692ea645cd"),
        ("Wärme", "Titel", "252d8ff3c6347660"),
    ],
)
def test_the_id_of_a_text_begins_its_sha1(text: str, title: str, digest: str) -> None:
    # printf '\nwater boils' | sha1sum; printf 'Titel\nWärme' | sha1sum
    assert text_id(text, title) == f"sha1:{digest}"


def test_title_and_text_do_not_run_into_one_another() -> None:
    assert text_id("bc", "a") != text_id("c", "ab")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ((), "without a positive"),
        ((0, 0), "without a positive"),
        ((1,), "of a single candidate"),
        ((1, 1), None),
        ((0, 1), None),
    ],
)
def test_a_list_needs_a_positive_and_another_candidate(
    labels: tuple[int, ...], reason: str | None
) -> None:
    candidates = tuple(Candidate(str(place), label) for place, label in enumerate(labels))
    assert defect(ONE._replace(candidates=candidates)) == reason
