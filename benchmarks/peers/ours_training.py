"""RocketRank's side of the comparison of training steps, asked through standard input."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from training_speed import Work, batch_of, open_run, recipe_of, write_sample
from worker import seconds, serve

from rocketrank.environment import prepare_training


class Ours:
    """The trainer's step over lists of MS MARCO's sample that are tokens already."""

    def open(self, msmarco: str, steps: int, save: str) -> dict[str, Any]:
        """``steps`` batches of 4 lists of 8; ``save`` gets all that another trainer needs."""
        from rocketrank.training.device import prepare_device
        from rocketrank.training.examples import Examples

        prepare_device("cpu", "fp32")
        work = Work(
            msmarco=Path(msmarco),
            steps=steps,
            lists_per_step=4,
            list_length=8,
            length=128,
            layers=0,
            tokens_per_chunk=1024,
        )
        with tempfile.TemporaryDirectory() as folder:
            examples = Examples(write_sample(work, Path(folder) / "lists.jsonl"))
            self._run, _ = open_run(recipe_of(work), examples, Path(folder), True)
            self._batches = [batch_of(self._run, step) for step in range(steps)]
        np.savez(save, **self._arrays())
        return {}

    def _arrays(self) -> dict[str, Any]:
        head = self._run.models.reranker.pair.layer.head
        stage = self._run.stage
        arrays = {
            "head.weight": head.output.weight.numpy(),
            "head.bias": head.output.bias.numpy(),
            "scale": self._run.models.retriever.settings.scale,
            "learning_rate": stage.learning_rate,
            "weight_decay": stage.weight_decay,
            "clip": stage.clip,
        }
        for number, batch in enumerate(self._batches):
            for part in ("queries", "passages", "pairs"):
                for place, chunk in enumerate(getattr(batch, part)):
                    for name, values in chunk._asdict().items():
                        arrays[f"{number}/{part}/{place}/{name}"] = values
            arrays[f"{number}/candidates"] = batch.layout.candidates
            arrays[f"{number}/real"] = batch.layout.real
            arrays[f"{number}/counted"] = batch.layout.counted
        return arrays

    def loss(self) -> dict[str, Any]:
        """Of the first batch, without dropout; no weight changes."""
        for layer in self._layers():
            layer.eval()
        total = self._gradients(0)
        for layer in self._layers():
            layer.train()
            layer.clear_gradients()
        return {"loss": total}

    def train(self) -> dict[str, Any]:
        """A step for every batch."""

        def step(number: int) -> None:
            self._gradients(number)
            self._run.optimiser.step(1.0)

        count = len(self._batches)
        lists = count * self._run.stage.lists_per_step
        return {"seconds": seconds(lambda: [step(n) for n in range(count)]), "count": lists}

    def _gradients(self, number: int) -> float:
        from rocketrank.training.step import accumulate_gradients

        batch = [self._batches[number]]
        return accumulate_gradients(self._run.models, batch, self._run.stage, seed=(number,)).total

    def _layers(self) -> list[Any]:
        models = self._run.models
        return [*models.retriever.layers.values(), *models.reranker.layers.values()]


if __name__ == "__main__":
    prepare_training()
    ours = Ours()
    serve({"open": ours.open, "loss": ours.loss, "train": ours.train})
