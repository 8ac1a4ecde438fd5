"""Whether two systems differ: paired tests and intervals over the values of single queries.

A system's values are a mapping query id → value, as :func:`~rocketrank.eval.measures.evaluate`
gives them for one measure. Two systems are compared on the same queries, pair by pair. All tests
are two-sided. Which test to trust: the t-test and the randomisation test agree on samples of the
usual size (Smucker, Allan and Carterette, CIKM 2007). Several comparisons at once need
:func:`holm`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .measures import mean

# How many numbers of a resampling are in memory at once.
_BLOCK = 1 << 21
# Sums that differ by less, relative to all that they could be, are equal: signs are summed in
# another order than the observed differences.
_EQUAL = 1e-10


class Comparison(NamedTuple):
    """``difference`` is mean a - mean b; ``statistic`` is t, or the mean difference itself."""

    queries: int
    mean_a: float
    mean_b: float
    difference: float
    statistic: float
    p_value: float


def paired_differences(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    """a - b query by query, in the order of ``a``.

    Raises UsageError where a query is in one of them only, where fewer than two are left to
    compare, and for a value that is not finite.
    """
    only_a, only_b = a.keys() - b.keys(), b.keys() - a.keys()
    if only_a or only_b:
        raise UsageError(
            f"{len(only_a) + len(only_b)} queries have a value of one system only ({len(only_a)} "
            f"of the {len(a)} of the first, {len(only_b)} of the {len(b)} of the second, such as "
            f"{min(only_a or only_b)}): measure both on the same judgements"
        )
    for values in (a, b):
        _check_values(values)
    return {query_id: value - b[query_id] for query_id, value in a.items()}


def paired_t_test(a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Student's t-test of the differences, with one degree of freedom less than queries.

    Differences that are all alike leave nothing to chance: p is 0, or 1 where all are 0.
    """
    from scipy.special import stdtr

    differences = _paired(a, b)
    average = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    statistic = 0.0
    if average:
        statistic = average / error if error else math.copysign(math.inf, average)
    p_value = 2 * float(stdtr(len(differences) - 1, -abs(statistic)))
    return _comparison(a, b, average, statistic, p_value)


def randomisation_test(
    a: Mapping[str, float], b: Mapping[str, float], *, rounds: int = 10_000, seed: int = 0
) -> Comparison:
    """Fisher's randomisation test: how often random signs give as large a mean difference.

    Where there are no more than ``rounds`` ways to give signs, each is tried once and p is exact;
    else the observed one counts among the random ones: p is at least 1 / (rounds + 1).
    """
    _check_rounds(rounds)
    differences = _paired(a, b)
    size = len(differences)
    exact = size < rounds.bit_length()  # 2 ** size <= rounds
    least = abs(differences.sum()) - _EQUAL * np.abs(differences).sum()
    hits = 0
    for signs in _all_signs(size) if exact else _random_signs(size, rounds, seed):
        hits += int(np.count_nonzero(np.abs(signs @ differences) >= least))
    p_value = hits / 2**size if exact else (hits + 1) / (rounds + 1)
    average = float(differences.mean())
    return _comparison(a, b, average, average, p_value)


def bootstrap_interval(
    differences: Mapping[str, float],
    *,
    confidence: float = 0.95,
    rounds: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean over queries, which are drawn with replacement.

    ``differences`` is query id → difference of two systems, or any value per query. The same seed
    gives the same interval.
    """
    return crossed_bootstrap_interval(
        [differences], confidence=confidence, rounds=rounds, seed=seed
    )


def crossed_bootstrap_interval(
    differences: Sequence[Mapping[str, float]],
    *,
    confidence: float = 0.95,
    rounds: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean over queries and training seeds, one mapping a seed, same queries.

    Seeds and queries are drawn with replacement, each by itself (the pigeonhole bootstrap of Owen,
    2007, which errs on the wide side; with 3 seeds it still knows little of how seeds vary).
    """
    _check_rounds(rounds)
    if not 0 < confidence < 1:
        raise UsageError(f"confidence ({confidence}) must be above 0 and below 1, such as 0.95")
    table = _table(differences)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            _resampled_means(table, count, generator)
            for count in _blocks(rounds, max(table.shape[1], table.size))
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, 1979), in the order given.

    Each is as if its comparison were the only one: below 0.05 it is significant at that level,
    with at most that chance of one false finding among all.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise UsageError(f"a p-value is {p_value}: expected a number from 0 to 1")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _comparison(
    a: Mapping[str, float],
    b: Mapping[str, float],
    difference: float,
    statistic: float,
    p_value: float,
) -> Comparison:
    return Comparison(len(a), mean(a), mean(b), difference, statistic, p_value)


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array(list(paired_differences(a, b).values()), np.float64)


def _table(differences: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """(seeds, queries), the queries in the order of the first seed."""
    if not differences:
        raise UsageError("there is nothing to resample: give the values of at least one run")
    first = differences[0]
    for number, each in enumerate(differences, start=1):
        if each.keys() != first.keys():
            raise UsageError(
                f"{len(each.keys() ^ first.keys())} queries are in one of the runs 1 and {number} "
                "only: measure all on the same judgements"
            )
        _check_values(each)
    return np.array([[each[query_id] for query_id in first] for each in differences], np.float64)


def _check_values(values: Mapping[str, float]) -> None:
    if len(values) < 2:
        raise UsageError(f"there are values of {len(values)} queries: expected at least 2")
    for query_id, value in values.items():
        if not math.isfinite(value):
            raise UsageError(f"the value of query {query_id} is {value}: expected a finite number")


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise UsageError(f"rounds ({rounds}) must be at least 1; 10000 are usual")


def _blocks(rounds: int, width: int) -> Iterator[int]:
    """How many rounds to do at a time: their sum is ``rounds``."""
    size = max(1, _BLOCK // width)
    while rounds:
        yield min(size, rounds)
        rounds -= min(size, rounds)


def _all_signs(size: int) -> Iterator[NDArray[np.int64]]:
    """Every row of +1 and -1 once, (2 ** size, size)."""
    yield 1 - 2 * (np.arange(2**size)[:, None] >> np.arange(size) & 1)


def _random_signs(size: int, rounds: int, seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for count in _blocks(rounds, size):
        yield 1 - 2 * generator.integers(2, size=(count, size))


def _resampled_means(
    table: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """``count`` means of tables with rows and columns drawn from ``table`` with replacement."""
    seeds, queries = table.shape
    columns = generator.integers(queries, size=(count, queries))
    if seeds == 1:
        means: NDArray[np.float64] = table[0][columns].mean(axis=1)
        return means
    # how often each row is in the sample, over the number of rows
    weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
    by_query = weights @ table
    means = np.take_along_axis(by_query, columns, axis=1).mean(axis=1)
    return means
