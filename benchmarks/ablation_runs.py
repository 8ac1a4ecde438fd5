"""The runs of the ablation: what they share on the disk, and how one is carried out."""

import hashlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from ablation_table import MEASURES, START, Result, write_result
from ablation_variants import (
    RECIPE,
    Settings,
    joint_overrides,
    steps_of,
    variants,
    warmup_overrides,
)

from rocketrank.errors import RocketRankError

if TYPE_CHECKING:
    from rocketrank.data.records import Passage
    from rocketrank.training.lists import Candidate, RankingList
    from rocketrank.training.mining_options import MiningOptions
    from rocketrank.training.mining_report import MiningReport
    from rocketrank.training.recipe import StageName
    from rocketrank.two_stage import Scores

# What a mining report counts, and what the table calls it.
_COUNTED = {
    ("candidates", "kept"): "candidates kept as negatives",
    ("candidates", "promoted"): "promoted to positives",
    ("candidates", "uncertain"): "dropped as uncertain",
    ("lists", "undenoised"): "undenoised lists",
    ("lists", "denoised"): "denoised lists of labelled positives",
    ("lists", "promoted"): "of promoted ones",
    ("lists", "without_negatives"): "not written for want of a negative",
}
DEPTH = 20
"""Candidates of a query in the sample."""


class Stopped(Exception):
    """A signal or the time limit ended a run, which has written a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """``work`` holds lists, warmed-up models and unfinished runs of these settings.

    Nothing is begun any more once there is a signal in ``asked_to_stop``.
    """

    settings: Settings
    data: Path
    work: Path
    results: Path
    asked_to_stop: list[int] = field(default_factory=list)

    def seed_folder(self, seed: int) -> Path:
        return self.work / f"seed{seed}"


class Lists(NamedTuple):
    """Our format, with texts; ``train_count`` and ``dev_count`` queries, one positive each."""

    train: Path
    dev: Path
    train_count: int
    dev_count: int


def prepare_lists(study: Study) -> Lists:
    """Split the sample's queries, once; those of the dev part are never trained on."""
    from rocketrank.training.dev import drawn_queries
    from rocketrank.training.list_formats import read_any_lists
    from rocketrank.training.lists import read_lists, write_lists
    from rocketrank.training.passages import open_passages, with_texts

    places = {part: study.work / f"{part}.jsonl" for part in ("train", "dev")}
    if not all(place.exists() for place in places.values()):
        data = study.data
        found = [
            each
            for each in read_any_lists(
                data / "candidates.train.tsv",
                format="candidates",
                queries=data / "queries.train.tsv",
            )
            if each.positives and each.negatives
        ]
        found = found[: study.settings.queries or len(found)]
        wanted = {candidate.id for each in found for candidate in each.candidates}
        texts = open_passages([data / "collection.tsv"], wanted)
        settings = study.settings
        held_out = drawn_queries(
            {each.query_id for each in found}, settings.dev_share, settings.split_seed
        )
        study.work.mkdir(parents=True, exist_ok=True)
        for part, place in places.items():
            own = [each for each in found if (each.query_id in held_out) == (part == "dev")]
            write_lists(place, with_texts(own, texts))
    counts = [sum(1 for _ in read_lists(place)) for place in places.values()]
    return Lists(places["train"], places["dev"], *counts)


def train_stage(
    study: Study, stage: "StageName", overrides: Mapping[str, str], lists: Path, output: Path
) -> None:
    """Train into ``output``, or go on there; the checkpoints of a finished run are removed."""
    from rocketrank.training.recipe import read_recipe
    from rocketrank.training.run import TrainOptions, train

    if study.asked_to_stop:
        raise Stopped
    recipe = read_recipe(RECIPE, overrides)
    shown = sys.stderr.isatty()
    outcome = train(
        TrainOptions(recipe=recipe, stage=stage, lists=lists, output=output, progress=shown)
    )
    if not outcome.finished:
        raise Stopped
    shutil.rmtree(output / "checkpoints", ignore_errors=True)


def warm_up(study: Study, seed: int, lists: Lists) -> dict[str, Path]:
    """The folders of both models of a seed after each has learnt alone."""
    overrides = warmup_overrides(study.settings, seed)
    models: dict[str, Path] = {}
    stages: tuple[StageName, ...] = ("retriever", "reranker")
    for stage in stages:
        output = study.seed_folder(seed) / f"warm-{stage}"
        if not (output / "metrics.json").exists():
            train_stage(study, stage, overrides, lists.train, output)
        models[stage] = output / stage
    return models


def read_by_models(lists: Path, models: Mapping[str, Path]) -> dict[str, "Scores"]:
    """What each of ``models`` gives all candidates of ``lists``, in fp32 as a search would."""
    from rocketrank.reranker import CrossEncoder
    from rocketrank.retriever import DualEncoder
    from rocketrank.training.lists import read_lists
    from rocketrank.two_stage import reranker_scores, retriever_scores

    asked = [each for each in read_lists(lists) if each.positives]
    if not asked:
        raise RocketRankError(f"{lists} has no query with a positive: take more of the sample")
    queries = {each.query_id: each.query for each in asked}
    run = {each.query_id: {c.id: c.score or 0.0 for c in each.candidates} for each in asked}
    texts = _Texts({c.id: passage_of(c) for each in asked for c in each.candidates})
    found: dict[str, Scores] = {}
    if "retriever" in models:
        retriever = DualEncoder.load(models["retriever"], precision="fp32")
        found["retriever"] = retriever_scores(run, retriever, queries, texts)
    if "reranker" in models:
        reranker = CrossEncoder.load(models["reranker"], precision="fp32")
        found["reranker"] = reranker_scores(run, reranker, queries, texts, progress=False)
    return found


