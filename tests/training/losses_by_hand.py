"""The losses of a training step by loops over algorithm.md's formulas, in NumPy and float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rocketrank.backbone import paddle_module
from rocketrank.data.records import Passage
from rocketrank.tokenizing import Tokens
from rocketrank.training.examples import Example
from rocketrank.training.recipe import Stage
from rocketrank.training.step import Losses, Models

from .small_step import POSITIVES, Array

paddle = paddle_module()


def log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def encoded_alone(layer: Any, tokens: list[Tokens]) -> Array:
    """Every text by itself, unpadded, without dropout; float64."""
    was_training = layer.training
    layer.eval()
    with paddle.no_grad():
        rows = [
            layer(
                paddle.to_tensor([each.ids]),
                paddle.ones([1, len(each.ids)], dtype="int64"),
                paddle.to_tensor([each.type_ids]),
            ).numpy()[0]
            for each in tokens
        ]
    if was_training:
        layer.train()
    return np.array(rows, dtype=np.float64)


class ByHand:
    """The losses of algorithm.md over lists of examples, one list a batch, by loops."""

    def __init__(self, models: Models, stage: Stage) -> None:
        assert models.retriever and models.reranker
        self.retriever, self.reranker, self.stage = models.retriever, models.reranker, stage
        self.sums = {"supervised": 0.0, "distillation": 0.0, "contrastive": 0.0}
        self.lists = self.cells = self.anchored = 0
        self.ranking = 0.0

    def losses(self, batches: Sequence[Sequence[Example]]) -> Losses:
        width = max(len(each.candidates) for batch in batches for each in batch)
        for batch in batches:
            self.cells += len(batch) * width
            self._add(batch)
        by_element = self.stage.reduction == "element"
        means = {name: value / self.lists for name, value in self.sums.items()}
        if by_element:
            means["distillation"] = self.sums["distillation"] / self.cells
        means["partial_ranking"] = self.ranking / self.anchored if self.anchored else 0.0
        total = sum(getattr(self.stage, name) * value for name, value in means.items())
        return Losses(total=total, **means)

    def _add(self, batch: Sequence[Example]) -> None:
        texts = {(c.title, c.text) for each in batch for c in each.candidates}
        in_batch = sorted((title, str(text)) for title, text in texts)
        vectors = dict(
            zip(
                in_batch,
                encoded_alone(
                    self.retriever.passage.layer,
                    self.retriever.passage_tokens([Passage("", x, t) for t, x in in_batch]),
                ),
                strict=True,
            )
        )
        ids = {c.id: (c.title, str(c.text)) for each in batch for c in each.candidates}
        for each in batch:
            self.lists += 1
            tokens = self.retriever.query_tokens([each.query])
            query = encoded_alone(self.retriever.query.layer, tokens)[0]
            score = {
                text: self.retriever.settings.scale * query @ vectors[text] for text in ids.values()
            }
            own = [(c.title, str(c.text)) for c in each.candidates]
            passages = [Passage("", x, t) for t, x in own]
            pairs = self.reranker.pair_tokens([each.query] * len(own), passages)
            t = encoded_alone(self.reranker.pair.layer, pairs)
            positives = {ids[p] for p in POSITIVES[each.query_id] if p in ids}
            self._add_list(own, t, score, positives)

    def _add_list(
        self,
        own: list[tuple[str, str]],
        t: Array,
        score: dict[tuple[str, str], float],
        positives: set[tuple[str, str]],
    ) -> None:
        kept = [n for n, text in enumerate(own) if n == 0 or text not in {*own[:n], *positives}]
        s = np.array([score[own[n]] for n in kept])
        t = t[kept]
        log_s, log_t = log_softmax(s), log_softmax(t)
        self.sums["supervised"] -= log_t[0]
        p, r = (log_s, log_t) if self.stage.direction == "student_teacher" else (log_t, log_s)
        self.sums["distillation"] += float((np.exp(p) * (p - r)).sum())
        others = [value for text, value in score.items() if text not in positives]
        self.sums["contrastive"] -= log_softmax(np.array([score[own[0]], *others]))[0]
        easy = [v for text, v in score.items() if text not in positives and text not in own]
        hard = sorted(range(1, len(s)), key=lambda n: -s[n])[: self.stage.hardest]
        terms = []
        for j in hard:
            beaten = [s[k] for k in hard if t[k] < t[j]] + (easy if self.stage.easy else [])
            if beaten and t[j] >= t[0] - self.stage.margin:
                terms.append(-log_softmax(np.array([s[j], *beaten]))[0])
        if terms:
            self.anchored += 1
            self.ranking += float(np.mean(terms))
