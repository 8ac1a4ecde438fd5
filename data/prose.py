"""Documentation text as passages: light markup removed, lines unwrapped, paragraphs grouped."""

import re
from collections.abc import Iterator, Sequence

SHORTEST = 80
LONGEST = 220

_ROLE = re.compile(r":[\w:]+:`[~!]?([^`]+)`")
_LITERAL = re.compile(r"``([^`]+)``|`([^`\n]+)`")
_STRONG = re.compile(r"(?<![\w*])\*\*(\w[^*]*)\*\*(?![\w*])")
_EMPHASIS = re.compile(r"(?<![\w*])\*(\w[^*\n]*)\*(?![\w*])")
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\w{1,2}[.)])\s")
_LAID_OUT = re.compile(r">>>|::=|^\s*[|$#]|\S {3,}\S", re.MULTILINE)
_RULE = re.compile(r"\s*[-=+|*~^]{4,}\s*\Z|[+|][-=+|\s]+\Z")
_CODE_FOLLOWS = re.compile(r"(?<!Note)(?<!See also)(?<!Warning):\Z")


def passages_of(text: str) -> Iterator[str]:
    """Passages of about 80 to 220 words: whole paragraphs that follow one another.

    A paragraph is split only when it is longer than a passage by itself. Prose is on one line for
    each paragraph; code, tables and lists keep their lines.
    """
    return _grouped([part for block in _blocks(text) for part in _parts(block)])


def word_count(text: str) -> int:
    """Number of words, which are what blanks separate."""
    return len(text.split())


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, tidied."""
    code_follows = False
    for block in re.split(r"\n\s*\n", text):
        lines = [line.rstrip() for line in block.split("\n") if not _RULE.match(line)]
        if not any(lines):
            continue
        is_prose = bool(_BULLET.match(lines[0])) or lines[-1].endswith(".")
        is_code = code_follows and lines[0].startswith(" ") and not is_prose
        if is_code or _LAID_OUT.search(block):
            yield "\n".join(_dedented(lines))
            continue
        paragraph = without_markup(_unwrapped(lines))
        code_follows = bool(_CODE_FOLLOWS.search(paragraph))
        yield re.sub(r"::\Z", ":", paragraph.strip())


def _dedented(lines: Sequence[str]) -> list[str]:
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return [line[margin:] for line in lines]


def _unwrapped(lines: Sequence[str]) -> str:
    """Lines joined, but for list items, which begin lines of their own."""
    joined = ""
    for line in lines:
        separator = "\n" if _BULLET.match(line) else " "
        joined = f"{joined}{separator}{' '.join(line.split())}" if joined else line.strip()
    return joined


def without_markup(text: str) -> str:
    """Without reStructuredText roles, literals, emphasis."""
    text = _LITERAL.sub(lambda match: match[1] or match[2], _ROLE.sub(r"\1", text))
    return _EMPHASIS.sub(r"\1", _STRONG.sub(r"\1", text))


def _parts(block: str) -> Iterator[str]:
    """The block, or when it is too long for one passage pieces of it that are not."""
    if word_count(block) <= LONGEST:
        yield block
        return
    lines = block.split("\n")
    if len(lines) == 1:
        lines = re.split(r"(?<=[.;:!?])\s+", block)
    joint = "\n" if "\n" in block else " "
    part = ""
    for line in lines:
        if part and word_count(part) + word_count(line) > (SHORTEST + LONGEST) // 2:
            yield part
            part = ""
        part = f"{part}{joint}{line}" if part else line
    yield part


def _grouped(parts: Sequence[str]) -> Iterator[str]:
    """Neighbouring parts joined until a passage is long enough; a short rest joins the last one."""
    groups: list[str] = []
    for part in parts:
        fits = groups and word_count(groups[-1]) + word_count(part) <= LONGEST
        if fits and (word_count(groups[-1]) < SHORTEST or part is parts[-1]):
            groups[-1] = f"{groups[-1]}\n{part}"
        else:
            groups.append(part)
    return (group.strip() for group in groups)
