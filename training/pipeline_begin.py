"""How a pipeline begins or goes on: checks before any work, and the output held for one process."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ..data.records import Passage
from ..durable import PARTIAL, explained_write, make_folder, write_durably
from ..errors import RocketRankError, UsageError
from ..eval.measures import evaluate
from ..models import open_model
from .bm25 import Bm25
from .device import prepare_device
from .keeper import RECIPE
from .layers import Noise
from .mining_options import check_mining
from .models import open_reranker, open_retriever
from .pipeline_data import check_files, identity_of
from .pipeline_plan import joint_kinds, mines
from .pipeline_steps import Work, mining_options
from .pipeline_synthetic import making_of
from .recipe import STAGES, Stage, differences, read_recipe, recipe_toml

_log = logging.getLogger(__name__)

_MARK, _LOCK = "data.json", "pipeline.lock"


def check_recipe(work: Work) -> None:
    """Raises UsageError for a recipe that is no pipeline's, or names what is not there."""
    recipe = work.recipe
    if not any(getattr(recipe, name).epochs for name in STAGES):
        raise UsageError(
            f"{recipe.path}: epochs is 0 in [retriever], [reranker] and [joint], so nothing would "
            "be trained: give one of them epochs, such as --set joint.epochs=2"
        )
    check_files(recipe.data, work.data)
    if recipe.data.synthesize:
        making_of(recipe, work.data)


@contextmanager
def begun(work: Work) -> Iterator[None]:
    """Holds the output for this process, once it is known to be this pipeline's or to be new.

    Raises UsageError for an output of another recipe or of other files.
    """
    identity = identity_of(work.recipe.data, work.data)
    is_new = _is_new(work, identity)
    if is_new:
        _check_models(work)
        make_folder(work.output)
    with _locked(work.output):
        if is_new:
            content = orjson.dumps(identity, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            write_durably(work.output / _MARK, [content])
        if not (work.output / RECIPE).exists():
            write_durably(work.output / RECIPE, [recipe_toml(work.recipe).encode()])
        yield


def _is_new(work: Work, identity: dict[str, Any]) -> bool:
    output = work.output
    if (output / _MARK).exists():
        _refuse_other_recipe(work)
        begun = orjson.loads((output / _MARK).read_bytes())
        changed = [key for key in {**begun, **identity} if begun.get(key) != identity.get(key)]
        if changed:
            raise UsageError(
                f"{output} holds a pipeline on other files ({', '.join(changed)} differ from those "
                "of then): give the --data that it was begun with, or name another --output"
            )
        return False
    found = sorted(each.name for each in output.iterdir()) if output.is_dir() else []
    foreign = [name for name in found if name != _LOCK and not name.endswith(PARTIAL)]
    if foreign:
        raise UsageError(
            f"{output} holds other files ({foreign[0]}) and no pipeline: name another --output"
        )
    return True


def _refuse_other_recipe(work: Work) -> None:
    path = work.output / RECIPE
    changed = differences(read_recipe(path), work.recipe) if path.exists() else []
    if changed:
        raise UsageError(
            f"{work.output} holds a pipeline of another recipe ({'; '.join(changed)}, there / "
            "now): go on with the recipe of then, or name another --output"
        )


def _check_models(work: Work) -> None:
    """Raises RocketRankError for models, devices and options that a later step would refuse."""
    recipe, models = work.recipe, work.recipe.models
    check_mining(mining_options(work, "undenoised"), reranker=False)
    kinds = joint_kinds(work)
    check_mining(mining_options(work, kinds), reranker=kinds != "undenoised")
    if kinds != recipe.mining.lists and recipe.joint.epochs:
        _log.warning(
            "mining.lists is %s, but reranker.epochs is 0 and models.reranker names no trained "
            "re-ranker that could denoise: the joint stage gets undenoised lists",
            recipe.mining.lists,
        )
    if recipe.mining.bm25 and mines(work):
        Bm25([Passage("0", "corpus")])  # raises where its package is not installed
    stages: list[Stage] = [getattr(recipe, name) for name in STAGES]
    for stage in stages:
        if stage.epochs:
            prepare_device(work.device, stage.precision)
            evaluate({}, {}, [stage.select_by])
    open_model(models.retriever, role="dual-encoder")
    if recipe.retriever.epochs or recipe.joint.epochs:
        open_retriever(models, Noise())
    if recipe.reranker.epochs or recipe.joint.epochs:
        open_reranker(models, Noise(), seed=recipe.seed)


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keeps a second process out; the system frees the lock when this one dies."""
    path = output / _LOCK
    with explained_write(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RocketRankError(
            f"{output}: another process is running this pipeline: wait until it ends, or stop it "
            "and run the same command again; it goes on where it stopped"
        ) from error
    finally:
        os.close(descriptor)
