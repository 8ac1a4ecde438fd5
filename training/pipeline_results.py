"""What a pipeline's models are worth: depth and fusion chosen on dev, then dev and test measured.

The systems are ``start`` (the retriever that training started from), ``retriever``, ``reranker``
(alone over what the retriever found, ``depth`` deep) and ``two_stages`` (fused, as ``rq search
--fuse auto`` gives it). Where a run is given in place of a retrieval, it is a system too, ``run``,
and all others order its passages anew; ``reranker`` then reads all of them.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..data.records import RunEntry
from ..data.runs import write_run
from ..durable import make_folder, write_durably
from ..errors import UsageError
from ..eval.fusion import DEPTHS, DepthAndFusion, tune_depth_and_fusion
from ..eval.measures import evaluate, mean
from ..eval.significance import bootstrap_interval, paired_differences, randomisation_test
from ..index import Index
from ..model_settings import folder_settings, save_settings
from ..reranker import CrossEncoder
from ..retriever import DualEncoder
from ..two_stage import (
    PassageTexts,
    Scores,
    best_first,
    reranked,
    reranker_scores,
    retrieve,
    retriever_scores,
)
from .passages import open_passages
from .pipeline_data import DEPTH, DEV, TEST, TRAIN, Judged, read_first, read_part, read_test
from .pipeline_steps import Work
from .pipeline_synthetic import as_read, read_made, replaced
from .recipe import recipe_fingerprint
from .synthesis import SyntheticQuery

_log = logging.getLogger(__name__)

MEASURES = ("nDCG@10", "RR@10", "R@10", "R@100")
RESULTS, RUNS = "results.json", "runs"
_COMPARED = (
    ("two_stages", "retriever"),
    ("retriever", "start"),
    ("reranker", "run"),
    ("two_stages", "run"),
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The models at the end, with the one at the start, and their indexes."""

    start: DualEncoder
    start_index: Path | None
    retriever: DualEncoder
    index: Path
    reranker: CrossEncoder | None


class _Scored(NamedTuple):
    """All scores of one part's queries; ``run`` and ``logits`` are empty where there are none."""

    run: Scores
    start: Scores
    retriever: Scores
    logits: Scores


class _Chosen(NamedTuple):
    """How the two stages work together; ``tuned`` has what was tried, None without dev queries."""

    depth: int
    weight: float
    tuned: DepthAndFusion | None


def write_results(work: Work, pair: Pair, *, reranker_folder: Path) -> None:
    """Choose depth and weight on dev, measure dev and test, write runs and ``results.json``.

    The weight is kept in the re-ranker's ``rocketrank.json``.
    """
    texts = open_passages([pair.index])
    parts: dict[str, Any] = {}
    seen = read_part(work.output, TRAIN).positives
    dev, made = _dev(work), read_made(work.output, DEV)
    scored = _score(work, pair, dev, texts, made) if dev.queries else None
    chosen = _choose(work, dev, scored) if pair.reranker else None
    if chosen is not None:
        settings = folder_settings(reranker_folder)
        save_settings(reranker_folder, replace(settings, fusion=chosen.weight))
    if scored is not None:
        parts[DEV] = _measured(work, DEV, dev, scored, chosen, seen)
    test = _test(work)
    if test is not None:
        found = _score(work, pair, test, texts, {})
        parts[TEST] = _measured(work, TEST, test, found, chosen, seen)
    content = {
        "recipe": work.recipe.name,
        "recipe_fingerprint": recipe_fingerprint(work.recipe),
        "models": _models(pair),
        "rerank_depth": chosen.depth if chosen else None,
        "fusion": chosen.weight if chosen else None,
        "choice": _tried(chosen.tuned) if chosen and chosen.tuned else None,
        **parts,
    }
    written = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_durably(work.output / RESULTS, [written])


def _dev(work: Work) -> Judged:
    dev, run = read_part(work.output, DEV), work.file("dev_run")
    return dev._replace(run=read_first(run, dev.queries, DEPTH)) if run else dev


def _test(work: Work) -> Judged | None:
    data = work.recipe.data
    if not data.test_queries:
        return None
    test, run = read_test(data, work.data), work.file("test_run")
    return test._replace(run=read_first(run, test.queries, DEPTH)) if run else test


def _score(
    work: Work,
    pair: Pair,
    part: Judged,
    texts: PassageTexts,
    made: dict[str, SyntheticQuery],
) -> _Scored:
    trained = pair.start.fingerprint != pair.retriever.fingerprint
    if part.run is not None:
        retriever = retriever_scores(part.run, pair.retriever, part.queries, texts)
        start = retriever
        if trained:
            start = retriever_scores(part.run, pair.start, part.queries, texts)
    else:

        def found(folder: Path, encoder: DualEncoder) -> Scores:
            with Index.open(folder, threads=work.threads) as index:
                scores = retrieve(index, encoder, part.queries, DEPTH + bool(made))
            return replaced(scores, made, encoder, texts, DEPTH) if made else scores

        retriever = start = found(pair.index, pair.retriever)
        if trained and pair.start_index is not None:
            start = found(pair.start_index, pair.start)
    logits: Scores = {}
    if pair.reranker is not None:
        logits = reranker_scores(
            retriever,
            pair.reranker,
            part.queries,
            texts,
            as_read=lambda query_id, passage: as_read(made.get(query_id), passage),
            progress=work.progress,
        )
    return _Scored(part.run or {}, start, retriever, logits)


