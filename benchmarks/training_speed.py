"""What a step of joint training costs, and what our layers and settings gain.

Steps of 4 lists of 8 of the MS MARCO sample (texts of up to 128 tokens, MiniLM, both models) are
taken by Paddle's own layers and by ours, with and without the gradient cache, and with and without
MKL_DEBUG_CPU_TYPE=5. That variable counts when Paddle is loaded, so its two values are two
processes; everything takes turns, a round after the other, over the same lists. All sides keep
freed memory and have views off (``training.device``), Paddle's own layers too.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from ablation import add_msmarco
from ablation_variants import RECIPE
from scifact import spread

from rocketrank.environment import prepare_training

if TYPE_CHECKING:
    from rocketrank.training.batches import Batch
    from rocketrank.training.loop import Progress, Run, StepReport
    from rocketrank.training.validation import Validation

_MKL = "MKL_DEBUG_CPU_TYPE"
_PARTS = ("waiting", "forward", "backward", "optimiser")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every side does in a round. ``layers`` 0 keeps all of MiniLM's."""

    msmarco: Path
    steps: int
    lists_per_step: int
    list_length: int
    length: int
    layers: int
    tokens_per_chunk: int


class Side(NamedTuple):
    """One of those that take turns; ``mkl`` says which process it is in."""

    name: str
    own_layers: bool = True
    gradient_cache: bool = False
    mkl: bool = True


SIDES = (
    Side("our layers"),
    Side("Paddle's layers", own_layers=False),
    Side("our layers, gradient cache", gradient_cache=True),
    Side("Paddle's layers, gradient cache", own_layers=False, gradient_cache=True),
    Side(f"our layers, without {_MKL}", mkl=False),
    Side(f"Paddle's layers, without {_MKL}", own_layers=False, mkl=False),
)


class Measured(NamedTuple):
    """A round of one side: seconds by part, ``tokenising`` beside it in a thread of its own."""

    queries: int
    tokens: int
    padded_tokens: int
    seconds: dict[str, float]
    tokenising: float

    @property
    def total(self) -> float:
        return sum(self.seconds[part] for part in _PARTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_msmarco(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="measured steps a round (default 2)")
    parser.add_argument("--lists", type=int, default=4, help="lists a step (default 4)")
    parser.add_argument("--list-length", type=int, default=8)
    parser.add_argument("--length", type=int, default=128, help="tokens a text, at most")
    parser.add_argument("--layers", type=int, default=0, help="first layers only (0: all)")
    parser.add_argument("--tokens-per-chunk", type=int, default=1024)
    options = parser.parse_args()
    prepare_training()
    work = Work(
        msmarco=options.msmarco,
        steps=options.steps,
        lists_per_step=options.lists,
        list_length=options.list_length,
        length=options.length,
        layers=options.layers,
        tokens_per_chunk=options.tokens_per_chunk,
    )
    found: dict[Side, list[Measured]] = {side: [] for side in SIDES}
    workers = {mkl: Worker(work, mkl=mkl) for mkl in (True, False)}
    for number in range(1, options.rounds + 1):
        for side in SIDES:
            found[side].append(workers[side.mkl].measure(side))
        shown = ", ".join(
            f"{side.name} {rounds[-1].queries / rounds[-1].total:.2f}"
            for side, rounds in found.items()
        )
        print(f"round {number}: {shown} queries/s", flush=True)
    for worker in workers.values():
        worker.end()
    report(found)


def report(found: Mapping[Side, Sequence[Measured]]) -> None:
    """Medians and ranges over the rounds; ratios are of rounds beside each other."""
    first = next(iter(found.values()))
    for side, rounds in found.items():
        ratios = [
            (here.queries / here.total) / (there.queries / there.total)
            for here, there in zip(rounds, first, strict=True)
        ]
        shares = ", ".join(
            f"{part} {statistics.median(each.seconds[part] / each.total for each in rounds):.1%}"
            for part in _PARTS
        )
        tokenising = statistics.median(each.tokenising / each.total for each in rounds)
        padding = 1 - rounds[0].tokens / rounds[0].padded_tokens
        print(
            f"{side.name}: {spread([each.queries / each.total for each in rounds], 'queries/s')}, "
            f"{spread([each.tokens / each.total for each in rounds], 'tokens/s')}, "
            f"{statistics.median(ratios):.2f} times the first "
            f"({min(ratios):.2f} to {max(ratios):.2f})\n"
            f"    {shares}; tokenising {tokenising:.1%} of the time, ahead in a thread; "
            f"padding {padding:.1%}"
        )


class Worker:
    """A process with its own Paddle, which computes only while it is asked to."""

    def __init__(self, work: Work, *, mkl: bool) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(work, other), daemon=True)
        before = os.environ.pop(_MKL, None)
        if mkl:
            os.environ[_MKL] = "5"
        self._process.start()
        os.environ.pop(_MKL, None)
        if before is not None:
            os.environ[_MKL] = before
        other.close()

    def measure(self, side: Side) -> Measured:
        try:
            self._connection.send(side)
            answer = self._connection.recv()
        except (EOFError, BrokenPipeError):
            raise SystemExit(
                "a worker has ended: its error is above, or memory was short"
            ) from None
        assert isinstance(answer, Measured)
        return answer

    def end(self) -> None:
        self._connection.send(None)
        self._process.join()


