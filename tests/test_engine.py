"""Two-stage search over a real index with tiny real models."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.errors import RocketRankError, UsageError
from rocketrank.eval.fusion import tune_fusion
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.model_settings import ModelSettings, folder_settings, save_settings
from rocketrank.retriever import DualEncoder
from rocketrank.search_options import check_search_options

QUERY = "what is the life cycle of a flea"


def make_model(source: Path, folder: Path) -> Path:
    """A tiny reference encoder with the rocketrank.json that makes it a retriever."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    save_settings(folder, ModelSettings(role="dual-encoder", query_length=64, passage_length=64))
    return folder


@pytest.fixture(scope="module")
def model(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(shared_reference / "tiny-bert", tmp_path_factory.mktemp("m") / "retriever")


@pytest.fixture(scope="module")
def index(model: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 passages of the MS MARCO sample, the last two of them the same text."""
    folder = tmp_path_factory.mktemp("engine")
    with (shared_data / "msmarco" / "collection.tsv").open(encoding="utf-8") as file:
        lines = [next(file) for _ in range(299)]
    corpus = folder / "corpus.tsv"
    corpus.write_text("".join([*lines, "again\t" + lines[-1].split("\t", 1)[1]]), encoding="utf-8")
    encoder = DualEncoder.load(str(model), precision="fp32")
    build_index(folder / "index", CorpusReader([corpus]), encoder, BuildOptions())
    return folder / "index"


@pytest.fixture(scope="module")
def engine(index: Path) -> Any:
    with SearchEngine.open(index, precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def two_stages(index: Path, shared_reference: Path) -> Any:
    reranker = str(shared_reference / "tiny-bert-cross-encoder")
    with SearchEngine.open(index, reranker=reranker, precision="fp32") as opened:
        yield opened


def scores_by_another_path(folder: Path, pairs: list[tuple[str, str]]) -> list[float]:
    """Each pair alone, through the dygraph model and the tokenizers library's own truncation."""
    from rocketrank import backbone
    from rocketrank.models import open_model

    paddle = backbone.paddle_module()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = open_model(str(folder))
    tokenizer.enable_truncation(model.settings.pair_length)
    scorer = backbone.load_scorer(folder, model.config())
    scores = []
    for pair in pairs:
        encoding = tokenizer.encode(*pair)
        inputs = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        with paddle.no_grad():
            scores.append(float(scorer(*[paddle.to_tensor([each]) for each in inputs])[0]))
    return scores


def test_hits_are_ranked_by_the_inner_product_of_the_vectors(
    engine: SearchEngine, model: Path
) -> None:
    hits = engine.search(QUERY, k=20)
    encoder = DualEncoder.load(str(model), precision="fp32")
    passages = encoder.encode_passages([hit.text for hit in hits])
    by_hand = passages @ encoder.encode_queries([QUERY])[0]
    np.testing.assert_allclose([hit.score for hit in hits], by_hand, rtol=1e-5)
    assert [hit.rank for hit in hits] == list(range(1, 21))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.score == hit.retriever_score for hit in hits)
    assert all(hit.reranker_score is None for hit in hits)


def test_the_second_stage_is_the_first_depth_hits_in_the_order_of_its_own_scores(
    engine: SearchEngine, two_stages: SearchEngine, shared_reference: Path
) -> None:
    depth = 30
    first_stage = engine.search(QUERY, k=depth)
    hits = two_stages.search(QUERY, k=depth, rerank_depth=depth)
    expected = scores_by_another_path(
        shared_reference / "tiny-bert-cross-encoder", [(QUERY, hit.text) for hit in first_stage]
    )
    order = sorted(range(depth), key=lambda place: -expected[place])
    assert [hit.id for hit in hits] == [first_stage[place].id for place in order]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [expected[place] for place in order], atol=2e-5
    )
    assert all(hit.reranker_score == hit.score for hit in hits)
    by_id = {hit.id: hit.retriever_score for hit in first_stage}
    np.testing.assert_allclose(
        [hit.retriever_score for hit in hits], [by_id[hit.id] for hit in hits], rtol=1e-6
    )


def test_fewer_hits_than_the_depth_are_the_best_of_the_whole_depth(
    two_stages: SearchEngine,
) -> None:
    whole = two_stages.search(QUERY, k=30, rerank_depth=30)
    assert two_stages.search(QUERY, k=5, rerank_depth=30) == whole[:5]


