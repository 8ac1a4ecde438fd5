"""Reading ranking lists of any known format, which is told by the first lines of a file.

``rocketrank`` is our own (``lists``); ``list_records`` has the JSON formats of other tools,
``list_rows`` those of fields separated by tabs, ``list_judgements`` judgements and runs.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ..data.json_stream import JsonStream, begins_with_array
from ..data.lines import LineFile, MalformedError, check_paths, shown
from ..data.passage_formats import parse_object
from ..errors import DataError, UsageError
from ..two_stage import PassageTexts
from .list_judgements import (
    judged_lists,
    read_judged_positives,
    read_query_texts,
    run_lists,
    without_judged_positives,
)
from .list_records import parse_dpr, parse_flagembedding, parse_tevatron
from .list_rows import candidate_lists, id_triple_lists, is_header, rocketqa_lists, triple_lists
from .lists import RankingList, lists_in
from .passages import with_texts

ListFormat = Literal[
    "rocketrank",
    "rocketqa",
    "msmarco-triples",
    "msmarco-ids",
    "candidates",
    "dpr",
    "tevatron",
    "flagembedding",
    "qrels",
    "run",
]

LIST_FORMATS: tuple[ListFormat, ...] = get_args(ListFormat)
FORMAT_SHAPES: Mapping[ListFormat, str] = {
    "rocketrank": '{"query_id", "query", "candidates"}',
    "rocketqa": "query<tab>title<tab>passage<tab>label",
    "msmarco-triples": "query<tab>positive<tab>negative",
    "msmarco-ids": "query id<tab>passage id<tab>passage id",
    "candidates": "query id<tab>passage id<tab>rank<tab>label",
    "dpr": '[{"question", "positive_ctxs"}]',
    "tevatron": '{"query", "positive_passages"}',
    "flagembedding": '{"query", "pos"}',
    "qrels": "query id, 0, passage id, relevance",
    "run": "query id, Q0, passage id, rank, score, tag",
}
SAMPLE_LINES = 64

Row = Sequence[str]

_RECORD_PARSERS: Mapping[ListFormat, Callable[[str], RankingList]] = {
    "dpr": parse_dpr,
    "tevatron": parse_tevatron,
    "flagembedding": parse_flagembedding,
}
# Formats with a collection's own ids, so that judgements can say something of their passages.
_HAVE_IDS = {"rocketrank", "msmarco-ids", "candidates", "tevatron", "run"}
# An id: one ASCII word of at most 64 characters.
_ID = re.compile(r"[!-~]{1,64}\Z")
_INTEGER = re.compile(r"-?[0-9]{1,9}\Z")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
_QRELS_HEADER = ["query-id", "corpus-id", "score"]
_HIGHEST_GRADE = 9
# What stands in TREC's second column, in judgements and in runs.
_UNUSED = ("0", "Q0", "q0")


class OpenedLists(NamedTuple):
    """A file's format and its lists, to be read once."""

    format: ListFormat
    lists: Iterator[RankingList]


def read_any_lists(
    path: str | Path,
    *,
    format: ListFormat | Literal["auto"] = "auto",
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    passages: PassageTexts | None = None,
) -> Iterator[RankingList]:
    """The lists of a file, or of ``-``, in any known format, as a stream; see ``open_lists``."""
    return open_lists(path, format=format, queries=queries, qrels=qrels, passages=passages).lists


def open_lists(
    path: str | Path,
    *,
    format: ListFormat | Literal["auto"] = "auto",
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    passages: PassageTexts | None = None,
) -> OpenedLists:
    """Opens a file of lists and tells its format.

    ``queries`` is a file of texts for formats that hold ids of queries; others do without. With
    ``qrels`` the passages judged relevant are the positives of a run, and in other formats with ids
    are left out where they stand as negatives. ``passages`` gives candidates their texts.

    Lists come as they are in the file, also those from which nothing can be learnt
    (``lists.defect``). Raises UsageError for a file that cannot be opened and for options that do
    not fit the format; DataError (``file:line: expected …, found …``) then and while reading.
    """
    if format != "auto" and format not in LIST_FORMATS:
        raise UsageError(f"format ({format}) must be one of auto, {', '.join(LIST_FORMATS)}")
    check_paths([path])
    file, known = _open(path, format)
    if known is None:
        return OpenedLists("rocketrank", iter(()))
    if known in ("qrels", "run") and format == "auto" and not Path(path).is_file():
        raise UsageError(f"{file.name}: a pipe is read once; name its format: --format {known}")
    if qrels is not None and known not in _HAVE_IDS:
        raise UsageError(
            f"--qrels ({qrels}) is for lists with ids of queries and passages, found {file.name} "
            f"of format {known}; leave it out, or name the format with --format"
        )
    lists = _lists(path, file, known, queries, qrels)
    if qrels is not None and known != "run":
        lists = without_judged_positives(lists, read_judged_positives(qrels))
    return OpenedLists(known, lists if passages is None else with_texts(lists, passages))


