"""Words as BM25 counts them."""

import pytest

from rocketrank.data.words import STOP_WORDS, words


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    assert words("Alpha-2 BETA, gamma_x; don't!") == ["alpha", "2", "beta", "gamma_x", "don", "t"]


def test_words_come_in_their_order_and_as_often_as_they_occur() -> None:
    assert words("cats and dogs and cats") == ["cats", "dogs", "cats"]


def test_letters_of_every_script_make_words() -> None:
    assert words("Zürich ÉTÉ Москва ١٢") == ["zürich", "été", "москва", "١٢"]


def test_chinese_and_japanese_characters_are_words_of_their_own() -> None:
    assert words("北京是capital首都 カタ") == ["北", "京", "是", "capital", "首", "都", "カ", "タ"]


def test_a_text_of_stop_words_and_signs_has_no_words() -> None:
    assert words("The, and - IF?") == []


def test_the_stop_words_are_those_of_bm25s() -> None:
    library = pytest.importorskip("bm25s.stopwords", reason="needs the package bm25s")
    assert sorted(STOP_WORDS) == sorted(library.STOPWORDS_EN)
