"""How hard an approximate structure is searched."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError

_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard approximate structures are searched: more finds more, and takes longer.

    A flat structure is searched whole whatever is asked, and a graph at least as wide as twice the
    candidates that are wanted.

    ``factor`` multiplies how much of a structure is visited (inverted lists, or candidates in a
    graph). ``refine`` is how many candidates of a lossy structure are scored again from the stored
    vectors for a query, at first and at least as many as are asked for: where equal scores leave
    the last place open, more are. None: the larger of 200 and 10 for each that is asked for.
    """

    factor: float = 1.0
    refine: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor <= _MOST:
            raise UsageError(
                f"effort ({self.factor}) must be above 0 and at most {_MOST}: 1 is the usual "
                "one, 2 visits twice as much"
            )
        if self.refine is not None and self.refine < 1:
            raise UsageError(f"refine ({self.refine}) must be at least 1 candidate")

    def of(self, search: Mapping[str, int]) -> dict[str, int]:
        """The parameters ``search`` of a structure, changed by this effort."""
        changed = dict(search)
        for name in ("nprobe", "efSearch"):
            if name in changed:
                changed[name] = max(1, round(changed[name] * self.factor))
        return changed if self.refine is None else {**changed, "refine": self.refine}


USUAL_EFFORT = Effort()
