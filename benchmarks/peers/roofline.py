"""How near encoding and re-ranking come to what the cores can multiply."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import openvino
from openvino import opset13

from rocketrank.inference import choose_runtime, openvino_properties
from rocketrank.models import open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder
from rocketrank.tokenizing import Tokenizer, Tokens

from .models import minilm_folder

_SIZE = 4096


def operations(tokens: Sequence[Tokens], config: Mapping[str, Any]) -> float:
    """Floating-point operations of BERT's matrix products over texts without padding.

    A token of a text of L goes, in each layer, through four products with (width, width), two with
    (width, intermediate), and meets L others twice; a multiplication and an addition each.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    lengths = np.array([len(each.ids) for each in tokens], dtype=np.float64)
    linear = lengths.sum() * (4 * width * width + 2 * width * inner)
    attention = 2 * width * (lengths**2).sum()
    return float(2 * config["num_hidden_layers"] * (linear + attention))


def matrix_product(precision: Literal["fp32", "bf16"]) -> tuple[Callable[[], object], float]:
    """One large product, by oneDNN inside OpenVINO; what runs it, and its operations."""
    left = opset13.parameter([_SIZE, _SIZE], np.float32)
    random = np.random.default_rng(1)
    right = opset13.constant(random.normal(size=(_SIZE, _SIZE)).astype(np.float32))
    program = openvino.Model([opset13.matmul(left, right, False, True)], [left])
    properties = openvino_properties(choose_runtime(precision=precision, engine="openvino"))
    request = openvino.Core().compile_model(program, "CPU", properties).create_infer_request()
    values = random.normal(size=(_SIZE, _SIZE)).astype(np.float32)
    return lambda: request.infer([values], share_inputs=True, share_outputs=True), 2.0 * _SIZE**3


def achieved(
    texts: Sequence[str], pairs: Sequence[tuple[str, str]], reranker: str, rounds: int
) -> dict[str, Any]:
    """GFLOP/s of a large product, of encoding and of re-ranking, in turn, by precision."""
    works = {}
    for precision in ("fp32", "bf16"):
        product, size = matrix_product(precision)
        encoder = DualEncoder.load(minilm_folder(), precision=precision)
        scorer = CrossEncoder.load(open_model(reranker), precision=precision)
        single = Tokenizer.load(encoder.model.path, length=encoder.model.settings.passage_length)
        double = Tokenizer.load(scorer.model.path, length=scorer.model.settings.pair_length)
        sides: dict[str, tuple[Callable[[], object], float]] = {
            "one large matrix product": (product, size),
            "encode": (
                lambda e=encoder: e.encode_passages(texts),
                operations(single.encode(texts), encoder.model.config()),
            ),
            "re-rank": (
                lambda s=scorer: s.score(pairs),
                operations(double.encode_pairs(pairs), scorer.model.config()),
            ),
        }
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds + 1):
            for name, (run, count) in sides.items():
                started = time.perf_counter()
                run()
                speeds[name].append(count / (time.perf_counter() - started) / 1e9)
        works[precision] = {name: {"per_second": each[1:]} for name, each in speeds.items()}
    return works
