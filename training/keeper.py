"""What of a run is kept in its folder, so that the same command goes on where it stopped."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ..durable import make_folder, sha256_of, write_durably
from ..errors import UsageError
from .checkpoints import (
    Checkpoint,
    checkpoint_steps,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from .device import LossScale
from .loop import Progress
from .optimiser import Optimiser
from .recipe import Recipe, Stage, StageName, differences, read_recipe, recipe_toml

_log = logging.getLogger(__name__)

CHECKPOINTS, RECIPE, METRICS = "checkpoints", "recipe.toml", "metrics.json"
_WORDS = {"lists": "lists", "dev": "dev lists", "dev_qrels": "judgements of the dev queries"}


class Keeper:
    """Checkpoints of one run: arrays from the optimiser's parameters, the rest from progress.

    ``identity`` is what the run is about beside its recipe, see :func:`run_identity`. Only one
    process of several ``writes``.
    """

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        stage: StageName,
        identity: Mapping[str, str],
        optimiser: Optimiser,
        scale: LossScale,
        *,
        writes: bool = True,
    ) -> None:
        self._output, self._recipe, self._stage = output, recipe, stage
        self._optimiser, self._scale = optimiser, scale
        self._identity, self._writes = dict(identity), writes
        self._folder = output / CHECKPOINTS

    def resume(self, checkpoint: Checkpoint | None) -> Progress:
        """The progress of ``checkpoint`` with everything put back, or that of a new run."""
        if checkpoint is None:
            if self._writes:
                make_folder(self._output)
                text = recipe_toml(self._recipe)
                write_durably(self._output / RECIPE, [text.encode()])
            return Progress()
        self._take(checkpoint)
        self._optimiser.restore(checkpoint.arrays["optimiser"])
        self._scale.restore(checkpoint.state["loss_scale"])
        if self._writes:
            _log.warning("goes on after step %d in %s", checkpoint.step, self._output)
        return Progress(**checkpoint.state["progress"])

    def save(self, progress: Progress) -> None:
        if not self._writes:
            return
        arrays = {
            group.name: {name: p.numpy() for name, p in group.parameters.items()}
            for group in self._optimiser.groups
        }
        state = {
            "progress": asdict(progress),
            "loss_scale": self._scale.state(),
            "identity": self._identity,
        }
        checkpoint = Checkpoint(
            progress.step, {**arrays, "optimiser": self._optimiser.state()}, state
        )
        stage: Stage = getattr(self._recipe, self._stage)
        save_checkpoint(self._folder, checkpoint, keep=stage.keep, best=progress.best_step)

    def load_best(self, step: int) -> None:
        """Put the parameters (with an average, those) of a kept step into the models."""
        checkpoint = load_checkpoint(self._folder, step)
        self._take(checkpoint)
        self._optimiser.restore(checkpoint.arrays["optimiser"])

    def _take(self, checkpoint: Checkpoint) -> None:
        for group in self._optimiser.groups:
            for name, parameter in group.parameters.items():
                parameter.set_value(checkpoint.arrays[group.name][name])


def run_identity(
    stage: StageName, lists: Path, dev: Path | None, dev_qrels: Path | None
) -> dict[str, str]:
    """The stage, and the SHA-256 of each file that the figures of a run depend on ("": none)."""
    files = {"lists": lists, "dev": dev, "dev_qrels": dev_qrels}
    return {"stage": stage} | {
        name: "" if path is None else sha256_of(path) for name, path in files.items()
    }


def newest_checkpoint(output: Path, identity: Mapping[str, str]) -> Checkpoint | None:
    """Where the run in ``output`` goes on. Raises UsageError where that is a run of other data."""
    checkpoint = latest_checkpoint(output / CHECKPOINTS)
    if checkpoint is not None:
        refuse_other_run(output, checkpoint.state["identity"], identity)
    return checkpoint


def refuse_other_run(output: Path, found: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Raises UsageError where the run ``found`` in ``output`` is not that of ``identity``."""
    if found["stage"] != identity["stage"]:
        raise UsageError(
            f"{output} holds a run of the stage {found['stage']}, not {identity['stage']}: name "
            "another --output"
        )
    for name, digest in found.items():
        if digest != identity[name]:
            then, now = (each[:12] or "none" for each in (digest, identity[name]))
            raise UsageError(
                f"{output} holds a run with other {_WORDS[name]} (SHA-256 {then} then, {now} now): "
                "go on with those, or name another --output"
            )


def refuse_other_recipe(output: Path, recipe: Recipe) -> None:
    """Raises UsageError where ``output`` holds a run with another recipe, with the differences.

    A run that ended before its first checkpoint has nothing to lose: another recipe may begin.
    """
    path = output / RECIPE
    begun = (output / METRICS).exists() or bool(checkpoint_steps(output / CHECKPOINTS))
    if not begun or not path.exists():
        return
    changed = differences(read_recipe(path), recipe)
    if changed:
        raise UsageError(
            f"{output} holds a run with another recipe ({'; '.join(changed)}, there / now): go on "
            "with the recipe of then, or name another --output"
        )
