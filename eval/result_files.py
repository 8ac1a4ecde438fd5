"""Evaluations in files: a JSON document with all of it, and a TSV of the values of single queries.

Neither holds what changes from one time to the next: times, dates, folders. The same evaluation
with the same versions gives the same bytes, if its caller's names and details are the same.
"""

import importlib.metadata
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import orjson

from ..data.lines import LineFile, MalformedError, shown
from ..durable import write_durably
from ..errors import DataError, UsageError
from .comparison import check_names
from .results import AnswerMarks, Difference, Findings, Order, Ordering, RunResult, TopHit

T = TypeVar("T")

COLUMNS = ("query_id", "system", "measure", "value")
_KIND, _VERSION = "rocketrank_evaluation", 1
_SOFTWARE = ("ir-measures", "numpy", "pytrec-eval-terrier", "scipy")
_ID_LISTS = (
    *("missing", "unjudged", "without_relevant", "self_hits"),
    *("tied", "all_tied", "disordered"),
)
_WORDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
_UNFIT = re.compile(r"[\t\r\n\0\ud800-\udfff]")  # surrogates stand for bytes that are no UTF-8
_DEPTH = re.compile(r"[1-9][0-9]{0,8}")
_CURE = "name another file or make room"


def write_json(
    path: str | Path,
    results: Sequence[RunResult],
    differences: Sequence[Difference] = (),
    *,
    details: Mapping[str, object] | None = None,
) -> None:
    """:func:`json_document` in a file. Raises RocketRankError where it cannot be written."""
    write_durably(Path(path), [json_document(results, differences, details=details)], cure=_CURE)


def json_document(
    results: Sequence[RunResult],
    differences: Sequence[Difference] = (),
    *,
    details: Mapping[str, object] | None = None,
) -> bytes:
    """One document: versions, ``details``, every system with all its values, the differences.

    ``details`` is what the caller has to say of the evaluation, in types that JSON has. Systems,
    measures, differences and hits keep their order, all else is sorted. The time of a query is left
    out. Raises UsageError for what JSON cannot hold, such as a value that is not finite.
    """
    numbers = orjson.OPT_SERIALIZE_NUMPY
    try:
        sorted_details = orjson.dumps(dict(details or {}), option=numbers | orjson.OPT_SORT_KEYS)
        document = {
            _KIND: _VERSION,
            "software": _software(),
            "details": orjson.loads(sorted_details),
            "systems": [_system(result) for result in results],
            "differences": [each._asdict() for each in differences],
        }
        option = numbers | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(document, option=option)
    except orjson.JSONEncodeError as error:
        raise UsageError(
            f"the evaluation cannot be written as JSON ({error}): names must be UTF-8, and "
            "details texts, numbers, lists or mappings"
        ) from None


def read_results(path: str | Path) -> list[RunResult]:
    """The systems of a document that :func:`write_json` wrote, or of ``-``.

    Raises UsageError for a file that cannot be opened, DataError for one that is something else.
    """
    return read_document(path).results


class Document(NamedTuple):
    """A document of :func:`write_json`: its systems, and what its writer said of them."""

    results: list[RunResult]
    details: dict[str, Any]


def read_document(path: str | Path) -> Document:
    """Systems and details. Raises as :func:`read_results`."""
    file = LineFile(path)
    try:
        document = orjson.loads("\n".join(line for _, line in file))
    except orjson.JSONDecodeError as error:
        file.fail("JSON", f"{error.msg} at column {error.colno}", error.lineno)
    version = document.get(_KIND) if isinstance(document, dict) else None
    if version is None:
        file.fail(f"an evaluation as JSON, with the key {_KIND!r}", "something else", 1)
    if version != _VERSION:
        file.fail(
            f"an evaluation of format version {_VERSION}",
            f"{shown(version)}; evaluate again, or update rocketrank",
            1,
        )
    if not isinstance(document.get("systems"), list):
        file.fail("a list of systems", shown(document.get("systems")), 1)
    details = document.get("details", {})
    if not isinstance(details, dict):
        file.fail("an object as 'details'", shown(details), 1)
    results = [
        result_from_json(each, f"{file.name}: system {number}")
        for number, each in enumerate(document["systems"], start=1)
    ]
    return Document(results, details)