def detect_list_format(sample: Sequence[str]) -> ListFormat | None:
    """The format of a file with these first lines (at least one), None when they fit none.

    * A first line that starts with ``{``, or an array's first element, is told by its keys.
    * A header of known column names is told by them (``query title para label``, …).
    * Otherwise the commonest number of columns counts, and what stands in them: ids are single
      ASCII words, labels are 0 or 1, ranks rise by one. Three columns are triples of texts unless
      all are ids; four columns are judgements when the second is 0 or Q0.
    """
    if sample[0].lstrip().startswith("{"):
        return _format_of_keys(sample[0])
    if sample[0].split() == _QRELS_HEADER:
        return "qrels"
    lines = sample[1:] if is_header(sample[0]) and len(sample) > 1 else sample
    has_tabs = "\t" in lines[0]
    rows = [line.split("\t") if has_tabs else line.split() for line in lines]
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if 2 * count <= len(rows):
        return None
    rows = [row for row in rows if len(row) == width]
    if width == 3:
        return _format_of_three(rows, has_tabs)
    if width == 4:
        return _format_of_four(rows, has_tabs)
    if width == 6 and _most(rows, lambda row: row[1] in _UNUSED and _NUMBER.match(row[4])):
        return "run"
    return "rocketqa" if has_tabs and width in (5, 6) else None


def _format_of_keys(text: str) -> ListFormat | None:
    try:
        keys = parse_object(text).keys()
    except MalformedError:
        return None
    if "lists" in keys or {"query", "candidates"} <= keys:
        return "rocketrank"
    if "positive_ctxs" in keys:
        return "dpr"
    if "positive_passages" in keys:
        return "tevatron"
    if "hits" in keys:
        return "run"
    return "flagembedding" if {"query", "pos"} <= keys else None


def _format_of_three(rows: Sequence[Row], has_tabs: bool) -> ListFormat | None:
    if not _most(rows, lambda row: all(map(_ID.match, row))):
        return "msmarco-triples" if has_tabs else None
    numbered = [row for row in rows if _INTEGER.match(row[2])]
    if 2 * len(numbered) > len(rows):
        if _are_ranks(numbered):
            return "run"
        if all(int(row[2]) <= _HIGHEST_GRADE for row in numbered):
            return "qrels"
    return "msmarco-ids" if has_tabs else None


def _format_of_four(rows: Sequence[Row], has_tabs: bool) -> ListFormat | None:
    if _most(rows, lambda row: row[1] in _UNUSED and _INTEGER.match(row[3])):
        return "qrels"
    labelled = _most(rows, lambda row: row[3] in ("0", "1"))
    if _most(rows, lambda row: _ID.match(row[1]) and _INTEGER.match(row[2])):
        if labelled:
            return "candidates" if has_tabs else None
        return "run" if _most(rows, lambda row: _NUMBER.match(row[3])) else None
    return "rocketqa" if labelled and has_tabs else None


def _most(rows: Sequence[Row], holds: Callable[[Row], object]) -> bool:
    """Whether something holds for most rows: one bad row must not hide what the others are."""
    return 2 * sum(1 for row in rows if holds(row)) > len(rows)


def _are_ranks(rows: Sequence[Row]) -> bool:
    """Whether the third column counts up from 0 or 1 within each query, and not only to 1."""
    queries = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[0])]
    ranks = [[int(row[2]) for row in group] for group in queries]
    return any(len(group) > 1 for group in ranks) and all(
        group == list(range(group[0], group[0] + len(group))) and group[0] in (0, 1)
        for group in ranks
    )


def _open(
    path: str | Path, format: ListFormat | Literal["auto"]
) -> tuple[LineFile | JsonStream, ListFormat | None]:
    """The file, nothing of it read, and its format; no format for a file without content."""
    if format == "dpr" or (
        (format == "auto" or format in _RECORD_PARSERS) and begins_with_array(path)
    ):
        stream = JsonStream(path)
        if format != "auto":
            return stream, format
        first = stream.peek()
        return stream, None if first is None else _detected(stream.name, [first])
    file = LineFile(path)
    if format != "auto":
        return file, format
    sample = file.peek(SAMPLE_LINES)
    return file, _detected(file.name, sample) if sample else None


def _detected(name: str, sample: Sequence[str]) -> ListFormat:
    format = detect_list_format(sample)
    if format is None:
        shapes = "; ".join(f"{format}: {shape}" for format, shape in FORMAT_SHAPES.items())
        raise DataError(
            f"{name}:1: expected lists of a known format ({shapes}), found {shown(sample[0])}; "
            "name the format with --format"
        )
    return format


def _lists(
    path: str | Path,
    file: LineFile | JsonStream,
    format: ListFormat,
    queries: str | Path | None,
    qrels: str | Path | None,
) -> Iterator[RankingList]:
    if format in _RECORD_PARSERS:
        return file.parsed(_RECORD_PARSERS[format])
    if isinstance(file, JsonStream):
        raise DataError(f"{file.name}:1: expected lines of format {format}, found a JSON array")
    if format == "rocketrank":
        return lists_in(file)
    if format == "rocketqa":
        return rocketqa_lists(file)
    if format == "msmarco-triples":
        return triple_lists(file)
    if queries is None:
        raise UsageError(
            f"{file.name}: format {format} holds ids of queries; name the file with their texts "
            "with --queries"
        )
    if format == "msmarco-ids":
        return id_triple_lists(file, read_query_texts(queries))
    if format == "candidates":
        return candidate_lists(file, read_query_texts(queries))
    if format == "qrels":
        return judged_lists(path, read_query_texts(queries))
    if qrels is None:
        raise UsageError(
            f"{file.name}: a run does not say what is relevant; name the judgements with --qrels"
        )
    return run_lists(path, read_query_texts(queries), read_judged_positives(qrels))
