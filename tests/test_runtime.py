"""Batches and windows: what is bounded, and that nothing is lost or out of place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.runtime import CHARACTERS_PER_WINDOW, TEXTS_PER_WINDOW, _windows, make_batches
from rocketrank.tokenizing import Tokens

LENGTHS = st.lists(st.integers(0, 130), min_size=1, max_size=60)


def tokens_of(lengths: list[int]) -> list[Tokens]:
    return [Tokens([7] * n, [1] * n, False) for n in lengths]


@given(LENGTHS, st.integers(8, 600))
def test_every_text_is_in_one_batch_with_all_its_tokens(lengths: list[int], budget: int) -> None:
    seen: list[int] = []
    for batch in make_batches(tokens_of(lengths), pad_id=3, longest=130, budget=budget):
        seen.extend(batch.rows.tolist())
        wanted = [lengths[row] for row in batch.rows]
        assert batch.attention_mask.sum(axis=1).tolist() == wanted
        assert (batch.input_ids == 7).sum(axis=1).tolist() == wanted
        assert np.array_equal(batch.input_ids == 3, batch.attention_mask == 0)
    assert sorted(seen) == list(range(len(lengths)))


@given(LENGTHS, st.integers(8, 600))
def test_a_batch_keeps_to_its_budget_unless_one_text_is_larger(
    lengths: list[int], budget: int
) -> None:
    for batch in make_batches(tokens_of(lengths), pad_id=0, longest=130, budget=budget):
        count, width = batch.input_ids.shape
        assert count == 1 or count * width <= budget
        assert width % 8 == 0 or width == 130
        assert width - max(lengths[row] for row in batch.rows) < 9


def test_windows_are_bounded_by_texts_and_by_characters() -> None:
    texts = ["a"] * (TEXTS_PER_WINDOW + 5) + ["b" * CHARACTERS_PER_WINDOW, "c", "d"]
    windows = _windows(texts)
    assert [texts[window] for window in windows] == [
        ["a"] * TEXTS_PER_WINDOW,
        ["a"] * 5,
        ["b" * CHARACTERS_PER_WINDOW],
        ["c", "d"],
    ]


def test_both_texts_of_a_pair_count() -> None:
    half = "x" * (CHARACTERS_PER_WINDOW // 2)
    assert len(_windows([(half, half), ("q", "p")])) == 2
