"""Documents per second: RocketRank's encoder against the same model run eagerly in Paddle.

The eager side is what a first script would do: fp32, batches of 32 in input order, each padded to
its longest text, on all cores. Both sides take turns over the same documents with the same
tokenizer settings, and the least cosine between their vectors is printed beside the speeds.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from eager import Encode, eager_encoder
from scifact import arguments, corpus_file, spread

from rocketrank.data.corpus import CorpusReader
from rocketrank.environment import prepare_training
from rocketrank.models import open_model
from rocketrank.retriever import DualEncoder


def main() -> None:
    prepare_training()  # the eager side gets all cores and the better setting of MKL too
    parser = arguments(__doc__)
    parser.add_argument("--documents", type=int, default=256, help="documents a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="minilm")
    options = parser.parse_args()
    corpus = [p.full_text for p in CorpusReader([corpus_file(options.scifact)])]
    # Evenly spaced, so that the lengths are the collection's.
    texts = corpus[:: max(1, len(corpus) // options.documents)][: options.documents]
    sides: dict[str, Encode] = {"eager fp32": eager_encoder(open_model(options.model))}
    for precision in ("fp32", "auto"):
        encoder = DualEncoder.load(options.model, precision=precision)
        sides[f"rocketrank {encoder.runtime.precision}"] = encoder.encode_passages
    for encode in sides.values():
        encode(texts[:64])
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    vectors: dict[str, NDArray[np.float32]] = {}
    for number in range(1, options.rounds + 1):
        for name, encode in sides.items():
            started = time.perf_counter()
            vectors[name] = encode(texts)
            speeds[name].append(len(texts) / (time.perf_counter() - started))
        shown = ", ".join(f"{name} {values[-1]:.1f}" for name, values in speeds.items())
        print(f"round {number}: {shown} documents/s", flush=True)
    report(speeds, vectors)


def report(speeds: dict[str, list[float]], vectors: dict[str, NDArray[np.float32]]) -> None:
    eager = next(iter(speeds))
    for name, values in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(values, speeds[eager], strict=True)]
        cosine = float((vectors[name] * vectors[eager]).sum(axis=1).min())
        print(
            f"{name}: {spread(values, 'documents/s')}, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), least cosine {cosine:.5f}"
        )


if __name__ == "__main__":
    main()
