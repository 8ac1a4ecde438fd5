"""What a search may be asked for, and what it is refused for."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Literal, TypedDict, get_args

from .errors import UsageError

DEFAULT_RERANK_DEPTH = 100

FirstStage = Literal["dense", "bm25", "hybrid"]
FIRST_STAGES: tuple[FirstStage, ...] = get_args(FirstStage)
HYBRID_WEIGHT = 0.6
"""Of the scores by vectors in a hybrid first stage. With it, it was nowhere below vectors alone on
SciFact, a sample of MS MARCO and the queries of TREC DL 2019."""
# What hits are: passages, or the documents that passages are chunks of.
Group = Literal["document"]
# A weight of the retriever's score beside the re-ranker's, or the one kept with the re-ranker.
Fuse = float | Literal["auto"]


class SearchOptions(TypedDict, total=False):
    """What :meth:`SearchEngine.search` takes beside the query, and says of each."""

    k: int
    rerank_depth: int | None
    fuse: Fuse | None
    where: str | None
    first_stage: FirstStage
    group: Group | None
    rerank_ms: float | None
    min_score: float | None
    min_probability: float | None


def check_search_options(k: int, rerank_depth: int | None) -> tuple[int, int]:
    """``(k, rerank_depth)`` with the default depth filled in: the larger of 100 and k.

    Raises UsageError when k is below 1 or a given depth is below k.
    """
    for name, value in (("k", k), ("rerank_depth", rerank_depth)):
        if value is not None and not isinstance(value, Integral):
            raise UsageError(f"{name} ({value!r}) must be a whole number")
    if k < 1:
        raise UsageError(f"k ({k}) must be at least 1")
    if rerank_depth is None:
        return k, max(DEFAULT_RERANK_DEPTH, k)
    if rerank_depth < k:
        raise UsageError(f"rerank_depth ({rerank_depth}) must be at least k ({k})")
    return k, rerank_depth


def check_hybrid_weight(weight: float) -> None:
    """Raises UsageError unless ``weight`` is a number from 0 to 1."""
    if isinstance(weight, Real) and not isinstance(weight, bool) and 0 <= weight <= 1:
        return
    raise UsageError(
        f"hybrid_weight ({weight}) must be a number from 0 (words alone order) to 1 (vectors alone)"
    )


def check_group(group: Group | None) -> None:
    """Raises UsageError unless ``group`` is None or "document"."""
    if group not in (None, *get_args(Group)):
        raise UsageError(f"group ({group!r}) must be document, or left out")


def check_fuse(fuse: Fuse | None) -> None:
    """Raises UsageError unless ``fuse`` is None, "auto" or a finite number of at least 0."""
    if fuse is None or (isinstance(fuse, str) and fuse == "auto"):
        return
    if isinstance(fuse, Real) and not isinstance(fuse, bool) and 0 <= fuse < math.inf:
        return
    raise UsageError(f'fuse ({fuse}) must be "auto" or a finite number of at least 0')


def check_rerank_ms(rerank_ms: float | None) -> None:
    """Raises UsageError unless ``rerank_ms`` is None or a number of milliseconds above 0."""
    if rerank_ms is None:
        return
    if isinstance(rerank_ms, Real) and not isinstance(rerank_ms, bool) and 0 < rerank_ms < math.inf:
        return
    raise UsageError(f"rerank_ms ({rerank_ms}) must be a number of milliseconds above 0")


def check_least(min_score: float | None, min_probability: float | None) -> None:
    """Raises UsageError unless each is None or a number, a probability from 0 to 1."""
    for name, value, lowest, highest, expected in (
        ("min_score", min_score, -math.inf, math.inf, "a finite number"),
        ("min_probability", min_probability, 0, 1, "a number from 0 to 1"),
    ):
        if value is None:
            continue
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not lowest <= value <= highest:
            raise UsageError(f"{name} ({value}) must be {expected}")


def check_first_stage(first_stage: str, fuse: Fuse | None, *, has_words: bool) -> None:
    """Raises UsageError unless an index that ``has_words`` or not can be asked for it."""
    if first_stage not in FIRST_STAGES:
        raise UsageError(f"first_stage ({first_stage}) must be one of {', '.join(FIRST_STAGES)}")
    if first_stage == "dense":
        return
    if not has_words:
        raise UsageError(
            f"first_stage ({first_stage}) needs an index with BM25, and this one has none: build "
            "it with `rq index --bm25`, or add that with `rq compact --bm25`"
        )
    if fuse == "auto":
        raise UsageError(
            f"fuse is auto, which is a weight for the retriever's scores, but first_stage is "
            f"{first_stage}: give a number, or leave fuse out"
        )


def check_queries(queries: Sequence[str]) -> None:
    if isinstance(queries, str):
        raise UsageError("expected a list of queries, found one query: call search, or [query]")
    for number, query in enumerate(queries, start=1):
        which = f"query {number} of {len(queries)}" if len(queries) > 1 else "the query"
        if not isinstance(query, str):
            raise UsageError(f"{which} is of type {type(query).__name__}: expected a string")
        if not query.strip():
            raise UsageError(f"{which} is empty: write a question")
        if not query.isascii() and any("\ud800" <= letter <= "\udfff" for letter in query):
            raise UsageError(f"{which} holds bytes that are no UTF-8: write it in UTF-8")
