"""What a step reads: distinct passages, who encodes them, and tokens in chunks."""

from pathlib import Path

import numpy as np
import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError
from rocketrank.training.batches import Batch, Layout, lay_out, make_batch
from rocketrank.training.examples import Example
from rocketrank.training.lists import Candidate
from rocketrank.training.passages import open_passages
from rocketrank.training.step import Models

from .small_step import (
    EXAMPLES,
    POSITIVES,
    candidate,
    example,
    open_models,
    start_reranker,
    start_retriever,
)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return lay_out(EXAMPLES, POSITIVES, None)


@pytest.fixture(scope="module")
def models(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("start")
    return open_models(
        start_retriever(shared_reference, folder / "retriever"),
        start_reranker(shared_reference, folder / "reranker"),
    )


def names(layout: Layout) -> list[str]:
    return [passage.id for passage in layout.passages]


def test_a_passage_of_several_lists_or_ids_has_one_place(layout: Layout) -> None:
    # p8* repeats p8, and p7* repeats p7
    assert " ".join(names(layout)) == "p0 p1 p2 p3 p9 p4 p5 p6 p7 p8 p10 p11 p12 p13"


def test_candidates_are_the_places_of_their_passages(layout: Layout) -> None:
    for row, each in enumerate(EXAMPLES):
        assert layout.real[row].sum() == len(each.candidates)
        for column, one in enumerate(each.candidates):
            passage = layout.passages[layout.candidates[row, column]]
            assert (passage.title, passage.text) == (one.title, one.text)
    assert layout.candidates.shape == layout.real.shape == layout.duplicate.shape == (6, 5)
    assert not layout.candidates[~layout.real].any()


def test_only_a_passage_that_is_in_its_list_already_is_a_duplicate(layout: Layout) -> None:
    assert np.argwhere(layout.duplicate).tolist() == [[3, 2]]


def test_known_are_the_positives_of_a_query_that_the_batch_holds(layout: Layout) -> None:
    found = [{names(layout)[place] for place in np.flatnonzero(known)} for known in layout.known]
    assert found == [{"p0", "p9"}, {"p0", "p9"}, {"p1"}, {"p7"}, {"p9"}, {"p10"}]


def test_a_positive_is_known_by_its_text_under_another_id_too() -> None:
    layout = lay_out([example("q2", "p7 p8"), example("q4", "p10 p7*")], POSITIVES, None)
    assert [names(layout)[place] for place in np.flatnonzero(layout.known[0])] == ["p7"]
    assert names(layout) == ["p7", "p8", "p10"]


def test_losses_see_each_passage_once_and_one_positive() -> None:
    lists = [
        example("q0", "p0 p1 p1* p0* p2"),
        example("q0", "p9 p3 p0*"),  # the text of the other positive
        example("q1", "p1 p2"),
    ]
    assert lay_out(lists, POSITIVES, None).counted.tolist() == [
        [True, True, False, False, True],
        [True, True, False, False, False],
        [True, True, False, False, False],
    ]


def test_every_list_and_passage_has_one_of_the_processes_and_lists_are_divided_evenly() -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None, processes=4)
    assert np.bincount(layout.list_owner).tolist() in ([2, 1, 2, 1], [2, 2, 1, 1])
    first_list = [
        min(row for row in range(6) if place in layout.candidates[row][layout.real[row]])
        for place in range(len(layout.passages))
    ]
    assert layout.passage_owner.tolist() == layout.list_owner[first_list].tolist()


def test_there_may_be_more_processes_than_lists() -> None:
    layout = lay_out(EXAMPLES[:2], POSITIVES, None, processes=5)
    assert len(set(layout.list_owner.tolist())) == 2
    assert set(layout.passage_owner) <= set(layout.list_owner)


# ---------------------------------------------------------------- texts that are elsewhere


def test_texts_that_are_elsewhere_are_found_by_id(tmp_path: Path) -> None:
    corpus = tmp_path / "collection.tsv"
    corpus.write_text("a\tthe first text\nb\tthe second text\nc\tone more\n")
    here = Example("q", "query", [Candidate("a", 1), candidate("p1"), Candidate("c", 0)])
    layout = lay_out([here], {"q": frozenset({"a"})}, open_passages([corpus]))
    assert [each.text for each in layout.passages] == [
        "the first text",
        candidate("p1").text,
        "one more",
    ]


