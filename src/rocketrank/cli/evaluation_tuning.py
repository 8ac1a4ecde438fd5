"""``rq eval --tune-fusion`` and ``--calibrate``: what is chosen on dev queries, shown and kept."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..data.queries import read_queries
from ..engine import SearchEngine
from ..errors import UsageError
from ..eval import (
    CalibrationFigures,
    DepthAndFusion,
    cross_validated,
    fit_platt,
    judged_candidates,
    load_qrels,
    tune_depth_and_fusion,
)
from ..eval.fusion import DEPTHS
from ..index_evaluation import StageScores, check_depths, stage_scores
from ..model_settings import SETTINGS_FILE, Calibration, folder_settings, save_settings
from ..search_options import DEFAULT_RERANK_DEPTH, HYBRID_WEIGHT
from ..two_stage import reranked
from .evaluate import Asked, Searched, Tuning
from .evaluation_checks import check
from .evaluation_runs import completed, depths_of, judged_queries, opened_engine

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """``figures`` are None where there are too few queries for honest ones."""

    calibration: Calibration
    figures: CalibrationFigures | None
    passages: int
    relevant: int


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """``depth`` and ``weight`` are None without a re-ranker; ``tuned`` and ``fitted`` unasked."""

    measure: str
    queries: int
    depth: int | None
    weight: float | None
    tuned: DepthAndFusion | None
    fitted: _Fitted | None


def choose(given: Asked, *, json: bool) -> None:
    """Choose what the options ask for, print it, and keep it with ``--save``.

    Raises RocketRankError, before any long work where it can.
    """
    asked = completed(given)
    check(given, asked)
    searched = asked.searched
    if searched is None or searched.tuning is None:
        raise ValueError("there is no index to choose for")
    _check_part(asked)
    depths = _depths(searched, searched.tuning)
    folder = _folder_to_write(searched) if searched.tuning.save else None
    chosen = _choose(asked, searched, searched.tuning, depths)
    if folder is not None:
        _save(folder, chosen)
    if json:
        _print_json(chosen)
    else:
        _print(chosen, searched, saved=folder is not None)
    if folder is not None:
        print(f"Wrote {folder / SETTINGS_FILE}.", file=sys.stderr)


def _check_part(asked: Asked) -> None:
    """What is chosen on test queries makes every later figure on them too good."""
    if asked.dataset and asked.split and asked.split.startswith(("test", "trec-dl")):
        raise UsageError(
            f"the part {asked.split} of {asked.dataset} is for measuring what was chosen on other "
            "queries: name another with --split, such as train or dev"
        )


def _depths(searched: Searched, tuning: Tuning) -> list[int]:
    """How deep the re-ranker may read, the deepest last; without one, what is retrieved."""
    if searched.reranker is None:
        check_depths(depths_of(searched, 0), searched.k, reranks=False)
        return [searched.k]
    if searched.sweep_depth is not None and not tuning.fusion:
        raise UsageError(
            f"--sweep-depth ({searched.sweep_depth}) gives several depths, and --calibrate is for "
            "one: give --rerank-depth"
        )
    asked = depths_of(searched, min(DEFAULT_RERANK_DEPTH, searched.k))
    depths = [each for each in check_depths(asked, searched.k, reranks=True) if each]
    if not depths:
        raise UsageError("the re-ranking depth is 0, which re-ranks nothing: give 1 or more")
    if searched.sweep_depth is None and tuning.fusion:
        return [each for each in DEPTHS if each < depths[-1]] + depths
    return depths


def _folder_to_write(searched: Searched) -> Path:
    """Of the last stage's model. Raises UsageError where its settings cannot be written."""
    from ..index import committed_manifest
    from ..models import open_model

    if searched.first_stage != "dense":
        raise UsageError(
            f"--save keeps what belongs to the retriever's scores, but --first-stage is "
            f"{searched.first_stage}: leave one of them out"
        )
    option = "--model" if searched.reranker is None else "--reranker"
    name = searched.reranker or searched.model
    model = open_model(name or committed_manifest(searched.index).model.name)
    if Path(model.name) != model.path:
        raise UsageError(
            f"--save writes into the model's folder, but {model.name} is part of an installed "
            f"package or of a cache: copy {model.path} and give the copy with {option}"
        )
    place = model.path / SETTINGS_FILE
    if not os.access(model.path, os.W_OK):
        raise UsageError(
            f"--save writes {place}, in a folder that you cannot write to: copy the folder and "
            f"give the copy with {option}"
        )
    return model.path


