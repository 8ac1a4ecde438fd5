"""Mining for synthetic queries: what is read of their candidates, and which are dropped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.data.records import Judgement, Passage, Query
from rocketrank.errors import DataError
from rocketrank.training.cuts import Cut, Kind
from rocketrank.training.lists import RankingList, read_lists
from rocketrank.training.mining import MiningResult, mine
from rocketrank.training.mining_options import MiningOptions
from rocketrank.training.mining_queries import select_queries, with_synthetic
from rocketrank.training.mining_report import MiningReport
from rocketrank.training.synthesis import Synthesis, SyntheticQuery

from .small_mining import Collection, TableScorer

# The retriever's score of the whole passage, of what is left of it, and the re-ranker's logit of
# the latter. Whole, "own" comes first; without its title it is the third.
SCORES = {"own": (0.9, 0.55, 2.0), "near": (0.7, 0.7, 1.0), "far": (0.6, 0.6, -3.0)}
SCORES |= {"last": (0.5, 0.5, -4.0), "deep": (0.4, 0.4, -5.0)}


def passage(name: str) -> Passage:
    return Passage(
        name, f"{name.title()} opens it. Then comes the rest of {name}.", f"Title of {name}"
    )


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    made = Collection(
        tmp_path / "table.index",
        [(passage(name), whole, 99.0) for name, (whole, *_) in SCORES.items()],
    )
    made.logits = {}
    for name, (_, rest, logit) in SCORES.items():
        for kind in ("title", "sentence"):
            text = Cut(kind, 0).of(passage(name)).full_text
            made.encoder.scores = {**made.encoder.scores, text: rest}
            made.logits[text] = logit
    return made


def synthetic(kind: Kind = "title", *, whole: bool = False, of: str = "own") -> SyntheticQuery:
    cut = None if whole else Cut(kind, 0)
    return SyntheticQuery(f"{kind}/{of}", f"title of {of}", kind, of, cut)


def mined(
    collection: Collection,
    output: Path,
    queries: Sequence[SyntheticQuery],
    *,
    scorer: TableScorer | None = None,
    **options: Any,
) -> MiningResult:
    asked = with_synthetic(None, Synthesis(list(queries), MiningReport()))
    chosen = MiningOptions(**{"depth": 4, "negatives": 4, **options})
    return mine(output, asked, collection.sources(scorer), chosen)


def only(output: Path) -> RankingList:
    (found,) = read_lists(output)
    return found


def test_the_rest_of_the_passage_takes_the_place_that_its_score_has(
    collection: Collection, tmp_path: Path
) -> None:
    mined(collection, tmp_path / "lists.jsonl", [synthetic()])
    positive, *negatives = only(tmp_path / "lists.jsonl").candidates
    assert (positive.id, positive.label) == ("own", 1)
    assert positive.score == pytest.approx(0.55)
    assert positive.source == "synthetic:title+retriever:3"
    assert {each.id: each.source for each in negatives} == {
        "near": "retriever:1",
        "far": "retriever:2",
        "last": "retriever:4",
    }


@pytest.mark.parametrize("kind", ["title", "sentence"])
def test_all_candidates_of_a_list_are_cut_in_the_same_way(
    collection: Collection, tmp_path: Path, kind: Kind
) -> None:
    mined(collection, tmp_path / "lists.jsonl", [synthetic(kind)])
    for each in only(tmp_path / "lists.jsonl").candidates:
        whole = passage(each.id)
        rest = f"Then comes the rest of {each.id}."
        expected = ("", whole.text) if kind == "title" else (whole.title, rest)
        assert (each.title, each.text) == expected


def test_a_query_whose_sentence_stays_has_candidates_by_their_ids(
    collection: Collection, tmp_path: Path
) -> None:
    mined(collection, tmp_path / "lists.jsonl", [synthetic("cloze", whole=True)])
    found = only(tmp_path / "lists.jsonl")
    assert found.candidates[0].source == "synthetic:cloze+retriever:1"
    assert {each.text for each in found.candidates} == {None}


def test_a_query_that_does_not_find_the_rest_of_its_passage_is_dropped(
    collection: Collection, tmp_path: Path
) -> None:
    queries = [synthetic(), synthetic(of="near")]
    result = mined(collection, tmp_path / "lists.jsonl", queries, depth=2, negatives=2)
    assert only(tmp_path / "lists.jsonl").query_id == "title/near"
    counts = result.report.counts
    assert (counts["title.not_found"], counts["title.kept"]) == (1, 1)
    assert [each.query for each in result.report.examples["title.not_found"]] == ["title of own"]


def test_it_is_kept_where_that_is_asked_for(collection: Collection, tmp_path: Path) -> None:
    output = tmp_path / "lists.jsonl"
    mined(collection, output, [synthetic()], depth=2, negatives=2, round_trip=False)
    positive, *negatives = only(output).candidates
    assert (positive.id, positive.source, positive.score) == ("own", "synthetic:title", None)
    assert {each.id for each in negatives} == {"near", "far"}


@pytest.mark.parametrize(("logit", "kept"), [(4.1, True), (4.3, False)])
def test_a_query_is_dropped_that_the_reranker_is_confident_of_another_passage_for(
    collection: Collection, tmp_path: Path, logit: float, kept: bool
) -> None:
    """Its own passage has the logit 2, and sigmoid(2.2) is 0.9."""
    logits = collection.logits | {Cut("title", 0).of(passage("near")).full_text: logit}
    scorer = TableScorer(logits)
    result = mined(
        collection, tmp_path / "lists.jsonl", [synthetic()], scorer=scorer, lists="hybrid"
    )
    assert result.lists == 2 * kept
    assert result.report.counts["title.not_confident"] == (not kept)


def test_denoised_negatives_are_those_the_reranker_puts_far_below_the_rest_of_the_passage(
    collection: Collection, tmp_path: Path
) -> None:
    scorer = TableScorer(collection.logits)
    mined(collection, tmp_path / "lists.jsonl", [synthetic()], scorer=scorer, lists="denoised")
    found = only(tmp_path / "lists.jsonl")
    # "near" at logit 1 has the confidence sigmoid(-1) = 0.27 and is neither
    assert [each.id for each in found.positives] == ["own"]
    assert {each.id for each in found.negatives} == {"far", "last"}


def test_the_queries_that_were_kept_are_written_with_their_judgements(
    collection: Collection, tmp_path: Path
) -> None:
    queries = [synthetic(), synthetic(of="near")]
    mined(collection, tmp_path / "lists.jsonl", queries, depth=2, negatives=2)
    assert list(read_queries(tmp_path / "lists.queries.jsonl")) == [
        Query("title/near", "title of near")
    ]
    assert list(read_qrels(tmp_path / "lists.qrels")) == [Judgement("title/near", "near", 1)]


def test_labelled_queries_beside_them_get_the_lists_that_they_get_alone(
    collection: Collection, tmp_path: Path
) -> None:
    queries, judgements = [Query("q", "what")], [Judgement("q", "far", 1)]
    options = MiningOptions(depth=3, negatives=3)
    labelled = select_queries(queries, judgements)
    both = with_synthetic(labelled, Synthesis([synthetic()], MiningReport()))
    for name, asked in (("alone", labelled), ("both", both)):
        mine(tmp_path / name, asked, collection.sources(), options)
    assert [*read_lists(tmp_path / "alone")] == [*read_lists(tmp_path / "both")][:1]


def test_the_report_has_what_became_of_each_kind(collection: Collection, tmp_path: Path) -> None:
    made = MiningReport()
    made.count("title", "passages", 5)
    asked = with_synthetic(None, Synthesis([synthetic()], made))
    mine(tmp_path / "l.jsonl", asked, collection.sources(), MiningOptions(depth=3, negatives=2))
    report = json.loads((tmp_path / "l.report.json").read_bytes())
    assert report["synthesis"].keys() == {"title"}
    numbers = report["synthesis"]["title"]
    assert (numbers["passages"], numbers["kept"], numbers["not_found"]) == (5, 1, 0)
    (example,) = report["examples"]["title.kept"]
    assert (example["query"], example["title"]) == ("title of own", "")


def test_an_id_of_a_given_and_of_a_synthetic_query_is_refused() -> None:
    given = select_queries([Query("title/own", "mine")], [Judgement("title/own", "far", 1)])
    with pytest.raises(DataError, match="found title/own: give the query another id"):
        with_synthetic(given, Synthesis([synthetic()], MiningReport()))
