"""Top-k accuracy by answers: small cases by hand, and a second implementation of the rule."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.data import CorpusReader, Passage, Query, RunEntry, read_queries, write_run
from rocketrank.data.dpr_results import DprHit, DprResult, read_dpr_results, write_dpr_results
from rocketrank.errors import DataError, UsageError
from rocketrank.eval.answer_judging import (
    AnswerOptions,
    judge_answers,
    judge_run_by_answers,
    run_results,
    with_answers,
)
from rocketrank.eval.findings import describe_findings, describe_judgements
from rocketrank.eval.result_files import read_results, write_json
from rocketrank.eval.results import AnswerMarks, Ordering, TopHit

PASSAGES = {
    "p1": Passage("p1", "Marie Curie won it twice.", "Nobel Prize"),
    "p2": Passage("p2", "Wilhelm Röntgen was the first.", "Physics"),
    "p3": Passage("p3", "Nobody.", "Röntgen"),
}
QUERIES = [
    Query("a", "who was the first", ("Wilhelm Ro\u0308ntgen", "Röntgen")),
    Query("b", "who won it twice", ("marie curie",)),
]


def known_passages(ids: Sequence[str]) -> list[Passage]:
    return [PASSAGES[each] for each in ids if each in PASSAGES]


def result(query_id: str, answers: Sequence[str], texts: Sequence[str]) -> DprResult:
    hits = [DprHit(f"p{n}", 100.0 - n, text) for n, text in enumerate(texts, 1)]
    return DprResult(query_id, "?", tuple(answers), tuple(hits))


def entries(query_id: str, *hits: tuple[str, float]) -> list[RunEntry]:
    return [RunEntry(query_id, each, rank, score) for rank, (each, score) in enumerate(hits, 1)]


def test_a_question_counts_from_the_rank_of_its_first_passage_with_an_answer() -> None:
    texts = ["no"] * 150
    texts[4] = texts[30] = "the answer"
    found = judge_answers([result("q", ["Answer"], texts)], name="run")
    assert {k: found.mean(f"top-{k}") for k in (1, 5, 20, 100)} == {1: 0, 5: 1, 20: 1, 100: 1}
    assert found.measures == ("top-1", "top-5", "top-20", "top-100")
    assert found.recall == {1: 0, 2: 0, 5: 1, 10: 1, 20: 1, 50: 1, 100: 1}


@settings(max_examples=60, deadline=None)
@given(
    lists=st.lists(st.lists(st.sampled_from(["yes", "Yes!", "no", "yesterday"]), max_size=8)),
    ks=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
)
def test_accuracy_is_the_share_of_lists_with_an_answer_in_their_first_passages(
    lists: list[list[str]], ks: list[int]
) -> None:
    if not lists:
        return
    results = [result(str(number), ["YES"], texts) for number, texts in enumerate(lists)]
    found = judge_answers(results, AnswerOptions(ks=tuple(ks)), name="run")
    for k in ks:
        within = [any(text[:4].lower() in ("yes", "yes!") for text in of[:k]) for of in lists]
        assert list(found.values[f"top-{k}"].values()) == [float(one) for one in within]
    assert found.findings.missing == tuple(str(n) for n, texts in enumerate(lists) if not texts)


def test_the_title_does_not_count() -> None:
    run = entries("a", ("p3", 2.0), ("p2", 1.0))
    found = judge_run_by_answers(run, QUERIES, known_passages, name="run")
    assert (found.values["top-1"]["a"], found.values["top-5"]["a"]) == (0, 1)


def test_the_first_passages_are_kept_with_whether_they_answer() -> None:
    run = entries("a", ("p3", 2.5), ("p2", 1.0), ("p1", 0.5))
    options = AnswerOptions(top=2)
    found = judge_run_by_answers(run, QUERIES, known_passages, options, name="run")
    assert found.top == {"a": (TopHit("p3", 2.5, 0), TopHit("p2", 1.0, 1))}


def test_questions_that_the_run_lacks_count_as_not_found_and_others_are_left_out() -> None:
    run = [*entries("a", ("p2", 1.0)), *entries("x", ("unknown", 1.0))]
    found = judge_run_by_answers(run, QUERIES, known_passages, name="run")
    assert found.values["top-1"] == {"a": 1.0, "b": 0.0}
    assert (found.findings.missing, found.findings.unjudged) == (("b",), ("x",))


def test_questions_without_answers_count_as_not_found_and_are_named() -> None:
    results = [result("q1", ["yes"], ["yes"]), result("q2", [], ["yes"]), result("q3", [""], [""])]
    found = judge_answers(results, AnswerOptions(ks=(1,)), name="run")
    assert found.values == {"top-1": {"q1": 1.0, "q2": 0.0, "q3": 0.0}}
    assert found.findings.without_relevant == ("q2", "q3")
    (sentence,) = describe_judgements([found])
    assert sentence.startswith("2 of the 3 questions have no answer to look for (such as q2)")
    assert describe_findings(found) == []


def test_a_passage_retrieved_twice_takes_one_place() -> None:
    run = entries("a", ("p1", 3.0), ("p1", 2.0), ("p2", 1.0))
    options = AnswerOptions(ks=(1, 2))
    found = judge_run_by_answers(run, QUERIES[:1], known_passages, options, name="run")
    assert found.values == {"top-1": {"a": 0.0}, "top-2": {"a": 1.0}}
    assert found.findings.duplicates == {"a": 1}


def test_tied_scores_are_told_with_what_each_order_gives() -> None:
    run = entries("a", ("p2", 1.0), ("p1", 1.0), ("p3", 1.0))
    options = AnswerOptions(ks=(1, 5))
    own = judge_run_by_answers(run, QUERIES[:1], known_passages, options, name="run")
    assert own.mean("top-1") == 1.0
    assert own.findings.all_tied == ("a",)
    assert own.findings.orderings == {"top-1": Ordering(trec_eval=0, own=1, worst=0, best=1)}
    by_score = AnswerOptions(ks=(1, 5), order="score")
    found = judge_run_by_answers(run, QUERIES[:1], known_passages, by_score, name="run")
    assert found.mean("top-1") == 0.0
    assert [hit.passage_id for hit in found.top["a"]] == ["p3", "p2", "p1"]
    assert found.recall == {1: 0.0, 2: 1.0}


def test_a_run_is_read_by_its_ranks_or_by_its_scores() -> None:
    run = [RunEntry("a", "p1", 2, 9.0), RunEntry("a", "p2", 1, 1.0)]
    values = {
        order: judge_run_by_answers(
            run, QUERIES[:1], known_passages, AnswerOptions(ks=(1,), order=order), name="run"
        ).mean("top-1")
        for order in ("rank", "score")
    }
    assert values == {"rank": 1.0, "score": 0.0}


@pytest.mark.parametrize("format", ["trec", "msmarco", "jsonl"])
def test_run_files_are_judged_like_their_entries(tmp_path: Path, format: str) -> None:
    run = [*entries("a", ("p3", 0.5), ("p2", 0.25)), *entries("b", ("p1", 0.5))]
    write_run(tmp_path / "run", run, format=format)  # type: ignore[arg-type]
    found = judge_run_by_answers(tmp_path / "run", QUERIES, known_passages, name="run")
    assert found.values["top-1"] == {"a": 0.0, "b": 1.0}
    assert found.mean("top-5") == 1.0


def test_a_query_whose_lines_are_not_together_is_judged_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(
        "a Q0 p1 2 2.0 t\nb Q0 p1 1 1.0 t\na Q0 p2 1 3.0 t\n", encoding="utf-8"
    )
    found = judge_run_by_answers(tmp_path / "run", QUERIES, known_passages, name="run")
    assert found.values["top-1"] == {"a": 1.0, "b": 1.0}
    assert len(found.top["a"]) == 2


def test_a_passage_that_is_not_in_the_corpus_is_named() -> None:
    run = entries("a", ("p2", 2.0), ("p9", 1.0))
    with pytest.raises(DataError, match=r"run: expected .* 'a' in the corpus, found no .* 'p9'"):
        judge_run_by_answers(run, QUERIES, known_passages, name="run")


def test_a_run_of_other_questions_is_refused() -> None:
    with pytest.raises(UsageError, match=r"these 2 questions \(such as 'a'\), found 1 other"):
        judge_run_by_answers(entries("7", ("p1", 1.0)), QUERIES, known_passages, name="run")


def test_no_questions_and_a_question_twice_are_refused() -> None:
    with pytest.raises(UsageError, match="run: expected questions with answers, found none"):
        judge_answers([], name="run")
    with pytest.raises(UsageError, match="run: question 'q' comes twice"):
        judge_answers([result("q", ["a"], []), result("q", ["a"], [])], name="run")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ks": ()}, r"ks \(\(\)\)"),
        ({"ks": (0,)}, r"ks \(\(0,\)\)"),
        ({"depths": (0,)}, r"depths \(\(0,\)\)"),
        ({"match": "fuzzy"}, r"match \(fuzzy\) must be one of string, regex"),
        ({"order": "id"}, r"order \(id\) must be one of score, rank"),
        ({"top": -1}, r"top \(-1\) must be at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        AnswerOptions(**options)  # type: ignore[arg-type]


def test_patterns_are_searched_where_asked_for() -> None:
    results = [result("q", [r"19\d\d"], ["in 1867", "in 1903"])]
    options = AnswerOptions(ks=(1, 2), match="regex")
    assert judge_answers(results, options, name="run").values == {
        "top-1": {"q": 0.0},
        "top-2": {"q": 1.0},
    }


def test_marks_in_the_file_that_are_wrong_are_counted_and_not_believed(tmp_path: Path) -> None:
    hits = (DprHit("p1", 2.0, "no", "", True), DprHit("p2", 1.0, "yes", "", True))
    results = [DprResult("q", "?", ("yes",), hits)]
    found = judge_answers(results, AnswerOptions(ks=(1, 2)), name="run")
    assert found.values == {"top-1": {"q": 0.0}, "top-2": {"q": 1.0}}
    write_json(tmp_path / "e.json", [found])
    for each in (found, *read_results(tmp_path / "e.json")):
        (sentence,) = describe_findings(each)
        assert sentence.startswith("1 of 2 marks (has_answer) in the file is not what is found")


def test_marks_are_taken_where_there_is_no_text() -> None:
    hits = (DprHit("p1", 2.0, None, "", False), DprHit("p2", 1.0, None, "", True))
    results = [DprResult("q", "?", ("yes",), hits)]
    found = judge_answers(results, AnswerOptions(ks=(1, 2)), name="run")
    assert found.values == {"top-1": {"q": 0.0}, "top-2": {"q": 1.0}}
    assert found.findings.answers == AnswerMarks(marked=2, textless=2)
    (sentence,) = describe_findings(found)
    assert sentence.startswith("2 passages have no text; what the file says")


def test_lists_shorter_than_the_largest_k_are_told() -> None:
    options = AnswerOptions(ks=(1, 2, 100))
    found = judge_answers([result("q", ["yes"], ["yes", "no"])], options, name="run")
    assert describe_findings(found) == [
        "no list has more than 2 passages, so top-100 is top-2; search deeper for it"
    ]


def test_an_empty_run_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(DataError, match=r"run: expected a run, found no lines"):
        judge_run_by_answers(tmp_path / "run", QUERIES, known_passages, name="name")


def test_a_run_becomes_results_with_texts_and_marks(tmp_path: Path) -> None:
    run = entries("a", ("p3", 2.0), ("p2", 0.1))
    results = with_answers(run_results(run, QUERIES, known_passages, name="run"))
    write_dpr_results(tmp_path / "results.json", results)
    first, second = read_dpr_results(tmp_path / "results.json")
    assert first.hits == (
        DprHit("p3", 2.0, "Nobody.", "Röntgen", False),
        DprHit("p2", 0.1, "Wilhelm Röntgen was the first.", "Physics", True),
    )
    assert (second.query_id, second.answers, second.hits) == ("b", ("marie curie",), ())


def test_every_gold_passage_of_natural_questions_at_rank_two_gives_that_accuracy(
    shared_data: Path, tmp_path: Path
) -> None:
    questions = shared_data / "nq" / "questions.jsonl"
    passages = {each.id: each for each in CorpusReader([shared_data / "nq" / "passages.tsv"])}
    queries = list(read_queries(questions))
    lines = questions.read_text(encoding="utf-8").splitlines()
    gold = [json.loads(line)["gold"] for line in lines]
    results = [
        DprResult(
            query.id,
            query.text,
            query.answers,
            (DprHit("nothing", 2.0, ""), DprHit(each, 1.0, passages[each].text)),
        )
        for query, each in zip(queries, gold, strict=True)
    ]
    write_dpr_results(tmp_path / "nq.json", with_answers(results))
    (tmp_path / "nq.json.gz").write_bytes(gzip.compress((tmp_path / "nq.json").read_bytes(), 1))
    read = read_dpr_results(tmp_path / "nq.json.gz")
    found = judge_answers(read, AnswerOptions(ks=(1, 2)), name="gold")
    assert found.queries == 2_655
    assert (found.mean("top-1"), found.mean("top-2")) == (0.0, 1.0)
