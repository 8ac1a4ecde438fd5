"""Probabilities of hits and the least that a hit must reach, with tiny real models."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.model_settings import Calibration
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

from .tiny_models import tiny_encoder, tiny_scorer

QUERY = "what is the life cycle of a flea"
WEIGHT = 0.1 + 0.2


@pytest.fixture(scope="module")
def retriever(shared_reference: Path) -> DualEncoder:
    return tiny_encoder(shared_reference / "tiny-bert", pooling="mean", normalize=True)


@pytest.fixture(scope="module")
def reranker(shared_reference: Path) -> CrossEncoder:
    return tiny_scorer(shared_reference / "tiny-bert-cross-encoder")


@pytest.fixture(scope="module")
def index(
    retriever: DualEncoder, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    """The first 120 passages of the MS MARCO sample, with postings."""
    folder = tmp_path_factory.mktemp("calibrated")
    corpus = folder / "corpus.tsv"
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        corpus.write_text("".join(next(file) for _ in range(120)), encoding="utf-8")
    build_index(folder / "index", CorpusReader([corpus]), retriever, BuildOptions(bm25=True))
    with Index.open(folder / "index") as opened:
        yield opened


@pytest.fixture(scope="module")
def one_stage(index: Index, retriever: DualEncoder) -> SearchEngine:
    """The curve has its middle at the tenth hit's score."""
    plain = SearchEngine(index, retriever)
    middle = plain.search(QUERY, k=10)[-1].score
    return SearchEngine(
        index, retriever, calibration=Calibration(slope=20.0, intercept=-20.0 * middle)
    )


@pytest.fixture(scope="module")
def two_stages(index: Index, retriever: DualEncoder, reranker: CrossEncoder) -> SearchEngine:
    """Calibrated for the scores fused at WEIGHT."""
    calibration = Calibration(
        slope=3.0, intercept=-0.5, fusion=WEIGHT, retriever=retriever.fingerprint
    )
    return SearchEngine(index, retriever, reranker, calibration=calibration)


def test_a_probability_is_the_logistic_function_of_the_retrievers_score(
    one_stage: SearchEngine,
) -> None:
    hits = one_stage.search(QUERY, k=20)
    known = one_stage.calibration
    assert known is not None
    for hit in hits:
        by_hand = 1 / (1 + math.exp(-(known.slope * hit.score + known.intercept)))
        assert hit.probability == pytest.approx(by_hand)
    assert hits[9].probability == pytest.approx(0.5)


def test_a_probability_is_of_the_fused_score(two_stages: SearchEngine) -> None:
    for hit in two_stages.search(QUERY, k=20, rerank_depth=30, fuse=WEIGHT):
        assert hit.reranker_score is not None
        fused = hit.reranker_score + WEIGHT * hit.retriever_score
        assert hit.probability == pytest.approx(1 / (1 + math.exp(0.5 - 3 * fused)))


@pytest.mark.parametrize(
    "asked",
    [{"fuse": 0.3}, {"fuse": None}, {"fuse": WEIGHT, "first_stage": "hybrid"}],
    ids=["a neighbouring weight", "no weight", "another first stage"],
)
def test_a_search_that_the_calibration_is_not_of_has_no_probabilities(
    two_stages: SearchEngine, asked: dict[str, Any]
) -> None:
    assert WEIGHT != 0.3
    hits = two_stages.search(QUERY, k=5, rerank_depth=5, **asked)
    assert [hit.probability for hit in hits] == [None] * 5
    with pytest.raises(UsageError, match=r"min_probability \(0.5\) needs a calibration of the sc"):
        two_stages.search(QUERY, k=5, rerank_depth=5, min_probability=0.5, **asked)


def test_a_calibration_with_another_retriever_gives_no_probabilities(
    two_stages: SearchEngine,
) -> None:
    assert two_stages.calibration is not None
    other = SearchEngine(
        two_stages.index,
        two_stages.retriever,
        two_stages.reranker,
        calibration=replace(two_stages.calibration, retriever="0" * 64),
    )
    assert other.search(QUERY, k=1, rerank_depth=1, fuse=WEIGHT)[0].probability is None


