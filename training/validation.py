"""How good both models are on held-out queries while they are trained.

The candidates of a dev query are fixed beforehand, so a validation costs the encoding of these and
no index. Its figures compare models on the same candidates; they are no retrieval over a corpus.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backbone import paddle_module
from ..data.records import Passage
from ..errors import RocketRankError
from ..eval.fusion import DepthAndFusion, tune_depth_and_fusion
from ..eval.measures import evaluate, mean
from ..runtime import make_batches
from ..tokenizing import Tokenizer, Tokens
from .device import autocast
from .models import Reranker, Retriever

paddle = paddle_module()

MEASURES = ("nDCG@10", "RR@10", "R@10", "R@50")
_DEPTHS = (5, 10, 20, 50, 100)
_TEXTS_AT_ONCE = 1024

Scores = dict[str, dict[str, float]]


class DevSet(NamedTuple):
    """Queries by id, their judgements, and each one's candidates in a fixed order."""

    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    candidates: Mapping[str, Sequence[Passage]]


class Validation(NamedTuple):
    """``measures``: ``retriever``, ``reranker`` and ``two_stages`` → measure → mean.

    ``agreement`` is that of the two models' orders.
    ``fusion`` is the best depth and weight on these queries, on which ``two_stages`` is therefore
    somewhat flattering. What needs a model that was not given is left out.
    """

    measures: dict[str, dict[str, float]]
    agreement: float | None
    fusion: DepthAndFusion | None
    retriever_scores: Scores
    reranker_scores: Scores

    def value(self, measure: str) -> float:
        """The mean that a run is selected by: of the two stages where both models are there."""
        for system in ("two_stages", "reranker", "retriever"):
            if system in self.measures:
                return self.measures[system][measure]
        raise ValueError("a validation of no model")


def validate(
    dev: DevSet,
    retriever: Retriever | None,
    reranker: Reranker | None,
    *,
    select_by: str = "nDCG@10",
    tokens_per_chunk: int = 8192,
    precision: str = "fp32",
) -> Validation:
    """Score the candidates of ``dev`` with the models there are, dropout off."""
    runner = _Runner(tokens_per_chunk, precision)
    first = retriever_scores(dev, retriever, runner) if retriever else {}
    second = reranker_scores(dev, reranker, runner) if reranker else {}
    for system, scores in (("retriever", first), ("re-ranker", second)):
        _refuse_not_finite(system, scores)
    names = list(dict.fromkeys([select_by, *MEASURES]))
    measures: dict[str, dict[str, float]] = {}
    for system, scores in (("retriever", first), ("reranker", second)):
        if scores:
            measures[system] = _means(scores, dev.qrels, names)
    tau = fusion = None
    if first and second:
        longest = max(len(each) for each in dev.candidates.values())
        depths = [depth for depth in _DEPTHS if depth < longest] + [longest]
        fusion = tune_depth_and_fusion(first, second, dev.qrels, depths=depths, measure=select_by)
        fused = two_stage_scores(first, second, fusion.depth, fusion.weight)
        measures["two_stages"] = _means(_ranked(fused), dev.qrels, names)
        tau = agreement(first, second)
    return Validation(measures, tau, fusion, first, second)


def retriever_scores(dev: DevSet, model: Retriever, runner: "_Runner") -> Scores:
    """Raw scores, as an index gives them: inner products without the model's scale."""
    # by text as well: of synthetic queries' candidates, what is asked is cut out
    passages = {_reading(each): each for found in dev.candidates.values() for each in found}
    queries = runner.run(
        model.query.layer, model.query.tokenizer, model.query_tokens, list(dev.queries.values())
    )
    vectors = runner.run(
        model.passage.layer,
        model.passage.tokenizer,
        model.passage_tokens,
        list(passages.values()),
    )
    row = {key: number for number, key in enumerate(passages)}
    return {
        query_id: {
            each.id: float(vectors[row[_reading(each)]] @ query)
            for each in dev.candidates[query_id]
        }
        for query_id, query in zip(dev.queries, queries, strict=True)
    }


