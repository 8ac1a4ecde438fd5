"""Checkpoints of a training run: arrays and state on disk, from which it goes on exactly.

``step-00000120/`` holds ``<part>.safetensors`` for each part of the arrays, and ``state.json`` with
the SHA-256 of these files and of itself. It is written beside its place and renamed, so a folder of
that name was whole once; what a disk has done to it since is found when it is read. A step that is
saved again stands as ``step-00000120.old/`` until the new one is in place. One process writes.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ..durable import PARTIAL, explained_write, make_folder, replacing, save_tensors, sha256_of
from ..errors import DataError, UsageError

_log = logging.getLogger(__name__)

_STATE = "state.json"
_OLD = ".old"
_NAME = re.compile(r"step-(\d{8,})(\.old)?")


class Checkpoint(NamedTuple):
    """``arrays`` by part ("retriever", "optimiser", …) and name; ``state`` is a JSON object."""

    step: int
    arrays: dict[str, dict[str, NDArray[Any]]]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep: int, best: int | None = None
) -> Path:
    """Writes a checkpoint, then removes earlier ones but for the last ``keep`` and step ``best``.

    Later steps, which a run that went back has left, stay. Raises RocketRankError where it cannot
    be written, with every other checkpoint as it was, and ValueError or TypeError for a state that
    JSON would not give back as it is (tuples, NaN, integers of more than 64 bits).
    """
    if keep < 1:
        raise UsageError(f"keep ({keep}) must be at least 1")
    _check_state(checkpoint.state)
    place = _place(folder, checkpoint.step)
    make_folder(folder)
    with explained_write(place):
        _remove(folder, steps=())
        with replacing(place, alone=True) as partial:
            partial.mkdir()
            _write(partial, checkpoint)
            if place.exists():
                os.replace(place, _aside(place))
    done = [step for step in checkpoint_steps(folder) if step <= checkpoint.step]
    try:
        _remove(folder, steps={*done[:-keep]} - {best})
    except OSError as error:  # the new one is in place: no reason to stop a training run
        _log.warning("%s: an old checkpoint could not be removed (%s)", folder, error.strerror)
    return place


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, damaged or not, in rising order."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in names if match})


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none at all.

    A damaged one is noted and passed over. Raises DataError where all are damaged.
    """
    first: DataError | None = None
    for step in reversed(checkpoint_steps(folder)):
        try:
            return load_checkpoint(folder, step)
        except DataError as error:
            _log.warning("a damaged checkpoint is passed over: %s", error)
            first = first or error
    if first is None:
        return None
    raise DataError(
        f"no checkpoint can be read, the newest because of {first}: train into a new folder"
    ) from first


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step. Raises DataError where it is absent or damaged."""
    place = _place(folder, step)
    if not place.exists() and _aside(place).exists():
        place = _aside(place)  # saving the step again ended between the two renames
    if not place.exists():
        steps = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise DataError(f"{folder}: expected a checkpoint of step {step}, found {steps}")
    try:
        content = _read_state(place / _STATE)
        arrays = {part: _read(place, part, digest) for part, digest in content["arrays"].items()}
    except OSError as error:
        where = error.filename or place
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from error
    return Checkpoint(content["step"], arrays, content["state"])


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _aside(place: Path) -> Path:
    return place.with_name(place.name + _OLD)


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def _check_state(state: dict[str, Any]) -> None:
    """A resumed run must go on with the state that was saved, not with one like it."""
    again = orjson.loads(orjson.dumps(state))
    changed = sorted(key for key, value in state.items() if again[key] != value)
    if changed:
        raise ValueError(f"JSON would not give back {', '.join(changed)} of the state as it is")


def _write(partial: Path, checkpoint: Checkpoint) -> None:
    """Fills the folder ``partial``; the caller makes it durable."""
    digests = {}
    for part, arrays in checkpoint.arrays.items():
        save_tensors(_file(partial, part), arrays)
        digests[part] = sha256_of(_file(partial, part))
    content = {"step": checkpoint.step, "arrays": digests, "state": checkpoint.state}
    content = {"checksum": _checksum(content), **content}
    (partial / _STATE).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _read_state(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: expected JSON, found a file that is none ({error})") from error
    checksum = content.pop("checksum", None) if isinstance(content, dict) else None
    if checksum is None or checksum != _checksum(content):
        raise DataError(f"{path}: expected the content its checksum was taken of, found another")
    return dict(content)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _read(place: Path, part: str, digest: str) -> dict[str, NDArray[Any]]:
    path = _file(place, part)
    found = sha256_of(path)
    if found != digest:
        raise DataError(f"{path}: expected SHA-256 {digest[:12]}, found {found[:12]}")
    return dict(load_file(path))


def _remove(folder: Path, *, steps: Collection[int]) -> None:
    """Removes ``steps``, what killed runs have left, and what a step saved again has replaced."""
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name.removesuffix(PARTIAL))
        if match is None:
            continue
        gone = path
        if not path.name.endswith(PARTIAL):
            replaced = match[2] and _place(folder, int(match[1])).exists()
            if not replaced and int(match[1]) not in steps:
                continue
            gone = path.with_name(path.name + PARTIAL)  # half of it is never taken for one
            os.replace(path, gone)
        shutil.rmtree(gone)
