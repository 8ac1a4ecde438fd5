"""Searches and evaluations that return documents instead of chunks, with tiny real models."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank import SearchEngine
from rocketrank.data.chunking import Chunking
from rocketrank.data.chunks import ChunkedCorpus
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Query
from rocketrank.data.runs import read_run
from rocketrank.errors import UsageError
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.index_evaluation import write_stage_runs

from .tiny_models import tiny_encoder, tiny_scorer

QUERY = "what is the life cycle of a flea"
DOCUMENTS = 40
WORDS = ["flea", "life", "cycle", "cost", "of", "the", "city", "doctor", "definition", "symptoms"]
"""Of queries; any will do."""


@pytest.fixture(scope="module")
def engine(
    shared_data: Path, shared_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> SearchEngine:
    """Passages of the MS MARCO sample, one after the other in documents of growing length."""
    folder = tmp_path_factory.mktemp("grouped")
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        lines = iter([line.split("\t")[1].strip() for line in islice(file, 900)])
    corpus = folder / "corpus.tsv"
    texts = [" ".join(next(lines) for _ in range(1 + n)) for n in range(DOCUMENTS)]
    corpus.write_text("".join(f"d{n}\t{text}\n" for n, text in enumerate(texts)), encoding="utf-8")
    encoder = tiny_encoder(shared_reference / "tiny-bert", pooling="mean", passage_length=64)
    chunking = Chunking(32, 24)
    chunks = ChunkedCorpus(CorpusReader([corpus]), encoder.passage_tokens(), chunking)
    options = BuildOptions(fields=("document", "start"), chunking=chunking)
    build_index(folder / "index", chunks, encoder, options)
    index = Index.open(folder / "index")
    return SearchEngine(index, encoder, tiny_scorer(shared_reference / "tiny-bert-cross-encoder"))


@pytest.fixture(scope="module")
def first_stage(engine: SearchEngine) -> SearchEngine:
    return SearchEngine(engine.index, engine.retriever)


def documents_of_all_chunks(
    engine: SearchEngine, query: str = QUERY, where: str | None = None
) -> list[tuple[str, float]]:
    """Documents in the order of their best chunks, from every chunk of the index."""
    best: dict[str, float] = {}
    for hit in engine.search(query, k=len(engine.index), where=where):
        best.setdefault(str(hit.metadata["document"]), hit.score)
    return list(best.items())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
    k=st.integers(1, DOCUMENTS + 5),
    starts=st.tuples(st.integers(0, 3000), st.integers(1, 3000)),
)
def test_whatever_is_asked_documents_are_those_of_all_chunks(
    first_stage: SearchEngine, words: list[str], k: int, starts: tuple[int, int]
) -> None:
    """Of those that the filter leaves, which has documents of none to all of their chunks."""
    query, where = " ".join(words), f"start >= {starts[0]} AND start < {sum(starts)}"
    hits = first_stage.search(query, k=k, where=where, group="document")
    expected = documents_of_all_chunks(first_stage, query, where)[:k]
    assert [(hit.id, hit.score) for hit in hits] == expected


@pytest.mark.parametrize("k", [1, 5, DOCUMENTS])
def test_a_document_ranks_by_the_best_of_its_chunks(first_stage: SearchEngine, k: int) -> None:
    hits = first_stage.search(QUERY, k=k, group="document")
    assert [(hit.id, hit.score) for hit in hits] == documents_of_all_chunks(first_stage)[:k]


def test_as_many_documents_come_as_were_asked_for(first_stage: SearchEngine) -> None:
    """Though one of them may have more chunks than that."""
    [hits] = first_stage.search_many([QUERY], k=30, group="document")
    assert len({hit.id for hit in hits}) == 30
    assert [hit.rank for hit in hits] == list(range(1, 31))


def test_no_more_come_than_there_are(first_stage: SearchEngine) -> None:
    assert len(first_stage.search(QUERY, k=1000, group="document")) == DOCUMENTS


def test_the_chunk_that_is_shown_is_the_documents_best(first_stage: SearchEngine) -> None:
    chunks = first_stage.search(QUERY, k=len(first_stage.index))
    for hit in first_stage.search(QUERY, k=10, group="document"):
        best = next(each for each in chunks if each.metadata["document"] == hit.id)
        assert (hit.text, hit.metadata) == (best.text, best.metadata)
        assert best.id == f"{hit.id}#{hit.metadata['start']}-{hit.metadata['end']}"


def test_re_ranked_documents_are_in_the_order_of_re_ranked_chunks(engine: SearchEngine) -> None:
    every = len(engine.index)
    chunks = engine.search(QUERY, k=every, rerank_depth=every)
    hits = engine.search(QUERY, k=10, rerank_depth=every, group="document")
    order = list(dict.fromkeys(hit.metadata["document"] for hit in chunks))
    assert [hit.id for hit in hits] == order[:10]


def test_re_ranking_goes_deeper_where_the_first_chunks_are_of_too_few_documents(
    engine: SearchEngine,
) -> None:
    assert len(engine.search(QUERY, k=30, rerank_depth=30, group="document")) == 30


def test_passages_that_are_no_chunks_are_documents_of_their_own(
    shared_reference: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.tsv").write_text("p1\tone\np2\ttwo\n")
    encoder = tiny_encoder(shared_reference / "tiny-bert", pooling="mean", passage_length=64)
    build_index(tmp_path / "i", CorpusReader([tmp_path / "c.tsv"]), encoder, BuildOptions())
    with SearchEngine(Index.open(tmp_path / "i"), encoder) as opened:
        assert opened.search("one", group="document") == opened.search("one")


def test_a_run_of_documents_has_each_of_them_once(engine: SearchEngine, tmp_path: Path) -> None:
    queries = [Query("1", QUERY)]
    runs = write_stage_runs(engine, queries, tmp_path, k=200, depths=[20], group="document")
    for run in runs:
        ids = [entry.passage_id for entry in read_run(run.path)]
        assert len(ids) == len(set(ids)) > 5
        assert all(each.startswith("d") and "#" not in each for each in ids)


def test_a_run_of_documents_is_what_a_search_finds(
    engine: SearchEngine, first_stage: SearchEngine, tmp_path: Path
) -> None:
    [run] = write_stage_runs(
        engine, [Query("1", QUERY)], tmp_path, k=300, depths=[], group="document"
    )
    found = [hit.id for hit in first_stage.search(QUERY, k=5, group="document")]
    assert [entry.passage_id for entry in read_run(run.path)][:5] == found


def test_another_group_is_refused(engine: SearchEngine) -> None:
    with pytest.raises(UsageError, match=r"group \('title'\) must be document, or left out"):
        engine.search(QUERY, group="title")  # type: ignore[arg-type]
