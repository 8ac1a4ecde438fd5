"""Checkpoints survive kills at any point, full disks and damage.

As a script, ``test_checkpoints.py FOLDER TASK ARGUMENT…`` does what must not be done to the process
that runs the tests: it saves in children that it kills, or under a limit of the size of files.
"""

import errno
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.training.checkpoints import (
    Checkpoint,
    checkpoint_steps,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

SOURCE = Path(__file__).resolve().parents[2] / "src"


def made(step: int, size: int = 200) -> Checkpoint:
    """A checkpoint that its step tells apart from every other."""
    numbers = np.random.default_rng(step)
    arrays = {
        "retriever": {"weight": numbers.normal(size=(size, 3)).astype(np.float32)},
        "optimiser": {"moment": numbers.normal(size=size), "count": np.asarray(step)},
    }
    return Checkpoint(step, arrays, {"position": [step, 7], "loss": step / 3})


def bits(checkpoint: Checkpoint | None) -> Any:
    """All of a checkpoint as it can be compared, arrays by their bytes."""
    assert checkpoint is not None
    arrays = {
        (part, name): (array.dtype.str, array.shape, array.tobytes())
        for part, named in checkpoint.arrays.items()
        for name, array in named.items()
    }
    return checkpoint.step, arrays, checkpoint.state


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# What is saved is what is loaded


def test_arrays_come_back_bit_for_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 1 << 16, 64, dtype=np.uint16)
    arrays: dict[str, dict[str, NDArray[Any]]] = {
        "retriever": {
            "bits of bfloat16": noise,
            "float16 with NaNs": noise.view(np.float16),
            "float32": noise.view(np.float32).reshape(4, 8),
            "float64": noise.view(np.float64),
            "counts": np.array([-(2**63), 2**63 - 1]),
            "transposed": noise.reshape(8, 8).T,
            "every third": noise[::3],
            "number": np.asarray(np.float32(0.1)),
            "nothing": np.zeros((0, 4), np.float32),
        },
        "best": {},
    }
    state = {
        "scaler": 65536.0,
        "generator": [3, 2**63, None],
        "recipe": "ab",
        "nested": {"é": -0.5},
    }
    checkpoint = Checkpoint(7, arrays, state)
    save_checkpoint(tmp_path / "run" / "checkpoints", checkpoint, keep=1)
    loaded = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert bits(loaded) == bits(checkpoint)
    assert loaded is not None
    assert [*loaded.arrays] == ["retriever", "best"]


@pytest.mark.parametrize("value", [(1, 2), float("nan"), -float("inf"), 2**64, np.float32(1)])
def test_a_state_that_json_would_change_is_refused_before_anything_is_written(
    tmp_path: Path, value: object
) -> None:
    with pytest.raises((ValueError, TypeError)):
        save_checkpoint(tmp_path, Checkpoint(1, {}, {"value": [value]}), keep=1)
    assert list(tmp_path.iterdir()) == []


def test_the_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, made(1), keep=1)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in (*place.iterdir(), tmp_path / "other")}
    assert len(modes) == 1


def test_without_a_folder_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "none") is None
    assert checkpoint_steps(tmp_path / "none") == []
    with pytest.raises(DataError, match="expected a checkpoint of step 3, found none"):
        load_checkpoint(tmp_path / "none", 3)


def test_an_absent_step_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, made(step), keep=5)
    with pytest.raises(DataError, match="expected a checkpoint of step 3, found 1, 2"):
        load_checkpoint(tmp_path, 3)


# Which are kept


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    seen = []
    for step in (10, 20, 30, 40, 50):
        save_checkpoint(tmp_path, made(step), keep=2, best=10 if step < 50 else 40)
        seen.append(checkpoint_steps(tmp_path))
    assert seen == [[10], [10, 20], [10, 20, 30], [10, 30, 40], [40, 50]]
    assert bits(load_checkpoint(tmp_path, 40)) == bits(made(40))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000040", "step-00000050"]


