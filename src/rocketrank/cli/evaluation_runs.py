"""What ``rq eval`` measures: runs by judgements or by answers, or what an index finds."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.datasets import Dataset, open_dataset
from ..data.dpr_results import is_dpr_results, read_dpr_results, write_dpr_results
from ..data.lines import STANDARD_INPUT
from ..data.queries import read_queries
from ..data.records import Query, RunEntry
from ..data.run_groups import group_entries, read_run_groups
from ..data.runs import read_run
from ..errors import UsageError
from ..eval import (
    NQ_MEASURES,
    AnswerOptions,
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
from .evaluate import Asked, Searched
from .evaluation_shown import Evaluation, details_of, system_names

if TYPE_CHECKING:
    from ..two_stage import PassageTexts

_log = logging.getLogger(__name__)


def measured(asked: Asked) -> Evaluation:
    """Carry out an evaluation. Raises RocketRankError, before any long work where it can."""
    given, asked = asked, _completed(asked)
    _check(given, asked)
    queries = list(read_queries(asked.queries)) if asked.queries else []
    texts = None
    if asked.by_answers:
        by_run, texts = _by_answers(asked, queries)
    elif asked.searched:
        by_run = {"--index": _of_index(asked, asked.searched, queries)}
    else:
        by_run = _by_judgements(asked)
    results = [one for of_run in by_run.values() for one in of_run]
    baseline = _baseline(asked, by_run)
    top = {hit.passage_id for one in results for hits in one.top.values() for hit in hits}
    return Evaluation(
        results=results,
        differences=compare(results, baseline, changed=max(10, asked.changed)) if baseline else (),
        notes={one.name: describe_findings(one) for one in results},
        queries={each.id: each.text for each in queries},
        passages=_texts(asked, top, texts),
        details=details_of(asked),
    )


def _completed(asked: Asked) -> Asked:
    """With what the data set says, and the preset as measures."""
    if asked.dataset is None:
        for option, value in (("--data", asked.data), ("--split", asked.split)):
            if value is not None:
                raise UsageError(f"{option} ({value}) needs --dataset, the name of the data set")
        if not asked.measures and not asked.preset and all(map(_is_result, asked.runs)):
            earlier = [one for path in asked.runs for one in read_results(path)]
            own = dict.fromkeys(each for one in earlier for each in one.measures)
            return replace(asked, measures=expand_measures(tuple(own), None))
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


def _check(given: Asked, asked: Asked) -> None:
    if asked.searched and asked.runs:
        raise UsageError(
            f"give runs ({asked.runs[0]}) or --index ({asked.searched.index}), not both: what an "
            "index finds can be kept with --runs and compared afterwards"
        )
    if not asked.searched and not asked.runs:
        raise UsageError("nothing to evaluate: give a run, or --index and --queries")
    if asked.searched and not asked.queries:
        raise UsageError("--index needs --queries (or --dataset), what to search for")
    if [*asked.runs, asked.qrels, asked.queries, *asked.passages].count(STANDARD_INPUT) > 1:
        raise UsageError("- is given more than once: standard input can be read once, name a file")
    _check_names(asked)
    if asked.by_answers:
        _check_answers(given)
        return
    if given.regex or given.dpr_output:
        option = "--regex" if given.regex else "--dpr-output"
        raise UsageError(f"{option} needs --preset nq, which looks for answers in passages")
    for path in asked.runs:
        if _is_dpr(path):
            raise UsageError(
                f"{path} is DPR's retrieval results, which are measured by answers: give "
                "--preset nq"
            )
    if not asked.qrels and (asked.searched or not all(map(_is_result, asked.runs))):
        raise UsageError("there are no judgements: give --qrels, or --dataset and --data")


def _check_answers(given: Asked) -> None:
    if given.searched:
        raise UsageError(
            "--preset nq measures runs: write one with rq search --queries … --output and "
            "give it to rq eval with --queries and --passages"
        )
    unused = {
        "--qrels": given.qrels,
        "--missing": None if given.missing == "zero" else given.missing,
        "--drop-self": "yes" if given.drop_self else None,
    }
    for option, value in unused.items():
        if value is not None:
            raise UsageError(
                f"{option} ({value}) is for judgements, and --preset nq goes by answers: leave it "
                "out"
            )
    if given.dpr_output and len(given.runs) > 1:
        raise UsageError(
            f"--dpr-output writes one run, found {len(given.runs)}: give them one by one"
        )


def _check_names(asked: Asked) -> None:
    """A run that is given twice, and a baseline that is none of the runs."""
    places = [os.path.abspath(path) for path in asked.runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UsageError(f"the run {asked.runs[number]} is given twice: give each run once")
    if asked.baseline is None or asked.searched or any(map(_is_result, asked.runs)):
        return
    names = system_names(asked.runs)
    if len(names) < 2:
        raise UsageError(f"--baseline ({asked.baseline}) needs another run to compare with it")
    if asked.baseline not in names and os.path.abspath(asked.baseline) not in places:
        raise UsageError(
            f"--baseline ({asked.baseline}) is none of the runs: name one of {', '.join(names)}"
        )


def _is_result(path: str) -> bool:
    """Whether it holds results of an earlier evaluation. A pipe, which is read once, does not."""
    if path == STANDARD_INPUT or not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return b'"rocketrank_evaluation"' in file.read(4096)


def _is_dpr(path: str) -> bool:
    return Path(path).is_file() and is_dpr_results(path)


def _by_judgements(asked: Asked) -> dict[str, list[RunResult]]:
    earlier = {path: _earlier(path, asked) for path in asked.runs if _is_result(path)}
    qrels = load_qrels(asked.qrels) if asked.qrels and len(earlier) < len(asked.runs) else {}
    return {
        path: earlier[path]
        if path in earlier
        else [judge_run(path, qrels, _judge_options(asked), name=name)]
        for path, name in zip(asked.runs, system_names(asked.runs), strict=True)
    }


def _earlier(path: str, asked: Asked) -> list[RunResult]:
    """Earlier results with the measures that are asked for, as far as they have them."""
    results = []
    for result in read_results(path):
        values = {each: result.values[each] for each in asked.measures if each in result.values}
        if not values:
            raise UsageError(
                f"{path} has {', '.join(result.measures)} of {result.name}, none of "
                f"{', '.join(asked.measures)}: ask for one of those with --measures"
            )
        if lacking := [each for each in asked.measures if each not in values]:
            _log.warning(
                "%s has no %s of %s; evaluate the run again for it",
                path,
                ", ".join(lacking),
                result.name,
            )
        kept = result.findings.orderings
        orderings = {each: kept[each] for each in values if each in kept}
        findings = replace(result.findings, orderings=orderings)
        results.append(replace(result, values=values, findings=findings))
    if asked.qrels or asked.order or asked.missing == "skip" or asked.drop_self is not None:
        _log.warning(
            "%s holds figures of an earlier evaluation, which are taken as they are: --qrels, "
            "--order, --missing and --drop-self do not change them",
            path,
        )
    return results


def _judge_options(asked: Asked) -> JudgeOptions:
    return JudgeOptions(
        measures=asked.measures,
        drop_self=bool(asked.drop_self),
        missing=asked.missing,
        order=asked.order or "score",
        top=max(10, asked.changed),
    )


def _of_index(asked: Asked, searched: Searched, queries: Sequence[Query]) -> list[RunResult]:
    """Stage one and the re-ranking depths, each with the time of a query."""
    from ..engine import DEFAULT_RERANK_DEPTH, SearchEngine
    from ..index_evaluation import STAGE_ONE, check_depths, write_stage_runs
    from .search import parse_fuse

    qrels = load_qrels(asked.qrels or "")
    queries = [each for each in queries if each.id in qrels]
    if not queries:
        raise UsageError(
            f"--queries ({asked.queries}) and --qrels ({asked.qrels}) have no query in common: "
            "name files of the same queries"
        )
    depths = _depths(searched, min(DEFAULT_RERANK_DEPTH, searched.k))
    depths = check_depths(depths, searched.k, reranks=searched.reranker is not None)
    names = [STAGE_ONE, *(f"re-ranked {depth}" for depth in depths[1:])]
    if asked.baseline is not None and asked.baseline not in names:
        raise UsageError(
            f"--baseline ({asked.baseline}) is none of the stages: name one of {', '.join(names)}"
        )
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


def _by_answers(
    asked: Asked, questions: Sequence[Query]
) -> tuple[dict[str, list[RunResult]], "PassageTexts | None"]:
    """The results of each run, and the texts of its passages where they were looked up."""
    options = AnswerOptions(
        ks=tuple(int(each.removeprefix("top-")) for each in asked.measures),
        match="regex" if asked.regex else "string",
        order=asked.order or "rank",
        top=max(10, asked.changed),
    )
    results: dict[str, list[RunResult]] = {}
    runs: dict[str, str | list[RunEntry]] = {}
    names = dict(zip(asked.runs, system_names(asked.runs), strict=True))
    for path, name in names.items():
        if _is_result(path):
            results[path] = _earlier(path, asked)
        elif _is_dpr(path) or (path == STANDARD_INPUT and not asked.passages):
            held = None if Path(path).is_file() else list(read_dpr_results(path))
            found = held or read_dpr_results(path)
            results[path] = [judge_answers(found, options, name=name)]
            if asked.dpr_output:
                marked = with_answers(held or read_dpr_results(path), match=options.match)
                write_dpr_results(asked.dpr_output, marked)
        else:
            results[path] = []
            runs[path] = path if Path(path).is_file() else list(read_run(path))
    if not runs:
        return results, None
    _check_questions(asked, questions, next(iter(runs)))
    known = {question.id for question in questions}
    wanted = {
        each
        for run in runs.values()
        for group in (read_run_groups(run) if isinstance(run, str) else group_entries(run))
        if group.query_id in known
        for each in group.ids
    }
    texts = _open_texts(asked, wanted) if wanted else None
    look_up = texts.texts if texts else lambda _: []
    for path, run in runs.items():
        results[path] = [judge_run_by_answers(run, questions, look_up, options, name=names[path])]
        if asked.dpr_output:
            listed = run_results(run, questions, look_up, name=names[path])
            write_dpr_results(asked.dpr_output, with_answers(listed, match=options.match))
    return results, texts


def _check_questions(asked: Asked, questions: Sequence[Query], path: str) -> None:
    if not asked.queries or not asked.passages:
        raise UsageError(
            f"{path} is a run without answers and texts: give --queries, a file with answers, "
            "and --passages, the index or corpus files that it was made on"
        )
    if not any(question.answers for question in questions):
        raise UsageError(
            f"--queries ({asked.queries}) has {len(questions)} questions and no answers: name a "
            "file with both, such as nq-test.qa.csv"
        )


def _open_texts(asked: Asked, wanted: set[str]) -> "PassageTexts":
    from ..training.passages import open_passages

    return open_passages(asked.passages, wanted)


def _texts(asked: Asked, wanted: set[str], opened: "PassageTexts | None") -> dict[str, str]:
    """The texts of these passages, where they are known."""
    if asked.searched and not asked.passages:
        asked = replace(asked, passages=(str(asked.searched.index),))
    if not asked.passages or not wanted:
        return {}
    found = (opened or _open_texts(asked, wanted)).texts(sorted(wanted))
    return {passage.id: passage.full_text for passage in found}


def _baseline(asked: Asked, by_run: Mapping[str, Sequence[RunResult]]) -> str | None:
    """A result's name: ``--baseline`` may give that or the path of its run."""
    names = [one.name for of_run in by_run.values() for one in of_run]
    if asked.baseline is None:
        return names[0] if asked.searched and len(names) > 1 else None
    if len(names) < 2:
        raise UsageError(f"--baseline ({asked.baseline}) needs another run to compare with it")
    place = os.path.abspath(asked.baseline)
    of_path = [
        one.name for path in by_run if os.path.abspath(path) == place for one in by_run[path]
    ]
    if asked.baseline in names or not of_path:
        return asked.baseline
    if len(of_path) > 1:
        raise UsageError(
            f"--baseline ({asked.baseline}) holds {len(of_path)} systems: name one of "
            f"{', '.join(of_path)}"
        )
    return of_path[0]
