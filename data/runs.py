"""Reading and writing runs: for each query the passages that a system found, best first.

========  ===============================================================  ======================
format    line                                                             score when read
========  ===============================================================  ======================
trec      ``query Q0 passage rank score tag``, separated by blanks or tabs  as it stands
msmarco   ``query<tab>passage<tab>rank``, RocketQA with ``<tab>score``      as it stands, or 1/rank
jsonl     ``{"query_id", "hits": [{"id", "rank", "score"}, …]}``            as it stands
========  ===============================================================  ======================
"""

import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from ..durable import write_durably
from ..errors import DataError, UsageError
from .lines import LineFile, MalformedError, shown
from .passage_formats import parse_id, parse_object
from .records import RunEntry

RunFormat = Literal["trec", "msmarco", "jsonl"]

RUN_FORMATS: tuple[RunFormat, ...] = get_args(RunFormat)
STANDARD_OUTPUT = "-"
_RANK = re.compile(r"[0-9]{1,9}\Z")
_BLANK = re.compile(r"[\s\0]")
_TAB = re.compile(r"[\t\r\n\0]")


def read_run(path: str | Path, format: RunFormat | Literal["auto"] = "auto") -> Iterator[RunEntry]:
    """The entries of a run file or of ``-``, in the file's order; "auto" goes by the first line.

    Ranks stand as they are in the file (some systems count from 0). Raises UsageError for a file
    that cannot be opened, DataError for a bad line and for a score that is not finite.
    """
    _check_format(format, ("auto", *RUN_FORMATS))
    return _read(LineFile(path), format)


def _read(file: LineFile, format: RunFormat | Literal["auto"]) -> Iterator[RunEntry]:
    sample = file.peek(1)
    if not sample:
        return
    known = detect_run_format(sample[0]) if format == "auto" else format
    if known is None:
        raise DataError(
            f"{file.name}:1: expected a run (trec: 6 columns; msmarco: 3 or 4 columns; jsonl: JSON "
            f"lines), found {shown(sample[0])}"
        )
    if known == "jsonl":
        yield from itertools.chain.from_iterable(file.parsed(_parse_jsonl))
    else:
        yield from file.parsed(_parse_trec if known == "trec" else _parse_msmarco)


def detect_run_format(line: str) -> RunFormat | None:
    """What a run is whose first line this is; None for something else.

    A line that is one of msmarco between its tabs is that, whatever blanks its ids have.
    """
    if line.lstrip().startswith("{"):
        return "jsonl"
    if "\t" in line and _is_msmarco(line):
        return "msmarco"
    width = len(line.split())
    return "trec" if width == 6 else "msmarco" if width in (3, 4) else None


def _is_msmarco(line: str) -> bool:
    try:
        _parse_msmarco(line)
    except MalformedError:
        return False
    return True


def _parse_trec(line: str) -> RunEntry:
    fields = line.split()
    if len(fields) != 6:
        raise MalformedError(
            "6 columns (query, Q0, passage, rank, score, tag)", f"{len(fields)}: {shown(line)}"
        )
    query_id, _, passage_id, rank, score, _ = fields
    return RunEntry(query_id, passage_id, _rank(rank), _score(score))


def _parse_msmarco(line: str) -> RunEntry:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) not in (3, 4) or not fields[0] or not fields[1]:
        raise MalformedError(
            "3 or 4 columns (query, passage, rank, perhaps score)", f"{len(fields)}: {shown(line)}"
        )
    rank = _rank(fields[2])
    if len(fields) == 4:
        return RunEntry(fields[0], fields[1], rank, _score(fields[3]))
    if rank == 0:
        raise MalformedError("ranks from 1, which give the scores 1/rank", "0")
    return RunEntry(fields[0], fields[1], rank, 1 / rank)


def _parse_jsonl(line: str) -> list[RunEntry]:
    record = parse_object(line)
    hits = record.get("hits")
    if "query_id" not in record or not isinstance(hits, list):
        raise MalformedError(
            "the keys 'query_id' and 'hits' (a list)", f"the keys {shown([*record])}"
        )
    query_id = parse_id(record["query_id"], "query_id")
    return [_parse_hit(query_id, hit) for hit in hits]


