"""DPR's retrieval results: questions with their answers and the passages found, texts included.

=========  ======================================================================================
form       content
=========  ======================================================================================
DPR        an array of ``{"question", "answers", "ctxs": [{"id", "title", "text", "score",
           "has_answer"}, …]}``, best passage first; scores are strings or numbers
JSON       the same objects one after another, on a line each or not
lines
Pyserini   ``{"0": {"question", "answers", "contexts": [{"docid", "score", "has_answer",
           "text"}, …]}, …}``: the key is the question's id; a text's first line is its title
=========  ======================================================================================

All are told apart by their content and read compressed too, one question in memory at a time.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import orjson

from ..durable import write_durably
from ..errors import UsageError
from .json_stream import JsonStream
from .lines import STANDARD_INPUT, MalformedError, first_block, shown
from .passage_formats import parse_id, parse_object, parse_text

DprFormat = Literal["json", "jsonl"]

DPR_FORMATS: tuple[DprFormat, ...] = get_args(DprFormat)

_ID_KEYS = ("id", "_id", "query_id", "qid")
_HITS_KEYS = ("ctxs", "contexts")
_HIT_ID_KEYS = ("id", "docid", "passage_id")
_MARK_KEYS = ("has_answer", "hasanswer")


class DprHit(NamedTuple):
    """A passage found. ``has_answer`` is what a file says of it, None where it says nothing.

    ``text`` is None where a file has no texts, as Pyserini's has none unless asked for.
    """

    id: str
    score: float
    text: str | None
    title: str = ""
    has_answer: bool | None = None


class DprResult(NamedTuple):
    """A question and the passages found for it, best first."""

    query_id: str
    question: str
    answers: tuple[str, ...]
    hits: tuple[DprHit, ...]


def is_dpr_results(path: str | Path) -> bool:
    """Whether a file begins like retrieval results; False for ``-``, which is read once.

    Raises UsageError for a file that cannot be opened, DataError for damaged compression.
    """
    if str(path) == STANDARD_INPUT:
        return False
    begin = first_block(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    return begin[:1] in (b"[", b"{") and any(f'"{key}"'.encode() in begin for key in _HITS_KEYS)


def read_dpr_results(path: str | Path) -> Iterator[DprResult]:
    """The questions of a file or of ``-``, in the file's order.

    The id of a question is its key (Pyserini), its ``id``, or where the first has none, its place
    in the file from 0, as for DPR's questions. Raises UsageError at once for a file that cannot be
    opened, DataError while reading for what is malformed and for an id that was there before.
    """
    stream = JsonStream(path, members=True)
    return _read(stream)


def _read(stream: JsonStream) -> Iterator[DprResult]:
    records: dict[str, int] = {}
    for result in stream.parsed(_parser(stream)):
        number = len(records) + 1
        if result.query_id in records:
            stream.fail(
                "an id that is new",
                f"{shown(result.query_id)} in record {number}, which record "
                f"{records[result.query_id]} has too",
            )
        records[result.query_id] = number
        yield result


def _parser(stream: JsonStream) -> Callable[[str], DprResult]:
    """The first record decides whether the file has ids."""
    has_ids: bool | None = None
    number = 0

    def parse(text: str) -> DprResult:
        nonlocal has_ids, number
        number += 1
        try:
            record = parse_object(text)
            id_key = _first_key(record, _ID_KEYS)
            if has_ids is None:
                has_ids = id_key is not None
            if stream.key is not None:
                query_id = _parse_key(stream.key)
            elif not has_ids:
                query_id = str(number - 1)
            elif id_key is None:
                raise MalformedError("an id as in the first record", f"the keys {shown([*record])}")
            else:
                query_id = parse_id(record[id_key], id_key)
            return _parse_result(query_id, record)
        except MalformedError as error:
            raise MalformedError(error.expected, f"{error.found} in record {number}") from None

    return parse


def _parse_key(key: str) -> str:
    if not key:
        raise MalformedError("an id as the key of a question", "an empty one")
    return key


def _parse_result(query_id: str, record: Mapping[str, Any]) -> DprResult:
    hits_key = _first_key(record, _HITS_KEYS)
    if "question" not in record or "answers" not in record or hits_key is None:
        raise MalformedError(
            "the keys 'question', 'answers' and 'ctxs'", f"the keys {shown([*record])}"
        )
    answers, hits = record["answers"], record[hits_key]
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise MalformedError("a list of strings in 'answers'", shown(answers))
    if not isinstance(hits, list):
        raise MalformedError(f"a list of passages in {hits_key!r}", shown(hits))
    titled = hits_key == "contexts"
    return DprResult(
        query_id,
        parse_text(record["question"], "question"),
        tuple(answers),
        tuple(_numbered_hit(number, hit, titled) for number, hit in enumerate(hits, 1)),
    )


def _numbered_hit(number: int, hit: object, titled: bool) -> DprHit:
    try:
        return _parse_hit(hit, titled)
    except MalformedError as error:
        raise MalformedError(error.expected, f"{error.found} in passage {number}") from None


def _parse_hit(hit: object, titled: bool) -> DprHit:
    if not isinstance(hit, dict):
        raise MalformedError("a passage as an object", shown(hit))
    id_key = _first_key(hit, _HIT_ID_KEYS)
    mark_key = _first_key(hit, _MARK_KEYS)
    text, title = hit.get("text"), hit.get("title")
    mark = hit[mark_key] if mark_key else None
    if id_key is None or "score" not in hit or (text is None and mark is None):
        raise MalformedError(
            "the keys 'id', 'score' and 'text' (or 'has_answer' in its place)",
            f"the keys {shown([*hit])}",
        )
    if mark is not None and not isinstance(mark, bool):
        raise MalformedError(f"true or false in {mark_key!r}", shown(mark))
    if text is not None and titled and title is None:
        first, newline, rest = parse_text(text, "text").partition("\n")
        if newline:
            title, text = first.strip('"'), rest
    return DprHit(
        parse_id(hit[id_key], id_key),
        _parse_score(hit["score"]),
        None if text is None else parse_text(text, "text"),
        "" if title is None else parse_text(title, "title"),
        mark,
    )


def _parse_score(value: object) -> float:
    try:
        score = float(value) if type(value) in (str, int, float) else math.nan  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise MalformedError("a finite number as 'score'", shown(value))
    return score


def _first_key(record: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in record), None)


def write_dpr_results(
    path: str | Path, results: Iterable[DprResult], *, format: DprFormat = "json"
) -> None:
    """Write an array as DPR does, an object a line, or JSON lines; the file appears when complete.

    What is read from it is what was written: the id of a question stands in ``id``, a score in a
    string, as DPR's. Raises UsageError for an id that is empty or was there before and for a score
    that is not finite.
    """
    if format not in DPR_FORMATS:
        raise UsageError(f"format ({format}) must be one of {', '.join(DPR_FORMATS)}")
    write_durably(Path(path), _chunks(results, format), cure="name another file or make room")


def _chunks(results: Iterable[DprResult], format: DprFormat) -> Iterator[bytes]:
    before, between, end = (b"[", b",\n", b"]\n") if format == "json" else (b"", b"\n", b"\n")
    seen: set[str] = set()
    yield before
    for result in results:
        if not result.query_id or result.query_id in seen:
            raise UsageError(
                f"the questions of a file must have ids of their own, found "
                f"{shown(result.query_id)} {'twice' if result.query_id else 'as one'}"
            )
        if seen:
            yield between
        seen.add(result.query_id)
        try:
            record = orjson.dumps(_record(result))
        except orjson.JSONEncodeError as error:
            raise UsageError(
                f"question {shown(result.query_id)} and its passages must be Unicode text to be "
                f"written: {error}"
            ) from None
        yield record
    yield end if seen or format == "json" else b""


def _record(result: DprResult) -> dict[str, Any]:
    return {
        "id": result.query_id,
        "question": result.question,
        "answers": result.answers,
        "ctxs": [_hit_record(result.query_id, hit) for hit in result.hits],
    }


def _hit_record(query_id: str, hit: DprHit) -> dict[str, Any]:
    score = float(hit.score)
    if not hit.id or not math.isfinite(score) or (hit.text is None and hit.has_answer is None):
        raise UsageError(
            "a passage must have an id, a finite score and a text or has_answer, found "
            f"{shown(tuple(hit))} for question {shown(query_id)}"
        )
    record: dict[str, Any] = {
        "id": hit.id,
        "title": hit.title,
        "text": hit.text,
        "score": f"{score!r}",
    }
    if hit.has_answer is not None:
        record["has_answer"] = hit.has_answer
    return record
