"""What ``rq eval`` measures: runs by judgements or by answers, or what an index finds."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.datasets import Dataset, open_dataset
from ..data.dpr_results import is_dpr_results, read_dpr_results, write_dpr_results
from ..data.queries import read_queries
from ..data.records import Query
from ..data.run_groups import read_run_groups
from ..errors import UsageError
from ..eval import (
    NQ_MEASURES,
    AnswerOptions,
    CostPoint,
    Difference,
    JudgeOptions,
    RunResult,
    compare,
    describe_findings,
    expand_measures,
    judge_answers,
    judge_run,
    judge_run_by_answers,
    load_qrels,
    read_results,
    run_results,
    with_answers,
)

if TYPE_CHECKING:
    from ..inference import EngineName, Precision
    from ..two_stage import PassageTexts

_SUFFIXES = re.compile(r"(\.(trec|txt|tsv|run|res|json|jsonl))?(\.(gz|bz2|xz|zst))?\Z")


@dataclass(frozen=True, kw_only=True)
class Searched:
    """An index to be searched, as the options name it."""

    index: Path
    model: str | None
    reranker: str | None
    k: int
    rerank_depth: int | None
    sweep_depth: str | None
    fuse: str | None
    keep: Path | None
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

    @property
    def by_answers(self) -> bool:
        return self.measures[0] in NQ_MEASURES


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found, and the texts that are known, for tables and pages."""

    results: Sequence[RunResult]
    differences: Sequence[Difference] = ()
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    costs: Sequence[CostPoint] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    passages: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def measured(asked: Asked) -> Evaluation:
    """Carry out an evaluation. Raises RocketRankError, before any long work where it can."""
    asked = _completed(asked)
    _check(asked)
    if asked.by_answers:
        results = _by_answers(asked)
    elif asked.searched:
        results = _of_index(asked, asked.searched)
    else:
        results = [
            one
            for path, name in zip(asked.runs, _names(asked.runs), strict=True)
            for one in _of_run(path, name, asked)
        ]
    baseline = _baseline(asked, results)
    top = {hit.passage_id for one in results for hits in one.top.values() for hit in hits}
    return Evaluation(
        results=results,
        differences=compare(results, baseline, changed=max(10, asked.changed)) if baseline else (),
        notes={one.name: describe_findings(one) for one in results},
        costs=[
            CostPoint("two stages", _depth(one.name), one.milliseconds, _means(one))
            for one in results
            if one.milliseconds is not None
        ],
        queries={each.id: each.text for each in read_queries(asked.queries)}
        if asked.queries
        else {},
        passages=_texts(asked, top),
        details=_details(asked),
    )


def _completed(asked: Asked) -> Asked:
    """With what the data set says, and the preset as measures."""
    if asked.dataset is None:
        for option, value in (("--data", asked.data), ("--split", asked.split)):
            if value is not None:
                raise UsageError(f"{option} ({value}) needs --dataset, the name of the data set")
        return replace(asked, measures=expand_measures(asked.measures, asked.preset))
    found = _dataset(asked.dataset, asked.data, asked.split)
    by_name = not asked.measures and not asked.preset
    measures = expand_measures(asked.measures, found.preset if by_name else asked.preset)
    return replace(
        asked,
        measures=measures,
        qrels=asked.qrels or (str(found.qrels) if found.qrels else None),
        queries=asked.queries or str(found.queries),
        passages=asked.passages
        or (tuple(map(str, found.corpus)) if measures[0] in NQ_MEASURES else ()),
        regex=asked.regex or found.regex_answers,
        drop_self=found.drop_self if asked.drop_self is None else asked.drop_self,
    )


def _dataset(name: str, data: Path | None, split: str | None) -> Dataset:
    from ..models import cache_directory

    return open_dataset(name, data, split=split, downloads=cache_directory() / "datasets")


