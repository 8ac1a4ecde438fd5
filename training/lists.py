"""Ranking lists: a query with its labelled candidates, in memory and as JSON lines.

A line is ``{"query_id", "query", "candidates": [{"id", "label", "score", "source", "title",
"text"}, …]}``, where everything of a candidate but ``id`` and ``label`` (1 positive, 0 negative)
may be absent. A candidate without a text refers to a passage of an index or a corpus by its id.
A query may have several lists. The first line of the file may be a header, ``{"lists": {…}}``,
that says what the lists were made with. Further keys are left alone.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from ..data.lines import LineFile, MalformedError, shown
from ..data.passage_formats import parse_id, parse_object, parse_text
from ..durable import write_durably
from ..errors import UsageError


class Candidate(NamedTuple):
    """A passage in a list. ``source`` says where it came from, such as ``qrels`` or ``bm25:7``.

    ``label`` is 1 for a positive and 0 for a negative, ``score`` whatever the source gave, higher
    for better. ``text`` None means that the passage is found elsewhere by its ``id``.
    """

    id: str
    label: int
    score: float | None = None
    source: str = ""
    text: str | None = None
    title: str = ""


class RankingList(NamedTuple):
    """A query and its candidates, no id twice."""

    query_id: str
    query: str
    candidates: tuple[Candidate, ...]

    @property
    def positives(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.label)

    @property
    def negatives(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if not candidate.label)


class ListsHeader(NamedTuple):
    """What lists were made with, "" where that is unknown.

    ``tokenizer`` is the SHA-256 of the tokenizer of the model that mined them, ``index`` the index
    that their ids refer to, ``retriever`` and ``reranker`` the models that scored them.
    """

    tokenizer: str = ""
    index: str = ""  # type: ignore[assignment]  # hides tuple.index
    retriever: str = ""
    reranker: str = ""


def defect(each: RankingList) -> Literal["without a positive", "of a single candidate"] | None:
    """Why nothing can be learnt from a list, None when something can."""
    if not any(candidate.label for candidate in each.candidates):
        return "without a positive"
    return "of a single candidate" if len(each.candidates) == 1 else None


def text_id(text: str, title: str = "") -> str:
    """An id for a passage that has none: the same for the same title and text everywhere."""
    digest = hashlib.sha1(f"{title}\n{text}".encode(), usedforsecurity=False)
    return f"sha1:{digest.hexdigest()[:16]}"


def read_lists(path: str | Path) -> Iterator[RankingList]:
    """The lists of a file, or of ``-``, as a stream; the header is left out.

    Raises UsageError at once for a file that cannot be opened, and DataError (``file:line:
    expected …, found …``) while reading.
    """
    return lists_in(LineFile(path))


def lists_in(file: LineFile) -> Iterator[RankingList]:
    """``read_lists`` for a file that is open already."""
    for parsed in file.parsed(parse_line):
        if isinstance(parsed, RankingList):
            yield parsed
        elif file.number > 1:
            file.fail("a list, the header being the first line", "another header")


def read_header(path: str | Path) -> ListsHeader | None:
    """What the header of a file of lists says, None when it has none. Raises as ``read_lists``."""
    first = next(LineFile(path).parsed(parse_line), None)
    return first if isinstance(first, ListsHeader) else None


def write_lists(
    path: str | Path, lists: Iterable[RankingList], header: ListsHeader | None = None
) -> int:
    """Writes lists to a file, which appears when it is complete; gives the number of lists.

    Raises UsageError for a list that could not be read back, RocketRankError for a file that
    cannot be written.
    """
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        if header is not None:
            yield orjson.dumps({"lists": header._asdict()}, option=orjson.OPT_APPEND_NEWLINE)
        for each in lists:
            yield orjson.dumps(_record(each), option=orjson.OPT_APPEND_NEWLINE)
            count += 1

    write_durably(Path(path), lines(), cure="name another file or make room")
    return count


def parse_line(line: str) -> RankingList | ListsHeader:
    """The list, or the header, on a line of the format. Raises MalformedError."""
    record = parse_object(line)
    if "lists" in record:
        return _header(record["lists"])
    if not {"query_id", "query", "candidates"} <= record.keys():
        raise MalformedError(
            "the keys 'query_id', 'query' and 'candidates'", f"the keys {shown([*record])}"
        )
    query_id = parse_id(record["query_id"], "query_id")
    query = parse_text(record["query"], "query")
    if not query.strip():
        raise MalformedError("a query", f"an empty text with the id {shown(query_id)}")
    if not isinstance(record["candidates"], list):
        raise MalformedError("a list in 'candidates'", shown(record["candidates"]))
    candidates = tuple(map(_candidate, record["candidates"]))
    twice = _id_that_comes_twice(candidates)
    if twice is not None:
        raise MalformedError("each id once in 'candidates'", f"{shown(twice)} twice")
    return RankingList(query_id, query, candidates)


def _header(fields: object) -> ListsHeader:
    if not isinstance(fields, dict):
        raise MalformedError("an object in 'lists'", shown(fields))
    known = {name: fields[name] for name in ListsHeader._fields if name in fields}
    return ListsHeader(**{name: parse_text(value, name) for name, value in known.items()})


def _candidate(fields: object) -> Candidate:
    if not isinstance(fields, dict) or not {"id", "label"} <= fields.keys():
        raise MalformedError("candidates with 'id' and 'label'", shown(fields))
    label, score, text = fields["label"], fields.get("score"), fields.get("text")
    if type(label) is not int or label not in (0, 1):
        raise MalformedError("1 (positive) or 0 (negative) in 'label'", shown(label))
    if score is not None and type(score) not in (int, float):
        raise MalformedError("a number in 'score'", shown(score))
    return Candidate(
        parse_id(fields["id"], "id"),
        label,
        None if score is None else float(score),
        parse_text(fields.get("source", ""), "source"),
        None if text is None else parse_text(text, "text"),
        parse_text(fields.get("title", ""), "title"),
    )


def _id_that_comes_twice(candidates: Iterable[Candidate]) -> str | None:
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.id in seen:
            return candidate.id
        seen.add(candidate.id)
    return None


def _record(each: RankingList) -> dict[str, Any]:
    """A list as it is written; refuses what ``parse_line`` would refuse."""
    where = f"the list of query {shown(each.query_id)}"
    if not each.query_id or not each.query.strip():
        raise UsageError(f"{where} must have a query id and a query, found {shown(each.query)}")
    twice = _id_that_comes_twice(each.candidates)
    if twice is not None:
        raise UsageError(f"{where} must have each id once, found {shown(twice)} twice")
    candidates = []
    for candidate in each.candidates:
        passage_id, label, score, source, text, title = candidate
        if not passage_id or label not in (0, 1):
            raise UsageError(f"{where} must have ids and labels 0 or 1, found {shown(candidate)}")
        fields: dict[str, Any] = {"id": passage_id, "label": int(label)}
        if score is not None:
            if not math.isfinite(score):
                raise UsageError(f"{where} must have finite scores, found {shown(candidate)}")
            fields["score"] = float(score)
        present = {"source": source or None, "title": title or None, "text": text}
        fields.update((name, value) for name, value in present.items() if value is not None)
        candidates.append(fields)
    return {"query_id": each.query_id, "query": each.query, "candidates": candidates}
