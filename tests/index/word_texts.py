"""Texts for tests of BM25, an index of them, and what other implementations say of them."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rocketrank.data.records import Passage
from rocketrank.data.words import words
from rocketrank.index import ChangeOptions, Index, SearchResult, add_passages

from .small_index import HashingEncoder, ListCorpus

Scores = dict[str, float]
OPTIONS = ChangeOptions(shard_size=10)


def texts(count: int, seed: int = 3, most: int = 40) -> list[Passage]:
    """Passages of 0 to ``most`` words out of some that are common and some that are rare."""
    chance = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(30)] + ["the", "zürich", "北京", "été"]
    weights = [1 / (place + 1) for place in range(len(vocabulary))]
    return [
        Passage(
            f"p{number}",
            " ".join(chance.choices(vocabulary, weights, k=chance.randint(0, most))) or "?",
            title=f"Title word{number % 5}" if number % 4 == 0 else "",
            metadata={"number": number},
        )
        for number in range(count)
    ]


QUERIES = ["word1 word7", "word0 word3 word3 word29", "zürich", "北京 word2", "the", "absent", ""]


def by_formula(passages: Sequence[Passage], query: str) -> Scores:
    """Lucene's BM25 as Kamphuis et al. (ECIR 2020) write it, k1 0.9 and b 0.4, by id."""
    documents = {each.id: Counter(words(each.full_text)) for each in passages}
    average = sum(each.total() for each in documents.values()) / max(1, len(documents))
    scores: Scores = {}
    for passage_id, document in documents.items():
        score = 0.0
        for word in words(query):
            having = sum(word in other for other in documents.values())
            if document[word]:
                idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
                norm = 0.9 * (1 - 0.4 + 0.4 * document.total() / average)
                score += idf * document[word] / (document[word] + norm)
        if score:
            scores[passage_id] = score
    return scores


def hits(index: Index, result: SearchResult) -> list[list[tuple[str, float]]]:
    """For each query the ids and scores that were found, best first."""
    found = []
    for rows, scores in zip(result.rows, result.scores, strict=True):
        there = rows >= 0
        assert (scores[~there] == -np.inf).all()
        ids = [passage.id for passage in index.passages(rows[there].tolist())]
        found.append(list(zip(ids, scores[there].tolist(), strict=True)))
    return found


def found_in(
    directory: Path, queries: Sequence[str] = QUERIES, k: int = 1000, where: str | None = None
) -> list[list[tuple[str, float]]]:
    with Index.open(directory) as index:
        return hits(index, index.search_words(queries, k, where))


def add(directory: Path, passages: Sequence[Passage], *, update: bool = False) -> None:
    add_passages(directory, ListCorpus(passages), HashingEncoder(), OPTIONS, update=update)