def passage_of(candidate: "Candidate") -> "Passage":
    from rocketrank.data.records import Passage

    return Passage(candidate.id, candidate.text or "", candidate.title)


class _Texts(NamedTuple):
    """The passages of lists that carry their texts, as ``two_stage`` asks for them."""

    passages: "Mapping[str, Passage]"

    def texts(self, ids: Sequence[str]) -> "list[Passage]":
        return [self.passages[each] for each in ids]


def hybrid_lists(
    study: Study, seed: int, lists: Lists, reranker: Path
) -> tuple[Path, dict[str, int]]:
    """Undenoised lists and those that the seed's warmed-up re-ranker has denoised, together.

    Both are drawn from the same candidates, so that denoising alone is what differs. With the lists
    come the counts of what denoising did.
    """
    from rocketrank.training.lists import read_lists, write_lists
    from rocketrank.training.mining_options import MiningOptions
    from rocketrank.training.mining_report import MiningReport

    path = study.seed_folder(seed) / "hybrid.jsonl"
    report_path = path.with_suffix(".report.json")
    if not path.exists():
        scores = read_by_models(lists.train, {"reranker": reranker})["reranker"]
        report = MiningReport()
        options = MiningOptions(
            lists="hybrid", depth=DEPTH, negatives=DEPTH - 1, seed=seed, with_text=True
        )
        found = [
            made
            for each in read_lists(lists.train)
            for made in hybrid_of_query(each, scores[each.query_id], options, report)
        ]
        report_path.write_bytes(report.as_json({"seed": seed}))
        write_lists(path, found)
    made = orjson.loads(report_path.read_bytes())
    return path, {name: made[section][key] for (section, key), name in _COUNTED.items()}


def hybrid_of_query(
    each: "RankingList",
    scores: Mapping[str, float],
    options: "MiningOptions",
    report: "MiningReport",
) -> "list[RankingList]":
    """Both kinds of lists from the candidates of ``each``; ``scores`` are logits by passage id."""
    from rocketrank.training.denoising import Found, gather
    from rocketrank.training.mining_lists import Logits, lists_of_query
    from rocketrank.training.mining_queries import MiningQuery

    passages = {c.id: passage_of(c) for c in each.candidates}
    positives = [passages[candidate.id] for candidate in each.positives]
    found = [Found(passages[c.id], c.score, c.source) for c in each.candidates]
    pool = gather(found, positives)
    logits = Logits(
        np.array([scores[passage.id] for passage in positives], dtype=np.float32),
        np.array([scores[one.passage.id] for one in pool.candidates], dtype=np.float32),
    )
    query = MiningQuery(each.query_id, each.query, tuple(passage.id for passage in positives))
    return lists_of_query(query, positives, pool, logits, options, report)


def run_variant(study: Study, name: str, seed: int, lists: Lists) -> Result:
    """Train and measure a variant (or measure ``START``), and keep its result.

    Raises Stopped when a signal ended it early; the next call goes on then.
    """
    from rocketrank.training.validation import agreement

    if study.asked_to_stop:
        raise Stopped
    models = warm_up(study, seed, lists)
    counts: dict[str, int] = {}
    steps = 0
    recipe: Mapping[str, str] = {}
    output = study.seed_folder(seed) / name
    if name != START:
        variant = variants(study.settings)[name]
        recipe, steps = variant.recipe, steps_of(study.settings, lists.train_count)
        path = lists.train
        if variant.hybrid:
            path, counts = hybrid_lists(study, seed, lists, models["reranker"])
        overrides = joint_overrides(
            study.settings, seed, variant, steps=steps, lists=_count_examples(path)
        )
        starts = {f"models.{part}": str(folder) for part, folder in models.items()}
        train_stage(study, "joint", {**overrides, **starts}, path, output)
        models = {part: output / part for part in models}
    scores = read_by_models(lists.dev, models)
    tau = agreement(scores["retriever"], scores["reranker"])
    result = Result(
        variant=name,
        seed=seed,
        settings=identity(study),
        recipe=dict(recipe),
        steps=steps,
        train_queries=lists.train_count,
        dev_queries=lists.dev_count,
        dev_sha256=_dev_sha256(scores["retriever"]),
        lists=counts,
        agreement=None if tau is None else round(tau, 6),
        values=_values(scores, lists.dev),
    )
    write_result(study.results, result)
    shutil.rmtree(output, ignore_errors=True)
    return result


def identity(study: Study) -> dict[str, object]:
    """The settings and the data: what all results of a table must have in common."""
    from rocketrank.durable import sha256_of

    candidates = sha256_of(study.data / "candidates.train.tsv")
    return {**asdict(study.settings), "recipe": RECIPE, "candidates_sha256": candidates}


def _count_examples(lists: Path) -> int:
    from rocketrank.training.examples import Examples

    examples = Examples(lists)
    examples.close()
    return len(examples)


def _dev_sha256(scores: "Scores") -> str:
    ids = "\n".join(sorted(scores))
    return hashlib.sha256(ids.encode()).hexdigest()


def _values(scores: Mapping[str, "Scores"], lists: Path) -> dict[str, dict[str, list[float]]]:
    from rocketrank.eval.measures import evaluate
    from rocketrank.training.lists import read_lists

    qrels = {
        each.query_id: {candidate.id: 1 for candidate in each.positives}
        for each in read_lists(lists)
    }
    return {
        system: {
            measure: [round(values[query_id], 6) for query_id in sorted(values)]
            for measure, values in evaluate(found, qrels, MEASURES).items()
        }
        for system, found in scores.items()
    }
