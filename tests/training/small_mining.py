"""A collection whose every score is known, and a command that mines it, for tests to kill.

``python small_mining.py OUTPUT QUERIES SECONDS_A_BATCH`` mines hybrid lists, one query a batch.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketrank.data.records import Judgement, Passage, Query
from rocketrank.index import BuildOptions, Index, build_index
from rocketrank.training.mining import MiningResult, MiningSources, mine
from rocketrank.training.mining_options import MiningOptions
from rocketrank.training.mining_queries import select_queries

ONE_QUERY_A_BATCH = 4096
"""The depth at which a batch holds a single query, whatever the size of the index."""


class TableEncoder:
    """Vectors of one number: a query's is 1, a passage's is looked up by its full text."""

    name = "table"
    fingerprint = "a" * 64
    dim = 1

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = scores

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        full = [Passage("", *both).full_text for both in zip(texts, titles or texts, strict=True)]
        return np.array([[self.scores[text]] for text in full], dtype=np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), dtype=np.float32)


class TableScorer:
    """Logits looked up by the passage's full text; counts its calls, and may stop at one."""

    name = "scorer"
    fingerprint = "c" * 64

    def __init__(
        self, logits: Mapping[str, float], *, stops_at: int = -1, seconds: float = 0
    ) -> None:
        self.logits = logits
        self.calls = 0
        self._stops_at = stops_at
        self._seconds = seconds

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        time.sleep(self._seconds)
        if self.calls == self._stops_at:
            raise InterruptedError
        self.calls += 1
        return np.array([self.logits[passage] for _, passage in pairs], dtype=np.float32)


class Corpus(list[Passage]):
    """Passages as a corpus that an index is built from."""

    location = "table"
    skipped_empty = 0
    bytes_total: int | None = None
    bytes_read: int | None = None


class Collection:
    """Passages with their retriever score and logit, in a real index."""

    def __init__(self, folder: Path, rows: Sequence[tuple[Passage, float, float]]) -> None:
        self.encoder = TableEncoder({passage.full_text: score for passage, score, _ in rows})
        self.logits = {passage.full_text: logit for passage, _, logit in rows}
        if not folder.exists():
            corpus = Corpus(passage for passage, _, _ in rows)
            build_index(folder, corpus, self.encoder, BuildOptions())
        self.index = Index.open(folder)

    def sources(self, scorer: TableScorer | None = None) -> MiningSources:
        return MiningSources(index=self.index, retriever=self.encoder, reranker=scorer)

    def mine(
        self,
        output: Path,
        positives: Mapping[str, Sequence[str]],
        *,
        scorer: TableScorer | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> MiningResult:
        """Mines for the queries of ``positives`` (id → labelled positives; none: unjudged)."""
        queries = [Query(each, f"what is {each}") for each in positives]
        judgements = [Judgement(each, own, 1) for each in positives for own in positives[each]]
        chosen = MiningOptions(**{"negatives": 7, **options})
        selected = select_queries(queries, judgements, unjudged=chosen.pseudo_positives)
        return mine(output, selected, self.sources(scorer), chosen, overwrite=overwrite)


def numbered(folder: Path, count: int) -> Collection:
    """Passages p0, p1, … with falling retriever scores, and logits that go up and down."""
    return Collection(
        folder,
        [
            (Passage(f"p{n}", f"passage {n}"), 1 - n / count, float(4 * np.sin(2.7 * n)))
            for n in range(count)
        ],
    )


if __name__ == "__main__":
    small = numbered(Path(sys.argv[1]).with_name("small.index"), 40)
    small.mine(
        Path(sys.argv[1]),
        {f"q{n}": [f"p{n % 40}"] for n in range(int(sys.argv[2]))},
        scorer=TableScorer(small.logits, seconds=float(sys.argv[3])),
        lists="hybrid",
        depth=ONE_QUERY_A_BATCH,
        negatives=8,
    )
