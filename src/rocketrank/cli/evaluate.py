"""``rq eval``: how good runs or an index are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..inference import EngineName, Precision
    from ..search_options import FirstStage, Group

OUTPUTS = (".json", ".tsv", ".md", ".tex", ".html")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is to be chosen on the queries in place of measuring on them."""

    fusion: bool
    calibration: bool
    save: bool


@dataclass(frozen=True, kw_only=True)
class Searched:
    """An index to be searched, as the options name it."""

    index: Path
    model: str | None
    reranker: str | None
    first_stage: "FirstStage"
    hybrid_weight: float
    group: "Group | None"
    k: int
    rerank_depth: int | None
    sweep_depth: str | None
    fuse: str | None
    keep: Path | None
    tuning: Tuning | None
    device: str
    precision: "Precision"
    engine: "EngineName"
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of ``rq eval``; what a data set says fills in what was not given."""

    runs: tuple[str, ...]
    searched: Searched | None
    qrels: str | None
    measures: tuple[str, ...]
    preset: str | None
    baseline: str | None
    dataset: str | None
    data: Path | None
    split: str | None
    queries: str | None
    passages: tuple[str, ...]
    regex: bool
    order: Literal["score", "rank"] | None
    missing: Literal["zero", "skip"]
    drop_self: bool | None
    changed: int
    dpr_output: Path | None
    shows_page: bool

    @property
    def by_answers(self) -> bool:
        return self.measures[0].startswith("top-")


def evaluate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…",
            help="Runs (TREC, MS MARCO, JSON lines), DPR's retrieval JSON, or earlier results.",
            show_default=False,
        ),
    ] = None,
    qrels: Annotated[
        str | None, typer.Option("--qrels", metavar="FILE", help="Relevance judgements.")
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures", "-m", metavar="NAMES", help="Such as nDCG@10,R@100,AP(rel=2),Judged@10."
        ),
    ] = None,
    preset: Annotated[
        Literal["msmarco", "dl", "beir", "nq"] | None,
        typer.Option(
            "--preset", help="The measures of a collection.", show_default="beir, or the data set's"
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="RUN", help="Compare the others with this one."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", metavar="NAME", help="Queries and judgements of a public data set."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Where the data set has been unpacked."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Its part.", show_default="the usual one"),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", metavar="FILE", help="Queries, with their answers for nq."),
    ] = None,
    passages: Annotated[
        list[str] | None,
        typer.Option(
            "--passages", metavar="PLACE", help="An index or corpus files, for passages' texts."
        ),
    ] = None,
    regex: Annotated[
        bool, typer.Option("--regex", help="Answers are regular expressions (CuratedTREC).")
    ] = False,
    order: Annotated[
        Literal["score", "rank"] | None,
        typer.Option(
            "--order",
            help="What orders a run: its scores, as in trec_eval, or its ranks.",
            show_default="score; rank for nq and for an index",
        ),
    ] = None,
    missing: Annotated[
        Literal["zero", "skip"],
        typer.Option("--missing", help="Judged queries that a run lacks count 0 or do not count."),
    ] = "zero",
    drop_self: Annotated[
        bool | None,
        typer.Option(
            "--drop-self/--keep-self",
            help="Leave out a passage that has the query's own id.",
            show_default="keep; drop for BEIR's data sets",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Search this index instead of reading runs."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The retriever, if it moved.")
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option("--reranker", metavar="MODEL", help="A cross-encoder for the second stage."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            metavar="K",
            min=1,
            help="How many passages stage one finds.",
            show_default="1000",
        ),
    ] = None,
    first_stage: options.FirstStage = "dense",
    hybrid_weight: options.HybridWeight = None,
    group: options.Group = None,
    rerank_depth: Annotated[
        int | None,
        typer.Option(
            "--rerank-depth",
            metavar="N",
            help="How many the re-ranker reads.",
            show_default="100, or K",
        ),
    ] = None,
    sweep_depth: Annotated[
        str | None,
        typer.Option("--sweep-depth", metavar="N,N,…", help="Several depths: quality and time."),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option("--fuse", metavar="auto|WEIGHT", help="As in rq search."),
    ] = None,
    tune_fusion: Annotated[
        bool,
        typer.Option(
            "--tune-fusion",
            help="Choose weight and re-ranking depth on these queries, by the first measure, up to "
            "--rerank-depth or among --sweep-depth. For dev queries, never for those to test on.",
        ),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit probabilities to the last stage's scores on these queries (Platt scaling); "
            "passages without a judgement count as not relevant.",
        ),
    ] = False,
    save: Annotated[
        bool,
        typer.Option(
            "--save",
            help="Keep what --tune-fusion and --calibrate found in the model's rocketrank.json, "
            "where rq search finds it (--fuse auto, --min-probability).",
        ),
    ] = False,
    keep_runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Keep the runs of the index's stages here."),
    ] = None,
    changed: Annotated[
        int,
        typer.Option("--changed", metavar="N", min=0, help="Show N queries that changed most."),
    ] = 0,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Also write results: .json, .tsv (by query), .md, .tex or .html, as often as "
            "wanted.",
        ),
    ] = None,
    dpr_output: Annotated[
        Path | None,
        typer.Option("--dpr-output", metavar="FILE", help="DPR's retrieval JSON of the run, nq."),
    ] = None,
    json: options.Json = False,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Measure runs or an index, and compare them.

    Standard measures are trec_eval's own code. What a figure rests on (ties, missing or unjudged
    queries, duplicates) is said beside it.
    """
    texts = {"--qrels": qrels, "--dataset": dataset, "--queries": queries, "--baseline": baseline}
    texts |= {"--model": model, "--reranker": reranker, "--split": split, "--fuse": fuse}
    for option, value in texts.items():
        options.refuse_empty(option, value)
    for each in measures or ():
        options.refuse_empty("--measures", each.strip(", \t"))
    _check_outputs(
        [*(("--output", each) for each in output or ()), ("--dpr-output", dpr_output)],
        read=[*(runs or ()), *(passages or ()), *(each for each in (qrels, queries) if each)],
    )
    if keep_runs and keep_runs.exists() and not keep_runs.is_dir():
        raise UsageError(f"--runs ({keep_runs}) must be a folder, found a file; name another")
    if changed and baseline is None and index is None:
        raise UsageError(f"--changed ({changed}) needs --baseline, the run to compare with")
    tuning = Tuning(fusion=tune_fusion, calibration=calibrate, save=save)
    chooses = tune_fusion or calibrate
    if save and not chooses:
        raise UsageError("--save needs --tune-fusion or --calibrate, which find what is kept")
    if chooses:
        measuring: dict[str, object] = {"--baseline": baseline, "--changed": changed or None}
        measuring |= {"--order": order, "--dpr-output": dpr_output, "--runs": keep_runs}
        measuring |= {"--output": output[0] if output else None, "--group": group}
        _check_choosing(tuning, index, reranker, fuse, measuring)
    searched = None
    needs_index = {
        "--model": model,
        "--reranker": reranker,
        "--rerank-depth": rerank_depth,
        "--sweep-depth": sweep_depth,
        "--fuse": fuse,
        "--runs": keep_runs,
        "--k": k,
        "--first-stage": None if first_stage == "dense" else first_stage,
        "--hybrid-weight": hybrid_weight,
        "--group": group,
        "--threads": threads,
        "--device": None if device == "cpu" else device,
        "--precision": None if precision == "auto" else precision,
        "--engine": None if engine == "auto" else engine,
    }
    if index is not None:
        searched = Searched(
            index=index,
            model=model,
            reranker=reranker,
            first_stage=first_stage,
            hybrid_weight=options.hybrid_weight(hybrid_weight, first_stage),
            group=group,
            k=(100 if chooses and reranker is None else 1000) if k is None else k,
            rerank_depth=rerank_depth,
            sweep_depth=sweep_depth,
            fuse=fuse,
            keep=keep_runs,
            tuning=tuning if chooses else None,
            device=device,
            precision=precision,
            engine=engine,
            threads=threads,
        )
    else:
        for option, given in needs_index.items():
            if given is not None:
                raise UsageError(f"{option} ({given}) needs --index, the index to search")
    asked = Asked(
        runs=tuple(runs or ()),
        searched=searched,
        qrels=qrels,
        measures=tuple(measures or ()),
        preset=preset,
        baseline=baseline,
        dataset=dataset,
        data=data,
        split=split,
        queries=queries,
        passages=tuple(passages or ()),
        regex=regex,
        order=order,
        missing=missing,
        drop_self=drop_self,
        changed=0 if json else changed,
        dpr_output=dpr_output,
        shows_page=any(each.suffix.lower() == ".html" for each in output or ()),
    )
    if chooses:
        from .evaluation_tuning import choose

        choose(asked, json=json)
        return
    from .evaluation_runs import measured
    from .evaluation_shown import show

    show(measured(asked), output or [], changed=changed, json=json)


