"""The gradient of one step: forward passes in chunks, losses, backward passes.

Scores decouple the models from the loss. With a gradient cache (Gao et al., 2021, here over both
models at once) every chunk runs forward without a graph, the loss gives its gradient with respect
to vectors and logits, and every chunk runs again with a graph, under the noise of its first time,
to take its share back. Memory is then that of one chunk, whatever the length of the lists.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..backbone import paddle_module
from ..model_config import hidden_width
from ..runtime import Batch as Chunk
from . import losses
from .batches import Batch
from .device import autocast
from .layers import Noise
from .models import Reranker, Retriever
from .processes import Processes
from .recipe import Stage

paddle = paddle_module()


class Models(NamedTuple):
    """What a stage runs: either may be absent. A frozen re-ranker runs without a gradient."""

    retriever: Retriever | None
    reranker: Reranker | None
    noise: Noise
    frozen: bool = False


class Outputs(NamedTuple):
    """Vectors (queries, width) and (passages, width), logits (pairs,); None of an absent model."""

    queries: Any
    passages: Any
    logits: Any


class Losses(NamedTuple):
    """The parts of a step's loss before their weights, and the whole."""

    total: float
    supervised: float
    distillation: float
    contrastive: float
    partial_ranking: float


class Sizes(NamedTuple):
    """How many lists a step has, and how many places of candidates, padding included."""

    lists: int
    cells: int

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> "Sizes":
        layouts = [batch.layout for batch in batches]
        lists = sum(len(layout.examples) for layout in layouts)
        # N of the step: the same whether its lists lie in one batch or in several
        return cls(lists, lists * max(layout.real.shape[1] for layout in layouts))


def accumulate_gradients(
    models: Models,
    batches: Sequence[Batch],
    stage: Stage,
    *,
    precision: str = "fp32",
    scale: float = 1.0,
    seed: Sequence[int] = (0,),
    processes: Processes | None = None,
) -> Losses:
    """Add the gradient of ``scale`` times the loss over ``batches`` to the parameters' own.

    Every mean is over all ``batches`` and processes. Without ``stage.gradient_cache`` the chunks of
    a batch keep their graphs until its backward pass, which comes before the next batch; with
    partial ranking those of all batches do, because its mean needs all their anchors.
    """
    processes = processes or Processes()
    graph = not stage.gradient_cache
    runs = [
        _Run(models, batch, precision, (*seed, processes.rank, number))
        for number, batch in enumerate(batches)
    ]
    sizes = Sizes.of(batches)
    apart = graph and not stage.partial_ranking
    parts = Losses(*[0.0] * len(Losses._fields))
    for some in [slice(n, n + 1) for n in range(len(runs))] if apart else [slice(None)]:
        firsts = [run.forward(graph=graph) for run in runs[some]]
        leaves = firsts if graph else [_leaves(outputs) for outputs in firsts]
        loss, found = step_loss(leaves, batches[some], models, stage, processes, sizes)
        (loss * scale).backward()
        if not graph:
            for run, leaf in zip(runs[some], leaves, strict=True):
                run.backward(leaf)
        parts = Losses(*map(sum, zip(parts, found, strict=True)))
    return parts


class _Run:
    """One batch through the models, the same way every time."""

    def __init__(self, models: Models, batch: Batch, precision: str, seed: tuple[int, ...]) -> None:
        self._noise, self._precision, self._seed = models.noise, precision, seed
        self._parts: list[tuple[Callable[..., Any], list[Chunk]] | None] = [None, None, None]
        self._frozen = models.frozen
        if models.retriever:
            self._parts[0] = (models.retriever.query.layer, batch.queries)
            self._parts[1] = (models.retriever.passage.layer, batch.passages)
        if models.reranker:
            self._parts[2] = (models.reranker.pair.layer, batch.pairs)
        width = hidden_width(models.retriever.query.config) if models.retriever else 0
        self._no_rows = ([0, width], [0, width], [0])

    def forward(self, *, graph: bool) -> Outputs:
        """All outputs in the order of the batch; with their graph if asked for."""
        outputs: list[Any] = []
        for which, part in enumerate(self._parts):
            if part is None:
                outputs.append(None)
                continue
            if not part[1]:  # other processes encode all there is, and a backward pass needs a leaf
                nothing = paddle.zeros(self._no_rows[which])
                nothing.stop_gradient = False
                outputs.append(nothing)
                continue
            kept = graph and not self._is_frozen(which)
            with nullcontext() if kept else paddle.no_grad():
                values = [self._call(which, number) for number in range(len(part[1]))]
                rows = np.concatenate([chunk.rows for chunk in part[1]])
                order = paddle.to_tensor(np.argsort(rows, kind="stable"))
                outputs.append(paddle.concat(values).index_select(order))
        return Outputs(*outputs)

    def backward(self, leaves: Outputs) -> None:
        """Run every chunk again and hand it the gradient of its rows."""
        for which, (part, leaf) in enumerate(zip(self._parts, leaves, strict=True)):
            if part is None or leaf.grad is None:
                continue
            for number, chunk in enumerate(part[1]):
                rows = paddle.to_tensor(chunk.rows)
                self._call(which, number).backward(leaf.grad.index_select(rows))

    def _is_frozen(self, which: int) -> bool:
        return which == 2 and self._frozen

    def _call(self, which: int, number: int) -> Any:
        part = self._parts[which]
        if part is None:
            raise ValueError("a model that the stage does not run")
        layer, chunks = part
        self._noise.start((*self._seed, which, number))
        inputs = [paddle.to_tensor(each) for each in chunks[number][1:]]
        with autocast(self._precision):
            return layer(*inputs).astype("float32")


