"""Results of earlier evaluations as systems, and whether what is compared can be compared."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from ..errors import UsageError
from ..eval import (
    Conditions,
    Document,
    RunResult,
    canonical_name,
    check_alike,
    difference_between,
    read_document,
    unlike_sentence,
)
from .evaluate import Asked

_log = logging.getLogger(__name__)


def earlier_document(path: str, asked: Asked) -> Document:
    """Earlier results with the measures that are asked for, as far as they have them."""
    document = read_document(path)
    results = [_asked_for(result, path, asked) for result in document.results]
    if asked.qrels or asked.order or asked.missing == "skip" or asked.drop_self is not None:
        _log.warning(
            "%s holds figures of an earlier evaluation, which are taken as they are: --qrels, "
            "--order, --missing and --drop-self do not change them",
            path,
        )
    return Document(results, document.details)


def _asked_for(result: RunResult, path: str, asked: Asked) -> RunResult:
    own = {canonical_name(each): each for each in reversed(result.measures)}
    known = {each: own.get(canonical_name(each)) for each in asked.measures}
    kept = {each: name for each, name in known.items() if name is not None}
    if not kept:
        raise UsageError(
            f"{path} has {', '.join(result.measures)} of {result.name}, none of "
            f"{', '.join(asked.measures)}: ask for one of those with --measures"
        )
    if lacking := [each for each in asked.measures if each not in kept]:
        _log.warning(
            "%s has no %s of %s; evaluate the run again for it",
            path,
            ", ".join(lacking),
            result.name,
        )
    means = result.findings.orderings
    orderings = {each: means[name] for each, name in kept.items() if name in means}
    return replace(
        result,
        values={each: result.values[name] for each, name in kept.items()},
        findings=replace(result.findings, orderings=orderings),
    )


def check_conditions(by_system: Mapping[str, Conditions], baseline: str | None) -> None:
    """Refuse a comparison across conditions; without a baseline, say where they differ."""
    silent = [name for name, conditions in by_system.items() if "order" not in conditions]
    if silent and len(by_system) > 1:
        _log.warning(
            "the results of %s do not say how they were measured; whether they can be compared "
            "with others is not checked",
            ", ".join(silent),
        )
    if baseline is not None and baseline in by_system:
        check_alike(by_system, baseline)
        return
    first, *others = by_system
    for name in others:
        unlike = difference_between(by_system[name], by_system[first])
        if unlike:
            said = unlike_sentence(name, by_system[name], first, by_system[first], unlike)
            _log.warning("%s; their figures cannot be compared", said)
