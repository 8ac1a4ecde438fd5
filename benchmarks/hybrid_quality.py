"""What a hybrid first stage finds, for several shares of the vectors, on four collections.

Beside vectors alone and BM25 alone stands the reciprocal rank fusion of the same two lists
(Cormack, Clarke and Büttcher, SIGIR 2009). The indexes, with MiniLM's vectors, stay in ``--work``:
later runs search them only.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import orjson

sys.path.insert(0, str(Path(__file__).parent))
from scifact import corpus_file, data_folder

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.queries import read_queries
from rocketrank.eval import load_qrels
from rocketrank.eval.measures import evaluate
from rocketrank.index import BuildOptions, build_index
from rocketrank.retriever import DualEncoder
from rocketrank.search_options import HYBRID_WEIGHT
from rocketrank.stages import Hit

DEPTH = 100
RANK_CONSTANT = 60


class Collection(NamedTuple):
    """Queries by id, their judgements, and the measure that is usual for them."""

    name: str
    corpus: Path
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    measure: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, default=data_folder(), metavar="DIR")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=[0.3, 0.5, HYBRID_WEIGHT, 0.7, 0.8]
    )
    options = parser.parse_args()
    names = ["vectors", "BM25", "ranks", *(f"hybrid {each:g}" for each in options.weights)]
    print("| collection | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for collection in collections(options.data):
        row = [f"{value:.4f}" for value in measured(collection, options.work, options.weights)]
        title = f"{collection.name}, {len(collection.qrels):,} queries, {collection.measure}"
        print(f"| {title} | " + " | ".join(row) + " |", flush=True)


def collections(data: Path) -> Iterator[Collection]:
    scifact, msmarco, nq = data / "scifact", data / "msmarco", data / "nq"
    test = load_qrels(scifact / "qrels" / "test.tsv")
    yield Collection(
        "scifact", corpus_file(scifact), texts(scifact / "queries.jsonl"), test, "nDCG@10"
    )
    for name, queries, qrels, measure in (
        ("dl19", "queries.dl19.tsv", "qrels.dl19.txt", "nDCG@10"),
        ("msmarco", "queries.train.tsv", "qrels.train.tsv", "RR@10"),
    ):
        judged = load_qrels(msmarco / qrels)
        corpus = msmarco / "collection.tsv"
        yield Collection(name, corpus, texts(msmarco / queries), judged, measure)
    asked, gold = {}, {}
    for number, line in enumerate((nq / "questions.jsonl").read_bytes().splitlines()):
        record = orjson.loads(line)
        asked[str(number)], gold[str(number)] = record["question"], {str(record["gold"]): 1}
    yield Collection("nq", nq / "passages.tsv", asked, gold, "RR@10")


def texts(path: Path) -> dict[str, str]:
    return {query.id: query.text for query in read_queries(path)}


def measured(collection: Collection, work: Path, weights: Sequence[float]) -> Iterator[float]:
    """The measure of vectors, BM25, their ranks fused, and each of ``weights``."""
    directory = work / f"{collection.corpus.parent.name}.index"
    encoder = DualEncoder.load("minilm")
    if not (directory / "manifest.json").exists():
        build_index(directory, CorpusReader([collection.corpus]), encoder, BuildOptions(bm25=True))
    ids = [each for each in collection.queries if each in collection.qrels]
    asked = [collection.queries[each] for each in ids]
    with SearchEngine.open(directory) as engine:

        def value(found: Sequence[Mapping[str, float]]) -> float:
            run = dict(zip(ids, found, strict=True))
            by_query = evaluate(run, collection.qrels, [collection.measure])
            return fmean(by_query[collection.measure].values())

        dense, words = (
            [by_id(hits) for hits in engine.search_many(asked, k=DEPTH, first_stage=stage)]
            for stage in ("dense", "bm25")
        )
        yield value(dense)
        yield value(words)
        yield value([by_rank(pair) for pair in zip(dense, words, strict=True)])
        for weight in weights:
            own = SearchEngine(engine.index, engine.retriever, hybrid_weight=weight)
            hits = own.search_many(asked, k=DEPTH, first_stage="hybrid")
            yield value([by_id(each) for each in hits])


def by_id(hits: Sequence[Hit]) -> dict[str, float]:
    """Scores that fall with the rank, so that no tie is broken otherwise than by the search."""
    return {hit.id: -float(hit.rank) for hit in hits}


def by_rank(lists: Sequence[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for found in lists:
        for rank, each in enumerate(found, start=1):
            sums[each] = sums.get(each, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sums


if __name__ == "__main__":
    main()
