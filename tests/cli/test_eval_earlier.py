"""``rq eval`` with results of earlier evaluations, and the texts beside results."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run

QRELS = "q1 0 a 1\nq1 0 b 0\nq2 0 c 1\nq3 0 d 1\n"
GOOD = "q1 Q0 a 1 3.0 x\nq1 Q0 b 2 2.0 x\nq2 Q0 c 1 3.0 x\nq2 Q0 a 2 2.0 x\n"
POOR = "q1 Q0 b 1 3.0 x\nq1 Q0 a 2 2.0 x\nq2 Q0 a 1 3.0 x\nq2 Q0 c 2 2.0 x\n"
CORPUS = "id\ttext\ttitle\na\tapples are red\tA\nb\tbananas are bent\tB\n"


@pytest.fixture
def rq_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_eval: Run) -> Run:
    """``rq eval`` in a folder with runs, judgements, and the earlier results good.json."""
    files = {"qrels": QRELS, "good.trec": GOOD, "poor.trec": POOR, "corpus.tsv": CORPUS}
    files["other"] = QRELS.replace("q1 0 b 0", "q1 0 b 1")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)

    own_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--output", "good.json")
    return own_eval


COMPARED = ("good.json", "poor.trec", "-m", "MRR@10", "--baseline", "good")


def test_a_comparison_across_judgements_is_refused(rq_eval: Run) -> None:
    done = rq_eval(*COMPARED, "--qrels", "other")
    assert done.code == 2
    assert "judgements other (sha256 " in done.err
    assert "judgements qrels (sha256 " in done.err
    assert "give both runs with one --qrels" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--order", "rank"), "order rank"),
        (("--missing", "skip"), "missing skip"),
        (("--drop-self",), "drop-self on"),
    ],
)
def test_a_comparison_across_options_is_refused(
    rq_eval: Run, options: tuple[str, ...], said: str
) -> None:
    done = rq_eval(*COMPARED, "--qrels", "qrels", *options)
    assert done.code == 2
    assert said in done.err


def test_the_same_judgements_in_another_file_can_be_compared(rq_eval: Run) -> None:
    Path("sorted").write_text("".join(sorted(QRELS.splitlines(True), reverse=True)))
    assert rq_eval(*COMPARED, "--qrels", "sorted").code == 0


def test_without_a_baseline_other_judgements_are_a_note(rq_eval: Run) -> None:
    done = rq_eval("good.json", "poor.trec", "-m", "MRR@10", "--qrels", "other")
    assert done.code == 0
    assert "their figures cannot be compared" in done.err


def test_results_of_two_conditions_keep_their_own(rq_eval: Run) -> None:
    given = ("good.json", "poor.trec", "-m", "MRR@10", "--qrels", "other")
    rq_eval(*given, "--output", "both.json")
    done = rq_eval("both.json", "--baseline", "good")
    assert done.code == 2
    assert "judgements other (sha256 " in done.err


def test_another_name_of_a_measure_is_found_in_earlier_results(rq_eval: Run) -> None:
    done = rq_eval("good.json", "-m", "RR@10")
    assert done.code == 0
    assert done.out.split() == ["system", "RR@10", "good", "0.6667"]


def test_compressed_results_are_results(rq_eval: Run) -> None:
    Path("packed.json.gz").write_bytes(gzip.compress(Path("good.json").read_bytes()))
    assert rq_eval("packed.json.gz").out == rq_eval("good.json").out


def test_an_ending_in_capitals_is_the_ending(rq_eval: Run) -> None:
    done = rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--output", "AGAIN.JSON")
    assert done.code == 0
    assert Path("AGAIN.JSON").read_text() == Path("good.json").read_text()


def test_a_text_that_is_missing_is_left_out_with_one_note(rq_eval: Run) -> None:
    given = ("good.trec", "poor.trec", "--qrels", "qrels", "--passages", "corpus.tsv")
    done = rq_eval(*given, "--output", "page.html")
    assert done.code == 0
    assert done.err.count("have no text in corpus.tsv (such as c)") == 1
    assert "apples are red" in Path("page.html").read_text(encoding="utf-8")


def test_a_corpus_that_cannot_be_read_ends_no_evaluation(rq_eval: Run) -> None:
    Path("broken.jsonl").write_text("{\n")
    given = ("good.trec", "--qrels", "qrels", "--passages", "broken.jsonl")
    done = rq_eval(*given, "--output", "page.html")
    assert done.code == 0
    assert "broken.jsonl:1" in done.err


def test_passages_are_not_read_where_nothing_shows_them(rq_eval: Run) -> None:
    Path("broken.jsonl").write_text("{\n")
    done = rq_eval("good.trec", "--qrels", "qrels", "--passages", "broken.jsonl")
    assert done.code == 0
    assert "broken" not in done.err


def test_passages_that_do_not_exist_are_refused_at_once(rq_eval: Run) -> None:
    done = rq_eval("good.trec", "--qrels", "qrels", "--passages", "none.tsv")
    assert (done.code, done.out) == (2, "")


def test_changed_queries_have_the_texts_of_passages(rq_eval: Run) -> None:
    given = ("good.trec", "poor.trec", "--qrels", "qrels", "--baseline", "good")
    done = rq_eval(*given, "--passages", "corpus.tsv", "--changed", "1")
    assert "bananas are bent" in done.out


def test_the_corpus_of_a_data_set_gives_a_page_its_texts(rq_eval: Run) -> None:
    Path("scifact/qrels").mkdir(parents=True)
    record = {"_id": "a", "title": "", "text": "apples are red"}
    Path("scifact/corpus.jsonl").write_text(json.dumps(record) + "\n")
    Path("scifact/queries.jsonl").write_text('{"_id": "q1", "text": "which fruit"}\n')
    Path("scifact/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    Path("one.trec").write_text("q1 Q0 a 1 3.0 x\n")
    done = rq_eval("one.trec", "--dataset", "scifact", "--data", "scifact", "--output", "p.html")
    assert done.code == 0, done.err
    assert "apples are red" in Path("p.html").read_text(encoding="utf-8")


def test_retrieval_results_of_dpr_bring_their_texts(rq_eval: Run) -> None:
    hit = {"id": "1", "title": "", "text": "Fleming did, in London.", "score": "9"}
    record = {"question": "who found penicillin", "answers": ["Fleming"], "ctxs": [hit]}
    Path("dpr.json").write_text(json.dumps([record]))
    done = rq_eval("dpr.json", "--preset", "nq", "--output", "page.html")
    assert done.code == 0, done.err
    page = Path("page.html").read_text(encoding="utf-8")
    assert "in London" in page
    assert "who found penicillin" in page


def test_a_run_with_blanks_in_its_ids_is_evaluated(rq_eval: Run) -> None:
    Path("blanks.tsv").write_text("q 1\ta b\t1\n")
    Path("blanks.qrels").write_text("query-id\tcorpus-id\tscore\nq 1\ta b\t1\n")
    done = rq_eval("blanks.tsv", "--qrels", "blanks.qrels", "-m", "MRR@10")
    assert "1.0000" in done.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_named(rq_eval: Run, unbuffered: str) -> None:
    command = [sys.executable, "-m", "rocketrank", "eval", "good.json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rq: No space left on device: standard output")
