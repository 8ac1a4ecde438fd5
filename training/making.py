"""Training queries out of passages alone: pieces cut out of them, and what an endpoint writes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..data.records import Passage
from ..errors import DataError
from .cuts import Kind
from .endpoint import Endpoint
from .mining_report import MiningReport
from .synthesis import Synthesis, SynthesisOptions, synthesize
from .written_queries import written_queries


@dataclass(frozen=True, kw_only=True)
class Making:
    """``count`` queries, shared evenly between the kinds of pieces and the endpoint, if any."""

    count: int
    kinds: tuple[Kind, ...]
    endpoint: Endpoint | None = None
    seed: int = 0

    @property
    def written(self) -> int:
        """How many of them the endpoint writes."""
        return max(1, self.count // (len(self.kinds) + 1)) if self.endpoint else 0


def make(passages: Callable[[], Iterable[Passage]], making: Making, *, ledger: Path) -> Synthesis:
    """Queries from what ``passages`` gives, the same each time; answers are kept in ``ledger``.

    Raises DataError where there are none, RocketRankError where the endpoint does not answer.
    """
    parts: list[Synthesis] = []
    cut = making.count - making.written
    if making.kinds and cut:
        options = SynthesisOptions(count=cut, kinds=making.kinds, seed=making.seed)
        parts.append(synthesize(passages, options))
    if making.endpoint is not None:
        parts.append(
            written_queries(
                passages, making.endpoint, making.written, seed=making.seed, ledger=ledger
            )
        )
    report = MiningReport()
    for part in parts:
        report.add(part.report.as_record())
    queries = [query for part in parts for query in part.queries]
    if not queries:
        raise DataError(
            "expected queries of 3 to 40 words from the endpoint, found none that can be used: "
            f"look at its answers in {ledger}, and change the prompt or the model"
        )
    return Synthesis(queries, report)
