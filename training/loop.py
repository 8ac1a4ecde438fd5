"""The training loop: lists in, gradients, steps, validations and checkpoints out.

What a step does depends on the recipe's seed and on its number alone: which lists it reads, which
negatives they get, which noise dropout has. So a run that went on from a checkpoint ends with the
same bytes as one that was never stopped.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

import orjson

from ..durable import write_durably
from ..errors import RocketRankError
from ..two_stage import PassageTexts
from .batches import Batch, Layout, lay_out, make_batch
from .device import LossScale
from .examples import Example, Examples, epoch_order
from .optimiser import Optimiser, learning_rate_factor
from .processes import Processes
from .recipe import Stage
from .step import Losses, Models, accumulate_gradients
from .validation import Validation

_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a run stands: all that changes and is no array. ``best_step`` -1: none yet."""

    step: int = 0
    best_step: int = -1
    best_value: float | None = None
    without_gain: int = 0
    stopped_early: bool = False
    validations: list[dict[str, Any]] = field(default_factory=list)


class StepReport(NamedTuple):
    """What a step did. Times are in seconds, tokens and queries of this process."""

    step: int
    losses: Losses
    learning_rate_factor: float
    norm: float
    queries: int
    tokens: int
    padded_tokens: int
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the loop works with."""

    stage: Stage
    seed: int
    examples: Examples
    texts: PassageTexts | None
    models: Models
    optimiser: Optimiser
    scale: LossScale
    precision: str
    processes: Processes
    output: Path
    validate: Callable[[], Validation] | None

    @property
    def steps_per_epoch(self) -> int:
        """The lists that do not fill a last step are left out of an epoch, others each time."""
        return max(1, len(self.examples) // self.stage.lists_per_step)

    @property
    def steps(self) -> int:
        return max(1, round(self.stage.epochs * self.steps_per_epoch))


class Reports(Protocol):
    """Who is told what happens."""

    def step(self, report: StepReport) -> None: ...
    def validating(self) -> None: ...
    def validation(self, step: int, validation: Validation) -> None: ...
    def sync(self) -> None: ...


class Checkpoints(Protocol):
    """Who keeps the state of the run."""

    def save(self, progress: Progress) -> None: ...


def train_loop(run: Run, progress: Progress, reports: Reports, checkpoints: Checkpoints) -> bool:
    """Train until the end, an early stop or a signal; False after a signal. ``progress`` moves."""
    parameters = [p for group in run.optimiser.groups for p in group.parameters.values()]
    if progress.best_step < 0:
        _validate(run, progress, reports)
        _save(progress, reports, checkpoints)
    with _stop_signals() as stopped, _prefetched(run, progress.step) as batches:
        while progress.step < run.steps and not progress.stopped_early:
            waited = time.perf_counter()
            here = next(batches)
            begun = time.perf_counter()
            losses = accumulate_gradients(
                run.models,
                here,
                run.stage,
                precision=run.precision,
                scale=run.scale.factor,
                seed=(run.seed, progress.step),
                processes=run.processes,
            )
            run.processes.sum_gradients(parameters)
            computed = time.perf_counter()
            factor = learning_rate_factor(progress.step, run.steps, run.stage)
            norm = run.optimiser.step(factor, scale=run.scale.factor)
            progress.step += 1
            _refuse_not_finite(run, progress.step, here, losses, norm)
            run.scale.update(math.isfinite(norm))
            seconds = {"waiting": begun - waited, "gradients": computed - begun}
            seconds["optimiser"] = time.perf_counter() - computed
            reports.step(_step_report(progress.step, losses, factor, norm, here, seconds))
            due = _is_due(run, progress.step, run.stage.validate_every)
            if due:
                _validate(run, progress, reports)
            halt = run.processes.agree(len(stopped)) > 0
            if due or halt or _is_due(run, progress.step, run.stage.checkpoint_every):
                _save(progress, reports, checkpoints)
            if halt:
                return False
        return True


def _save(progress: Progress, reports: Reports, checkpoints: Checkpoints) -> None:
    """The log first: a power cut must not leave a checkpoint whose steps were not logged."""
    reports.sync()
    checkpoints.save(progress)


def _is_due(run: Run, step: int, every: int) -> bool:
    return step % (every or run.steps_per_epoch) == 0 or step == run.steps


def _validate(run: Run, progress: Progress, reports: Reports) -> None:
    """Validate and remember the best step; stop when patience is at its end."""
    if run.validate is None:
        progress.best_step = progress.step
    else:
        reports.validating()
        validation = run.validate()
        value = validation.value(run.stage.select_by)
        if progress.best_value is None or value > progress.best_value:
            progress.best_step, progress.best_value = progress.step, value
            progress.without_gain = 0
        else:
            progress.without_gain += 1
        entry: dict[str, Any] = {"step": progress.step, "measures": validation.measures}
        if validation.fusion:
            entry["depth"] = validation.fusion.depth
            entry["weight"] = validation.fusion.weight
        progress.validations.append(entry)
        progress.stopped_early = 0 < run.stage.patience <= progress.without_gain
        reports.validation(progress.step, validation)


def _refuse_not_finite(
    run: Run, step: int, batches: list[Batch], losses: Losses, norm: float
) -> None:
    """Stop a run that has gone wrong, and keep what it read for a person to look at."""
    if math.isfinite(losses.total) and (math.isfinite(norm) or run.scale.factor > 1):
        return
    place = run.output / f"not-finite-step-{step}.json"
    if run.processes.rank == 0:
        content = {
            "step": step,
            "losses": {name: repr(value) for name, value in losses._asdict().items()},
            "gradient_norm": repr(norm),
            "examples": [
                {"query_id": each.query_id, "query": each.query, "candidates": candidates}
                for batch in batches
                for each, candidates in _with_texts(batch.layout)
            ],
        }
        write_durably(place, [orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"])
    raise RocketRankError(
        f"step {step} gave a loss of {losses.total} and a gradient of norm {norm}: its lists are "
        f"in {place}; look there for damaged texts, or train with a smaller learning rate "
        f"({run.stage.learning_rate:g} now) or in fp32"
    )


def _with_texts(layout: Layout) -> Iterator[tuple[Example, list[dict[str, Any]]]]:
    """The examples, and their candidates with the texts that were looked up elsewhere."""
    for each, places in zip(layout.examples, layout.candidates.tolist(), strict=True):
        passages = (layout.passages[place] for place in places)
        yield (
            each,
            [
                candidate._replace(title=passage.title, text=passage.text)._asdict()
                for candidate, passage in zip(each.candidates, passages, strict=False)
            ],
        )


def _step_report(
    step: int,
    losses: Losses,
    factor: float,
    norm: float,
    batches: list[Batch],
    seconds: Mapping[str, float],
) -> StepReport:
    tokens = [batch.tokens for batch in batches]
    return StepReport(
        step,
        losses,
        factor,
        norm,
        sum(len(batch.layout.examples) for batch in batches),
        sum(real for real, _ in tokens),
        sum(padded for _, padded in tokens),
        dict(seconds),
    )


@contextmanager
def _prefetched(run: Run, start: int) -> Iterator[Iterator[list[Batch]]]:
    """The batches from step ``start`` on, each made by a thread while the one before is used."""
    with ThreadPoolExecutor(1) as ahead:

        def batches() -> Iterator[list[Batch]]:
            pending = ahead.submit(_step_batches, run, start)
            for step in range(start, run.steps):
                here = pending.result()
                if step + 1 < run.steps:
                    pending = ahead.submit(_step_batches, run, step + 1)
                yield here

        yield batches()


def _step_batches(run: Run, step: int) -> list[Batch]:
    epoch, place = divmod(step, run.steps_per_epoch)
    count = run.stage.lists_per_step
    numbers = epoch_order(len(run.examples), run.seed, epoch)[place * count : (place + 1) * count]
    examples = [
        run.examples.sample(int(number), run.stage.list_length, (run.seed, epoch))
        for number in numbers
    ]
    parts = min(run.stage.accumulate, len(examples))
    size = -(-len(examples) // parts)
    return [
        make_batch(
            lay_out(
                examples[first : first + size],
                run.examples.positives,
                run.texts,
                processes=run.processes.count,
            ),
            run.models.retriever,
            run.models.reranker,
            tokens_per_chunk=run.stage.tokens_per_chunk,
            process=run.processes.rank,
        )
        for first in range(0, len(examples), size)
    ]


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is filled by SIGTERM and SIGINT; a second SIGINT interrupts as it always does."""
    received: list[int] = []

    def remember(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        note = "stopping after this step; interrupt again to stop at once"
        # by another thread: the signal may have come while this one was writing to the terminal
        Thread(target=_log.warning, args=(note,), daemon=True).start()

    before = {each: signal.signal(each, remember) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
