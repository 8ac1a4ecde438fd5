"""What of a run is kept in its folder, so that the same command goes on where it stopped."""

import logging
from dataclasses import asdict
from pathlib import Path

from ..durable import sha256_of, write_durably
from ..errors import UsageError
from .checkpoints import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from .device import LossScale
from .loop import Progress
from .optimiser import Optimiser
from .recipe import Recipe, Stage, StageName, differences, read_recipe, recipe_toml

_log = logging.getLogger(__name__)

CHECKPOINTS, RECIPE = "checkpoints", "recipe.toml"


class Keeper:
    """Checkpoints of one run: arrays from the optimiser's parameters, the rest from progress."""

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        stage: StageName,
        lists: Path,
        optimiser: Optimiser,
        scale: LossScale,
    ) -> None:
        self._output, self._recipe, self._stage = output, recipe, stage
        self._optimiser, self._scale = optimiser, scale
        self._identity = {"stage": stage, "lists": sha256_of(lists)}
        self._folder = output / CHECKPOINTS

    def resume(self) -> Progress:
        """The progress of the newest checkpoint with everything put back, or a fresh one."""
        self._output.mkdir(parents=True, exist_ok=True)
        checkpoint = latest_checkpoint(self._folder)
        if checkpoint is None:
            text = recipe_toml(self._recipe)
            write_durably(self._output / RECIPE, [text.encode()])
            return Progress()
        self._refuse_other_run(checkpoint)
        self._take(checkpoint)
        self._optimiser.restore(checkpoint.arrays["optimiser"])
        self._scale.restore(checkpoint.state["loss_scale"])
        _log.warning("goes on after step %d in %s", checkpoint.step, self._output)
        return Progress(**checkpoint.state["progress"])

    def save(self, progress: Progress) -> None:
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

    def _refuse_other_run(self, checkpoint: Checkpoint) -> None:
        found = checkpoint.state["identity"]
        if found["stage"] != self._identity["stage"]:
            raise UsageError(
                f"{self._output} holds a run of the stage {found['stage']}, not "
                f"{self._identity['stage']}: name another --output"
            )
        if found["lists"] != self._identity["lists"]:
            raise UsageError(
                f"{self._output} holds a run on other lists (SHA-256 {found['lists'][:12]}, now "
                f"{self._identity['lists'][:12]}): go on with those, or name another --output"
            )


def refuse_other_recipe(output: Path, recipe: Recipe) -> None:
    """Raises UsageError where ``output`` holds a run with another recipe, with the differences."""
    path = output / RECIPE
    if not path.exists():
        return
    changed = differences(read_recipe(path), recipe)
    if changed:
        raise UsageError(
            f"{output} holds a run with another recipe ({'; '.join(changed)}, there / now): go on "
            "with the recipe of then, or name another --output"
        )
