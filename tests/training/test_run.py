"""A stage from lists to model folders: what it trains, writes and keeps."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from rocketrank.errors import RocketRankError
from rocketrank.eval.measures import evaluate, mean
from rocketrank.models import Model, Tower, open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder
from rocketrank.training.checkpoints import checkpoint_steps, load_checkpoint
from rocketrank.training.curves import summary
from rocketrank.training.dev import drawn_queries
from rocketrank.training.layers import Noise
from rocketrank.training.models import named_parameters, open_reranker, open_retriever
from rocketrank.training.recipe_values import ModelsSection
from rocketrank.training.run import Outcome

from ..tiny_models import export_here
from .small_run import (
    SOURCE,
    Place,
    as_ids,
    lists,
    logged,
    one_sentence,
    place,
    start_model,
    weights,
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path) -> Path:
    return start_model(shared_reference, tmp_path_factory.mktemp("start") / "start")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, start: Path) -> tuple[Path, Outcome]:
    """A run of both models that nothing interrupted, and its folder."""
    there = place(tmp_path_factory.mktemp("whole"), start)
    outcome = there.train()
    return there.folder / "run", outcome


@pytest.fixture
def here(tmp_path: Path, start: Path) -> Place:
    return place(tmp_path / "place", start)


def exported(folder: Path, *towers: Tower) -> Model:
    model = open_model(str(folder))
    for tower in towers:
        export_here(model, tower, "openvino")
    return model


def parameters(run: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The saved models as training opens them, by model and parameter."""
    retriever = ModelsSection(retriever=str(run / "retriever"))
    reranker = ModelsSection(reranker=str(run / "reranker"))
    opened = {
        "retriever": open_retriever(retriever, Noise()).layers,
        "reranker": open_reranker(reranker, Noise(), seed=0).layers,
    }
    return {
        name: {each: value.numpy() for each, value in named_parameters(layers)}
        for name, layers in opened.items()
    }


def changed(one: Path, other: Path) -> dict[str, float]:
    """The largest change of every tensor between two model files."""
    before, after = load_file(one), load_file(other)
    return {name: float(np.abs(before[name] - after[name]).max()) for name in before.keys() & after}


# What a run gives


def test_two_runs_with_one_seed_give_the_same_bytes(
    here: Place, whole: tuple[Path, Outcome]
) -> None:
    here.train()
    assert len(weights(whole[0])) == 2
    assert weights(here.folder / "run") == weights(whole[0])
    assert logged(here.folder / "run") == logged(whole[0])


def test_another_seed_gives_other_models(here: Place, whole: tuple[Path, Outcome]) -> None:
    here.train(seed=8)
    other = weights(here.folder / "run")
    assert other.keys() == weights(whole[0]).keys()
    assert all(weights(whole[0])[name] != found for name, found in other.items())


def test_every_step_and_validation_is_logged_once(whole: tuple[Path, Outcome]) -> None:
    entries = logged(whole[0])
    assert [each["step"] for each in entries if "losses" in each] == list(range(1, 13))
    assert [each["step"] for each in entries if "validation" in each] == [0, 3, 6, 9, 12]


def test_the_saved_models_are_those_of_the_best_step(whole: tuple[Path, Outcome]) -> None:
    run, outcome = whole
    values = {
        each["step"]: each["measures"]["two_stages"]["nDCG@10"]
        for each in outcome.metrics["validations"]
    }
    best = max(values, key=lambda step: (values[step], -step))
    assert outcome.metrics["best_step"] == best
    kept = load_checkpoint(run / "checkpoints", best).arrays
    for name, found in parameters(run).items():
        assert len(found) == len(kept[name]) > 20
        assert all(np.array_equal(found[each], array) for each, array in kept[name].items())


def test_the_last_checkpoints_and_the_best_are_kept(whole: tuple[Path, Outcome]) -> None:
    assert set(checkpoint_steps(whole[0] / "checkpoints")) == {
        10,
        12,
        whole[1].metrics["best_step"],
    }