def result_from_json(record: object, place: str = "the record") -> RunResult:
    """A system of a document, after orjson.loads; ``place`` is for the DataError it may raise."""
    try:
        return RunResult(
            name=_part(record, "name", str),
            values={
                measure: _numbers(of, f"values by {measure}")
                for measure, of in _part(record, "values", dict).items()
            },
            findings=_findings(_part(record, "findings", dict)),
            recall=_by_depth(record, "recall"),
            recall_grade=int(_number(record, "recall_grade")),
            top={
                query_id: _hits(query_id, hits)
                for query_id, hits in _part(record, "top", dict).items()
            },
        )
    except MalformedError as error:
        raise DataError(f"{place}: expected {error.expected}, found {error.found}") from None


def write_per_query_tsv(path: str | Path, results: Sequence[RunResult]) -> None:
    """A line for every value, under a line with the names of the columns: query_id, system,
    measure, value.

    Systems and measures keep their order, queries are sorted; reading a value gives the same
    number. Raises UsageError for a name or an id that is empty or has a tab or a line break in it.
    """
    check_names(results)
    lines = _tsv_lines(results)
    chunks = iter(lambda: "".join(islice(lines, 1000)).encode(), b"")
    write_durably(Path(path), chunks, cure=_CURE)


def read_per_query_tsv(path: str | Path) -> list[RunResult]:
    """The systems of a file that :func:`write_per_query_tsv` wrote, or of ``-``; it may lack the
    line with the names of the columns.

    Raises UsageError for a file that cannot be opened; DataError with file and line for a line that
    is no value, and for a value that was there before.
    """
    file = LineFile(path)
    if file.peek(1) == ["\t".join(COLUMNS)]:
        file.skip()
    values: dict[str, dict[str, dict[str, float]]] = {}
    lines: dict[tuple[str, str, str], int] = {}
    for query_id, system, measure, value in file.parsed(_parse_line):
        line = lines.setdefault((query_id, system, measure), file.number)
        if line != file.number:
            file.fail(
                "each value once",
                f"{shown(measure)} of {shown(system)} for {shown(query_id)}, which line {line} "
                "has too",
            )
        values.setdefault(system, {}).setdefault(measure, {})[query_id] = value
    return [RunResult(name=name, values=of) for name, of in values.items()]


def _software() -> dict[str, str]:
    from .. import __version__

    return {
        **{name: importlib.metadata.version(name) for name in _SOFTWARE},
        "rocketrank": __version__,
    }


def _system(result: RunResult) -> dict[str, Any]:
    _check_finite(result)
    findings = result.findings
    return {
        "name": result.name,
        "queries": result.queries,
        "means": {measure: result.mean(measure) for measure in result.values},
        "findings": {
            **{name: sorted(getattr(findings, name)) for name in _ID_LISTS},
            "duplicates": _sorted(findings.duplicates),
            "drops_self": findings.drops_self,
            "judged": _with_text_keys(findings.judged),
            "judged_per_query": findings.judged_per_query,
            "orderings": {name: each._asdict() for name, each in findings.orderings.items()},
            "order": findings.order,
            "longest": findings.longest,
            "answers": findings.answers and asdict(findings.answers),
        },
        "recall": _with_text_keys(result.recall),
        "recall_grade": result.recall_grade,
        "values": {measure: _sorted(of) for measure, of in result.values.items()},
        # a line for a query: an indented one would have five for a hit
        "top": {
            query_id: orjson.Fragment(
                orjson.dumps([tuple(hit) for hit in hits], option=orjson.OPT_SERIALIZE_NUMPY)
            )
            for query_id, hits in sorted(result.top.items())
        },
    }


def _check_finite(result: RunResult) -> None:
    """JSON would hold a null, and TSV what cannot be read again."""
    for measure, of in result.values.items():
        for query_id, value in of.items():
            if not math.isfinite(value):
                raise UsageError(
                    f'{measure} of "{result.name}" for the query {query_id} is {value}: expected a '
                    "finite number"
                )
    for query_id, hits in result.top.items():
        for hit in hits:
            if not math.isfinite(hit.score):
                raise UsageError(
                    f'the score that "{result.name}" gives {hit.passage_id} for the query '
                    f"{query_id} is {hit.score}: expected a finite number"
                )


def _sorted(mapping: Mapping[str, T]) -> dict[str, T]:
    return dict(sorted(mapping.items()))


def _with_text_keys(by_depth: Mapping[int, float]) -> dict[str, float]:
    return {str(depth): value for depth, value in sorted(by_depth.items())}


def _part(record: object, key: str, kind: type[T]) -> T:
    part = record.get(key) if isinstance(record, dict) else record
    if not isinstance(record, dict) or not isinstance(part, kind):
        raise MalformedError(f"{_WORDS[kind]} as {key!r}", shown(part))
    return part


