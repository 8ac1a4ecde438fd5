"""The text of Markdown and HTML, with the way back: which characters of the source it came from.

Plain text is its own text. Of Markdown, markup, front matter, HTML tags and the addresses of links
are left out; code keeps its lines. Of HTML, what a reader of the page would not call its content is
left out: scripts, styles, forms, navigation, and, where the page marks its main part, all that is
outside it. Paragraphs, headings, items and rows end up on lines of their own.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any, Literal, NamedTuple

DocumentKind = Literal["text", "markdown", "html"]


class Piece(NamedTuple):
    """A stretch of an extracted text and where it begins and ends in the source.

    Where both are of one length, each character is the one at the same place of the other.
    """

    start: int
    end: int
    source_start: int
    source_end: int


class Extract(NamedTuple):
    """``text`` and the ``pieces`` it was put together from; between them are only line breaks."""

    title: str
    text: str
    pieces: Sequence[Piece]

    def source_range(self, start: int, end: int) -> tuple[int, int]:
        """Where in the source the characters ``start`` to ``end`` of the text lie (end exclusive).

        Of a piece that is not as long as its source, all of it.
        """
        starts = [piece.start for piece in self.pieces]
        first = self.pieces[max(0, bisect_right(starts, start) - 1)]
        last = self.pieces[max(0, bisect_right(starts, end - 1) - 1)]
        return _source_of(first, start)[0], _source_of(last, end - 1)[1]


def _source_of(piece: Piece, place: int) -> tuple[int, int]:
    if piece.end - piece.start != piece.source_end - piece.source_start:
        return piece.source_start, piece.source_end
    inside = min(max(place, piece.start), piece.end - 1) - piece.start
    return piece.source_start + inside, piece.source_start + inside + 1


def extract(source: str, kind: DocumentKind) -> Extract:
    """The text of a document; an empty title where it has none of its own."""
    if kind == "markdown":
        return _markdown(source)
    return _html(source) if kind == "html" else plain(source)


def plain(source: str) -> Extract:
    """A text that is its own source."""
    return Extract("", source, [Piece(0, len(source), 0, len(source))])


_SEPARATORS = ("", " ", "\n", "\n\n")


class _Text:
    """A text that grows piece by piece, with breaks between them."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.pieces: list[Piece] = []
        self.length = 0
        self._break = ""

    def add(self, text: str, source_start: int, source_end: int) -> None:
        """``text``, which is what the characters from ``source_start`` to ``source_end`` say."""
        if not text:
            return
        if self.length and self._break:
            self._append(self._break)
        self._break = ""
        start = self.length
        self._append(text)
        self.pieces.append(Piece(start, self.length, source_start, source_end))

    def part(self, separator: str) -> None:
        """The next piece is apart from the last by a blank or line breaks, these at least."""
        self._break = max(self._break, separator, key=_SEPARATORS.index)

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    @property
    def ends_in_blank(self) -> bool:
        """Whether a blank here would say nothing."""
        return not self.length or bool(self._break) or self.parts[-1][-1].isspace()

    def extract(self, title: str) -> Extract:
        return Extract(" ".join(title.split()), "".join(self.parts), self.pieces)


_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_TITLE_KEY = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_LINE = re.compile(r"\r\n|\r|\n")
_MARKDOWN_PARTS = {
    **dict.fromkeys(("list_item", "thead", "tbody", "tr"), "\n"),
    **dict.fromkeys(("td", "th"), " "),
}