def _parse_hit(query_id: str, hit: object) -> RunEntry:
    if not isinstance(hit, dict) or not {"id", "rank", "score"} <= hit.keys():
        raise MalformedError("hits with 'id', 'rank' and 'score'", shown(hit))
    rank, score = hit["rank"], hit["score"]
    if type(rank) is not int or rank < 0:
        raise MalformedError("a whole number as 'rank'", shown(rank))
    if type(score) not in (int, float):
        raise MalformedError("a finite number as 'score'", shown(score))
    return RunEntry(query_id, parse_id(hit["id"], "id"), rank, float(score))


def _rank(field: str) -> int:
    if not _RANK.match(field):
        raise MalformedError("a whole number as rank", shown(field))
    return int(field)


def _score(field: str) -> float:
    try:
        score = float(field)
    except ValueError:
        raise MalformedError("a number as score", shown(field)) from None
    if not math.isfinite(score):
        raise MalformedError("a finite score", shown(field))
    return score


def write_run(
    path: str | Path,
    entries: Iterable[RunEntry],
    *,
    format: RunFormat = "trec",
    tag: str = "rocketrank",
    queries: Mapping[str, str] | None = None,
) -> None:
    """Write a run to a file, which appears when it is complete, or to ``-``, standard output.

    ``tag`` is TREC's last column; ``queries`` (id → text) adds the texts to JSON lines. Entries of
    a query must follow one another in jsonl. A score is written so that reading gives the same
    number, and so the same order; msmarco has none. Raises UsageError for what the format cannot
    hold: blanks in ids or tag for trec, tabs for msmarco, a score that is not finite, an empty id.
    """
    _check_format(format, RUN_FORMATS)
    if format == "trec" and (not tag or _BLANK.search(tag)):
        raise UsageError(f"tag ({tag!r}) must be one word without blanks")
    if format == "jsonl":
        lines = _jsonl_lines(entries, queries or {})
    else:
        lines = column_lines(entries, format, tag)
    if str(path) == STANDARD_OUTPUT:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(line.encode() for line in lines)
        sys.stdout.buffer.flush()
        return
    chunks = iter(lambda: "".join(islice(lines, 1000)).encode(), b"")
    write_durably(Path(path), chunks, cure="name another file or make room")


def column_lines(entries: Iterable[RunEntry], format: RunFormat, tag: str) -> Iterator[str]:
    """The lines of trec or msmarco. Raises UsageError as :func:`write_run`."""
    forbidden = _BLANK if format == "trec" else _TAB
    for entry in entries:
        query_id, passage_id, rank, score = _checked(entry)
        for one in (query_id, passage_id):
            if forbidden.search(one):
                raise UsageError(
                    f"the id {shown(one)} has a blank, a tab or the like in it, which format "
                    f"{format} cannot hold; use jsonl"
                )
        if format == "trec":
            yield f"{query_id} Q0 {passage_id} {rank} {score!r} {tag}\n"
        else:
            yield f"{query_id}\t{passage_id}\t{rank}\n"


def _jsonl_lines(entries: Iterable[RunEntry], queries: Mapping[str, str]) -> Iterator[str]:
    done: set[str] = set()
    for query_id, group in itertools.groupby(map(_checked, entries), lambda entry: entry.query_id):
        if query_id in done:
            raise UsageError(
                f"the entries of query {shown(query_id)} must follow one another in format jsonl"
            )
        done.add(query_id)
        record: dict[str, Any] = {"query_id": query_id}
        if query_id in queries:
            record["query"] = queries[query_id]
        record["hits"] = [
            {"id": entry.passage_id, "rank": entry.rank, "score": entry.score} for entry in group
        ]
        yield orjson.dumps(record).decode() + "\n"


def _checked(entry: RunEntry) -> RunEntry:
    if not entry.query_id or not entry.passage_id:
        raise UsageError(f"a run entry must have both ids, found {shown(tuple(entry))}")
    if not math.isfinite(entry.score):
        raise UsageError(f"a score in a run must be finite, found {shown(tuple(entry))}")
    return entry._replace(rank=int(entry.rank), score=float(entry.score))


def _check_format(format: str, formats: tuple[str, ...]) -> None:
    if format not in formats:
        raise UsageError(f"format ({format}) must be one of {', '.join(formats)}")
