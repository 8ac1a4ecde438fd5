"""BM25 against its formula, its ties, and what it says when it cannot be used."""

import math
import random
import sys
from collections import Counter
from itertools import pairwise

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, MissingDependencyError, UsageError
from rocketrank.training.bm25 import Bm25

pytest.importorskip("bm25s", reason="needs the package bm25s")


def corpus(*texts: str) -> list[Passage]:
    return [Passage(f"p{row}", text) for row, text in enumerate(texts)]


def by_formula(query: str, texts: list[str]) -> list[float]:
    """Lucene's BM25 as Kamphuis et al. (ECIR 2020) write it, k1 0.9 and b 0.4, word by word."""
    documents = [Counter(text.split()) for text in texts]
    average = sum(document.total() for document in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query.split():
            having = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            norm = 0.9 * (1 - 0.4 + 0.4 * document.total() / average)
            score += idf * document[word] / (document[word] + norm)
        scores.append(score)
    return scores


def test_scores_equal_the_formula_on_random_texts() -> None:
    chance = random.Random(3)
    words = [f"word{number}" for number in range(12)]
    texts = [" ".join(chance.choices(words, k=chance.randint(1, 20))) for _ in range(50)]
    scorer = Bm25(corpus(*texts))
    for _ in range(20):
        query = " ".join(chance.choices(words, k=3))
        expected = by_formula(query, texts)
        hits = scorer.search([query], len(texts))[0]
        assert {hit.row for hit in hits} == {row for row, score in enumerate(expected) if score > 0}
        assert [hit.score for hit in hits] == pytest.approx(
            [expected[hit.row] for hit in hits], rel=1e-5
        )
        assert all(one.score >= next.score for one, next in pairwise(hits))


def test_equal_scores_come_in_corpus_order_also_at_the_cut() -> None:
    scorer = Bm25(corpus("other words", *["equal text"] * 9))
    assert [hit.row for hit in scorer.search(["equal"], 4)[0]] == [1, 2, 3, 4]


def test_a_passage_without_a_word_of_the_query_is_not_found() -> None:
    scorer = Bm25(corpus("cats purr", "dogs bark", ""))
    assert [hit.row for hit in scorer.search(["Cats, sleeping"], 10)[0]] == [0]


def test_queries_of_unknown_words_or_stop_words_find_nothing() -> None:
    assert Bm25(corpus("the cat")).search(["zebra", "the", "?"], 5) == [[], [], []]


def test_the_title_is_searched_too() -> None:
    scorer = Bm25([Passage("a", "text", "penicillin"), Passage("b", "text")])
    assert [hit.row for hit in scorer.search(["penicillin"], 5)[0]] == [0]


def test_chinese_characters_are_words_of_their_own() -> None:
    scorer = Bm25(corpus("北京是首都", "上海很大"))
    assert [hit.row for hit in scorer.search(["首都在哪里"], 5)[0]] == [0]


def test_a_corpus_without_a_word_is_refused() -> None:
    with pytest.raises(DataError, match="found none in 2 passages"):
        Bm25(corpus("?", "…"))


def test_a_depth_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match=r"depth \(0\) must be at least 1"):
        Bm25(corpus("cat")).search(["cat"], 0)


def test_without_its_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "rocketrank\[bm25\]"'):
        Bm25(corpus("cat"))
