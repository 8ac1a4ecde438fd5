"""An even sample of a stream whose length is known at its end."""

import random
from typing import Generic, TypeVar

Item = TypeVar("Item")

_SEED = 20_240_229


class Reservoir(Generic[Item]):
    """Keeps ``size`` of the items it is offered, drawn evenly, with their positions.

    Algorithm R (Vitter, 1985, Random Sampling with a Reservoir) with a fixed seed: the same stream
    gives the same sample.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._offered = 0
        self._drawn: list[tuple[int, Item]] = []
        self._generator = random.Random(_SEED)

    def offer(self, item: Item) -> None:
        if self._offered < self._size:
            self._drawn.append((self._offered, item))
        elif (place := self._generator.randrange(self._offered + 1)) < self._size:
            self._drawn[place] = (self._offered, item)
        self._offered += 1

    def drawn(self) -> list[tuple[int, Item]]:
        """(position in the stream, item), positions rising."""
        return sorted(self._drawn, key=lambda each: each[0])
