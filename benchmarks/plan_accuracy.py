"""How near ``rq plan`` comes to what then happens: each kind is planned, built and compared.

Every build is a process of its own with the real encoder, into a folder that is removed again. Its
peak is the operating system's (VmHWM), which counts the mapped vector files too, as far as they are
in memory; the prediction it is compared with does as well.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from rocketrank.data.corpus import CorpusReader
from rocketrank.index import BuildOptions, build_index
from rocketrank.index.calibration import resident
from rocketrank.index.encoding import PassageEncoder
from rocketrank.index.plan import PLANNED, KindPlan, Plan, PlanOptions
from rocketrank.index.planning import plan_index
from rocketrank.retriever import DualEncoder


def main() -> None:
    options = _options()
    if options.build:
        print(json.dumps(build(options, Path(options.build))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.first:
            options.corpus = [_beginning(options, Path(folder) / "first.jsonl")]
        plan = plan_index(
            CorpusReader(options.corpus),
            _encoder(options),
            PlanOptions(build=_build_options(options, "auto"), sample=options.sample),
            kinds=options.kinds,
            progress=sys.stderr.isatty(),
        )
        print(f"{plan.passages:,} passages, {plan.sample:,} encoded for the plan", flush=True)
        for each in plan.kinds:
            if each.problem:
                print(f"{each.kind}: {each.problem}")
            else:
                compare(plan, each, _built(each.kind, options, Path(folder) / each.kind))


def build(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Builds one kind in this process and says what that took."""
    encoder = _Watched(_encoder(options))
    started = time.perf_counter()
    report = build_index(
        folder, CorpusReader(options.corpus), encoder, _build_options(options, options.kinds[0])
    )
    ended = time.perf_counter()
    return {
        "disk": report.bytes_on_disk,
        "memory": resident().peak,
        "encoding": encoder.last - started,
        "structure": ended - encoder.last,
    }


class _Watched:
    """An encoder that remembers when it was last done: what follows is the structure."""

    def __init__(self, encoder: PassageEncoder) -> None:
        self.dim, self.fingerprint, self.name = encoder.dim, encoder.fingerprint, encoder.name
        self._encoder = encoder
        self.last = time.perf_counter()

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        vectors = self._encoder.encode_passages(texts, titles, on_done=on_done)
        self.last = time.perf_counter()
        return vectors


def compare(plan: Plan, each: KindPlan, measured: dict[str, float]) -> None:
    """A line for each figure: predicted, measured and their ratio."""
    if each.disk is None or each.memory is None or each.structure_seconds is None:
        return
    memory = max(each.memory.encoding, each.memory.structure + each.memory.mapped)
    lines: list[tuple[str, float, float, str]] = [
        ("disk", each.disk.total / 1e6, measured["disk"] / 1e6, "MB"),
        ("memory", memory / 1e6, measured["memory"] / 1e6, "MB"),
        ("encoding", plan.encode_seconds, measured["encoding"], "s"),
        ("structure", each.structure_seconds, measured["structure"], "s"),
    ]
    print(f"{each.kind} ({each.factory})")
    for name, expected, found, unit in lines:
        print(
            f"  {name:<10} predicted {expected:10.2f} {unit:<2}  measured {found:10.2f} {unit:<2}  "
            f"ratio {expected / found:.3f}",
            flush=True,
        )


def _built(kind: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, *options.corpus, "--model", options.model]
    command += ["--kinds", kind, "--vectors", options.vectors, "--build", str(folder)]
    command += ["--threads", str(options.threads)] if options.threads else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    with tempfile.TemporaryDirectory() as removed:
        folder.rename(Path(removed) / "index")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _encoder(options: argparse.Namespace) -> DualEncoder:
    return DualEncoder.load(options.model, threads=options.threads)


def _build_options(options: argparse.Namespace, kind: str) -> BuildOptions:
    return BuildOptions(kind=kind, vectors=options.vectors, threads=options.threads)


def _beginning(options: argparse.Namespace, target: Path) -> str:
    """The first passages of the corpus as a file of their own."""
    with target.open("wb") as file:
        for passage in islice(CorpusReader(options.corpus), options.first):
            record: dict[str, Any] = {"_id": passage.id, "title": passage.title}
            record |= {"text": passage.text, "metadata": dict(passage.metadata)}
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return str(target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N passages")
    parser.add_argument("--kinds", nargs="+", choices=PLANNED, default=list(PLANNED))
    parser.add_argument("--vectors", choices=("float32", "float16", "int8"), default="float32")
    parser.add_argument("--sample", type=int, default=1024)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--build", metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
