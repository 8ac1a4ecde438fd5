"""Encoding and re-ranking beside Paddle's eager layers: the same values, and a ratio to look at.

Ratios are shown at the end of the test run and judged by nobody: these machines are shared. One
that has fallen to a half of what benchmarks/README.md says is worth a look.
"""

import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.models import Model, open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

from .conftest import Shown

pytestmark = pytest.mark.slow

_ROUNDS = 3
SENTENCE = "a dual encoder maps queries and passages to vectors whose inner product is a score"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[: 3 + n % 12] * (1 + n % 7)) for n in range(64)]


@pytest.fixture
def eager(scripts: None) -> ModuleType:
    return importlib.import_module("eager")


def taking_turns(
    ours: Callable[[], NDArray[np.float32]], theirs: Callable[[], NDArray[np.float32]]
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """How many times faster ours was, median of rounds, and what both gave."""
    ratios = []
    own, other = ours(), theirs()
    for _ in range(_ROUNDS):
        moments = [time.perf_counter()]
        for function in (ours, theirs):
            function()
            moments.append(time.perf_counter())
        ratios.append((moments[2] - moments[1]) / (moments[1] - moments[0]))
    return statistics.median(ratios), own, other


def test_encoding_gives_the_vectors_of_eager_layers(
    minilm: Model, eager: ModuleType, show: Shown
) -> None:
    encoder, plain = DualEncoder.load(minilm), eager.eager_encoder(minilm)
    ratio, own, other = taking_turns(lambda: encoder.encode_passages(TEXTS), lambda: plain(TEXTS))
    show(f"encoding is {ratio:.1f} times as fast as Paddle's eager layers")
    assert (own * other).sum(axis=1).min() > 0.999


def test_re_ranking_gives_the_scores_of_eager_layers(
    minilm: Model, eager: ModuleType, tmp_path: Path, show: Shown
) -> None:
    models: Any = importlib.import_module("peers.models")
    model = open_model(models.write_cross_encoder(tmp_path / "scorer"), role="cross-encoder")
    scorer, plain = CrossEncoder.load(model), eager.eager_scorer(model)
    pairs = [(" ".join(WORDS[:5]), text) for text in TEXTS]
    ratio, own, other = taking_turns(lambda: scorer.score(pairs), lambda: plain(pairs))
    show(f"re-ranking is {ratio:.1f} times as fast as Paddle's eager layers")
    assert np.corrcoef(own, other)[0, 1] > 0.999