def serve(work: Work, connection: Connection) -> None:
    """Answer every side with a round of it, until None comes."""
    with tempfile.TemporaryDirectory() as folder:
        measure = prepare(work, Path(folder))
        while (side := connection.recv()) is not None:
            connection.send(measure(side))


def prepare(work: Work, folder: Path) -> Callable[[Side], Measured]:
    """Models and lists, once a process; what comes back trains for a round and says its cost."""
    from rocketrank.training.device import prepare_device
    from rocketrank.training.examples import Examples

    prepare_device("cpu", "fp32")
    recipe = recipe_of(work)
    examples = Examples(write_sample(work, folder / "lists.jsonl"))
    runs = {
        own_layers: open_run(recipe, examples, folder, own_layers) for own_layers in (True, False)
    }

    def measure(side: Side) -> Measured:
        run, clock = runs[side.own_layers]
        # the first step waits for its own tokens and is not measured
        steps = work.steps + 1
        epochs = steps / run.steps_per_epoch
        stage = replace(run.stage, gradient_cache=side.gradient_cache, epochs=epochs)
        return measured_round(replace(run, stage=stage), clock)

    return measure


def recipe_of(work: Work) -> Any:
    from rocketrank.training.recipe import read_recipe

    overrides = {
        "models.layers": str(work.layers),
        "models.passage_length": str(work.length),
        "models.pair_length": str(work.length),
        "joint.list_length": str(work.list_length),
        "joint.lists_per_step": str(work.lists_per_step),
        "joint.tokens_per_chunk": str(work.tokens_per_chunk),
    }
    return read_recipe(RECIPE, overrides)


def write_sample(work: Work, path: Path) -> Path:
    """As many lists of the sample as a round needs, with their texts."""
    from rocketrank.training.list_formats import read_any_lists
    from rocketrank.training.lists import write_lists
    from rocketrank.training.passages import open_passages, with_texts

    data = work.msmarco
    lists = [
        each
        for each in read_any_lists(
            data / "candidates.train.tsv", format="candidates", queries=data / "queries.train.tsv"
        )
        if each.positives and each.negatives
    ][: work.lists_per_step * (work.steps + 1)]
    wanted = {candidate.id for each in lists for candidate in each.candidates}
    write_lists(path, with_texts(lists, open_passages([data / "collection.tsv"], wanted)))
    return path


