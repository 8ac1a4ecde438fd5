"""Scores as probabilities: a logistic curve fitted to judgements, and how good it is.

J. Platt, "Probabilistic outputs for support vector machines" (1999), with the targets and the
stable Newton iteration of H.-T. Lin, C.-J. Lin and R. C. Weng, "A note on Platt's probabilistic
outputs for support vector machines" (Machine Learning 68, 2007).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError

_Floats = NDArray[np.float64]

_ITERATIONS = 100
_RIDGE = 1e-12  # keeps the Hessian invertible where every probability is at 0 or 1
_SMALLEST_STEP = 1e-10
_FOLDS_SEED = 0


class PlattScaling(NamedTuple):
    """The probability of a score is ``1 / (1 + exp(-(slope * score + intercept)))``."""

    slope: float
    intercept: float


class CalibrationFigures(NamedTuple):
    """Means over passages that were not fitted on, lower is better; log loss in nats.

    ``base_*`` is the same for one probability for all: the share of relevant passages.
    """

    log_loss: float
    brier: float
    base_log_loss: float
    base_brier: float


class Candidates(NamedTuple):
    """What a curve is fitted to: scores, labels (1 is relevant) and query ids, (n,) each."""

    scores: list[float]
    labels: list[int]
    queries: list[str]


def judged_candidates(
    scores: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]
) -> Candidates:
    """Every scored passage of every judged query; one without a judgement is not relevant.

    Both map query id → passage id → a number; a grade above 0 is relevant.
    """
    found = Candidates([], [], [])
    for query_id, grades in qrels.items():
        for passage_id, score in scores.get(query_id, {}).items():
            found.scores.append(score)
            found.labels.append(int(grades.get(passage_id, 0) > 0))
            found.queries.append(query_id)
    return found


def fit_platt(scores: ArrayLike, labels: ArrayLike) -> PlattScaling:
    """The curve with the least cross-entropy for scores (n,) and labels (n,), 1 is relevant.

    The targets are ``(N₊ + 1) / (N₊ + 2)`` for relevant and ``1 / (N₋ + 2)`` for other passages, so
    that scores which tell all of them apart have a finite slope too. A slope below 0 says that
    higher scores are less relevant. Raises UsageError for scores that are not finite or all equal,
    for labels other than 0 and 1, and where one of the two is missing.
    """
    values, relevant = _checked(scores, labels)
    targets = _targets(relevant)
    # The least cross-entropy moves with an affine change of the scores: iterated on a common scale.
    centre, spread = float(values.mean()), float(values.std())
    slope, intercept = _least_cross_entropy((values - centre) / spread, targets)
    return PlattScaling(slope / spread, intercept - slope * centre / spread)


def probabilities(scores: ArrayLike, slope: float, intercept: float) -> _Floats:
    """``1 / (1 + exp(-(slope * score + intercept)))`` of scores (n,)."""
    return _logistic(slope * np.asarray(scores, np.float64) + intercept)


def cross_validated(
    scores: ArrayLike, labels: ArrayLike, queries: ArrayLike
) -> CalibrationFigures | None:
    """How good the curve is on queries that it was not fitted on: two halves of them, in turn.

    ``queries`` (n,) says whose passage each is. None where a half lacks relevant passages or others
    or has equal scores only, so that nothing can be fitted on it. Raises UsageError as
    :func:`fit_platt`.
    """
    values, relevant = _checked(scores, labels)
    distinct, numbers = np.unique(np.asarray(queries), return_inverse=True)
    halves = np.random.default_rng(_FOLDS_SEED).permutation(len(distinct)) % 2
    half_of = halves[numbers]
    scaled, base = np.empty_like(values), np.empty_like(values)
    for half in (0, 1):
        fitted_on = half_of != half
        known = relevant[fitted_on]
        if known.all() or not known.any() or np.ptp(values[fitted_on]) == 0:
            return None
        slope, intercept = fit_platt(values[fitted_on], known)
        scaled[~fitted_on] = slope * values[~fitted_on] + intercept
        base[~fitted_on] = np.log(known.mean() / (1 - known.mean()))
    target = relevant.astype(np.float64)
    return CalibrationFigures(
        log_loss=_cross_entropy(scaled, target),
        brier=float(np.mean((_logistic(scaled) - target) ** 2)),
        base_log_loss=_cross_entropy(base, target),
        base_brier=float(np.mean((_logistic(base) - target) ** 2)),
    )


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[_Floats, NDArray[np.bool_]]:
    values, marks = np.asarray(scores, np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != marks.shape:
        raise UsageError(
            f"there are scores of shape {values.shape} and labels of shape {marks.shape}: expected "
            "one label for each of a list of scores"
        )
    if not np.isfinite(values).all():
        place = int(np.isfinite(values).argmin())
        raise UsageError(
            f"the score at place {place} is {values[place]}: expected finite numbers to calibrate"
        )
    other = ~np.isin(marks, (0, 1))
    if other.any():
        place = int(other.argmax())
        raise UsageError(f"the label at place {place} is {marks[place]}: expected 0 or 1")
    relevant = marks.astype(bool)
    count = int(relevant.sum())
    if count in (0, len(values)):
        missing = "relevant" if count == 0 else "other"
        raise UsageError(
            f"{len(values)} passages to calibrate on have no {missing} one among them: both kinds "
            "are needed, so give queries with more judgements or a greater depth"
        )
    if np.ptp(values) == 0:
        raise UsageError(
            f"all {len(values)} scores are {values[0]}: expected scores that differ to calibrate"
        )
    return values, relevant


def _targets(relevant: NDArray[np.bool_]) -> _Floats:
    positives = int(relevant.sum())
    negatives = len(relevant) - positives
    return np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _least_cross_entropy(scores: _Floats, targets: _Floats) -> tuple[float, float]:
    """Slope and intercept by Newton's method with a line search, from slope 0 on.

    The mean cross-entropy is convex, and grows without bound in every direction because no target
    is 0 or 1: there is one minimum.
    """
    design = np.stack([scores, np.ones_like(scores)])
    share = float(targets.mean())
    point = np.array([0.0, np.log(share / (1 - share))])
    value = _cross_entropy(point @ design, targets)
    for _ in range(_ITERATIONS):
        predicted = _logistic(point @ design)
        gradient = design @ (predicted - targets) / len(scores)
        curvature = (design * (predicted * (1 - predicted))) @ design.T / len(scores)
        step = -np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient)
        if np.abs(step).max() <= _SMALLEST_STEP * (1 + np.abs(point).max()):
            break
        # What rounding alone can raise the sum by is no reason to refuse a step.
        rounding = 8 * np.finfo(np.float64).eps * abs(value)
        size = 1.0
        while True:
            moved = point + size * step
            reached = _cross_entropy(moved @ design, targets)
            if reached <= value + 1e-4 * size * float(gradient @ step) + rounding:
                break
            size /= 2
            if size < _SMALLEST_STEP:
                return float(point[0]), float(point[1])
        point, value = moved, reached
    return float(point[0]), float(point[1])


def _cross_entropy(logits: _Floats, targets: _Floats) -> float:
    """The mean of -t log p - (1 - t) log(1 - p), without a difference of large numbers."""
    linear = np.where(logits >= 0, (1 - targets) * logits, -targets * logits)
    return float(np.mean(linear + np.log1p(np.exp(-np.abs(logits)))))


def _logistic(logits: _Floats) -> _Floats:
    """1 / (1 + exp(-x)) where exp(-x) overflows too."""
    result: _Floats = np.exp(-np.logaddexp(0, -logits))
    return result
