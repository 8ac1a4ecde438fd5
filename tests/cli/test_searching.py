"""Searching from the command line, with the real model on four passages."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rocketrank.data.runs import read_run
from rocketrank.model_settings import folder_settings, save_settings

Completed = subprocess.CompletedProcess[str]
RunRq = Callable[..., Completed]
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

QUERIES = "q1\twho discovered penicillin\nq2\twhich animal lives in the sea\n"


def at_a_terminal(*arguments: str | Path, typed: str = "", **environment: str) -> tuple[int, str]:
    """Run ``rq`` on a pseudo-terminal, type, and give its exit code and what stood on it."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.environ.update({"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", **environment})
        command = [sys.executable, "-m", "rocketrank", *map(str, arguments)]
        os.execv(command[0], command)
    shown = b""
    for line in typed.splitlines(keepends=True):
        while not shown.rstrip().endswith(b"rq>"):
            shown += os.read(terminal, 4096)
        os.write(terminal, line.encode())
        shown += b"\n"
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_the_best_passage_comes_first_with_its_title(rq: RunRq, small_index: Path) -> None:
    done = rq("search", "who discovered penicillin", "--index", small_index, "--k", "2")
    assert done.returncode == 0
    first, passage, second, *_ = done.stdout.splitlines()
    assert first.split()[0] == "1"
    assert first.endswith("Penicillin  penicillin")
    assert passage.strip() == "Alexander Fleming discovered it in 1928."
    assert second.split()[0] == "2"


def test_json_has_every_field_of_a_hit(rq: RunRq, small_index: Path) -> None:
    done = rq("search", "who discovered penicillin", "--index", small_index, "--json")
    answer = json.loads(done.stdout)
    assert answer["query"] == "who discovered penicillin"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4]
    best = answer["hits"][0]
    assert best["id"] == "penicillin"
    assert best["text"] == "Alexander Fleming discovered it in 1928."
    assert best["score"] == best["retriever_score"]
    assert best["reranker_score"] is None