def test_a_step_saved_again_is_replaced(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(4), keep=1)
    again = Checkpoint(4, {"ema": {"x": np.ones(3)}}, {"metrics": {"MRR@10": 0.5}})
    save_checkpoint(tmp_path, again, keep=1)
    assert bits(latest_checkpoint(tmp_path)) == bits(again)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_going_back_keeps_what_came_later_and_what_was_just_saved(tmp_path: Path) -> None:
    for step in (10, 20, 30, 15):
        save_checkpoint(tmp_path, made(step), keep=2)
    assert checkpoint_steps(tmp_path) == [15, 20, 30]


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.partial").mkdir()
    (tmp_path / "step-best").mkdir()
    for step in (1, 2):
        save_checkpoint(tmp_path, made(step), keep=1)
    assert (tmp_path / "notes.partial").exists()
    assert (tmp_path / "step-best").exists()
    assert checkpoint_steps(tmp_path) == [2]


def test_what_a_killed_run_left_is_removed_at_the_next_save(tmp_path: Path) -> None:
    for name in ("step-00000005.partial", "step-00000001.old.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "retriever.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path, made(6), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_nothing_can_be_kept_by_keeping_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"keep \(0\) must be at least 1"):
        save_checkpoint(tmp_path, made(1), keep=0)


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def turn_a_bit(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9] + b"\7" + path.read_bytes()[-8:])


