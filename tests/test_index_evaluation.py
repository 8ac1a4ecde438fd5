"""Runs of both stages over a real index with tiny real models, against searches of the engine."""

import itertools
import re
from pathlib import Path

import pytest

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Query
from rocketrank.data.runs import read_run
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.index_evaluation import StageRun, check_depths, write_stage_runs

from .tiny_models import tiny_encoder, tiny_scorer

QUESTIONS = [
    Query("1", "what is the life cycle of a flea"),
    Query("2", "how long do hard boiled eggs keep"),
    Query("3", "causes of military suicide"),
]
WEIGHT = 0.5


@pytest.fixture(scope="module")
def engine(
    shared_data: Path, shared_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> SearchEngine:
    """The first 200 passages of the MS MARCO sample."""
    folder = tmp_path_factory.mktemp("evaluated")
    corpus = folder / "corpus.tsv"
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        corpus.write_text("".join(next(file) for _ in range(200)), encoding="utf-8")
    encoder = tiny_encoder(shared_reference / "tiny-bert", pooling="mean", passage_length=64)
    build_index(folder / "index", CorpusReader([corpus]), encoder, BuildOptions())
    index = Index.open(folder / "index")
    return SearchEngine(index, encoder, tiny_scorer(shared_reference / "tiny-bert-cross-encoder"))


@pytest.fixture(scope="module")
def runs(engine: SearchEngine, tmp_path_factory: pytest.TempPathFactory) -> dict[int, StageRun]:
    folder = tmp_path_factory.mktemp("runs")
    written = write_stage_runs(engine, QUESTIONS, folder, k=30, depths=[5, 20], weight=WEIGHT)
    return {each.depth: each for each in written}


def ranked(run: StageRun) -> dict[str, list[str]]:
    """Query id → passage ids, by the ranks in the file."""
    found: dict[str, list[str]] = {each.id: [] for each in QUESTIONS}
    for entry in read_run(run.path):
        found[entry.query_id].append(entry.passage_id)
        assert entry.rank == len(found[entry.query_id])
    return found


def test_stage_one_is_measured_beside_the_depths_that_were_asked_for(
    runs: dict[int, StageRun],
) -> None:
    assert [each.name for each in runs.values()] == ["stage one", "re-ranked 5", "re-ranked 20"]


def test_stage_one_is_the_search_without_a_reranker(
    engine: SearchEngine, runs: dict[int, StageRun]
) -> None:
    first = SearchEngine(engine.index, engine.retriever)
    for query in QUESTIONS:
        hits = first.search(query.text, k=30)
        assert ranked(runs[0])[query.id] == [hit.id for hit in hits]


@pytest.mark.parametrize("depth", [5, 20])
def test_the_first_of_a_depth_are_a_two_stage_search_of_that_depth(
    engine: SearchEngine, runs: dict[int, StageRun], depth: int
) -> None:
    for query in QUESTIONS:
        hits = engine.search(query.text, k=depth, rerank_depth=depth, fuse=WEIGHT)
        assert ranked(runs[depth])[query.id][:depth] == [hit.id for hit in hits]


@pytest.mark.parametrize("depth", [5, 20])
def test_below_the_depth_stage_ones_order_goes_on(runs: dict[int, StageRun], depth: int) -> None:
    for query_id, passages in ranked(runs[depth]).items():
        assert passages[depth:] == ranked(runs[0])[query_id][depth:]


def test_scores_fall_with_the_rank(runs: dict[int, StageRun]) -> None:
    for run in runs.values():
        entries = list(read_run(run.path))
        for above, below in itertools.pairwise(entries):
            assert above.query_id != below.query_id or above.score >= below.score


def test_a_deeper_second_stage_takes_longer_in_all(runs: dict[int, StageRun]) -> None:
    """Times add up: no deeper one can be below a shallower one, on any machine."""
    assert 0 < runs[0].milliseconds < runs[5].milliseconds < runs[20].milliseconds


def test_depths_come_sorted_and_once() -> None:
    assert check_depths([50, 10, 50], 100, reranks=True) == [0, 10, 50]


@pytest.mark.parametrize(
    ("depths", "k", "reranks", "said"),
    [
        ([200], 100, True, "200: expected 0 (stage one alone) to the 100 passages"),
        ([-1], 100, True, "-1: expected 0"),
        ([10], 100, False, "the first 10 needs --reranker"),
        ([], 0, True, "k (0) must be at least 1"),
    ],
)
def test_depths_without_a_meaning_are_refused(
    depths: list[int], k: int, reranks: bool, said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        check_depths(depths, k, reranks=reranks)


def test_a_search_that_fails_leaves_no_run(engine: SearchEngine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is empty"):
        write_stage_runs(engine, [*QUESTIONS, Query("4", " ")], tmp_path, k=5, depths=[5])
    assert list(tmp_path.iterdir()) == []