def _leaves(outputs: Outputs) -> Outputs:
    """The outputs as the ends of a graph of their own, which keep their gradient."""
    leaves = [None if each is None else each.detach() for each in outputs]
    for leaf in leaves:
        if leaf is not None:
            leaf.stop_gradient = False
    return Outputs(*leaves)


def step_loss(
    outputs: Sequence[Outputs],
    batches: Sequence[Batch],
    models: Models,
    stage: Stage,
    processes: Processes,
    sizes: Sizes,
) -> tuple[Any, Losses]:
    """L_sup + w_kl L_KL + w_con L_con + w_cprd L_CPRD of some batches of a step.

    ``sizes`` are those of the whole step, over which the means are.
    """
    lists, cells = sizes
    sums = {name: paddle.zeros([]) for name in Losses._fields[1:]}
    anchors = 0
    for s, t, contrast, batch in _scores(outputs, batches, models, processes):
        real = paddle.to_tensor(batch.layout.counted)
        if stage.supervised:
            sums["supervised"] += losses.supervised(t, real, count=lists)
        if stage.distillation:
            sums["distillation"] += losses.distillation(
                s,
                t,
                real,
                direction=stage.direction,
                teacher_gradient=stage.teacher_gradient and not models.frozen,
                count=lists if stage.reduction == "query" else cells,
            )
        if stage.contrastive:
            sums["contrastive"] += losses.contrastive(
                contrast,
                paddle.to_tensor(~batch.layout.known),
                paddle.to_tensor(batch.layout.candidates[:, 0]),
                count=lists,
            )
        if stage.partial_ranking:
            loss, found = losses.partial_ranking(
                s,
                t,
                real,
                hardest=stage.hardest,
                margin=stage.margin,
                easy=contrast if stage.easy else None,
                easy_real=paddle.to_tensor(_easy(batch)) if stage.easy else None,
            )
            sums["partial_ranking"] += loss
            anchors += found
    sums["partial_ranking"] = sums["partial_ranking"] / max(1, anchors)
    total = sum(getattr(stage, name) * each for name, each in sums.items())
    return total, Losses(float(total), *(float(each) for each in sums.values()))


def _scores(
    outputs: Sequence[Outputs],
    batches: Sequence[Batch],
    models: Models,
    processes: Processes,
) -> Iterator[tuple[Any, Any, Any, Batch]]:
    """For each batch s (B, N), t (B, N) and the scores of all its passages (B, P)."""
    for (queries, passages, logits), batch in zip(outputs, batches, strict=True):
        layout = batch.layout
        s = t = contrast = None
        if models.retriever:
            queries = processes.gather(queries, layout.list_owner)
            passages = processes.gather(passages, layout.passage_owner)
            scale = models.retriever.settings.scale
            contrast = scale * paddle.matmul(queries, passages, transpose_y=True)
            s = contrast.take_along_axis(paddle.to_tensor(layout.candidates), axis=1)
        if models.reranker:
            owners = np.repeat(layout.list_owner, layout.real.sum(axis=1))
            logits = processes.gather(logits, owners)
            cells = paddle.to_tensor(np.flatnonzero(layout.real))
            flat = paddle.zeros([layout.real.size]).scatter(cells, logits)
            t = flat.reshape(layout.real.shape)
        yield s, t, contrast, batch


def _easy(batch: Batch) -> Any:
    """(B, P): passages of other lists that are no positive of the query and not in its own list."""
    layout = batch.layout
    easy = ~layout.known
    rows = np.repeat(np.arange(len(layout.examples)), layout.real.sum(axis=1))
    easy[rows, layout.candidates[layout.real]] = False
    return easy