def _check(asked: Asked) -> None:
    if asked.searched and asked.runs:
        raise UsageError(
            f"give runs ({asked.runs[0]}) or --index ({asked.searched.index}), not both: what an "
            "index finds can be kept with --runs and compared afterwards"
        )
    if not asked.searched and not asked.runs:
        raise UsageError("nothing to evaluate: give a run, or --index and --queries")
    if asked.searched and not asked.queries:
        raise UsageError("--index needs --queries (or --dataset), what to search for")
    if asked.by_answers:
        if asked.searched:
            raise UsageError(
                "--preset nq measures runs: write one with rq search --queries … --output and "
                "give it to rq eval with --queries and --passages"
            )
        return
    if not asked.qrels and not all(_is_result(path) for path in asked.runs):
        raise UsageError("there are no judgements: give --qrels, or --dataset and --data")
    if asked.dpr_output:
        raise UsageError("--dpr-output needs --preset nq: it marks which passages hold an answer")


def _names(runs: Sequence[str]) -> list[str]:
    """File names without their endings; the paths themselves where those are alike."""
    short = [_SUFFIXES.sub("", Path(path).name) or path for path in runs]
    return list(runs) if len(set(short)) < len(short) else short


def _is_result(path: str) -> bool:
    """Whether it holds results of an earlier evaluation."""
    return path.endswith(".json") and Path(path).is_file() and not is_dpr_results(path)


def _of_run(path: str, name: str, asked: Asked) -> list[RunResult]:
    if _is_result(path):
        return [_with_measures(one, asked.measures, path) for one in read_results(path)]
    return [judge_run(path, load_qrels(asked.qrels or ""), _judge_options(asked), name=name)]


def _with_measures(result: RunResult, measures: Sequence[str], path: str) -> RunResult:
    """An earlier result with the measures that are asked for, as far as it has them."""
    values = {each: result.values[each] for each in measures if each in result.values}
    if not values:
        raise UsageError(
            f"{path} has {', '.join(result.measures)} of {result.name}, none of "
            f"{', '.join(measures)}: ask for one of those with --measures"
        )
    return replace(result, values=values)


def _judge_options(asked: Asked) -> JudgeOptions:
    return JudgeOptions(
        measures=asked.measures,
        drop_self=bool(asked.drop_self),
        missing=asked.missing,
        order=asked.order or "score",
        top=max(10, asked.changed),
    )


def _of_index(asked: Asked, searched: Searched) -> list[RunResult]:
    """Stage one and the re-ranking depths, each with the time of a query."""
    from ..engine import DEFAULT_RERANK_DEPTH, SearchEngine
    from ..index_evaluation import check_depths, write_stage_runs
    from .search import parse_fuse

    qrels = load_qrels(asked.qrels or "")
    queries = [each for each in read_queries(asked.queries or "") if each.id in qrels]
    if not queries:
        raise UsageError(
            f"--queries ({asked.queries}) and --qrels ({asked.qrels}) have no query in common: "
            "name files of the same queries"
        )
    depths = _depths(searched, min(DEFAULT_RERANK_DEPTH, searched.k))
    check_depths(depths, searched.k, reranks=searched.reranker is not None)
    with ExitStack() as stack:
        folder = searched.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        engine = stack.enter_context(
            SearchEngine.open(
                searched.index,
                model=searched.model,
                reranker=searched.reranker,
                device=searched.device,
                precision=searched.precision,
                engine=searched.engine,
                threads=searched.threads,
            )
        )
        weight = engine.fusion_weight(parse_fuse(searched.fuse)) or 0.0
        runs = write_stage_runs(
            engine, queries, folder, k=searched.k, depths=depths, weight=weight, progress=True
        )
        # a list that was fused or re-ranked stands in the order of its ranks
        options = replace(_judge_options(asked), order=asked.order or "rank")
        return [
            replace(
                judge_run(run.path, qrels, options, name=run.name), milliseconds=run.milliseconds
            )
            for run in runs
        ]


