"""Runs an encoder over many texts fast: sorted by length, batched by tokens, tokenised ahead.

Padding is wasted work, so inside a window of texts the batches go from long to short, each as many
texts as fit a token budget, padded to a multiple of eight. Results come back in the caller's order.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import RocketRankError, UsageError
from .exporting import exported_program
from .inference import Program, RuntimeChoice, cpu_has_vnni, open_program
from .models import Model, Tower
from .tokenizing import Tokenizer, Tokens

# Measured on two cores: larger budgets fall out of the cache, smaller ones leave it idle.
TOKENS_PER_BATCH = 2048
TEXTS_PER_WINDOW = 1024
# A token takes far more memory than its text, also where the tokens are cut afterwards.
CHARACTERS_PER_WINDOW = 2_000_000
LENGTH_STEP = 8

LoadProgram = Callable[[Model, Tower, RuntimeChoice], Program]
Item = TypeVar("Item", bound=str | tuple[str, str])


class Batch(NamedTuple):
    """Padded tokens, each (texts, length) int64, and which rows of the window they are."""

    rows: NDArray[np.int64]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


class Outputs(NamedTuple):
    """The program's outputs in the order of the items, and how many items were cut to length."""

    values: NDArray[np.float32]
    truncated: int


def check_runtime(model: Model, runtime: RuntimeChoice) -> None:
    """UsageError where ``model`` computes in 8-bit integers and ``runtime`` does not."""
    if model.limits():
        what = f"{model.name} computes in 8-bit integers"
        check_integers(runtime, what, instead="the model it was made from")


def check_integers(runtime: RuntimeChoice, what: str, *, instead: str) -> None:
    """UsageError, begun with ``what`` needs it, where ``runtime`` has no 8-bit integers."""
    if runtime.engine != "openvino":
        place = "Paddle" if runtime.gpu is None else "a GPU"
        raise UsageError(
            f"{what}, which {place} does not do here: leave --device and --engine out, so that "
            f"OpenVINO runs it on the CPU, or take {instead}"
        )
    if not cpu_has_vnni():
        raise UsageError(f"{what}, and this CPU lacks avx512_vnni and avx_vnni: take {instead}")


def load_program(model: Model, tower: Tower, runtime: RuntimeChoice) -> Program:
    """The program of ``model`` for ``runtime``, exported first if the cache has none."""
    return open_program(exported_program(model, tower, runtime.engine), runtime)


def run_program(
    program: Program,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    tokenise: Callable[[Sequence[Item]], list[Tokens]],
    *,
    on_done: Callable[[int], object] | None = None,
) -> Outputs:
    """Run ``items`` through ``program``; ``tokenise`` is the method of ``tokenizer`` for them.

    ``values`` is (n, …) float32, whatever the program gives for one item. ``on_done`` is called
    with the number of items of each batch that is done. Raises RocketRankError when the program
    gives something that is no number: weights or program are damaged.
    """
    values: NDArray[np.float32] | None = None
    truncated = 0
    for start, window in _tokenised_ahead(items, tokenise):
        truncated += sum(tokens.truncated for tokens in window)
        for batch in make_batches(window, pad_id=tokenizer.pad_id, longest=tokenizer.length):
            output = program.run({name: getattr(batch, name) for name in program.input_names})
            if not np.isfinite(output).all():
                raise RocketRankError(
                    "the model gave values that are not finite: its weights are damaged, or it "
                    "needs --precision fp32"
                )
            if values is None:
                values = np.empty((len(items), *output.shape[1:]), dtype=np.float32)
            values[start + batch.rows] = output
            if on_done:
                on_done(len(batch.rows))
    if values is None:
        raise ValueError("run_program needs at least one item")
    return Outputs(values, truncated)


def make_batches(
    window: Sequence[Tokens], *, pad_id: int, longest: int, budget: int = TOKENS_PER_BATCH
) -> Iterator[Batch]:
    """Batches of at most ``budget`` tokens (one text at least), long texts first.

    None is padded beyond ``longest``, the length the tokenizer cuts at: a model may have no
    position behind it.
    """
    lengths = np.array([len(tokens.ids) for tokens in window], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    position = 0
    while position < len(order):
        steps = max(1, -(-int(lengths[order[position]]) // LENGTH_STEP))
        padded = min(steps * LENGTH_STEP, longest)
        rows = order[position : position + max(1, budget // padded)]
        yield _padded_batch(window, rows, padded, pad_id)
        position += len(rows)


def _padded_batch(
    window: Sequence[Tokens], rows: NDArray[np.int64], length: int, pad_id: int
) -> Batch:
    shape = (len(rows), length)
    batch = Batch(
        rows,
        np.full(shape, pad_id, dtype=np.int64),
        np.zeros(shape, dtype=np.int64),
        np.zeros(shape, dtype=np.int64),
    )
    for place, row in enumerate(rows):
        tokens = window[row]
        count = len(tokens.ids)
        batch.input_ids[place, :count] = tokens.ids
        batch.attention_mask[place, :count] = 1
        batch.token_type_ids[place, :count] = tokens.type_ids
    return batch


def _tokenised_ahead(
    items: Sequence[Item], tokenise: Callable[[Sequence[Item]], list[Tokens]]
) -> Iterator[tuple[int, list[Tokens]]]:
    """Windows of tokens with their start, the next one in the making while this one is used."""
    windows = _windows(items)
    if len(windows) == 1:
        yield 0, tokenise(items)
        return
    with ThreadPoolExecutor(1) as ahead:
        pending = [ahead.submit(tokenise, items[window]) for window in windows[:1]]
        for window, following in zip(windows, [*windows[1:], None], strict=True):
            tokens = pending.pop().result()
            if following is not None:
                pending.append(ahead.submit(tokenise, items[following]))
            yield window.start, tokens


def _windows(items: Sequence[Item]) -> list[slice]:
    """Slices of ``items``, each of a bounded number of items and of characters."""
    windows = []
    start = characters = 0
    for position, item in enumerate(items):
        size = len(item) if isinstance(item, str) else sum(map(len, item))
        full = position - start == TEXTS_PER_WINDOW or characters + size > CHARACTERS_PER_WINDOW
        if full and position > start:
            windows.append(slice(start, position))
            start, characters = position, 0
        characters += size
    return [*windows, slice(start, len(items))] if items else []