def test_the_saved_models_give_the_scores_that_the_validation_measured(
    whole: tuple[Path, Outcome],
) -> None:
    run, outcome = whole
    retriever = DualEncoder.load(
        exported(run / "retriever", "query", "passage"), engine="openvino", precision="fp32"
    )
    reranker = CrossEncoder.load(
        exported(run / "reranker", "query"), engine="openvino", precision="fp32"
    )
    dev = drawn_queries({each.query_id for each in lists()}, 0.25, 7)
    first: dict[str, dict[str, float]] = {}
    second: dict[str, dict[str, float]] = {}
    qrels = {}
    for each in lists():
        if each.query_id in dev:
            texts = [one.text or "" for one in each.candidates]
            ids = [one.id for one in each.candidates]
            query = retriever.encode_queries([each.query])[0]
            scores = retriever.encode_passages(texts) @ query
            logits = reranker.score([(each.query, passage) for passage in texts])
            first[each.query_id] = dict(zip(ids, scores.tolist(), strict=True))
            second[each.query_id] = dict(zip(ids, logits.tolist(), strict=True))
            qrels[each.query_id] = {ids[0]: 1}
    best = next(
        each
        for each in outcome.metrics["validations"]
        if each["step"] == outcome.metrics["best_step"]
    )
    for system, found in (("retriever", first), ("reranker", second)):
        recomputed = evaluate(found, qrels, ["nDCG@10", "RR@10"])
        for name, values in recomputed.items():
            assert mean(values) == pytest.approx(best["measures"][system][name], abs=1e-4)
    settings = json.loads((run / "reranker/rocketrank.json").read_bytes())
    assert settings["fusion"] == best["weight"]
    fused = {
        query: {each: score + best["weight"] * first[query][each] for each, score in scores.items()}
        for query, scores in second.items()
    }
    value = mean(evaluate(fused, qrels, ["nDCG@10"])["nDCG@10"])
    assert best["depth"] == 5  # all candidates of a dev query
    assert value == pytest.approx(best["measures"]["two_stages"]["nDCG@10"], abs=1e-4)


def test_figures_and_curves_are_there_at_the_end(whole: tuple[Path, Outcome]) -> None:
    run, outcome = whole
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics == outcome.metrics
    assert (metrics["steps"], metrics["last_step"], metrics["examples"]) == (12, 12, 12)
    assert metrics["dropped"]["held_out"] == 4
    assert metrics["models"] == ["retriever", "reranker"]
    page = (run / "curves.html").read_text()
    assert "small: joint" in page and "nDCG@10" in page
    assert summary(run / "metrics.jsonl")["steps"] == 12
    assert not list(run.rglob("*.partial"))


