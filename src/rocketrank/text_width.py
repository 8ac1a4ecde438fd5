"""Text in columns of a terminal: how wide it is, and how it is made to fit."""

import unicodedata


def printable(text: str) -> str:
    """One line without control characters: a name must not be able to steer a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def width_of(text: str) -> int:
    """Columns: wide characters of East Asia take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Filled up with blanks; a text that is wider stays as it is."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def cut(text: str, width: int) -> str:
    """The beginning, with ``…`` where something is gone, in at most ``width`` columns or 1."""
    if width_of(text) <= width:
        return text
    begin = text[: max(width, 1)]
    while begin and width_of(begin) >= width:
        begin = begin[:-1]
    return f"{begin.rstrip()}…"


def shortened(text: str, width: int) -> str:
    """Beginning and end with ``…`` between them, in at most ``width`` columns or 1."""
    if width_of(text) <= width:
        return text
    end = text[-max(width, 1) :]
    while end and width_of(end) > (width - 1) // 2:
        end = end[1:]
    return cut(text, width - width_of(end)) + end
