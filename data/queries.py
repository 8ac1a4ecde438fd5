"""Reading queries of any known format.

=========  ===========================================  ==========================================
format     line                                         id
=========  ===========================================  ==========================================
tsv        ``id<tab>text``, with or without header      as it stands
jsonl      ``{"_id", "text"}``, ``{"question"}``, …     as it stands; line number from 0 without one
dpr        ``question<tab>['answer', …]``               line number from 0
rocketqa   ``text<tab>-<tab>-<tab>0``                   line number from 0
plain      ``text``                                     line number from 1
=========  ===========================================  ==========================================
"""

import ast
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import DataError, UsageError
from .lines import LineFile, MalformedError, shown
from .passage_formats import parse_id, parse_object, parse_text, unquoted_field
from .records import Query

QueryFormat = Literal["tsv", "jsonl", "dpr", "rocketqa", "plain"]
ParseQuery = Callable[[str], Query]

QUERY_FORMATS: tuple[QueryFormat, ...] = get_args(QueryFormat)
SAMPLE_LINES = 64

_ID_KEYS = ("_id", "id", "query_id", "qid")
_TEXT_KEYS = ("text", "query", "question")
_ANSWER_KEYS = ("answers", "answer")
_ID_COLUMNS = {"qid", "id", "_id", "query_id", "query-id"}
_TEXT_COLUMNS = {"query", "text", "question"}


def read_queries(
    path: str | Path, *, format: QueryFormat | Literal["auto"] = "auto"
) -> Iterator[Query]:
    """The queries of a file or of ``-``; the format is known by the first lines.

    Raises UsageError at once for a file that cannot be opened, and DataError while reading: for a
    line that cannot be read, an empty text, an id that was there before (both lines are named).
    """
    if format != "auto" and format not in QUERY_FORMATS:
        raise UsageError(f"format ({format}) must be one of auto, {', '.join(QUERY_FORMATS)}")
    return _read(LineFile(path), format)


def _read(file: LineFile, format: QueryFormat | Literal["auto"]) -> Iterator[Query]:
    sample = file.peek(SAMPLE_LINES)
    if not sample:
        return
    known = detect_query_format(sample) if format == "auto" else format
    if known is None:
        raise DataError(
            f"{file.name}:1: expected queries of a known format ({', '.join(QUERY_FORMATS)}), "
            f"found {shown(sample[0])}; name the format with --format"
        )
    if known == "tsv" and _is_header(sample[0]):
        file.skip()
    lines: dict[str, int] = {}
    for query in file.parsed(_parser(known, sample)):
        if not query.text.strip():
            file.fail("a query", f"an empty text with the id {shown(query.id)}")
        if query.id in lines:
            file.fail(
                "an id that is new", f"{shown(query.id)}, which line {lines[query.id]} has too"
            )
        lines[query.id] = file.number
        yield query


def detect_query_format(sample: Sequence[str]) -> QueryFormat | None:
    """The format of a file with these first lines, None when they fit none.

    A first line that starts with ``{`` is JSON; no tab in any line is plain; a Python list as the
    second of two fields in every line is dpr; otherwise the commonest number of fields decides
    between tsv (2) and rocketqa (4, the second ``-``).
    """
    if sample[0].lstrip().startswith("{"):
        return "jsonl"
    rows = [line.split("\t") for line in sample]
    widths = [len(row) for row in rows]
    if max(widths) == 1:
        return "plain"
    if all(len(row) == 2 and _is_list(row[1]) for row in rows):
        return "dpr"
    if 2 * widths.count(2) > len(rows):
        return "tsv"
    return "rocketqa" if all(len(row) == 4 and row[1] == "-" for row in rows) else None


def _is_list(field: str) -> bool:
    field = unquoted_field(field)
    return field.startswith("[") and field.endswith("]")


def _is_header(line: str) -> bool:
    names = [name.strip().lower() for name in line.split("\t")]
    return len(names) == 2 and names[0] in _ID_COLUMNS and names[1] in _TEXT_COLUMNS


def _parser(format: QueryFormat, sample: Sequence[str]) -> ParseQuery:
    row_ids = map(str, itertools.count(1 if format == "plain" else 0))
    if format == "jsonl":
        return _jsonl_parser(row_ids)
    if format == "tsv":
        return _parse_tsv
    parse = {"dpr": _parse_dpr, "rocketqa": _parse_rocketqa, "plain": _parse_plain}[format]
    return lambda line: parse(line, next(row_ids))


def _parse_tsv(line: str) -> Query:
    query_id, text = _fields(line, 2, "2 fields (id and text)")
    if not query_id:
        raise MalformedError("an id", "an empty one")
    return Query(query_id, text)


def _parse_plain(line: str, row_id: str) -> Query:
    (text,) = _fields(line, 1, "a query on a line of its own, as in the lines before, not fields")
    return Query(row_id, text)


def _parse_rocketqa(line: str, row_id: str) -> Query:
    return Query(row_id, _fields(line, 4, "4 fields (text, -, -, 0)")[0])


def _parse_dpr(line: str, row_id: str) -> Query:
    """DPR writes the answers as a Python list, and quotes like CSV where there are quotes."""
    question, answers = _fields(line, 2, "2 fields (question and list of answers)")
    try:
        accepted = ast.literal_eval(unquoted_field(answers))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        accepted = None
    # A question that is all in quotes may be meant so; with doubled ones inside it is quoted.
    text = unquoted_field(question) if '""' in question[1:-1] else question
    if not isinstance(accepted, list) or not all(isinstance(one, str) for one in accepted):
        raise MalformedError("a Python list of answer strings", shown(answers))
    return Query(row_id, text, tuple(accepted))


def _jsonl_parser(row_ids: Iterator[str]) -> ParseQuery:
    """The first line decides whether the file has ids."""
    has_ids: bool | None = None

    def parse(line: str) -> Query:
        nonlocal has_ids
        record = parse_object(line)
        id_key = _first_key(record, _ID_KEYS)
        text_key = _first_key(record, _TEXT_KEYS)
        answers_key = _first_key(record, _ANSWER_KEYS)
        if has_ids is None:
            has_ids = id_key is not None
        if has_ids and id_key is None:
            raise MalformedError("an id as on the first line", f"the keys {shown([*record])}")
        if text_key is None:
            raise MalformedError(
                f"the key {' or '.join(map(repr, _TEXT_KEYS))}", f"the keys {shown([*record])}"
            )
        query_id = parse_id(record[id_key], id_key) if has_ids and id_key else next(row_ids)
        answers = _answers(record[answers_key], answers_key) if answers_key else ()
        return Query(query_id, parse_text(record[text_key], text_key), answers)

    return parse


def _first_key(record: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in record), None)


def _answers(value: object, key: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MalformedError(f"a list of strings in {key!r}", shown(value))
    return tuple(value)


def _fields(line: str, width: int, expected: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) != width:
        raise MalformedError(expected, f"{len(fields)}: {shown(line)}")
    return fields
