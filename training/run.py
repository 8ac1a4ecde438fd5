"""One training stage from lists to model folders: what ``rq train`` runs.

The folder of a run holds ``recipe.toml``, ``lists.jsonl`` (where the lists came in another format),
``checkpoints/``, ``metrics.jsonl``, and at the end ``retriever/`` and ``reranker/``, the page of
curves and ``metrics.json``, which is written last. The same command again goes on with it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..durable import write_durably
from ..errors import DataError, UsageError
from ..models import open_model
from .curves import write_curves
from .dev import held_out_queries, open_dev
from .device import LossScale, prepare_device
from .examples import Examples
from .keeper import Keeper, refuse_other_recipe
from .layers import Noise, recompute_layers
from .list_formats import read_any_lists
from .lists import read_header, read_lists, write_lists
from .loop import Progress, Run, train_loop
from .mining import tokenizer_fingerprint
from .models import named_parameters, open_reranker, open_retriever
from .optimiser import Group, Optimiser
from .passages import PassageTexts, open_passages
from .processes import Processes
from .recipe import Recipe, Stage, StageName, recipe_fingerprint
from .report import METRICS_LOG, RunReport
from .step import Models
from .validation import DevSet, Validation, validate

_log = logging.getLogger(__name__)

METRICS = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a stage is told beside its recipe.

    ``lists`` are in any format that ``list_formats`` reads; candidates without a text are looked
    up in ``passages``, an index or corpus files, and texts of queries in ``queries``. ``dev`` holds
    a list for each dev query; without it the recipe's share of the queries in ``lists`` is held
    out. ``strict`` makes an error of lists that cannot be trained on.
    """

    recipe: Recipe
    stage: StageName
    lists: Path
    output: Path
    passages: tuple[Path, ...] = ()
    dev: Path | None = None
    dev_qrels: Path | None = None
    queries: Path | None = None
    device: str = "cpu"
    strict: bool = False
    any_tokenizer: bool = False
    progress: bool = False


class Outcome(NamedTuple):
    """``finished`` is False when a signal stopped the run, which the same command continues."""

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
    done = _finished(options)
    if done:
        _log.warning("%s holds a finished run of this recipe; nothing was trained", output)
        return done
    refuse_other_recipe(output, recipe)
    precision = prepare_device(options.device, stage.precision)
    processes = Processes.start()
    models, parts = _open_models(options, stage)
    lists = _own_format(options, processes)
    _check_tokenizer(options, lists)
    held_out = held_out_queries(lists, recipe, options.dev)
    examples = Examples(lists, held_out=held_out)
    _check_examples(examples, options)
    texts = _texts(options, lists)
    dev = open_dev(
        options.dev or lists, None if options.dev else held_out, options.dev_qrels, texts
    )
    optimiser = _optimiser(parts, stage)
    scale = LossScale(precision)
    keeper = Keeper(output, recipe, options.stage, lists, optimiser, scale)
    progress = keeper.resume()
    run = Run(
        stage=stage,
        seed=recipe.seed,
        examples=examples,
        texts=texts,
        models=models,
        optimiser=optimiser,
        scale=scale,
        precision=precision,
        processes=processes,
        output=output,
        validate=_validation(dev, models, stage, optimiser, precision) if dev else None,
    )
    shown = options.progress and processes.rank == 0
    with RunReport(
        output, stage, optimiser.groups, step=progress.step, steps=run.steps, shown=shown
    ) as report:
        finished = train_loop(run, progress, report, keeper)
    if not finished:
        return Outcome(False, progress.step, run.steps, None, None, {})
    if processes.rank == 0:
        _finish(options, run, progress, keeper)
    processes.wait()
    return _outcome(options)


def _open_models(options: TrainOptions, stage: Stage) -> tuple[Models, dict[str, Any]]:
    """The models that the stage runs, and of them by name those that it trains."""
    section, noise = options.recipe.models, Noise()
    runs_retriever = bool(stage.distillation or stage.contrastive or stage.partial_ranking)
    runs_reranker = bool(stage.supervised or stage.distillation or stage.partial_ranking)
    retriever = open_retriever(section, noise) if runs_retriever else None
    seed = options.recipe.seed
    reranker = open_reranker(section, noise, seed=seed) if runs_reranker else None
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


def _own_format(options: TrainOptions, processes: Processes) -> Path:
    """The lists as a plain file in our format, which can be read at any line."""
    path = options.lists
    with path.open("rb") as file:
        if file.read(1) == b"{" and _is_ours(path):
            return path
    own = options.output / "lists.jsonl"
    if processes.rank == 0 and not own.exists():
        options.output.mkdir(parents=True, exist_ok=True)
        count = write_lists(own, read_any_lists(path, queries=options.queries))
        _log.warning("%s: %d lists were written to %s in our own format", path, count, own)
    processes.wait()
    return own


