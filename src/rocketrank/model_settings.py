"""What a model folder is used as: ``rocketrank.json``, or what is inferred where it is absent.

The rules of inference follow what the library that wrote the folder would do with it
(sentence-transformers, Hugging Face), so that a vector or score made here is the published one.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import orjson

from .durable import replacing
from .errors import DataError, UsageError
from .model_config import (
    check_labels,
    first_architecture,
    hidden_width,
    max_length,
    read_config,
    read_json_object,
    shown,
)

Role = Literal["dual-encoder", "cross-encoder"]
Towers = Literal["shared", "separate"]
Pooling = Literal["cls", "mean"]
TitleForm = Literal["join", "pair"]

SETTINGS_FILE = "rocketrank.json"

# Cosines lie in about -0.2 to 0.4, over which a softmax is flat: they are multiplied by this.
NORMALIZED_SCALE = 20.0

_CHOICES: dict[str, tuple[str, ...]] = {
    "role": get_args(Role),
    "towers": get_args(Towers),
    "pooling": get_args(Pooling),
    "title": get_args(TitleForm),
}
# A single text has two special tokens and a pair up to four (RoBERTa), to which text must be added.
_SHORTEST = {"query_length": 3, "passage_length": 3, "pair_length": 6}
_ROLE_LENGTHS: dict[Role, tuple[str, ...]] = {
    "dual-encoder": ("query_length", "passage_length"),
    "cross-encoder": ("pair_length",),
}
_CALIBRATION_KEYS: dict[Role, tuple[str, ...]] = {
    "dual-encoder": ("slope", "intercept"),
    "cross-encoder": ("fusion", "retriever", "slope", "intercept"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A score's probability is ``1 / (1 + exp(-(slope * score + intercept)))``.

    A retriever's is of its own scores. A cross-encoder's is of the fused score at the weight
    ``fusion`` (0 is its score alone) over what the model of the fingerprint ``retriever`` found;
    both are None in a retriever's, and the file then leaves them out.
    """

    slope: float
    intercept: float
    fusion: float | None = None
    retriever: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The content of ``rocketrank.json``. Lengths are in tokens and include special tokens.

    ``scale`` multiplies a score wherever a loss or a confidence reads it; it changes no vector.
    ``title`` is ``"join"`` for one segment ``title text`` and ``"pair"`` for two segments
    ``[CLS] title [SEP] text [SEP]`` with token types 0 and 1, as RocketQA's passage encoder.
    ``fusion`` is the weight w of the retriever's score where a cross-encoder's stands beside it,
    ``reranker + w · retriever``; None is no fusion, and the file then leaves the key out.
    ``calibration`` makes probabilities of scores; None is left out too. It belongs to the weights
    beside it: a model that is made from this one has none.
    """

    role: Role
    towers: Towers = "shared"
    pooling: Pooling = "cls"
    normalize: bool = False
    scale: float = 1.0
    query_length: int = 32
    passage_length: int = 128
    pair_length: int = 160
    query_prefix: str = ""
    passage_prefix: str = ""
    title: TitleForm = "join"
    fusion: float | None = None
    calibration: Calibration | None = None


def folder_settings(folder: Path) -> ModelSettings:
    """The settings of a model folder, from ``rocketrank.json`` or else inferred; see the module."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return infer_settings(folder)
    values = read_json_object(path)
    settings = parse_settings(values, str(path))
    configs = [read_config(tower) for tower in tower_paths(folder, settings)]
    if len({hidden_width(config) for config in configs}) > 1:
        widths = " and ".join(str(hidden_width(config)) for config in configs)
        raise DataError(
            f"{folder}: the towers are {widths} wide, and their vectors cannot be compared: "
            "give two towers of one width"
        )
    usable = min(max_length(config) for config in configs)
    lengths = {key: cast(int, getattr(settings, key)) for key in _ROLE_LENGTHS[settings.role]}
    for key, length in lengths.items():
        if length > usable and key in values:
            raise DataError(
                f"{path}: {key} is {length}, but the model has positions for {usable} tokens: "
                f"write {usable} or less"
            )
    clipped: dict[str, Any] = {key: min(length, usable) for key, length in lengths.items()}
    settings = replace(settings, **clipped)
    if settings.role == "cross-encoder":
        check_labels(configs[0], folder)
    return settings


def tower_paths(folder: Path, settings: ModelSettings) -> list[Path]:
    """The folder itself, or ``query/`` and ``passage/`` below it."""
    if settings.towers == "shared":
        return [folder]
    return [folder / "query", folder / "passage"]


