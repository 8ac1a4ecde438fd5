"""From a recipe and its data to a trained pair, its index and its figures: ``rq train --pipeline``.

The folder of a pipeline holds, in the order in which they are made:

============================================  ====================================================
``data.json``, ``recipe.toml``                what it was begun with
``train.*``, ``dev.*``                        the judged queries, the held-out ones apart
``synthesis.json``                            where queries are made: yields, and examples
``index-start``                               the corpus as the starting retriever encodes it
``dev.jsonl``                                 what it finds for the dev queries
``lists-warmup.jsonl``                        lists of its negatives, or the recipe's own lists
``retriever-warmup``, ``reranker-warmup``     the stages that train one model alone
``index-warm``, ``dev-joint.jsonl``           as above with the warmed-up retriever
``lists-joint.jsonl``                         lists that the warmed-up re-ranker has denoised
``joint``                                     the stage that trains both
``retriever``, ``reranker``, ``index``        the models at the end, and what they search
``runs``, ``results.json``                    rankings of dev and test queries, and their figures
============================================  ====================================================

A step that has left its result is not repeated, and one that was interrupted goes on where it was.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .keeper import METRICS
from .pipeline_begin import begun, check_recipe
from .pipeline_data import DEV, read_part, split
from .pipeline_plan import (
    denoiser,
    final_index,
    joint_inputs,
    joint_kinds,
    mines,
    mines_joint,
    needs_start_index,
    trained,
)
from .pipeline_results import RESULTS, Pair, write_results
from .pipeline_steps import (
    DEV_LISTS,
    DEV_LISTS_JOINT,
    INDEX,
    INDEX_START,
    INDEX_WARM,
    JOINT,
    LISTS_JOINT,
    LISTS_WARMUP,
    MANIFEST,
    RERANKER,
    RERANKER_WARMUP,
    RETRIEVER,
    RETRIEVER_WARMUP,
    Work,
    convert_candidates,
    index_corpus,
    keep_model,
    mine_lists,
    remove_needless,
    train_stage,
    write_dev_lists,
)
from .pipeline_synthetic import make_queries
from .recipe import Recipe, Stage, StageName
from .run import Outcome

_log = logging.getLogger(__name__)


class PipelineOutcome(NamedTuple):
    """``finished`` is False when a signal stopped ``stage``; the same call goes on with it.

    ``results`` is the content of ``results.json``.
    """

    finished: bool
    stage: str
    step: int
    steps: int
    results: dict[str, Any]


class _Step(NamedTuple):
    """What is done in ``words``; it is finished when ``result`` is there.

    One process of several does it, all of them ``together`` where it trains.
    """

    words: str
    result: Path
    do: Callable[[], Outcome | None]
    together: bool = False


def run_pipeline(
    recipe: Recipe,
    *,
    data: Path,
    output: Path,
    device: str = "cpu",
    threads: int | None = None,
    strict: bool = False,
    progress: bool = False,
) -> PipelineOutcome:
    """Run a recipe from its files to a trained pair with figures, or go on with it.

    All that can be known beforehand is checked before any work. Raises RocketRankError.
    """
    work = Work(
        recipe=recipe,
        data=data,
        output=output.absolute(),
        device=device,
        threads=threads,
        strict=strict,
        progress=progress,
    )
    check_recipe(work)
    rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    results = work.output / RESULTS
    with begun(work) if rank == 0 else nullcontext():
        if results.exists():
            _log.warning("%s holds a finished pipeline of this recipe; nothing was done", output)
        for step in () if results.exists() else _steps(work):
            outcome = _run(step, rank)
            if outcome is not None and not outcome.finished:
                stage = step.result.parent.name
                return PipelineOutcome(False, stage, outcome.step, outcome.steps, {})
        if rank == 0:
            remove_needless(work, final_index(work))
    return PipelineOutcome(True, "", 0, 0, orjson.loads(results.read_bytes()))


def _run(step: _Step, rank: int) -> Outcome | None:
    if step.result.exists():
        return None
    if rank and not step.together:
        while not step.result.exists():
            time.sleep(1)
        return None
    _log.info("%s", step.words)
    return step.do()


def _steps(work: Work) -> Iterator[_Step]:
    """The steps in their order. What a step depends on is asked when those before are finished."""
    if work.recipe.data.synthesize:
        words = "making queries from the corpus"
        read = partial(make_queries, work.recipe, work.data, work.output)
    else:
        words = "reading the queries and looking for their passages in the corpus"
        read = partial(split, work.recipe, work.data, work.output, mines=mines(work))
    yield _Step(words, work.output / f"{DEV}.qrels", read)
    has_dev = bool(read_part(work.output, DEV).queries)
    yield from _first_steps(work, has_dev)
    yield from _warmup_steps(work, has_dev)
    if work.recipe.joint.epochs:
        yield from _joint_steps(work, has_dev)
    yield from _final_steps(work)


def _first_steps(work: Work, has_dev: bool) -> Iterator[_Step]:
    """An index by the starting retriever, and the lists that are made with it."""
    recipe, output, start = work.recipe, work.output, work.recipe.models.retriever
    if needs_start_index(work):
        yield _index_step(work, INDEX_START, start)
    if has_dev:
        yield _Step(
            "listing what is found for the dev queries",
            output / DEV_LISTS,
            partial(write_dev_lists, work, DEV_LISTS, index=INDEX_START, retriever=start),
        )
    warms_up = bool(recipe.retriever.epochs or recipe.reranker.epochs)
    if recipe.data.candidates:
        if warms_up or not mines_joint(work):
            yield _Step(
                f"taking the lists of {recipe.data.candidates}",
                output / LISTS_WARMUP,
                partial(convert_candidates, work),
            )
    elif warms_up:
        yield _Step(
            "mining lists for the warm-up",
            output / LISTS_WARMUP,
            partial(
                mine_lists, work, LISTS_WARMUP, "undenoised", index=INDEX_START, retriever=start
            ),
        )


def _warmup_steps(work: Work, has_dev: bool) -> Iterator[_Step]:
    index = INDEX_START if needs_start_index(work) else None
    stages: dict[StageName, tuple[Stage, str, str]] = {
        "retriever": (work.recipe.retriever, RETRIEVER_WARMUP, "warming up the retriever"),
        "reranker": (work.recipe.reranker, RERANKER_WARMUP, "warming up the re-ranker"),
    }
    for name, (stage, folder, words) in stages.items():
        if stage.epochs:
            yield _Step(
                words,
                work.output / folder / METRICS,
                partial(
                    train_stage,
                    work,
                    name,
                    folder,
                    lists=LISTS_WARMUP,
                    dev=DEV_LISTS if has_dev else None,
                    index=index,
                    models=work.recipe.models,
                ),
                together=True,
            )


def _joint_steps(work: Work, has_dev: bool) -> Iterator[_Step]:
    """Lists by the warmed-up models, and the training of both on them."""
    given = joint_inputs(work, has_dev)
    retriever, index = given.retriever, given.index_name
    if index == INDEX_WARM:
        yield _index_step(work, INDEX_WARM, retriever)
    if given.dev == DEV_LISTS_JOINT and index is not None:
        yield _Step(
            "listing what the warmed-up retriever finds for the dev queries",
            work.output / given.dev,
            partial(write_dev_lists, work, given.dev, index=index, retriever=retriever),
        )
    if given.lists == LISTS_JOINT and index is not None:
        kinds = joint_kinds(work)
        reranker = denoiser(work) if kinds != "undenoised" else None
        yield _Step(
            f"mining lists for the joint stage ({kinds})",
            work.output / given.lists,
            partial(
                mine_lists,
                work,
                given.lists,
                kinds,
                index=index,
                retriever=retriever,
                reranker=reranker,
            ),
        )
    start = replace(work.recipe.models, retriever=str(retriever), reranker=str(given.reranker))
    yield _Step(
        "training both models together",
        work.output / JOINT / METRICS,
        partial(
            train_stage,
            work,
            "joint",
            JOINT,
            lists=given.lists,
            dev=given.dev,
            index=index,
            models=start,
        ),
        together=True,
    )


def _final_steps(work: Work) -> Iterator[_Step]:
    """The models at the end in their places, an index by the retriever, and their figures."""
    output, start = work.output, work.recipe.models.retriever
    retriever = trained(work, RETRIEVER, start)
    reranker = trained(work, RERANKER, denoiser(work))
    for name, model in ((RETRIEVER, retriever), (RERANKER, reranker)):
        if model is not None:
            yield _Step(
                f"keeping the {name}", output / name, partial(keep_model, work, name, model)
            )
    index = final_index(work)
    if index == INDEX:
        yield _index_step(work, INDEX, output / RETRIEVER)

    def measure() -> None:
        pair = Pair(
            start=work.retriever(start),
            start_index=output / INDEX_START if needs_start_index(work) else None,
            retriever=work.retriever(output / RETRIEVER),
            index=output / index,
            reranker=work.reranker(output / RERANKER) if reranker else None,
        )
        write_results(work, pair, reranker_folder=output / RERANKER)

    yield _Step("measuring both stages on held-out queries", output / RESULTS, measure)


def _index_step(work: Work, name: str, model: str | Path) -> _Step:
    """A committed index is one with a manifest, which a build writes last."""
    which = {INDEX_START: "starting", INDEX_WARM: "warmed-up", INDEX: "trained"}[name]
    return _Step(
        f"indexing the corpus with the {which} retriever",
        work.output / name / MANIFEST,
        partial(index_corpus, work, name, model),
    )
