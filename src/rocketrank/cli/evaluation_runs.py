"""What ``rq eval`` measures: runs by judgements or by answers, or what an index finds."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.datasets import Dataset, open_dataset
from ..data.dpr_results import DprResult, read_dpr_results, write_dpr_results
from ..data.lines import STANDARD_INPUT
from ..data.queries import read_queries
from ..data.records import Query, RunEntry
from ..data.run_groups import group_entries, read_run_groups
from ..data.runs import read_run
from ..errors import UsageError
from ..eval import (
    AnswerOptions,
    Conditions,
    Document,
    JudgeOptions,
    RunResult,
    canonical_name,
    compare,
    conditions_of,
    describe_findings,
    describe_judgements,
    expand_measures,
    judge_answers,
    judge_run,
    judge_run_by_answers,
    judgements_digest,
    load_qrels,
    read_results,
    run_results,
    with_answers,
    with_conditions,
)
from .evaluate import Asked, Searched
from .evaluation_checks import check, is_dpr, is_result
from .evaluation_earlier import check_conditions, earlier_document
from .evaluation_shown import Evaluation, details_of, system_names
from .evaluation_texts import known_texts

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..two_stage import PassageTexts


def measured(asked: Asked) -> Evaluation:
    """Carry out an evaluation. Raises RocketRankError, before any long work where it can."""
    given, asked = asked, completed(asked)
    check(given, asked)
    queries = list(read_queries(asked.queries)) if asked.queries else []
    if asked.by_answers:
        found = _by_answers(asked, queries)
    elif asked.searched:
        found = _of_index(asked, asked.searched, queries)
    else:
        found = _by_judgements(asked)
    results = [one for of_run in found.by_run.values() for one in of_run]
    baseline = _baseline(asked, _names(found.by_run))
    differences = (
        compare(results, baseline, changed=max(10, asked.changed)) if baseline is not None else []
    )
    texts = known_texts(asked, results, differences, opened=found.opened, dpr=found.dpr)
    return Evaluation(
        results=results,
        differences=differences,
        about_judgements=describe_judgements(results),
        notes={one.name: describe_findings(one) for one in results},
        queries={**texts.queries, **{each.id: each.text for each in queries}},
        passages=texts.passages,
        details=with_conditions(details_of(asked), found.conditions),
        depths=found.depths,
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """``by_run`` is the path of a run → its systems, ``conditions`` and ``depths`` go by a system's
    name. ``opened`` are passages that were looked up, ``dpr`` retrieval results of DPR."""

    by_run: Mapping[str, Sequence[RunResult]]
    conditions: Mapping[str, Conditions]
    depths: Mapping[str, int] = field(default_factory=dict)
    opened: "PassageTexts | None" = None
    dpr: Sequence[str | Sequence[DprResult]] = ()


def _names(by_run: Mapping[str, Sequence[RunResult]]) -> dict[str, list[str]]:
    return {path: [one.name for one in of_run] for path, of_run in by_run.items()}


def completed(asked: Asked) -> Asked:
    """With what the data set says, and the preset as measures."""
    if asked.dataset is None:
        for option, value in (("--data", asked.data), ("--split", asked.split)):
            if value is not None:
                raise UsageError(f"{option} ({value}) needs --dataset, the name of the data set")
        if not asked.measures and not asked.preset and all(map(is_result, asked.runs)):
            earlier = [one for path in asked.runs for one in read_results(path)]
            named = [each for one in earlier for each in one.measures]
            own = {canonical_name(each): each for each in reversed(named)}
            wanted = tuple(each for each in dict.fromkeys(named) if each in own.values())
            return replace(asked, measures=expand_measures(wanted, None))
        return replace(asked, measures=expand_measures(asked.measures, asked.preset))
    found = _dataset(asked.dataset, asked.data, asked.split)
    by_name = not asked.measures and not asked.preset
    measures = expand_measures(asked.measures, found.preset if by_name else asked.preset)
    return replace(
        asked,
        measures=measures,
        qrels=asked.qrels or (str(found.qrels) if found.qrels else None),
        queries=asked.queries or str(found.queries),
        passages=asked.passages or (() if asked.searched else tuple(map(str, found.corpus))),
        split=found.split,
        regex=asked.regex or found.regex_answers,
        drop_self=found.drop_self if asked.drop_self is None else asked.drop_self,
    )


def _dataset(name: str, data: Path | None, split: str | None) -> Dataset:
    from ..models import cache_directory

    return open_dataset(name, data, split=split, downloads=cache_directory() / "datasets")


def _by_judgements(asked: Asked) -> _Measured:
    earlier = {path: earlier_document(path, asked) for path in asked.runs if is_result(path)}
    qrels = load_qrels(asked.qrels) if asked.qrels and len(earlier) < len(asked.runs) else {}
    own = _conditions(asked, qrels)
    names: dict[str, list[str]] = {}
    conditions: dict[str, Conditions] = {}
    for path, name in zip(asked.runs, system_names(asked.runs), strict=True):
        names[path] = _earlier_names(earlier[path]) if path in earlier else [name]
        for each in names[path]:
            known = conditions_of(earlier[path].details, each) if path in earlier else own
            conditions[each] = known
    check_conditions(conditions, _baseline(asked, names))
    by_run = {
        path: earlier[path].results
        if path in earlier
        else [judge_run(path, qrels, _judge_options(asked), name=names[path][0])]
        for path in asked.runs
    }
    return _Measured(by_run=by_run, conditions=conditions)


def _earlier_names(document: Document) -> list[str]:
    return [one.name for one in document.results]


def _conditions(asked: Asked, qrels: Mapping[str, Mapping[str, int]]) -> Conditions:
    """What this evaluation's figures rest on; no names of folders."""
    if asked.by_answers:
        match = "regex" if asked.regex else "string"
        return {"order": asked.order or "rank", "match": match}
    return {
        "qrels": Path(asked.qrels or "").name,
        "judgements": judgements_digest(qrels),
        "order": asked.order or ("rank" if asked.searched else "score"),
        "missing": asked.missing,
        "drop_self": bool(asked.drop_self),
    }


