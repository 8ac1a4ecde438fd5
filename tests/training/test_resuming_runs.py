"""A run that is killed, stopped or out of disk goes on and ends as if nothing had happened."""

import json
import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocketrank.training.checkpoints import checkpoint_steps, latest_checkpoint, load_checkpoint

from .small_run import Place, Rq, last_step, logged, place, serving, start_model, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rq(model_cache: Path) -> Iterator[Rq]:
    with serving(model_cache) as server:
        yield server


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path, rq: Rq) -> Place:
    """A place with a run that nothing interrupted, its averages of the weights included."""
    folder = tmp_path_factory.mktemp("whole")
    there = place(folder / "place", start_model(shared_reference, folder / "start"))
    recipe = there.recipe_file.read_text() + "ema = 0.5\n"
    there.recipe_file.write_text(recipe.replace("epochs = 4", "epochs = 8"))
    done = rq(*command(there, there.folder / "run"))
    assert done.status == 0, done.stderr
    assert last_step(there.folder / "run") == 24
    return there


def command(there: Place, output: Path) -> list[object]:
    return ["train", there.recipe_file, "--lists", there.lists, "--output", output]


def all_arrays(run: Path) -> dict[str, bytes]:
    """Parameters, moments and averages of the last step."""
    arrays = load_checkpoint(run / "checkpoints", 24).arrays
    return {
        f"{part}/{name}": array.tobytes()
        for part, named in arrays.items()
        for name, array in named.items()
    }


def validations(run: Path) -> list[Any]:
    found: list[Any] = json.loads((run / "metrics.json").read_bytes())["validations"]
    return found


def check_equal(run: Path, whole: Place) -> None:
    expected = whole.folder / "run"
    assert weights(run) == weights(expected)
    assert len(weights(run)) == 2
    assert all_arrays(run) == all_arrays(expected)
    assert any(name.startswith("optimiser/average/") for name in all_arrays(run))
    assert logged(run) == logged(expected)
    assert validations(run) == validations(expected)
    for name in ("retriever", "reranker"):
        settings = [folder / name / "rocketrank.json" for folder in (run, expected)]
        assert settings[0].read_bytes() == settings[1].read_bytes()
    assert not list(run.rglob("*.partial"))


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_again_and_again_it_ends_with_the_same_bytes_and_log(
    tmp_path: Path, rq: Rq, whole: Place, seed: int
) -> None:
    numbers, run = random.Random(seed), tmp_path / "run"
    for kill in range(6):
        saving = kill % 3 == 1
        after = -1 if saving else max(0, last_step(run)) + numbers.randint(1, 4)
        place = "checkpoints/*.partial" if saving else ""
        done = rq(*command(whole, run), run=str(run), after_step=after, while_there=place)
        assert done.status == -signal.SIGKILL
    assert last_step(run) < 24
    done = rq(*command(whole, run))
    assert done.status == 0, done.stderr
    assert "note: goes on after step " in done.stderr
    check_equal(run, whole)


def test_killed_at_once_after_its_first_checkpoint_it_validates_no_second_time(
    tmp_path: Path, rq: Rq, whole: Place
) -> None:
    """Where a second validation of step 0 would count as one without a gain."""
    run = tmp_path / "run"
    assert rq(*command(whole, run), run=str(run), after_step=1).status == -signal.SIGKILL
    for step in checkpoint_steps(run / "checkpoints")[1:]:  # made before the kill came
        shutil.rmtree(run / f"checkpoints/step-{step:08d}")
    assert rq(*command(whole, run)).status == 0
    check_equal(run, whole)


def test_killed_while_the_models_are_written_it_writes_them_again(
    tmp_path: Path, rq: Rq, whole: Place
) -> None:
    run = tmp_path / "run"
    for name in ("retriever", "reranker"):
        done = rq(*command(whole, run), run=str(run), while_there=f"{name}.partial/*.json")
        assert done.status == -signal.SIGKILL
    assert rq(*command(whole, run)).status == 0
    check_equal(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_a_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, rq: Rq, whole: Place, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    stopped = rq(*command(whole, run), run=str(run), after_step=7, signal=number)
    assert stopped.status == 143
    assert stopped.stdout == ""
    notes = stopped.stderr.splitlines()
    assert notes[-1] == (
        f"Stopped after step {last_step(run)} of 24, which is kept in {run}: the same command goes "
        "on from there."
    )
    assert "note: stopping after this step; interrupt again to stop at once" in notes
    assert "Traceback" not in stopped.stderr
    assert latest(run) == last_step(run)
    assert not (run / "retriever").exists()
    gone_on = rq(*command(whole, run))
    assert gone_on.status == 0
    assert f"note: goes on after step {latest_note(gone_on.stderr)} in {run}" in gone_on.stderr
    check_equal(run, whole)


def latest(run: Path) -> int:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint.step


def latest_note(notes: str) -> int:
    found = re.search(r"goes on after step (\d+) in", notes)
    assert found is not None
    return int(found[1])


def test_a_full_disk_loses_no_checkpoint_and_room_lets_it_go_on(
    tmp_path: Path, rq: Rq, whole: Place
) -> None:
    run = tmp_path / "run"
    rq(*command(whole, run), run=str(run), after_step=7, signal=signal.SIGTERM)
    step, before = latest(run), content(run / "checkpoints")
    sizes = [path.stat().st_size for path in (run / "checkpoints").rglob("*.safetensors")]
    for limit in (max(sizes) - 1, min(sizes) // 2):
        full = rq(*command(whole, run), file_limit=limit)
        assert full.status == 1
        said = full.stderr.splitlines()[-1]
        assert re.fullmatch(
            rf"rq: {run}/checkpoints/step-\d+: cannot be written \(File too large\): .*", said
        )
        assert "Traceback" not in full.stderr
        assert latest(run) == step
        assert content(run / "checkpoints") == before
    assert rq(*command(whole, run)).status == 0
    check_equal(run, whole)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_full_disk_at_the_first_write_is_a_sentence(tmp_path: Path, rq: Rq, whole: Place) -> None:
    run = tmp_path / "run"
    full = rq(*command(whole, run), file_limit=1000)
    assert full.status == 1
    assert full.stderr.startswith(f"rq: {run}/") and "cannot be written" in full.stderr
    assert rq(*command(whole, run)).status == 0
    check_equal(run, whole)


def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path: Path, rq: Rq, whole: Place
) -> None:
    run = tmp_path / "run"
    rq(*command(whole, run), run=str(run), after_step=13, signal=signal.SIGTERM)
    last = latest(run)
    (run / f"checkpoints/step-{last:08d}/optimiser.safetensors").write_bytes(b"")
    done = rq(*command(whole, run))
    assert done.status == 0
    assert "note: a damaged checkpoint is passed over: " in done.stderr
    assert latest_note(done.stderr) < last
    check_equal(run, whole)
