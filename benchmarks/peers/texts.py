"""The texts of the comparisons."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scifact import corpus_file

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.queries import read_queries
from rocketrank.eval import load_qrels


class SciFact(NamedTuple):
    """Documents with their titles before them, the queries of the test set, their judgements."""

    file: Path
    ids: list[str]
    texts: list[str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_scifact(folder: Path) -> SciFact:
    """``folder`` as BEIR unpacks it."""
    file = corpus_file(folder)
    passages = list(CorpusReader([file]))
    qrels = load_qrels(folder / "qrels" / "test.tsv")
    return SciFact(
        file,
        [passage.id for passage in passages],
        [passage.full_text for passage in passages],
        {each.id: each.text for each in read_queries(folder / "queries.jsonl") if each.id in qrels},
        qrels,
    )


def read_msmarco(folder: Path) -> list[str]:
    """The passages of the sample."""
    return [passage.full_text for passage in CorpusReader([folder / "collection.tsv"])]


def spaced(items: Sequence[str], count: int) -> list[str]:
    """``count`` items evenly spaced, so that their lengths are the collection's."""
    return list(items[:: max(1, len(items) // count)][:count])
