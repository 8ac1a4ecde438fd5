"""Ranking lists from lines of fields: RocketQA's training files, MS MARCO's triples, candidates.

=============== ==================================================================================
rocketqa        ``query<tab>title<tab>passage<tab>label`` (cross-encoder, joint training) or
                ``query<tab>title<tab>positive<tab>title<tab>negative<tab>0`` (dual encoder), the
                last field of the latter being unused; the title "", ``-`` or ``null`` means none
msmarco-triples ``query<tab>positive<tab>negative``, texts
msmarco-ids     ``query<tab>positive<tab>negative``, ids
candidates      ``query<tab>passage<tab>rank<tab>label``, ids; the ranks are BM25's
=============== ==================================================================================

Lines of the same query that follow one another make one list. Where they lie apart in the file the
query has several lists, which a note says.
"""

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from ..data.lines import LineFile, MalformedError, shown
from .list_records import assembled
from .lists import Candidate, RankingList, text_id

_logger = logging.getLogger("rocketrank.training.list_rows")

Row = tuple[str, list[Candidate]]
"""A query, by its text or its id, and some candidates of it."""

_NO_TITLE = {"-", "null"}
_LABELS = {"0": 0, "1": 1}
_RANK = re.compile(r"[0-9]{1,9}\Z")
_QUERY_COLUMNS = {"query", "query_id", "query-id", "qid"}
_LAST_COLUMNS = {"label", "para_neg"}


class Queries(NamedTuple):
    """The texts of queries by id, and the file that they come from."""

    texts: Mapping[str, str]
    name: str

    def check(self, query_id: str) -> None:
        """Raises MalformedError for an id that is not there."""
        if query_id not in self.texts:
            raise MalformedError(f"a query id that is in {self.name}", shown(query_id))


def is_header(line: str) -> bool:
    """Whether a line names the columns of one of these formats."""
    names = [name.strip().lower() for name in line.split("\t")]
    return len(names) > 1 and names[0] in _QUERY_COLUMNS and names[-1] in _LAST_COLUMNS


def rocketqa_lists(file: LineFile) -> Iterator[RankingList]:
    return lists_of_rows(_rows(file, _parse_rocketqa), _query_of_text, file.name)


def triple_lists(file: LineFile) -> Iterator[RankingList]:
    return lists_of_rows(_rows(file, _parse_triple), _query_of_text, file.name)


def id_triple_lists(file: LineFile, queries: Queries) -> Iterator[RankingList]:
    def parse(line: str) -> Row:
        query_id, positive, negative = _fields(line, 3, "query id, passage id, passage id")
        queries.check(query_id)
        source = "msmarco-ids"
        return query_id, [
            Candidate(positive, 1, source=source),
            Candidate(negative, 0, source=source),
        ]

    return lists_of_rows(_rows(file, parse), query_by_id(queries), file.name)


def candidate_lists(file: LineFile, queries: Queries) -> Iterator[RankingList]:
    def parse(line: str) -> Row:
        query_id, passage_id, rank, label = _fields(line, 4, "query id, passage id, rank, label")
        queries.check(query_id)
        if not _RANK.match(rank):
            raise MalformedError("a whole number as rank", shown(rank))
        return query_id, [Candidate(passage_id, _label(label), source=f"bm25:{int(rank)}")]

    return lists_of_rows(_rows(file, parse), query_by_id(queries), file.name)


def lists_of_rows(
    rows: Iterable[Row], query_of: Callable[[str], tuple[str, str]], name: str
) -> Iterator[RankingList]:
    """One list for each run of rows with the same query; ``query_of`` gives its id and text."""
    seen: set[str] = set()
    count = 0
    for key, group in itertools.groupby(rows, key=itemgetter(0)):
        query_id, query = query_of(key)
        seen.add(query_id)
        count += 1
        yield assembled(
            query_id, query, itertools.chain.from_iterable(candidates for _, candidates in group)
        )
    if count > len(seen):
        _logger.info(
            "%s: lines of the same query lie apart, so %s queries have %s lists; sort the file by "
            "its first column (sort -s -t$'\\t' -k1,1) to get one list a query",
            name,
            f"{len(seen):,}",
            f"{count:,}",
        )


def query_by_id(queries: Queries) -> Callable[[str], tuple[str, str]]:
    return lambda query_id: (query_id, queries.texts[query_id])


def _rows(file: LineFile, parse: Callable[[str], Row]) -> Iterator[Row]:
    if any(map(is_header, file.peek(1))):
        file.skip()
    return file.parsed(parse)


def _query_of_text(text: str) -> tuple[str, str]:
    return text_id(text), text


def _parse_rocketqa(line: str) -> Row:
    fields = line.split("\t")
    if len(fields) == 4:
        query, title, text, label = fields
        return _checked_query(query), [_passage(title, text, _label(label), "rocketqa")]
    if len(fields) not in (5, 6):
        raise MalformedError(
            "4 fields (query, title, passage, label) or 6 (query, title, positive, title, "
            "negative, 0) separated by tabs",
            f"{len(fields)}: {shown(line)}",
        )
    query, title, positive, negative_title, negative = fields[:5]
    return _checked_query(query), [
        _passage(title, positive, 1, "rocketqa"),
        _passage(negative_title, negative, 0, "rocketqa"),
    ]


def _parse_triple(line: str) -> Row:
    query, positive, negative = _fields(line, 3, "query, positive, negative")
    return _checked_query(query), [
        _passage("", positive, 1, "msmarco-triples"),
        _passage("", negative, 0, "msmarco-triples"),
    ]


def _passage(title: str, text: str, label: int, source: str) -> Candidate:
    title = "" if title in _NO_TITLE else title
    if not text.strip() and not title.strip():
        raise MalformedError("a passage", "an empty one")
    return Candidate(text_id(text, title), label, None, source, text, title)


def _checked_query(query: str) -> str:
    if not query.strip():
        raise MalformedError("a query", "an empty field")
    return query


def _label(field: str) -> int:
    if field not in _LABELS:
        raise MalformedError("1 (positive) or 0 (negative) as label", shown(field))
    return _LABELS[field]


def _fields(line: str, width: int, names: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) != width:
        raise MalformedError(
            f"{width} fields ({names}) separated by tabs", f"{len(fields)}: {shown(line)}"
        )
    if not all(fields):
        raise MalformedError(f"{width} fields ({names})", f"an empty one: {shown(line)}")
    return fields
