"""Layers for training: Paddle's mathematics, faster on a CPU, with dropout that is replayed.

Paddle's eager layers spend more than half of a CPU training step outside matrix products: the
gradient of a bias is a sum by one thread, of LayerNorm likewise, a sum with a smaller tensor takes
up to ten times as long as with that tensor expanded first, and dropout draws 32 bits an element
from a Mersenne twister. :func:`prepare` exchanges the classes of a model's layers in place;
parameters, their names and what is saved stay as they are.

A dropout mask depends on the seed of the chunk and the place of the layer in the model alone, so
a forward pass is repeated exactly (for a gradient cache or recomputation) without saving the state
of a generator.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backbone import paddle_module

paddle = paddle_module()
nn, F = paddle.nn, paddle.nn.functional

_LEVELS = 1 << 16
"""A dropout mask is drawn with 16 bits an element: a rate of 0.1 becomes 6554 / 65536."""


class Noise:
    """Where dropout gets its random numbers; ``start`` it before every forward pass."""

    def __init__(self) -> None:
        self.seed: Sequence[int] = (0,)

    def start(self, seed: Sequence[int], *, place: int = 0) -> None:
        """What follows depends on ``seed`` and on the layer that asks, on nothing else.

        A GPU's generator does not know who asks: there ``place`` tells starts of one seed apart.
        """
        self.seed = seed
        if paddle.get_device() != "cpu":
            digest = np.random.SeedSequence((*seed, place)).generate_state(1, np.uint32)
            paddle.seed(int(digest[0]))

    def mask(self, layer: int, shape: Sequence[int], rate: float) -> Any:
        """float32 tensor of ``shape``: 0 with probability ``rate``, else 1 / (1 - rate)."""
        size = int(np.prod(shape))
        dropped = round(rate * _LEVELS)
        bits = np.random.SFC64(np.random.SeedSequence((*self.seed, layer)))
        draws = bits.random_raw((size + 3) // 4).view(np.uint16)[:size]
        kept = np.multiply(draws >= dropped, np.float32(_LEVELS / (_LEVELS - dropped)))
        return paddle.utils.dlpack.from_dlpack(kept.reshape(shape))  # the same memory, no copy


def prepare(model: Any, noise: Noise, *, dropout: float | None = None) -> None:
    """Exchange the layers of ``model`` in place; ``dropout`` replaces every rate that is not 0.

    On a GPU, Paddle's own layers stay: they are fast there.
    """
    # A rate of 0 cannot be told from no dropout at all, and stays.
    on_cpu = paddle.get_device() == "cpu"
    for number, part in enumerate(model.sublayers(include_self=True)):
        kind = type(part)
        if kind is nn.Dropout:
            part.p = part.p if dropout is None or part.p == 0 else dropout
        elif kind is nn.MultiHeadAttention:
            part.dropout = part.dropout if dropout is None or part.dropout == 0 else dropout
        if on_cpu and kind in _FAST:
            part.__class__ = _FAST[kind]
            part.noise, part.number = noise, number


def recompute_layers(model: Any, noise: Noise) -> None:
    """Keep only the inputs of each transformer layer; its inside is computed again for gradients.

    The noise of the first time is started again for the second.
    """
    for number, part in enumerate(model.sublayers(), start=1):
        if type(part).__name__ in ("TransformerEncoderLayer", "MPNetLayer"):
            # past paddlenlp's __setattr__, which wraps a forward and passes it the layer once more
            object.__setattr__(part, "forward", _recomputed(part.forward, noise, number))


def _recomputed(forward: Callable[..., Any], noise: Noise, place: int) -> Callable[..., Any]:
    from paddle.distributed.fleet.utils import recompute

    def forward_again(*inputs: Any, **options: Any) -> Any:
        seed = noise.seed

        def run(*inputs: Any) -> Any:
            noise.start(seed, place=place)
            return forward(*inputs, **options)

        return recompute(run, *inputs) if paddle.is_grad_enabled() else run(*inputs)

    return forward_again


def _flat(x: Any) -> Any:
    return x.reshape([-1, x.shape[-1]])


class _LinearFunction(paddle.autograd.PyLayer):  # type: ignore[misc, name-defined]
    """y = x W + b, with the gradient of b as a matrix product: Paddle sums it in one thread."""

    @staticmethod
    def forward(context: Any, x: Any, weight: Any, bias: Any) -> Any:
        context.save_for_backward(x, weight)
        y = paddle.matmul(_flat(x), weight)
        y = y.add_(bias.expand(y.shape))
        return y.reshape([*x.shape[:-1], weight.shape[1]])

    @staticmethod
    def backward(context: Any, gradient: Any) -> tuple[Any, Any, Any]:
        x, weight = context.saved_tensor()
        rows = _flat(gradient)
        back = paddle.matmul(rows, weight, transpose_y=True).reshape(x.shape)
        ones = paddle.ones([1, rows.shape[0]], rows.dtype)
        return (
            back,
            paddle.matmul(_flat(x), rows, transpose_x=True),
            paddle.matmul(ones, rows).reshape([-1]),
        )


class _Linear(nn.Linear):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        if x.dtype != paddle.float32:
            return super().forward(x)
        return _LinearFunction.apply(x, self.weight, self.bias)


class _LayerNormFunction(paddle.autograd.PyLayer):  # type: ignore[misc, name-defined]
    """y = w n + b with n = (x - mean) / sqrt(variance + ε) over the last axis.

    With h = w dL/dy, the gradient of x is (h - mean(h) - n mean(h n)) / sqrt(variance + ε). Sums
    and means are matrix products.
    """

    @staticmethod
    def forward(context: Any, x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
        context.save_for_backward(x, weight)
        context.epsilon = epsilon
        return F.layer_norm(x, weight.shape, weight, bias, epsilon)

    @staticmethod
    def backward(context: Any, gradient: Any) -> tuple[Any, Any, Any]:
        x, weight = context.saved_tensor()
        rows, width = _flat(gradient), weight.shape[0]
        average = paddle.full([width, 1], 1 / width, rows.dtype)
        x = _flat(x)
        normal = x - paddle.matmul(x, average).expand(rows.shape)
        variance = paddle.matmul(normal * normal, average)
        scale = paddle.rsqrt(variance + context.epsilon).expand(rows.shape)
        normal = normal.multiply_(scale)
        ones = paddle.ones([1, rows.shape[0]], rows.dtype)
        weight_gradient = paddle.matmul(ones, rows * normal).reshape([-1])
        h = rows * weight.expand(rows.shape)
        first = paddle.matmul(h, average).expand(rows.shape)
        second = paddle.matmul(h * normal, average).expand(rows.shape)
        back = h.subtract_(first).subtract_(normal.multiply_(second)).multiply_(scale)
        return (
            back.reshape(gradient.shape),
            weight_gradient,
            paddle.matmul(ones, rows).reshape([-1]),
        )


class _LayerNorm(nn.LayerNorm):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        if x.dtype != paddle.float32:
            return super().forward(x)
        return _LayerNormFunction.apply(x, self.weight, self.bias, self._epsilon)


class _Dropout(nn.Dropout):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        return x * self.noise.mask(self.number, x.shape, self.p)


class _MultiHeadAttention(nn.MultiHeadAttention):  # type: ignore[misc, name-defined]
    """Self-attention without Paddle's cache; dropout of the attention weights from the noise."""

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        attn_mask: Any = None,
        cache: None = None,
    ) -> Any:
        q, k, v = self._prepare_qkv(query, query, query)
        product = paddle.matmul(q * (self.head_dim**-0.5), k, transpose_y=True)
        if attn_mask is not None:
            product = product + attn_mask.expand(product.shape)
        weights = F.softmax(product)
        if self.dropout and self.training:
            weights = weights * self.noise.mask(self.number, weights.shape, self.dropout)
        mixed = paddle.matmul(weights, v).transpose([0, 2, 1, 3])
        return self.out_proj(mixed.reshape([0, 0, -1]))


_FAST: dict[type, type] = {
    nn.Linear: _Linear,
    nn.LayerNorm: _LayerNorm,
    nn.Dropout: _Dropout,
    nn.MultiHeadAttention: _MultiHeadAttention,
}
