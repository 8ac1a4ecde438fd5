"""Passages in memory as a corpus."""

from collections.abc import Iterator, Sequence

from ..data.lines import shown
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
            self._check(passage)
            yield passage

    def _check(self, passage: object) -> None:
        """UsageError for what the readers of files would refuse too."""
        if not isinstance(passage, Passage):
            raise UsageError(
                f"{self.location}: expected a Passage, found {type(passage).__name__}: make "
                "it with Passage(id, text)"
            )
        for name in ("id", "text", "title"):
            value = getattr(passage, name)
            if not isinstance(value, str):
                raise UsageError(
                    f"{self.location}: expected a text as its {name}, found {shown(value)}: make "
                    "it a str"
                )
        if not passage.id or not (passage.text or passage.title):
            missing = "an id" if not passage.id else "a text or title"
            raise UsageError(f"{self.location}: expected {missing}, found none: give it one")
