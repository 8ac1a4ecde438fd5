"""Reading and writing runs."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data import RunEntry, read_run, write_run
from rocketrank.errors import DataError, RocketRankError, UsageError

Read = Callable[..., list[RunEntry]]
WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)
SCORE = st.floats(allow_nan=False, allow_infinity=False)
RUN = st.lists(st.tuples(WORD, WORD, SCORE), max_size=12)
ENTRIES = [RunEntry("q1", "p2", 1, 2.5), RunEntry("q1", "p1", 2, -1.0), RunEntry("q2", "p1", 1, 0)]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(content: str, **options: Any) -> list[RunEntry]:
        path = tmp_path / "run"
        path.write_text(content, encoding="utf-8", newline="")
        return list(read_run(path, **options))

    return reader


@pytest.mark.parametrize("system", ["bm25", "bm25_rm3", "d_bert_kd_tasb", "open_ai_ada2"])
def test_real_runs_are_rewritten_to_the_byte(
    shared_data: Path, tmp_path: Path, system: str
) -> None:
    path = shared_data / "msmarco" / "runs" / f"dl19.{system}.trec"
    entries = list(read_run(path))
    assert len(entries) == 4_300
    write_run(tmp_path / "run", entries, format="trec", tag=system)
    assert (tmp_path / "run").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("format", ["trec", "jsonl"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUN)
def test_entries_come_back_as_written(
    tmp_path: Path, format: Any, run: list[tuple[str, str, float]]
) -> None:
    entries = [
        RunEntry(query_id, passage_id, rank, score)
        for rank, (query_id, passage_id, score) in enumerate(sorted(run), 1)
    ]
    write_run(tmp_path / "run", entries, format=format)
    assert list(read_run(tmp_path / "run")) == entries


def test_neighbouring_float32_scores_stay_apart(tmp_path: Path) -> None:
    high = np.float32(0.7)
    low = np.nextafter(high, np.float32(0))
    entries = [RunEntry("q", "a", 1, high.item()), RunEntry("q", "b", 2, low.item())]
    write_run(tmp_path / "run", entries)
    assert [np.float32(entry.score) for entry in read_run(tmp_path / "run")] == [high, low]


def test_numpy_ranks_and_scores_are_written_as_numbers(tmp_path: Path) -> None:
    entries = [RunEntry("q", "a", np.int64(1), np.float32(0.5))]  # type: ignore[arg-type]
    for format in ("trec", "jsonl"):
        write_run(tmp_path / "run", entries, format=format)
        assert list(read_run(tmp_path / "run")) == [RunEntry("q", "a", 1, 0.5)]


def test_trec_lines_have_six_columns(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ENTRIES, format="trec", tag="mine")
    assert (tmp_path / "run").read_text() == (
        "q1 Q0 p2 1 2.5 mine\nq1 Q0 p1 2 -1.0 mine\nq2 Q0 p1 1 0.0 mine\n"
    )


def test_msmarco_lines_have_three_columns_and_no_score(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ENTRIES, format="msmarco")
    assert (tmp_path / "run").read_text() == "q1\tp2\t1\nq1\tp1\t2\nq2\tp1\t1\n"
    assert [entry.score for entry in read_run(tmp_path / "run")] == [1.0, 0.5, 1.0]


def test_json_lines_have_one_line_a_query_and_its_text(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ENTRIES, format="jsonl", queries={"q1": "one?"})
    lines = [orjson.loads(line) for line in (tmp_path / "run").read_bytes().splitlines()]
    assert lines[0] == {
        "query_id": "q1",
        "query": "one?",
        "hits": [{"id": "p2", "rank": 1, "score": 2.5}, {"id": "p1", "rank": 2, "score": -1.0}],
    }
    assert lines[1] == {"query_id": "q2", "hits": [{"id": "p1", "rank": 1, "score": 0.0}]}


def test_rocketqa_results_have_a_score_in_the_fourth_column(read: Read) -> None:
    assert read("q1\tp1\t1\t71.5\n") == [RunEntry("q1", "p1", 1, 71.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 p 1 nan t\n", ":1: expected a finite score, found 'nan'"),
        ("q Q0 p 1 -inf t\n", ":1: expected a finite score, found '-inf'"),
        ("q Q0 p 1 1.0 t\nq Q0 p 2 high t\n", ":2: expected a number as score, found 'high'"),
        ("q Q0 p 1.5 1.0 t\n", ":1: expected a whole number as rank, found '1.5'"),
        ("q Q0 p 1 1.0 t\nq Q0 p 2 1.0\n", ":2: expected 6 columns .* found 5: "),
        ("q\tp\t0\n", ":1: expected ranks from 1"),
        ("q\tp\t1\nq\tp\n", ":2: expected 3 or 4 columns"),
        ("q\n", ":1: expected a run "),
        ('{"query_id": "q"}\n', ":1: expected the keys 'query_id' and 'hits'"),
        ('{"query_id": "q", "hits": [{"id": "p"}]}\n', "expected hits with 'id', 'rank'"),
        (
            '{"query_id": "q", "hits": [{"id": "p", "rank": 1, "score": null}]}\n',
            "expected a finite number as 'score', found None",
        ),
    ],
)
def test_a_bad_line_says_where_and_what_is_wrong(read: Read, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


@pytest.mark.parametrize(
    ("entry", "format", "message"),
    [
        (RunEntry("q", "p 1", 1, 1.0), "trec", "the id 'p 1' has a blank"),
        (RunEntry("q\u00a01", "p", 1, 1.0), "trec", "has a blank"),
        (RunEntry("q", "p\t1", 1, 1.0), "msmarco", "has a blank, a tab"),
        (RunEntry("q", "", 1, 1.0), "jsonl", "must have both ids"),
        (RunEntry("q", "p", 1, math.nan), "trec", "must be finite"),
        (RunEntry("q", "p", 1, math.inf), "jsonl", "must be finite"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(
    tmp_path: Path, entry: RunEntry, format: Any, message: str
) -> None:
    path = tmp_path / "run"
    path.write_text("what was here before")
    with pytest.raises(UsageError, match=message):
        write_run(path, [RunEntry("a", "b", 1, 1.0), entry], format=format)
    assert path.read_text() == "what was here before"
    assert list(tmp_path.iterdir()) == [path]


def test_json_lines_need_the_entries_of_a_query_together(tmp_path: Path) -> None:
    entries = [ENTRIES[0], ENTRIES[2], ENTRIES[1]]
    with pytest.raises(UsageError, match="'q1' must follow one another"):
        write_run(tmp_path / "run", entries, format="jsonl")


def test_a_tag_with_blanks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tag \('my run'\) must be one word"):
        write_run(tmp_path / "run", ENTRIES, tag="my run")


def test_the_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def entries() -> Iterator[RunEntry]:
        for entry in ENTRIES:
            assert not path.exists()
            yield entry

    write_run(path, entries())
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    write_run(tmp_path / "link", ENTRIES)
    assert (tmp_path / "link").is_symlink()
    assert len(list(read_run(tmp_path / "target"))) == 3


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=write_run, args=(path, ENTRIES))
    writer.start()
    assert len(path.read_text().splitlines()) == 3
    writer.join()
    assert path.is_fifo()


@pytest.mark.parametrize("name", ["missing/run", "."])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RocketRankError, match="cannot be written"):
        write_run(tmp_path / name, ENTRIES)


def test_a_full_disk_is_said_in_words() -> None:
    with pytest.raises(RocketRankError, match=r"/dev/full: cannot be written \(No space left"):
        write_run("/dev/full", ENTRIES)


def test_an_error_of_the_search_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    def failing() -> Iterator[RunEntry]:
        yield ENTRIES[0]
        raise OSError("the index is gone")

    with pytest.raises(OSError, match="the index is gone"):
        write_run(tmp_path / "run", failing())
    assert list(tmp_path.iterdir()) == []


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_run("-", ENTRIES, format="msmarco")
    assert capsys.readouterr().out == "q1\tp2\t1\nq1\tp1\t2\nq2\tp1\t1\n"


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format \(csv\) must be one of auto, trec, msmarco"):
        read_run(tmp_path, format="csv")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"format \(auto\) must be one of trec, msmarco, jsonl"):
        write_run(tmp_path / "run", [], format="auto")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ids", [("q 1", "a b"), ("q", "a b c d"), ("q 1", "a"), ("a b c", "d e f")]
)
def test_ids_with_blanks_come_back_from_msmarcos_format(
    tmp_path: Path, ids: tuple[str, str]
) -> None:
    path = tmp_path / "run.tsv"
    write_run(path, [RunEntry(*ids, 1, 1.0)], format="msmarco")
    assert list(read_run(path)) == [RunEntry(*ids, 1, 1.0)]


def test_a_line_of_trec_with_blanks_and_tabs_is_still_trec(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q1 Q0 a\t1\t3.0 x\n")
    assert list(read_run(path)) == [RunEntry("q1", "a", 1, 3.0)]