def _markdown(source: str) -> Extract:
    """By CommonMark with tables; the title is the front matter's or the first heading's."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(source)
    body = front.end() if front else 0
    named = _TITLE_KEY.search(front[1]) if front else None
    title = named[1].strip("\"'") if named else ""
    starts = [body, *(body + match.end() for match in _LINE.finditer(source[body:])), len(source)]
    text, heading = _Text(), False
    for token in MarkdownIt("commonmark").enable("table").disable("text_join").parse(source[body:]):
        heading = token.type == "heading_open" or (heading and token.type != "heading_close")
        if token.map is None or token.type not in ("inline", "fence", "code_block"):
            if token.block and not token.hidden:
                text.part(_MARKDOWN_PARTS.get(token.type.rpartition("_")[0], "\n\n"))
            continue
        begin, end = starts[token.map[0]], starts[min(token.map[1], len(starts) - 1)]
        if token.type != "inline":
            text.part("\n\n")
            _add_code(text, source, token.content, begin, end)
            text.part("\n\n")
            continue
        before = text.length
        _add_inline(text, source, token.children or [], begin, end)
        if heading and not title:
            title = "".join(text.parts)[before:]
    return text.extract(title)


def _add_code(text: _Text, source: str, content: str, begin: int, end: int) -> None:
    """The lines of a code block, each where it stands: an indented block has lost its margin."""
    place = begin
    for line in content.splitlines():
        text.part("\n" if line.strip() else "\n\n")
        found = source.find(line, place, end) if line.strip() else -1
        if found >= 0:
            text.add(line.rstrip(), found, found + len(line.rstrip()))
            place = found + len(line)


def _add_inline(text: _Text, source: str, children: Sequence[Any], begin: int, end: int) -> None:
    """The words of a paragraph, looked for one after the other in the lines that it has."""
    place = begin
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            found = _LINE.search(source, place, end)
            place = found.end() if found else place
            text.part("\n")
            continue
        # An escape or an entity is written otherwise than it reads.
        written = child.markup if child.type == "text_special" else child.content
        if child.type == "image":
            _add_inline(text, source, child.children or [], place, end)
            continue
        if child.type not in ("text", "code_inline", "text_special") or not written:
            continue
        found_at = source.find(written, place, end)
        if found_at < 0:  # a code span over two lines, say
            text.add(child.content, place, end)
            continue
        text.add(child.content, found_at, found_at + len(written))
        place = found_at + len(written)


# fmt: off
_LEFT_OUT = frozenset((
    "script", "style", "template", "noscript", "svg", "math", "nav", "footer", "form", "button",
    "select", "textarea", "iframe", "object", "dialog", "head", "title",
))
_PARAGRAPHS = frozenset((
    "p", "div", "section", "article", "aside", "header", "main", "h1", "h2", "h3", "h4", "h5", "h6",
    "ul", "ol", "dl", "table", "blockquote", "pre", "figure", "hr", "details", "address",
    "fieldset",
))
_LINES = frozenset(("li", "dt", "dd", "tr", "br", "caption", "summary", "figcaption", "option"))
_CELLS = frozenset(("td", "th"))
_VOID = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr", "param", "frame",
))
# fmt: on
_MAIN = re.compile(r"<main[\s>]|role\s*=\s*[\"']?main\b", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")


class _Page(HTMLParser):
    """Collects the text of a page. The standard library's parser tells where each part stands."""

    def __init__(self, source: str, *, main_part: bool) -> None:
        super().__init__(convert_charrefs=False)
        self.text = _Text()
        self.title = ""
        self.heading = ""
        self._source = source
        self._starts = [0, *(match.end() for match in re.finditer("\n", source))]
        self._open: list[str] = []
        self._left_out: list[str] = []
        self._preformatted = 0
        self._main_depth: int | None = None
        self._main_part = main_part
        self._blank: tuple[int, int] | None = None

    def _place(self) -> int:
        line, column = self.getpos()
        return self._starts[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._break(tag)
        if tag in _VOID:
            return
        self._open.append(tag)
        if tag in _LEFT_OUT:
            self._left_out.append(tag)
        self._preformatted += tag == "pre"
        if self._main_depth is None and (tag == "main" or ("role", "main") in attrs):
            self._main_depth = len(self._open)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._break(tag)
        if tag not in self._open:
            return
        # What was left open inside ends with it.
        while True:
            closed = self._open.pop()
            if self._left_out and self._left_out[-1] == closed:
                self._left_out.pop()
            self._preformatted -= closed == "pre"
            if self._main_depth is not None and len(self._open) < self._main_depth:
                self._main_depth = None
            if closed == tag:
                return

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS or tag in _LINES:
            self.text.part("\n\n" if tag in _PARAGRAPHS else "\n")
            self._blank = None
        elif tag in _CELLS:
            self.text.part(" ")
            self._blank = None

    def handle_data(self, data: str) -> None:
        self._take(data, self._place(), len(data))

    def handle_entityref(self, name: str) -> None:
        self._reference(f"&{name}")

    def handle_charref(self, name: str) -> None:
        self._reference(f"&#{name}")

    def _reference(self, written: str) -> None:
        place = self._place()
        if self._source[place + len(written) : place + len(written) + 1] == ";":
            written += ";"
        self._take(unescape(written), place, len(written))

    def _take(self, data: str, place: int, length: int) -> None:
        if self._open and self._open[-1] == "title" and "svg" not in self._open:
            self.title += data
        if self._left_out or (self._main_part and self._main_depth is None):
            return
        if self._open and self._open[-1] == "h1":
            self.heading += data
        if length != len(data):
            self._add(data, place, length)
        elif self._preformatted:
            self._add_lines(data, place)
        else:
            end = 0
            for blank in _BLANKS.finditer(data):
                self._add(data[end : blank.start()], place + end, blank.start() - end)
                self._blank = (place + blank.start(), place + blank.end())
                end = blank.end()
            self._add(data[end:], place + end, len(data) - end)

    def _add_lines(self, data: str, place: int) -> None:
        for number, line in enumerate(data.split("\n")):
            if number:
                self.text.part("\n")
                self._blank = None
            self._add(line, place, len(line))
            place += len(line) + 1

    def _add(self, data: str, place: int, length: int) -> None:
        if not data:
            return
        if self._blank and not self.text.ends_in_blank:
            self.text.add(" ", *self._blank)
        self._blank = None
        self.text.add(data, place, place + length)


def _html(source: str) -> Extract:
    page = _read_page(source, main_part=bool(_MAIN.search(source)))
    if not page.text.length:
        page = _read_page(source, main_part=False)
    found = page.text.extract(page.title or page.heading)
    return found._replace(pieces=list(_joined(found.pieces)))


def _read_page(source: str, *, main_part: bool) -> _Page:
    page = _Page(source, main_part=main_part)
    page.feed(source)
    page.close()
    return page


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Neighbours that are neighbours in the source too, as one."""
    last: Piece | None = None
    for piece in pieces:
        whole = piece.end - piece.start == piece.source_end - piece.source_start
        if (
            last
            and whole
            and last.end - last.start == last.source_end - last.source_start
            and (last.end, last.source_end) == (piece.start, piece.source_start)
        ):
            last = Piece(last.start, piece.end, last.source_start, piece.source_end)
            continue
        if last:
            yield last
        last = piece
    if last:
        yield last