@pytest.mark.parametrize("name", ["optimiser.safetensors", "retriever.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [cut, turn_a_bit, Path.unlink])
def test_a_damaged_newest_is_passed_over_with_a_note(
    tmp_path: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        place = save_checkpoint(tmp_path, made(step), keep=2)
    damage(place / name)
    with caplog.at_level(logging.WARNING, logger="rocketrank"):
        assert bits(latest_checkpoint(tmp_path)) == bits(made(1))
    assert f"step-00000002/{name}: " in caplog.text
    with pytest.raises(DataError, match=rf"step-00000002/{name}: "):
        load_checkpoint(tmp_path, 2)


def test_only_when_none_can_be_read_it_is_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        cut(save_checkpoint(tmp_path, made(step), keep=2) / "state.json")
    with pytest.raises(DataError, match=r"no checkpoint can be read, .*step-00000002/state\.json"):
        latest_checkpoint(tmp_path)


# A full disk


def failing_at_each(call: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Fails the first, second, … of the calls of ``os.call`` that are made between two of these."""
    original = getattr(os, call)
    for allowed in range(1000):
        calls = 0

        def full(*arguments: Any, allowed: int = allowed, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == allowed + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            yield allowed
        if calls <= allowed:
            return


@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "replace"])
@pytest.mark.parametrize("again", [False, True], ids=["a new step", "a step saved again"])
def test_a_disk_that_is_full_at_any_call_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, again: bool
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, made(step), keep=3)
    saved = made(2 if again else 3)._replace(state={"new": True})
    before, failures = bits(latest_checkpoint(tmp_path)), 0
    for _ in failing_at_each(call, monkeypatch):
        try:
            save_checkpoint(tmp_path, saved, keep=3)
        except RocketRankError as error:
            said = "cannot be written (No space left on device): make room or"
            assert f"step-{saved.step:08d}: {said}" in str(error)
            assert not (tmp_path / f"step-{saved.step:08d}.partial").exists()
            failures += 1
        assert bits(load_checkpoint(tmp_path, 1)) == bits(made(1))
        # A sync of the folder that fails after the rename leaves the new one in place.
        assert bits(latest_checkpoint(tmp_path)) in (before, bits(saved))
        assert bits(load_checkpoint(tmp_path, 2)) in (bits(made(2)), bits(saved))
    assert failures >= {"mkdir": 1, "open": 3, "fsync": 5, "replace": 1}[call]
    assert bits(latest_checkpoint(tmp_path)) == bits(saved)


def script(folder: Path, *task: object) -> list[Any]:
    """The lines of JSON that this file as a script prints."""
    done = subprocess.run(
        [sys.executable, __file__, folder, *map(str, task)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("size", [0, 200])
def test_files_that_cannot_be_written_to_their_end_lose_nothing(tmp_path: Path, size: int) -> None:
    """The largest file is ``state.json`` with small arrays, and an array's with large ones."""
    save_checkpoint(tmp_path, made(1), keep=1)
    before = content(tmp_path)
    whole = save_checkpoint(tmp_path / "whole", made(2, size), keep=1)
    limits = [0, 1, *(path.stat().st_size - 1 for path in whole.iterdir())]
    shutil.rmtree(tmp_path / "whole")
    sentence = f"{tmp_path}/step-00000002: cannot be written (File too large): "
    said = script(tmp_path, "limits", size, *limits)
    assert [text[: len(sentence)] for text in said] == [sentence] * len(limits)
    assert content(tmp_path) == before


def save_under_limits(folder: Path, size: str, *limits: str) -> None:
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        try:
            save_checkpoint(folder, made(2, int(size)), keep=1)
        except RocketRankError as error:
            print(json.dumps(str(error)))


# Kills


def test_killed_at_random_moments_it_leaves_what_was_saved_last(tmp_path: Path) -> None:
    rounds = script(tmp_path, "random", 24)
    assert len(rounds) == 24
    for reported, latest, readable in rounds:
        # What was in place and not yet reported may be one step further on.
        assert latest in (reported, reported + 1)
        assert readable


def kill_at_random_moments(folder: Path, kills: str) -> None:
    """Prints after each kill the last step reported, the one loaded, and whether all are right."""
    numbers, reported = random.Random(5), 0
    for _ in range(int(kills)):
        read, report = os.pipe()
        with forked() as child, os.fdopen(read) as steps:
            if child == 0:
                for step in range(reported + 1, reported + 10_000):
                    for _ in range(2):
                        save_checkpoint(folder, made(step), keep=2, best=1)
                        os.write(report, b"%d\n" % step)
            os.close(report)
            saved = [steps.readline()]
            time.sleep(numbers.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            reported = int([*saved, *steps][-1])
        latest, right = loaded(folder)
        print(json.dumps([reported, latest, right and 1 in checkpoint_steps(folder)]))


@pytest.mark.parametrize(("call", "least"), [("fsync", 10), ("replace", 5), ("unlink", 6)])
def test_killed_before_any_system_call_it_leaves_one_that_was_saved(
    tmp_path: Path, call: str, least: int
) -> None:
    """The child saves a step twice; ``least`` calls make that."""
    save_checkpoint(tmp_path, made(0), keep=1)
    rounds = script(tmp_path, "calls", call)
    assert len(rounds) > least
    before = 0
    for step, (latest, readable) in enumerate(rounds, start=1):
        assert latest in (before, step)
        assert readable
        before = latest
    assert before == len(rounds)


def kill_before_each_call(folder: Path, call: str) -> None:
    """Prints after each kill the step loaded and whether all are right; ends where none is due."""
    original = getattr(os, call)
    calls = 0
    for step in range(1, 100):

        def ending(*arguments: Any, step: int = step, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        with forked() as child:
            if child == 0:
                setattr(os, call, ending)
                for _ in range(2):
                    save_checkpoint(folder, made(step), keep=1)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
        print(json.dumps(loaded(folder)))
        if status == 0:
            return


@contextmanager
def forked() -> Iterator[int]:
    """The number of a child, 0 in the child, which ends with the block at the latest."""
    child = os.fork()
    try:
        yield child
    finally:
        if child == 0:
            traceback.print_exc()
            os._exit(1)


def loaded(folder: Path) -> tuple[int, bool]:
    """The latest step, and whether every checkpoint there holds what was saved in it."""
    latest = latest_checkpoint(folder)
    assert latest is not None
    steps = checkpoint_steps(folder)
    right = all(bits(load_checkpoint(folder, step)) == bits(made(step)) for step in steps)
    return latest.step, right


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {
        "limits": save_under_limits,
        "random": kill_at_random_moments,
        "calls": kill_before_each_call,
    }
    tasks[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
