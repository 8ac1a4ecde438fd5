"""Finding passages by vectors, by words and by both, over a real index with a tiny real model."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.queries import read_queries
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, build_index
from rocketrank.index_evaluation import write_stage_runs
from rocketrank.retriever import DualEncoder
from rocketrank.stages import fused_by_rank

from .test_engine import make_model

QUERY = "what is the life cycle of a flea"


@pytest.fixture(scope="module")
def index(
    shared_reference: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """400 passages of the MS MARCO sample with vectors of a tiny model, and BM25."""
    folder = tmp_path_factory.mktemp("first-stage")
    model = make_model(shared_reference / "tiny-bert", folder / "retriever")
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        lines = [next(file) for _ in range(400)]
    corpus = folder / "corpus.tsv"
    corpus.write_text("".join(lines), encoding="utf-8")
    encoder = DualEncoder.load(str(model), precision="fp32")
    for name, bm25 in (("index", True), ("without", False)):
        build_index(folder / name, CorpusReader([corpus]), encoder, BuildOptions(bm25=bm25))
    return folder / "index"


@pytest.fixture(scope="module")
def engine(index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(index, precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def two_stages(index: Path, shared_reference: Path) -> Iterator[SearchEngine]:
    reranker = str(shared_reference / "tiny-bert-cross-encoder")
    with SearchEngine.open(index, reranker=reranker, precision="fp32") as opened:
        yield opened


def by_hand(lists: list[list[str]], depth: int) -> dict[str, float]:
    """Reciprocal rank fusion in fractions."""
    sums: dict[str, Fraction] = {}
    for ranking in lists:
        for rank, each in enumerate(ranking, start=1):
            sums[each] = sums.get(each, Fraction(0)) + Fraction(1, 60 + rank)
    best = sorted(sums, key=lambda each: -sums[each])[:depth]
    return {each: float(sums[each]) for each in best}


def test_a_hybrid_search_fuses_both_lists_by_reciprocal_rank(engine: SearchEngine) -> None:
    dense = [hit.id for hit in engine.search(QUERY, k=100)]
    words = [hit.id for hit in engine.search(QUERY, k=100, first_stage="bm25")]
    hits = engine.search(QUERY, k=20, first_stage="hybrid")
    expected = by_hand([dense, words], 20)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_words_find_only_passages_that_have_one_of_them(engine: SearchEngine) -> None:
    hits = engine.search("flea", k=400, first_stage="bm25")
    there = [hit for hit in engine.search(QUERY, k=400) if "flea" in hit.text.lower().split()]
    assert {hit.id for hit in there} <= {hit.id for hit in hits}
    assert all("flea" in hit.text.lower() for hit in hits)


def test_a_question_that_shares_no_word_has_no_hit_by_words_and_dense_ones_by_both(
    engine: SearchEngine,
) -> None:
    assert engine.search("zzzzqqq", first_stage="bm25") == []
    fused = engine.search("zzzzqqq", k=7, first_stage="hybrid")
    assert [hit.id for hit in fused] == [hit.id for hit in engine.search("zzzzqqq", k=7)]


def test_dense_is_what_a_search_does_by_itself(engine: SearchEngine) -> None:
    assert engine.search(QUERY, first_stage="dense") == engine.search(QUERY)


def test_many_queries_have_what_each_has_alone(engine: SearchEngine) -> None:
    queries = [QUERY, "bank account", "how long does a train take"]
    together = engine.search_many(queries, k=5, first_stage="hybrid")
    assert together == [engine.search(each, k=5, first_stage="hybrid") for each in queries]


def test_the_second_stage_orders_what_either_first_stage_found(two_stages: SearchEngine) -> None:
    first = SearchEngine(two_stages.index, two_stages.retriever)
    for stage in ("bm25", "hybrid"):
        found = first.search(QUERY, k=30, first_stage=stage)
        hits = two_stages.search(QUERY, k=30, rerank_depth=30, first_stage=stage)
        assert {hit.id for hit in hits} == {hit.id for hit in found}
        logits = [hit.reranker_score or 0.0 for hit in hits]
        assert logits == sorted(logits, reverse=True)


def test_stage_one_of_an_evaluation_can_be_any(
    two_stages: SearchEngine, tmp_path: Path, shared_data: Path
) -> None:
    queries = list(read_queries(shared_data / "msmarco" / "queries.dl19.tsv"))[:3]
    [run, _] = write_stage_runs(two_stages, queries, tmp_path, k=10, depths=[5], first_stage="bm25")
    first = SearchEngine(two_stages.index, two_stages.retriever)
    expected = [
        (query.id, hit.id)
        for query in queries
        for hit in first.search(query.text, k=10, first_stage="bm25")
    ]
    lines = [line.split() for line in run.path.read_text().splitlines()]
    assert [(line[0], line[2]) for line in lines] == expected


def test_an_index_without_bm25_says_how_to_get_it(index: Path) -> None:
    with (
        SearchEngine.open(index.with_name("without"), precision="fp32") as engine,
        pytest.raises(UsageError, match=r"first_stage \(hybrid\) needs an index with BM25.*--bm25"),
    ):
        engine.search(QUERY, first_stage="hybrid")


def test_a_weight_that_was_chosen_for_vectors_is_refused_for_words(
    two_stages: SearchEngine,
) -> None:
    with pytest.raises(UsageError, match=r"fuse is auto.*first_stage is bm25"):
        SearchEngine(
            two_stages.index, two_stages.retriever, two_stages.reranker, fusion=2.0
        ).search(QUERY, fuse="auto", first_stage="bm25")


def test_a_first_stage_that_there_is_not_is_refused(engine: SearchEngine) -> None:
    with pytest.raises(UsageError, match=r"first_stage \(splade\) must be one of dense, bm25, hyb"):
        engine.search(QUERY, first_stage="splade")  # type: ignore[arg-type]


rankings = st.lists(st.integers(0, 9), unique=True, max_size=6)


@given(rankings, rankings, st.integers(1, 12))
def test_fusing_equals_a_sum_of_fractions(one: list[int], other: list[int], depth: int) -> None:
    padded = [np.array([[*each, *[-1] * (6 - len(each))]], dtype=np.int64) for each in (one, other)]
    rows, scores = fused_by_rank(padded, depth)
    found = [row for row in rows[0].tolist() if row >= 0]
    names = [[str(row) for row in each] for each in (one, other)]
    expected = by_hand(names, 12)
    assert found == sorted(map(int, expected), key=lambda row: (-expected[str(row)], row))[:depth]
    np.testing.assert_allclose(
        scores[0, : len(found)], [expected[str(row)] for row in found], rtol=1e-6
    )
    assert rows[0, len(found) :].tolist() == [-1] * (depth - len(found))
