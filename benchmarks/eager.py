"""Models run eagerly in Paddle, as a first script would: what exported programs are compared with.

fp32, batches of 32 in the order of the input, each padded to its longest text.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketrank import backbone
from rocketrank.models import Model
from rocketrank.tokenizing import Tokenizer, Tokens

Encode = Callable[[list[str]], NDArray[np.float32]]
Score = Callable[[list[tuple[str, str]]], NDArray[np.float32]]

_BATCH = 32


def eager_encoder(model: Model) -> Encode:
    """Texts → (n, dim) float32, as ``DualEncoder.encode_passages`` of the same model."""
    settings = model.settings
    tower = backbone.load_tower(
        model.path, model.config(), pooling=settings.pooling, normalize=settings.normalize
    )
    tokenizer = Tokenizer.load(model.path, length=settings.passage_length)
    return lambda texts: _run(tower, tokenizer.encode(texts), tokenizer.pad_id)


def eager_scorer(model: Model) -> Score:
    """Pairs → (n,) float32, as ``CrossEncoder.score`` of the same model."""
    scorer = backbone.load_scorer(model.path, model.config())
    tokenizer = Tokenizer.load(model.path, length=model.settings.pair_length)
    return lambda pairs: _run(scorer, tokenizer.encode_pairs(pairs), tokenizer.pad_id)


def _run(layer: Any, tokens: Sequence[Tokens], pad_id: int) -> NDArray[np.float32]:
    paddle = backbone.paddle_module()
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(tokens), _BATCH):
        some = tokens[start : start + _BATCH]
        shape = (len(some), max(len(each.ids) for each in some))
        ids = np.full(shape, pad_id, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, each in enumerate(some):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
            types[row, : len(each.ids)] = each.type_ids
        with paddle.no_grad():
            parts.append(layer(*map(paddle.to_tensor, (ids, mask, types))).numpy())
    return np.concatenate(parts)
