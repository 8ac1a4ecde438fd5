"""``rq eval`` as it is typed: figures, comparisons, files, and sentences for what is wrong."""

import io
import json
import re
from pathlib import Path

import pytest

from rocketrank.data import read_dpr_results
from rocketrank.eval import read_per_query_tsv, read_results

from .conftest import Done, Run

DL19 = {
    "dl19.bm25": "0.5058",
    "dl19.bm25_rm3": "0.5216",
    "dl19.d_bert_kd_tasb": "0.7210",
    "dl19.open_ai_ada2": "0.7035",
    "dl19.splade_p_p_ensemble_distil": "0.7308",
}
QRELS = "q1 0 a 1\nq1 0 b 0\nq2 0 c 1\nq3 0 d 1\n"
GOOD = "q1 Q0 a 1 3.0 x\nq1 Q0 b 2 2.0 x\nq2 Q0 c 1 3.0 x\nq2 Q0 a 2 2.0 x\n"
POOR = "q1 Q0 b 1 3.0 x\nq1 Q0 a 2 2.0 x\nq2 Q0 a 1 3.0 x\nq2 Q0 c 2 2.0 x\n"
QUESTIONS = "who found penicillin\t['Alexander Fleming']\nwhere is Paris\t['France']\n"
PASSAGES = (
    "id\ttext\ttitle\n1\tFound by alexander FLEMING in 1928.\tPenicillin\n2\tA city.\tFrance\n"
)


@pytest.fixture
def rq_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_eval: Run) -> Run:
    """``rq eval`` in this process, in a folder with two runs, judgements, questions, passages."""
    files = {"qrels": QRELS, "good.trec": GOOD, "poor.trec": POOR}
    files |= {"nq.qa.csv": QUESTIONS, "psgs.tsv": PASSAGES}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "0.qrels").write_text("0 0 1 1\n")
    monkeypatch.chdir(tmp_path)

    return own_eval


def refused(done: Done) -> str:
    """The one sentence of a command that did nothing."""
    assert done.code in (1, 2)
    assert done.out == ""
    assert done.err.count("\n") == 1
    return done.err


def test_the_published_figures_of_trec_dl_2019_come_out(rq_eval: Run, shared_data: Path) -> None:
    folder = shared_data / "msmarco"
    runs = [folder / "runs" / f"{name}.trec" for name in DL19]
    done = rq_eval(*runs, "--qrels", folder / "qrels.dl19.txt", "--preset", "dl")
    rows = dict(line.split()[:2] for line in done.out.splitlines()[1:6])
    assert {name: value.rstrip("*") for name, value in rows.items()} == DL19


def test_a_missing_query_counts_as_zero_and_is_said(rq_eval: Run) -> None:
    done = rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10")
    assert re.search(r"good\s+0\.6667", done.out)
    assert "note: good: 1 of 3 judged queries is not in the run (such as q3)" in done.err


def test_a_missing_query_can_be_left_out(rq_eval: Run) -> None:
    done = rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--missing", "skip")
    assert re.search(r"good\s+1\.0000", done.out)


def test_a_comparison_has_the_difference_and_who_won(rq_eval: Run) -> None:
    done = rq_eval(
        *("good.trec", "poor.trec", "--qrels", "qrels", "-m", "MRR@10", "--baseline", "good.trec")
    )
    assert re.search(r"poor\s+-0\.3333 .* 0/1/2\n", done.out)


def test_the_baseline_may_be_named_as_the_table_does(rq_eval: Run) -> None:
    given = ("good.trec", "poor.trec", "--qrels", "qrels", "--baseline")
    assert rq_eval(*given, "good.trec").out == rq_eval(*given, "good").out


def test_changed_queries_are_shown_with_both_rankings(rq_eval: Run) -> None:
    given = ("good.trec", "poor.trec", "--qrels", "qrels", "--baseline", "good")
    assert "1. q1: 0.6309 against 1.0000" in rq_eval(*given, "--changed", "1").out


