"""A second stage that keeps to a time, over an index and models as in test_engine.py."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

from .tiny_models import tiny_encoder, tiny_scorer

QUERY = "what is the life cycle of a flea"
AGES = 60_000.0


class Timed:
    """A cross-encoder that takes as long as it is told, and counts the pairs it has scored."""

    def __init__(self, scorer: CrossEncoder, seconds: float) -> None:
        self._scorer, self._seconds = scorer, seconds
        self.scored = 0

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        time.sleep(self._seconds)
        self.scored += len(pairs)
        return self._scorer.score(pairs)


@pytest.fixture(scope="module")
def retriever(shared_reference: Path) -> DualEncoder:
    return tiny_encoder(shared_reference / "tiny-bert")


@pytest.fixture(scope="module")
def directory(
    retriever: DualEncoder, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("timed")
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        (folder / "corpus.tsv").write_text("".join(next(file) for _ in range(100)), "utf-8")
    build_index(folder / "index", CorpusReader([folder / "corpus.tsv"]), retriever, BuildOptions())
    return folder / "index"


def engine(
    directory: Path, retriever: DualEncoder, reference: Path, seconds: float = 0.0
) -> tuple[SearchEngine, Timed]:
    reranker = Timed(tiny_scorer(reference / "tiny-bert-cross-encoder"), seconds)
    return SearchEngine(Index.open(directory), retriever, reranker), reranker


def test_with_time_enough_it_is_the_second_stage_without_a_bound(
    directory: Path, retriever: DualEncoder, shared_reference: Path
) -> None:
    opened, reranker = engine(directory, retriever, shared_reference)
    with opened:
        whole = opened.search(QUERY, k=30, rerank_depth=30)
        bounded = opened.search(QUERY, k=30, rerank_depth=30, rerank_ms=AGES)
    assert [hit.id for hit in bounded] == [hit.id for hit in whole]
    scores = [[hit.score for hit in hits] for hits in (bounded, whole)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    assert reranker.scored == 60


@pytest.mark.parametrize(("k", "scored"), [(3, 8), (8, 8), (10, 16)])
def test_without_time_the_first_k_are_scored_in_whole_portions(
    directory: Path, retriever: DualEncoder, shared_reference: Path, k: int, scored: int
) -> None:
    opened, reranker = engine(directory, retriever, shared_reference, seconds=0.02)
    with opened:
        hits = opened.search(QUERY, k=k, rerank_depth=100, rerank_ms=1)
        expected = opened.search(QUERY, k=k, rerank_depth=scored)
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert reranker.scored == 2 * scored


def test_a_portion_for_which_no_time_is_left_is_not_begun(
    directory: Path, retriever: DualEncoder, shared_reference: Path
) -> None:
    """Portions take 0.1 s and more: in 0.25 s there is time for two, and a third would end late."""
    opened, reranker = engine(directory, retriever, shared_reference, seconds=0.1)
    with opened:
        opened.search(QUERY, k=1, rerank_depth=100, rerank_ms=250)
    assert reranker.scored <= 16


def test_every_query_has_the_time(
    directory: Path, retriever: DualEncoder, shared_reference: Path
) -> None:
    opened, reranker = engine(directory, retriever, shared_reference)
    with opened:
        opened.search_many([QUERY, "a goldfish"], k=5, rerank_depth=40, rerank_ms=AGES)
    assert reranker.scored == 80


@pytest.mark.parametrize("milliseconds", [0, -5, float("nan"), float("inf"), "fast", True])
def test_a_time_that_is_none_is_refused(
    directory: Path, retriever: DualEncoder, shared_reference: Path, milliseconds: float
) -> None:
    opened, _ = engine(directory, retriever, shared_reference)
    with opened, pytest.raises(UsageError, match=r"rerank_ms \(.*\) must be a number"):
        opened.search(QUERY, rerank_ms=milliseconds)


def test_a_time_without_a_re_ranker_is_refused(directory: Path, retriever: DualEncoder) -> None:
    with (
        SearchEngine(Index.open(directory), retriever) as opened,
        pytest.raises(UsageError, match=r"rerank_ms \(50\) needs a re-ranker"),
    ):
        opened.search(QUERY, rerank_ms=50)
