"""What a Hugging Face ``config.json`` says, and what of it can be run here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from .errors import DataError

MODEL_TYPES = ("bert", "distilbert", "ernie", "mpnet", "roberta", "xlm-roberta")

_WHOLE_NUMBERS = (
    "max_position_embeddings",
    "pad_token_id",
    "num_labels",
    "vocab_size",
    "type_vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "dim",
    "n_layers",
    "n_heads",
    "hidden_dim",
)
# What would change the computation and is not built here, with the values that change nothing.
_ONLY = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "relative_attention_num_buckets": (None, 32),
}


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; a ``DataError`` names the file where it holds anything else."""
    try:
        value = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise DataError(
            f"{path.parent} has no {path.name}, which every model folder needs"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, found {error.msg}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {shown(value)}")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a tower, of a kind that can be built."""
    path = folder / "config.json"
    config = read_json_object(path)
    if config.get("model_type") not in MODEL_TYPES:
        raise DataError(
            f"{path}: model_type is {shown(config.get('model_type'))}, but only "
            f"{', '.join(MODEL_TYPES)} can be run: use a model of one of these"
        )
    for key in _WHOLE_NUMBERS:
        value = config.get(key)
        if not isinstance(value, int | None) or isinstance(value, bool):
            raise DataError(f"{path}: {key} is {shown(value)}, expected a whole number")
    if not isinstance(config.get("layer_norm_eps"), int | float | None):
        raise DataError(
            f"{path}: layer_norm_eps is {shown(config['layer_norm_eps'])}, expected a number"
        )
    for key, values in _ONLY.items():
        if config.get(key) not in values:
            raise DataError(
                f"{path}: {key} is {shown(config[key])}, but only {shown(values[1])} can be run: "
                "use another model"
            )
    return config


def max_length(config: Mapping[str, object]) -> int:
    """How many tokens, special tokens included, the positions of a ``config.json`` allow.

    RoBERTa and XLM-R number positions from ``pad_token_id + 1``, so 514 positions hold 512 tokens.
    MPNet does the same with a padding index fixed at 1, whatever the config says.
    """
    positions = _config_number(config, "max_position_embeddings", 512)
    model_type = config.get("model_type")
    if model_type in ("roberta", "xlm-roberta"):
        return positions - _config_number(config, "pad_token_id", 1) - 1
    return positions - 2 if model_type == "mpnet" else positions


def hidden_width(config: Mapping[str, object]) -> int:
    """The width of a hidden state, and so of a vector; DistilBERT calls it ``dim``."""
    return _config_number(
        config, "dim" if config["model_type"] == "distilbert" else "hidden_size", 768
    )


def num_labels(config: Mapping[str, object]) -> int:
    """The number of outputs of a classification head: ``num_labels``, ``id2label``, or 2."""
    names = config.get("id2label")
    default = len(names) if isinstance(names, dict) else 2
    return _config_number(config, "num_labels", default)


def check_labels(config: Mapping[str, object], folder: Path) -> None:
    """Refuse a classification head that is no score: one logit, or two (logit1 - logit0)."""
    labels = num_labels(config)
    if labels not in (1, 2):
        raise DataError(
            f"{folder / 'config.json'}: the classifier has {labels} labels, but a cross-encoder "
            "scores a pair by 1 logit, or by 2 as logit1 - logit0"
        )


def first_architecture(config: Mapping[str, object]) -> str:
    """``architectures[0]`` of a ``config.json``, empty where there is none."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def shown(value: object) -> str:
    """A JSON value as it stands in the file, cut so that a sentence stays a sentence."""
    text = orjson.dumps(value, default=repr).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _config_number(config: Mapping[str, object], key: str, default: int) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else default
