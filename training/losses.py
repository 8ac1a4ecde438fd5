"""The losses of the joint training, as functions of score matrices.

Everywhere: B queries of N candidates; *student* = the retriever's scores, *teacher* = the
re-ranker's logits, *real* is False on padding, column 0 is a query's positive. Whatever type the
scores have, the mathematics is float32. Padding may hold any value and its gradient is exactly 0;
a list of padding alone adds nothing.

A loss is a sum over queries divided by ``count``. Means are over ranks, accumulation steps and
chunks together, so a caller who sees a part of the queries passes the number of all of them; None
is the B of this call.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

from ..backbone import paddle_module

paddle = paddle_module()

# The score of what a softmax must not see: finite, because inf - inf is nan.
FILL = -1e30

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _outside_amp(loss: Callable[_P, _R]) -> Callable[_P, _R]:
    # inside auto_cast at level O2 the scores would become float16 again, and FILL -inf
    @wraps(loss)
    def in_float32(*args: _P.args, **options: _P.kwargs) -> _R:
        with paddle.amp.auto_cast(enable=False):
            return loss(*args, **options)

    return in_float32


@_outside_amp
def supervised(teacher: Any, real: Any, *, count: float | None = None) -> Any:
    """Listwise cross-entropy of the re-ranker: -log T[positive] (RocketQAv2, eq. 5).

    ``teacher`` (B, N), ``real`` (B, N) bool → scalar.
    """
    return _per_query(-_log_softmax(teacher, real)[:, 0], count)


@_outside_amp
def distillation(
    student: Any,
    teacher: Any,
    real: Any,
    *,
    direction: Literal["student_teacher", "teacher_student"] = "student_teacher",
    teacher_gradient: bool = True,
    count: float | None = None,
) -> Any:
    """Dynamic listwise distillation: KL(S‖T) (RocketQAv2, eq. 4), or KL(T‖S), its released code.

    ``student``, ``teacher`` (B, N), ``real`` (B, N) bool → scalar. The released code also has
    ``teacher_gradient=False`` and ``count`` = B·N.
    """
    log_s = _log_softmax(student, real)
    log_t = _log_softmax(teacher if teacher_gradient else teacher.detach(), real)
    log_p, log_r = {"student_teacher": (log_s, log_t), "teacher_student": (log_t, log_s)}[direction]
    # written out, because F.kl_div never gives a gradient to its label; 0 on padding as log_p is
    return _per_query((log_p.exp() * (log_p - log_r)).sum(axis=-1), count)


@_outside_amp
def contrastive(scores: Any, allowed: Any, positive: Any, *, count: float | None = None) -> Any:
    """The retriever's cross-entropy of a query's positive among the passages of a batch.

    ``scores`` (B, M), ``allowed`` (B, M) bool: False on padding and on passages that must not
    count as the query's negatives; ``positive`` (B,) int64: the positive's column, which is
    allowed whatever ``allowed`` says. → scalar.
    """
    is_positive = positive.unsqueeze(-1) == paddle.arange(scores.shape[-1])
    log_p = _log_softmax(scores, paddle.logical_or(allowed, is_positive))
    return _per_query(-paddle.where(is_positive, log_p, 0.0).sum(axis=-1), count)


@_outside_amp
def partial_ranking(
    student: Any,
    teacher: Any,
    real: Any,
    *,
    hardest: int,
    margin: float,
    duplicate: Any = None,
    easy: Any = None,
    easy_real: Any = None,
) -> tuple[Any, int]:
    """Contrastive partial ranking distillation (after CPRD, arXiv 2407.07479).

    H_q    = the ``hardest`` negatives by s, without duplicates of one passage
    anchor = j in H_q with t_j ≥ t_positive - ``margin`` and something to beat
    D_j    = logsumexp of {s_k : k in H_q, t_k < t_j}, s_j and easy_q
    L      = sum over queries of the mean over their anchors of D_j - s_j

    ``student``, ``teacher`` (B, N), ``real`` (B, N) bool; ``duplicate`` (B, N) bool: True where a
    candidate repeats an earlier passage of its list; ``easy`` (B, M): scores of easy negatives,
    ``easy_real`` (B, M) bool: False on its padding. The teacher gets no gradient.
    → (L, the number of queries that have an anchor), for the caller to divide L by the number of
    all such queries. Without an anchor L is 0, with a graph that gives gradients of 0.
    """
    s = paddle.where(real, student.astype("float32"), 0.0)
    t = paddle.where(real, teacher.detach().astype("float32"), 0.0)
    hard = _hardest_negatives(s.detach(), real, duplicate, hardest)
    # only differences of s count, and float32 keeps them better near 0 than on a large offset
    centre = s[:, :1].detach()
    s = s - centre
    # [b, j, k]: k is a hard negative that the teacher ranks strictly below j
    below = paddle.logical_and(t.unsqueeze(1) < t.unsqueeze(2), hard.unsqueeze(1))
    itself = paddle.eye(s.shape[-1], dtype="int32").astype("bool")
    d = paddle.where(paddle.logical_or(below, itself), s.unsqueeze(1), FILL).logsumexp(axis=-1)
    contested = below.any(axis=-1)
    if easy is not None and easy.shape[-1] > 0:
        if easy_real is None:
            easy_real = paddle.ones(easy.shape, dtype="bool")
        # all anchors of a query beat the same easy negatives: one logsumexp serves them all
        easy_d = paddle.where(easy_real, easy.astype("float32") - centre, FILL).logsumexp(axis=-1)
        d = paddle.stack([d, easy_d.unsqueeze(-1).expand(d.shape)], axis=-1).logsumexp(axis=-1)
        contested = paddle.logical_or(contested, easy_real.any(axis=-1, keepdim=True))
    anchor = hard & contested & (t >= t[:, :1] - margin)
    anchors_of_query = anchor.astype("float32").sum(axis=-1)
    sum_of_query = paddle.where(anchor, d - s, 0.0).sum(axis=-1)
    loss = (sum_of_query / anchors_of_query.clip(min=1.0)).sum()
    return loss, int((anchors_of_query > 0).sum())


def _hardest_negatives(s: Any, real: Any, duplicate: Any, hardest: int) -> Any:
    """(B, N) bool: the ``hardest`` highest scores among negatives; of equal ones the earlier."""
    column = paddle.arange(s.shape[-1])
    negative = paddle.logical_and(real, column > 0)
    if duplicate is not None:
        negative = paddle.logical_and(negative, paddle.logical_not(duplicate))
    # [b, j, k]: k comes before j in the student's order
    equal_and_earlier = paddle.logical_and(
        s.unsqueeze(1) == s.unsqueeze(2), column.unsqueeze(0) < column.unsqueeze(1)
    )
    before = paddle.logical_or(s.unsqueeze(1) > s.unsqueeze(2), equal_and_earlier)
    rank = paddle.logical_and(before, negative.unsqueeze(1)).astype("int32").sum(axis=-1)
    return paddle.logical_and(negative, rank < hardest)


def _log_softmax(scores: Any, real: Any) -> Any:
    """(B, N) → (B, N) float32: the log-softmax over the real columns, 0 on the others."""
    filled = paddle.where(real, scores.astype("float32"), FILL)
    return paddle.where(real, paddle.nn.functional.log_softmax(filled, axis=-1), 0.0)


def _per_query(values: Any, count: float | None) -> Any:
    """(B,) → the sum divided by ``count``, or by B."""
    return values.sum() / (values.shape[0] if count is None else count)
