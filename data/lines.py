"""Lines of UTF-8 text from plain or compressed files and from standard input, as a stream.

What is done with what is found in real files:

======================================  ============================================================
``.gz``, ``.zst``, ``.xz``              decompressed, known by the first bytes, not by the name
truncated or damaged compression        the complete lines come, then an error with the line reached
UTF-8 byte order mark                   dropped
UTF-16, zip, bzip2, Parquet             error that says how to convert
CRLF                                    read as LF; no other character ends a line
invalid UTF-8                           error with the line and the byte offset in it
NUL byte                                error (the file is not text)
blank lines at the end of the file      ignored
blank line elsewhere                    error
a line of more than 64 MiB              error (the file is not made of lines)
empty file                              no lines
missing file, directory, no permission  error when the file is named, before anything is read
======================================  ============================================================
"""

import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import NoReturn, TypeVar, cast

from ..errors import DataError, UsageError
from .decompression import DamagedError, Read, plain_blocks

T = TypeVar("T")

STANDARD_INPUT = "-"
LONGEST_LINE = 1 << 26
_UTF8_MARK = b"\xef\xbb\xbf"
_CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "corpus.jsonl.xz")


class MalformedError(Exception):
    """A line that a parser cannot read; whoever knows the place makes a DataError of it."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


def shown(value: object) -> str:
    """A value as an error message shows it, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def first_block(path: str | Path) -> bytes:
    """The beginning of a file, decompressed: enough to tell what it is.

    Raises UsageError for a file that cannot be opened, DataError for damaged compression.
    """
    check_paths([path])
    with open(path, "rb") as file:
        try:
            return next(plain_blocks(file.read1), b"")
        except DamagedError as error:
            raise DataError(f"{path}:1: expected {error.expected}, found {error.found}") from None


