"""A cross-encoder: one score for each pair of a query and a passage."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import UsageError
from ..inference import (
    EngineName,
    Precision,
    Program,
    RuntimeChoice,
    choose_runtime,
)
from ..models import Model, open_model
from ..runtime import LoadProgram, check_runtime, load_program, run_program
from ..tokenizing import Tokenizer


class CrossEncoder:
    """Scores pairs with one model; may be called from several threads.

    The program is exported and loaded when it is first used.
    """

    def __init__(
        self, model: Model, runtime: RuntimeChoice, *, load: LoadProgram = load_program
    ) -> None:
        check_runtime(model, runtime)
        self.model = model
        self.runtime = runtime
        self._load = load
        self._tokenizer = Tokenizer.load(model.path, length=model.settings.pair_length)
        self._program: Program | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        model: str | Path | Model,
        *,
        device: str = "cpu",
        precision: Precision = "auto",
        engine: EngineName = "auto",
        threads: int | None = None,
    ) -> "CrossEncoder":
        """Find ``model`` (a folder or a hub id); RocketRankError says why it cannot be used."""
        runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
        return cls(open_model(model, role="cross-encoder"), runtime)

    def __reduce__(self) -> tuple[type["CrossEncoder"], tuple[Model, RuntimeChoice]]:
        """Pickled as what it is made of: another process loads its own program."""
        return CrossEncoder, (self.model, self.runtime)

    @property
    def name(self) -> str:
        """How to find the model again: a hub id or an absolute folder."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes a score."""
        return self.model.fingerprint

    def score(
        self, pairs: Sequence[tuple[str, str]], *, progress: bool = False
    ) -> NDArray[np.float32]:
        """n pairs (query, passage with its title before it) → (n,) float32 logits.

        A higher score is better. A model of two classes scores logit₁ - logit₀. Pairs longer than
        the model reads are cut, the longer text first.
        """
        if len(pairs) == 0:
            return np.empty(0, dtype=np.float32)
        if isinstance(pairs[0], str):
            raise UsageError("expected a list of (query, passage) pairs, found one: write [pair]")
        settings = self.model.settings
        if settings.query_prefix or settings.passage_prefix:
            pairs = [
                (settings.query_prefix + query, settings.passage_prefix + passage)
                for query, passage in pairs
            ]
        with tqdm(total=len(pairs), desc="pairs", disable=not progress) as bar:
            return run_program(
                self._loaded_program(),
                self._tokenizer,
                pairs,
                self._tokenizer.encode_pairs,
                on_done=bar.update,
            ).values

    def _loaded_program(self) -> Program:
        with self._lock:
            if self._program is None:
                self._program = self._load(self.model, "query", self.runtime)
            return self._program