def _findings(record: Mapping[str, Any]) -> Findings:
    return Findings(
        **{name: _ids(record, name) for name in _ID_LISTS},
        duplicates={
            query_id: int(count)
            for query_id, count in _numbers(_part(record, "duplicates", dict), "duplicates").items()
        },
        drops_self=_part(record, "drops_self", bool),
        judged=_by_depth(record, "judged"),
        orderings={
            measure: _ordering(measure, of)
            for measure, of in _part(record, "orderings", dict).items()
        },
        judged_per_query=_number(record, "judged_per_query"),
        order=_order(record),
        longest=int(_number(record, "longest")),
        answers=_answers(record.get("answers")),
    )


def _number(record: object, key: str) -> float:
    number = record.get(key) if isinstance(record, dict) else None
    return _numbers({key: number}, "findings")[key]


def _order(record: Mapping[str, Any]) -> Order:
    for order in get_args(Order):
        if record.get("order") == order:
            return order  # type: ignore[no-any-return]
    raise MalformedError(f"{' or '.join(get_args(Order))} as 'order'", shown(record.get("order")))


def _answers(record: object) -> AnswerMarks | None:
    if record is None:
        return None
    numbers = _numbers(record, "answers")
    names = [each.name for each in fields(AnswerMarks)]
    if set(numbers) != set(names):
        raise MalformedError(f"{', '.join(names)} as 'answers'", shown([*numbers]))
    return AnswerMarks(**{name: int(number) for name, number in numbers.items()})


def _ids(record: object, key: str) -> tuple[str, ...]:
    ids = _part(record, key, list)
    if not all(isinstance(each, str) for each in ids):
        raise MalformedError(f"a list of ids as {key!r}", shown(ids))
    return tuple(ids)


def _numbers(record: object, what: str) -> dict[str, float]:
    if not isinstance(record, dict):
        raise MalformedError(f"an object of numbers as {what}", shown(record))
    for key, value in record.items():
        if type(value) not in (int, float):
            raise MalformedError(f"numbers as {what}", f"{shown(value)} for {shown(key)}")
    return {key: float(value) for key, value in record.items()}


def _by_depth(record: object, key: str) -> dict[int, float]:
    numbers = _numbers(_part(record, key, dict), key)
    for depth in numbers:
        if not _DEPTH.fullmatch(depth):
            raise MalformedError(f"whole numbers from 1 as keys of {key!r}", shown(depth))
    return {int(depth): value for depth, value in numbers.items()}


def _ordering(measure: str, record: object) -> Ordering:
    numbers = _numbers(record, f"orderings by {measure}")
    if set(numbers) != set(Ordering._fields):
        raise MalformedError(
            f"{', '.join(Ordering._fields)} as orderings by {measure}", shown([*numbers])
        )
    return Ordering(**numbers)


def _hits(query_id: str, record: object) -> tuple[TopHit, ...]:
    found = []
    for hit in record if isinstance(record, list) else [record]:
        passage_id, score, grade = hit if isinstance(hit, list) and len(hit) == 3 else (None,) * 3
        graded = grade is None or isinstance(grade, int)
        if not (isinstance(passage_id, str) and isinstance(score, int | float) and graded):
            raise MalformedError(
                f"lists of passage id, score and grade as 'top' of {shown(query_id)}", shown(hit)
            )
        found.append(TopHit(passage_id, float(score), grade))
    return tuple(found)


def _tsv_lines(results: Sequence[RunResult]) -> Iterator[str]:
    yield "\t".join(COLUMNS) + "\n"
    for result in results:
        _check_finite(result)
        name = _field(result.name, "name")
        for measure, of in result.values.items():
            middle = f"\t{name}\t{_field(measure, 'measure')}\t"
            for query_id, value in sorted(of.items()):
                yield f"{_field(query_id, 'query id')}{middle}{float(value)!r}\n"


def _field(text: str, what: str) -> str:
    if not text or _UNFIT.search(text):
        raise UsageError(
            f"the {what} {shown(text)} is empty, not UTF-8, or has a tab or a line break in it, "
            "which a TSV file cannot hold: write JSON, or give another"
        )
    return text


def _parse_line(line: str) -> tuple[str, str, str, float]:
    fields = line.split("\t")
    if len(fields) != len(COLUMNS) or not all(fields):
        raise MalformedError(
            f"{len(COLUMNS)} columns ({', '.join(COLUMNS)}), separated by tabs",
            f"{len(fields)}: {shown(line)}",
        )
    query_id, system, measure, value = fields
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MalformedError("a finite number as value", shown(value))
    return query_id, system, measure, number
