"""Which rows of a segment a search may return: what is not deleted and what a filter keeps."""

from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_BITS_SET = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


class Selection:
    """A set of rows 0 … ``rows`` - 1 as bits, the lowest of a byte first, as FAISS reads them."""

    def __init__(self, bits: NDArray[np.uint8], rows: int) -> None:
        self.bits = bits
        self.rows = rows

    @classmethod
    def everything(cls, rows: int) -> Self:
        return cls.of_mask(np.ones(rows, dtype=bool))

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> Self:
        return cls(np.packbits(mask, bitorder="little"), len(mask))

    @classmethod
    def of_numbers(cls, numbers: NDArray[np.int64], rows: int) -> Self:
        mask = np.zeros(rows, dtype=bool)
        mask[numbers] = True
        return cls.of_mask(mask)

    @classmethod
    def read(cls, path: Path, rows: int, count: int) -> Self:
        """The rows that are not deleted, from their file. DataError when it is another's."""
        try:
            bits = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        selection = cls(bits, rows)
        if len(bits) != (rows + 7) // 8 or selection.count != count:
            raise DataError(
                f"{path}: expected bits for {rows} rows, {count} of them set, found {len(bits)} "
                "bytes of others: run `rq repair`"
            )
        return selection

    @cached_property
    def count(self) -> int:
        return int(_BITS_SET[self.bits].sum(dtype=np.int64))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The rows, rising."""
        return np.flatnonzero(self.mask).astype(np.int64)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """For each row whether it is in the set."""
        return np.unpackbits(self.bits, count=self.rows, bitorder="little").view(np.bool_)

    def between(self, start: int, stop: int) -> "Selection":
        """The part in rows ``start`` … ``stop`` - 1, counted from 0."""
        return Selection.of_mask(self.mask[start:stop])

    def without(self, numbers: NDArray[np.int64]) -> "Selection":
        mask = self.mask
        mask[numbers] = False
        return Selection.of_mask(mask)

    def __and__(self, other: "Selection") -> "Selection":
        return Selection(self.bits & other.bits, self.rows)

    def __contains__(self, row: int) -> bool:
        return bool(self.bits[row >> 3] >> (row & 7) & 1)
