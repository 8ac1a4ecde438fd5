"""What a training run asks of the machine: a device, a precision, memory that is kept."""

import ctypes
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from ..backbone import paddle_module
from ..errors import UsageError
from .recipe_values import Precision

paddle = paddle_module()

# glibc's parameters of mallopt and the values given to them, in bytes
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MALLOC = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 1 << 28}

_FIRST_SCALE = 2.0**15
_STEPS_TO_GROW = 2000
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def prepare_device(device: str, precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """Make ``device`` (``cpu``, ``gpu``, ``gpu:N``) Paddle's; which precision a stage gets there.

    On a CPU a block of freed memory goes back to the system at once and every new tensor meets
    page faults; keeping it makes elementwise operations up to four times faster. Paddle's strided
    views are switched off there because what reads a transposed one is slow.
    """
    on_gpu = device.partition(":")[0] == "gpu"
    if on_gpu and not paddle.is_compiled_with_cuda():
        raise UsageError(f"--device {device}: this build of PaddlePaddle has no GPU; say cpu")
    paddle.set_device(device)
    if on_gpu:
        return "bf16" if precision == "auto" else precision
    if precision not in ("auto", "fp32"):
        raise UsageError(
            f"precision is {precision}, but Paddle multiplies on a CPU in fp32 only: write fp32"
        )
    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return "fp32"  # another C library than glibc
    for parameter, value in _MALLOC.items():
        mallopt(parameter, value)
    return "fp32"


def autocast(precision: str) -> AbstractContextManager[Any]:
    """Forward passes inside compute in ``precision`` where that is sound (AMP, level O1)."""
    if precision == "fp32":
        return nullcontext()
    context: AbstractContextManager[Any] = paddle.amp.auto_cast(
        dtype=_DTYPES[precision], level="O1"
    )
    return context


class LossScale:
    """Dynamic loss scaling for fp16 (Micikevicius et al., Mixed Precision Training, 2018).

    The factor is halved when a gradient is not finite, and the step skipped; after 2000 steps
    without that it is doubled. In other precisions it is 1 and stays so.
    """

    def __init__(self, precision: str) -> None:
        self.moves = precision == "fp16"
        self.factor = _FIRST_SCALE if self.moves else 1.0
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        if not self.moves:
            return
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.factor = max(1.0, self.factor / 2)
        elif self.good_steps == _STEPS_TO_GROW:
            self.factor, self.good_steps = self.factor * 2, 0

    def state(self) -> list[float]:
        return [self.factor, self.good_steps]

    def restore(self, state: Iterable[float]) -> None:
        factor, steps = state
        self.factor, self.good_steps = float(factor), int(steps)
