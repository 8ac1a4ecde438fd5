"""What the variables of an ERNIE checkpoint are called, in three dialects, and their shapes.

Hugging Face's names are the target. The sources' names come from

* RocketQA 1.x: ``rocketqa/model/ernie.py`` of PaddlePaddle/RocketQA, for the layers ERNIE's
  ``transformer_encoder.py`` that it imports (read in copies of ERNIE's, and checked against
  ``static_to_dygraph_params/match_static_to_dygraph.py`` of PaddleNLP), cross-encoder heads from
  ``rocketqa/model/cross_encoder_predict.py``, optimiser state from ``rocketqa/utils/
  optimization.py`` and the accumulators of Paddle's Adam and Lamb;
* PaddleNLP: ``paddlenlp/transformers/ernie/modeling.py`` and
  ``paddlenlp/transformers/semantic_search/modeling.py`` of PaddlePaddle/PaddleNLP.

Both keep a linear layer's weight as (in, out), Hugging Face as (out, in): those are transposed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .checkpoint_tokenizer import Vocabulary
from .errors import DataError
from .model_settings import ModelSettings

CLS_LINEAR_HEAD = "cls-linear"
_ACTIVATIONS = ("gelu", "relu", "silu", "tanh")


class Weight(NamedTuple):
    """One variable: its name and shape in the checkpoint, and its Hugging Face name."""

    source: str
    target: str
    shape: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What shapes an encoder; ``tasks`` is 0 where there is no task embedding."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    positions: int
    types: int
    tasks: int


@dataclass(frozen=True, kw_only=True)
class TowerSource:
    """Where one encoder's weights come from, and the config.json and tokenizer it gets.

    ``origin`` and ``config_origin`` name files in messages; ``names`` are all variables there.
    """

    origin: str
    config_origin: str
    names: frozenset[str]
    weights: tuple[Weight, ...]
    read: Callable[[str], NDArray[Any]]
    config: Mapping[str, Any]
    vocabulary: Vocabulary


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Names of variables that do not go into the model directory, by reason."""

    optimizer: tuple[str, ...]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was opened: towers by subfolder ("" where there is but one)."""

    settings: ModelSettings
    towers: Mapping[str, TowerSource]
    left_out: LeftOut


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a library names the parts; keys are Hugging Face's names of the same parts."""

    embeddings: Mapping[str, str]
    embedding_norm: str
    layer: str
    parts: Mapping[str, str]
    linear: tuple[str, str]
    norm: tuple[str, str]


ROCKETQA = Dialect(
    embeddings={
        "word_embeddings": "word_embedding",
        "position_embeddings": "pos_embedding",
        "token_type_embeddings": "sent_embedding",
        "task_type_embeddings": "task_embedding",
    },
    embedding_norm="pre_encoder_layer_norm",
    layer="encoder_layer_{}_",
    parts={
        "attention.self.query": "multi_head_att_query_fc",
        "attention.self.key": "multi_head_att_key_fc",
        "attention.self.value": "multi_head_att_value_fc",
        "attention.output.dense": "multi_head_att_output_fc",
        "attention.output.LayerNorm": "post_att_layer_norm",
        "intermediate.dense": "ffn_fc_0",
        "output.dense": "ffn_fc_1",
        "output.LayerNorm": "post_ffn_layer_norm",
        "pooler.dense": "pooled_fc",
    },
    linear=(".w_0", ".b_0"),
    norm=("_scale", "_bias"),
)
PADDLENLP = Dialect(
    embeddings={
        "word_embeddings": "embeddings.word_embeddings.weight",
        "position_embeddings": "embeddings.position_embeddings.weight",
        "token_type_embeddings": "embeddings.token_type_embeddings.weight",
        "task_type_embeddings": "embeddings.task_type_embeddings.weight",
    },
    embedding_norm="embeddings.layer_norm",
    layer="encoder.layers.{}.",
    parts={
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.output.LayerNorm": "norm1",
        "intermediate.dense": "linear1",
        "output.dense": "linear2",
        "output.LayerNorm": "norm2",
        "pooler.dense": "pooler.dense",
    },
    linear=(".weight", ".bias"),
    norm=(".weight", ".bias"),
)


