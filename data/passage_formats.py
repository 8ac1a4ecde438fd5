"""How a line of each corpus format becomes a Passage, and how the first lines tell the format."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import orjson

from .lines import MalformedError, shown
from .records import NO_METADATA, Passage

CorpusFormat = Literal["msmarco", "beir", "dpr", "rocketqa"]
ParsePassage = Callable[[str], Passage]

CORPUS_FORMATS: tuple[CorpusFormat, ...] = get_args(CorpusFormat)
FORMAT_SHAPES: Mapping[CorpusFormat, str] = {
    "msmarco": "id<tab>text",
    "beir": 'JSON lines {"_id", "title", "text"}',
    "dpr": "id<tab>text<tab>title with this header",
    "rocketqa": "title<tab>text without ids",
}

_ID_KEYS = ("_id", "id", "pid", "docid")
_TEXT_KEYS = ("text", "contents", "passage")
_ID_COLUMNS = {"pid", "id", "_id", "docid", "doc_id", "passage_id"}
_TEXT_COLUMNS = {"text", "passage", "contents", "para", "paragraph"}
_DPR_COLUMNS = ("id", "text", "title")
# An id: one ASCII word of at most 64 characters that is not RocketQA's "-" for "no title".
_ID = re.compile(r"(?!-\Z)[!-~]{1,64}\Z")
_DIGIT = re.compile(r"[0-9]")
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"\Z')


def detect_corpus_format(sample: Sequence[str]) -> CorpusFormat | None:
    """The format of a file with these first lines (at least one), None when they fit none.

    * A first line that starts with ``{`` is JSON: beir.
    * A header line of known column names decides at once (``pid passage``, ``id text title``, …).
    * Otherwise the commonest number of columns counts, so that one bad line does not hide the
      format in which it is bad. Four columns of which the first is ``-`` are rocketqa.
    * Two columns are msmarco when at least half of the first fields are ids with a digit, or all
      of them are ids; an id is one ASCII word of at most 64 characters. Else they are rocketqa.
    """
    if sample[0].lstrip().startswith("{"):
        return "beir"
    names = _column_names(sample[0])
    if set(names) == set(_DPR_COLUMNS) and len(names) == 3:
        return "dpr"
    if is_msmarco_header(sample[0]):
        return "msmarco"
    if is_rocketqa_header(sample[0]):
        return "rocketqa"
    rows = [line.split("\t") for line in sample]
    width, lines = Counter(map(len, rows)).most_common(1)[0]
    if 2 * lines <= len(rows):
        return None
    first = [row[0] for row in rows if len(row) == width]
    if width == 4:
        return "rocketqa" if set(first) == {"-"} else None
    return _two_column_format(first) if width == 2 else None


def _two_column_format(first: Sequence[str]) -> CorpusFormat:
    ids = [field for field in first if _ID.match(field)]
    with_digit = sum(1 for field in ids if _DIGIT.search(field))
    if len(ids) == len(first):
        # Titles of one word look like ids, but titles repeat.
        return "msmarco" if with_digit or len(set(ids)) == len(ids) else "rocketqa"
    return "msmarco" if 2 * with_digit >= len(first) else "rocketqa"


def is_msmarco_header(line: str) -> bool:
    """Whether the line is a header such as ``pid<tab>passage``."""
    names = _column_names(line)
    return len(names) == 2 and names[0] in _ID_COLUMNS and names[1] in _TEXT_COLUMNS


def is_rocketqa_header(line: str) -> bool:
    """Whether the line is a header such as ``title<tab>para``."""
    names = _column_names(line)
    return len(names) == 2 and names[0] == "title" and names[1] in _TEXT_COLUMNS


def dpr_columns(line: str) -> list[str] | None:
    """The header's column names in their order, None when the line is no header."""
    names = _column_names(line)
    return names if sorted(names) == sorted(_DPR_COLUMNS) else None


def _column_names(line: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.split("\t")]


def parse_msmarco(line: str) -> Passage:
    """``id<tab>text``."""
    passage_id, _, text = line.partition("\t")
    if not passage_id or not text or "\t" in text:
        _check_width(line.split("\t"), 2, "2 fields (id and text)")
        _check_id(passage_id)
    return Passage(passage_id, text)


def rocketqa_parser(row_ids: Iterator[int]) -> ParsePassage:
    """``title<tab>text``, or RocketQA's inference form ``-<tab>title<tab>text<tab>0``.

    RocketQA has no ids: they are the line numbers from 0, drawn from ``row_ids``, which goes on
    from one file to the next. The title ``-`` means none.
    """

    def parse(line: str) -> Passage:
        fields = line.split("\t")
        if len(fields) == 4 and fields[0] == "-":
            fields = fields[1:3]
        _check_width(fields, 2, "2 fields (title and text)")
        title, text = fields
        return Passage(str(next(row_ids)), text, "" if title == "-" else title)

    return parse


def parse_beir(line: str) -> Passage:
    """A JSON object with an id and a text; further scalar fields become metadata."""
    record = parse_object(line)
    id_key = _key(record, _ID_KEYS)
    text_key = _key(record, _TEXT_KEYS)
    title = record.get("title")
    return Passage(
        parse_id(record[id_key], id_key),
        parse_text(record[text_key], text_key),
        "" if title is None else parse_text(title, "title"),
        _metadata(record, {id_key, text_key, "title", "metadata"}),
    )


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object on the line. Raises MalformedError."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedError("a JSON object", f"{shown(line)} ({error})") from None
    if not isinstance(record, dict):
        raise MalformedError("a JSON object", shown(record))
    return record


def parse_id(value: object, key: str) -> str:
    """An id from JSON: a non-empty string, or an integer, which becomes one."""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise MalformedError(f"a string or an integer in {key!r}", shown(value))
    if not value:
        raise MalformedError(f"an id in {key!r}", "an empty one")
    return value


def parse_text(value: object, key: str) -> str:
    """A text from JSON: a string."""
    if not isinstance(value, str):
        raise MalformedError(f"a string in {key!r}", shown(value))
    return value


def _key(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    for key in keys:
        if key in record:
            return key
    raise MalformedError(f"the key {' or '.join(map(repr, keys))}", f"the keys {shown([*record])}")


def _metadata(record: Mapping[str, Any], used: set[str]) -> Mapping[str, Any]:
    """The object under ``metadata`` as it is, and the scalars (null aside) of all unused keys."""
    if record.keys() <= used and not record.get("metadata"):
        return NO_METADATA
    metadata = record.get("metadata")
    fields = dict(metadata) if isinstance(metadata, dict) else {}
    used = used if isinstance(metadata, dict) else used - {"metadata"}
    for key, value in record.items():
        if key not in used and isinstance(value, str | int | float):
            fields[key] = value
    return fields or NO_METADATA


def dpr_parser(sample: Sequence[str], columns: Sequence[str] | None = None) -> ParsePassage:
    """``id<tab>text<tab>title`` in the header's column order, quoted like CSV or not.

    DPR's own file is quoted (the csv module's tab dialect), files without quoting look alike, and
    a quote that is part of the text must stay. ``is_quoted`` says how the first lines decide; when
    they hold no quote at all, the first line with one decides. In a quoted file a field that
    starts with a quote must end with one and have those inside doubled, any other field is taken
    as it is, and a line is always one passage: lines are never joined.
    """
    order = [(columns or _DPR_COLUMNS).index(name) for name in _DPR_COLUMNS]
    quoted = is_quoted(sample)

    def parse(line: str) -> Passage:
        nonlocal quoted
        fields = line.split("\t")
        if '"' in line:
            if quoted is None:
                # Lines without quotes came before, so this file does not quote every field.
                quoted = is_quoted(["no\tquotes\there", line])
            if quoted:
                fields = _unquoted(line, fields)
        _check_width(fields, 3, "3 fields (id, text and title)")
        passage_id, text, title = (fields[column] for column in order)
        _check_id(passage_id)
        return Passage(passage_id, text, title)

    return parse


def is_quoted(lines: Sequence[str]) -> bool | None:
    """Whether tab-separated lines are quoted as the csv module writes them; None: no quotes seen.

    A field with a quote in it counts. One that does not both start and end with a quote and have
    all inner ones doubled shows a file without quoting, whatever else there is. Failing that, a
    field with doubled inner quotes, or with a tab inside quotes, shows a quoted file. There remain
    fields like ``"all of it"``: a writer quotes them only when it quotes every text, so they show a
    quoted file if each line has one.
    """
    plain = 0
    doubled = False
    for line in lines:
        fields = line.split("\t")
        if len(fields) > 3 and '"' in line:
            doubled = doubled or _with_tabs(line) is not None
            continue
        marked = [field for field in fields if '"' in field]
        if not all(_QUOTED.match(field) for field in marked):
            return False
        doubled = doubled or any('"' in field[1:-1] for field in marked)
        plain += bool(marked)
    if doubled:
        return True
    return plain == len(lines) if plain else None


def _unquoted(line: str, fields: Sequence[str]) -> list[str]:
    """The fields of a line of a quoted file."""
    if len(fields) > 3 and (inner := _with_tabs(line)):
        return inner
    for field in fields:
        if field.startswith('"') and not _QUOTED.match(field):
            raise MalformedError(
                "a quoted field to end on its line and its inner quotes to be doubled, as in the "
                "lines before",
                shown(field),
            )
    return [unquoted_field(field) for field in fields]


def unquoted_field(field: str) -> str:
    """The content of a field quoted as the csv module quotes; any other field as it is."""
    return field[1:-1].replace('""', '"') if _QUOTED.match(field) else field


def _with_tabs(line: str) -> list[str] | None:
    """The three fields of a line that has tabs inside quotes, None when it is no such line."""
    try:
        (fields,) = csv.reader([line], delimiter="\t", strict=True)
    except (csv.Error, ValueError):
        return None
    return fields if len(fields) == 3 else None


def _check_width(fields: Sequence[str], width: int, expected: str) -> None:
    if len(fields) != width:
        raise MalformedError(
            f"{expected} separated by tabs", f"{len(fields)}: {shown(chr(9).join(fields))}"
        )


def _check_id(passage_id: str) -> None:
    if not passage_id:
        raise MalformedError("an id", "an empty one")
