"""Checkpoints of RocketQA 1.x and PaddleNLP turned into model directories: ``rq convert``.

Where the facts about the sources were learnt stands beside the code that uses them:
:mod:`rocketrank.checkpoint_rocketqa` and :mod:`rocketrank.checkpoint_paddlenlp` (folders, towers,
heads, lengths), :mod:`rocketrank.checkpoint_names` (names and shapes of variables),
:mod:`rocketrank.checkpoint_tokenizer` (vocabulary), :mod:`rocketrank.lod_tensor` (files).

The target has Hugging Face's layout with all weights in float32, plus ``rocketrank.json``. It is
written beside its place and renamed, so that it is either whole or absent.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .checkpoint_names import Checkpoint, TowerSource, Weight, first_names
from .checkpoint_paddlenlp import CONFIG_FILES, WEIGHT_FILES, open_paddlenlp
from .checkpoint_rocketqa import open_rocketqa
from .checkpoint_tokenizer import check_vocabulary, write_tokenizer
from .durable import check_new_folder, replacing, save_tensors
from .errors import DataError, UsageError
from .model_config import read_json_object
from .model_settings import SETTINGS_FILE, Role, Towers, save_settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What was converted, and what was not.

    ``weights`` counts the variables that were written. Not written were ``optimizer`` (its state),
    ``unused`` (known parts of another model or head) and ``unknown`` variables, by name.
    """

    target: Path
    role: Role
    towers: Towers
    weights: int
    optimizer: tuple[str, ...]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]


def convert_checkpoint(
    source: Path, target: Path, *, role: Role | None = None, passage: Path | None = None
) -> ConversionReport:
    """Convert the checkpoint in ``source`` into a new model directory ``target``.

    ``source`` is a RocketQA folder (or its config file) or a PaddleNLP folder; ``passage`` the
    second PaddleNLP folder where the towers are two. ``role`` is needed only where ``source`` does
    not say it. Unknown variables are reported and logged; a missing one, a wrong shape or type, a
    damaged file is a DataError that names it, and then nothing is written.
    """
    check_new_folder(target)
    checkpoint = _open(source, role, passage)
    for tower in checkpoint.towers.values():
        _check_names(tower)
        check_vocabulary(tower.vocabulary, int(tower.config["vocab_size"]), tower.config_origin)
    _write(checkpoint, target)
    left_out = checkpoint.left_out
    if left_out.unknown:
        _log.warning(
            "%s: left out %d variables that no ERNIE has: %s",
            source,
            len(left_out.unknown),
            ", ".join(left_out.unknown),
        )
    return ConversionReport(
        target=target,
        role=checkpoint.settings.role,
        towers=checkpoint.settings.towers,
        weights=sum(len(tower.weights) for tower in checkpoint.towers.values()),
        optimizer=left_out.optimizer,
        unused=left_out.unused,
        unknown=left_out.unknown,
    )


def _open(source: Path, role: Role | None, passage: Path | None) -> Checkpoint:
    config_path = source if source.is_file() else source / "config.json"
    if config_path.is_file() and "model_checkpoint_path" in read_json_object(config_path):
        if passage is not None:
            raise UsageError(f"{source} holds both towers; leave out the passage folder {passage}")
        return open_rocketqa(config_path, role)
    if not source.is_dir():
        problem = "is no RocketQA config file" if source.exists() else "does not exist"
        raise UsageError(f"{source} {problem}; name the folder of a checkpoint")
    if (source / SETTINGS_FILE).exists():
        raise DataError(f"{source} is a model directory already (it has {SETTINGS_FILE})")
    if not any((source / name).is_file() for name in (*WEIGHT_FILES, *CONFIG_FILES)):
        raise DataError(
            f"{source} is no checkpoint: expected RocketQA's config.json, or PaddleNLP's "
            f"{' or '.join(CONFIG_FILES)} with {WEIGHT_FILES[0]}"
        )
    return open_paddlenlp(source, role, passage)


def _check_names(tower: TowerSource) -> None:
    """Every weight must be there, and no layer must be there that the config does not count."""
    wanted = {weight.source for weight in tower.weights}
    missing = wanted - tower.names
    if missing:
        raise DataError(
            f"{tower.origin} lacks variables that {tower.config_origin} asks for "
            f"({len(missing)} of {len(wanted)}): {first_names(missing)}"
        )
    layers = int(tower.config["num_hidden_layers"])
    # The name of a layer's variable with its number left open, as this source spells it.
    sample = next(weight.source for weight in tower.weights if ".layer.0." in weight.target)
    before, _, after = sample.partition("0")
    beyond = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
    counts = [int(match[1]) + 1 for name in tower.names if (match := beyond.fullmatch(name))]
    if max(counts) > layers:
        raise DataError(
            f"{tower.origin} has {max(counts)} layers, "
            f"but num_hidden_layers in {tower.config_origin} is {layers}"
        )


def _write(checkpoint: Checkpoint, target: Path) -> None:
    """All or nothing: into a folder beside ``target``, then renamed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            beside.mkdir()
            for subfolder, tower in checkpoint.towers.items():
                _write_tower(tower, beside / subfolder)
            save_settings(beside, checkpoint.settings)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error


def _write_tower(tower: TowerSource, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {weight.target: _read_weight(tower, weight) for weight in tower.weights}
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    _write_json(tower.config, folder / "config.json")
    positions = int(tower.config["max_position_embeddings"])
    write_tokenizer(tower.vocabulary, folder, positions=positions)


def _read_weight(tower: TowerSource, weight: Weight) -> NDArray[np.float32]:
    """One variable as Hugging Face keeps it: float32, a linear layer as (out, in)."""
    value = tower.read(weight.source)
    if not np.issubdtype(value.dtype, np.floating):
        raise DataError(
            f"{tower.origin}: expected {weight.source} to hold floating-point numbers, "
            f"found {value.dtype}"
        )
    if value.shape != weight.shape:
        raise DataError(
            f"{tower.origin}: expected {weight.source} in shape {weight.shape} "
            f"by {tower.config_origin}, found {value.shape}"
        )
    return np.ascontiguousarray(value.T if weight.transposed else value, dtype=np.float32)


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
