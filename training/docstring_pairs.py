"""Questions and answers out of documentation that nobody has labelled: docstrings.

A docstring opens with a sentence that sums up the rest of it (PEP 257). Here that sentence is a
question and the rest, its body, is the answer. The names of what is documented are masked in both
and the sentence is taken out of the body, so that neither of them can be matched by its letters.
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..data.records import Passage, Query
from ..errors import DataError
from .masking import MASK, masked

LONGEST_BODY = 40
"""Words that are kept of a body, so that all of it is read by models that read little."""

_SHORTEST_QUESTION, _LONGEST_QUESTION = 4, 40
_SHORTEST_BODY = 8

_LIBRARY = "lib/"
# Up to a full stop behind which something new begins: neither "e.g. this" nor "os.path" ends there.
_SENTENCE = re.compile(r"(.+?[.!?])(?=\s+[A-Z(\"']|$)")
_SIGNATURE = re.compile(r"->|>>>|::|[\w.]+\(")
_BODY = re.compile(rf"(?:\S+\s+){{0,{LONGEST_BODY - 1}}}\S+")


class DocstringPair(NamedTuple):
    """``question`` is answered by ``body``; ``id`` is that of the documentation's own passage."""

    id: str
    question: str
    body: str

    @property
    def query(self) -> Query:
        return Query(self.id, self.question)

    @property
    def passage(self) -> Passage:
        return Passage(self.id, self.body)


def docstring_pairs(passages: Iterable[Passage]) -> list[DocstringPair]:
    """The pairs in ``passages`` as ``data.python_docs`` makes them, in their order.

    Of an object only the first passage is read, where its docstring begins. Left out are docstrings
    that open with no sentence of prose or have next to nothing behind it, those whose question
    other objects have too, and those whose body another one has before them.
    """
    pairs = [
        pair
        for passage in passages
        if passage.id.startswith(_LIBRARY) and "#" not in passage.id
        if (pair := _pair(passage)) is not None
    ]
    asked = Counter(pair.question for pair in pairs)
    first = {pair.body: pair.id for pair in reversed(pairs)}
    return [pair for pair in pairs if asked[pair.question] == 1 and first[pair.body] == pair.id]


def split_pairs(pairs: Sequence[DocstringPair], sizes: Sequence[int]) -> list[list[DocstringPair]]:
    """Parts of the given sizes, with no pair in two of them; what is left over is in none.

    The order is that of a hash of the object's name, so that neither the order of the documentation
    nor, but for a few objects, what else is in it decides to which part an object goes. Raises
    DataError where there are too few pairs.
    """
    if len(pairs) < sum(sizes):
        raise DataError(
            f"expected at least {sum(sizes):,} docstrings with a summary and a body, found "
            f"{len(pairs):,}: give the documentation of a whole Python"
        )
    drawn = sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).digest())
    ends = list(itertools.accumulate(sizes, initial=0))
    return [drawn[start:end] for start, end in itertools.pairwise(ends)]


def _pair(passage: Passage) -> DocstringPair | None:
    """The pair of a docstring, None where it has none."""
    opening, _, rest = passage.text.partition("\n")
    sentence = _SENTENCE.match(opening)
    summary = sentence[1] if sentence else opening
    if not summary[:1].isupper() or _SIGNATURE.search(summary):
        return None
    name = passage.id.removeprefix(_LIBRARY)
    body = f"{opening[len(summary) :].strip()}\n{rest}"
    body = _masked(_without(summary, body), name)
    question = _masked(summary, name)
    asked = len(question.replace(MASK, " ").split())
    cut = _BODY.match(body)
    if cut is None or len(cut[0].split()) < _SHORTEST_BODY:
        return None
    if not _SHORTEST_QUESTION <= asked <= _LONGEST_QUESTION:
        return None
    return DocstringPair(passage.id, question, cut[0])


def _without(sentence: str, text: str) -> str:
    """The text without the sentence, which some docstrings open with twice, however broken."""
    words = sentence.rstrip(".!?").split()
    repeated = r"\s+".join(re.escape(word) for word in words)
    return re.sub(rf"{repeated}[.!?]?", "", text, flags=re.IGNORECASE).strip()


def _masked(text: str, name: str) -> str:
    """``text`` with the object's name, and its name with those of its class and module, masked.

    The names of class and module alone stay: "socket" is a word too.
    """
    parts = name.split(".")
    return masked(text, [".".join(parts[start:]) for start in range(len(parts))])
