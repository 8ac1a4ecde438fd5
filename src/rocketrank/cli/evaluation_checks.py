"""What ``rq eval`` refuses before it reads anything long, and what kinds of files it is given."""

import os
from pathlib import Path

from ..data.dpr_results import is_dpr_results
from ..data.lines import STANDARD_INPUT, check_paths, first_block
from ..errors import UsageError
from .evaluate import Asked
from .evaluation_shown import system_names


def check(given: Asked, asked: Asked) -> None:
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
    check_paths(each for each in given.passages if not Path(each).is_dir())
    _check_names(asked)
    if asked.by_answers:
        _check_answers(given)
        return
    if given.regex or given.dpr_output:
        option = "--regex" if given.regex else "--dpr-output"
        raise UsageError(f"{option} needs --preset nq, which looks for answers in passages")
    for path in asked.runs:
        if is_dpr(path):
            raise UsageError(
                f"{path} is DPR's retrieval results, which are measured by answers: give "
                "--preset nq"
            )
    if not asked.qrels and (asked.searched or not all(map(is_result, asked.runs))):
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
    if asked.baseline is None or asked.searched or any(map(is_result, asked.runs)):
        return
    names = system_names(asked.runs)
    if len(names) < 2:
        raise UsageError(f"--baseline ({asked.baseline}) needs another run to compare with it")
    if asked.baseline not in names and os.path.abspath(asked.baseline) not in places:
        raise UsageError(
            f"--baseline ({asked.baseline}) is none of the runs: name one of {', '.join(names)}"
        )


def is_result(path: str) -> bool:
    """Whether it holds results of an earlier evaluation, compressed or not. A pipe, which is read
    once, does not."""
    if path == STANDARD_INPUT or not Path(path).is_file():
        return False
    return b'"rocketrank_evaluation"' in first_block(path)[:4096]


def is_dpr(path: str) -> bool:
    return Path(path).is_file() and is_dpr_results(path)