def parse_settings(values: Mapping[str, object], place: str) -> ModelSettings:
    """The settings in a JSON object; ``place`` (a file) opens the sentence of a ``DataError``."""
    known = [field.name for field in fields(ModelSettings)]
    for key, value in values.items():
        if key not in known:
            raise DataError(f'{place}: unknown key "{key}", expected one of {", ".join(known)}')
        expected = _unmet_expectation(key, value)
        if expected:
            raise DataError(f"{place}: {key} is {shown(value)}, expected {expected}")
    if "role" not in values:
        roles = _alternatives(_CHOICES["role"])
        raise DataError(f'{place}: the key "role" is missing, expected {roles}')
    given = cast(dict[str, Any], dict(values))
    if "calibration" in given:
        given["calibration"] = _parse_calibration(given["calibration"], given["role"], place)
    settings = ModelSettings(**given)
    if settings.role == "cross-encoder" and settings.towers == "separate":
        raise DataError(
            f'{place}: towers is "separate" and role is "cross-encoder", which reads query and '
            'passage together: write "towers": "shared"'
        )
    if settings.role == "cross-encoder" and settings.title == "pair":
        raise DataError(
            f'{place}: title is "pair" and role is "cross-encoder", whose second segment holds '
            'the whole passage: write "title": "join"'
        )
    if settings.role == "dual-encoder" and settings.fusion is not None:
        raise DataError(
            f'{place}: fusion is {shown(settings.fusion)} and role is "dual-encoder", but the '
            "weight belongs to the re-ranker: write it into the cross-encoder's rocketrank.json"
        )
    fusion = None if settings.fusion is None else float(settings.fusion)
    return replace(settings, scale=float(settings.scale), fusion=fusion)


def _parse_calibration(value: object, role: Role, place: str) -> Calibration:
    """The calibration of a model of this role; a ``DataError`` for any other keys and values."""
    keys = _CALIBRATION_KEYS[role]
    if not isinstance(value, dict) or set(value) != set(keys):
        found = (
            f"the keys {', '.join(value) or 'none'}" if isinstance(value, dict) else shown(value)
        )
        raise DataError(
            f"{place}: calibration has {found}, expected an object with {', '.join(keys)} for a "
            f"{role}: have it written by `rq eval --calibrate --save`"
        )
    for key in keys:
        expected = _unmet_expectation(key, value[key])
        if expected:
            raise DataError(
                f"{place}: {key} of calibration is {shown(value[key])}, expected {expected}"
            )
    numbers = {key: float(value[key]) for key in keys if key != "retriever"}
    return Calibration(**numbers, retriever=value.get("retriever"))


def settings_values(settings: ModelSettings) -> dict[str, Any]:
    """What :func:`parse_settings` reads: what is None is left out."""
    values = _without_none(asdict(settings))
    if "calibration" in values:
        values["calibration"] = _without_none(values["calibration"])
    return values


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def save_settings(folder: Path | str, settings: ModelSettings) -> None:
    """Write ``rocketrank.json`` into an existing folder, whole or not at all."""
    path = Path(folder) / SETTINGS_FILE
    values = settings_values(settings)
    parse_settings(values, str(path))
    content = orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        with replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _unmet_expectation(key: str, value: object) -> str | None:
    """What a key's value should have been, in words; ``None`` where it is that."""
    if key in _CHOICES:
        return None if value in _CHOICES[key] else _alternatives(_CHOICES[key])
    if key in _SHORTEST:
        least = _SHORTEST[key]
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good else f"a whole number of at least {least} (tokens)"
    if key == "normalize":
        return None if isinstance(value, bool) else "true or false"
    if key == "calibration":
        return None  # which keys it has depends on the role
    if key in ("scale", "fusion", "slope", "intercept"):
        good = isinstance(value, int | float) and not isinstance(value, bool)
        number = float(cast(float, value)) if good else math.nan
        if key in ("scale", "slope"):
            return None if math.isfinite(number) and number > 0 else "a number above 0"
        if key == "intercept":
            return None if math.isfinite(number) else "a number"
        return None if math.isfinite(number) and number >= 0 else "a number of at least 0"
    return None if isinstance(value, str) else "a string"


def _alternatives(values: tuple[str, ...]) -> str:
    return " or ".join(f'"{value}"' for value in values)


def infer_settings(folder: Path) -> ModelSettings:
    """The settings of a folder without ``rocketrank.json``; a ``DataError`` says what to write."""
    config = read_config(folder)
    architecture = first_architecture(config)
    modules = _modules(folder)
    classifies = architecture.endswith("ForSequenceClassification")
    # A cross-encoder of newer sentence-transformers has the one module with the whole classifier.
    if modules and not (classifies and len(modules) == 1):
        return _infer_sentence_transformer(folder, config, modules)
    if classifies:
        check_labels(config, folder)
        length = _tokenizer_limit(folder, min(512, max_length(config)))
        return ModelSettings(role="cross-encoder", pair_length=length)
    usable = max_length(config)
    example = {
        "role": "dual-encoder",
        "pooling": "mean",
        "normalize": True,
        "scale": NORMALIZED_SCALE,
        "query_length": min(32, usable),
        "passage_length": min(128, usable),
    }
    raise DataError(
        f"{folder} is a plain {architecture or 'encoder'}, and nothing in it says how its token "
        f"vectors become one vector: write {folder / SETTINGS_FILE} with the settings that it was "
        f"(or is to be) trained with, such as {orjson.dumps(example).decode()}, where pooling may "
        'also be "cls" and a model of dot products has "normalize": false and "scale": 1.0'
    )


