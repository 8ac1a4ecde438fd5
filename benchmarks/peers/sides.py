"""The processes that take turns, and what their answers come to."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rocketrank.inference import usable_cores

HERE = Path(__file__).resolve().parent
OURS = ("ours int8", "ours auto", "ours fp32")
PEERS = ("torch fp32", "torch bf16", "onnx", "openvino", "openvino int8")
DEFAULT = "torch fp32"
"""What sentence-transformers does unless told otherwise."""
BATCH_SIZES = (8, 16, 32, 64)


class Side:
    """A worker, ours or a peer's, with the file that each of them runs."""

    def __init__(
        self,
        name: str,
        peers: Path,
        scripts: tuple[str, str] = ("ours.py", "sentence_transformers_side.py"),
    ) -> None:
        self.name = name
        self.is_ours = name.startswith("ours ")
        self.backend = name.split()[-1]
        python = sys.executable if self.is_ours else str(peers)
        script = scripts[0 if self.is_ours else 1]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        environment["OMP_NUM_THREADS"] = str(usable_cores())
        if not self.is_ours:
            environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.batch_size: int | None = None

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: the process has ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def take_turns(
    sides: Sequence[Side], do: str, options: Mapping[str, Any], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """A round after the other, every side once in each."""
    answers: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for number in range(1, rounds + 1):
        for side in sides:
            size = {} if side.batch_size is None else {"batch_size": side.batch_size}
            answers[side.name].append(side.ask(do, **options, **size))
        shown = ", ".join(
            f"{side.name} {total_seconds(answers[side.name][-1]):.2f}" for side in sides
        )
        print(f"round {number}, seconds: {shown}", flush=True)
    return answers


def total_seconds(answer: Mapping[str, Any]) -> float:
    return float(answer["seconds"] if "seconds" in answer else sum(answer["each"]))


def choose_batch_size(side: Side, do: str, options: Mapping[str, Any]) -> None:
    """Warm up; a peer keeps the batch size that is its fastest of two tries each."""
    if side.is_ours:
        side.ask(do, **options)
        return
    tried = {
        size: min(side.ask(do, **options, batch_size=size)["seconds"] for _ in range(2))
        for size in BATCH_SIZES
    }
    side.batch_size = min(tried, key=lambda size: tried[size])


def rates(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many a second in every round."""
    return {
        "per_second": [each["count"] / each["seconds"] for each in answers],
        "peak_bytes": answers[-1]["peak_bytes"],
    }


def latencies(rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Per side the median and the 99th percentile of every round, and queries per second."""
    return {
        name: {
            "p50": [float(np.percentile(each["each"], 50)) * 1000 for each in answers],
            "p99": [float(np.percentile(each["each"], 99)) * 1000 for each in answers],
            "per_second": [len(each["each"]) / sum(each["each"]) for each in answers],
            "peak_bytes": answers[-1]["peak_bytes"],
        }
        for name, answers in rounds.items()
    }