class LineFile:
    """A file's lines with their numbers, read once and as a stream.

    ``number`` is the number of the last line parsed (0 before the first), ``bytes_total`` the size
    of the file as it lies on the disk (None for a pipe) and ``bytes_read`` how much of that has
    been read. Raises UsageError at once for what cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self.name = "<stdin>" if str(path) == STANDARD_INPUT else str(path)
        self.number = 0
        self.bytes_read = 0
        self.bytes_total = None if str(path) == STANDARD_INPUT else _size(Path(path))
        self._lines = self._checked_lines()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._lines

    @property
    def place(self) -> str:
        """``file:line`` of the last line parsed."""
        return f"{self.name}:{self.number}"

    def peek(self, count: int) -> list[str]:
        """The first ``count`` lines, which are given again when the file is read."""
        sample = list(itertools.islice(self._lines, count))
        self._lines = itertools.chain(sample, self._lines)
        return [line for _, line in sample]

    def skip(self) -> None:
        """Leave out the next line: a header."""
        next(self._lines, None)

    def parsed(self, parse: Callable[[str], T]) -> Iterator[T]:
        """``parse`` of every line that is left; its MalformedError becomes a DataError."""
        try:
            for number, line in self._lines:
                self.number = number
                yield parse(line)
        except MalformedError as error:
            self.fail(error.expected, error.found)

    def fail(self, expected: str, found: str, number: int | None = None) -> NoReturn:
        """Raise the DataError that every bad line gives: place, expected, found."""
        line = self.number if number is None else number
        raise DataError(f"{self.name}:{line}: expected {expected}, found {found}")

    @contextmanager
    def _open(self) -> Iterator[Read]:
        if str(self._path) == STANDARD_INPUT:
            # read1 gives what is there instead of waiting for a full block.
            yield cast(io.BufferedReader, sys.stdin.buffer).read1
        else:
            with open(self._path, "rb", buffering=0) as file:
                yield file.read

    def _checked_lines(self) -> Iterator[tuple[int, str]]:
        """Lines with numbers; blank ones are held back until it is known whether more follow."""
        blank = number = 0
        try:
            for number, line in enumerate(itertools.chain.from_iterable(self._batches()), 1):
                if line:
                    if blank:
                        self.fail("no blank line before the end of the file", "one", blank)
                    yield number, line
                else:
                    blank = blank or number
        except OSError as error:
            place = f"{self.name}:{number}"
            raise DataError(f"{place}: reading stopped after this line: {error}") from None

    def _batches(self) -> Iterator[list[str]]:
        """The lines of each block; a damaged stream's complete lines come before its error."""
        number = 1
        with self._open() as read:
            try:
                for data in self._whole_lines(self._counted(read)):
                    for batch in self._decoded(data, number):
                        yield batch
                        number += len(batch)
            except DamagedError as error:
                self.fail(error.expected, error.found, number)

    def _counted(self, read: Read) -> Read:
        def counting(size: int) -> bytes:
            data = read(size)
            self.bytes_read += len(data)
            return data

        return counting

    def _whole_lines(self, read: Read) -> Iterator[bytes]:
        """Blocks cut after a newline; the last one ends where the file ends."""
        parts: list[bytes] = []
        length = 0
        first = True
        lines = 0
        for block in plain_blocks(read):
            cut = block.rfind(b"\n") + 1
            if not cut:
                parts.append(block)
                length += len(block)
                if length > LONGEST_LINE:
                    self.fail(
                        f"lines of at most {LONGEST_LINE >> 20} MiB", "a longer one", lines + 1
                    )
                continue
            data = b"".join((*parts, block[:cut]))
            yield data.removeprefix(_UTF8_MARK) if first else data
            first = False
            lines += data.count(b"\n")
            parts = [block[cut:]]
            length = len(parts[0])
        if rest := b"".join(parts):
            yield rest.removeprefix(_UTF8_MARK) if first else rest

    def _decoded(self, data: bytes, number: int) -> Iterator[list[str]]:
        """Lines of ``data``, the first of which has this number."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            start = data.rfind(b"\n", 0, error.start) + 1
            yield from self._decoded(data[:start], number) if start else ()
            self.fail(
                "UTF-8 text",
                f"the byte 0x{data[error.start]:02x} at byte {error.start - start} of the line "
                f"({error.reason}); convert the file to UTF-8",
                number + data.count(b"\n", 0, start),
            )
        if "\0" in text:
            start = text.rfind("\n", 0, text.index("\0")) + 1
            yield from self._decoded(text[:start].encode(), number) if start else ()
            self.fail("text", "a NUL byte: a binary file?", number + text.count("\n", 0, start))
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        yield lines


def iter_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a file or of ``-``, standard input.

    Raises UsageError at once when the file cannot be opened, DataError while reading.
    """
    return iter(LineFile(path))


def check_paths(paths: Iterable[Path | str]) -> None:
    """Raise UsageError for what cannot be read, and for standard input named more than once."""
    names = [str(path) for path in paths]
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input (-) can be read only once; name it once")
    for name in names:
        if name != STANDARD_INPUT:
            _size(Path(name))


def _size(path: Path) -> int | None:
    """The size of a regular file, None for a pipe or device; UsageError when it is unreadable."""
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the name") from None
    if path.is_dir():
        raise UsageError(f"{path}: expected a file, found a directory; {_file_in(path)}")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path}: cannot be read: Permission denied; change its permissions")
    return status.st_size if S_ISREG(status.st_mode) else None


def collection_in(directory: Path) -> Path | None:
    """The corpus file of a collection as BEIR's come, where the folder holds one."""
    return next((directory / name for name in _CORPUS_NAMES if (directory / name).is_file()), None)


def _file_in(directory: Path) -> str:
    corpus = collection_in(directory)
    if corpus is not None:
        return f"give {corpus}"
    try:
        names = sorted(entry.name for entry in directory.iterdir() if entry.is_file())
    except OSError:
        names = []
    if not names:
        return "it holds no file to give"
    return f"give one of its files: {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
