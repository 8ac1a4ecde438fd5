"""The objects of a JSON file one after another, however large the file is.

Training data and retrieval results come as one array of gigabytes, on one line or on millions; as
objects on a line each; as objects that are spread over lines; or, where the caller asks for it, as
the members of one large object. Only one object is in memory at a time.
"""

import codecs
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, NamedTuple, NoReturn, TypeVar, cast

from ..errors import DataError
from .decompression import DamagedError, plain_blocks
from .lines import LONGEST_LINE, STANDARD_INPUT, MalformedError, check_paths, shown

T = TypeVar("T")

_MARK = "\ufeff"
_BLANKS = re.compile(r"[ \t\r\n]*")
# A line of fields may begin with a bracket too. The rest may not have been written yet.
_ARRAY = re.compile(r"\[[ \t\r\n]*(?:[{\]]|\Z)")
# An object whose first member is an object itself; the last group is what that member begins with.
_MEMBER = re.compile(r'\{[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*(\S)', re.DOTALL)
_LONGEST_KEY = 1 << 12
_LARGEST = LONGEST_LINE
# How far before the end of what was read a cut number, word or escape can have begun.
_CUT = 8


def begins_with_array(path: str | Path) -> bool:
    """Whether a file, or standard input, which is not consumed, begins with an array of objects.

    False for a pipe that has a name: what is read of it would be gone.
    """
    try:
        with _start_of(path) as file:
            for block in plain_blocks(file.read):
                text = block.decode(errors="replace").lstrip(_MARK + " \t\r\n")
                if text:
                    return _ARRAY.match(text) is not None
    except (OSError, DamagedError):
        pass  # whoever reads the file will say so, with the place
    return False


def _start_of(path: str | Path) -> BinaryIO:
    if str(path) == STANDARD_INPUT:
        # Python's own buffered reader shows what it holds; another one may not.
        peek = getattr(sys.stdin.buffer, "peek", bytes)
        return io.BytesIO(peek())
    if not S_ISREG(Path(path).stat().st_mode):
        return io.BytesIO()
    return open(path, "rb")


class _Value(NamedTuple):
    line: int
    text: str
    key: str | None = None


class JsonStream:
    """The values of a file in the order they are in: an array's elements, or value after value.

    With ``members``, a file that is one object of objects gives those, one by one. ``number`` is
    the line on which the last value given begins, ``key`` the key it has in such a file, else None.
    Raises UsageError at once for what cannot be opened.
    """

    def __init__(self, path: str | Path, *, members: bool = False) -> None:
        check_paths([path])
        self._path = path
        self._takes_members = members
        self.name = "<stdin>" if str(path) == STANDARD_INPUT else str(path)
        self.number = 0
        self.key: str | None = None
        self._values = self._read()

    @property
    def place(self) -> str:
        """``file:line`` of the last value given."""
        return f"{self.name}:{self.number}"

    def peek(self) -> str | None:
        """The text of the first value, which is given again; None when there is none."""
        first = next(self._values, None)
        if first is None:
            return None
        self._values = itertools.chain([first], self._values)
        return first.text

    def parsed(self, parse: Callable[[str], T]) -> Iterator[T]:
        """``parse`` of the text of every value; its MalformedError becomes a DataError."""
        try:
            for value in self._values:
                self.number, self.key = value.line, value.key
                yield parse(value.text)
        except MalformedError as error:
            self.fail(error.expected, error.found)

    def fail(self, expected: str, found: str, number: int | None = None) -> NoReturn:
        """Raise the DataError with the place, what was expected and what was found."""
        line = self.number if number is None else number
        raise DataError(f"{self.name}:{line}: expected {expected}, found {found}")

    def _read(self) -> Iterator[_Value]:
        window = _Window(self._blocks())
        try:
            is_array = window.next_character() == "["
            if self._takes_members and window.begins_with_member():
                yield from _members(window)
            else:
                yield from _elements(window, is_array)
            if window.next_character() != "":
                raise MalformedError("nothing after the last value", window.shown())
        except MalformedError as error:
            self.fail(error.expected, error.found, window.line)
        except UnicodeDecodeError as error:
            self.fail(
                "UTF-8 text",
                f"the byte 0x{error.object[error.start]:02x} ({error.reason}) in what "
                "begins on this line; convert the file to UTF-8",
                window.line,
            )
        except DamagedError as error:
            self.fail(error.expected, error.found, window.line)
        except OSError as error:
            raise DataError(f"{self.name}:{window.line}: reading stopped here: {error}") from None

    def _blocks(self) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8")().decode
        source: AbstractContextManager[io.BufferedReader] = (
            nullcontext(cast(io.BufferedReader, sys.stdin.buffer))
            if str(self._path) == STANDARD_INPUT
            else open(self._path, "rb")  # noqa: SIM115
        )
        first = True
        with source as file:
            for block in plain_blocks(file.read1):
                try:
                    text = decode(block)
                except UnicodeDecodeError as error:
                    yield error.object[: error.start].decode()
                    raise
                yield text.removeprefix(_MARK) if first else text
                first = False
            yield decode(b"", final=True)


