"""A folder that holds a run already: of another recipe, other lists, or one that was killed."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from rocketrank.errors import UsageError
from rocketrank.training.lists import write_lists
from rocketrank.training.run import Outcome

from .small_run import Place, lists, logged, one_sentence, place, start_model, weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path) -> Path:
    return start_model(shared_reference, tmp_path_factory.mktemp("start") / "start")


@pytest.fixture
def here(tmp_path: Path, start: Path) -> Place:
    return place(tmp_path / "place", start)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, start: Path) -> tuple[Path, Outcome]:
    """A run of both models that nothing interrupted, and its folder."""
    there = place(tmp_path_factory.mktemp("whole"), start)
    outcome = there.train()
    return there.folder / "run", outcome


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused_with_the_keys_that_differ(
    tmp_path: Path, whole: tuple[Path, Outcome], finished: bool
) -> None:
    there = copied(whole[0], tmp_path, finished=finished)
    with pytest.raises(UsageError) as caught:
        there.train(joint__epochs=5, seed=8)
    assert one_sentence(caught.value) == (
        f"{there.folder / 'run'} holds a run with another recipe (seed: 7 / 8; joint.epochs: 4.0 / "
        "5.0, there / now): go on with the recipe of then, or name another --output"
    )


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("other", ["lists", "dev", "stage"])
def test_another_run_is_refused(
    tmp_path: Path, whole: tuple[Path, Outcome], other: str, finished: bool
) -> None:
    there = copied(whole[0], tmp_path, finished=finished)
    options: dict[str, Any] = {}
    if other == "lists":
        write_lists(there.lists, lists(15))
    elif other == "dev":
        write_lists(there.folder / "dev.jsonl", lists(3, first=20))
        options["dev"] = there.folder / "dev.jsonl"
    else:
        options["stage"] = "retriever"
    before = weights(there.folder / "run")
    with pytest.raises(UsageError) as caught:
        there.train(**options)
    said = one_sentence(caught.value)
    expected = {
        "lists": "holds a run with other lists (SHA-256 ",
        "dev": "holds a run with other dev lists (SHA-256 none then, ",
        "stage": "holds a run of the stage joint, not retriever: name another --output",
    }
    assert expected[other] in said
    assert weights(there.folder / "run") == before


def test_a_run_that_ended_before_its_first_checkpoint_may_begin_with_another_recipe(
    here: Place, whole: tuple[Path, Outcome]
) -> None:
    here.train(joint__epochs=1)
    run = here.folder / "run"
    for path in run.iterdir():  # all that a kill in the first validation leaves
        if path.name not in ("recipe.toml", "metrics.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    here.train()
    assert weights(run) == weights(whole[0])
    assert logged(run) == logged(whole[0])


def copied(run: Path, folder: Path, *, finished: bool) -> Place:
    """A copy of a run, also as it was before its models were written."""
    shutil.copytree(run.parent, folder / "copy")
    if not finished:
        (folder / "copy/run/metrics.json").unlink()
    return Place(folder / "copy", Path())


def test_a_run_killed_before_its_models_were_written_writes_them(
    tmp_path: Path, whole: tuple[Path, Outcome]
) -> None:
    there = copied(whole[0], tmp_path, finished=False)
    run = there.folder / "run"
    shutil.rmtree(run / "reranker")
    (run / "retriever/model.safetensors").write_bytes(b"half")
    (run / "reranker.partial").mkdir()
    (run / "reranker.partial/stale").write_bytes(b"")
    outcome = there.train()
    assert weights(run) == weights(whole[0])
    assert not list(run.rglob("*.partial")) and not (run / "reranker/stale").exists()
    assert outcome.metrics["validations"] == whole[1].metrics["validations"]