def _choose(asked: Asked, searched: Searched, tuning: Tuning, depths: Sequence[int]) -> _Chosen:
    qrels = load_qrels(asked.qrels or "")
    queries = judged_queries(asked, list(read_queries(asked.queries or "")), qrels)
    if asked.missing == "skip":
        qrels = {each.id: qrels[each.id] for each in queries}
    with opened_engine(searched) as (engine, weight):
        scores = stage_scores(
            engine,
            queries,
            depth=depths[-1],
            first_stage=searched.first_stage,
            progress=sys.stderr.isatty(),
        )
        for each in queries if asked.drop_self else ():
            for stage in scores:
                stage.get(each.id, {}).pop(each.id, None)
        tuned = None
        depth = None if searched.reranker is None else depths[-1]
        measure = asked.measures[0]
        if tuning.fusion:
            tuned = _tuned(scores, qrels, depths, measure)
            depth, weight = tuned.depth, tuned.weight
        elif depth is not None:
            weight = weight or 0.0
        fitted = _fitted(engine, scores, qrels, depth, weight) if tuning.calibration else None
    return _Chosen(
        measure=measure,
        queries=len(qrels),
        depth=depth,
        weight=weight,
        tuned=tuned,
        fitted=fitted,
    )


def _tuned(
    scores: StageScores, qrels: dict[str, dict[str, int]], depths: Sequence[int], measure: str
) -> DepthAndFusion:
    longest = max([1, *(len(each) for each in scores.retriever.values())])
    reached = sorted({min(each, longest) for each in depths})
    tuned = tune_depth_and_fusion(
        scores.retriever, scores.reranker, qrels, depths=reached, measure=measure
    )
    if tuned.value <= tuned.retriever_only:
        _log.warning(
            "re-ranking did not help on these queries: %s is %.4f with it and %.4f without",
            measure,
            tuned.value,
            tuned.retriever_only,
        )
    return tuned


def _fitted(
    engine: SearchEngine,
    scores: StageScores,
    qrels: dict[str, dict[str, int]],
    depth: int | None,
    weight: float | None,
) -> _Fitted:
    """The curve of the scores that a search of this depth and weight gives."""
    last = scores.retriever
    if weight is not None:
        last = reranked(scores.retriever, scores.reranker, depth=depth, weight=weight)
    found = judged_candidates(last, qrels)
    slope, intercept = fit_platt(found.scores, found.labels)
    if slope <= 0:
        raise UsageError(
            f"the scores of relevant passages are not higher than those of others (the fitted "
            f"slope is {slope:.4g}), so no probability can rise with them: choose other models, or "
            "give judgements of more queries"
        )
    retriever = None if weight is None else engine.retriever.fingerprint
    return _Fitted(
        calibration=Calibration(
            slope=slope, intercept=intercept, fusion=weight, retriever=retriever
        ),
        figures=cross_validated(*found),
        passages=len(found.labels),
        relevant=sum(found.labels),
    )


def _save(folder: Path, chosen: _Chosen) -> None:
    settings = folder_settings(folder)
    if chosen.tuned:
        settings = replace(settings, fusion=chosen.weight)
    if chosen.fitted:
        settings = replace(settings, calibration=chosen.fitted.calibration)
    save_settings(folder, settings)


