"""Transformers in Paddle, built from a Hugging Face ``config.json`` and its safetensors weights.

The only file that imports paddlenlp, and it takes the bare transformer classes from it and nothing
else: names are mapped here (``from_pretrained`` writes files into the user's folder and cannot
read ERNIE), poolers are dropped (a dual encoder has none, a cross-encoder's head is ours below).

What the classes get wrong is put right after construction: the LayerNorm epsilon of the config
(paddlenlp fixes some at 1e-12), and ``padding_idx``, which zeroes the pad row that the checkpoints
were trained with. Compared with outputs of an independent implementation in the tests.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .durable import explained_write, replacing, save_tensors
from .errors import DataError, MissingDependencyError
from .inference import INPUT_NAMES
from .model_config import hidden_width, num_labels
from .models import weight_files
from .weight_names import hugging_face_name, is_linear, is_needed, paddle_name

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle
        from paddle import nn
except ImportError as error:
    cure = (
        "install the system library libgomp1 (Debian and Ubuntu: apt-get install libgomp1)"
        if "libgomp" in str(error)
        else 'install it with: pip install "rocketrank[cpu]"'
    )
    raise MissingDependencyError(f"PaddlePaddle cannot be imported ({error}); {cure}") from error

CLS_LINEAR_HEAD = "cls-linear"

_WITH_TOKEN_TYPES = ("bert", "ernie")
# Names of activations, and what Paddle calls them; tanh's approximations of gelu it lacks.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Hugging Face's own where a config.json leaves them out; paddlenlp's differ.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "bert": {"type_vocab_size": 2},
    "ernie": {"type_vocab_size": 2},
    "roberta": {"type_vocab_size": 2, "pad_token_id": 1},
    "xlm-roberta": {"type_vocab_size": 2, "pad_token_id": 1},
}


class Transformer(nn.Layer):  # type: ignore[misc]
    """The bare transformer behind one signature, whatever its architecture."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.architecture = str(config["model_type"])
        self.transformer = _paddlenlp_transformer(config)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Up to three (batch, tokens) int64 → hidden states (batch, tokens, width) float32."""
        if self.architecture in _WITH_TOKEN_TYPES:
            output = self.transformer(
                input_ids, token_type_ids=token_type_ids, attention_mask=attention_mask
            )
        else:
            output = self.transformer(input_ids, attention_mask=attention_mask)
        return output[0] if isinstance(output, tuple | list) else output


class Tower(nn.Layer):  # type: ignore[misc]
    """One side of a dual encoder: tokens to one vector."""

    def __init__(self, config: Mapping[str, Any], *, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.encoder = Transformer(config)
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Up to three (batch, tokens) int64 → vectors (batch, width) float32."""
        states = self.encoder(input_ids, attention_mask, token_type_ids).astype("float32")
        if self.pooling == "cls":
            vectors = states[:, 0]
        else:
            weights = attention_mask.astype("float32").unsqueeze(-1)
            vectors = (states * weights).sum(axis=1) / weights.sum(axis=1).clip(min=1e-9)
        if self.normalize:
            vectors = vectors / vectors.norm(axis=-1, keepdim=True).clip(min=1e-12)
        return vectors


