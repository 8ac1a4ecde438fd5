"""Data parallel training: what several processes tell each other.

Each process encodes its share of the lists, then all of them hold all vectors and logits and
compute the whole loss, of which only their own share carries a gradient. So the sum of the
processes' parameter gradients is the gradient of one process on the union, contrastive terms
included; nothing is averaged and nothing multiplied by the number of processes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backbone import paddle_module

paddle = paddle_module()


class Processes:
    """This process among all of them; one alone unless ``start`` was called under a launcher."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @classmethod
    def start(cls) -> "Processes":
        """Join the others where ``paddle.distributed.launch`` started this process."""
        count = int(paddle.distributed.get_world_size())
        if count > 1:
            paddle.distributed.init_parallel_env()
        return cls(int(paddle.distributed.get_rank()), count)

    def gather(self, local: Any, owner: NDArray[np.int64]) -> Any:
        """The rows of all processes in the order of ``owner``, the process each row belongs to.

        ``local`` (rows of this process, …) keeps its gradient; the rows of others carry none.
        """
        if self.count == 1:
            return local
        sizes = np.bincount(owner, minlength=self.count)
        largest = int(sizes.max())
        padding = paddle.zeros([largest - local.shape[0], *local.shape[1:]], local.dtype)
        padded = paddle.concat([local.detach(), padding])
        parts: list[Any] = []
        # has no gradient in Paddle, so this process's rows are put back with theirs
        paddle.distributed.all_gather(parts, padded)
        parts = [part[: int(size)] for part, size in zip(parts, sizes, strict=True)]
        parts[self.rank] = local
        order = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
        return paddle.concat(parts).index_select(paddle.to_tensor(order))

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Add up the gradients of all processes, in one message."""
        if self.count == 1:
            return
        gradients = [
            paddle.zeros(p.shape, p.dtype) if p.grad is None else p.grad for p in parameters
        ]
        flat = paddle.concat([gradient.flatten() for gradient in gradients])
        paddle.distributed.all_reduce(flat)
        start = 0
        for parameter in parameters:
            size = int(np.prod(parameter.shape))
            piece = flat[start : start + size].reshape(parameter.shape)
            parameter.clear_gradient()
            parameter.grad = piece
            start += size

    def agree(self, value: float) -> float:
        """The sum of every process's ``value``: a way to learn that one of them must stop."""
        if self.count == 1:
            return value
        total = paddle.to_tensor([value], dtype="float32")
        paddle.distributed.all_reduce(total)
        return float(total)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            paddle.distributed.barrier()