def encoder_weights(
    sizes: Sizes, dialect: Dialect, *, source: str = "", target: str = ""
) -> Iterator[Weight]:
    """Every weight of a bare encoder; ``source`` and ``target`` are prefixes of the names."""
    rows = {
        "word_embeddings": sizes.vocabulary,
        "position_embeddings": sizes.positions,
        "token_type_embeddings": sizes.types,
        "task_type_embeddings": sizes.tasks,
    }
    for part, count in rows.items():
        if count:
            name = source + dialect.embeddings[part]
            yield Weight(name, f"{target}embeddings.{part}.weight", (count, sizes.hidden))
    norm = source + dialect.embedding_norm
    yield from _norm(dialect, norm, f"{target}embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.layers):
        theirs = source + dialect.layer.format(number)
        yield from _layer(sizes, dialect, theirs, f"{target}encoder.layer.{number}.")


def pooler_weights(
    sizes: Sizes, dialect: Dialect, *, source: str = "", target: str = ""
) -> Iterator[Weight]:
    """The linear layer between the first token's state and tanh."""
    name = source + dialect.parts["pooler.dense"]
    yield from _linear(dialect, name, f"{target}pooler.dense", (sizes.hidden, sizes.hidden))


def classifier_weights(weight: str, bias: str, hidden: int, classes: int) -> Iterator[Weight]:
    """The last linear layer of a cross-encoder, to one logit or two."""
    yield Weight(weight, "classifier.weight", (hidden, classes), transposed=True)
    yield Weight(bias, "classifier.bias", (classes,))


def _layer(sizes: Sizes, dialect: Dialect, theirs: str, ours: str) -> Iterator[Weight]:
    square = (sizes.hidden, sizes.hidden)
    shapes = {
        "attention.self.query": square,
        "attention.self.key": square,
        "attention.self.value": square,
        "attention.output.dense": square,
        "intermediate.dense": (sizes.hidden, sizes.intermediate),
        "output.dense": (sizes.intermediate, sizes.hidden),
    }
    for part, shape in shapes.items():
        yield from _linear(dialect, theirs + dialect.parts[part], ours + part, shape)
    for part in ("attention.output.LayerNorm", "output.LayerNorm"):
        yield from _norm(dialect, theirs + dialect.parts[part], ours + part, sizes.hidden)


def _linear(dialect: Dialect, theirs: str, ours: str, shape: tuple[int, int]) -> Iterator[Weight]:
    weight, bias = dialect.linear
    yield Weight(theirs + weight, f"{ours}.weight", shape, transposed=True)
    yield Weight(theirs + bias, f"{ours}.bias", shape[1:])


def _norm(dialect: Dialect, theirs: str, ours: str, hidden: int) -> Iterator[Weight]:
    weight, bias = dialect.norm
    yield Weight(theirs + weight, f"{ours}.weight", (hidden,))
    yield Weight(theirs + bias, f"{ours}.bias", (hidden,))


def first_names(names: Iterable[str], *, most: int = 8) -> str:
    """The first few of ``names``, sorted, for a message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def positive_integer(config: Mapping[str, Any], key: str, place: Path) -> int:
    """``config[key]``, which has to be a whole number above 0."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        found = "nothing" if value is None else repr(value)
        raise DataError(f"{place}: expected a whole number above 0 as {key!r}, found {found}")
    return value


def encoder_sizes(
    config: Mapping[str, Any], place: Path, *, types: str, intermediate: int
) -> Sizes:
    """Sizes by an ERNIE config file; ``types`` is the key of the number of segment types."""
    hidden = positive_integer(config, "hidden_size", place)
    heads = positive_integer(config, "num_attention_heads", place)
    if hidden % heads:
        raise DataError(
            f"{place}: hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads})"
        )
    activation = config.get("hidden_act")
    if activation not in _ACTIVATIONS:
        raise DataError(
            f"{place}: expected one of {', '.join(_ACTIVATIONS)} as 'hidden_act', "
            f"found {activation!r}"
        )
    with_tasks = bool(config.get("use_task_id"))
    return Sizes(
        vocabulary=positive_integer(config, "vocab_size", place),
        hidden=hidden,
        intermediate=intermediate,
        layers=positive_integer(config, "num_hidden_layers", place),
        positions=positive_integer(config, "max_position_embeddings", place),
        types=positive_integer(config, types, place),
        tasks=positive_integer(config, "task_type_vocab_size", place) if with_tasks else 0,
    )


def hugging_face_config(
    config: Mapping[str, Any], sizes: Sizes, *, architecture: str, epsilon: float, pad_id: int
) -> dict[str, Any]:
    """A bare encoder's config.json; ``architecture`` is Hugging Face's model type."""
    written: dict[str, Any] = {
        "architectures": [f"{architecture.capitalize()}Model"],
        "attention_probs_dropout_prob": config.get("attention_probs_dropout_prob", 0.1),
        "classifier_dropout": None,
        "dtype": "float32",
        "hidden_act": config["hidden_act"],
        "hidden_dropout_prob": config.get("hidden_dropout_prob", 0.1),
        "hidden_size": sizes.hidden,
        "initializer_range": config.get("initializer_range", 0.02),
        "intermediate_size": sizes.intermediate,
        "layer_norm_eps": epsilon,
        "max_position_embeddings": sizes.positions,
        "model_type": architecture,
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": sizes.layers,
        "pad_token_id": pad_id,
        "position_embedding_type": "absolute",
        "type_vocab_size": sizes.types,
        "use_cache": True,
        "vocab_size": sizes.vocabulary,
    }
    if architecture == "ernie":
        written["use_task_id"] = bool(sizes.tasks)
        written["task_type_vocab_size"] = sizes.tasks or 3
    return written


def with_classifier(config: Mapping[str, Any], *, classes: int, pooled: bool) -> dict[str, Any]:
    """A cross-encoder's config.json; without a pooler it says so under ``rocketrank_head``."""
    labels = {str(label): f"LABEL_{label}" for label in range(classes)}
    return {
        **config,
        "architectures": [f"{config['model_type'].capitalize()}ForSequenceClassification"],
        "id2label": labels,
        "label2id": {name: int(label) for label, name in labels.items()},
        **({} if pooled else {"rocketrank_head": CLS_LINEAR_HEAD}),
    }


_OPTIMIZER = re.compile(
    r"_(moment[12]?|beta[12]_pow_acc|velocity|fp32_master|fp16_master)_\d+$"
    r"|\.master$|^@|learning_rate|^loss_scaling_\d+$|^num_(good|bad)_steps_\d+$"
)
_KNOWN = re.compile(
    r"^(query_|titlepara_|qtp_)?((word|pos|sent|task)_embedding$|pre_encoder_layer_norm_"
    r"|encoder_layer_\d+_|pooled_fc\.|mask_lm_|next_sent_)|cls_out_[wb]$"
    r"|(^|\.)(classifier|pooler|cls|embeddings\.task_type_embeddings)\."
    r"|\.embeddings\.(position_ids|token_type_ids)$"
)


def sort_left_out(names: Iterable[str], used: Iterable[str]) -> LeftOut:
    """Sort what is not ``used``: optimiser state, other models' and heads' variables, unknown."""
    sorts: dict[str, list[str]] = {"optimizer": [], "unused": [], "unknown": []}
    for name in sorted(set(names) - set(used)):
        if _OPTIMIZER.search(name):
            sorts["optimizer"].append(name)
        elif _KNOWN.search(name):
            sorts["unused"].append(name)
        else:
            sorts["unknown"].append(name)
    return LeftOut(**{sort: tuple(found) for sort, found in sorts.items()})
