"""A sample of a corpus encoded for a plan: how fast that goes, and what is found in its vectors."""

import math
import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..errors import RocketRankError
from .costs import lists_of
from .encoding import PassageEncoder
from .filling import fill, usual_probes, write_index
from .kinds import Choice, choose, depth_factor, list_count, points_needed
from .progress import Progress
from .structure import Structure, margin
from .vectors import VectorShards, VectorType, packed, unpacked, write_vectors

RECALL_FROM = 300
"""Passages of a sample; among fewer the share of the nearest that is found says nothing."""

_WARM_UP, _TRIAL, _FEWEST = 8, 32, 64
_ENCODING_SECONDS = 45
_RECALL_QUERIES = 512
_KNOWN_GRAPH = 4
"""A graph of a sample is searched nearly whole, which tells of graphs of so many times its size."""


class Resident(NamedTuple):
    """Bytes of this process in memory, now and at the most so far."""

    now: int
    peak: int


class Encoding(NamedTuple):
    """A sample encoded: its vectors (n, dim), and passages a second, measured ``twice``.

    ``fixed_seconds`` were spent before the first batch was done: export, loading, compiling.
    """

    vectors: NDArray[np.float32]
    fixed_seconds: float
    twice: tuple[float, float]
    resident: Resident

    @property
    def passages_a_second(self) -> float:
        return 2 / (1 / self.twice[0] + 1 / self.twice[1])