def _print(chosen: _Chosen, searched: Searched, *, saved: bool) -> None:
    if chosen.tuned:
        _print_tuned(chosen, chosen.tuned)
    if chosen.fitted:
        _print_fitted(chosen.fitted)
    if chosen.tuned or saved:
        print(f"Use it with: {_command(chosen, searched, saved=saved)}")
    if not saved and searched.first_stage == "dense":
        print("Keep it in the model's rocketrank.json with --save.")


def _command(chosen: _Chosen, searched: Searched, *, saved: bool) -> str:
    words = ["rq search", '"…"', f"--index {searched.index}"]
    words += [f"--model {searched.model}"] if searched.model else []
    if chosen.depth is not None:
        words += [f"--reranker {searched.reranker}", f"--rerank-depth {chosen.depth}"]
        words += [f"--k {chosen.depth}"] if chosen.depth < 10 else []
    if searched.first_stage != "dense":
        words += [f"--first-stage {searched.first_stage}"]
    if searched.hybrid_weight != HYBRID_WEIGHT:
        words += [f"--hybrid-weight {searched.hybrid_weight:g}"]
    if chosen.weight:
        words += [f"--fuse {'auto' if saved and chosen.tuned else repr(chosen.weight)}"]
    if saved and chosen.fitted:
        words += ["--min-probability 0.5"]
    return " ".join(words)


def _print_tuned(chosen: _Chosen, tuned: DepthAndFusion) -> None:
    alone = dict(tuned.by_depth[tuned.depth].tried)[0.0]
    rows = [
        ("", "depth", "weight", chosen.measure),
        ("both stages, fused", str(tuned.depth), f"{tuned.weight:g}", f"{tuned.value:.4f}"),
        ("re-ranker alone", str(tuned.depth), "0", f"{alone:.4f}"),
        ("retriever alone", "-", "-", f"{tuned.retriever_only:.4f}"),
    ]
    _print_table(rows)
    print(
        f"Depth and weight were chosen on these {chosen.queries:,} queries, which flatters the "
        "figures: measure on\nother queries, and choose nothing on those you test on."
    )


def _print_fitted(fitted: _Fitted) -> None:
    curve = fitted.calibration
    print(
        f"probability = 1 / (1 + exp(-({curve.slope:.6g} * score {curve.intercept:+.6g}))), of "
        f"{fitted.passages:,} passages, {fitted.relevant:,} of them relevant"
    )
    if fitted.figures is None:
        print("There are too few queries with relevant passages to say how good it is.")
    else:
        own, base = fitted.figures[:2], fitted.figures[2:]
        _print_table(
            [
                ("", "log loss", "Brier score"),
                ("probabilities", *(f"{each:.4f}" for each in own)),
                ("one for all", *(f"{each:.4f}" for each in base)),
            ]
        )
        print("By halves of the queries, each told by the curve of the other; lower is better.")
    print("Passages without a judgement count as not relevant: where few are judged, probabilities")
    print("are too low.")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = (f"{each:>{width}}" for each, width in zip(others, widths[1:], strict=True))
        print("  ".join([f"{first:<{widths[0]}}", *numbers]))


def _print_json(chosen: _Chosen) -> None:
    import orjson

    content: dict[str, Any] = {"queries": chosen.queries}
    if chosen.weight is not None:
        content |= {"rerank_depth": chosen.depth, "fusion": chosen.weight}
    if chosen.tuned:
        tried = dict(chosen.tuned.by_depth[chosen.tuned.depth].tried)
        content |= {
            "measure": chosen.measure,
            "two_stages": chosen.tuned.value,
            "reranker_only": tried[0.0],
            "retriever_only": chosen.tuned.retriever_only,
        }
    if chosen.fitted:
        figures = chosen.fitted.figures
        content |= {
            "calibration": asdict(chosen.fitted.calibration),
            "passages": chosen.fitted.passages,
            "relevant": chosen.fitted.relevant,
            "cross_validated": figures._asdict() if figures else None,
        }
    written = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(written.decode())
