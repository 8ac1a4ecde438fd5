"""The progress bar of a build, on standard error."""

import sys
from typing import Any, Self

from tqdm import tqdm


class Progress:
    """Counts passages; shows a percentage and the time left where a total is known."""

    def __init__(self, task: str, *, shown: bool, total: int | None) -> None:
        self._task = task
        self._passages = 0
        layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self._bar: Any = tqdm(
            total=total,
            desc=task,
            disable=not shown,
            file=sys.stderr,
            bar_format="{desc} in {elapsed}" if total is None else layout,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, passages: int, *, of: int, position: int | None) -> None:
        """``passages`` more are done, out of the ``of`` that are left up to ``position``."""
        self._passages += passages
        self._bar.set_description_str(f"{self._task}: {self._passages:,} passages", refresh=False)
        step = passages if position is None else (position - self._bar.n) * passages // of
        self._bar.update(step)
