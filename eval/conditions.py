"""What figures rest on beside the run, and so what must be alike where they are compared."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError

Conditions = Mapping[str, Any]

# What must be alike, and how to make it so.
_ALIKE = {
    "judgements": "give both runs with one --qrels",
    "order": "evaluate both runs with one --order",
    "missing": "evaluate both runs with one --missing",
    "match": "evaluate both runs with --regex, or both without",
    "drop_self": "evaluate both runs with --drop-self, or both with --keep-self",
}
_SYSTEMS = "systems"


def judgements_digest(qrels: Mapping[str, Mapping[str, int]]) -> str:
    """The same for the same judgements, whatever their order, file or format: 12 hexadecimal
    digits of SHA-256 over the sorted lines "query<tab>passage<tab>grade"."""
    digest = hashlib.sha256()
    for query_id in sorted(qrels):
        lines = (f"{query_id}\t{one}\t{grade}\n" for one, grade in sorted(qrels[query_id].items()))
        digest.update("".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def with_conditions(
    details: Mapping[str, Any], by_system: Mapping[str, Conditions]
) -> dict[str, Any]:
    """Details of an evaluation with the conditions of its systems: once where all are alike, else
    system by system."""
    found = list(by_system.values())
    if all(each == found[0] for each in found):
        return {**details, **(found[0] if found else {})}
    return {**details, _SYSTEMS: {name: dict(each) for name, each in by_system.items()}}


def conditions_of(details: Mapping[str, Any], system: str) -> dict[str, Any]:
    """The conditions of a system in details that :func:`with_conditions` made, as far as they say
    any."""
    by_system = details.get(_SYSTEMS)
    found = by_system.get(system) if isinstance(by_system, dict) else details
    keys = ("qrels", *_ALIKE)
    return {key: found[key] for key in keys if key in found} if isinstance(found, dict) else {}


def difference_between(one: Conditions, other: Conditions) -> str | None:
    """The first of the conditions that both state and that are not alike."""
    return next(
        (each for each in _ALIKE if each in one and each in other and one[each] != other[each]),
        None,
    )


def unlike_sentence(
    system: str, of_system: Conditions, other: str, of_other: Conditions, condition: str
) -> str:
    """Both values of a condition that is not alike, without a full stop."""
    name = condition.replace("_", "-")
    return (
        f'"{system}" was measured with {name} {_value(of_system, condition)} and "{other}" with '
        f"{name} {_value(of_other, condition)}"
    )


def check_alike(by_system: Mapping[str, Conditions], baseline: str) -> None:
    """Raise UsageError for a system whose figures rest on something else than the baseline's."""
    for system, conditions in by_system.items():
        unlike = difference_between(conditions, by_system[baseline])
        if unlike:
            said = unlike_sentence(system, conditions, baseline, by_system[baseline], unlike)
            raise UsageError(
                f"{said}, the baseline, so that they cannot be compared: {_ALIKE[unlike]}"
            )


def _value(conditions: Conditions, condition: str) -> str:
    value = conditions[condition]
    if condition == "judgements":
        return f"{conditions.get('qrels', 'of an unknown file')} (sha256 {value})"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
