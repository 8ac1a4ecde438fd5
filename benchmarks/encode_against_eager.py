"""Documents per second: RocketRank's encoder against the same model run eagerly in Paddle.

The eager side is what a first script would do: fp32, batches of 32 in input order, each padded to
its longest text, on all cores. Both sides take turns over the same documents with the same
tokenizer settings, and the least cosine between their vectors is printed beside the speeds.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from scifact import arguments, corpus_file, spread

from rocketrank import backbone
from rocketrank.data.corpus import CorpusReader
from rocketrank.environment import prepare_training
from rocketrank.models import Model, open_model
from rocketrank.retriever import DualEncoder
from rocketrank.tokenizing import Tokenizer

Encode = Callable[[list[str]], NDArray[np.float32]]


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


def eager_encoder(model: Model) -> Encode:
    paddle = backbone.paddle_module()
    settings = model.settings
    tower = backbone.load_tower(
        model.path, model.config(), pooling=settings.pooling, normalize=settings.normalize
    )
    tokenizer = Tokenizer.load(model.path, length=settings.passage_length)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        parts: list[Any] = []
        for start in range(0, len(texts), 32):
            tokens = tokenizer.encode(texts[start : start + 32])
            length = max(len(each.ids) for each in tokens)
            ids = np.full((len(tokens), length), tokenizer.pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, each in enumerate(tokens):
                ids[row, : len(each.ids)] = each.ids
                mask[row, : len(each.ids)] = 1
            inputs = [paddle.to_tensor(each) for each in (ids, mask, np.zeros_like(ids))]
            with paddle.no_grad():
                parts.append(tower(*inputs).numpy())
        return np.concatenate(parts)

    return encode


if __name__ == "__main__":
    main()
