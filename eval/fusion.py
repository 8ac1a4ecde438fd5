"""Adding the retriever's score to the re-ranker's, and choosing its weight on dev queries.

The fused score of a passage is ``reranker + weight * retriever`` of the raw scores: an inner
product or cosine as the index gives it, a logit as the cross-encoder gives it. Only its order
within one query is used, so a constant added to all of a query's scores changes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError
from .measures import evaluate, mean

Scores = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]

DEPTHS = (10, 20, 30, 50, 100)

# Scores of the two stages differ in scale by the model: cosines over a spread of 0.3 beside logits
# over 10 want a weight of some tens, inner products of unnormalised vectors one below 1.
_GRID = (0.0, *(2.0**exponent for exponent in range(-10, 11)))
# Once around the best of the grid, up to its neighbours: powers of the fourth root of 2.
_STEPS = tuple(2.0 ** (quarter / 4) for quarter in (-3, -2, -1, 1, 2, 3))
# Means that differ by less are equal: the last bits of a sum depend on which queries won.
_EQUAL = 1e-9


class FusionChoice(NamedTuple):
    """The weight with the highest mean, and all that were tried: (weight, mean), by weight."""

    weight: float
    value: float
    tried: tuple[tuple[float, float], ...]


class DepthAndFusion(NamedTuple):
    """The depth and weight with the highest mean; ``by_depth`` has the choice at every depth.

    ``retriever_only`` is the mean of stage one's own order, which is depth 0. It is no candidate:
    where ``value`` is not above it, re-ranking did not help on these queries.
    """

    depth: int
    weight: float
    value: float
    retriever_only: float
    by_depth: Mapping[int, FusionChoice]


class _Candidates(NamedTuple):
    """One query's passages in stage one's order; where the re-ranker gave no score it is nan."""

    query_id: str
    ids: tuple[str, ...]
    retriever: NDArray[np.float64]
    reranker: NDArray[np.float64]


def fused_scores(retriever: ArrayLike, reranker: ArrayLike, weight: float) -> NDArray[np.float64]:
    """``reranker + weight * retriever`` in float64, (n,) each; weight 0 is the re-ranker alone."""
    return np.asarray(reranker, np.float64) + weight * np.asarray(retriever, np.float64)


def tune_fusion(
    retriever_scores: Scores,
    reranker_scores: Scores,
    qrels: Qrels,
    *,
    measure: str = "nDCG@10",
    depth: int | None = None,
) -> FusionChoice:
    """The weight whose fused order of stage one's first ``depth`` (None: all) has the highest mean.

    Scores are query id → passage id → score, the retriever's in stage one's order where they are
    equal; those of the re-ranker must cover the first ``depth`` of every query. ``measure`` is one
    that :func:`~rocketrank.eval.measures.evaluate` knows; every query of ``qrels`` counts, and one
    without candidates counts 0. Tried are 0 and the powers of 2 from 2⁻¹⁰ to 2¹⁰, then six weights
    around the best of them. Equal means: the smaller weight. Raises UsageError.
    """
    if depth is not None:
        _check_depths([depth])
    candidates = _candidates(retriever_scores, reranker_scores, qrels)
    return _tuned(candidates, qrels, measure, depth)


def tune_depth_and_fusion(
    retriever_scores: Scores,
    reranker_scores: Scores,
    qrels: Qrels,
    *,
    depths: Sequence[int] = DEPTHS,
    measure: str = "nDCG@10",
) -> DepthAndFusion:
    """As :func:`tune_fusion` at each of several re-ranking depths; equal means: the smaller depth.

    As in a search, a depth's list ends there: what stage one found beyond it is not in the order.
    """
    _check_depths(depths)
    candidates = _candidates(retriever_scores, reranker_scores, qrels)
    by_depth = {
        depth: _tuned(candidates, qrels, measure, depth) for depth in sorted(set(map(int, depths)))
    }
    best = int(_best({depth: choice.value for depth, choice in by_depth.items()}))
    first_stage = [each._replace(reranker=each.retriever) for each in candidates]
    return DepthAndFusion(
        depth=best,
        weight=by_depth[best].weight,
        value=by_depth[best].value,
        retriever_only=_value(first_stage, qrels, measure, None, 0.0),
        by_depth=by_depth,
    )


def _check_depths(depths: Sequence[int]) -> None:
    if not depths:
        raise UsageError("no depth to try: give at least one, such as 100")
    for depth in depths:
        if int(depth) != depth or depth < 1:
            raise UsageError(f"a depth to try is {depth}: expected a whole number of at least 1")


def _candidates(retriever: Scores, reranker: Scores, qrels: Qrels) -> list[_Candidates]:
    """The candidates of every judged query that has some."""
    if not qrels:
        raise UsageError("there is no judged query to choose a weight on: give dev judgements")
    found = []
    for query_id in qrels:
        first, second = retriever.get(query_id, {}), reranker.get(query_id, {})
        for passage_id, score in first.items():
            if not math.isfinite(score):
                raise UsageError(
                    f"the retriever's score of query {query_id} and passage {passage_id} is "
                    f"{score}: expected a finite number"
                )
        # sorted is stable: equal scores stay in the order in which they came
        ids = tuple(sorted(first, key=lambda passage_id: -first[passage_id]))
        scores = np.array([first[each] for each in ids], np.float64)
        logits = np.array([second.get(each, math.nan) for each in ids], np.float64)
        if ids:
            found.append(_Candidates(query_id, ids, scores, logits))
    return found


def _tuned(
    candidates: Sequence[_Candidates], qrels: Qrels, measure: str, depth: int | None
) -> FusionChoice:
    for each in candidates:
        scored = np.isfinite(each.reranker[:depth])
        if not scored.all():
            raise UsageError(
                f"query {each.query_id}: the re-ranker gave {scored.sum()} finite scores for stage "
                f"one's first {len(scored)} passages, and none for passage "
                f"{each.ids[scored.argmin()]}: score all of them or choose a smaller depth"
            )
    values = {weight: _value(candidates, qrels, measure, depth, weight) for weight in _GRID}
    best = _best(values)
    for step in _STEPS if best else ():
        weight = float(f"{best * step:.4g}")  # it is read by people in a settings file
        values[weight] = _value(candidates, qrels, measure, depth, weight)
    best = _best(values)
    return FusionChoice(best, values[best], tuple(sorted(values.items())))


def _best(values: Mapping[float, float]) -> float:
    """The smallest of the keys whose values are the highest."""
    highest = max(values.values())
    return min(key for key, value in values.items() if value >= highest - _EQUAL)


def _value(
    candidates: Sequence[_Candidates],
    qrels: Qrels,
    measure: str,
    depth: int | None,
    weight: float,
) -> float:
    """The mean of the measure over the queries of ``qrels``, in the order of the fused scores."""
    cutoff = _cutoff(measure)
    run = {}
    for each in candidates:
        fused = fused_scores(each.retriever[:depth], each.reranker[:depth], weight)
        order = np.argsort(-fused, kind="stable")[:cutoff]
        # Ranks in place of scores: evaluation tools break ties by id, and in float32.
        run[each.query_id] = {
            each.ids[place]: float(-rank) for rank, place in enumerate(order.tolist(), start=1)
        }
    return mean(evaluate(run, qrels, [measure])[measure])


def _cutoff(measure: str) -> int | None:
    """The k of a measure "…@k", which reads nothing below rank k; None: it reads the whole list."""
    _, _, end = measure.rpartition("@")
    # With judged_only the k are counted after unjudged passages have been left out.
    whole = "@" not in measure or not end.isdecimal() or "judged_only" in measure
    return None if whole else int(end)