def _is_ours(path: Path) -> bool:
    try:
        next(read_lists(path), None)
    except DataError:
        return False
    return True


def _check_tokenizer(options: TrainOptions, lists: Path) -> None:
    header = read_header(lists)
    if header is None or not header.tokenizer or options.any_tokenizer:
        return
    models = options.recipe.models
    name = (options.stage == "reranker" and models.reranker) or models.retriever
    found = tokenizer_fingerprint(open_model(name))
    if found != header.tokenizer:
        raise UsageError(
            f"{lists} was mined by {header.retriever or 'a model'} with the tokenizer "
            f"{header.tokenizer[:12]}, but {name} has the tokenizer {found[:12]}: mine again with "
            "this model, or train on these lists all the same with --any-tokenizer"
        )


def _check_examples(examples: Examples, options: TrainOptions) -> None:
    dropped = examples.dropped
    unusable = dropped.without_positive + dropped.without_negative
    reasons = (
        f"{dropped.without_positive} have no positive and {dropped.without_negative} "
        "no other candidate"
    )
    if not len(examples):
        raise DataError(
            f"{examples.path} has no list to train on: {reasons}, {dropped.held_out} are held out "
            "for validation; give lists with a positive and a negative"
        )
    if unusable and options.strict:
        raise DataError(
            f"{examples.path}: {unusable} lists cannot be trained on ({reasons}): remove them, or "
            "leave out --strict to drop them"
        )
    if unusable:
        _log.warning("%s: %d lists were dropped (%s)", examples.path, unusable, reasons)


def _texts(options: TrainOptions, lists: Path) -> PassageTexts | None:
    """Where candidates without a text are found; every one of them is looked up now."""
    wanted = {
        candidate.id
        for path in (lists, options.dev)
        if path is not None
        for each in read_lists(path)
        for candidate in each.candidates
        if candidate.text is None
    }
    if not wanted:
        return None
    if not options.passages:
        raise UsageError(
            f"{len(wanted)} candidates of {lists} have no text: say with --passages which index "
            "or corpus holds them"
        )
    return open_passages(options.passages, wanted)


def _validation(
    dev: DevSet, models: Models, stage: Stage, optimiser: Optimiser, precision: str
) -> Callable[[], Validation]:
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


def _finish(options: TrainOptions, run: Run, progress: Progress, keeper: Keeper) -> None:
    """Write the models of the best step, with the fusion chosen there, and then the summary."""
    output = options.output
    keeper.load_best(progress.best_step)
    best = next((v for v in progress.validations if v["step"] == progress.best_step), {})
    retriever, reranker = run.models.retriever, run.models.reranker
    with run.optimiser.averaged():
        if retriever:
            retriever.save(output / "retriever")
        if reranker:
            settings = replace(reranker.settings, fusion=best.get("weight"))
            replace(reranker, settings=settings).save(output / "reranker")
    write_curves(
        output / METRICS_LOG,
        output / "curves.html",
        f"{options.recipe.name}: {options.stage}",
    )
    summary = {
        "recipe": options.recipe.name,
        "stage": options.stage,
        "recipe_fingerprint": recipe_fingerprint(options.recipe),
        "steps": run.steps,
        "best_step": progress.best_step,
        "stopped_early": progress.stopped_early,
        "examples": len(run.examples),
        "dropped": run.examples.dropped._asdict(),
        "models": [name for name in ("retriever", "reranker") if (output / name).is_dir()],
        "validations": progress.validations,
    }
    write_durably(output / METRICS, [orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n"])


def _finished(options: TrainOptions) -> Outcome | None:
    """The outcome of a finished run of this very recipe in the folder, if there is one."""
    path = options.output / METRICS
    if not path.exists():
        return None
    summary = orjson.loads(path.read_bytes())
    same = summary["recipe_fingerprint"] == recipe_fingerprint(options.recipe)
    return _outcome(options) if same and summary["stage"] == options.stage else None


def _outcome(options: TrainOptions) -> Outcome:
    summary = orjson.loads((options.output / METRICS).read_bytes())
    folders = [options.output / name for name in ("retriever", "reranker")]
    retriever, reranker = (folder if folder.is_dir() else None for folder in folders)
    return Outcome(True, summary["steps"], summary["steps"], retriever, reranker, summary)