def _check_choosing(
    tuning: Tuning,
    index: Path | None,
    reranker: str | None,
    fuse: str | None,
    measuring: Mapping[str, object],
) -> None:
    """Refuse what has no meaning where something is chosen."""
    option = "--tune-fusion" if tuning.fusion else "--calibrate"
    if index is None:
        raise UsageError(f"{option} needs --index, the index to search")
    if tuning.fusion and reranker is None:
        raise UsageError("--tune-fusion needs --reranker, the model whose scores are added to")
    if tuning.fusion and fuse is not None:
        raise UsageError(f"--fuse ({fuse}) is what --tune-fusion chooses: leave one of them out")
    for other, value in measuring.items():
        if value is not None:
            raise UsageError(
                f"{other} ({value}) is for measuring, and {option} chooses: leave it out, and "
                "measure on other queries afterwards"
            )


def _check_outputs(files: Iterable[tuple[str, Path | None]], *, read: Sequence[str]) -> None:
    """Refused before anything is read: a long evaluation is not to end without its files."""
    taken = {os.path.abspath(each): "what is read" for each in read}
    for option, path in files:
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{option} ({path}) is a folder; name a file in it")
        folder = path.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{option} ({path}) is in a folder that does not exist; make it first")
        if not os.access(folder, os.W_OK):
            raise UsageError(
                f"{option} ({path}) is in a folder that you cannot write to; name another"
            )
        if option == "--output" and path.suffix.lower() not in OUTPUTS:
            raise UsageError(
                f"--output ({path}) must end in {', '.join(OUTPUTS[:-1])} or {OUTPUTS[-1]}, which "
                "says what is written"
            )
        place = os.path.abspath(path)
        if place in taken:
            raise UsageError(
                f"{option} ({path}) would write over {taken[place]}; name another file"
            )
        taken[place] = "another output"
