"""Ranked results as text: aligned, cut to the terminal's width, the query's words in bold."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..text_width import cut, printable, width_of

BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
WIDTH_WITHOUT_TERMINAL = 100
# Words that match everywhere and so tell nothing about where a passage answers the query.
_COMMON = frozenset(
    """a an and are as at be by can could did do does for from had has have how i if in into is it
    its my of on or so that the their then there these they this to was were what when where
    which while who whom whose why will with would you your""".split()  # noqa: SIM905
)


class ShownHit(Protocol):
    """What is printed of a hit."""

    @property
    def rank(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def probability(self) -> float | None: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


class Style(NamedTuple):
    """How wide a line may be (columns) and whether escape sequences may be written."""

    width: int
    colour: bool


def style_of_output() -> Style:
    """The style that standard output can show; honours ``NO_COLOR`` and ``TERM=dumb``."""
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    columns = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns if terminal else 0
    return Style(width=max(columns or WIDTH_WITHOUT_TERMINAL, 40), colour=colour)


def query_pattern(query: str) -> re.Pattern[str] | None:
    """Matches the words of a query that are worth finding again in a passage."""
    words = {word for word in re.findall(r"\w+", query.lower()) if word not in _COMMON}
    if not words:
        return None
    return re.compile(rf"\b(?:{'|'.join(re.escape(w) for w in sorted(words))})\w{{0,3}}\b", re.I)


def snippet(text: str, pattern: re.Pattern[str] | None, width: int) -> str:
    """The stretch of a passage, at most ``width`` columns, with most of the query's words in it."""
    text = printable(text)
    if pattern is None or width_of(text) <= width:
        return cut(text, width)
    matches = [(match.start(), match.group().lower()) for match in pattern.finditer(text)]
    best, start = 0, 0
    for position, _ in matches:
        inside = {word for place, word in matches if position <= place < position + width - 20}
        if len(inside) > best:
            best, start = len(inside), position
    if start <= width // 4:
        return cut(text, width)
    # Begin a few words before the first match, at the beginning of a word.
    begin = text.find(" ", max(0, start - width // 5)) + 1
    return cut("…" + text[begin:], width)


def emphasise(text: str, pattern: re.Pattern[str] | None, style: Style) -> str:
    if pattern is None or not style.colour:
        return text
    return pattern.sub(lambda match: f"{BOLD}{match.group()}{RESET}", text)


def hit_lines(hits: Sequence[ShownHit], query: str, style: Style) -> Iterable[str]:
    """Two lines a hit: rank, score, probability, title, id; then where it speaks of the query."""
    pattern = query_pattern(query)
    ranks = max((len(str(hit.rank)) for hit in hits), default=1)
    numbers = [_numbers(hit) for hit in hits]
    width = max(map(len, numbers), default=1)
    indent = " " * (ranks + width + 4)
    for hit, shown_numbers in zip(hits, numbers, strict=True):
        room = style.width - len(indent)
        name = cut(printable(_place(hit)), room // 2)
        title = cut(printable(hit.title), room - width_of(name) - 2) if hit.title else ""
        shown_name = f"{DIM}{name}{RESET}" if style.colour else name
        heading = f"{emphasise(title, pattern, style)}  {shown_name}" if title else shown_name
        yield f"{hit.rank:>{ranks}}  {shown_numbers:>{width}}  {heading}"
        for line in _two_lines(snippet(hit.text, pattern, 2 * room - 10), room):
            yield indent + emphasise(line, pattern, style)


def _place(hit: ShownHit) -> str:
    """The passage's id; of a document also where its best chunk lies."""
    start, end = hit.metadata.get("start"), hit.metadata.get("end")
    whole = hit.metadata.get("document") == hit.id
    return f"{hit.id}#{start}-{end}" if whole and start is not None else hit.id


def _numbers(hit: ShownHit) -> str:
    """The score, and the probability in percent where there is one."""
    if hit.probability is None:
        return f"{hit.score:.4f}"
    return f"{hit.score:.4f}  {hit.probability:>6.1%}"


def _two_lines(text: str, width: int) -> list[str]:
    """Break a text of up to two lines at a blank where there is one."""
    if width_of(text) <= width:
        return [text] if text else []
    end = len(text)
    while width_of(text[:end]) > width:
        end -= 1
    blank = text.rfind(" ", width // 2, end + 1)
    end = end if blank < 0 else blank
    return [text[:end], cut(text[end:].lstrip(), width)]


def print_hits(hits: Sequence[ShownHit], query: str, style: Style) -> None:
    for line in hit_lines(hits, query, style):
        print(line)
    if not hits:
        print("nothing found")


def as_record(query: str, hits: Sequence[Any], query_id: str | None = None) -> bytes:
    """One line of JSON for a query and its hits."""
    import orjson

    record: dict[str, Any] = {} if query_id is None else {"query_id": query_id}
    record["query"] = query
    record["hits"] = [{**hit._asdict(), "metadata": dict(hit.metadata)} for hit in hits]
    return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def in_words(count: float, unit: str) -> str:
    """``1 passage``, ``12,345 passages``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def size_in_words(count: int) -> str:
    """A number of bytes with a unit that leaves up to three digits before the point."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    unit = units[0]
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def folder_size(folder: os.PathLike[str] | str) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            total += os.lstat(os.path.join(place, name)).st_size
    return total


def noted(*counts: tuple[int, str]) -> list[str]:
    """A line for each number of passages that is not 0, with what there is to say of them."""
    return [f"{in_words(count, 'passage')} {what}" for count, what in counts if count]