def test_every_kind_of_file_is_written(rq_eval: Run, tmp_path: Path) -> None:
    given = ["good.trec", "poor.trec", "--qrels", "qrels", "--baseline", "good"]
    kinds = {
        "all.json": '"rocketrank_evaluation"',
        "all.tsv": "query_id\tsystem\tmeasure\tvalue",
        "all.md": "| system |",
        "all.tex": r"\begin{tabular}",
        "all.html": "<!doctype html>",
    }
    for name in kinds:
        given += ["--output", name]
    assert rq_eval(*given).code == 0
    for name, content in kinds.items():
        assert content.lower() in (tmp_path / name).read_text(encoding="utf-8").lower()


def test_the_values_of_queries_can_be_read_back(rq_eval: Run, tmp_path: Path) -> None:
    rq_eval("good.trec", "--qrels", "qrels", "-m", "RR@10", "--output", "by-query.tsv")
    [found] = read_per_query_tsv(tmp_path / "by-query.tsv")
    assert found.values == {"RR@10": {"q1": 1.0, "q2": 1.0, "q3": 0.0}}


def test_json_on_standard_output_is_the_json_of_a_file(rq_eval: Run, tmp_path: Path) -> None:
    done = rq_eval("good.trec", "--qrels", "qrels", "--json", "--output", "found.json")
    assert done.out == (tmp_path / "found.json").read_text()


def test_earlier_results_are_a_system_of_a_later_comparison(rq_eval: Run) -> None:
    rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--output", "earlier.json")
    given = ("--qrels", "qrels", "-m", "MRR@10", "--baseline", "good")
    again = rq_eval("earlier.json", "poor.trec", *given)
    assert again.out == rq_eval("good.trec", "poor.trec", *given).out


def test_runs_of_one_name_keep_their_folders(rq_eval: Run, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "good.trec").write_text(POOR)
    done = rq_eval("good.trec", "old/good.trec", "--qrels", "qrels")
    assert re.findall(r"^\S*good\.trec", done.out, re.M) == ["good.trec", "old/good.trec"]


def test_a_run_is_judged_by_answers(rq_eval: Run) -> None:
    """The title, which holds the second answer, does not count."""
    Path("run.trec").write_text("0 Q0 2 1 9 x\n0 Q0 1 2 8 x\n1 Q0 2 1 9 x\n")
    done = rq_eval(
        *("run.trec", "--preset", "nq", "--queries", "nq.qa.csv", "--passages", "psgs.tsv"),
        *("--dpr-output", "dpr.json"),
    )
    assert re.search(r"run\s+0\.0000\s+0\.5000\s+0\.5000\s+0\.5000", done.out)
    marks = [[hit.has_answer for hit in each.hits] for each in read_dpr_results("dpr.json")]
    assert marks == [[False, True], [False]]


def test_retrieval_results_of_dpr_need_nothing_else(rq_eval: Run) -> None:
    hit = {
        "id": "1",
        "title": "",
        "text": "Alexander Fleming did.",
        "score": "9",
        "has_answer": True,
    }
    record = {"question": "who", "answers": ["Alexander Fleming"], "ctxs": [hit]}
    Path("dpr.json").write_text(json.dumps([record], indent=4))
    assert re.search(r"dpr\s+1\.0000", rq_eval("dpr.json", "--preset", "nq").out)