def _reading(passage: Passage) -> tuple[str, str, str]:
    return passage.id, passage.title, passage.text


def reranker_scores(dev: DevSet, model: Reranker, runner: "_Runner") -> Scores:
    pairs = [(query_id, each) for query_id in dev.queries for each in dev.candidates[query_id]]

    def tokenise(some: Sequence[tuple[str, Passage]]) -> list[Tokens]:
        return model.pair_tokens(
            [dev.queries[query_id] for query_id, _ in some], [passage for _, passage in some]
        )

    logits = runner.run(model.pair.layer, model.pair.tokenizer, tokenise, pairs)
    scores: Scores = {query_id: {} for query_id in dev.queries}
    for (query_id, passage), logit in zip(pairs, logits.tolist(), strict=True):
        scores[query_id][passage.id] = logit
    return scores


def two_stage_scores(first: Scores, second: Scores, depth: int, weight: float) -> Scores:
    """The fused scores of the retriever's first ``depth``; equal ones in its order."""
    fused: Scores = {}
    for query_id, scores in first.items():
        kept = sorted(scores, key=lambda each: -scores[each])[:depth]
        fused[query_id] = {each: second[query_id][each] + weight * scores[each] for each in kept}
    return fused


def _ranked(scores: Scores) -> Scores:
    """Ranks in place of scores, as the tuning has them: evaluation tools break ties by id."""
    return {
        query_id: {
            each: float(-rank)
            for rank, each in enumerate(sorted(found, key=lambda one: -found[one]), start=1)
        }
        for query_id, found in scores.items()
    }


class _Runner:
    """Runs a layer in evaluation mode over many texts, and leaves it as it was."""

    def __init__(self, tokens_per_chunk: int, precision: str) -> None:
        self._budget, self._precision = tokens_per_chunk, precision

    def run(
        self, layer: Any, tokenizer: Tokenizer, tokenise: Any, items: Sequence[Any]
    ) -> NDArray[np.float32]:
        outputs: list[Any] = [None] * len(items)
        was_training = layer.training
        layer.eval()
        with paddle.no_grad(), autocast(self._precision):
            for start in range(0, len(items), _TEXTS_AT_ONCE):
                tokens = tokenise(items[start : start + _TEXTS_AT_ONCE])
                for chunk in make_batches(
                    tokens, pad_id=tokenizer.pad_id, longest=tokenizer.length, budget=self._budget
                ):
                    inputs = [paddle.to_tensor(each) for each in chunk[1:]]
                    values = layer(*inputs).astype("float32").numpy()
                    for row, value in zip(chunk.rows, values, strict=True):
                        outputs[start + row] = value
        if was_training:
            layer.train()
        return np.array(outputs, dtype=np.float32)


def _refuse_not_finite(system: str, scores: Scores) -> None:
    for query_id, found in scores.items():
        for passage_id, score in found.items():
            if not math.isfinite(score):
                raise RocketRankError(
                    f"the {system} scores passage {passage_id} for dev query {query_id} as "
                    f"{score}: its weights are damaged, so start from others, or train with a "
                    "smaller learning rate or in fp32"
                )


def _means(
    scores: Scores, qrels: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> dict[str, float]:
    return {name: mean(each) for name, each in evaluate(scores, qrels, names).items()}


def agreement(first: Scores, second: Scores) -> float | None:
    """The mean over queries of Kendall's tau-b between the orders that two models give the same.

    None where no query has two different scores of each.
    """
    from scipy.stats import kendalltau

    taus = []
    for query_id, scores in first.items():
        one = list(scores.values())
        other = [second[query_id][each] for each in scores]
        if len(set(one)) > 1 and len(set(other)) > 1:
            taus.append(float(kendalltau(one, other).statistic))
    return float(np.mean(taus)) if taus else None