def _depths(searched: Searched, usual: int) -> list[int]:
    if searched.sweep_depth is not None and searched.rerank_depth is not None:
        raise UsageError(
            f"give --rerank-depth ({searched.rerank_depth}) or --sweep-depth "
            f"({searched.sweep_depth}), not both"
        )
    if searched.sweep_depth is None:
        if searched.rerank_depth is not None:
            return [searched.rerank_depth]
        return [usual] if searched.reranker else []
    try:
        return [int(each) for each in searched.sweep_depth.split(",")]
    except ValueError:
        raise UsageError(
            f"--sweep-depth ({searched.sweep_depth}) must be whole numbers with commas between "
            "them, such as 0,10,50,100"
        ) from None


def _by_answers(asked: Asked) -> list[RunResult]:
    options = AnswerOptions(
        match="regex" if asked.regex else "string",
        order=asked.order or "rank",
        top=max(10, asked.changed),
    )
    if asked.dpr_output and len(asked.runs) > 1:
        raise UsageError(
            f"--dpr-output writes one run, found {len(asked.runs)}: give them one by one"
        )
    results = []
    questions: list[Query] | None = None
    for path, name in zip(asked.runs, _names(asked.runs), strict=True):
        if is_dpr_results(path):
            results.append(judge_answers(read_dpr_results(path), options, name=name))
            if asked.dpr_output:
                marked = with_answers(read_dpr_results(path), match=options.match)
                write_dpr_results(asked.dpr_output, marked)
            continue
        if not asked.queries or not asked.passages:
            raise UsageError(
                f"{path} is a run without answers and texts: give --queries, a file with answers, "
                "and --passages, the index or corpus files that it was made on"
            )
        if questions is None:
            questions = list(read_queries(asked.queries))
        texts = _open_texts(asked, {each for group in read_run_groups(path) for each in group.ids})
        results.append(judge_run_by_answers(path, questions, texts.texts, options, name=name))
        if asked.dpr_output:
            found = run_results(path, questions, texts.texts, name=name)
            write_dpr_results(asked.dpr_output, with_answers(found, match=options.match))
    return results


def _open_texts(asked: Asked, wanted: set[str]) -> "PassageTexts":
    from ..training.passages import open_passages

    return open_passages(asked.passages, wanted)


def _texts(asked: Asked, wanted: set[str]) -> dict[str, str]:
    """The texts of these passages, where they are known."""
    if asked.searched and not asked.passages:
        asked = replace(asked, passages=(str(asked.searched.index),))
    if not asked.passages or not wanted:
        return {}
    found = _open_texts(asked, wanted).texts(sorted(wanted))
    return {passage.id: passage.full_text for passage in found}


def _baseline(asked: Asked, results: Sequence[RunResult]) -> str | None:
    """A result's name: ``--baseline`` may give that or the path of its run."""
    if asked.baseline is None:
        return results[0].name if asked.searched and len(results) > 1 else None
    if len(results) < 2:
        raise UsageError(f"--baseline ({asked.baseline}) needs another run to compare with it")
    by_path = dict(zip(asked.runs, _names(asked.runs), strict=True))
    return by_path.get(asked.baseline, asked.baseline)


def _means(result: RunResult) -> dict[str, float]:
    return {measure: result.mean(measure) for measure in result.measures}


def _depth(name: str) -> int:
    number = name.rpartition(" ")[2]
    return int(number) if number.isdecimal() else 0


def _details(asked: Asked) -> dict[str, Any]:
    """How the figures came about, without the names of folders."""
    named = {"qrels": asked.qrels, "queries": asked.queries}
    files = {key: Path(value).name for key, value in named.items() if value}
    return {
        **files,
        "measures": list(asked.measures),
        "order": asked.order or ("rank" if asked.by_answers or asked.searched else "score"),
        "missing": asked.missing,
        "drop_self": bool(asked.drop_self),
    }
