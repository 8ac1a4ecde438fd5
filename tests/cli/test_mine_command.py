"""``rq mine`` as a user meets it, with the real model on four passages."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rocketrank.cli.mine_queries import selected
from rocketrank.training.lists import read_header, read_lists

from ..training.chat_server import chat_server, saying
from .conftest import Run

Completed = subprocess.CompletedProcess[str]
RunRq = Callable[..., Completed]
QUERIES = "q1\twho discovered penicillin\nq2\twhich animal lives in the sea\nq3\tunjudged\n"
QRELS = "q1 0 penicillin 1\nq1 0 whale 0\nq2 0 whale 1\n"


@pytest.fixture
def mining(tmp_path: Path) -> list[str]:
    """Options that name the queries, their judgements and the output."""
    (tmp_path / "queries.tsv").write_text(QUERIES, encoding="utf-8")
    (tmp_path / "qrels.txt").write_text(QRELS, encoding="utf-8")
    names = {"queries": "queries.tsv", "qrels": "qrels.txt", "output": "lists.jsonl"}
    return [word for name, file in names.items() for word in (f"--{name}", str(tmp_path / file))]


@pytest.mark.slow
def test_lists_are_written_with_a_report_beside_them(
    rq: RunRq, small_index: Path, mining: list[str], tmp_path: Path
) -> None:
    done = rq("mine", "--index", small_index, *mining, "--depth", "4", "--negatives", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lists = list(read_lists(tmp_path / "lists.jsonl"))
    assert [(each.query_id, each.candidates[0].id) for each in lists] == [
        ("q1", "penicillin"),
        ("q2", "whale"),
    ]
    assert all(len(each.negatives) == 2 for each in lists)
    assert "2  with a labelled positive: mined" in done.stdout
    assert f"Wrote 2 lists to {tmp_path / 'lists.jsonl'}" in done.stdout
    report = json.loads((tmp_path / "lists.report.json").read_bytes())
    assert report["queries"]["unjudged"] == 1
    header = read_header(tmp_path / "lists.jsonl")
    assert header is not None
    assert header.retriever.startswith("minilm (fingerprint ")


@pytest.mark.slow
def test_examples_are_printed_for_a_person_to_read(
    rq: RunRq, small_index: Path, mining: list[str]
) -> None:
    options = ("--depth", "4", "--negatives", "3", "--examples", "1")
    done = rq("mine", "--index", small_index, *mining, *options)
    lines = done.stdout.splitlines()
    place = lines.index("pool: left: negatives to draw from, and to denoise")
    assert lines[place + 1].strip() == "query q1: who discovered penicillin"
    assert lines[place + 2].strip().startswith("retriever:2 0.")


@pytest.mark.slow
def test_a_reranker_makes_hybrid_lists(
    rq: RunRq, small_index: Path, mining: list[str], shared_reference: Path, tmp_path: Path
) -> None:
    reranker = shared_reference / "tiny-bert-cross-encoder"
    options = ("--depth", "4", "--negatives", "3", "--reranker", reranker, "--low", "1")
    done = rq("mine", "--index", small_index, *mining, *options, "--high", "1", "--with-text")
    assert done.returncode == 0, done.stderr
    # With both limits at 1 every candidate is a denoised negative: each positive has both lists.
    lists = list(read_lists(tmp_path / "lists.jsonl"))
    assert [each.query_id for each in lists] == ["q1", "q1", "q2", "q2"]
    kinds = ["denoised" in each.negatives[0].source for each in lists]
    assert kinds == [False, True, False, True]
    assert lists[0].candidates[0].text == "Alexander Fleming discovered it in 1928."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--depth", "10", "--negatives", "11"), "negatives (11) must be at most 10"),
        (("--low", "0.2"), "--low (0.2) needs --reranker"),
        (("--lists", "denoised"), "lists (denoised) need a re-ranker"),
        (
            ("--reranker", "x", "--low", "0.9", "--high", "0.5"),
            "the limits low (0.9) and high (0.5)",
        ),
        (("--reranker", ""), "--reranker is empty"),
        (("--synthesize", "0"), "--synthesize (0) must be at least 1"),
        (("--synthesize", "5", "--kinds", "titel"), "kinds (titel) must be some of title"),
        (("--kinds", "title"), "--kinds needs --synthesize N"),
        (("--keep-unfound",), "--keep-unfound needs --synthesize N"),
        (("--endpoint", "http://x"), "--endpoint needs --synthesize N"),
        (
            ("--synthesize", "5", "--endpoint", "http://x"),
            "--endpoint (http://x) needs --endpoint-m",
        ),
        (("--synthesize", "5", "--endpoint-model", "m"), "--endpoint-model (m) needs --endpoint"),
        (("--synthesize", "5", "--kinds", "endpoint"), "--kinds (endpoint) needs --endpoint"),
        (
            (
                "--synthesize",
                "5",
                "--kinds",
                "title",
                "--endpoint",
                "http://x",
                "--endpoint-model",
                "m",
            ),
            "--kinds (title) leaves no use for --endpoint",
        ),
        (("--output", "-"), "output (-) must be a file"),
        (("--output", "no/folder/lists.jsonl"), "output (no/folder/lists.jsonl) is in a folder"),
    ],
)
def test_options_are_refused_before_anything_is_opened(
    rq: RunRq, mining: list[str], options: tuple[str, ...], sentence: str
) -> None:
    done = rq("mine", "--index", "nowhere", *mining, *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"rq: {sentence}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "nothing says which queries to mine for: name them with --queries"),
        (("--qrels", "q"), "--qrels (q) needs --queries"),
        (("--queries", "q"), "--queries (q) needs --qrels, their judgements; for queries that"),
        (("--queries", "q", "--synthesize", "9"), "--queries (q) needs --qrels"),
        (("--pseudo-positives", "--synthesize", "9"), "--pseudo-positives needs --queries"),
        (("--queries", ""), "--queries is empty"),
    ],
)
def test_options_that_leave_open_what_is_mined_for_are_refused(
    run: Run, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    done = run("mine", "--index", "nowhere", "--output", tmp_path / "lists.jsonl", *options)
    assert done.code == 2
    assert done.err.startswith(f"rq: {sentence}")


def test_queries_without_judgements_are_mined_for_pseudo_positives(
    mining: list[str], tmp_path: Path
) -> None:
    queries = str(tmp_path / "queries.tsv")
    alone = selected(queries, None, unjudged=True)
    assert alone is not None
    assert [(each.id, each.positives) for each in alone.queries] == [
        ("q1", ()),
        ("q2", ()),
        ("q3", ()),
    ]
    some = selected(queries, str(tmp_path / "qrels.txt"), unjudged=True)
    assert some is not None
    assert [each.positives for each in some.queries] == [("penicillin",), ("whale",), ()]
    assert selected(None, None, unjudged=False) is None


@pytest.mark.slow
def test_queries_are_made_where_there_are_none(
    rq: RunRq, small_index: Path, tmp_path: Path
) -> None:
    add = tmp_path / "more.jsonl"
    add.write_text(
        '{"_id": "kettle", "title": "How a kettle boils water", "text": "Fill it with water first '
        'and put it on the stove. Then wait until it sings, and pour the water into a pot."}\n'
    )
    index = tmp_path / "copy.index"
    shutil.copytree(small_index, index)
    assert rq("add", add, "--index", index).returncode == 0
    output = tmp_path / "made.jsonl"
    done = rq(
        *("mine", "--index", index, "--output", output, "--synthesize", "9", "--kinds", "title"),
        *("--depth", "4", "--negatives", "3", "--examples", "1"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "synthetic: title" in done.stdout.splitlines()
    (only,) = read_lists(output)
    assert (only.query_id, only.query) == ("title/kettle", "How a kettle boils water")
    assert {each.title for each in only.candidates} == {""}
    assert len(only.negatives) == 3


@pytest.mark.slow
def test_an_endpoint_writes_queries_for_whole_passages(
    rq: RunRq, small_index: Path, tmp_path: Path
) -> None:
    output = tmp_path / "written.jsonl"
    with chat_server(lambda asked, _: saying(f"who asks {len(asked.prompt)} things")) as (
        url,
        asked,
    ):
        done = rq(
            *("mine", "--index", small_index, "--output", output, "--synthesize", "12"),
            *("--endpoint", url, "--endpoint-model", "writer", "--kinds", "endpoint"),
            *("--depth", "4", "--negatives", "3"),
            RQ_ENDPOINT_KEY="secret-key",
            no_proxy="127.0.0.1",
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert asked[0].headers["authorization"] == "Bearer secret-key"
    lists = list(read_lists(output))
    assert {each.query_id for each in lists} <= {
        f"endpoint/{name}/0" for name in ("penicillin", "telephone", "bread", "whale")
    }
    assert {each.text for one in lists for each in one.candidates} == {None}
    assert "synthetic: endpoint" in done.stdout.splitlines()
    for file in tmp_path.iterdir():
        assert b"secret-key" not in file.read_bytes()


def test_lists_that_are_there_are_kept_unless_it_is_asked_otherwise(
    rq: RunRq, mining: list[str], tmp_path: Path
) -> None:
    (tmp_path / "lists.jsonl").write_text("precious\n")
    done = rq("mine", "--index", "nowhere", *mining)
    assert done.returncode == 2
    assert "lists.jsonl is there already: name another file, or use --overwrite" in done.stderr
    assert (tmp_path / "lists.jsonl").read_text() == "precious\n"
