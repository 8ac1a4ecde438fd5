"""``rq lists``: files of other tools in, lists and a summary out."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner, Result

from rocketrank.cli.lists import lists
from rocketrank.errors import DataError, UsageError
from rocketrank.training.list_formats import LIST_FORMATS
from rocketrank.training.lists import (
    Candidate,
    ListsHeader,
    RankingList,
    read_header,
    read_lists,
    write_lists,
)

Run = Callable[..., Result]
CANDIDATES = "1\t70\t1\t0\n1\t80\t2\t1\n2\t70\t1\t0\n3\t70\t1\t1\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queries").write_text("1\twhy\n2\twhat\n3\twho\n")
    (tmp_path / "candidates").write_text(CANDIDATES)
    app = typer.Typer()
    app.command()(lists)

    def running(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(app, ["--output", "lists.jsonl", *arguments], **options)

    return running


def test_every_format_can_be_named() -> None:
    choice, _option = get_args(get_type_hints(lists, include_extras=True)["format"])
    assert get_args(choice) == ("auto", *LIST_FORMATS)


def test_the_summary_counts_what_was_written_and_left_out(run: Run) -> None:
    done = run("candidates", "--queries", "queries")
    assert done.stdout.splitlines() == [
        "Wrote lists.jsonl: 1 list of 1 query, 1 positive, 1 negative.",
        "Left out 1 list without a positive.",
        "Left out 1 list of a single candidate.",
        "Sources: bm25 2.",
    ]
    assert list(read_lists("lists.jsonl")) == [
        RankingList(
            "1", "why", (Candidate("80", 1, source="bm25:2"), Candidate("70", 0, source="bm25:1"))
        )
    ]


def test_several_files_of_several_formats_become_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.gz").write_bytes(gzip.compress(b"why not\t\tso\t1\nwhy not\t\tno\t0\n"))
    record = {"query_id": 1, "query": "why", "positive_passages": ["so"]}
    (tmp_path / "records").write_text(json.dumps({**record, "negative_passages": ["no", "nay"]}))
    done = run("candidates", "pairs.gz", "records", "--queries", "queries")
    assert done.stdout.splitlines()[0] == (
        "Wrote lists.jsonl: 3 lists of 2 queries, 3 positives, 4 negatives."
    )
    assert done.stdout.splitlines()[-1] == (
        "Sources: bm25 2, rocketqa 2, tevatron:negative_passages 2, tevatron:positive_passages 1."
    )


def test_judgements_alone_keep_lists_that_wait_for_negatives(run: Run, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 80 1\n2 0 70 0\n")
    assert run("qrels", "--queries", "queries").stdout.splitlines() == [
        "Wrote lists.jsonl: 1 list of 1 query, 1 positive, 0 negatives.",
        "Left out 1 list without a positive.",
        "Sources: qrels 1.",
    ]


def test_a_run_is_joined_with_judgements(run: Run, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 80 1\n")
    (tmp_path / "run").write_text("1 Q0 70 1 9.5 tag\n1 Q0 80 2 8.5 tag\n")
    run("run", "--qrels", "qrels", "--queries", "queries")
    [each] = read_lists("lists.jsonl")
    assert [(one.id, one.label, one.source) for one in each.candidates] == [
        ("80", 1, "qrels"),
        ("70", 0, "run:1"),
    ]


@pytest.mark.parametrize(
    ("second", "kept"),
    [(ListsHeader("f00", "wiki"), ListsHeader("f00", "wiki")),
     (ListsHeader("f00", "web"), ListsHeader("f00")), (None, None)],
)  # fmt: skip
def test_headers_keep_what_they_agree_on(
    run: Run, second: ListsHeader | None, kept: ListsHeader | None
) -> None:
    each = RankingList("1", "why", (Candidate("a", 1), Candidate("b", 0)))
    write_lists("first", [each], ListsHeader("f00", "wiki"))
    write_lists("second", [each], second)
    assert run("first", "second").exit_code == 0
    assert read_header("lists.jsonl") == kept


def test_lists_from_standard_input_are_told_by_their_content(run: Run) -> None:
    done = run("-", "--queries", "queries", input=CANDIDATES)
    assert done.stdout.startswith("Wrote lists.jsonl: 1 list")


def test_a_file_from_which_nothing_can_be_learnt_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "candidates").write_text("2\t70\t1\t0\n3\t70\t1\t1\n")
    done = run("candidates", "--queries", "queries")
    assert isinstance(done.exception, DataError)
    assert str(done.exception) == (
        "candidates: expected lists with a positive and another candidate, found 1 list without a "
        "positive; 1 list of a single candidate"
    )
    assert not (tmp_path / "lists.jsonl").exists()


def test_a_bad_line_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    (tmp_path / "candidates").write_text(CANDIDATES + "1\t70\n")
    done = run("candidates", "--queries", "queries")
    assert "candidates:5: expected 4 fields" in str(done.exception)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["candidates"], "candidates: format candidates holds ids of queries"),
        (["candidates", "--queries", ""], "--queries is empty"),
        (["candidates", "--output", "."], "--output (.) is a folder"),
        (["candidates", "--output", "no/lists"], "--output (no/lists) is in a folder that does"),
        (["candidates", "--output", "-"], "--output (-) must be a file"),
        (["-", "-"], "standard input (-) can be read only once"),
        (["none"], "none: cannot be read"),
    ],
)
def test_wrong_usage_is_refused_in_words(run: Run, arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, UsageError)
    assert sentence in str(done.exception)