def _judge_options(asked: Asked) -> JudgeOptions:
    return JudgeOptions(
        measures=asked.measures,
        drop_self=bool(asked.drop_self),
        missing=asked.missing,
        order=asked.order or "score",
        top=max(10, asked.changed),
    )


def _of_index(asked: Asked, searched: Searched, queries: Sequence[Query]) -> _Measured:
    """Stage one and the re-ranking depths, each with the time of a query."""
    from ..index_evaluation import check_depths, stage_name, write_stage_runs
    from ..search_options import DEFAULT_RERANK_DEPTH

    qrels = load_qrels(asked.qrels or "")
    queries = judged_queries(asked, queries, qrels)
    depths = depths_of(searched, min(DEFAULT_RERANK_DEPTH, searched.k))
    depths = check_depths(depths, searched.k, reranks=searched.reranker is not None)
    names = [stage_name(depth) for depth in depths]
    if asked.baseline is not None and asked.baseline not in names:
        raise UsageError(
            f"--baseline ({asked.baseline}) is none of the stages: name one of {', '.join(names)}"
        )
    with ExitStack() as stack:
        folder = searched.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        engine, weight = stack.enter_context(opened_engine(searched))
        runs = write_stage_runs(
            engine,
            queries,
            folder,
            k=searched.k,
            depths=depths,
            weight=weight or 0.0,
            first_stage=searched.first_stage,
            group=searched.group,
            progress=sys.stderr.isatty(),
        )
        # a list that was fused or re-ranked stands in the order of its ranks
        options = replace(_judge_options(asked), order=asked.order or "rank")
        results = [
            replace(
                judge_run(run.path, qrels, options, name=run.name), milliseconds=run.milliseconds
            )
            for run in runs
        ]
    return _Measured(
        by_run={"--index": results},
        conditions=dict.fromkeys(names, _conditions(asked, qrels)),
        depths={run.name: run.depth for run in runs},
    )


def judged_queries(
    asked: Asked, queries: Sequence[Query], qrels: Mapping[str, Mapping[str, int]]
) -> list[Query]:
    """Those with judgements, at least one."""
    judged = [each for each in queries if each.id in qrels]
    if not judged:
        raise UsageError(
            f"--queries ({asked.queries}) and --qrels ({asked.qrels}) have no query in common: "
            "name files of the same queries"
        )
    return judged


