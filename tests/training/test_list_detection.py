"""Telling the format of a file of lists, and refusing options that do not fit it."""

import io
import json
import sys
from pathlib import Path

import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.training.list_formats import (
    FORMAT_SHAPES,
    LIST_FORMATS,
    ListFormat,
    detect_list_format,
    open_lists,
    read_any_lists,
)


@pytest.mark.parametrize(
    ("sample", "format"),
    [
        (['{"lists": {"index": "i"}}'], "rocketrank"),
        (['{"query_id": "1", "query": "a", "candidates": []}'], "rocketrank"),
        (['{"question": "a", "positive_ctxs": []}'], "dpr"),
        (['{"query_id": "1", "query": "a", "positive_passages": []}'], "tevatron"),
        (['{"query": "a", "pos": ["b"], "neg": []}'], "flagembedding"),
        (['{"query_id": "1", "hits": []}'], "run"),
        (['{"_id": "1", "text": "a"}'], None),
        (['{"query": '], None),
        (["a b\t\tc d\t1", "a b\t\te f\t0"], "rocketqa"),
        (["板蓝根\t\t清热解毒\t1"], "rocketqa"),
        (["query\ttitle\tpara\tlabel", "a\t\tb c\t0"], "rocketqa"),
        (["a b\t\tc\t\td\t0"], "rocketqa"),
        (["a b\t\tc\t\td"], "rocketqa"),
        (["what is a\tit is b\tit is c"], "msmarco-triples"),
        (["什么\t清热\t解毒"], "msmarco-triples"),
        (["12\t700\t800", "12\t700\t801"], "msmarco-ids"),
        (["q1\td1\td2"], "msmarco-ids"),
        (["12\t700\t1\t0", "12\t800\t2\t1"], "candidates"),
        (["12\t0\t700\t1", "12\t0\t800\t1"], "qrels"),
        (["12 Q0 700 3", "12 Q0 800 0"], "qrels"),
        (["12 0 700 1"], "qrels"),
        (["query-id\tcorpus-id\tscore", "1\tb\t1"], "qrels"),
        (["12\t700\t1", "12\t800\t1"], "qrels"),
        (["12 Q0 700 1 9.5 bm25"], "run"),
        (["12\tQ0\t700\t1\t9.5\tbm25"], "run"),
        (["12\t700\t1", "12\t800\t2", "13\t800\t1"], "run"),
        (["12\t700\t1\t9.25", "12\t800\t2\t8.5"], "run"),
        (["a b\t\tc d\t1", "bad line", "a b\t\te f\t0"], "rocketqa"),
        (["12\t700\t800", "12\t700\t801", "a bad\tline\tof text"], "msmarco-ids"),
        (["12\t700\t1\t0", "12\t800\t2\t1", "12\t900\t3\tx"], "candidates"),
        (["12\ta text"], None),
        (["just a text"], None),
        (["one two three"], None),
        (["a b\tc\td\te"], None),
        (["a\tb c\td", "a\tb"], None),
    ],
)
def test_the_first_lines_tell_the_format(sample: list[str], format: ListFormat | None) -> None:
    assert detect_list_format(sample) == format


def test_every_format_has_a_shape_to_show() -> None:
    assert set(FORMAT_SHAPES) == set(LIST_FORMATS)


def test_an_unknown_file_is_answered_with_the_known_formats(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("7\ta passage\n")
    with pytest.raises(DataError, match=r"file:1: expected lists of a known format .*--format"):
        read_any_lists(tmp_path / "file")


def test_an_array_of_something_else_is_answered_with_the_known_formats(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('[{"text": "a passage"}]')
    with pytest.raises(DataError, match=r"file:1: expected lists of a known format"):
        read_any_lists(tmp_path / "file")


@pytest.mark.parametrize("content", ["", " []", "\n"])
def test_a_file_without_content_has_no_lists(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    assert list(read_any_lists(tmp_path / "file")) == []


def test_the_format_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("700\t1\t2\n")
    (tmp_path / "queries").write_text("700\twhy\n")
    opened = open_lists(tmp_path / "file", format="msmarco-ids", queries=tmp_path / "queries")
    assert opened.format == "msmarco-ids"
    assert [len(each.candidates) for each in opened.lists] == [2]


@pytest.mark.parametrize("format", ["dpr", "tevatron", "flagembedding"])
def test_an_array_of_a_named_format_is_read(tmp_path: Path, format: ListFormat) -> None:
    record = {
        "question": "why",
        "query": "why",
        "pos": ["so"],
        "positive_ctxs": ["so"],
        "positive_passages": ["so"],
    }
    (tmp_path / "file").write_text(json.dumps([record, record], indent=1))
    lists = list(read_any_lists(tmp_path / "file", format=format))
    assert [[one.text for one in each.positives] for each in lists] == [["so"], ["so"]]


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("why\t\tso\t1\n", {"format": "xml"}, r"format \(xml\) must be one of auto, rocketrank"),
        ("1\t70\t80\n", {}, r"format msmarco-ids holds ids of queries; .* with --queries"),
        ("1 0 70 1\n", {}, r"format qrels holds ids of queries"),
        ("1 Q0 70 1 9.5 b\n", {"queries": "file"}, r"a run does not say .* with --qrels"),
        ("why\t\tso\t1\n", {"qrels": "file"}, r"--qrels \(file\) is for lists with ids .*rocketqa"),
        ("1 0 70 1\n", {"qrels": "file"}, r"--qrels \(file\) is for lists .* format qrels"),
        ("why\t\tso\t1\n", {"queries": "none", "format": "candidates"}, r"none: cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_reading(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    options: dict[str, str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text(content)
    with pytest.raises(UsageError, match=sentence):
        open_lists("file", **options)  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: cannot be read"):
        open_lists(tmp_path / "none")


def standard_input(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    binary = io.BufferedReader(io.BytesIO(content.encode()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(binary))


@pytest.mark.parametrize(
    "content",
    ["why\t\tso\t1\n", '[{"question": "why", "positive_ctxs": ["so"]}]'],
    ids=["lines", "array"],
)
def test_standard_input_is_told_and_read(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    standard_input(monkeypatch, content)
    [each] = read_any_lists("-")
    assert (each.query, each.candidates[0].text) == ("why", "so")


def test_a_run_from_standard_input_needs_its_format(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "queries").write_text("1\twhy\n")
    (tmp_path / "qrels").write_text("1 0 80 1\n")
    queries, qrels = tmp_path / "queries", tmp_path / "qrels"
    run = "1 Q0 70 1 9.5 bm25\n"
    standard_input(monkeypatch, run)
    with pytest.raises(UsageError, match=r"<stdin>: a pipe is read once; .*--format run"):
        read_any_lists("-", queries=queries, qrels=qrels)
    standard_input(monkeypatch, run)
    [each] = read_any_lists("-", format="run", queries=queries, qrels=qrels)
    assert [one.id for one in each.candidates] == ["80", "70"]
