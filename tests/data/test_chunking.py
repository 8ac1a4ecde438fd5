"""Texts cut into chunks, against what must hold of any text and what a reader would do."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketrank.data.chunking import Chunking, Spans, chunk_ranges
from rocketrank.errors import UsageError
from rocketrank.models import open_model
from rocketrank.tokenizing import Tokenizer

WORDS = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> NDArray[np.int64]:
    """Words and signs as tokens."""
    found = [match.span() for match in WORDS.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def letters(text: str) -> NDArray[np.int64]:
    """Tokens as of a byte vocabulary: several, of one place, for a letter beyond ASCII."""
    found = [
        (place, place + 1)
        for place, letter in enumerate(text)
        if not letter.isspace()
        for _ in letter.encode("utf-8", "surrogatepass")
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def chunks(text: str, limit: int, stride: int, **options: int) -> list[str]:
    ranges = chunk_ranges(text, words, Chunking(limit, stride), **options)
    return [text[start:end] for start, end in ranges]


ANY_TEXT = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.sampled_from(["One. ", "two ", "Drei! ", "\n", "\n\n", "四。", "é", "x" * 30, " "])
    ).map("".join),
)
SIZES = st.integers(4, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@pytest.fixture(scope="module")
def spans() -> Spans:
    return Tokenizer.load(open_model("minilm").path, length=512).spans


@settings(deadline=None)
@given(ANY_TEXT, SIZES, st.integers(20, 200), st.sampled_from([words, letters]))
def test_together_chunks_cover_the_text(
    text: str, sizes: tuple[int, int], window: int, tokens: Spans
) -> None:
    covered = np.zeros(len(text), dtype=bool)
    for start, end in chunk_ranges(text, tokens, Chunking(*sizes), window=window):
        covered[start:end] = True
    assert not [text[place] for place in np.flatnonzero(~covered) if not text[place].isspace()]


@settings(deadline=None)
@given(ANY_TEXT, SIZES, st.integers(20, 200))
def test_chunks_follow_one_another_and_none_lies_in_another(
    text: str, sizes: tuple[int, int], window: int
) -> None:
    ranges = list(chunk_ranges(text, words, Chunking(*sizes), window=window))
    for (start, end), (next_start, next_end) in itertools.pairwise(ranges):
        assert start < next_start
        assert end < next_end


@settings(deadline=None)
@given(ANY_TEXT, SIZES, st.integers(20, 200), st.sampled_from([words, letters]))
def test_no_chunk_has_more_tokens_than_the_limit(
    text: str, sizes: tuple[int, int], window: int, tokens: Spans
) -> None:
    limit, stride = sizes
    for start, end in chunk_ranges(text, tokens, Chunking(limit, stride), window=window):
        assert len(tokens(text[start:end])) <= limit


@settings(deadline=None, max_examples=50)
@given(ANY_TEXT, st.integers(16, 40))
def test_no_chunk_has_more_tokens_of_a_real_vocabulary_than_the_limit(
    spans: Spans, text: str, limit: int
) -> None:
    for start, end in chunk_ranges(text, spans, Chunking(limit, limit)):
        assert len(spans(text[start:end])) <= limit


@settings(deadline=None)
@given(ANY_TEXT, SIZES)
def test_chunks_begin_and_end_with_something(text: str, sizes: tuple[int, int]) -> None:
    for start, end in chunk_ranges(text, words, Chunking(*sizes)):
        assert text[start:end] == text[start:end].strip() != ""


def test_a_chunk_ends_with_a_sentence_where_it_can() -> None:
    text = "One two three four. Five six seven. Eight nine ten eleven."
    assert chunks(text, 10, 10) == ["One two three four. Five six seven.", "Eight nine ten eleven."]


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    assert chunks("one two three four five six", 4, 4) == ["one two three four", "five six"]


def test_neighbours_overlap_by_what_the_stride_leaves() -> None:
    text = " ".join(f"w{number}" for number in range(10))
    assert chunks(text, 6, 4) == ["w0 w1 w2 w3 w4 w5", "w4 w5 w6 w7 w8 w9"]


def test_a_line_that_ends_within_a_sentence_does_not_end_a_chunk_before_a_full_stop() -> None:
    text = "One two\nthree four. Five\nsix seven eight nine."
    assert chunks(text, 6, 6)[0] == "One two\nthree four."


@pytest.mark.parametrize("text", ["See J. Smith et al. There.", "Ask Dr. Brown now please. Yes."])
def test_initials_and_titles_end_no_sentence(text: str) -> None:
    assert chunks(text, 8, 8)[0] not in ("See J.", "Ask Dr.")


def test_a_long_text_is_cut_the_same_whatever_else_is_in_memory() -> None:
    text = "".join(f"Sentence number {number} has seven words. " for number in range(500))
    windowed = chunks(text, 50, 40, window=1000)
    assert [each for each in windowed if not each.endswith("words.")] == []


@pytest.mark.parametrize(
    ("chunking", "sentence"),
    [
        (Chunking(8, 8), "--chunk (8) must be at least 16 tokens"),
        (Chunking(100, 0), "--stride (0) must be at least 1"),
        (Chunking(100, 101), "at most --chunk (100)"),
    ],
)
def test_numbers_that_would_lose_text_are_refused(chunking: Chunking, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        chunking.checked()
