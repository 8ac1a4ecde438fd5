"""Searching an index with the queries of a test set, and what each stage finds written as runs."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .data.chunks import document_of
from .data.records import Passage, Query, RunEntry
from .data.runs import column_lines
from .durable import explained_write, replacing
from .engine import SearchEngine
from .errors import UsageError
from .eval.fusion import fused_scores
from .search_options import FirstStage, Group
from .stages import Hit, Reranker, check_texts

STAGE_ONE = "stage one"
_QUERIES_AT_ONCE = 64


class StageRun(NamedTuple):
    """A run in TREC's format. ``depth`` is how many passages were re-ranked; 0 is stage one.

    ``milliseconds`` is what a query took, searched among many: encoding the query, the index, the
    texts and the re-ranker.
    """

    name: str
    depth: int
    path: Path
    milliseconds: float


class StageScores(NamedTuple):
    """Query id → passage id → score, in stage one's order; ``reranker`` is empty without one."""

    retriever: dict[str, dict[str, float]]
    reranker: dict[str, dict[str, float]]


def check_depths(depths: Sequence[int], k: int, *, reranks: bool) -> list[int]:
    """The depths in rising order, each once, stage one's 0 always among them.

    Raises UsageError for one below 0 or above ``k``, and for one above 0 without a re-ranker.
    """
    if k < 1:
        raise UsageError(f"k ({k}) must be at least 1")
    for depth in depths:
        if depth < 0 or depth > k:
            raise UsageError(
                f"a re-ranking depth is {depth}: expected 0 (stage one alone) to the {k} passages "
                "that stage one finds (--k)"
            )
        if depth and not reranks:
            raise UsageError(f"re-ranking the first {depth} needs --reranker, the model that reads")
    return sorted({0, *depths})


def write_stage_runs(
    engine: SearchEngine,
    queries: Sequence[Query],
    folder: Path,
    *,
    k: int,
    depths: Sequence[int],
    weight: float = 0.0,
    first_stage: FirstStage = "dense",
    group: Group | None = None,
    progress: bool = False,
) -> list[StageRun]:
    """Search every query ``k`` deep and write a run for each of ``depths`` into ``folder``.

    A pair is scored once, whatever the depths. A list's first ``depth`` passages are in the order
    of ``reranker + weight * retriever``; those below follow in stage one's order, with scores that
    go down from the lowest above them, so that recall far down is not cut off. With ``group``
    ``document`` the runs rank documents, each by its best chunk, out of the ``k`` chunks found.
    The files appear together when all queries are answered. Raises RocketRankError.
    """
    depths = check_depths(depths, k, reranks=engine.reranker is not None)
    first = engine.without_reranker()
    names = [stage_name(depth) for depth in depths]
    paths = [folder / f"{name.replace(' ', '-')}.trec" for name in names]
    seconds = np.zeros(len(depths))
    with explained_write(folder), ExitStack() as stack:
        files = [
            stack.enter_context(open(stack.enter_context(replacing(path)), "w", encoding="utf-8"))
            for path in paths
        ]
        answers = first.search_stream(
            [each.text for each in queries], k=k, first_stage=first_stage, progress=progress
        )
        for part, found in _timed_parts(queries, answers, seconds):
            scores: list[list[float]] = [[] for _ in part]
            for number, depth in enumerate(depths):
                if depth and engine.reranker is not None:
                    began = time.perf_counter()
                    _score_more(engine.reranker, part, found, scores, depth)
                    seconds[number:] += time.perf_counter() - began
                for query, hits, logits in zip(part, found, scores, strict=True):
                    ranked = _ordered(hits, logits, weight)
                    if group:
                        ranked = _documents(hits, ranked)
                    entries = _entries(query.id, ranked)
                    files[number].writelines(column_lines(entries, "trec", "rocketrank"))
    milliseconds = (seconds * 1000 / max(1, len(queries))).tolist()
    return list(map(StageRun, names, depths, paths, milliseconds))


def stage_scores(
    engine: SearchEngine,
    queries: Sequence[Query],
    *,
    depth: int,
    first_stage: FirstStage = "dense",
    progress: bool = False,
) -> StageScores:
    """Both stages' scores of each query's first ``depth`` passages; each pair is read once."""
    first = engine.without_reranker()
    found = StageScores({}, {})
    answers = first.search_stream(
        [each.text for each in queries], k=depth, first_stage=first_stage, progress=progress
    )
    for part, lists in _timed_parts(queries, answers, np.zeros(1)):
        logits: list[list[float]] = [[] for _ in part]
        if engine.reranker is not None:
            _score_more(engine.reranker, part, lists, logits, depth)
        for query, hits, own in zip(part, lists, logits, strict=True):
            ids = [hit.id for hit in hits]
            found.retriever[query.id] = {hit.id: hit.score for hit in hits}
            if engine.reranker is not None:
                found.reranker[query.id] = dict(zip(ids, own, strict=True))
    return found


def stage_name(depth: int) -> str:
    """What the run of this re-ranking depth is called; 0 is stage one."""
    return f"re-ranked {depth}" if depth else STAGE_ONE


def _timed_parts(
    queries: Sequence[Query], answers: Iterator[list[Hit]], seconds: NDArray[np.float64]
) -> Iterator[tuple[Sequence[Query], list[list[Hit]]]]:
    """Some queries with their hits at a time; what finding them took is added to ``seconds``."""
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = queries[start : start + _QUERIES_AT_ONCE]
        began = time.perf_counter()
        found = list(islice(answers, len(part)))
        seconds += time.perf_counter() - began
        yield part, found
    next(answers, None)  # its end, with which a progress bar is full


def _score_more(
    reranker: Reranker,
    queries: Sequence[Query],
    found: Sequence[Sequence[Hit]],
    scores: Sequence[list[float]],
    depth: int,
) -> None:
    """Score what of each list's first ``depth`` has no score yet."""
    check_texts(found)
    pairs = [
        (query.text, Passage(hit.id, hit.text, hit.title).full_text)
        for query, hits, own in zip(queries, found, scores, strict=True)
        for hit in hits[len(own) : depth]
    ]
    logits = iter(reranker.score(pairs).tolist() if pairs else [])
    for hits, own in zip(found, scores, strict=True):
        own += islice(logits, len(hits[len(own) : depth]))


def _documents(hits: Sequence[Hit], ranked: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Documents with the score of their best chunk, in the order of these."""
    documents = {hit.id: document_of(hit.id, hit.metadata) for hit in hits}
    best: dict[str, float] = {}
    for passage_id, score in ranked:
        best.setdefault(documents[passage_id], score)
    return list(best.items())


def _ordered(
    hits: Sequence[Hit], logits: Sequence[float], weight: float
) -> list[tuple[str, float]]:
    """Passages and scores, best first: the re-ranked ones, then the others in their own order."""
    if not logits:
        return [(hit.id, hit.score) for hit in hits]
    fused = fused_scores([hit.score for hit in hits[: len(logits)]], logits, weight)
    order = np.argsort(-fused, kind="stable").tolist()
    below = float(fused.min())
    reranked = [(hits[place].id, float(fused[place])) for place in order]
    rest = hits[len(logits) :]
    return reranked + [(hit.id, below - number) for number, hit in enumerate(rest, start=1)]


def _entries(query_id: str, ranked: Sequence[tuple[str, float]]) -> Iterator[RunEntry]:
    for rank, (passage_id, score) in enumerate(ranked, start=1):
        yield RunEntry(query_id, passage_id, rank, score)