def resident() -> Resident:
    """Memory of this process; where /proc cannot be read the peak stands for both."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        values = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        return Resident(*(int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))
    except (OSError, KeyError):
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return Resident(peak, peak)


def encode_sample(
    encoder: PassageEncoder, passages: Sequence[Passage], *, progress: bool = False
) -> Encoding:
    """Encodes the sample in two halves that both reach over the corpus, each timed.

    Of a model that would take more than 45 seconds as many as it can encode in these. Raises
    RocketRankError for vectors that are not finite.
    """
    with Progress("encoding a sample", shown=progress, total=None) as bar:

        def encode(chosen: Sequence[Passage]) -> tuple[NDArray[np.float32], float]:
            started = time.perf_counter()
            vectors = encoder.encode_passages(
                [each.text for each in chosen],
                [each.title for each in chosen],
                on_done=lambda count: bar.advance(count, of=count, position=None),
            )
            return vectors, max(time.perf_counter() - started, 1e-9)

        warm_up = _evenly(passages, _WARM_UP)
        _, first = encode(warm_up)
        trial = _evenly(passages, _TRIAL)
        _, seconds = encode(trial)
        fitting = max(_FEWEST, int(len(trial) / seconds * _ENCODING_SECONDS))
        chosen = _evenly(passages, fitting)
        halves = [chosen[0::2], chosen[1::2] or chosen]
        encoded = [encode(half) for half in halves]
    vectors = np.concatenate([found for found, _ in encoded])[: len(chosen)]
    if not np.isfinite(vectors).all():
        raise RocketRankError(
            f"model {encoder.name}: expected finite vectors for a sample of {len(chosen)} "
            "passages, found others: try --precision fp32"
        )
    rates = [len(half) / spent for half, (_, spent) in zip(halves, encoded, strict=True)]
    fixed = max(0.0, first - len(warm_up) / min(rates))
    return Encoding(vectors, fixed, (rates[0], rates[1]), resident())


def _evenly(passages: Sequence[Passage], count: int) -> list[Passage]:
    """At most ``count`` of the passages, from the whole of their range."""
    if count >= len(passages):
        return list(passages)
    return [passages[number * len(passages) // count] for number in range(count)]


class Recall(NamedTuple):
    """The share of the ``k`` nearest that is found, with ``sample`` passages indexed.

    ``exact``: all are found, whatever the corpus.
    """

    share: float
    k: int
    sample: int
    exact: bool = False


def measured_recall(
    choice: Choice,
    count: int,
    vectors: NDArray[np.float32],
    vector_type: VectorType,
    folder: Path,
) -> Recall | None:
    """What a structure of the sample finds where that of ``count`` vectors is asked for 100.

    The same share of the inverted lists is visited, the same share of the passages is asked for, at
    least the nearest one, and as many candidates for each result are scored again. Passages stand
    for queries, each without itself. Exhaustive search and lists that are all visited find all.
    None where that cannot be known: a sample of less than 300 passages, or of fewer than vectors
    are wide, on which no rotation can be trained, and the graph of a far larger corpus.
    """
    sample = len(vectors)
    lists = 0 if choice.kind in ("flat", "hnsw") else lists_of(choice, vectors.shape[1])
    all_visited = choice.kind == "ivf" and usual_probes(lists) == lists
    k = min(100, sample - 1, max(1, round(100 * sample / count)))
    if choice.kind == "flat" or all_visited:
        return Recall(1.0, k, sample, exact=True)
    least = max(RECALL_FROM, points_needed(choice.kind, vectors.shape[1]))
    if sample < least or (choice.kind == "hnsw" and count > _KNOWN_GRAPH * sample):
        return None
    probes = max(1, round(list_count(sample) * usual_probes(lists) / lists)) if lists else 1
    small = of_lists(choose(choice.kind, sample, vectors.shape[1]), list_count(sample))
    stored = unpacked(packed(vectors, vector_type))
    write_vectors(folder / "sample.npy", vectors, vector_type)
    files = VectorShards([folder / "sample.npy"], [sample], vectors.shape[1], vector_type)
    filled = fill(small, files, lambda _added, _total: None)
    write_index(filled.index, folder / "sample.faiss")
    search = {**filled.search, "nprobe": probes}
    structure = Structure(folder / "sample.faiss", sample, vectors.shape[1], search)
    depth = margin(k) if structure.lossless else depth_factor(choice.kind) * k
    return Recall(_share_found(structure, stored, k, depth), k, sample)


def of_lists(choice: Choice, lists: int) -> Choice:
    """The same structure with another number of inverted lists."""
    return choice._replace(factory=re.sub(r"IVF\d+", f"IVF{lists}", choice.factory))


def _share_found(structure: Structure, vectors: NDArray[np.float32], k: int, depth: int) -> float:
    """The mean share of the ``k`` nearest others of a vector among the ``depth`` candidates."""
    step = max(1, len(vectors) // _RECALL_QUERIES)
    asked = np.arange(0, len(vectors), step)[:_RECALL_QUERIES]
    scores = vectors[asked] @ vectors.T
    scores[np.arange(len(asked)), asked] = -np.inf
    worst = np.partition(scores, len(vectors) - k, axis=1)[:, len(vectors) - k]
    _, proposed = structure.search(vectors[asked], min(depth + 1, len(vectors)), 1)
    found = 0.0
    for place, rows in enumerate(proposed):
        others = rows[(rows >= 0) & (rows != asked[place])][:depth]
        near = np.isclose(scores[place][others], worst[place], rtol=0, atol=1e-6)
        found += min(k, int((near | (scores[place][others] > worst[place])).sum())) / k
    return found / len(asked)


def enlarged(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(count, dim) vectors for timing: means of two of ``vectors`` with noise, of their length.

    They lie as widely as the sample's own, but their neighbourhoods are made up.
    """
    generator = np.random.default_rng(20_240_229)
    pairs = generator.integers(len(vectors), size=(2, count))
    weight = generator.random((count, 1), dtype=np.float32)
    made = weight * vectors[pairs[0]] + (1 - weight) * vectors[pairs[1]]
    lengths = np.linalg.norm(vectors, axis=1)
    noise = generator.standard_normal(made.shape, dtype=np.float32)
    made += noise * np.float32(0.3 * float(lengths.mean()) / math.sqrt(vectors.shape[1]))
    own = np.linalg.norm(made, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = made / np.maximum(own, 1e-12) * lengths[pairs[0], np.newaxis]
    return scaled