def test_equal_passages_come_in_the_order_in_which_they_were_indexed(
    engine: SearchEngine, two_stages: SearchEngine
) -> None:
    for opened in (engine, two_stages):
        hits = opened.search(QUERY, k=300, rerank_depth=300)
        (place,) = [n for n, hit in enumerate(hits) if hit.id == "again"]
        assert hits[place].text == hits[place - 1].text
        assert hits[place].score == hits[place - 1].score


def test_fewer_passages_than_k_give_fewer_hits(engine: SearchEngine) -> None:
    hits = engine.search(QUERY, k=10**12)
    assert len(hits) == len({hit.id for hit in hits}) == 300


@pytest.mark.parametrize(
    ("queries", "message"),
    [("flea", "expected a list of queries, found one"), ([None], "the query is of type NoneType")],
)
def test_what_is_no_list_of_strings_is_refused(
    engine: SearchEngine, queries: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        engine.search_many(queries)


def test_many_queries_give_what_each_gives_alone(two_stages: SearchEngine) -> None:
    queries = [QUERY, "do goldfish grow", "cost of concrete", QUERY]
    together = two_stages.search_many(queries, k=5, rerank_depth=20)
    for query, hits in zip(queries, together, strict=True):
        alone = two_stages.search(query, k=5, rerank_depth=20)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [hit.score for hit in alone], atol=1e-5
        )


def test_no_queries_give_no_lists(engine: SearchEngine) -> None:
    assert engine.search_many([]) == []


@pytest.mark.parametrize(
    ("k", "depth", "expected"), [(10, None, (10, 100)), (250, None, (250, 250)), (5, 5, (5, 5))]
)
def test_the_default_depth_is_the_larger_of_100_and_k(
    k: int, depth: int | None, expected: tuple[int, int]
) -> None:
    assert check_search_options(k, depth) == expected


