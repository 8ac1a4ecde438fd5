"""What of all its steps a pipeline takes, and which lists, indexes and models each works with."""

from pathlib import Path
from typing import NamedTuple

from ..models import open_model
from .mining_options import ListKinds
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
)


class JointInputs(NamedTuple):
    """What the joint stage starts from: names in the output, and models."""

    retriever: str | Path
    reranker: str | Path
    lists: str
    dev: str | None
    index_name: str | None


def joint_inputs(work: Work, has_dev: bool) -> JointInputs:
    """A retriever that was warmed up finds other passages, so index and lists are made anew."""
    recipe, warmed = work.recipe, work.recipe.retriever.epochs > 0
    finds_dev = has_dev and not recipe.data.dev_run
    index = INDEX_START if needs_start_index(work) else None
    if warmed and (mines_joint(work) or finds_dev):
        index = INDEX_WARM
    dev = DEV_LISTS_JOINT if warmed and finds_dev else DEV_LISTS
    start = recipe.models.retriever
    return JointInputs(
        retriever=work.output / RETRIEVER_WARMUP / RETRIEVER if warmed else start,
        reranker=denoiser(work) or recipe.models.reranker or start,
        lists=LISTS_JOINT if mines_joint(work) else LISTS_WARMUP,
        dev=dev if has_dev else None,
        index_name=index,
    )


def trained(work: Work, name: str, start: str | Path | None) -> str | Path | None:
    """Where the retriever or the re-ranker is at the end: of the last stage that trained it."""
    warmup = RETRIEVER_WARMUP if name == RETRIEVER else RERANKER_WARMUP
    for folder in (work.output / JOINT / name, work.output / warmup / name):
        if folder.is_dir():
            return folder
    return start


def final_index(work: Work) -> str:
    """The index of the retriever at the end, which may have been made on the way."""
    if (work.output / JOINT / RETRIEVER).is_dir():
        return INDEX
    made = INDEX_WARM if work.recipe.retriever.epochs else INDEX_START
    return made if (work.output / made / MANIFEST).exists() else INDEX


def denoiser(work: Work) -> str | Path | None:
    """The re-ranker before the joint stage, where there is a trained one."""
    if work.recipe.reranker.epochs:
        return work.output / RERANKER_WARMUP / RERANKER
    named = work.recipe.models.reranker
    return named if named and open_model(named).settings.role == "cross-encoder" else None


def joint_kinds(work: Work) -> ListKinds:
    return work.recipe.mining.lists if denoiser(work) else "undenoised"


def mines_joint(work: Work) -> bool:
    """Lists that are given serve the joint stage as they are where nothing is to be denoised."""
    given = bool(work.recipe.data.candidates) and joint_kinds(work) == "undenoised"
    return work.recipe.joint.epochs > 0 and not given


def mines(work: Work) -> bool:
    return mines_joint(work) or not work.recipe.data.candidates


def needs_start_index(work: Work) -> bool:
    """Lists, dev lists or figures come from it, unless candidates and runs stand for all of it."""
    data, warms_up = work.recipe.data, work.recipe.retriever.epochs > 0
    finds_dev = bool(data.dev_queries or data.dev_share) and not data.dev_run
    finds_test = bool(data.test_queries) and not data.test_run
    mines = not data.candidates or (mines_joint(work) and not warms_up)
    return mines or finds_dev or finds_test