def _tokenizer_limit(folder: Path, length: int) -> int:
    """``length``, or the ``model_max_length`` of ``tokenizer_config.json`` where that is less."""
    path = folder / "tokenizer_config.json"
    limit = read_json_object(path).get("model_max_length") if path.exists() else None
    return min(length, int(limit)) if isinstance(limit, int | float) and limit > 0 else length


def _infer_sentence_transformer(
    folder: Path, config: Mapping[str, object], modules: list[tuple[str, str]]
) -> ModelSettings:
    """The settings of a sentence-transformers folder: Transformer, Pooling, perhaps Normalize."""
    kinds = _checked_kinds(folder, modules)
    path = folder / "config_sentence_transformers.json"
    options = read_json_object(path) if path.exists() else {}
    similarity = options.get("similarity_fn_name")
    if similarity not in (None, "cosine", "dot", "dot_score"):
        raise DataError(
            f"{path}: similarity_fn_name is {shown(similarity)}, but only cosine and dot products "
            "can be searched: use a model trained for one of them"
        )
    # What is compared by cosine must be normalised here, where scores are dot products: otherwise
    # the longest vectors would win. Scores are then the cosines that its authors report.
    normalize = "Normalize" in kinds or similarity == "cosine"
    if not normalize and similarity is None:
        _log.info("%s names no similarity: its vectors are compared by dot product", folder)
    prompts = _prompts(options, path)
    pooling = _pooling(folder / modules[1][1] / "config.json", prefixes=any(prompts))
    length = _sequence_length(folder, config)
    return ModelSettings(
        role="dual-encoder",
        pooling=pooling,
        normalize=normalize,
        scale=NORMALIZED_SCALE if normalize else 1.0,
        query_length=length,
        passage_length=length,
        query_prefix=prompts[0],
        passage_prefix=prompts[1],
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """The kind and the subfolder of every module in ``modules.json``; none without that file."""
    path = folder / "modules.json"
    if not path.exists():
        return []
    try:
        modules = orjson.loads(path.read_bytes())
        return [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in modules]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise DataError(f'{path}: expected a list of modules with "type" and "path"') from None


def _checked_kinds(folder: Path, modules: list[tuple[str, str]]) -> list[str]:
    """The kinds of the modules, where all of them can be run."""
    path = folder / "modules.json"
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise DataError(
            f"{path}: the modules are {', '.join(kinds)}, but only Transformer, Pooling and an "
            "optional Normalize, in this order, can be run: use a model without the others"
        )
    subfolder = modules[0][1]
    if subfolder not in ("", "."):
        raise DataError(
            f"{path}: the Transformer is in the subfolder {subfolder}: move its files up into "
            f'{folder} and write "path": "" for it'
        )
    return kinds


def _pooling(path: Path, *, prefixes: bool) -> Pooling:
    """How a Pooling module makes one vector of many; both ways of writing its mode are read."""
    config = read_json_object(path)
    modes = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    names = [mode.removeprefix("pooling_mode_").removesuffix("_tokens") for mode in modes]
    if names in (["cls"], ["cls_token"]):
        pooling: Pooling = "cls"
    elif names == ["mean"]:
        pooling = "mean"
    else:
        raise DataError(
            f"{path}: the pooling is {' and '.join(names) or 'not given'}, but only cls or mean "
            "alone can be run: use a model with one of them"
        )
    if prefixes and pooling == "mean" and config.get("include_prompt") is False:
        raise DataError(
            f"{path}: include_prompt is false, but the tokens of a prefix are always pooled here: "
            "use a model that pools them, or remove the prompts"
        )
    return pooling


def _prompts(options: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """The prefix of queries and of passages, from the prompts of sentence-transformers."""
    prompts = options.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise DataError(f"{path}: prompts is {shown(prompts)}, expected names and their texts")
    default = str(prompts.get(options.get("default_prompt_name"), ""))
    passage = [prompts[name] for name in ("document", "passage", "corpus") if name in prompts]
    # The library adds empty entries by itself where only another of the names was given.
    passage_prefix = next((text for text in passage if text), "") if passage else default
    return prompts.get("query", default), passage_prefix


def _sequence_length(folder: Path, config: Mapping[str, object]) -> int:
    """``max_seq_length`` of ``sentence_bert_config.json`` (or an older name), if usable."""
    usable = max_length(config)
    for path in sorted(folder.glob("sentence_*_config.json")):
        length = read_json_object(path).get("max_seq_length")
        if isinstance(length, int) and length > 0:
            return min(length, usable)
    return _tokenizer_limit(folder, usable)
