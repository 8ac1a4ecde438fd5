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
from rocketrank.index.search import SearchResult
from rocketrank.index_evaluation import write_stage_runs
from rocketrank.retriever import DualEncoder
from rocketrank.stages import fused_by_score

from .test_engine import make_model

Scored = dict[str, Fraction]

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


def by_hand(dense: Scored, words: Scored, weight: Fraction) -> dict[str, float]:
    """The convex combination in fractions: passages by falling score."""
    high, low = max(dense.values(), default=0), min(dense.values(), default=0)
    best = max(words.values(), default=1)
    sums = {
        each: weight * (Fraction(score - low) / (high - low) if high > low else 1)
        for each, score in dense.items()
    }
    for each, score in words.items():
        sums[each] = sums.get(each, Fraction(0)) + (1 - weight) * score / best
    return {each: float(sums[each]) for each in sorted(sums, key=lambda each: (-sums[each], each))}


@pytest.mark.parametrize("weight", ["0", "0.25", "0.6", "1"])
def test_a_hybrid_search_adds_scores_on_a_common_scale(engine: SearchEngine, weight: str) -> None:
    """The figures of both lists as they come from a search of a hundred."""
    lists = [engine.search(QUERY, k=100, first_stage=stage) for stage in ("dense", "bm25")]
    dense, words = ({hit.id: Fraction(hit.score) for hit in hits} for hits in lists)
    expected = list(by_hand(dense, words, Fraction(weight)).items())[:20]
    own = SearchEngine(engine.index, engine.retriever, hybrid_weight=float(weight))
    hits = own.search(QUERY, k=20, first_stage="hybrid")
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], rel=1e-5)
    assert {hit.id for hit in hits if hit.score > expected[-1][1]} <= {each for each, _ in expected}


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), "half", True])
def test_a_weight_that_is_no_share_is_refused(engine: SearchEngine, weight: float) -> None:
    with pytest.raises(UsageError, match=r"hybrid_weight \(.*\) must be a number from 0"):
        SearchEngine(engine.index, engine.retriever, hybrid_weight=weight)


def test_the_first_stage_alone_keeps_the_weight(two_stages: SearchEngine) -> None:
    own = SearchEngine(two_stages.index, two_stages.retriever, two_stages.reranker, hybrid_weight=0)
    alone = own.without_reranker()
    assert alone.reranker is None
    words = [hit.id for hit in alone.search(QUERY, k=9, first_stage="bm25")]
    assert [hit.id for hit in alone.search(QUERY, k=9, first_stage="hybrid")] == words


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
    """Vectors of queries encoded together differ in their last digits."""
    queries = [QUERY, "bank account", "how long does a train take"]
    for query, hits in zip(
        queries, engine.search_many(queries, k=5, first_stage="hybrid"), strict=True
    ):
        alone = engine.search(query, k=5, first_stage="hybrid")
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        expected = pytest.approx([hit.score for hit in alone], rel=1e-5)
        assert [hit.score for hit in hits] == expected


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


scored = st.dictionaries(st.integers(0, 9), st.integers(1, 20), max_size=6)
"""Rows and scores of a list; BM25 scores are above 0."""


@given(scored, scored, st.integers(0, 10), st.integers(1, 12))
def test_fusing_equals_a_sum_of_fractions(
    one: dict[int, int], other: dict[int, int], tenths: int, depth: int
) -> None:
    weight = Fraction(tenths, 10)
    rows, scores = fused_by_score(as_found(one), as_found(other), float(weight), depth)
    found = [row for row in rows[0].tolist() if row >= 0]
    names = [{str(row): Fraction(score) for row, score in each.items()} for each in (one, other)]
    expected = by_hand(names[0], names[1], weight)
    assert len(found) == min(depth, len(expected))
    np.testing.assert_allclose(
        scores[0, : len(found)], list(expected.values())[: len(found)], rtol=1e-6, atol=1e-12
    )
    for row, score in zip(found, scores[0].tolist(), strict=False):
        assert score == pytest.approx(expected[str(row)], rel=1e-6, abs=1e-12)
    assert rows[0, len(found) :].tolist() == [-1] * (depth - len(found))


def test_equal_scores_come_in_the_order_of_the_rows() -> None:
    rows, _ = fused_by_score(as_found({7: 3, 2: 3, 5: 3}), as_found({}), 0.6, 3)
    assert rows.tolist() == [[2, 5, 7]]


def as_found(scores: dict[int, int]) -> SearchResult:
    """A list of one query as an index gives it, best first and with places that are empty."""
    order = sorted(scores, key=lambda row: (-scores[row], row))
    empty = 6 - len(order)
    return SearchResult(
        np.array([[*order, *[-1] * empty]], dtype=np.int64),
        np.array([[*[scores[row] for row in order], *[-np.inf] * empty]], dtype=np.float32),
    )