class ForwardClock:
    """Seconds inside the models' forward passes, by hooks around their outermost layers."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.seconds = 0.0
        self._began = 0.0
        for layer in layers:
            layer.register_forward_pre_hook(self._begin)
            layer.register_forward_post_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._began


def open_run(
    recipe: Any, examples: Any, folder: Path, own_layers: bool
) -> "tuple[Run, ForwardClock]":
    from rocketrank.training.device import LossScale
    from rocketrank.training.layers import Noise
    from rocketrank.training.loop import Run
    from rocketrank.training.models import named_parameters, open_reranker, open_retriever
    from rocketrank.training.optimiser import Group, Optimiser
    from rocketrank.training.processes import Processes
    from rocketrank.training.step import Models

    noise = Noise()
    retriever = open_retriever(recipe.models, noise)
    reranker = open_reranker(recipe.models, noise, seed=recipe.seed)
    layers = [*retriever.layers.values(), *reranker.layers.values()]
    if not own_layers:
        for layer in layers:
            take_paddles_layers(layer)
    groups = [
        Group(name, dict(named_parameters(part.layers)), recipe.joint.learning_rate)
        for name, part in (("retriever", retriever), ("reranker", reranker))
    ]
    run = Run(
        stage=recipe.joint,
        seed=recipe.seed,
        examples=examples,
        texts=None,
        models=Models(retriever, reranker, noise),
        optimiser=Optimiser(groups, recipe.joint),
        scale=LossScale("fp32"),
        precision="fp32",
        processes=Processes(),
        output=folder,
        validate=None,
    )
    return run, ForwardClock(layers)


def take_paddles_layers(layer: Any) -> None:
    """Undo ``training.layers.prepare``: its classes derive from those that they replace."""
    from rocketrank.training import layers

    for part in layer.sublayers(include_self=True):
        if type(part).__module__ == layers.__name__:
            part.__class__ = type(part).__bases__[0]


class _Collected:
    """The loop's reports and checkpoints, of which only the steps are kept."""

    def __init__(self, clock: ForwardClock) -> None:
        self._clock = clock
        self.steps: list[tuple[StepReport, float]] = []

    def step(self, report: "StepReport") -> None:
        self.steps.append((report, self._clock.seconds))
        self._clock.seconds = 0.0

    def validating(self) -> None: ...
    def validation(self, step: int, validation: "Validation") -> None: ...
    def save(self, progress: "Progress") -> None: ...
    def sync(self) -> None: ...


def measured_round(run: "Run", clock: ForwardClock) -> Measured:
    from rocketrank.training.loop import Progress, train_loop

    collected = _Collected(clock)
    clock.seconds = 0.0
    train_loop(run, Progress(), collected, collected)
    steps = collected.steps[1:]
    seconds = dict.fromkeys(_PARTS, 0.0)
    for report, forward in steps:
        seconds["waiting"] += report.seconds["waiting"]
        seconds["forward"] += forward
        seconds["backward"] += report.seconds["gradients"] - forward
        seconds["optimiser"] += report.seconds["optimiser"]
    return Measured(
        sum(report.queries for report, _ in steps),
        sum(report.tokens for report, _ in steps),
        sum(report.padded_tokens for report, _ in steps),
        seconds,
        tokenising_seconds(run, len(steps)),
    )


def tokenising_seconds(run: "Run", steps: int) -> float:
    """How long the batches of ``steps`` steps take to make when nothing else is done."""
    began = time.perf_counter()
    for step in range(steps):
        batch_of(run, step)
    return time.perf_counter() - began


def batch_of(run: "Run", step: int) -> "Batch":
    """The lists of ``step`` in the order of the file, as tokens."""
    from rocketrank.training.batches import lay_out, make_batch

    count = run.stage.lists_per_step
    examples = [
        run.examples.sample(number, run.stage.list_length, (run.seed, 0))
        for number in range(step * count, (step + 1) * count)
    ]
    return make_batch(
        lay_out(examples, run.examples.positives, None),
        run.models.retriever,
        run.models.reranker,
        tokens_per_chunk=run.stage.tokens_per_chunk,
    )


if __name__ == "__main__":
    main()
