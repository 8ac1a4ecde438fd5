"""Names of weights: Hugging Face's in the files, paddlenlp's and ours in the layers."""

import re
from collections.abc import Mapping
from typing import Any

# Hugging Face's name parts and paddlenlp's, in the order in which they are replaced both ways.
_TRANSFORMER_LAYER = [
    ("embeddings.LayerNorm.", "embeddings.layer_norm."),
    ("encoder.layer.", "encoder.layers."),
    (".attention.self.query.", ".self_attn.q_proj."),
    (".attention.self.key.", ".self_attn.k_proj."),
    (".attention.self.value.", ".self_attn.v_proj."),
    (".attention.output.dense.", ".self_attn.out_proj."),
    (".attention.output.LayerNorm.", ".norm1."),
    (".intermediate.dense.", ".linear1."),
    (".output.dense.", ".linear2."),
    (".output.LayerNorm.", ".norm2."),
]
_NAMES: Mapping[str, list[tuple[str, str]]] = {
    "bert": _TRANSFORMER_LAYER,
    "ernie": _TRANSFORMER_LAYER,
    "roberta": _TRANSFORMER_LAYER,
    "xlm-roberta": _TRANSFORMER_LAYER,
    "distilbert": [
        ("embeddings.LayerNorm.", "embeddings.layer_norm."),
        ("transformer.layer.", "encoder.layers."),
        (".attention.q_lin.", ".self_attn.q_proj."),
        (".attention.k_lin.", ".self_attn.k_proj."),
        (".attention.v_lin.", ".self_attn.v_proj."),
        (".attention.out_lin.", ".self_attn.out_proj."),
        (".sa_layer_norm.", ".norm1."),
        (".ffn.lin1.", ".linear1."),
        (".ffn.lin2.", ".linear2."),
        (".output_layer_norm.", ".norm2."),
    ],
    "mpnet": [
        ("embeddings.LayerNorm.", "embeddings.layer_norm."),
        (".attention.attn.q.", ".attention.q."),
        (".attention.attn.k.", ".attention.k."),
        (".attention.attn.v.", ".attention.v."),
        (".attention.attn.o.", ".attention.o."),
        (".attention.LayerNorm.", ".attention.layer_norm."),
        (".intermediate.dense.", ".ffn."),
        (".output.dense.", ".ffn_output."),
        (".output.LayerNorm.", ".layer_norm."),
    ],
}
_POOLER_HEAD = [("pooler.dense.", "head.dense."), ("classifier.", "head.output.")]
_CLASSIFIER_HEAD = [
    ("classifier.dense.", "head.dense."),
    ("classifier.out_proj.", "head.output."),
]
_HEAD_NAMES: Mapping[str, list[tuple[str, str]]] = {
    "bert": _POOLER_HEAD,
    "ernie": _POOLER_HEAD,
    "distilbert": [("pre_classifier.", "head.dense."), ("classifier.", "head.output.")],
    "roberta": _CLASSIFIER_HEAD,
    "xlm-roberta": _CLASSIFIER_HEAD,
    "mpnet": _CLASSIFIER_HEAD,
}
_PREFIX = {
    "bert": "bert.",
    "ernie": "ernie.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
    "distilbert": "distilbert.",
    "mpnet": "mpnet.",
}
# Parts of a checkpoint that no encoder needs: buffers, pre-training heads, an unused pooler.
_NOT_NEEDED = re.compile(r"(^|\.)(position_ids|token_type_ids)$|^(cls|lm_head|vocab_\w+|pooler)\.")
_NOT_LINEAR = re.compile(r"norm\d?\.weight$|embeddings?\.|relative_attention_bias", re.IGNORECASE)


def paddle_name(name: str, config: Mapping[str, Any], *, with_head: bool) -> str:
    architecture = config["model_type"]
    name = name.removeprefix(_PREFIX[architecture])
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    name = name.replace("LayerNorm.beta", "LayerNorm.bias")
    if with_head:
        for theirs, ours in _HEAD_NAMES[architecture]:
            if name.startswith(theirs):
                return name.replace(theirs, ours, 1)
    for theirs, ours in _NAMES[architecture]:
        name = name.replace(theirs, ours)
    return f"encoder.transformer.{name}"


def hugging_face_name(name: str, config: Mapping[str, Any], *, with_head: bool) -> str:
    architecture = config["model_type"]
    prefix = _PREFIX[architecture] if with_head else ""
    for theirs, ours in _HEAD_NAMES[architecture]:
        if name.startswith(ours):
            return (prefix if theirs.startswith("pooler") else "") + name.replace(ours, theirs, 1)
    name = name.removeprefix("encoder.transformer.")
    for theirs, ours in _NAMES[architecture]:
        name = name.replace(ours, theirs)
    return prefix + name


def is_linear(name: str) -> bool:
    """Paddle keeps a Linear's weight (in, out), Hugging Face (out, in); all else is the same."""
    return name.endswith(".weight") and not _NOT_LINEAR.search(name)


def is_needed(name: str, config: Mapping[str, Any]) -> bool:
    """Whether an encoder or its head reads the file's weight ``name``."""
    return not _NOT_NEEDED.search(name.removeprefix(_PREFIX[config["model_type"]]))
