"""What an evaluation found: values of single queries, and all that was odd about a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .measures import mean

PerQuery = Mapping[str, float]
Order = Literal["score", "rank"]


class Ordering(NamedTuple):
    """Means of one measure in the orders that a run can be read in.

    ``trec_eval`` goes by score, equal scores by passage id; ``own`` by the run's ranks. ``worst``
    and ``best`` go by score with the relevant passages of a tie last or first.
    """

    trec_eval: float
    own: float
    worst: float
    best: float


class TopHit(NamedTuple):
    """A passage near the top of a query's list; ``grade`` is None where it was not judged."""

    passage_id: str
    score: float
    grade: int | None


@dataclass(frozen=True, kw_only=True)
class AnswerMarks:
    """What files said of answers: ``marked`` passages have a mark (has_answer).

    ``unlike`` marks are not what was found in the text; ``textless`` passages have no text, so that
    their marks were taken.
    """

    marked: int = 0
    unlike: int = 0
    textless: int = 0


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What about a run an evaluation has to decide, and a reader ought to know. Ids of queries.

    ``missing``: judged queries that the run lacks. ``unjudged``: queries of the run without
    judgements, which are left out. ``without_relevant``: judged queries without a relevant passage,
    or questions without an answer to look for.
    ``duplicates``: how many further occurrences of passages were left out. ``self_hits``: the
    query's own id was among its passages; ``drops_self`` says whether those were left out.
    ``tied``: some scores are equal in single precision; ``all_tied``: all of two or more are.
    ``disordered``: ranks and scores give other orders. ``judged``: mean share of the first k
    passages that were judged, by k; ``judged_per_query``: how many passages of a query are, in the
    mean over the judged queries. ``orderings``: by measure, for those whose mean depends on it;
    ``order`` is the one that the values are in. ``longest``: passages of the longest list.
    ``answers``: where passages were judged by answers, None where by judgements.
    """

    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    without_relevant: tuple[str, ...] = ()
    duplicates: Mapping[str, int] = field(default_factory=dict)
    self_hits: tuple[str, ...] = ()
    drops_self: bool = False
    tied: tuple[str, ...] = ()
    all_tied: tuple[str, ...] = ()
    disordered: tuple[str, ...] = ()
    judged: Mapping[int, float] = field(default_factory=dict)
    judged_per_query: float = 0.0
    orderings: Mapping[str, Ordering] = field(default_factory=dict)
    order: Order = "score"
    longest: int = 0
    answers: AnswerMarks | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run measured: measure → query id → value, in trec_eval's order unless said otherwise.

    ``recall`` is mean R@k by k up to the longest list, for a curve, of passages with at least the
    grade ``recall_grade``; top-k accuracy where passages were judged by answers. ``top`` holds the
    first passages of every counted query that the run has, best first. ``milliseconds`` is the time
    a query took, where the run was made for this evaluation.
    """

    name: str
    values: Mapping[str, PerQuery]
    findings: Findings = Findings()
    recall: Mapping[int, float] = field(default_factory=dict)
    recall_grade: int = 1
    top: Mapping[str, tuple[TopHit, ...]] = field(default_factory=dict)
    milliseconds: float | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def queries(self) -> int:
        """How many queries count."""
        return len(next(iter(self.values.values()), {}))

    def mean(self, measure: str) -> float:
        return mean(self.values[measure])


class Difference(NamedTuple):
    """A system against the baseline by one measure: query by query, over the same queries.

    ``low`` and ``high`` bound the mean difference by bootstrap. The p-values are two-sided and
    adjusted for the number of systems compared by this measure (Holm). ``changed`` holds the
    queries whose values differ most: (query id, value of the system, value of the baseline).
    """

    system: str
    baseline: str
    measure: str
    mean: float
    baseline_mean: float
    difference: float
    low: float
    high: float
    t_test: float
    randomisation: float
    wins: int
    ties: int
    losses: int
    changed: tuple[tuple[str, float, float], ...]
