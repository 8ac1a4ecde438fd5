"""Passages in memory as a corpus."""

from collections.abc import Iterator, Sequence

from ..data.records import Passage
from ..errors import UsageError


class PassageList:
    """Passages that a program has; ``location`` names them by their place in the list."""

    skipped_empty = 0

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self.location = ""
        self.bytes_total: int | None = len(passages)
        self.bytes_read: int | None = 0

    def __iter__(self) -> Iterator[Passage]:
        for number, passage in enumerate(self._passages, start=1):
            self.location = f"passage {number} of {len(self._passages)}"
            self.bytes_read = number
            if not isinstance(passage, Passage):
                raise UsageError(
                    f"{self.location}: expected a Passage, found {type(passage).__name__}: make "
                    "it with Passage(id, text)"
                )
            yield passage
