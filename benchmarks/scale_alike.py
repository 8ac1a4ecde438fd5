"""How alike the scale benchmark's made-up vectors and those of a model are.

    python benchmarks/scale_alike.py --corpus collection.tsv --queries queries.tsv --model minilm

Of as many vectors of both kinds: what inverted lists find of the exact 100 best when a share of
them is visited, and the local dimension, by maximum likelihood over the distances of the 100
nearest (Levina and Bickel, NIPS 2004).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scale import QUERIES, K, recall
from scale_data import Floats, Vectors

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.queries import read_queries
from rocketrank.index.kinds import list_count
from rocketrank.index.structure import faiss_library
from rocketrank.retriever import DualEncoder

SHARES = (64, 32, 16, 8, 4)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, metavar="FILE")
    parser.add_argument("--queries", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", default="minilm", metavar="MODEL")
    options = parser.parse_args(arguments)
    encoder = DualEncoder.load(options.model)
    passages = list(CorpusReader([options.corpus]))
    real = encoder.encode_passages([each.full_text for each in passages])
    queries = [each.text for each in read_queries(options.queries)][:QUERIES]
    made = Vectors()
    print(
        f"{len(real):,} vectors | " + " | ".join(f"1/{share}" for share in SHARES) + " | dimension"
    )
    print(_line(options.model, real, encoder.encode_queries(queries)))
    print(_line("made up", made.rows(0, len(real)), made.queries(QUERIES)))


def _line(name: str, vectors: Floats, queries: Floats) -> str:
    faiss = faiss_library()
    scores, best = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)
    lists = list_count(len(vectors))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    recalls = []
    for share in SHARES:
        index.nprobe = max(1, lists // share)
        recalls.append(recall(index.search(queries, K)[1], best))
    shown = " | ".join(f"{value:.3f}" for value in recalls)
    return f"{name} | {shown} | {local_dimension(scores):.1f}"


def local_dimension(scores: Floats) -> float:
    """Median over queries, from inner products (n, k) of vectors of length 1, best first."""
    distances = np.sqrt(np.maximum(2 - 2 * scores, 1e-9))
    logarithms = np.log(distances[:, -1:] / distances[:, :-1])
    return float(np.median(1 / logarithms.mean(axis=1)))


if __name__ == "__main__":
    main()
