"""Mining from a small index: the lists by hand, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rocketrank.data.records import Judgement, Passage, Query
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import BuildOptions, ChangeOptions, Index, build_index, delete_passages
from rocketrank.training.denoising import Limits
from rocketrank.training.lists import RankingList, read_header, read_lists
from rocketrank.training.mining import MiningSources, mine
from rocketrank.training.mining_options import MiningOptions, check_mining
from rocketrank.training.mining_queries import select_queries

from ..tiny_models import tiny_encoder, tiny_scorer
from .small_mining import Collection, Corpus, TableScorer, numbered

# Passage, the retriever's score, the re-ranker's logit. Against the positive's logit 5 the
# confidences are sigmoid(-6) = 0.0025, sigmoid(-4) = 0.018, sigmoid(0.5) = 0.62, sigmoid(4) = 0.98.
ROWS = [
    (Passage("better", "better answer"), 0.9, 9.0),
    (Passage("positive", "the answer"), 0.8, 5.0),
    (Passage("copy", "The  Answer"), 0.7, 5.0),
    (Passage("doubtful", "perhaps an answer"), 0.6, 5.5),
    (Passage("wrong", "no answer"), 0.5, -1.0),
    (Passage("again", "No answer"), 0.4, -1.0),
    (Passage("far", "something else"), 0.3, 1.0),
    (Passage("deep", "beyond the depth"), 0.2, 1.0),
]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path / "table.index", ROWS)


def columns(each: RankingList) -> tuple[str, set[str]]:
    """The positive, and the negatives, whose order is random."""
    return each.candidates[0].id, {candidate.id for candidate in each.negatives}


def test_an_undenoised_list_has_negatives_from_the_top_that_are_no_positives(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    collection.mine(output, {"q": ["positive"]}, depth=7)
    (only,) = read_lists(output)
    assert (only.query_id, only.query) == ("q", "what is q")
    assert columns(only) == ("positive", {"better", "doubtful", "wrong", "far"})


def test_candidates_carry_their_score_and_rank(collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "lists.jsonl"
    collection.mine(output, {"q": ["positive"]}, depth=7)
    (only,) = read_lists(output)
    found = {each.id: (each.score, each.source) for each in only.candidates}
    assert found["positive"] == (float(np.float32(0.8)), "qrels+retriever:2")
    assert found["far"] == (float(np.float32(0.3)), "retriever:7")


def test_hybrid_lists_are_undenoised_and_denoised_and_those_of_promoted_positives(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    scorer = TableScorer(collection.logits)
    collection.mine(output, {"q": ["positive"]}, scorer=scorer, lists="hybrid", depth=7)
    assert [columns(each) for each in read_lists(output)] == [
        ("positive", {"doubtful", "wrong", "far"}),  # "better" is a positive now
        ("positive", {"wrong", "far"}),
        ("better", {"wrong", "far"}),
    ]


def test_confidences_stand_behind_the_sources(collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "lists.jsonl"
    scorer = TableScorer(collection.logits)
    collection.mine(output, {"q": ["positive"]}, scorer=scorer, lists="denoised", depth=7)
    _, promoted = read_lists(output)
    sources = {each.id: each.source for each in promoted.candidates}
    assert sources["better"] == f"retriever:1+promoted:{1 / (1 + math.exp(-4)):.4g}"
    assert sources["wrong"] == f"retriever:5+denoised:{1 / (1 + math.exp(6)):.4g}"


def test_the_report_counts_every_rule(collection: Collection, tmp_path: Path) -> None:
    result = collection.mine(
        tmp_path / "lists.jsonl",
        {"q": ["positive"]},
        scorer=TableScorer(collection.logits),
        lists="hybrid",
        depth=7,
        negatives=3,
    )
    report = json.loads(result.report_path.read_bytes())
    assert {name: count for name, count in report["candidates"].items() if count} == {
        "retriever": 7,
        "labelled_positive": 1,
        "text_of_positive": 1,
        "duplicate_text": 1,
        "pool": 4,
        "kept": 2,
        "promoted": 1,
        "uncertain": 1,
    }
    assert {name: count for name, count in report["lists"].items() if count} == {
        "undenoised": 1,
        "denoised": 1,
        "promoted": 1,
        "short": 2,
    }
    assert result.lists == 3


def test_the_report_shows_examples_with_both_scores(collection: Collection, tmp_path: Path) -> None:
    result = collection.mine(
        tmp_path / "lists.jsonl",
        {"q": ["positive"]},
        scorer=TableScorer(collection.logits),
        lists="hybrid",
        depth=7,
    )
    (example,) = json.loads(result.report_path.read_bytes())["examples"]["promoted"]
    assert example["id"] == "better"
    assert example["passage"] == "better answer"
    assert example["score"] == pytest.approx(0.9)
    assert (example["reranker_score"], example["positive_reranker_score"]) == (9.0, 5.0)
    lines = list(result.report.example_lines(1))
    place = lines.index(
        "promoted: denoising promoted to positives: confidence above the upper limit"
    )
    assert lines[place + 1 : place + 4] == [
        "  query q: what is q",
        "    retriever:1 0.9000, re-ranker 9.000, its positive 5.000, confidence 0.982",
        "    better: better answer",
    ]


def test_the_table_aligns_the_counts_that_are_not_zero(
    collection: Collection, tmp_path: Path
) -> None:
    result = collection.mine(tmp_path / "lists.jsonl", {"q": ["positive"]}, depth=7)
    assert list(result.report.table()) == [
        "queries",
        "  1  with a labelled positive: mined",
        "  1  labelled positives",
        "candidates",
        "  7  found by the retriever",
        "  1  left out: labelled positives",
        "  1  left out: same text as a labelled positive",
        "  1  left out: same text as one found before",
        "  4  left: negatives to draw from, and to denoise",
        "lists",
        "  1  undenoised",
        "  1  of all these with fewer negatives than were asked for",
    ]


def test_every_labelled_positive_has_a_list_and_is_in_no_other(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    collection.mine(output, {"q": ["positive", "far", "deep"]}, depth=7)
    assert [columns(each) for each in read_lists(output)] == [
        (positive, {"better", "doubtful", "wrong"}) for positive in ("positive", "far", "deep")
    ]
    last = list(read_lists(output))[-1].candidates[0]
    assert (last.score, last.source) == (None, "qrels")


def test_labelled_positives_with_one_text_have_one_list(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    result = collection.mine(output, {"q": ["copy", "positive"]}, depth=7)
    assert [each.candidates[0].id for each in read_lists(output)] == ["copy"]
    assert result.report.counts["queries.same_positive"] == 1


def test_a_query_that_finds_only_its_positive_has_no_list(
    collection: Collection, tmp_path: Path
) -> None:
    result = collection.mine(tmp_path / "lists.jsonl", {"q": ["better"]}, depth=1, negatives=1)
    assert result.lists == 0
    assert result.report.counts["lists.without_negatives"] == 1


def test_bm25_adds_negatives_and_says_what_both_found(
    collection: Collection, tmp_path: Path
) -> None:
    pytest.importorskip("bm25s", reason="needs the package bm25s")
    output = tmp_path / "lists.jsonl"
    queries = select_queries([Query("q", "beyond better")], [Judgement("q", "positive", 1)])
    mine(output, queries, collection.sources(), MiningOptions(depth=2, bm25_depth=5, negatives=7))
    (only,) = read_lists(output)
    sources = {each.id: each.source for each in only.negatives}
    # Both words are rare: "better answer" is the shorter passage.
    assert sources == {"better": "retriever:1+bm25:1", "deep": "bm25:2"}


def test_queries_without_judgement_get_the_best_candidate_where_it_is_confident(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    scorer = TableScorer(collection.logits)
    collection.mine(
        output, {"unjudged": []}, scorer=scorer, lists="hybrid", depth=7, pseudo_positives=True
    )
    # sigmoid(9) is above 0.9; against 9 the logits 5 and 5.5 have 0.018 and 0.029: negatives.
    (only,) = read_lists(output)
    assert columns(only) == ("better", {"positive", "doubtful", "wrong", "far"})
    assert only.candidates[0].source == f"retriever:1+pseudo:{1 / (1 + math.exp(-9)):.4g}"


def test_texts_are_written_only_when_they_are_asked_for(
    collection: Collection, tmp_path: Path
) -> None:
    for with_text in (False, True):
        output = tmp_path / f"{with_text}.jsonl"
        collection.mine(output, {"q": ["positive"]}, depth=7, with_text=with_text)
        (only,) = read_lists(output)
        assert only.candidates[0].text == ("the answer" if with_text else None)


def test_the_header_says_what_the_lists_were_mined_with(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    queries = select_queries([Query("q", "text")], [Judgement("q", "positive", 1)])
    sources = MiningSources(
        index=collection.index, retriever=collection.encoder, tokenizer="f" * 64
    )
    mine(output, queries, sources, MiningOptions())
    header = read_header(output)
    assert header is not None
    assert (header.tokenizer, header.reranker) == ("f" * 64, "")
    assert header.retriever == "table (fingerprint aaaaaaaaaaaa)"
    assert Path(str(header.index)) == tmp_path / "table.index"


def test_a_depth_beyond_the_index_takes_the_whole_index(
    collection: Collection, tmp_path: Path
) -> None:
    result = collection.mine(tmp_path / "lists.jsonl", {"q": ["positive"]}, depth=500)
    assert result.report.counts["candidates.retriever"] == len(ROWS)


def test_a_querys_lists_do_not_depend_on_the_other_queries(tmp_path: Path) -> None:
    many = numbered(tmp_path / "many.index", 30)
    queries = {f"q{n}": [f"p{n}"] for n in range(6)}
    many.mine(tmp_path / "all.jsonl", queries, negatives=5)
    many.mine(tmp_path / "one.jsonl", {"q4": ["p4"]}, negatives=5)
    chosen = [each for each in read_lists(tmp_path / "all.jsonl") if each.query_id == "q4"]
    assert list(read_lists(tmp_path / "one.jsonl")) == chosen


def test_lists_that_are_there_are_not_replaced_unasked(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    output.write_text("mine\n")
    with pytest.raises(UsageError, match="is there already"):
        collection.mine(output, {"q": ["positive"]})
    assert output.read_text() == "mine\n"
    collection.mine(output, {"q": ["positive"]}, overwrite=True)
    assert len(list(read_lists(output))) == 1


def test_a_positive_that_is_not_in_the_index_is_named_and_nothing_is_left(
    collection: Collection, tmp_path: Path
) -> None:
    output = tmp_path / "lists.jsonl"
    with pytest.raises(DataError, match=r"id 'gone' \(1 of 2 are missing\)"):
        collection.mine(output, {"q": ["positive"], "r": ["gone"]})
    assert [path.name for path in tmp_path.iterdir()] == ["table.index"]


def test_a_retriever_that_did_not_fill_the_index_is_refused(
    collection: Collection, tmp_path: Path
) -> None:
    collection.encoder.fingerprint = "b" * 64
    with pytest.raises(RocketRankError, match="built with another model"):
        collection.mine(tmp_path / "lists.jsonl", {"q": ["positive"]})


def test_scores_that_are_not_finite_are_refused_with_their_query(
    collection: Collection, tmp_path: Path
) -> None:
    scorer = TableScorer({**collection.logits, "no answer": math.nan})
    with pytest.raises(RocketRankError, match="finite scores, found another for the query 'what"):
        collection.mine(
            tmp_path / "lists.jsonl", {"q": ["positive"]}, scorer=scorer, lists="denoised"
        )


@pytest.mark.parametrize(
    ("options", "reranker", "sentence"),
    [
        ({"depth": 0}, False, r"depth \(0\) must be at least 1"),
        ({"negatives": 0}, False, r"negatives \(0\) must be at least 1"),
        ({"bm25_depth": -1}, False, r"bm25 \(-1\) must be at least 0"),
        ({"negatives": 31, "depth": 30}, False, r"negatives \(31\) must be at most 30"),
        ({"lists": "hybrid"}, False, r"lists \(hybrid\) need a re-ranker"),
        ({}, True, r"lists \(undenoised\) have no use for a re-ranker"),
        ({"lists": "clean"}, False, r"lists \(clean\) must be one of"),
        ({"pseudo_positives": True}, False, "need a re-ranker that is confident"),
        ({"lists": "hybrid", "limits": Limits(0.9, 0.1)}, True, r"low \(0\.9\)"),
    ],
)
def test_options_without_a_meaning_are_refused(
    options: dict[str, object], reranker: bool, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_mining(MiningOptions(**options), reranker=reranker)  # type: ignore[arg-type]


@pytest.mark.slow
def test_real_models_mine_what_their_scores_say(shared_reference: Path, tmp_path: Path) -> None:
    encoder = tiny_encoder(shared_reference / "tiny-bert")
    scorer = tiny_scorer(shared_reference / "tiny-bert-cross-encoder")
    texts = ["the cat sat", "a dog barked", "rain fell", "stocks rose", "bread is baked"]
    passages = [Passage(f"p{row}", text) for row, text in enumerate(texts)]
    build_index(tmp_path / "tiny.index", Corpus(passages), encoder, BuildOptions())
    logits = scorer.score([("which animal sat", text) for text in texts])
    confidences = 1 / (1 + np.exp(logits[0] - logits.astype(np.float64)))
    limits = Limits(float(np.quantile(confidences[1:], 0.4)), 1.0)
    with Index.open(tmp_path / "tiny.index") as index:
        mine(
            tmp_path / "lists.jsonl",
            select_queries([Query("q", "which animal sat")], [Judgement("q", "p0", 1)]),
            MiningSources(index=index, retriever=encoder, reranker=scorer),
            MiningOptions(lists="denoised", limits=limits),
        )
    (only,) = read_lists(tmp_path / "lists.jsonl")
    low = {f"p{row}" for row in range(1, 5) if confidences[row] < limits.low}
    assert low
    assert columns(only) == ("p0", low)


def test_an_index_from_which_passages_were_deleted_gives_the_lists_of_one_without_them(
    collection: Collection, tmp_path: Path
) -> None:
    gone = {"better", "wrong"}
    whole = Collection(tmp_path / "whole.index", [row for row in ROWS if row[0].id not in gone])
    delete_passages(collection.index.directory, gone, ChangeOptions())
    collection.index = Index.open(collection.index.directory)
    found = []
    for number, each in enumerate((whole, collection)):
        output = tmp_path / f"{number}.jsonl"
        each.mine(output, {"q": ["positive"]}, depth=4, bm25_depth=6)
        found.append([one._replace(candidates=()) for one in read_lists(output)])
        found.append([columns(one) for one in read_lists(output)])  # type: ignore[misc]
    assert found[:2] == found[2:]
