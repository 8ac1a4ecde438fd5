"""The records that everything else passes around."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class Passage(NamedTuple):
    """A unit of retrieval. ``id`` is the collection's own, never a row number of ours."""

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = NO_METADATA

    @property
    def full_text(self) -> str:
        """Title and text as one string, the form in which models without a title field read it."""
        return join_title(self.title, self.text)


class Query(NamedTuple):
    """A query; ``answers`` are the accepted answer strings where the data set has them (NQ)."""

    id: str
    text: str
    answers: tuple[str, ...] = ()


class Judgement(NamedTuple):
    """A line of qrels. ``relevance`` is graded; 0 and below mean judged and not relevant."""

    query_id: str
    passage_id: str
    relevance: int


class RunEntry(NamedTuple):
    """A line of a run. ``rank`` starts at 1; ``score`` is higher for better."""

    query_id: str
    passage_id: str
    rank: int
    score: float


def join_title(title: str, text: str) -> str:
    """``"title text"``, without a stray blank when one of them is empty."""
    return f"{title} {text}" if title and text else title or text
