"""Ranking lists from JSON objects: the training files of DPR, Tevatron and FlagEmbedding.

============= ====================================================================================
DPR           ``{"question", "positive_ctxs", "hard_negative_ctxs", "negative_ctxs"}``, a passage
              being a text or ``{"title", "text", "passage_id" or "psg_id", "score"}``
Tevatron      ``{"query_id", "query", "positive_passages", "negative_passages"}``, a passage being
              ``{"docid", "title", "text"}``
FlagEmbedding ``{"query", "pos", "neg", "pos_scores", "neg_scores", "pos_id", "neg_id"}``, lists of
              texts, of scores and of ids; only ``query`` and ``pos`` must be there
============= ====================================================================================

A query or a passage without an id gets one that is made from its text. Answers, prompts and other
keys are left out.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..data.lines import MalformedError, shown
from ..data.passage_formats import parse_id, parse_object, parse_text
from .lists import Candidate, RankingList, text_id

_QUERY_IDS = ("query_id", "question_id", "qid", "_id", "id")
_PASSAGE_IDS = ("docid", "passage_id", "psg_id", "_id", "id")


def assembled(query_id: str, query: str, candidates: Iterable[Candidate]) -> RankingList:
    """A list of these candidates: positives first, no id twice, no positive among the negatives.

    A negative with the text of a positive is left out too: one of both may have come without its
    id. Of candidates with the same id the first stays. Raises MalformedError for an empty query.
    """
    if not query.strip():
        raise MalformedError("a query", f"an empty text with the id {shown(query_id)}")
    positives: dict[str, Candidate] = {}
    negatives: dict[str, Candidate] = {}
    for candidate in candidates:
        (positives if candidate.label else negatives).setdefault(candidate.id, candidate)
    relevant = {(each.title, each.text) for each in positives.values() if each.text is not None}
    kept = (
        each
        for each in negatives.values()
        if each.id not in positives and (each.title, each.text) not in relevant
    )
    return RankingList(query_id, query, (*positives.values(), *kept))


def parse_dpr(text: str) -> RankingList:
    """The list of one question in DPR's format. Raises MalformedError."""
    record = parse_object(text)
    query = _query(record, "question")
    # Hard negatives first: a passage that is in both lists is then known as a hard one.
    sources = {"positive_ctxs": 1, "hard_negative_ctxs": 0, "negative_ctxs": 0}
    return assembled(
        _query_id(record, query),
        query,
        itertools.chain.from_iterable(
            _passages(record, key, label, f"dpr:{key}") for key, label in sources.items()
        ),
    )


def parse_tevatron(text: str) -> RankingList:
    """The list of one query in Tevatron's format. Raises MalformedError."""
    record = parse_object(text)
    query = _query(record, "query")
    return assembled(
        _query_id(record, query),
        query,
        [
            *_passages(record, "positive_passages", 1, "tevatron:positive_passages"),
            *_passages(record, "negative_passages", 0, "tevatron:negative_passages"),
        ],
    )


def parse_flagembedding(text: str) -> RankingList:
    """The list of one query in FlagEmbedding's format. Raises MalformedError."""
    record = parse_object(text)
    query = _query(record, "query")
    return assembled(
        _query_id(record, query), query, [*_texts(record, "pos", 1), *_texts(record, "neg", 0)]
    )


def _query(record: Mapping[str, Any], key: str) -> str:
    if key not in record:
        raise MalformedError(f"the key {key!r}", f"the keys {shown([*record])}")
    return parse_text(record[key], key)


def _query_id(record: Mapping[str, Any], query: str) -> str:
    return _own_id(record, _QUERY_IDS) or text_id(query)


def _own_id(record: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The id under the first of ``keys`` that has one; null and "" mean that there is none."""
    for key in keys:
        if record.get(key) not in (None, ""):
            return parse_id(record[key], key)
    return None


def _passages(record: Mapping[str, Any], key: str, label: int, source: str) -> Iterable[Candidate]:
    for passage in _list(record, key, needed=label == 1):
        if isinstance(passage, str):
            yield Candidate(text_id(passage), label, None, source, passage)
            continue
        if not isinstance(passage, dict):
            raise MalformedError(f"passages in {key!r}", shown(passage))
        title = "" if passage.get("title") is None else parse_text(passage["title"], "title")
        text = None if passage.get("text") is None else parse_text(passage["text"], "text")
        passage_id = _own_id(passage, _PASSAGE_IDS)
        if passage_id is None and text is None:
            raise MalformedError(
                f"passages with an id or a text in {key!r}", f"the keys {shown([*passage])}"
            )
        score = _score(passage.get("score"), "score")
        yield Candidate(passage_id or text_id(text or "", title), label, score, source, text, title)


def _texts(record: Mapping[str, Any], key: str, label: int) -> Iterable[Candidate]:
    texts = _list(record, key, needed=label == 1)
    scores = _beside(record, texts, key, (f"{key}_scores",))
    ids = _beside(record, texts, key, (f"{key}_id", f"{key}_ids"))
    for text, score, given in zip(texts, scores, ids, strict=True):
        passage = parse_text(text, key)
        own = None if given in (None, "") else parse_id(given, f"{key}_id")
        yield Candidate(
            own or text_id(passage),
            label,
            _score(score, f"{key}_scores"),
            f"flagembedding:{key}",
            passage,
        )


def _list(record: Mapping[str, Any], key: str, *, needed: bool) -> list[Any]:
    if needed and key not in record:
        raise MalformedError(f"the key {key!r}", f"the keys {shown([*record])}")
    value = record.get(key)
    if value is None and not needed:
        return []
    if not isinstance(value, list):
        raise MalformedError(f"a list in {key!r}", shown(value))
    return value


def _beside(
    record: Mapping[str, Any], texts: Sequence[Any], key: str, names: Sequence[str]
) -> Sequence[Any]:
    """What stands beside each of ``texts`` under the first of ``names`` that is there."""
    for name in names:
        if record.get(name) is not None:
            values = _list(record, name, needed=True)
            if len(values) != len(texts):
                raise MalformedError(
                    f"as many values in {name!r} as in {key!r} ({len(texts)})", str(len(values))
                )
            return values
    return [None] * len(texts)


def _score(value: object, key: str) -> float | None:
    """A score that may be absent; DPR's files have some as strings."""
    if value is None:
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if math.isfinite(score):
            return score
    raise MalformedError(f"a finite number in {key!r}", shown(value))
