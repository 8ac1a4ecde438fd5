"""Reading and writing DPR's retrieval results."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data.dpr_results import (
    DprHit,
    DprResult,
    read_dpr_results,
    write_dpr_results,
)
from rocketrank.errors import DataError, UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCORE = st.floats(allow_nan=False, allow_infinity=False)
HIT = st.builds(DprHit, TEXT.filter(bool), SCORE, TEXT, TEXT, st.none() | st.booleans())
RESULTS = st.lists(
    st.builds(
        DprResult,
        TEXT.filter(bool),
        TEXT,
        st.lists(TEXT, max_size=2).map(tuple),
        st.lists(HIT, max_size=3).map(tuple),
    ),
    max_size=4,
    unique_by=lambda result: result.query_id,
)
# as DPR's validation writes it, ids and scores as strings
DPR: list[dict[str, Any]] = [
    {
        "question": "who got the first nobel prize in physics",
        "answers": ["Wilhelm Conrad Röntgen"],
        "ctxs": [
            {
                "id": "wiki:284453",
                "title": "Nobel Prize",
                "text": "A group including 42 Swedish writers …",
                "score": "81.38391",
                "has_answer": False,
            },
            {
                "id": "wiki:628725",
                "title": "Nobel Prize in Physics",
                "text": "Wilhelm Conrad Röntgen",
                "score": "80.9",
                "has_answer": True,
            },
        ],
    },
    {"question": "no passages", "answers": [], "ctxs": []},
]
READ = [
    DprResult(
        "0",
        "who got the first nobel prize in physics",
        ("Wilhelm Conrad Röntgen",),
        (
            DprHit(
                "wiki:284453",
                81.38391,
                "A group including 42 Swedish writers …",
                "Nobel Prize",
                False,
            ),
            DprHit("wiki:628725", 80.9, "Wilhelm Conrad Röntgen", "Nobel Prize in Physics", True),
        ),
    ),
    DprResult("1", "no passages", (), ()),
]


def read(path: Path, content: str) -> list[DprResult]:
    path.write_text(content, encoding="utf-8", newline="")
    return list(read_dpr_results(path))


def one(**changes: Any) -> str:
    """A file with one question and one passage, of which these fields are changed."""
    hit = {"id": "7", "title": "t", "text": "x", "score": 1.5, "has_answer": True}
    fields = {key: value for key, value in changes.items() if key in hit}
    record = {"question": "q", "answers": ["a"], "ctxs": [hit | fields]}
    return json.dumps([record | {k: v for k, v in changes.items() if k not in fields}])


@pytest.mark.parametrize("indent", [None, 4])
def test_an_array_as_dpr_writes_it_is_read(tmp_path: Path, indent: int | None) -> None:
    assert read(tmp_path / "a.json", json.dumps(DPR, indent=indent)) == READ


def test_json_lines_are_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a", "".join(json.dumps(each) + "\n" for each in DPR)) == READ


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(DPR).encode()))
    assert list(read_dpr_results(tmp_path / "a.json.gz")) == READ


def test_pyserinis_object_is_read_with_its_keys_as_ids(tmp_path: Path) -> None:
    contexts = [
        {"docid": "12", "score": 3.5, "text": '"A Title"\nThe text.\n', "has_answer": True},
        {"docid": 13, "score": "2", "has_answer": False},
        {"docid": "14", "score": 1, "text": "One line."},
    ]
    record = {"question": "q", "answers": ["a"], "contexts": contexts}
    assert read(tmp_path / "a.json", json.dumps({"q7": record, "0": record})) == [
        DprResult(
            query_id,
            "q",
            ("a",),
            (
                DprHit("12", 3.5, "The text.\n", "A Title", True),
                DprHit("13", 2.0, None, "", False),
                DprHit("14", 1.0, "One line.", "", None),
            ),
        )
        for query_id in ("q7", "0")
    ]


def test_ids_of_questions_are_taken_where_the_first_has_one(tmp_path: Path) -> None:
    records = [{**DPR[1], "id": "x"}, {**DPR[1], "id": 5}]
    assert [each.query_id for each in read(tmp_path / "a", json.dumps(records))] == ["x", "5"]


def test_an_empty_array_has_no_questions(tmp_path: Path) -> None:
    assert read(tmp_path / "a", "[]\n") == []


@pytest.mark.parametrize("format", ["json", "jsonl"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(results=RESULTS)
def test_results_come_back_as_written(
    tmp_path: Path, format: Any, results: list[DprResult]
) -> None:
    write_dpr_results(tmp_path / "a", results, format=format)
    assert list(read_dpr_results(tmp_path / "a")) == results


def test_a_written_file_is_what_dprs_readers_expect(tmp_path: Path) -> None:
    write_dpr_results(tmp_path / "a", READ)
    whole = json.loads((tmp_path / "a").read_text(encoding="utf-8"))
    assert [{key: of[key] for key in DPR[0]} for of in whole] == DPR
    write_dpr_results(tmp_path / "a", READ, format="jsonl")
    lines = (tmp_path / "a").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == whole
    write_dpr_results(tmp_path / "a", [])
    assert json.loads((tmp_path / "a").read_text()) == []


def test_nothing_is_left_of_a_file_that_could_not_be_completed(tmp_path: Path) -> None:
    def broken() -> Iterator[DprResult]:
        yield READ[0]
        raise KeyError("gone")

    with pytest.raises(KeyError):
        write_dpr_results(tmp_path / "a", broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([READ[0], READ[0]], "must have ids of their own, found '0' twice"),
        ([READ[1]._replace(query_id="")], "must have ids of their own, found '' as one"),
        ([READ[1]._replace(hits=(DprHit("p", float("nan"), "x"),))], "a finite score"),
        ([READ[1]._replace(hits=(DprHit("", 1.0, "x"),))], "must have an id"),
        ([READ[1]._replace(hits=(DprHit("p", 1.0, None),))], "a text or has_answer"),
        ([READ[1]._replace(question="\ud800")], "must be Unicode text"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, results: list[DprResult], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        write_dpr_results(tmp_path / "a", results)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format \(trec\) must be one of json, jsonl"):
        write_dpr_results(tmp_path / "a", [], format="trec")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1]", "a:1: expected a JSON object, found 1 in record 1"),
        ('[{"question": "q"}]', r"a:1: expected the keys 'question', 'answers' and 'ctxs', found"),
        ('{"q": 1}', "a:1: expected the keys 'question', 'answers' and 'ctxs'"),
        ("q\t['a']\n", "a:1: expected .* truncated or no JSON"),
        (one(question=1), "expected a string in 'question', found 1 in record 1"),
        (one(answers="a"), "expected a list of strings in 'answers', found 'a' in record 1"),
        (one(answers=[1]), r"expected a list of strings in 'answers', found \[1\] in record 1"),
        (one(ctxs={}), "expected a list of passages in 'ctxs', found {} in record 1"),
        (one(ctxs=["p"]), "expected a passage as an object, found 'p' in passage 1 in record 1"),
        (one(ctxs=[{"id": "7"}]), "expected the keys 'id', 'score' and 'text'"),
        (one(text=None, has_answer=None), r"\(or 'has_answer' in its place\), found the keys"),
        (one(text=5), "expected a string in 'text', found 5 in passage 1 in record 1"),
        (one(title=5), "expected a string in 'title', found 5"),
        (one(id=""), "expected an id in 'id', found an empty one"),
        (one(id=[7]), r"expected a string or an integer in 'id', found \[7\]"),
        (one(score="high"), "expected a finite number as 'score', found 'high'"),
        (one(score="inf"), "expected a finite number as 'score', found 'inf'"),
        (one(score=None), "expected a finite number as 'score', found None"),
        (one(score=True), "expected a finite number as 'score', found True"),
        (one(has_answer="yes"), "expected true or false in 'has_answer', found 'yes'"),
        (one(score=float("nan")), "expected a JSON object, found"),
        (json.dumps([{**DPR[1], "id": 1}, DPR[1]]), "expected an id as in the first record, found"),
        (
            json.dumps([{**DPR[1], "id": 1}, {**DPR[1], "id": "1"}]),
            "expected an id that is new, found '1' in record 2, which record 1 has too",
        ),
        (
            "\n".join(json.dumps(each) for each in [*DPR, {"question": 1}]),
            "a:3: expected .* in record 3",
        ),
        (json.dumps(DPR)[:-9], "a:1: expected the end of .*, found the end of the file"),
        ('{"7": {"question": "q", "answers": [], "contexts": 1}}', "passages in 'contexts'"),
        (
            '{"": {"question": "q", "answers": [], "contexts": []}}',
            "an id as the key of a question",
        ),
    ],
)
def test_malformed_files_are_named_with_place_and_record(
    tmp_path: Path, content: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "a", content)


def test_a_missing_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: cannot be read"):
        read_dpr_results(tmp_path / "none")


@pytest.mark.parametrize("keyed", [False, True])
def test_memory_holds_a_question_and_not_the_file(tmp_path: Path, keyed: bool) -> None:
    hits = [{"id": str(n), "text": "x" * 600, "score": n} for n in range(100)]
    record = json.dumps({"question": "q", "answers": [], "ctxs": hits})
    path = tmp_path / "a"
    parts = (f'"{n}": {record}' if keyed else record for n in range(300))
    path.write_text(",\n".join(parts).join("{}" if keyed else "[]"), encoding="utf-8")
    tracemalloc.start()
    count = sum(len(each.hits) for each in read_dpr_results(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000
    assert peak < path.stat().st_size / 5
