"""AdamW with a schedule, clipping and an average of the weights, over the models of a stage."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..backbone import paddle_module
from .recipe import Stage

paddle = paddle_module()

Arrays = dict[str, NDArray[Any]]

_NO_DECAY = ("norm", "bias")


class Group(NamedTuple):
    """The parameters of one model, clipped together and at one learning rate."""

    name: str
    parameters: Mapping[str, Any]
    learning_rate: float


def learning_rate_factor(step: int, total: int, stage: Stage) -> float:
    """What the learning rate of ``step`` (from 0) of ``total`` is multiplied by.

    It rises linearly over the share ``stage.warmup`` of the steps; then it is constant, or falls
    to 0 at the end, linearly or as half a cosine.
    """
    warm = math.ceil(round(stage.warmup * total, 6))  # 0.1 * 70 is a little more than 7
    if step < warm:
        return (step + 1) / (warm + 1)
    left = (total - step) / max(1, total - warm)
    if stage.schedule == "linear":
        return left
    if stage.schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0


class Optimiser:
    """AdamW (Loshchilov and Hutter, 2019) with the same settings for every group but its rate.

    Weight decay is decoupled and leaves LayerNorm and biases alone.
    """

    def __init__(self, groups: Sequence[Group], stage: Stage) -> None:
        self.groups = groups
        self._stage = stage
        self._adam = [self._make(group) for group in groups]
        self._average: dict[str, Any] = {}
        if stage.ema:
            self._average = {name: value.detach().clone() for name, value in self._named()}

    def step(self, factor: float, *, scale: float = 1.0) -> float:
        """Divide the gradients by ``scale``, clip, update, forget them; the largest global norm.

        ``factor`` multiplies the learning rates. With a gradient that is not finite nothing
        changes, and the norm says so.
        """
        norms = [self._unscaled_norm(group, scale) for group in self.groups]
        if all(math.isfinite(norm) for norm in norms):
            for group, adam, norm in zip(self.groups, self._adam, norms, strict=True):
                if self._stage.clip and norm > self._stage.clip:
                    _multiply_gradients(group, self._stage.clip / norm)
                adam.set_lr(group.learning_rate * factor)
                adam.step()
            self._follow()
        for adam in self._adam:
            adam.clear_grad()
        return next((norm for norm in norms if not math.isfinite(norm)), max(norms))

    def state(self) -> Arrays:
        """Moments and averages by the parameter's name: all that another run needs to go on."""
        arrays: Arrays = {}
        for group, adam in zip(self.groups, self._adam, strict=True):
            written = adam.state_dict()
            for name, parameter in group.parameters.items():
                for key, value in written.items():
                    if key.startswith(f"{parameter.name}_"):
                        kind = key.removeprefix(f"{parameter.name}_")
                        arrays[f"{group.name}/{name}/{kind}"] = value.numpy()
        arrays |= {f"average/{name}": value.numpy() for name, value in self._average.items()}
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take :meth:`state` back, before the first step."""
        for group, adam in zip(self.groups, self._adam, strict=True):
            state = {}
            for name, parameter in group.parameters.items():
                prefix = f"{group.name}/{name}/"
                for key, value in arrays.items():
                    if key.startswith(prefix):
                        tensor = paddle.to_tensor(value)
                        tensor.name = f"{parameter.name}_{key.removeprefix(prefix)}"
                        state[tensor.name] = tensor
            if state:
                adam.set_state_dict(state)
        for name, value in self._average.items():
            value.set_value(arrays[f"average/{name}"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, every parameter is its exponential moving average, where one is kept."""
        if not self._average:
            yield
            return
        before = [(parameter, parameter.numpy()) for _, parameter in self._named()]
        for name, parameter in self._named():
            parameter.set_value(self._average[name])
        try:
            yield
        finally:
            for parameter, value in before:
                parameter.set_value(value)

    def _named(self) -> list[tuple[str, Any]]:
        return [
            (f"{group.name}/{name}", parameter)
            for group in self.groups
            for name, parameter in group.parameters.items()
        ]

    def _follow(self) -> None:
        """Move the average towards the parameters: a ← e a + (1 - e) p."""
        if self._average:
            for name, parameter in self._named():
                difference = parameter.detach() - self._average[name]
                self._average[name].add_(difference * (1 - self._stage.ema))

    def _unscaled_norm(self, group: Group, scale: float) -> float:
        if scale != 1.0:
            _multiply_gradients(group, 1 / scale)
        squares = [
            _sum_of_squares(parameter.grad)
            for parameter in group.parameters.values()
            if parameter.grad is not None
        ]
        return math.sqrt(float(paddle.add_n(squares))) if squares else 0.0

    def _make(self, group: Group) -> Any:
        decays = {
            parameter.name
            for name, parameter in group.parameters.items()
            if not any(word in name for word in _NO_DECAY)
        }
        return paddle.optimizer.AdamW(
            group.learning_rate,
            epsilon=1e-8,
            parameters=list(group.parameters.values()),
            weight_decay=self._stage.weight_decay,
            apply_decay_param_fun=decays.__contains__,
        )


def _sum_of_squares(gradient: Any) -> Any:
    values = gradient.astype("float32")
    return (values * values).sum()  # ** 2 takes thirty times as long


def _multiply_gradients(group: Group, factor: float) -> None:
    for parameter in group.parameters.values():
        if parameter.grad is not None:
            parameter.grad.detach().scale_(factor)
