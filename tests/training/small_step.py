"""Tiny models and ragged lists for tests of a training step, and commands that take such steps.

``python small_step.py train FOLDER`` takes steps with the models in FOLDER, alone or as one of
several processes, and writes gradients and parameters beside them, see :func:`_train`.
``python small_step.py memory FOLDER`` prints peaks of memory, see :func:`_peaks`.
"""

import faulthandler
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketrank.backbone import paddle_module
from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.training.batches import Batch, lay_out, make_batch
from rocketrank.training.device import prepare_device
from rocketrank.training.examples import Example
from rocketrank.training.layers import Noise
from rocketrank.training.lists import Candidate
from rocketrank.training.models import named_parameters, open_reranker, open_retriever
from rocketrank.training.optimiser import Group, Optimiser
from rocketrank.training.processes import Processes
from rocketrank.training.recipe import ModelsSection, Stage
from rocketrank.training.step import Models, accumulate_gradients

paddle = paddle_module()

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]

_COMMON = """
    the of and to in for is on that by this with you it not or be are from at as your all have new
    more an was we will home can us about if page my has search free but our one other do no time
    information they site he up may what which their news out use any there see only so his when
    contact here business who web also now help get view online first been would how were services
    some these click its like service than find price date back top people list name
"""
WORDS = _COMMON.split()

ALL_LOSSES = Stage(
    supervised=1.0,
    distillation=0.7,
    contrastive=0.5,
    partial_ranking=0.3,
    hardest=2,
    margin=100.0,
    tokens_per_chunk=96,
    clip=0.0,
    learning_rate=1e-4,
)


def text(number: int) -> str:
    """Some words, 3 to 24, the same for the same number."""
    draw = np.random.default_rng([7, number])
    return " ".join(draw.choice(WORDS, size=int(draw.integers(3, 25))))


def candidate(name: str, label: int = 0) -> Candidate:
    """``p7``; ``p7*`` has the same title and text under another id. Every third has a title."""
    number = int(name.strip("p*"))
    title = "" if number % 3 else f"about {WORDS[number]}"
    return Candidate(name, label, text=text(number), title=title)


def example(query: str, names: str) -> Example:
    """``example("q1", "p4 p2 p3")``: the positive p4 and two negatives."""
    positive, *negatives = names.split()
    candidates = [candidate(positive, 1), *map(candidate, negatives)]
    return Example(query, text(1000 + int(query[1:])), candidates)


EXAMPLES = [
    example("q0", "p0 p1 p2 p3"),
    example("q0", "p9 p1 p2 p4"),  # the second positive of q0
    example("q1", "p1 p2 p5 p0 p6"),  # p1 is a negative of q0, and p0 its positive
    example("q2", "p7 p8 p8* p1"),  # p8 twice
    example("q3", "p9 p3 p5"),  # p9 is a positive of q0 too
    example("q4", "p10 p11 p12 p7* p13"),  # the text of q2's positive
]
POSITIVES = {
    "q0": frozenset({"p0", "p9"}),
    "q1": frozenset({"p1", "p77"}),
    "q2": frozenset({"p7"}),
    "q3": frozenset({"p9"}),
    "q4": frozenset({"p10"}),
}


def start_retriever(reference: Path, folder: Path, **settings: Any) -> Path:
    """``tiny-bert`` as a dual encoder; as ``separate`` towers with ``tiny-ernie`` for passages."""
    settings = {"pooling": "mean", "normalize": True, "scale": 20.0, **settings}
    if settings.get("towers") == "separate":
        shutil.copytree(reference / "tiny-bert", folder / "query")
        shutil.copytree(reference / "tiny-ernie", folder / "passage")
    else:
        shutil.copytree(reference / "tiny-bert", folder)
    save_settings(
        folder,
        ModelSettings(role="dual-encoder", query_length=32, passage_length=48, **settings),
    )
    return folder


def start_reranker(reference: Path, folder: Path) -> Path:
    shutil.copytree(reference / "tiny-bert-cross-encoder", folder)
    save_settings(folder, ModelSettings(role="cross-encoder", pair_length=64))
    return folder


def open_models(retriever: Path, reranker: Path, *, dropout: float = -1.0) -> Models:
    """Both models with one noise; ``dropout`` -1 is their own, 0.1."""
    section = ModelsSection(retriever=str(retriever), reranker=str(reranker), dropout=dropout)
    noise = Noise()
    return Models(open_retriever(section, noise), open_reranker(section, noise, seed=1), noise)


def make_batches(
    models: Models,
    stage: Stage,
    examples: Sequence[Example] = EXAMPLES,
    *,
    processes: Processes | None = None,
) -> list[Batch]:
    """The batches of a step: ``stage.accumulate`` equal parts of ``examples``."""
    processes = processes or Processes()
    size = len(examples) // stage.accumulate
    return [
        make_batch(
            lay_out(examples[first : first + size], POSITIVES, None, processes=processes.count),
            models.retriever,
            models.reranker,
            tokens_per_chunk=stage.tokens_per_chunk,
            process=processes.rank,
        )
        for first in range(0, len(examples), size)
    ]