def test_a_finished_run_is_not_run_again(
    whole: tuple[Path, Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    run, outcome = whole
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    there = Place(run.parent, Path())
    with caplog.at_level(logging.INFO, "rocketrank"):
        again = there.train()
    assert again == outcome
    assert f"{run} holds a finished run of this recipe; nothing was trained" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("stage", "loss"), [("retriever", "contrastive"), ("reranker", "supervised")]
)
def test_a_stage_for_one_model_writes_that_model(here: Place, stage: Any, loss: str) -> None:
    outcome = here.train(stage=stage)
    assert list(weights(here.folder / "run")) == [stage]
    assert outcome.metrics["models"] == [stage]
    assert (outcome.retriever is None) == (stage == "reranker")
    losses = [each["losses"] for each in logged(here.folder / "run") if "losses" in each]
    assert all(each.keys() == {"total", loss} for each in losses)
    settings = json.loads((here.folder / "run" / stage / "rocketrank.json").read_bytes())
    assert settings.get("fusion") is None


def test_a_frozen_reranker_is_saved_as_it_was(here: Place, shared_reference: Path) -> None:
    teacher = shared_reference / "tiny-bert-cross-encoder"
    here.train(
        joint__freeze_reranker="true",
        joint__supervised=0,
        joint__epochs=1,
        models__reranker=teacher,
        models__pair_length=64,
    )
    run = here.folder / "run"
    there, saved = teacher / "model.safetensors", run / "reranker/model.safetensors"
    assert load_file(saved).keys() <= load_file(there).keys()
    assert set(changed(there, saved).values()) == {0.0}
    moved = changed(here.start / "model.safetensors", run / "retriever/model.safetensors")
    assert sum(change > 0 for change in moved.values()) > 20


def test_the_average_of_the_weights_is_what_is_validated_and_saved(here: Place) -> None:
    """The average is computed again from the checkpoints, one of which every step has."""
    ema = 0.6
    here.train(joint__ema=ema, joint__epochs=2, joint__keep=9, joint__checkpoint_every=1)
    run = here.folder / "run"
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics["best_step"] > 0
    kept = [load_checkpoint(run / "checkpoints", step).arrays for step in range(7)]
    for model in ("retriever", "reranker"):
        average = {name: array.astype(np.float64) for name, array in kept[0][model].items()}
        for arrays in kept[1 : metrics["best_step"] + 1]:
            average = {
                name: ema * value + (1 - ema) * arrays[model][name]
                for name, value in average.items()
            }
        found = parameters(run)[model]
        assert all(np.allclose(found[name], each, atol=1e-6) for name, each in average.items())


def test_an_average_leaves_the_training_as_it_is(here: Place, whole: tuple[Path, Outcome]) -> None:
    here.train(joint__ema=0.9)
    found = load_checkpoint(here.folder / "run/checkpoints", 12).arrays
    expected = load_checkpoint(whole[0] / "checkpoints", 12).arrays
    for model in ("retriever", "reranker"):
        for name, array in expected[model].items():
            assert np.array_equal(found[model][name], array)


def test_it_stops_early_when_patience_is_at_its_end(here: Place) -> None:
    outcome = here.train(
        joint__patience=2, joint__validate_every=1, joint__epochs=8, joint__learning_rate=1e-9
    )
    assert (outcome.step, outcome.steps) == (2, 24)
    assert outcome.metrics["stopped_early"]
    assert outcome.metrics["best_step"] == 0
    steps = [each["step"] for each in logged(here.folder / "run") if "losses" in each]
    assert steps == [1, 2]


def test_without_dev_queries_the_last_step_gives_the_models(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = here.train(data__dev_share=0.01)
    assert outcome.metrics["best_step"] == outcome.steps == 16
    assert outcome.metrics["validations"] == []
    assert "too few queries to hold out a share of 0.01: nothing is validated" in caplog.text


# Several processes

LAUNCHED = """\
import sys
from rocketrank.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""
SECONDS = 300


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_write_once(here: Place) -> None:
    """Without dropout, whose masks are another process's own."""
    recipe = here.recipe_file.read_text().replace("[models]", "[models]\ndropout = 0.0")
    here.recipe_file.write_text(recipe)
    here.train("one", joint__learning_rate=1e-4)
    script = here.folder / "rq.py"
    script.write_text(LAUNCHED)
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "logs"]
    command = ["train", str(here.recipe_file), "--lists", str(here.lists), "--output", "two"]
    threads = {"FLAGS_paddle_num_threads": "1", "OMP_NUM_THREADS": "1"}
    with (here.folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *launch, str(script), *command, "--set", "joint.learning_rate=1e-4"],
            cwd=here.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(SOURCE),
                "PADDLE_DISTRI_BACKEND": "gloo",
                **threads,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # which the launcher hands on
            process.wait()
            pytest.fail(f"not finished in {SECONDS} s")
    assert status == 0, (here.folder / "output").read_text()[-2000:]
    one, two = logged(here.folder / "one"), logged(here.folder / "two")
    assert [each["step"] for each in two] == [each["step"] for each in one]
    for mine, theirs in zip(one, two, strict=True):
        for name, value in mine.get("losses", {}).items():
            assert theirs["losses"][name] == pytest.approx(value, abs=1e-4)
    kept = checkpoint_steps(here.folder / "two/checkpoints")
    assert kept == checkpoint_steps(here.folder / "one/checkpoints")
    assert len(weights(here.folder / "two")) == 2


# Runs that go wrong


def poison(model: Path) -> None:
    arrays = load_file(model / "model.safetensors")
    name = next(name for name in arrays if name.endswith("word_embeddings.weight"))
    poisoned = arrays[name].copy()
    poisoned[:] = np.nan
    save_file({**arrays, name: poisoned}, model / "model.safetensors")


def test_a_loss_that_is_not_finite_stops_at_once_and_shows_its_lists(
    tmp_path: Path, start: Path
) -> None:
    shutil.copytree(start, tmp_path / "poisoned")
    poison(tmp_path / "poisoned")
    here = place(tmp_path / "place", tmp_path / "poisoned")
    given = as_ids(lists(), here.folder)
    with pytest.raises(RocketRankError, match="step 1 gave a loss of nan") as caught:
        here.train(**given, data__dev_share=0)
    said = one_sentence(caught.value)
    written = here.folder / "run/not-finite-step-1.json"
    assert f"its lists are in {written}" in said and "(0.01 now)" in said
    found = json.loads(written.read_bytes())
    assert found["losses"]["total"] == "nan"
    assert len(found["examples"]) == 4
    by_query = {each.query_id: each for each in lists()}
    for example in found["examples"]:
        own = {one.id: one.text for one in by_query[example["query_id"]].candidates}
        assert example["query"] == by_query[example["query_id"]].query
        assert len(example["candidates"]) == 3
        assert all(own[one["id"]] == one["text"] for one in example["candidates"])
    assert [each for each in logged(here.folder / "run") if "losses" in each] == []
    assert checkpoint_steps(here.folder / "run/checkpoints") == [0]


def test_a_validation_that_is_not_finite_is_a_sentence(tmp_path: Path, start: Path) -> None:
    shutil.copytree(start, tmp_path / "poisoned")
    poison(tmp_path / "poisoned")
    here = place(tmp_path / "place", tmp_path / "poisoned")
    with pytest.raises(RocketRankError, match=r"the retriever scores passage p.* as nan") as caught:
        here.train()
    assert "its weights are damaged" in one_sentence(caught.value)