def test_a_rerankers_calibration_is_not_taken_for_the_retrievers(two_stages: SearchEngine) -> None:
    alone = SearchEngine(two_stages.index, two_stages.retriever, calibration=two_stages.calibration)
    assert alone.search(QUERY, k=1)[0].probability is None


def test_the_least_score_leaves_the_others_as_they_were(two_stages: SearchEngine) -> None:
    hits = two_stages.search(QUERY, k=20, rerank_depth=30)
    least = hits[6].score
    kept = two_stages.search(QUERY, k=20, rerank_depth=30, min_score=least)
    assert kept == [hit for hit in hits if hit.score >= least]
    assert 7 <= len(kept) < 20


def test_the_least_score_is_of_the_last_stage_and_not_of_the_first(
    two_stages: SearchEngine,
) -> None:
    hits = two_stages.search(QUERY, k=20, rerank_depth=20)
    reversed_order = [hit.retriever_score for hit in hits]
    assert reversed_order != sorted(reversed_order, reverse=True)
    kept = two_stages.search(QUERY, k=1, rerank_depth=20, min_score=hits[0].score)
    assert [hit.id for hit in kept] == [hits[0].id]


@pytest.mark.parametrize("stages", ["one_stage", "two_stages"])
def test_the_least_probability_keeps_the_hits_that_reach_it(
    stages: str, request: pytest.FixtureRequest
) -> None:
    engine: SearchEngine = request.getfixturevalue(stages)
    asked: dict[str, Any] = {"k": 20, "fuse": WEIGHT if engine.reranker else None}
    hits = engine.search(QUERY, **asked)
    found = [hit.probability for hit in hits if hit.probability is not None]
    least = float(np.median(found))
    kept = engine.search(QUERY, min_probability=least, **asked)
    assert kept == hits[: len(kept)]
    assert len(kept) == sum(probability >= least for probability in found)
    assert 0 < len(kept) < 20


def test_a_bound_above_every_hit_finds_nothing(one_stage: SearchEngine) -> None:
    assert one_stage.search(QUERY, min_score=1e9) == []
    assert one_stage.search(QUERY, min_probability=1.0) == []


def test_a_bound_below_every_hit_changes_nothing(one_stage: SearchEngine) -> None:
    expected = one_stage.search(QUERY)
    assert one_stage.search(QUERY, min_score=-1e9, min_probability=0) == expected


def test_many_queries_are_bounded_each_for_itself(one_stage: SearchEngine) -> None:
    queries = [QUERY, "how long do hard boiled eggs keep"]
    least = one_stage.search(QUERY, k=5)[-1].score
    together = one_stage.search_many(queries, k=10, min_score=least)
    assert together == [one_stage.search(each, k=10, min_score=least) for each in queries]


@pytest.mark.parametrize(
    ("stages", "asked", "said"),
    [
        ("one_stage", {"first_stage": "bm25"}, "such a search (bm25), and there is none"),
        ("two_stages", {"fuse": 2}, "(the re-ranker after the retriever, fused at weight 2)"),
    ],
)
def test_without_a_calibration_the_sentence_says_of_what_and_how_to_get_it(
    stages: str, asked: dict[str, Any], said: str, request: pytest.FixtureRequest
) -> None:
    engine: SearchEngine = request.getfixturevalue(stages)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        engine.search_many([], min_probability=0.9, **asked)
    assert "with `rq eval --calibrate --save`" in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"min_score": math.nan}, "min_score (nan) must be a finite number"),
        ({"min_score": math.inf}, "min_score (inf) must be a finite number"),
        ({"min_score": "1"}, "min_score (1) must be a finite number"),
        ({"min_score": True}, "min_score (True) must be a finite number"),
        ({"min_probability": 1.5}, "min_probability (1.5) must be a number from 0 to 1"),
        ({"min_probability": -0.1}, "min_probability (-0.1) must be a number from 0 to 1"),
        ({"min_probability": math.nan}, "min_probability (nan) must be a number from 0 to 1"),
    ],
)
def test_what_is_no_bound_is_refused(
    one_stage: SearchEngine, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        one_stage.search(QUERY, **asked)
