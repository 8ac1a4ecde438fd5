"""The variants of the ablation and the settings that they share, as changes of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

RECIPE = "msmarco-sample-cpu"
BASELINE = "dynamic"
TOKENS_PER_CHUNK = 768  # of a step's few texts, larger chunks are a quarter padding and more


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs share. ``queries`` and ``layers`` 0 take all; learning rates are the peaks.

    The warm-up takes small steps, because the re-ranker's head is new and few queries make few,
    and longer lists than the runs: with three layers, or lists of 5, a re-ranker that begins does
    not get above a random order of the candidates in the time there is.
    """

    queries: int = 0
    dev_share: float = 0.3
    split_seed: int = 0
    layers: int = 0
    list_length: int = 5
    lists_per_step: int = 8
    epochs: float = 0.75
    learning_rate: float = 2e-5
    reranker_learning_rate: float = 3e-5
    warmup_list_length: int = 8
    warmup_lists_per_step: int = 4
    retriever_warmup_epochs: float = 0.5
    retriever_warmup_rate: float = 2e-5
    reranker_warmup_epochs: float = 2.0
    reranker_warmup_rate: float = 1e-4


TRIAL = Settings(
    queries=16,
    layers=1,
    list_length=3,
    lists_per_step=4,
    warmup_list_length=3,
    reranker_warmup_epochs=1.0,
)
"""So little that all variants run in minutes: it shows that the script works, and nothing else."""


class Variant(NamedTuple):
    """``recipe`` is what it changes in the recipe of eq. 4; ``hybrid``: on denoised lists too."""

    label: str
    recipe: Mapping[str, str]
    hybrid: bool = False


def variants(settings: Settings) -> dict[str, Variant]:
    """By name, in the order in which they run and are shown."""
    supervised = {
        "joint.distillation": "0",
        "joint.contrastive": "1",
        # a part of a step sees its own passages only: parts of one list have no other negatives
        "joint.accumulate": str(settings.lists_per_step),
    }
    static = {
        "joint.freeze_reranker": "true",
        "joint.supervised": "0",
        "joint.reranker_learning_rate": "0",
    }
    released = {"joint.direction": "teacher_student", "joint.teacher_gradient": "false"}
    both = {"joint.contrastive": "1", "joint.partial_ranking": "1"}
    return {
        BASELINE: Variant("dynamic distillation, eq. 4", {}),
        "supervised": Variant("supervised only, each model by itself", supervised),
        "static": Variant("static distillation, re-ranker frozen", static),
        "released": Variant("dynamic, direction of the released code", released),
        "contrastive": Variant("eq. 4 + contrastive", {"joint.contrastive": "1"}),
        "cprd": Variant("eq. 4 + CPRD", {"joint.partial_ranking": "1"}),
        "denoised": Variant("eq. 4, with denoised lists", {}, hybrid=True),
        "contrastive-cprd": Variant("eq. 4 + contrastive + CPRD", both),
    }


def warmup_overrides(settings: Settings, seed: int) -> dict[str, str]:
    """The recipe in which each model learns alone from the lists that both learn from later."""
    shared = {
        "list_length": str(settings.warmup_list_length),
        "lists_per_step": str(settings.warmup_lists_per_step),
        "tokens_per_chunk": str(TOKENS_PER_CHUNK),
        "keep": "1",
    }
    stages = {
        f"{stage}.{key}": value
        for stage in ("retriever", "reranker")
        for key, value in shared.items()
    }
    return {
        "seed": str(seed),
        "data.dev_share": "0",
        "models.layers": str(settings.layers),
        "retriever.epochs": repr(settings.retriever_warmup_epochs),
        "retriever.learning_rate": repr(settings.retriever_warmup_rate),
        "reranker.epochs": repr(settings.reranker_warmup_epochs),
        "reranker.learning_rate": repr(settings.reranker_warmup_rate),
        "joint.epochs": "0",
        **stages,
    }


def joint_overrides(
    settings: Settings, seed: int, variant: Variant, *, steps: int, lists: int
) -> dict[str, str]:
    """The recipe of a run of ``steps`` steps over a file that gives ``lists`` lists."""
    steps_per_epoch = max(1, lists // settings.lists_per_step)
    return {
        "seed": str(seed),
        "data.dev_share": "0",
        "models.layers": str(settings.layers),
        "retriever.epochs": "0",
        "reranker.epochs": "0",
        "joint.epochs": repr(steps / steps_per_epoch),
        "joint.list_length": str(settings.list_length),
        "joint.lists_per_step": str(settings.lists_per_step),
        "joint.learning_rate": repr(settings.learning_rate),
        "joint.reranker_learning_rate": repr(settings.reranker_learning_rate),
        "joint.hardest": str(settings.list_length - 1),
        "joint.tokens_per_chunk": str(TOKENS_PER_CHUNK),
        "joint.keep": "1",
        **variant.recipe,
    }


def steps_of(settings: Settings, lists: int) -> int:
    """Of every variant: what ``settings.epochs`` over the undenoised lists come to."""
    return max(1, round(settings.epochs * max(1, lists // settings.lists_per_step)))
