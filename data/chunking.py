"""Long texts cut into chunks of at most so many tokens, on sentence ends where possible.

Each chunk begins about ``stride`` tokens behind the one before, so that neighbours share what is at
their edges. Whatever the text, every character that is not blank is in some chunk, chunks follow
one another, none lies within another, and none has more tokens than the limit when it is split into
tokens by itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .sentences import sentence_spans

Spans = Callable[[str], NDArray[np.int64]]
"""The tokens of a text as characters (n, 2): where each begins and ends, rising."""

USUAL_LIMIT = 200
_USUAL_SHARE = 0.8
"""Of what a model reads: the rest is for titles and special tokens."""
LEAST_TOKENS = 16
"""Of a limit: with fewer, the tokens of a single word may be too many."""
_WINDOW = 1 << 17
"""Characters that are split into tokens at once: those take 70 times the memory of their text."""

_LINE_END = re.compile(r"\n\s*")
_BLANK = re.compile(r"\s+")


@dataclass(frozen=True)
class Chunking:
    """``limit`` tokens at most a chunk, each beginning about ``stride`` behind the last one."""

    limit: int
    stride: int

    def checked(self) -> Self:
        """Itself, or UsageError where the numbers mean nothing."""
        if self.limit < LEAST_TOKENS:
            raise UsageError(f"--chunk ({self.limit}) must be at least {LEAST_TOKENS} tokens")
        if not 1 <= self.stride <= self.limit:
            raise UsageError(
                f"--stride ({self.stride}) must be at least 1 and at most --chunk ({self.limit}): "
                "what lies between two chunks would be lost"
            )
        return self


def usual_limit(length: int) -> int:
    """How long chunks are for a model that reads ``length`` tokens, unless told otherwise."""
    return min(USUAL_LIMIT, int(length * _USUAL_SHARE))


def chunking_of(limit: int, stride: int | None = None) -> Chunking:
    """Chunks of ``limit`` tokens, three quarters of that apart. Raises UsageError."""
    return Chunking(limit, max(1, limit * 3 // 4) if stride is None else stride).checked()


class _Tokens(NamedTuple):
    """Where tokens begin, and by what they may be parted: rising places of their own among them."""

    starts: NDArray[np.int64]
    sentences: NDArray[np.int64]
    lines: NDArray[np.int64]
    words: NDArray[np.int64]


def chunk_ranges(
    text: str, spans: Spans, chunking: Chunking, *, limit: int | None = None, window: int = _WINDOW
) -> Iterator[tuple[int, int]]:
    """The chunks of ``text`` as characters (start, end), without blanks at their ends.

    ``limit`` is a smaller one than ``chunking`` has. A long text is worked through by windows, so
    that memory depends on these alone.
    """
    limit = chunking.limit if limit is None else limit
    stride = max(1, min(chunking.stride, limit * chunking.stride // chunking.limit))
    place = last_end = 0
    while place < len(text):
        end = _window_end(text, place, window)
        part = text[place:end]
        found = _cut(part, spans, limit, stride)
        whole = end == len(text)
        if not whole and len(found) < 2:
            window *= 2  # a text whose tokens are longer than any that this was made for
            continue
        # The last chunk of a window was cut by its end, and is the first of the next one.
        done = found if whole else found[:-1]
        for start, stop in done:
            if place + stop > last_end:
                yield place + start, place + stop
                last_end = place + stop
        if whole:
            return
        place += found[-1][0]


def _window_end(text: str, start: int, window: int) -> int:
    """An end of about ``window`` characters at a blank, so that no word is cut."""
    end = start + window
    if end >= len(text):
        return len(text)
    blanks = [match.start() for match in _BLANK.finditer(text, start + window // 2, end)]
    return blanks[-1] if blanks else end


def _cut(text: str, spans: Spans, limit: int, stride: int) -> list[tuple[int, int]]:
    """The chunks of a window. Where one has too many tokens by itself, all are cut shorter."""
    tokens = _tokens(text, spans(text))
    bound = limit
    while True:
        ranges = _ranges(text, tokens, bound, min(stride, bound))
        most = max((len(spans(text[start:end])) for start, end in ranges), default=0)
        if most <= limit or bound == 1:
            return ranges
        bound = max(1, bound - (most - limit))


def _tokens(text: str, spans: NDArray[np.int64]) -> _Tokens:
    def tokens_at(characters: Iterable[int]) -> NDArray[np.int64]:
        """The first token at or behind each of these rising characters, but for the text's end."""
        found = np.searchsorted(spans[:, 0], np.fromiter(characters, dtype=np.int64))
        return np.unique(found[found < len(spans)].astype(np.int64))

    return _Tokens(
        spans[:, 0],
        tokens_at(start for start, _ in sentence_spans(text)),
        tokens_at(match.end() for match in _LINE_END.finditer(text)),
        tokens_at(match.end() for match in _BLANK.finditer(text)),
    )


def _ranges(text: str, tokens: _Tokens, limit: int, stride: int) -> list[tuple[int, int]]:
    count = len(tokens.starts)
    ranges: list[tuple[int, int]] = []
    first = last_end = 0
    while True:
        end = _end(tokens, first, last_end, limit)
        start_place = 0 if first == 0 else int(tokens.starts[first])
        end_place = len(text) if end == count else int(tokens.starts[end])
        inside = text[start_place:end_place]
        stripped = inside.strip()
        if stripped:
            start_place += len(inside) - len(inside.lstrip())
            ranges.append((start_place, start_place + len(stripped)))
        if end == count:
            return ranges
        first, last_end = _next_first(tokens, first, end, stride), end


def _end(tokens: _Tokens, first: int, last_end: int, limit: int) -> int:
    """The token before which a chunk ends, behind the end of the last one."""
    most = first + limit
    if most >= len(tokens.starts):
        return len(tokens.starts)
    return _part(tokens, max(first, last_end) + 1, first + limit // 2, most)


def _next_first(tokens: _Tokens, first: int, end: int, stride: int) -> int:
    """The token with which the next chunk begins, not behind the ``end`` of this one."""
    return _part(tokens, first + 1, first + stride // 2, min(first + stride, end))


def _part(tokens: _Tokens, least: int, half: int, most: int) -> int:
    """Where to part, from ``least`` to ``most``: at a sentence or a line from ``half`` on, if not
    at a word, if not between characters."""
    for places, begin in ((tokens.sentences, half), (tokens.lines, half), (tokens.words, least)):
        found = _last(places, max(least, begin), most)
        if found is not None:
            return found
    while most > least and tokens.starts[most] == tokens.starts[most - 1]:
        most -= 1
    return most


def _last(places: NDArray[np.int64], least: int, most: int) -> int | None:
    """The last of the rising ``places`` from ``least`` to ``most``."""
    number = int(np.searchsorted(places, most, side="right")) - 1
    return int(places[number]) if number >= 0 and places[number] >= least else None