def test_a_file_of_queries_becomes_a_trec_run(rq: RunRq, small_index: Path, tmp_path: Path) -> None:
    queries, run = tmp_path / "queries.tsv", tmp_path / "run.trec"
    queries.write_text(QUERIES, encoding="utf-8")
    done = rq("search", "--queries", queries, "--index", small_index, "--output", run, "--k", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    entries = list(read_run(run))
    assert [(entry.query_id, entry.rank) for entry in entries] == [
        (query, rank) for query in ("q1", "q2") for rank in (1, 2, 3)
    ]
    assert [entry.passage_id for entry in entries if entry.rank == 1] == ["penicillin", "whale"]


def test_queries_from_standard_input_go_to_standard_output(rq: RunRq, small_index: Path) -> None:
    options = ("--index", small_index, "--k", "1", "--format", "msmarco")
    done = rq("search", "--queries", "-", *options, stdin=QUERIES)
    assert done.stdout == "q1\tpenicillin\t1\nq2\twhale\t1\n"


def test_a_reader_that_leaves_early_is_no_failure_worth_words(small_index: Path) -> None:
    command = [sys.executable, "-m", "rocketrank", "search", "x", "--index", str(small_index)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


def test_the_prompt_answers_until_an_empty_line(small_index: Path) -> None:
    code, shown = at_a_terminal(
        "search", "--index", small_index, "--k", "1", typed="penicillin\nanimal in the sea\n\n"
    )
    assert code == 0
    assert "Alexander" in shown
    assert "mammal" in shown


def test_words_of_the_query_are_bold_on_a_terminal_unless_refused(small_index: Path) -> None:
    arguments = ("search", "who discovered penicillin", "--index", small_index, "--k", "1")
    assert "\x1b[1mdiscovered\x1b[0m" in at_a_terminal(*arguments)[1]
    assert "\x1b[1m" not in at_a_terminal(*arguments, NO_COLOR="1")[1]


def test_an_interruption_is_a_word_and_exit_code_130(small_index: Path) -> None:
    command = [sys.executable, "-m", "rocketrank", "index", "-", "--index", "never.index"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command,
        env=environment,
        cwd=small_index.parent,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores interruptions, and what it starts inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{number}\ta passage\n" for number in range(100)))
        process.stdin.flush()  # and left open: the build waits for more passages
        deadline = time.monotonic() + 60
        while not (small_index.parent / "never.index").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.splitlines()[-1] == "rq: interrupted"
    assert "Traceback" not in complaint


def test_indexing_says_what_it_made_and_what_to_type_next(rq: RunRq, tmp_path: Path) -> None:
    (tmp_path / "corpus.tsv").write_text("p1\tone passage\np2\tanother one\n", encoding="utf-8")
    place = tmp_path / "new.index"
    done = rq("index", tmp_path / "corpus.tsv", "--index", place)
    assert done.returncode == 0
    assert "2 passages" in done.stdout
    assert "flat" in done.stdout
    assert f'rq search "…" --index {place}' in done.stdout


def test_an_index_is_not_replaced_unless_told_so(rq: RunRq, small_index: Path) -> None:
    corpus = small_index.parent / "corpus.jsonl"
    done = rq("index", corpus, "--index", small_index)
    assert done.returncode in (1, 2)
    assert "--overwrite" in done.stderr


def test_info_tells_passages_and_model(rq: RunRq, small_index: Path) -> None:
    told = json.loads(rq("info", small_index, "--json").stdout)
    assert told["passages"] == 4
    assert told["model"] == "minilm"
    assert "  passages   4\n" in rq("info", small_index).stdout


def test_doctor_finds_nothing_missing_where_these_tests_run(rq: RunRq) -> None:
    done = rq("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["ok"] is True
    assert {"rocketrank", "python", "processor"} <= report["system"].keys()


def test_a_run_can_be_written_into_a_pipe_by_its_name(rq: RunRq, small_index: Path) -> None:
    options = ["--queries", "-", "--index", small_index, "--k", "1"]
    plain = rq("search", *options, stdin="q1\tcats\n")
    named = rq("search", *options, "--output", "/dev/stdout", stdin="q1\tcats\n")
    assert named.returncode == 0
    assert named.stdout == plain.stdout != ""


def test_characters_that_the_terminal_lacks_are_no_failure(rq: RunRq, tmp_path: Path) -> None:
    (tmp_path / "corpus.tsv").write_text("p1\tcafé 東京\n", encoding="utf-8")
    made = rq("index", tmp_path / "corpus.tsv", "--index", tmp_path / "i", PYTHONIOENCODING="ascii")
    assert made.returncode == 0
    found = rq("search", "coffee", "--index", tmp_path / "i", PYTHONIOENCODING="ascii")
    assert (found.returncode, "caf\\xe9" in found.stdout) == (0, True)


def test_a_closed_standard_input_is_an_empty_one(small_index: Path) -> None:
    command = f"exec {sys.executable} -m rocketrank search --queries - --index {small_index} <&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "holds no query" in done.stderr


@pytest.fixture(scope="module")
def fused_reranker(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder whose rocketrank.json keeps the weight 8."""
    folder = tmp_path_factory.mktemp("fused") / "reranker"
    shutil.copytree(shared_reference / "tiny-bert-cross-encoder", folder)
    save_settings(folder, replace(folder_settings(folder), fusion=8.0))
    return folder


@pytest.mark.parametrize("fuse", ["8", "auto"])
def test_the_score_is_fused_where_asked(
    rq: RunRq, small_index: Path, fused_reranker: Path, fuse: str
) -> None:
    options = ("--index", small_index, "--reranker", fused_reranker, "--fuse", fuse, "--json")
    hits = json.loads(rq("search", "who discovered penicillin", *options).stdout)["hits"]
    assert len(hits) == 4
    for hit in hits:
        assert hit["score"] == pytest.approx(hit["reranker_score"] + 8 * hit["retriever_score"])


def test_a_run_holds_the_fused_scores(
    rq: RunRq, small_index: Path, fused_reranker: Path, tmp_path: Path
) -> None:
    options = ("--index", small_index, "--reranker", fused_reranker, "--precision", "fp32")
    asked = ("--queries", "-", "--output", tmp_path / "run.trec", "--fuse", "1000")
    done = rq("search", *asked, *options, stdin=QUERIES)
    assert done.returncode == 0, done.stderr
    entries = [entry for entry in read_run(tmp_path / "run.trec") if entry.query_id == "q1"]
    plain = rq("search", QUERIES.split("\t")[1].split("\n")[0], *options, "--json").stdout
    for hit in json.loads(plain)["hits"]:
        (score,) = [entry.score for entry in entries if entry.passage_id == hit["id"]]
        fused = hit["reranker_score"] + 1000 * hit["retriever_score"]
        assert score == pytest.approx(fused, abs=1e-2)


def test_auto_without_a_kept_weight_is_refused_before_the_prompt(
    rq: RunRq, small_index: Path, shared_reference: Path
) -> None:
    reranker = shared_reference / "tiny-bert-cross-encoder"
    done = rq("search", "x", "--index", small_index, "--reranker", reranker, "--fuse", "auto")
    assert done.returncode == 2
    assert "keeps no weight: give a number" in done.stderr
    code, shown = at_a_terminal(
        "search", "--index", small_index, "--reranker", reranker, "--fuse", "auto"
    )
    assert code == 2
    assert "rq>" not in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fuse", "2"], "--fuse (2) needs --reranker"),
        (["--fuse", "auto"], "--fuse (auto) needs --reranker"),
        (["--reranker", "m", "--fuse", ""], "--fuse is empty"),
        (["--reranker", "m", "--fuse", "much"], "--fuse (much) must be auto or a finite number"),
        (["--reranker", "m", "--fuse", "-1"], "fuse (-1.0) must be"),
        (["--reranker", "m", "--fuse", "nan"], "fuse (nan) must be"),
        (["--reranker", "m", "--fuse", "inf"], "fuse (inf) must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_fused_is_one_sentence_and_exit_code_2(
    rq: RunRq, options: list[str], words: str
) -> None:
    done = rq("search", "x", "--index", "i", *options)
    (line,) = done.stderr.splitlines()
    assert words in line
    assert done.returncode == 2
