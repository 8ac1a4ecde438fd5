"""Training queries out of a corpus that nobody has judged: each asks for the passage it is from.

============ =====================================================================================
title        the title of a passage, of a document in several passages with the first of them
heading      a heading in the text
sentence     the first sentence, the names in it that the rest repeats masked
cloze        a sentence from the middle (the inverse cloze task: Lee, Chang and Toutanova, 2019)
============ =====================================================================================

What is asked is cut out of the passage (``cuts.py``), or it could be found by its letters; a cloze
stays in one of ten lists, so that models learn to match words too. Queries that the rest of their
passage repeats word for word are left out, and so are those that several documents would ask.

Everything about a query depends on the seed and its passage alone: the same queries come from the
same passages in any order. Passages are read twice, as streams, and memory holds the drawn queries
and a table of a fixed size.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, get_args

from ..data.records import Passage
from ..errors import DataError, UsageError
from .cuts import (
    KINDS,
    SHORTEST,
    Cut,
    Kind,
    QueryKind,
    can_be_asked,
    drawn_number,
    piece_of,
    reading,
)
from .cuts import word_count as words_in
from .masking import MASK, masked
from .mining_report import MiningReport

SHORTEST_REST = 8
"""Words that a passage must have left to be an answer."""
_BUCKETS = 1 << 25

Item = TypeVar("Item")
_TOKEN = re.compile(r"\w[\w\-]*")


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """At most ``count`` queries, as many of each of ``kinds`` as there are.

    ``cloze_kept`` is the share of cloze queries whose sentence stays in the passage.
    """

    count: int
    kinds: tuple[Kind, ...] = KINDS
    seed: int = 0
    cloze_kept: float = 0.1


class SyntheticQuery(NamedTuple):
    """A query for ``passage_id``. ``cut`` None: the candidates of its lists are left whole."""

    id: str
    text: str
    kind: QueryKind
    passage_id: str
    cut: Cut | None


class Synthesis(NamedTuple):
    """Queries in the order of their ids, and what became of all others."""

    queries: list[SyntheticQuery]
    report: MiningReport


class _Candidate(NamedTuple):
    query: SyntheticQuery
    reading: str


def check_kinds(names: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds of these names, each once, in our order. Raises UsageError."""
    for name in names:
        if name not in get_args(Kind):
            raise UsageError(f"kinds ({name}) must be some of {', '.join(KINDS)}")
    if not names:
        raise UsageError(f"kinds is empty: name some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


def synthesize(passages: Callable[[], Iterable[Passage]], options: SynthesisOptions) -> Synthesis:
    """Queries from what ``passages`` gives, twice the same. Raises DataError where there is none.

    Passages with ``document`` in their metadata are parts of that document, and follow one another.
    """
    seen = _Seen()
    for passage, is_first in _with_place(passages()):
        for kind in options.kinds:
            for candidate in _candidates(passage, kind, is_first, options, None):
                seen.add(f"{kind} {candidate.reading}")
    report = MiningReport()
    drawn: dict[Kind, Draw[SyntheticQuery]] = {kind: Draw(options.count) for kind in options.kinds}
    for passage, is_first in _with_place(passages()):
        for kind in options.kinds:
            report.count(kind, "passages")
            for candidate in _candidates(passage, kind, is_first, options, report):
                if seen.is_repeated(f"{kind} {candidate.reading}"):
                    report.count_synthetic(kind, "elsewhere", candidate.query.text, passage)
                else:
                    query = candidate.query
                    number = drawn_number(options.seed, "drawn", query.id)
                    drawn[kind].offer(number, query.id, query)
    queries = []
    for kind, number in _shares({kind: len(each) for kind, each in drawn.items()}, options.count):
        queries += drawn[kind].first(number)
        report.count(kind, "not_drawn", drawn[kind].offered - number)
        report.count(kind, "drawn", number)
    if not queries:
        raise DataError(
            "expected passages to make training queries from, found none with a title, a heading "
            f"or a sentence to ask ({', '.join(options.kinds)}): give longer passages"
        )
    return Synthesis(sorted(queries), report)


def _with_place(passages: Iterable[Passage]) -> Iterator[tuple[Passage, bool]]:
    """Each passage, and whether it is the first of its document."""
    document: object = None
    for passage in passages:
        own = passage.metadata.get("document")
        yield passage, own is None or own != document
        document = own


def _candidates(
    passage: Passage,
    kind: Kind,
    is_first: bool,
    options: SynthesisOptions,
    report: MiningReport | None,
) -> Iterator[_Candidate]:
    """The passage's query of a kind, if the rules leave one."""
    piece = piece_of(passage, kind, options.seed)
    text = "" if piece is None else piece.text
    if piece is None:
        rule = "absent"
    elif kind == "title" and not is_first:
        rule = "later_part"
    elif not can_be_asked(piece.text):
        rule = "length"
    elif words_in(piece.rest.text, SHORTEST_REST) < SHORTEST_REST:
        rule = "short_rest"
    elif reading(piece.text) in reading(piece.rest.full_text):
        rule = "repeated"
    else:
        if kind == "sentence":
            text = masked(text, names_in(text, piece.rest.full_text))
        rule = _of_masked(text, piece.rest) if kind == "sentence" else ""
    if rule:
        if report is not None:
            report.count_synthetic(kind, rule, text, passage)
        return
    whole = kind == "cloze" and _is_kept(passage, options)
    cut = None if whole else Cut(kind, options.seed)
    asked = " ".join(text.split())
    query = SyntheticQuery(f"{kind}/{passage.id}", asked, kind, passage.id, cut)
    yield _Candidate(query, reading(asked))


def _of_masked(text: str, rest: Passage) -> str:
    """The rule that leaves a masked sentence out, "" for none."""
    left = words_in(text)
    if left < SHORTEST or left <= text.count(MASK):
        return "masked"
    return "repeated" if reading(text) in reading(rest.full_text) else ""


def _is_kept(passage: Passage, options: SynthesisOptions) -> bool:
    return drawn_number(options.seed, "kept", passage.id) < options.cloze_kept * 2**64


def names_in(sentence: str, rest: str) -> set[str]:
    """The names in ``sentence`` that ``rest`` repeats: capitals, acronyms, letters with digits.

    The first word of the sentence is one only by more than its first letter.
    """
    repeated = set(_TOKEN.findall(rest))
    return {
        match[0]
        for match in _TOKEN.finditer(sentence)
        if match[0] in repeated
        and _is_name(match[0], is_first=not sentence[: match.start()].strip())
    }


def _is_name(token: str, *, is_first: bool) -> bool:
    has_letter = any(letter.isalpha() for letter in token)
    if has_letter and any(letter.isdigit() for letter in token):
        return True
    if any(letter.isupper() for letter in token[1:]):
        return True
    return len(token) > 1 and token[0].isupper() and not is_first


class _Seen:
    """Which texts came more than once, in a table of a fixed size.

    Texts that share a place in it count as one that came twice: a few too many are left out of a
    corpus of many millions, none too few.
    """

    def __init__(self) -> None:
        self._counts = bytearray(_BUCKETS)

    def add(self, text: str) -> None:
        place = drawn_number(text) % _BUCKETS
        self._counts[place] = min(self._counts[place] + 1, 2)

    def is_repeated(self, text: str) -> bool:
        return self._counts[drawn_number(text) % _BUCKETS] > 1


class Draw(Generic[Item]):
    """Of all that is offered, the ``size`` of the lowest numbers: an even sample in any order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str, Item]] = []
        self.offered = 0

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, number: int, item_id: str, item: Item) -> None:
        self.offered += 1
        entry = (-number, item_id, item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def first(self, number: int) -> list[Item]:
        return [item for *_, item in heapq.nlargest(number, self._heap)]


def _shares(available: dict[Kind, int], count: int) -> Iterator[tuple[Kind, int]]:
    """How many of each kind make ``count``: equal shares, what a kind lacks going to the others."""
    left = count
    for place, kind in enumerate(sorted(available, key=lambda each: available[each])):
        share = min(available[kind], left // (len(available) - place))
        yield kind, share
        left -= share
