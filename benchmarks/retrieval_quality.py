"""nDCG@10 on the SciFact test judgements for index structures at their default search settings.

The encoded shards of one index are reused: only the structure differs between the rows.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import R, nDCG
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from scifact import arguments, corpus_file

from rocketrank import SearchEngine
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.index import BuildOptions, build_index
from rocketrank.retriever import DualEncoder


class Remembered:
    """An encoder that encodes each passage once, whatever the number of indexes built with it."""

    def __init__(self, encoder: DualEncoder) -> None:
        self.encoder = encoder
        self.dim, self.name, self.fingerprint = encoder.dim, encoder.name, encoder.fingerprint
        self._known: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def encode_passages(
        self, texts: Sequence[str], titles: Sequence[str] | None = None, **options: object
    ) -> NDArray[np.float32]:
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self.encoder.encode_passages(texts, titles)
        return self._known[key]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kinds", nargs="+", default=["flat", "ivf", "hnsw", "ivfpq"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    judgements = list(read_qrels(options.scifact / "qrels" / "test.tsv"))
    qrels = [ir_measures.Qrel(j.query_id, j.passage_id, j.relevance) for j in judgements]
    judged = {judgement.query_id for judgement in judgements}
    queries = [q for q in read_queries(options.scifact / "queries.jsonl") if q.id in judged]
    encoder = Remembered(DualEncoder.load("minilm", precision=options.precision))
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "index"
            corpus = CorpusReader([corpus_file(options.scifact)])
            build_index(directory, corpus, encoder, BuildOptions(kind=kind))
            with SearchEngine.open(directory, precision=options.precision) as engine:
                hits = engine.search_many([query.text for query in queries], k=100)
        run = [
            ir_measures.ScoredDoc(query.id, hit.id, hit.score)
            for query, found in zip(queries, hits, strict=True)
            for hit in found
        ]
        figures = ir_measures.calc_aggregate([nDCG @ 10, R @ 100], qrels, run)
        shown = ", ".join(f"{measure} {value:.4f}" for measure, value in figures.items())
        print(f"{kind}: {shown}", flush=True)


if __name__ == "__main__":
    main()
