"""Reading relevance judgements: TREC and MS MARCO (four columns), BEIR (three, with header)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from ..errors import DataError, UsageError
from .lines import LineFile, MalformedError, shown
from .records import Judgement

QrelsFormat = Literal["trec", "beir"]

QRELS_FORMATS: tuple[QrelsFormat, ...] = get_args(QrelsFormat)
_BEIR_HEADER = ["query-id", "corpus-id", "score"]
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}\Z")


def read_qrels(
    path: str | Path, format: QrelsFormat | Literal["auto"] = "auto"
) -> Iterator[Judgement]:
    """The judgements of a file or of ``-``.

    "trec" is ``query 0 passage relevance``, separated by tabs or blanks (MS MARCO's too), "beir"
    ``query-id<tab>corpus-id<tab>score`` with or without that header; "auto" goes by the header
    and the number of columns. A judgement that comes twice is given once. Raises UsageError for a
    file that cannot be opened; DataError for a bad line, and for a passage judged twice with
    different grades.
    """
    if format != "auto" and format not in QRELS_FORMATS:
        raise UsageError(f"format ({format}) must be one of auto, {', '.join(QRELS_FORMATS)}")
    return _read(LineFile(path), format)


def _read(file: LineFile, format: QrelsFormat | Literal["auto"]) -> Iterator[Judgement]:
    sample = file.peek(1)
    if not sample:
        return
    fields = sample[0].split()
    has_header = fields == _BEIR_HEADER
    if format == "auto":
        if len(fields) not in (3, 4):
            raise DataError(
                f"{file.name}:1: expected judgements (trec: query 0 passage relevance; beir: "
                f"query-id<tab>corpus-id<tab>score), found {shown(sample[0])}"
            )
        format = "trec" if len(fields) == 4 else "beir"
    if has_header:
        file.skip()
    seen: dict[tuple[str, str], tuple[int, int]] = {}
    for judgement in file.parsed(_parse_trec if format == "trec" else _parse_beir):
        pair = judgement.query_id, judgement.passage_id
        relevance, line = seen.setdefault(pair, (judgement.relevance, file.number))
        if line == file.number:
            yield judgement
        elif relevance != judgement.relevance:
            file.fail(
                f"the relevance {relevance} that line {line} gives this query and passage",
                str(judgement.relevance),
            )


def _parse_trec(line: str) -> Judgement:
    fields = line.split()
    if len(fields) != 4:
        raise MalformedError(
            "4 columns (query, 0, passage, relevance)", f"{len(fields)}: {shown(line)}"
        )
    return Judgement(fields[0], fields[2], _relevance(fields[3]))


def _parse_beir(line: str) -> Judgement:
    fields = line.split("\t")
    if len(fields) != 3:
        raise MalformedError(
            "3 columns (query-id, corpus-id, score) separated by tabs",
            f"{len(fields)}: {shown(line)}",
        )
    if not fields[0] or not fields[1]:
        raise MalformedError("a query id and a passage id", shown(line))
    return Judgement(fields[0], fields[1], _relevance(fields[2]))


def _relevance(field: str) -> int:
    if not _INTEGER.match(field):
        raise MalformedError("a whole number as relevance", shown(field))
    return int(field)