def test_a_data_set_brings_its_judgements_and_measures(rq_eval: Run, shared_data: Path) -> None:
    lines = (shared_data / "scifact" / "qrels" / "test.tsv").read_text().splitlines()[1:]
    pairs = [line.split("\t")[:2] for line in lines]
    Path("gold.trec").write_text("".join(f"{query} Q0 {one} 1 1 x\n" for query, one in pairs))
    done = rq_eval("gold.trec", "--dataset", "scifact", "--data", shared_data / "scifact")
    assert re.search(r"nDCG@10\s+R@100\s+MRR@10\ngold\s+1\.0000\s+1\.0000\s+1\.0000", done.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to evaluate: give a run, or --index and --queries"),
        (["good.trec"], "there are no judgements: give --qrels, or --dataset and --data"),
        (["good.trec", "--qrels", "none"], "none"),
        (["none.trec", "--qrels", "qrels"], "none.trec"),
        (["good.trec", "--qrels", "qrels", "-m", "ndcg@10"], 'write "nDCG@10"'),
        (["good.trec", "--qrels", "qrels", "--output", "a.pdf"], "must end in .json, .tsv, .md"),
        (["good.trec", "--qrels", "qrels", "--output", "no/a.md"], "folder that does not exist"),
        (["good.trec", "--qrels", "qrels", "--baseline", "x"], "--baseline (x) needs another run"),
        (["good.trec", "--qrels", "qrels", "--reranker", "m"], "--reranker (m) needs --index"),
        (["good.trec", "--qrels", "qrels", "--data", "."], "--data (.) needs --dataset"),
        (["good.trec", "--dataset", "scifakt"], "scifact"),
        (["good.trec", "--index", "i", "--qrels", "qrels"], "not both"),
        (["--index", "i", "--qrels", "qrels"], "--index needs --queries"),
        (["good.trec", "--preset", "nq"], "give --queries, a file with answers"),
        (["qrels", "--qrels", "qrels"], "qrels:1: expected a whole number as rank"),
        (["good.trec", "--qrels", "good.trec"], "good.trec:1: expected judgements"),
        (["good.trec", "--qrels", "qrels", "-m", ","], "--measures is empty"),
        (["good.trec", "--qrels", "qrels", "--k", "5"], "--k (5) needs --index"),
        (["good.trec", "--qrels", "qrels", "--device", "gpu"], "--device (gpu) needs --index"),
        (["good.trec", "--qrels", "qrels", "--changed", "3"], "--changed (3) needs --baseline"),
        (["good.trec", "--qrels", "qrels", "--regex"], "--regex needs --preset nq"),
        (["good.trec", "./good.trec", "--qrels", "qrels"], "run ./good.trec is given twice"),
        (["-", "--qrels", "-"], "standard input can be read once"),
        (["--index", "i", "--queries", "nq.qa.csv"], "there are no judgements: give --qrels"),
        (["good.trec", "--preset", "nq", "--missing", "skip"], "--missing (skip) is for judg"),
        (["good.trec", "--preset", "nq", "--qrels", "qrels"], "--qrels (qrels) is for judg"),
        (["psgs.tsv", "--qrels", "qrels", "--output", "psgs.tsv"], "would write over what is read"),
        (
            ["good.trec", "--qrels", "qrels", "--output", "a.md", "--output", "./a.md"],
            "--output (a.md) would write over another output",
        ),
        (
            ["good.trec", "--preset", "nq", "--dpr-output", "nq.qa.csv", "--queries", "nq.qa.csv"],
            "--dpr-output (nq.qa.csv) would write over what is read",
        ),
        (
            ["--index", "i", "--queries", "nq.qa.csv", "--qrels", "0.qrels", "--baseline", "x"],
            "--baseline (x) is none of the stages: name one of stage one",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(rq_eval: Run, arguments: list[str], said: str) -> None:
    assert said in refused(rq_eval(*arguments))


def test_judgements_from_standard_input_are_for_all_runs(
    rq_eval: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QRELS.encode())))
    piped = rq_eval("good.trec", "poor.trec", "--qrels", "-")
    assert piped == rq_eval("good.trec", "poor.trec", "--qrels", "qrels")