class Head(nn.Layer):  # type: ignore[misc]
    """A cross-encoder's way from the first token's state to one logit or two."""

    def __init__(self, config: Mapping[str, Any], labels: int) -> None:
        super().__init__()
        width = hidden_width(config)
        architecture = config["model_type"]
        self.activation = nn.ReLU() if architecture == "distilbert" else nn.Tanh()
        self.dense = (
            None if config.get("rocketrank_head") == CLS_LINEAR_HEAD else nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(_head_dropout(config))
        self.output = nn.Linear(width, labels)

    def forward(self, first: Any) -> Any:
        """(batch, width) → (batch, labels)."""
        if self.dense is not None:
            first = self.activation(self.dense(first))
        return self.output(self.dropout(first))


class Scorer(nn.Layer):  # type: ignore[misc]
    """A cross-encoder: the tokens of a (query, passage) pair to one score."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = Transformer(config)
        self.head = Head(config, num_labels(config))

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Up to three (batch, tokens) int64 → scores (batch,) float32.

        Of two classes, the score is logit₁ - logit₀.
        """
        states = self.encoder(input_ids, attention_mask, token_type_ids)
        logits = self.head(states[:, 0]).astype("float32")
        return logits[:, 1] - logits[:, 0] if logits.shape[-1] == 2 else logits[:, 0]


def paddle_module() -> Any:
    """Paddle itself, for those who run what was built here."""
    return paddle


def load_tower(folder: Path, config: Mapping[str, Any], *, pooling: str, normalize: bool) -> Tower:
    """A dual encoder's tower with its weights, in evaluation mode."""
    tower = Tower(config, pooling=pooling, normalize=normalize)
    load_weights(tower, folder, config)
    return tower


def load_scorer(folder: Path, config: Mapping[str, Any]) -> Scorer:
    """A cross-encoder with its weights, in evaluation mode."""
    scorer = Scorer(config)
    load_weights(scorer, folder, config)
    return scorer


def save_program(layer: nn.Layer, config: Mapping[str, Any], path: Path) -> None:
    """Write ``layer`` as a static program of any batch size and length: ``path``.json, .pdiparams.

    The layer is changed by it (its forward becomes the static one): load another for other work.
    """
    inputs = [paddle.static.InputSpec([None, None], "int64", name) for name in input_names(config)]
    with warnings.catch_warnings():
        # Paddle warns about its own code here
        warnings.simplefilter("ignore")
        paddle.jit.save(paddle.jit.to_static(layer, input_spec=inputs, full_graph=True), str(path))


def input_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a program of this architecture is fed: only some read token types."""
    return INPUT_NAMES if config["model_type"] in _WITH_TOKEN_TYPES else INPUT_NAMES[:2]


def load_weights(layer: nn.Layer, folder: Path, config: Mapping[str, Any]) -> None:
    """Fill ``layer`` (a Tower or Scorer) from the safetensors files in ``folder``, exactly.

    Raises DataError that lists every weight that is missing, left over or of another shape.
    """
    wanted = dict(layer.state_dict())
    with_head = isinstance(layer, Scorer)
    unknown: list[str] = []
    wrong: list[str] = []
    for name, value in _read_tensors(folder):
        target = paddle_name(name, config, with_head=with_head)
        if target not in wanted:
            if is_needed(name, config):
                unknown.append(name)
            continue
        parameter = wanted.pop(target)
        if is_linear(target):
            value = value.T
        if list(value.shape) != list(parameter.shape):
            shapes = [list(value.shape), list(parameter.shape)]
            if is_linear(target):
                shapes = [shape[::-1] for shape in shapes]
            wrong.append(f"{name} {shapes[0]} for {shapes[1]}")
            continue
        parameter.set_value(np.ascontiguousarray(value, dtype=np.float32))
    problems = [
        f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for what, names in (
            ("missing", [hugging_face_name(n, config, with_head=with_head) for n in wanted]),
            ("unknown", unknown),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise DataError(
            f"the weights in {folder} do not fit its config.json "
            f"({config['model_type']}): {'; '.join(problems)}"
        )
    layer.eval()


def save_weights(layer: nn.Layer, folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` under Hugging Face's names: what :func:`load_weights` reads."""
    tensors: dict[str, NDArray[np.float32]] = {}
    with_head = isinstance(layer, Scorer)
    for name, parameter in layer.state_dict().items():
        value = parameter.astype("float32").numpy()
        if is_linear(name):
            value = value.T
        tensors[hugging_face_name(name, config, with_head=with_head)] = np.ascontiguousarray(value)
    path = folder / "model.safetensors"
    with explained_write(path), replacing(path) as beside:
        save_tensors(beside, tensors, {"format": "pt"})


def _paddlenlp_transformer(config: Mapping[str, Any]) -> nn.Layer:
    """The paddlenlp class for ``config``, with its epsilon, pad row and pooler put right."""
    architecture = config["model_type"]
    config = {_DISTILBERT_WORDS.get(key, key): value for key, value in config.items()}
    activation = config.get("hidden_act") or "gelu"
    if activation not in _ACTIVATIONS:
        raise DataError(
            f"config.json: the activation {activation!r} is not supported; "
            f"expected one of {', '.join(_ACTIVATIONS)}: use another model"
        )
    model_class, config_class = _paddlenlp_classes(architecture)
    known = {key: config[key] for key in _CONFIG_KEYS if config.get(key) is not None}
    known = {**_DEFAULTS.get(architecture, {}), **known, "hidden_act": _ACTIVATIONS[activation]}
    if architecture == "mpnet":
        known["pad_token_id"] = 1  # its position numbers start after 1, whatever the config says
    transformer = model_class(config_class(**known))
    epsilon = config.get("layer_norm_eps") or 1e-12
    for part in transformer.sublayers():
        if isinstance(part, nn.LayerNorm):
            part._epsilon = epsilon
        elif isinstance(part, nn.Embedding):
            part._padding_idx = None
    transformer.pooler = _NoPooler()
    return transformer


# DistilBERT's own words for the sizes, as the other architectures say them.
_DISTILBERT_WORDS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
# Of a config.json, what shapes a transformer; the rest is Hugging Face's book-keeping.
_CONFIG_KEYS = (
    "vocab_size",
    "type_vocab_size",
    "task_type_vocab_size",
    "use_task_id",
    "task_id",
    "max_position_embeddings",
    "pad_token_id",
    "layer_norm_eps",
    *_DISTILBERT_WORDS.values(),
)


class _NoPooler(nn.Layer):  # type: ignore[misc]
    def forward(self, states: Any) -> Any:
        return states[:, 0]


def _paddlenlp_classes(architecture: str) -> tuple[Any, Any]:
    name = {
        "bert": "Bert",
        "ernie": "Ernie",
        "roberta": "Roberta",
        # The same architecture; paddlenlp's own XLM-R class deadlocks in Paddle's to_static.
        "xlm-roberta": "Roberta",
        "distilbert": "DistilBert",
        "mpnet": "MPNet",
    }[architecture]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from paddlenlp import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"PaddleNLP cannot be imported ({error}); "
            'install it with: pip install "rocketrank[cpu]"'
        ) from error
    return getattr(transformers, f"{name}Model"), getattr(transformers, f"{name}Config")


def _read_tensors(folder: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise DataError(
                f"{file} cannot be read as safetensors ({error}): copy the weights again"
            ) from error


def _head_dropout(config: Mapping[str, Any]) -> float:
    for key in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob", "dropout"):
        if config.get(key) is not None:
            return float(config[key])
    return 0.1