def parameters(models: Models) -> dict[str, Any]:
    """All parameters by ``retriever.…`` and ``reranker.…``."""
    parts = {"retriever": models.retriever, "reranker": models.reranker}
    return {
        f"{name}.{inner}": parameter
        for name, part in parts.items()
        if part
        for inner, parameter in named_parameters(part.layers)
    }


def gradients(models: Models) -> Arrays:
    """The gradients that there are, by parameter; they are forgotten afterwards."""
    found = {}
    for name, parameter in parameters(models).items():
        if parameter.grad is not None:
            found[name] = parameter.grad.numpy()
        parameter.clear_gradient(set_to_zero=False)
    return found


def largest(arrays: Mapping[str, Array]) -> float:
    return max(float(np.abs(each).max()) for each in arrays.values())


def largest_difference(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """Of two sets of arrays with the same names, relative to the largest value of ``other``."""
    assert one.keys() == other.keys()
    return largest({name: one[name] - other[name] for name in one}) / largest(other)


class Step(NamedTuple):
    """A step to be taken by one process or by two."""

    stage: Stage
    examples: list[Example]


STEPS = {
    "two batches of three lists": Step(replace(ALL_LOSSES, accumulate=2), EXAMPLES),
    "with a gradient cache": Step(replace(ALL_LOSSES, gradient_cache=True), EXAMPLES),
    "one list for two processes": Step(replace(ALL_LOSSES, easy=False), EXAMPLES[:1]),
    "one list, with a gradient cache": Step(
        replace(ALL_LOSSES, easy=False, gradient_cache=True), EXAMPLES[:1]
    ),
    "two lists of the same passages": Step(
        ALL_LOSSES, [example("q0", "p0 p1 p2"), example("q1", "p1 p2 p0")]
    ),
}


def _train(folder: Path) -> None:
    """Take steps with each pair of models in ``folder``."""
    processes = Processes.start()
    for pair in sorted(each for each in folder.iterdir() if (each / "retriever").is_dir()):
        np.savez(
            pair / f"process-{processes.rank}-of-{processes.count}.npz",
            **_trained(pair, processes),
        )
    processes.wait()


def _trained(folder: Path, processes: Processes) -> Arrays:
    """Take ``STEPS``, whose gradients are kept, and five of AdamW, whose parameters are."""
    models = open_models(folder / "retriever", folder / "reranker", dropout=0.0)
    named = parameters(models)
    kept: Arrays = {}
    for name, (stage, examples) in STEPS.items():
        batches = make_batches(models, stage, examples, processes=processes)
        kept[f"{name}/losses"] = np.array(
            accumulate_gradients(models, batches, stage, processes=processes)
        )
        kept[f"{name}/rows"] = np.array(
            [
                sum(len(chunk.rows) for b in batches for chunk in getattr(b, part))
                for part in Batch._fields[1:]
            ]
        )
        processes.sum_gradients(list(named.values()))
        found = gradients(models)
        kept |= {f"{name}/{parameter}": gradient for parameter, gradient in found.items()}
    stage, examples = STEPS["two batches of three lists"]
    batches = make_batches(models, stage, examples, processes=processes)
    before = {name: parameter.numpy() for name, parameter in named.items()}
    optimiser = Optimiser([Group("all", named, stage.learning_rate)], stage)
    for step in range(5):
        accumulate_gradients(models, batches, stage, seed=(step,), processes=processes)
        processes.sum_gradients(list(named.values()))
        optimiser.step(1.0)
    after = {name: parameter.numpy() for name, parameter in named.items()}
    kept["farthest"] = np.array(largest({name: after[name] - before[name] for name in before}))
    kept |= {f"trained/{name}": value for name, value in after.items()}
    kept["agreed"] = np.array(processes.agree(float(processes.rank == processes.count - 1)))
    return kept


def _peaks(folder: Path) -> None:
    """Peaks of resident memory in MiB after steps on lists of 4 and of 32 with a gradient cache,
    and of 32 without one; every step is taken after the one before, so they cannot fall."""
    models = open_models(folder / "retriever", folder / "reranker")
    for length, cache in ((4, True), (32, True), (32, False)):
        names = " ".join(f"p{n}" for n in range(20, 20 + length))
        stage = replace(ALL_LOSSES, gradient_cache=cache, tokens_per_chunk=256)
        lists = [Example("q1", "what is it", _long_candidates(names))] * 2
        batches = make_batches(models, stage, lists)
        accumulate_gradients(models, batches, stage)
        gradients(models)
        print(_peak(), flush=True)


def _peak() -> float:
    """The highest resident memory so far in MiB; getrusage would tell that of the parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 1024


def _long_candidates(names: str) -> list[Candidate]:
    """Candidates that are all cut at the length of the model."""
    return [
        Candidate(name, int(n == 0), text=" ".join([text(int(name[1:]))] * 40))
        for n, name in enumerate(names.split())
    ]


if __name__ == "__main__":
    # An abort in a thread of Paddle would leave no word behind.
    faulthandler.enable()
    prepare_device("cpu", "auto")
    {"train": _train, "memory": _peaks}[sys.argv[1]](Path(sys.argv[2]))