@pytest.mark.parametrize(
    ("k", "depth", "message"),
    [
        (0, None, r"k \(0\) must be at least 1"),
        (2.5, None, r"k \(2\.5\) must be a whole number"),
        (10, 5, r"rerank_depth \(5\) must be at least k \(10\)"),
    ],
)
def test_impossible_numbers_are_refused_with_both_values(
    engine: SearchEngine, k: Any, depth: int | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        engine.search(QUERY, k=k, rerank_depth=depth)


@pytest.mark.parametrize("query", ["", "  \t\n"])
def test_an_empty_query_is_refused(engine: SearchEngine, query: str) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        engine.search(query)
    with pytest.raises(UsageError, match="query 2 of 2 is empty"):
        engine.search_many(["flea", query])


def test_a_query_of_ten_thousand_words_is_cut_with_a_note(
    engine: SearchEngine, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(engine.search("flea " * 10_000, k=3)) == 3
    assert "longer than the 64 tokens this model reads" in caplog.text


def test_another_model_of_the_same_width_is_refused_in_words(
    index: Path, shared_reference: Path, tmp_path: Path
) -> None:
    other = make_model(shared_reference / "tiny-ernie", tmp_path / "other")
    with pytest.raises(RocketRankError, match="the index was built with another model"):
        SearchEngine.open(index, model=other)


def test_a_copy_of_the_model_elsewhere_is_the_same_model(
    index: Path, shared_reference: Path, tmp_path: Path
) -> None:
    copy = make_model(shared_reference / "tiny-bert", tmp_path / "copy")
    with SearchEngine.open(index, model=str(copy), precision="fp32") as opened:
        assert len(opened.search(QUERY)) == 10


def test_a_model_that_has_gone_is_named_with_the_cure(
    shared_reference: Path, index: Path, tmp_path: Path
) -> None:
    gone = make_model(shared_reference / "tiny-bert", tmp_path / "gone")
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("1\tone text\n", encoding="utf-8")
    encoder = DualEncoder.load(str(gone), precision="fp32")
    build_index(tmp_path / "index", CorpusReader([corpus]), encoder, BuildOptions())
    shutil.rmtree(gone)
    with pytest.raises(RocketRankError, match=r"cannot be opened .*say where with --model"):
        SearchEngine.open(tmp_path / "index")


def test_a_retriever_is_not_taken_for_a_reranker(index: Path) -> None:
    with pytest.raises(RocketRankError, match="minilm"):
        SearchEngine.open(index, reranker="minilm")


def test_an_effort_that_changes_nothing_is_noted(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SearchEngine.open(index, precision="fp32", effort=2):
        assert "is flat and searched whole: effort and refine change nothing" in caplog.text


def test_an_index_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RocketRankError, match="there is no such folder"):
        SearchEngine.open(tmp_path / "nothing")


class Indifferent:
    """A re-ranker to which every pair is the same."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        return np.full(len(pairs), 0.25, np.float32)


def test_fused_hits_are_in_the_order_of_both_scores_together(two_stages: SearchEngine) -> None:
    alone = two_stages.search(QUERY, k=30, rerank_depth=30)
    hits = two_stages.search(QUERY, k=30, rerank_depth=30, fuse=0.5)
    by_hand = {hit.id: hit.score + 0.5 * hit.retriever_score for hit in alone}
    assert [hit.id for hit in hits] == sorted(by_hand, key=lambda each: -by_hand[each])
    assert [hit.id for hit in hits] != [hit.id for hit in alone]
    assert [hit.rank for hit in hits] == list(range(1, 31))
    np.testing.assert_allclose([hit.score for hit in hits], [by_hand[hit.id] for hit in hits])
    stages = {hit.id: (hit.retriever_score, hit.reranker_score) for hit in alone}
    assert {hit.id: (hit.retriever_score, hit.reranker_score) for hit in hits} == stages


def test_a_weight_of_zero_is_the_reranker_alone(two_stages: SearchEngine) -> None:
    alone = two_stages.search(QUERY, k=20, rerank_depth=30)
    assert two_stages.search(QUERY, k=20, rerank_depth=30, fuse=0) == alone


def test_equal_fused_scores_stay_in_the_order_of_stage_one(
    index: Path, model: Path, engine: SearchEngine
) -> None:
    retriever = DualEncoder.load(str(model), precision="fp32")
    with SearchEngine(Index.open(index), retriever, Indifferent()) as opened:
        for fuse in (None, 0.0, 3.0):
            hits = opened.search(QUERY, k=300, fuse=fuse)
            assert [hit.id for hit in hits] == [hit.id for hit in engine.search(QUERY, k=300)]


def test_the_search_has_the_order_that_the_weight_was_chosen_by(two_stages: SearchEngine) -> None:
    hits = two_stages.search(QUERY, k=40, rerank_depth=40)
    relevant = hits[5].id
    scores = {"q": {hit.id: hit.retriever_score for hit in hits}}
    logits = {"q": {hit.id: hit.score for hit in hits}}
    choice = tune_fusion(scores, logits, {"q": {relevant: 1}}, measure="nDCG@40")
    fused = two_stages.search(QUERY, k=40, rerank_depth=40, fuse=choice.weight)
    (rank,) = [hit.rank for hit in fused if hit.id == relevant]
    assert choice.value == pytest.approx(1 / np.log2(rank + 1))


def test_auto_is_the_weight_in_the_rerankers_settings(
    index: Path, shared_reference: Path, tmp_path: Path, two_stages: SearchEngine
) -> None:
    folder = shutil.copytree(shared_reference / "tiny-bert-cross-encoder", tmp_path / "reranker")
    save_settings(folder, replace(folder_settings(folder), fusion=0.5))
    with SearchEngine.open(index, reranker=folder, precision="fp32") as opened:
        hits = opened.search(QUERY, k=10, rerank_depth=30, fuse="auto")
        assert opened.search(QUERY, k=10, rerank_depth=30)[0].score == hits[0].reranker_score
    assert hits == two_stages.search(QUERY, k=10, rerank_depth=30, fuse=0.5)


def test_auto_without_a_weight_in_the_settings_is_a_sentence(two_stages: SearchEngine) -> None:
    with pytest.raises(UsageError, match="keeps no weight: give a number, or choose one on dev"):
        two_stages.search(QUERY, fuse="auto")


@pytest.mark.parametrize("fuse", [0.0, 2.0, "auto"])
def test_fusion_without_a_reranker_is_refused(engine: SearchEngine, fuse: Any) -> None:
    with pytest.raises(UsageError, match=rf"fuse \({fuse}\) needs a re-ranker"):
        engine.search(QUERY, fuse=fuse)


@pytest.mark.parametrize("fuse", [-0.5, float("nan"), float("inf"), "0.5", "", True, [1.0]])
def test_what_is_no_weight_is_refused(two_stages: SearchEngine, fuse: Any) -> None:
    with pytest.raises(UsageError, match=r'must be "auto" or a finite number of at least 0'):
        two_stages.search(QUERY, fuse=fuse)
