"""Systems against a baseline, query by query: differences, tests, intervals, what changed most."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .measures import canonical_name
from .results import Difference, RunResult
from .significance import (
    bootstrap_interval,
    holm,
    paired_differences,
    paired_t_test,
    randomisation_test,
)

# Values of a query that differ by no more are alike: the same terms summed in another order.
_TIE = 1e-9
_TIE_DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class _Options:
    rounds: int
    seed: int
    confidence: float
    changed: int


def compare(
    results: Sequence[RunResult],
    baseline: str,
    *,
    measures: Sequence[str] | None = None,
    rounds: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    changed: int = 10,
) -> list[Difference]:
    """Every other system against the one named ``baseline``, system by system as given.

    ``measures`` are by default those that all results have, in the baseline's order and under its
    names; MRR@10 and RR@10 are one, and the same holds for other names of a measure. A query is a
    tie where both values are equal up to 1e-9, else a win or a loss of the system. Both p-values
    are adjusted (Holm) for the number of systems, each measure by itself. ``rounds`` are those of
    the randomisation test and of the bootstrap, whose interval has this ``confidence``. ``changed``
    is how many of the queries that are no ties are kept: the largest difference first, equal ones
    by query id.

    The order of queries changes nothing. Raises UsageError for what cannot be compared: two
    results of one name, none but the baseline, an unknown measure, other queries, fewer than two.
    """
    if changed < 0:
        raise UsageError(f"changed ({changed}) must be at least 0; 10 are usual")
    base = _baseline(results, baseline)
    others = [each for each in results if each is not base]
    options = _Options(rounds=rounds, seed=seed, confidence=confidence, changed=changed)
    columns = []
    for measure in _measures(results, base, measures):
        for other in others:
            _check_queries(other, base, measure)
        columns.append(_adjusted([_difference(each, base, measure, options) for each in others]))
    return [each for row in zip(*columns, strict=True) for each in row]


def check_names(results: Sequence[RunResult]) -> None:
    """Raise UsageError where two results have one name."""
    places: dict[str, int] = {}
    for place, result in enumerate(results, start=1):
        first = places.setdefault(result.name, place)
        if first != place:
            raise UsageError(
                f'the results {first} and {place} have one name, "{result.name}": give each system '
                "a name of its own"
            )


def over_same_queries(results: Sequence[RunResult], measure: str) -> bool:
    """Whether all systems that have values by this measure have them for the same queries."""
    sets = [each.values[measure].keys() for each in results if measure in each.values]
    return all(one == sets[0] for one in sets)


def values_by(result: RunResult, measure: str) -> Mapping[str, float]:
    """The values by this measure, or by the same under another name, such as MRR@10 for RR@10."""
    if measure in result.values:
        return result.values[measure]
    wanted = canonical_name(measure)
    return next(of for one, of in result.values.items() if canonical_name(one) == wanted)


def _baseline(results: Sequence[RunResult], name: str) -> RunResult:
    check_names(results)
    by_name = {result.name: result for result in results}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=1)
        names = ", ".join(by_name) or "none"
        raise UsageError(
            f'the baseline "{name}" is not among the results: '
            + (f'did you mean "{near[0]}" (given: {names})?' if near else f"name one of {names}")
        )
    if len(by_name) < 2:
        raise UsageError(
            f'there is nothing to compare with the baseline "{name}": give another run too'
        )
    return by_name[name]


def _measures(
    results: Sequence[RunResult], base: RunResult, asked: Sequence[str] | None
) -> list[str]:
    if isinstance(asked, str):
        raise UsageError(f'expected a list of measures, found one: write ["{asked}"]')
    known = [set(map(canonical_name, each.values)) for each in results]
    common = [one for one in base.values if all(canonical_name(one) in each for each in known)]
    by_name = {canonical_name(one): one for one in reversed(common)}
    if not common:
        each_has = "; ".join(f"{each.name}: {', '.join(each.values)}" for each in results)
        raise UsageError(
            f"there is no measure that all results have ({each_has}): measure all runs alike"
        )
    for measure in asked or ():
        if canonical_name(measure) not in by_name:
            raise UsageError(
                f'the measure "{measure}" is not in all results: those that are in all are '
                f"{', '.join(common)}; measure all runs by it, or compare by one of these"
            )
    wanted = common if asked is None else asked
    return list(dict.fromkeys(by_name[canonical_name(each)] for each in wanted))


def _check_queries(other: RunResult, base: RunResult, measure: str) -> None:
    ours, theirs = values_by(other, measure).keys(), base.values[measure].keys()
    only_ours, only_theirs = ours - theirs, theirs - ours
    if only_ours or only_theirs:
        raise UsageError(
            f'"{other.name}" and the baseline "{base.name}" were not measured on the same queries '
            f"({measure}: {len(only_ours)} of {len(ours)} and {len(only_theirs)} of {len(theirs)} "
            f"are in one only, such as {min(only_ours or only_theirs)}): measure both with the "
            "same judgements and --missing zero, which counts queries that a run lacks as 0"
        )
    if len(ours) < 2:
        raise UsageError(
            f'"{other.name}" and the baseline "{base.name}" have values of {measure} for '
            f"{len(ours)} queries: a comparison needs at least 2"
        )


def _difference(other: RunResult, base: RunResult, measure: str, options: _Options) -> Difference:
    """As :func:`compare` gives it, but for p-values that are not adjusted yet."""
    ours, theirs = (_by_query_id(values_by(each, measure)) for each in (other, base))
    differences = paired_differences(ours, theirs)
    rounds, seed = options.rounds, options.seed
    t_test = paired_t_test(ours, theirs)
    low, high = bootstrap_interval(
        differences, confidence=options.confidence, rounds=rounds, seed=seed
    )
    wins = sum(one > _TIE for one in differences.values())
    losses = sum(one < -_TIE for one in differences.values())
    return Difference(
        system=other.name,
        baseline=base.name,
        measure=measure,
        mean=t_test.mean_a,
        baseline_mean=t_test.mean_b,
        difference=t_test.difference,
        low=low,
        high=high,
        t_test=t_test.p_value,
        randomisation=randomisation_test(ours, theirs, rounds=rounds, seed=seed).p_value,
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        changed=tuple(
            (query_id, ours[query_id], theirs[query_id])
            for query_id in _most_changed(differences)[: options.changed]
        ),
    )


def _by_query_id(values: Mapping[str, float]) -> dict[str, float]:
    """What is drawn for a query must not hang on its place in a file."""
    return dict(sorted(values.items()))


def _most_changed(differences: Mapping[str, float]) -> list[str]:
    # rounded, so that 0.3 - 0.1 and 0.2 - 0 go by query id
    sizes = {one: round(abs(by), _TIE_DIGITS) for one, by in differences.items() if abs(by) > _TIE}
    return sorted(sizes, key=lambda query_id: (-sizes[query_id], query_id))


def _adjusted(differences: Sequence[Difference]) -> list[Difference]:
    t_tests = holm([each.t_test for each in differences])
    randomisations = holm([each.randomisation for each in differences])
    return [
        each._replace(t_test=t_test, randomisation=randomisation)
        for each, t_test, randomisation in zip(differences, t_tests, randomisations, strict=True)
    ]
