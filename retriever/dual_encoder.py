"""A dual encoder: queries and passages to vectors whose inner product is the score."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.records import join_title
from ..errors import UsageError
from ..inference import (
    EngineName,
    Precision,
    Program,
    RuntimeChoice,
    choose_runtime,
)
from ..models import Model, Tower, hidden_width, open_model
from ..runtime import Item, LoadProgram, Outputs, check_runtime, load_program, run_program
from ..tokenizing import Tokenizer, Tokens

_log = logging.getLogger(__name__)


class _Side(NamedTuple):
    program: Program
    tokenizer: Tokenizer


class DualEncoder:
    """Encodes texts with one model; may be called from several threads.

    A tower is exported and loaded when it is first used. ``truncated_passages`` counts the
    passages so far that were longer than the model reads and were cut.
    """

    def __init__(
        self, model: Model, runtime: RuntimeChoice, *, load: LoadProgram = load_program
    ) -> None:
        check_runtime(model, runtime)
        self.model = model
        self.runtime = runtime
        self._load = load
        self.truncated_passages = 0
        self._sides: dict[Tower, _Side] = {}
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
    ) -> "DualEncoder":
        """Find ``model`` (a folder, ``minilm`` or a hub id); RocketRankError says why it cannot be.

        ``precision`` ``auto`` is bf16 where the CPU multiplies it in hardware, else fp32.
        """
        runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
        return cls(open_model(model, role="dual-encoder"), runtime)

    def __reduce__(self) -> tuple[type["DualEncoder"], tuple[Model, RuntimeChoice]]:
        """Pickled as what it is made of: another process loads its own program."""
        return DualEncoder, (self.model, self.runtime)

    @property
    def name(self) -> str:
        """How to find the model again: ``minilm``, a hub id or an absolute folder."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes a vector."""
        return self.model.fingerprint

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return hidden_width(self.model.config("passage"))

    def encode_queries(
        self, texts: Sequence[str], *, progress: bool = False
    ) -> NDArray[np.float32]:
        """n texts → (n, dim) float32. What is longer than the model reads is cut, with a note."""
        _refuse_single_string(texts)
        side = self._side("query")
        prefix = self.model.settings.query_prefix
        items = [prefix + text for text in texts]
        with tqdm(total=len(items), desc="queries", disable=not progress) as bar:
            outputs = self._run(side, items, side.tokenizer.encode, bar.update)
        if outputs.truncated:
            _log.warning(
                "%d of %d queries longer than the %d tokens this model reads: cut there",
                outputs.truncated,
                len(texts),
                side.tokenizer.length,
            )
        return outputs.values

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        progress: bool = False,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        """n texts, and their n titles → (n, dim) float32.

        How title and text meet is the model's setting ``title``: joined by a blank, or as a pair.
        ``on_done`` is called with the number of passages of each batch that is done, for a caller
        with a progress bar of its own.
        """
        _refuse_single_string(texts)
        if titles is None:
            titles = [""] * len(texts)
        if len(titles) != len(texts):
            raise UsageError(f"{len(titles)} titles for {len(texts)} texts: give one title a text")
        side = self._side("passage")
        prefix = self.model.settings.passage_prefix
        with tqdm(total=len(texts), desc="passages", disable=not progress) as bar:
            done = on_done or bar.update
            if self.model.settings.title == "pair":
                pairs = [(prefix + title, text) for title, text in zip(titles, texts, strict=True)]
                outputs = self._run(side, pairs, side.tokenizer.encode_pairs, done)
            else:
                items = [prefix + join_title(*both) for both in zip(titles, texts, strict=True)]
                outputs = self._run(side, items, side.tokenizer.encode, done)
        with self._lock:
            self.truncated_passages += outputs.truncated
        return outputs.values

    def passage_tokens(self) -> "PassageTokens":
        """How passages are split into tokens, for cutting long ones into chunks. Loads no program.

        Raises RocketRankError for a model whose tokenizer cannot be read.
        """
        return PassageTokens(self.model)

    def _run(
        self,
        side: _Side,
        items: Sequence[Item],
        tokenise: Callable[[Sequence[Item]], list[Tokens]],
        on_done: Callable[[int], object],
    ) -> Outputs:
        if not items:
            return Outputs(np.empty((0, self.dim), dtype=np.float32), 0)
        return run_program(side.program, side.tokenizer, items, tokenise, on_done=on_done)

    def _side(self, tower: Tower) -> _Side:
        with self._lock:
            if tower not in self._sides:
                other = self._sides.get("passage" if tower == "query" else "query")
                shared = other if self.model.settings.towers == "shared" else None
                self._sides[tower] = self._load_side(tower, shared.program if shared else None)
            return self._sides[tower]

    def _load_side(self, tower: Tower, program: Program | None) -> _Side:
        tokenizer = _tokenizer(self.model, tower)
        return _Side(program or self._load(self.model, tower, self.runtime), tokenizer)


class PassageTokens:
    """How a dual encoder splits passages into tokens; ``length`` is how many it reads."""

    def __init__(self, model: Model) -> None:
        self._settings = model.settings
        self._tokenizer = _tokenizer(model, "passage")
        self.length = self._tokenizer.length

    def spans(self, text: str) -> NDArray[np.int64]:
        """The characters (n, 2) of each token of ``text``; see :meth:`Tokenizer.spans`."""
        return self._tokenizer.spans(text)

    def room(self, title: str) -> int:
        """How many tokens of a text are read beside ``title``, prefix and special tokens."""
        beginning = self._settings.passage_prefix + title
        if self._settings.title == "pair":
            [taken] = self._tokenizer.encode_pairs([(beginning, "")])
        else:
            [taken] = self._tokenizer.encode([beginning])
        return self.length - len(taken.ids)


def _tokenizer(model: Model, tower: Tower) -> Tokenizer:
    settings = model.settings
    length = settings.query_length if tower == "query" else settings.passage_length
    return Tokenizer.load(model.tower_path(tower), length=length)


def _refuse_single_string(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise UsageError("expected a list of texts, found one text: write [text]")