@contextmanager
def opened_engine(searched: Searched) -> "Iterator[tuple[SearchEngine, float | None]]":
    """The index with its models, and the weight that ``--fuse`` means."""
    from ..engine import SearchEngine
    from ..search_options import check_first_stage
    from .search import parse_fuse

    with SearchEngine.open(
        searched.index,
        model=searched.model,
        reranker=searched.reranker,
        device=searched.device,
        index_device="cpu",
        precision=searched.precision,
        engine=searched.engine,
        threads=searched.threads,
        hybrid_weight=searched.hybrid_weight,
    ) as engine:
        fuse = parse_fuse(searched.fuse)
        check_first_stage(searched.first_stage, fuse, has_words=engine.index.has_words)
        yield engine, engine.fusion_weight(fuse)


def depths_of(searched: Searched, usual: int) -> list[int]:
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


def _by_answers(asked: Asked, questions: Sequence[Query]) -> _Measured:
    options = AnswerOptions(
        ks=tuple(int(each.removeprefix("top-")) for each in asked.measures),
        match="regex" if asked.regex else "string",
        order=asked.order or "rank",
        top=max(10, asked.changed),
    )
    results: dict[str, list[RunResult]] = {}
    conditions: dict[str, Conditions] = {}
    dpr: list[str | list[DprResult]] = []
    runs: dict[str, str | list[RunEntry]] = {}
    names = dict(zip(asked.runs, system_names(asked.runs), strict=True))
    for path, name in names.items():
        if is_result(path):
            earlier = earlier_document(path, asked)
            results[path] = earlier.results
            conditions |= {
                each: conditions_of(earlier.details, each) for each in _earlier_names(earlier)
            }
            continue
        conditions[name] = _conditions(asked, {})
        if is_dpr(path) or (path == STANDARD_INPUT and not asked.passages):
            held = None if Path(path).is_file() else list(read_dpr_results(path))
            dpr.append(path if held is None else held)
            found = held or read_dpr_results(path)
            results[path] = [judge_answers(found, options, name=name)]
            if asked.dpr_output:
                marked = with_answers(held or read_dpr_results(path), match=options.match)
                write_dpr_results(asked.dpr_output, marked)
        else:
            results[path] = []
            runs[path] = path if Path(path).is_file() else list(read_run(path))
    by_name = _names(results) | {path: [names[path]] for path in runs}
    check_conditions(conditions, _baseline(asked, by_name))
    texts = _read_by_answers(asked, questions, runs, results, options) if runs else None
    return _Measured(by_run=results, conditions=conditions, opened=texts, dpr=dpr)


def _read_by_answers(
    asked: Asked,
    questions: Sequence[Query],
    runs: Mapping[str, str | list[RunEntry]],
    results: dict[str, list[RunResult]],
    options: AnswerOptions,
) -> "PassageTexts | None":
    """Judge runs without texts into ``results``; what is returned are the texts looked up."""
    _check_questions(asked, questions, next(iter(runs)))
    names = dict(zip(asked.runs, system_names(asked.runs), strict=True))
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
    return texts


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


def _baseline(asked: Asked, by_run: Mapping[str, Sequence[str]]) -> str | None:
    """A result's name, of those by run: ``--baseline`` may give that or the path of its run."""
    names = [one for of_run in by_run.values() for one in of_run]
    if asked.baseline is None:
        return names[0] if asked.searched and len(names) > 1 else None
    if len(names) < 2:
        raise UsageError(f"--baseline ({asked.baseline}) needs another run to compare with it")
    place = os.path.abspath(asked.baseline)
    of_path = [one for path in by_run if os.path.abspath(path) == place for one in by_run[path]]
    if asked.baseline in names or not of_path:
        return asked.baseline
    if len(of_path) > 1:
        raise UsageError(
            f"--baseline ({asked.baseline}) holds {len(of_path)} systems: name one of "
            f"{', '.join(of_path)}"
        )
    return of_path[0]