def test_a_run_from_standard_input_is_judged_by_answers(
    rq_eval: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "0 Q0 2 1 9 x\n0 Q0 1 2 8 x\n1 Q0 2 1 9 x\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(run.encode())))
    done = rq_eval("-", "--preset", "nq", "--queries", "nq.qa.csv", "--passages", "psgs.tsv")
    assert re.search(r"-\s+0\.0000\s+0\.5000\s+0\.5000\s+0\.5000", done.out)


def test_only_the_answer_measures_that_are_asked_for_are_shown(rq_eval: Run) -> None:
    Path("run.trec").write_text("0 Q0 1 1 8 x\n")
    given = ("run.trec", "-m", "top-5", "--queries", "nq.qa.csv", "--passages", "psgs.tsv")
    assert rq_eval(*given).out.split() == ["system", "top-5", "run", "0.5000"]


def test_results_by_answers_are_a_system_again(rq_eval: Run) -> None:
    Path("run.trec").write_text("0 Q0 1 1 8 x\n")
    given = ("--preset", "nq", "--queries", "nq.qa.csv", "--passages", "psgs.tsv")
    table = rq_eval("run.trec", *given, "--output", "found.json").out
    assert rq_eval("found.json").out == table
    assert rq_eval("found.json", "--preset", "nq").out == table


def test_questions_without_answers_are_refused(rq_eval: Run) -> None:
    Path("run.trec").write_text("0 Q0 1 1 8 x\n")
    Path("questions.tsv").write_text("0\twho\n1\twhere\n")
    given = ("run.trec", "--preset", "nq", "--queries", "questions.tsv", "--passages", "psgs.tsv")
    assert "has 2 questions and no answers" in refused(rq_eval(*given))


def test_retrieval_results_of_dpr_without_the_preset_are_told_how(rq_eval: Run) -> None:
    Path("dpr.json").write_text('[{"question": "q", "answers": ["a"], "ctxs": []}]')
    assert "dpr.json is DPR's retrieval results" in refused(rq_eval("dpr.json"))


def test_a_measure_that_earlier_results_lack_is_told(rq_eval: Run) -> None:
    rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--output", "earlier.json")
    done = rq_eval("earlier.json", "poor.trec", "--qrels", "qrels", "-m", "MRR@10,AP")
    assert "note: earlier.json has no AP of good" in done.err
    assert "taken as they are" in done.err


def test_the_baseline_may_be_the_file_of_earlier_results(rq_eval: Run) -> None:
    rq_eval("good.trec", "--qrels", "qrels", "-m", "MRR@10", "--output", "earlier.json")
    given = ("earlier.json", "poor.trec", "--qrels", "qrels", "-m", "MRR@10", "--baseline")
    assert rq_eval(*given, "earlier.json").out == rq_eval(*given, "good").out


def test_an_unknown_baseline_is_refused_with_the_names_there_are(rq_eval: Run) -> None:
    said = refused(rq_eval("good.trec", "poor.trec", "--qrels", "qrels", "--baseline", "goof"))
    assert "goof" in said
    assert "good" in said


@pytest.mark.slow
def test_an_index_is_searched_and_its_stages_compared(
    rq_eval: Run, small_index: Path, shared_reference: Path, tmp_path: Path
) -> None:
    """A question for each of four passages, whose own word finds it first with minilm."""
    names = ["penicillin", "telephone", "bread", "whale"]
    Path("questions.tsv").write_text("".join(f"{each}-q\t{each}\n" for each in names))
    Path("judged").write_text("".join(f"{each}-q 0 {each} 1\n" for each in names))
    done = rq_eval(
        *("--index", small_index, "--queries", "questions.tsv", "--qrels", "judged", "--k", "4"),
        *("--reranker", shared_reference / "tiny-bert-cross-encoder", "--sweep-depth", "2,4"),
        *("--runs", "runs", "--output", "page.html", "--output", "found.json"),
    )
    assert done.code == 0, done.err
    assert re.search(r"stage one\s+1\.0000", done.out)
    assert "re-ranked 2" in done.out
    assert "re-ranked 4" in done.out
    kept = sorted(each.name for each in (tmp_path / "runs").iterdir())
    assert kept == ["re-ranked-2.trec", "re-ranked-4.trec", "stage-one.trec"]
    assert read_results("found.json")[0].name == "stage one"
    assert "against time" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_index_without_a_reranker_is_stage_one_alone(rq_eval: Run, small_index: Path) -> None:
    Path("questions.tsv").write_text("1\twho discovered penicillin\n2\tnot judged\n")
    Path("judged").write_text("1 0 penicillin 1\n")
    done = rq_eval(
        "--index", small_index, "--queries", "questions.tsv", "--qrels", "judged", "--k", "3"
    )
    assert done.out.splitlines()[1].split()[:3] == ["stage", "one", "1.0000"]