def _elements(window: "_Window", is_array: bool) -> Iterator[_Value]:
    """The elements of the array that begins here, or all values up to the end of the file."""
    if is_array:
        window.take(1)
    while (character := window.next_character()) not in ("", "]"):
        yield _Value(window.line, window.value())
        if is_array and window.next_character() == ",":
            window.take(1)
            if window.next_character() == "]":
                raise MalformedError("another element after the comma", "']'")
        elif is_array and window.next_character() != "]":
            raise MalformedError("',' or ']' after an element", window.shown())
    if is_array:
        if character == "":
            raise MalformedError(
                "the end of the array, ']'", "the end of the file: is it truncated?"
            )
        window.take(1)


def _members(window: "_Window") -> Iterator[_Value]:
    """The values of the object that begins here, with their keys."""
    window.take(1)
    while window.next_character() == '"':
        key = json.loads(window.value(), strict=False)
        if window.next_character() != ":":
            raise MalformedError("':' after a key", window.shown())
        window.take(1)
        window.next_character()
        yield _Value(window.line, window.value(), key)
        if window.next_character() == ",":
            window.take(1)
            if window.next_character() != '"':
                raise MalformedError("another key after the comma", window.shown())
        elif window.next_character() not in ("}", ""):
            raise MalformedError("',' or '}' after a value", window.shown())
    if window.next_character() == "":
        raise MalformedError("the end of the object, '}'", "the end of the file: is it truncated?")
    window.take(1)


class _Window:
    """What has been read of a text and not been taken yet."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._text = ""
        self._start = 0
        self._find_end = json.JSONDecoder(strict=False).raw_decode
        self.line = 1

    def next_character(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            match = _BLANKS.match(self._text, self._start)
            self.take(match.end() - self._start if match else 0)
            if self._start < len(self._text):
                return self._text[self._start]
            if not self._read(1):
                return ""

    def begins_with_member(self) -> bool:
        """Whether an object begins here whose first member is an object."""
        while (match := _MEMBER.match(self._text, self._start)) is None:
            if len(self._text) - self._start > _LONGEST_KEY or not self._read(1):
                return False
        return match[1] == "{"

    def value(self) -> str:
        """The text of the JSON value that begins here. Raises MalformedError."""
        while True:
            try:
                _, end = self._find_end(self._text, self._start)
            except json.JSONDecodeError as error:
                held = len(self._text) - self._start
                cut = error.pos >= len(self._text) - _CUT or error.msg.startswith("Unterminated")
                # Twice as much as before, so that a large value is not tried too often.
                if not cut or held > _LARGEST or not self._read(held):
                    raise self._malformed(error, cut, held) from None
            except RecursionError:
                raise MalformedError("an object", "thousands of brackets in brackets") from None
            else:
                return self.take(end - self._start)

    def take(self, count: int) -> str:
        taken = self._text[self._start : self._start + count]
        self._start += count
        self.line += taken.count("\n")
        return taken

    def shown(self) -> str:
        return shown(self._text[self._start : self._start + 100])

    def _malformed(self, error: json.JSONDecodeError, cut: bool, held: int) -> MalformedError:
        if not cut:
            self.take(error.pos - self._start)
            return MalformedError("sound JSON", f"{self.shown()} ({error.msg})")
        if held > _LARGEST:
            return MalformedError(f"values of at most {_LARGEST >> 20} MiB", "a longer one")
        return MalformedError(
            "the end of this value", "the end of the file: is it truncated or no JSON?"
        )

    def _read(self, count: int) -> bool:
        """Reads at least ``count`` characters more where there are that many; False for none."""
        parts, length = [], 0
        for block in self._blocks:
            parts.append(block)
            length += len(block)
            if length >= count:
                break
        self._text = "".join((self._text[self._start :], *parts))
        self._start = 0
        return length > 0
