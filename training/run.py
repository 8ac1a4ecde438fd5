"""One training stage from lists to model folders: what ``rq train`` runs.

The folder of a run holds ``recipe.toml``, ``lists.jsonl`` and ``dev.jsonl`` (where the lists came
in another format), ``checkpoints/``, ``metrics.jsonl``, and at the end ``retriever/`` and
``reranker/``, the page of curves and ``metrics.json``, which is written last. The same command
again goes on with it.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..durable import explained_write, replacing, write_durably
from .curves import write_curves
from .device import LossScale, prepare_device
from .inputs import (
    Data,
    TrainOptions,
    check_options,
    open_data,
    own_format,
    runs_reranker,
    runs_retriever,
)
from .keeper import (
    METRICS,
    Keeper,
    newest_checkpoint,
    refuse_other_recipe,
    refuse_other_run,
    run_identity,
)
from .layers import Noise, recompute_layers
from .loop import Progress, Run, train_loop
from .models import named_parameters, open_reranker, open_retriever
from .optimiser import Group, Optimiser
from .processes import Processes
from .recipe import Stage, recipe_fingerprint
from .report import METRICS_LOG, RunReport
from .step import Models
from .validation import DevSet, Validation, validate

__all__ = ["Outcome", "TrainOptions", "train"]

_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """``finished`` is False when a signal stopped the run, which the same command continues.

    ``step`` is the last one that was trained, of ``steps`` that the recipe asks for.
    """

    finished: bool
    step: int
    steps: int
    retriever: Path | None
    reranker: Path | None
    metrics: dict[str, Any]


def train(options: TrainOptions) -> Outcome:
    """Run a stage, or go on with it. Raises RocketRankError before any training for bad input."""
    recipe, output = options.recipe, options.output
    stage: Stage = getattr(recipe, options.stage)
    check_options(options, stage)
    refuse_other_recipe(output, recipe)
    precision = prepare_device(options.device, stage.precision)
    processes = Processes.start()
    lists = own_format(options.lists, output / "lists.jsonl", options, processes)
    dev = options.dev and own_format(options.dev, output / "dev.jsonl", options, processes)
    identity = run_identity(options.stage, lists, dev, options.dev_qrels)
    done = _finished(options, identity)
    if done:
        _log.warning("%s holds a finished run of this recipe; nothing was trained", output)
        return done
    data = open_data(options, lists, dev)
    with closing(data.examples):
        run, progress, keeper = _open_run(options, data, identity, precision, processes)
        with RunReport(
            output,
            stage,
            run.optimiser.groups,
            step=progress.step if progress.best_step >= 0 else None,
            steps=run.steps,
            shown=options.progress,
            writes=processes.rank == 0,
        ) as report:
            finished = train_loop(run, progress, report, keeper)
        if not finished:
            return Outcome(False, progress.step, run.steps, None, None, {})
        if processes.rank == 0:
            _finish(options, run, progress, keeper, identity)
        processes.wait()
    return _outcome(options)


def _open_run(
    options: TrainOptions,
    data: Data,
    identity: Mapping[str, str],
    precision: str,
    processes: Processes,
) -> tuple[Run, Progress, Keeper]:
    """The run as its newest checkpoint has it, or as it begins."""
    recipe, output = options.recipe, options.output
    stage: Stage = getattr(recipe, options.stage)
    checkpoint = newest_checkpoint(output, identity)
    models, parts = _open_models(options, stage)
    optimiser = _optimiser(parts, stage)
    scale = LossScale(precision)
    writes = processes.rank == 0
    keeper = Keeper(output, recipe, options.stage, identity, optimiser, scale, writes=writes)
    run = Run(
        stage=stage,
        seed=recipe.seed,
        examples=data.examples,
        texts=data.texts,
        models=models,
        optimiser=optimiser,
        scale=scale,
        precision=precision,
        processes=processes,
        output=output,
        validate=_validation(data.dev, models, stage, optimiser, precision),
    )
    return run, keeper.resume(checkpoint), keeper


def _open_models(options: TrainOptions, stage: Stage) -> tuple[Models, dict[str, Any]]:
    """The models that the stage runs, and of them by name those that it trains."""
    section, noise = options.recipe.models, Noise()
    retriever = open_retriever(section, noise) if runs_retriever(stage) else None
    seed = options.recipe.seed
    reranker = open_reranker(section, noise, seed=seed) if runs_reranker(stage) else None
    parts: dict[str, Any] = {"retriever": retriever, "reranker": reranker}
    frozen = stage.freeze_reranker or not (
        stage.supervised or (stage.distillation and stage.teacher_gradient)
    )
    if reranker and frozen:
        for layer in reranker.layers.values():
            layer.eval()
        parts["reranker"] = None
    if stage.recompute:
        for part in (retriever, reranker):
            for layer in part.layers.values() if part else ():
                recompute_layers(layer, noise)
    trained = {name: part for name, part in parts.items() if part is not None}
    return Models(retriever, reranker, noise, frozen=frozen), trained


def _optimiser(parts: Mapping[str, Any], stage: Stage) -> Optimiser:
    rates = {
        "retriever": stage.learning_rate,
        "reranker": stage.reranker_learning_rate or stage.learning_rate,
    }
    groups = [
        Group(name, dict(named_parameters(part.layers)), rates[name])
        for name, part in parts.items()
    ]
    return Optimiser(groups, stage)


def _validation(
    dev: DevSet | None, models: Models, stage: Stage, optimiser: Optimiser, precision: str
) -> Callable[[], Validation] | None:
    if dev is None:
        return None

    def run() -> Validation:
        with optimiser.averaged():
            return validate(
                dev,
                models.retriever,
                models.reranker,
                select_by=stage.select_by,
                tokens_per_chunk=stage.tokens_per_chunk,
                precision=precision,
            )

    return run


def _finish(
    options: TrainOptions,
    run: Run,
    progress: Progress,
    keeper: Keeper,
    identity: Mapping[str, str],
) -> None:
    """Write the models of the best step, with the fusion chosen there, and then the summary."""
    output = options.output
    keeper.load_best(progress.best_step)
    best = next((v for v in progress.validations if v["step"] == progress.best_step), {})
    saved: dict[str, Any] = {"retriever": run.models.retriever, "reranker": run.models.reranker}
    if saved["reranker"]:
        settings = replace(saved["reranker"].settings, fusion=best.get("weight"))
        saved["reranker"] = replace(saved["reranker"], settings=settings)
    saved = {name: model for name, model in saved.items() if model}
    with run.optimiser.averaged():
        for name, model in saved.items():
            _save_model(model, output / name)
    title = f"{options.recipe.name}: {options.stage}"
    write_curves(output / METRICS_LOG, output / "curves.html", title)
    summary = {
        "recipe": options.recipe.name,
        "stage": options.stage,
        "recipe_fingerprint": recipe_fingerprint(options.recipe),
        "identity": identity,
        "steps": run.steps,
        "last_step": progress.step,
        "best_step": progress.best_step,
        "stopped_early": progress.stopped_early,
        "examples": len(run.examples),
        "dropped": run.examples.dropped._asdict(),
        "models": list(saved),
        "validations": progress.validations,
    }
    write_durably(output / METRICS, [orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n"])


def _save_model(model: Any, folder: Path) -> None:
    """Write the model's folder, whole or not at all."""
    with explained_write(folder), replacing(folder, alone=True) as partial:
        for left in (partial, folder):  # by a run that was killed here
            shutil.rmtree(left, ignore_errors=True)
        model.save(partial)


def _finished(options: TrainOptions, identity: Mapping[str, str]) -> Outcome | None:
    """The outcome of a finished run in the folder, if there is one; another one is refused."""
    path = options.output / METRICS
    if not path.exists():
        return None
    refuse_other_run(options.output, orjson.loads(path.read_bytes())["identity"], identity)
    return _outcome(options)


def _outcome(options: TrainOptions) -> Outcome:
    summary = orjson.loads((options.output / METRICS).read_bytes())
    retriever, reranker = (
        options.output / name if name in summary["models"] else None
        for name in ("retriever", "reranker")
    )
    last, steps = summary["last_step"], summary["steps"]
    return Outcome(True, last, steps, retriever, reranker, summary)
