"""Pieces that are cut out of passages: what is asked with them, and what is left as the answer.

The piece is a function of the passage, the kind and the seed, of nothing else: whichever list a
passage is in, without its piece it reads the same.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from ..data.records import Passage
from ..data.sentences import sentence_spans
from ..data.words import IDEOGRAPHS

Kind = Literal["title", "heading", "sentence", "cloze"]
QueryKind = Kind | Literal["endpoint"]
"""How a query can be made; what an endpoint writes is cut out of nothing."""

KINDS: tuple[Kind, ...] = get_args(Kind)
QUERY_KINDS: tuple[QueryKind, ...] = (*KINDS, "endpoint")
SHORTEST, LONGEST = 3, 40
"""Words of a piece that can be asked."""

_MOST_WORDS_OF_A_HEADING = 12
_WORD = re.compile(rf"[{IDEOGRAPHS}]|(?=\w*[^\W\d])[^\W{IDEOGRAPHS}]+")
_ALL_WORDS = re.compile(r"\w+")
_MARKED = re.compile(r"#{1,6}[ \t]+(\S.*?)[ \t]*#*\Z")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,}|~{3,})\s*\Z")
_BEGINS_OTHERWISE = re.compile(r"[-*+•|>`$]|\d+[.)]\s")
_STOPS = ".!?:;,…\u3002\uff01\uff1f\uff1a\uff1b\uff0c"


class Piece(NamedTuple):
    """``text`` as the passage had it, and the passage without it."""

    text: str
    rest: Passage


class Cut(NamedTuple):
    """What every candidate of a list is without.

    A positive alone without its title, or its first sentence, could be told by that from
    negatives that have theirs, and the models would learn no more. So all candidates of a list are
    cut in the same way; lists of other kinds train on whole passages.
    """

    kind: Kind
    seed: int

    def of(self, passage: Passage) -> Passage:
        """The passage without its piece, or as it is where it has none."""
        piece = piece_of(passage, self.kind, self.seed)
        return passage if piece is None else piece.rest


def piece_of(passage: Passage, kind: Kind, seed: int) -> Piece | None:
    """The piece of ``passage`` that is asked, None where it has none or nothing else.

    A *title* is cut with a heading that repeats it. A *heading* is the first of at least three
    words that is not the title. A *sentence* is the first one, a *cloze* one of the others: the
    next that can be asked, from a place that is drawn from ``seed``.
    """
    if kind == "title":
        piece = _title(passage)
    elif kind == "heading":
        piece = _heading(passage)
    else:
        piece = _sentence(passage) if kind == "sentence" else _cloze(passage, seed)
    return piece if piece and piece.rest.text else None


def word_count(text: str, most: int | None = None) -> int:
    """Words with a letter in them, counted up to ``most``.

    A Chinese or Japanese character is a word by itself.
    """
    return sum(1 for _ in itertools.islice(_WORD.finditer(text), most))


def can_be_asked(text: str) -> bool:
    return SHORTEST <= word_count(text, LONGEST + 1) <= LONGEST


def reading(text: str) -> str:
    """What texts share that read the same word for word, with a blank at both ends."""
    return f" {' '.join(_ALL_WORDS.findall(text.casefold()))} "


def drawn_number(*fields: str | int) -> int:
    """A number of 64 bits that depends on ``fields`` alone."""
    content = b"".join(
        len(each).to_bytes(8, "big") + each for each in (str(field).encode() for field in fields)
    )
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _title(passage: Passage) -> Piece | None:
    if not passage.title.strip():
        return None
    rest = passage._replace(title="", text=passage.text.strip())
    for heading, start, end in _headings(passage.text):
        if reading(heading) == reading(passage.title):
            rest = _without(rest._replace(text=passage.text), start, end)
            break
    return Piece(passage.title.strip(), rest)


def _heading(passage: Passage) -> Piece | None:
    title = reading(passage.title)
    for heading, start, end in _headings(passage.text):
        if word_count(heading) >= SHORTEST and reading(heading) != title:
            return Piece(heading, _without(passage, start, end))
    return None


def _sentence(passage: Passage) -> Piece | None:
    (start, end), *others = sentence_spans(passage.text) or [(0, 0)]
    if not others:
        return None
    return Piece(passage.text[start:end].strip(), _without(passage, start, end))


def _cloze(passage: Passage, seed: int) -> Piece | None:
    spans = sentence_spans(passage.text)[1:]
    first = drawn_number(seed, "cloze", passage.id) % max(1, len(spans))
    for start, end in (*spans[first:], *spans[:first]):
        if can_be_asked(passage.text[start:end]):
            return Piece(passage.text[start:end].strip(), _without(passage, start, end))
    return None


def _without(passage: Passage, start: int, end: int) -> Passage:
    return passage._replace(text=f"{passage.text[:start]}{passage.text[end:]}".strip())


def _headings(text: str) -> Iterator[tuple[str, int, int]]:
    """(words, start, end) of the lines that are headings, an underline with them.

    These are Markdown's, marked or underlined, and short lines without a stop at their end that
    stand alone before a longer line. Nothing between fences of code is one.
    """
    if "\n" not in text:
        return
    lines = text.split("\n")
    start = 0
    in_code = False
    for number, line in enumerate(lines):
        end = min(start + len(line) + 1, len(text))
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if line.lstrip().startswith(("```", "~~~")):
            in_code = not in_code
        elif not in_code and (marked := _MARKED.match(line)):
            yield marked[1], start, end
        elif not in_code and line.strip() and _UNDERLINE.match(after):
            yield line.strip(), start, min(end + len(after) + 1, len(text))
        elif not in_code and _stands_alone(lines, number):
            yield line.strip(), start, end
        start = end


def _stands_alone(lines: list[str], number: int) -> bool:
    line = lines[number].strip()
    if not line or (number and lines[number - 1].strip()):
        return False
    if line[0].islower() or line[-1] in _STOPS or _BEGINS_OTHERWISE.match(line):
        return False
    following = next((each for each in lines[number + 1 :] if each.strip()), "")
    words = word_count(line)
    return words <= _MOST_WORDS_OF_A_HEADING and word_count(following) > words