def test_a_candidate_without_a_text_anywhere_is_named_with_the_cure() -> None:
    here = Example("q", "query", [candidate("p1", 1), Candidate("lost", 0), Candidate("too", 0)])
    expected = (
        r'^2 candidates of this batch have no text, the first with the id "lost": .*--passages'
    )
    with pytest.raises(DataError, match=expected):
        lay_out([here], {"q": frozenset({"p1"})}, None)


# ---------------------------------------------------------------- tokens


def all_rows(batch: Batch) -> list[list[int]]:
    return [
        sorted(int(row) for chunk in chunks for row in chunk.rows)
        for chunks in (batch.queries, batch.passages, batch.pairs)
    ]


@pytest.mark.parametrize("budget", [1, 96, 100_000])
def test_every_query_passage_and_pair_is_in_one_chunk(models: Models, budget: int) -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None)
    batch = make_batch(layout, models.retriever, models.reranker, tokens_per_chunk=budget)
    sizes = (6, len(layout.passages), int(layout.real.sum()))
    assert all_rows(batch) == [list(range(size)) for size in sizes]
    for chunk in (*batch.queries, *batch.passages, *batch.pairs):
        assert chunk.input_ids.size <= budget or len(chunk.rows) == 1


def test_a_row_holds_the_tokens_of_its_text(models: Models) -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None)
    assert models.retriever and models.reranker
    batch = make_batch(layout, models.retriever, models.reranker, tokens_per_chunk=96)
    pairs = [(e.query, Passage("", str(c.text), c.title)) for e in EXAMPLES for c in e.candidates]
    expected = (
        models.retriever.query_tokens([each.query for each in EXAMPLES]),
        models.retriever.passage_tokens(layout.passages),
        models.reranker.pair_tokens([pair[0] for pair in pairs], [pair[1] for pair in pairs]),
    )
    for chunks, tokens in zip(batch[1:], expected, strict=True):
        for chunk in chunks:
            for place, row in enumerate(chunk.rows):
                length = len(tokens[row].ids)
                assert chunk.input_ids[place, :length].tolist() == tokens[row].ids
                assert chunk.token_type_ids[place, :length].tolist() == tokens[row].type_ids
                assert chunk.attention_mask[place].tolist() == [
                    int(n < length) for n in range(chunk.input_ids.shape[1])
                ]


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_the_processes_together_encode_everything_once(models: Models, processes: int) -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None, processes=processes)
    counts = np.zeros(3, dtype=int)
    for process in range(processes):
        batch = make_batch(
            layout, models.retriever, models.reranker, tokens_per_chunk=96, process=process
        )
        rows = all_rows(batch)
        assert rows == [list(range(len(each))) for each in rows]
        counts += [len(each) for each in rows]
    assert counts.tolist() == [6, len(layout.passages), int(layout.real.sum())]


def test_a_model_that_the_stage_does_not_run_gets_no_tokens(models: Models) -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None)
    alone = make_batch(layout, models.retriever, None, tokens_per_chunk=96)
    assert alone.queries and alone.passages and not alone.pairs
    alone = make_batch(layout, None, models.reranker, tokens_per_chunk=96)
    assert alone.pairs and not alone.queries and not alone.passages


def test_a_batch_knows_how_many_of_its_tokens_are_padding(models: Models) -> None:
    layout = lay_out(EXAMPLES, POSITIVES, None)
    batch = make_batch(layout, models.retriever, models.reranker, tokens_per_chunk=96)
    chunks = [chunk for chunks in batch[1:] for chunk in chunks]
    real = sum(int((chunk.input_ids != 0).sum()) for chunk in chunks)  # [PAD] is 0
    padded = sum(chunk.input_ids.size for chunk in chunks)
    assert batch.tokens == (real, padded) and real < padded


def test_every_version_of_a_positive_is_one_whatever_was_cut_out_of_it() -> None:
    """Of one passage the batch has the whole, and what is left without two pieces."""

    def example(query: str, positive: str, negative: str) -> Example:
        own = Candidate("p", 1, text=positive)
        return Example(query, query, [own, Candidate("n", 0, text=negative)])

    examples = [
        example("one", "whole", "other"),
        example("two", "without this", "other"),
        Example(
            "three", "three", [Candidate("n", 1, text="other"), Candidate("p", 0, text="whole")]
        ),
    ]
    layout = lay_out(
        examples, {"one": frozenset("p"), "two": frozenset("p"), "three": frozenset("n")}, None
    )
    assert [each.text for each in layout.passages] == ["whole", "other", "without this"]
    assert layout.known.tolist() == [
        [True, False, True],
        [True, False, True],
        [False, True, False],
    ]