def _choose(work: Work, dev: Judged, scored: _Scored | None) -> _Chosen:
    recipe = work.recipe
    if scored is None:
        _log.warning(
            "there are no dev queries to choose depth and fusion on: the re-ranker alone orders "
            "the first %d (data.dev_depth)",
            recipe.data.dev_depth,
        )
        return _Chosen(recipe.data.dev_depth, 0.0, None)
    longest = max([1, *(len(each) for each in scored.retriever.values())])
    depths = [depth for depth in DEPTHS if depth < longest] + [longest]
    stage = recipe.joint if recipe.joint.epochs else recipe.reranker
    tuned = tune_depth_and_fusion(
        scored.retriever, scored.logits, dev.qrels, depths=depths, measure=stage.select_by
    )
    if tuned.value <= tuned.retriever_only:
        _log.warning(
            "re-ranking did not help on the dev queries: %s is %.4f with it and %.4f without",
            stage.select_by,
            tuned.value,
            tuned.retriever_only,
        )
    return _Chosen(tuned.depth, tuned.weight, tuned)


def _systems(scored: _Scored, chosen: _Chosen | None) -> dict[str, Scores]:
    """What each system ranks, with its own scores."""
    systems = {"run": scored.run} if scored.run else {}
    systems |= {"start": scored.start, "retriever": scored.retriever}
    if chosen is not None:
        first, logits = scored.retriever, scored.logits
        depth = None if scored.run else chosen.depth
        systems["reranker"] = reranked(first, logits, depth=depth)
        systems["two_stages"] = reranked(first, logits, depth=chosen.depth, weight=chosen.weight)
    return systems


def _measured(
    work: Work,
    part: str,
    judged: Judged,
    scored: _Scored,
    chosen: _Chosen | None,
    seen: Collection[str],
) -> dict[str, Any]:
    systems = _systems(scored, chosen)
    make_folder(work.output / RUNS)
    lists = {}
    for system, scores in systems.items():
        lists[system] = {query_id: best_first(own) for query_id, own in scores.items()}
        _write_run(work.output / RUNS, f"{part}.{system}", scores)
    values = {
        system: evaluate(_by_rank(own), judged.qrels, MEASURES) for system, own in lists.items()
    }
    return {
        "queries": len(judged.qrels),
        "systems": {
            system: {measure: _estimate(own) for measure, own in by_measure.items()}
            for system, by_measure in values.items()
        },
        "differences": {
            f"{one} - {other}": {
                measure: _difference(values[one][measure], values[other][measure])
                for measure in MEASURES
            }
            for one, other in _COMPARED
            if {one, other} <= values.keys()
        },
        "positives": {
            "seen": _of_positives(lists, judged.qrels, seen, among=True),
            "unseen": _of_positives(lists, judged.qrels, seen, among=False),
        },
    }


def _by_rank(lists: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Ranks in place of scores: evaluation tools break ties by id, and in float32."""
    return {
        query_id: {each: float(-rank) for rank, each in enumerate(ids, start=1)}
        for query_id, ids in lists.items()
    }


def _estimate(values: Mapping[str, float]) -> dict[str, float]:
    """The mean with its interval; a single query has none."""
    if len(values) < 2:
        return {"mean": mean(values)}
    low, high = bootstrap_interval(values)
    return {"mean": mean(values), "low": low, "high": high}


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    if len(one) < 2:
        return {"mean": mean(one) - mean(other)}
    estimate = _estimate(paired_differences(one, other))
    return {**estimate, "p_value": randomisation_test(one, other).p_value}


def _of_positives(
    lists: Mapping[str, Mapping[str, list[str]]],
    qrels: Mapping[str, Mapping[str, int]],
    seen: Collection[str],
    *,
    among: bool,
) -> dict[str, Any]:
    """nDCG@10 as if only the positives among ``seen`` (or only the others) were in the collection.

    The positives left out are taken out of the lists too, where they would stand as errors.
    Queries that have none of these positives are left out. A passage may be a positive of several.
    """
    kept: dict[str, dict[str, int]] = {}
    left_out: dict[str, set[str]] = {}
    for query_id, grades in qrels.items():
        positives = {each for each, grade in grades.items() if grade > 0}
        own = {each for each in positives if (each in seen) == among}
        if own:
            left_out[query_id] = positives - own
            kept[query_id] = {each: grades[each] for each in own}
    figures = {}
    for system, ranked in lists.items() if kept else ():
        rest = {
            query_id: [each for each in ranked.get(query_id, ()) if each not in left_out[query_id]]
            for query_id in kept
        }
        figures[system] = mean(evaluate(_by_rank(rest), kept, ["nDCG@10"])["nDCG@10"])
    return {
        "positives": sum(len(own) for own in kept.values()),
        "passages": len({each for own in kept.values() for each in own}),
        "queries": len(kept),
        "nDCG@10": figures,
    }


def _write_run(folder: Path, name: str, scores: Scores) -> None:
    entries = [
        RunEntry(query_id, each, rank, own[each])
        for query_id, own in scores.items()
        for rank, each in enumerate(best_first(own), start=1)
    ]
    try:
        write_run(folder / f"{name}.trec", entries, tag=f"rocketrank-{name}")
    except UsageError:  # ids with blanks, which TREC's columns cannot hold
        write_run(folder / f"{name}.jsonl", entries, format="jsonl")


def _tried(tuned: DepthAndFusion) -> dict[str, Any]:
    return {
        "value": tuned.value,
        "retriever_only": tuned.retriever_only,
        "by_depth": {
            str(depth): {"weight": choice.weight, "value": choice.value}
            for depth, choice in tuned.by_depth.items()
        },
    }


def _models(pair: Pair) -> dict[str, Any]:
    models = {"start": pair.start, "retriever": pair.retriever, "reranker": pair.reranker}
    return {name: each.fingerprint for name, each in models.items() if each is not None}
