"""Where the time of encoding SciFact's passages goes: text to tokens, tokens to vectors, Python.

    python benchmarks/where_time_goes.py --scifact SCIFACT [--model minilm-int8]

The operations are those that OpenVINO's profile names; attention is what it compiles into one
subgraph (products of queries with keys, softmax, products with values).
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from peers.texts import read_scifact, spaced
from scifact import arguments

from rocketrank.exporting import exported_program
from rocketrank.inference import choose_runtime, fed_names, openvino_properties
from rocketrank.models import open_model
from rocketrank.runtime import make_batches
from rocketrank.tokenizing import Tokenizer

OPERATIONS = {"FullyConnected": "products with weights", "Subgraph": "attention"}
PYTHON, BATCHES = "Python around the engine", "batches"
OTHERS = "other operations (sums, normalisation, GELU, copies)"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = open_model(options.model, role="dual-encoder")
    tokenizer = Tokenizer.load(model.tower_path("passage"), length=model.settings.passage_length)
    texts = spaced(read_scifact(options.scifact).texts, 256)
    program = compiled(exported_program(model, "passage", "openvino"), options.precision)
    request = program.create_infer_request()
    rounds = [one_round(texts, tokenizer, program, request) for _ in range(options.rounds + 1)]
    shares = {part: statistics.median(each[part] for each in rounds[1:]) for part in rounds[0]}
    # the engine's clocks are means over every batch so far
    for each in request.profiling_info:
        part = OPERATIONS.get(each.node_type, OTHERS)
        seconds = each.real_time.total_seconds() * shares[BATCHES]
        shares[part] = shares.get(part, 0.0) + seconds
        shares[PYTHON] -= seconds
    del shares[BATCHES]
    print(f"| {len(texts)} passages, {options.rounds} rounds | ms | share |\n|---|---:|---:|")
    for part, seconds in sorted(shares.items(), key=lambda each: -each[1]):
        print(f"| {part} | {seconds * 1000:,.0f} | {seconds / sum(shares.values()):.1%} |")


def compiled(file: Path, precision: Any) -> Any:
    """The program as the runtime compiles it, with a clock at each operation."""
    import openvino

    properties = openvino_properties(choose_runtime(precision=precision, engine="openvino"))
    return openvino.Core().compile_model(str(file), "CPU", {**properties, "PERF_COUNT": True})


def one_round(
    texts: list[str], tokenizer: Tokenizer, program: Any, request: Any
) -> dict[str, float]:
    """Seconds of each part, all of the engine's under Python, and the number of batches."""
    began = time.perf_counter()
    tokens = tokenizer.encode(texts)
    tokenised = time.perf_counter()
    batches = list(make_batches(tokens, pad_id=tokenizer.pad_id, longest=tokenizer.length))
    made = time.perf_counter()
    for batch in batches:
        feed = {name: getattr(batch, name) for name in fed_names(program)}
        request.infer(feed, share_inputs=True)
    return {
        "tokenising": tokenised - began,
        "making batches": made - tokenised,
        PYTHON: time.perf_counter() - made,
        BATCHES: len(batches),
    }


if __name__ == "__main__":
    main()
