"""The postings of a segment for BM25: which passages have a word, how often, and their lengths.

One immutable file, mapped and read only where a search touches it: a header of 512 bytes (JSON
with the counts, filled up with blanks), then arrays in little-endian order, each at a multiple of
64 bytes:

=============  ======  ==================================================================
vocabulary     uint8   the words in UTF-8, sorted, one after the other
word_ends      int64   (words + 1) where each begins, and the last ends
starts         int64   (words + 1) where each word's postings begin, and the last's end
rows           uint32  (postings) the passages that have the word, rising
frequencies    uint8   (postings) how often they have it; 255 says that ``large`` tells
lengths        int32   (rows) how many words each passage has, exactly
large_places   int64   (large) places in ``frequencies`` of 255 and more, rising
large          int32   (large) those frequencies
=============  ======  ==================================================================

Nothing here depends on other segments, so a score is never made of one segment's statistics.
"""

from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import DataError

ESCAPED = 255
"""Frequencies from here on are in ``large``."""
_FORMAT = "rocketrank postings"
_VERSION = 1
_HEADER = 512
_ALIGNED = 64


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a postings file holds: ``tokens`` is the sum of all lengths, ``letters`` is in bytes."""

    rows: int
    tokens: int
    words: int
    letters: int
    postings: int
    large: int


class Extent(NamedTuple):
    """An array's place in the file: ``length`` numbers of ``dtype`` from byte ``offset`` on."""

    offset: int
    length: int
    dtype: np.dtype[Any]

    @property
    def end(self) -> int:
        return self.offset + self.length * self.dtype.itemsize

    def of(self, content: NDArray[np.uint8]) -> NDArray[Any]:
        """The array as a view of the file's bytes."""
        array: NDArray[Any] = content[self.offset : self.end].view(self.dtype)
        return array


def header_bytes(counts: Counts) -> bytes:
    content = {"format": _FORMAT, "format_version": _VERSION, **asdict(counts)}
    return orjson.dumps(content).ljust(_HEADER - 1) + b"\n"


def extents(counts: Counts) -> dict[str, Extent]:
    """The arrays of a file with these counts, in their order."""
    arrays = {
        "vocabulary": (counts.letters, "u1"),
        "word_ends": (counts.words + 1, "<i8"),
        "starts": (counts.words + 1, "<i8"),
        "rows": (counts.postings, "<u4"),
        "frequencies": (counts.postings, "u1"),
        "lengths": (counts.rows, "<i4"),
        "large_places": (counts.large, "<i8"),
        "large": (counts.large, "<i4"),
    }
    found, offset = {}, _HEADER
    for name, (count, dtype) in arrays.items():
        found[name] = Extent(offset, count, np.dtype(dtype))
        offset = -(-found[name].end // _ALIGNED) * _ALIGNED
    return found


def size_of(counts: Counts) -> int:
    """Bytes of a file with these counts."""
    return -(-extents(counts)["large"].end // _ALIGNED) * _ALIGNED


class Occurrences(NamedTuple):
    """The passages that have a word: ``rows`` uint32 (m,), rising, and how often each has it."""

    rows: NDArray[np.uint32]
    frequencies: NDArray[np.uint8] | NDArray[np.int32]


_NONE = Occurrences(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint8))


class Postings:
    """An open postings file. Several threads may read it at once."""

    def __init__(self, path: Path) -> None:
        """Maps the file. DataError when it is missing, another's or of another size."""
        self.path = path
        content = _mapped(path)
        self.counts = _read_header(path, content)
        size = size_of(self.counts)
        if len(content) != size:
            raise _damaged(path, f"{size} bytes", f"{len(content)}")
        arrays = {name: each.of(content) for name, each in extents(self.counts).items()}
        self._letters: NDArray[np.uint8] = arrays["vocabulary"]
        self._word_ends = arrays["word_ends"]
        self._starts = arrays["starts"]
        self._rows = arrays["rows"]
        self._frequencies = arrays["frequencies"]
        self._large_places = arrays["large_places"]
        self._large = arrays["large"]
        self.lengths: NDArray[np.int32] = arrays["lengths"]
        """Words of each passage, int32 (rows,)."""

    def find(self, word: str) -> Occurrences:
        """The passages that have ``word``; no rows where none has.

        DataError for rows that the segment does not have: nothing else of the file is read whole.
        """
        wanted = word.encode("utf-8", "surrogatepass")
        place = bisect_left(range(self.counts.words), wanted, key=self._word)
        if place == self.counts.words or self._word(place) != wanted:
            return _NONE
        start, end = int(self._starts[place]), int(self._starts[place + 1])
        if not 0 <= start <= end <= self.counts.postings:
            found = f"those from {start} to {end}"
            raise _damaged(self.path, f"postings of {self.counts.postings}", found)
        rows = self._rows[start:end]
        if len(rows) and rows.max() >= self.counts.rows:
            raise _damaged(self.path, f"rows up to {self.counts.rows - 1}", str(rows.max()))
        return Occurrences(rows, self._frequencies_in(start, end))

    def total_frequency(self) -> int:
        """The sum of all frequencies; ``counts.tokens`` in a file that is right."""
        escaped = ESCAPED * len(self._large)
        return (
            int(self._frequencies.sum(dtype=np.int64) + self._large.sum(dtype=np.int64)) - escaped
        )

    def _frequencies_in(self, start: int, end: int) -> NDArray[np.uint8] | NDArray[np.int32]:
        frequencies: NDArray[np.uint8] = self._frequencies[start:end]
        first, last = np.searchsorted(self._large_places, [start, end])
        places = np.flatnonzero(frequencies == ESCAPED)
        if not np.array_equal(places + start, self._large_places[first:last]):
            raise _damaged(self.path, "a number for each large frequency", "others")
        if not len(places):
            return frequencies
        exact = frequencies.astype(np.int32)
        exact[places] = self._large[first:last]
        return exact

    def _word(self, place: int) -> bytes:
        return self._letters[self._word_ends[place] : self._word_ends[place + 1]].tobytes()


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        # A plain array: np.memmap costs microseconds at every indexing.
        content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise _damaged(path, "the postings of a segment", error.strerror or str(error)) from error
    except ValueError as error:  # nothing can be mapped of an empty file
        raise _damaged(path, "the postings of a segment", "an empty file") from error
    return content


def _read_header(path: Path, content: NDArray[np.uint8]) -> Counts:
    expected = "the header of a postings file"
    try:
        header = orjson.loads(content[:_HEADER].tobytes())
        counts = Counts(**{name: _number(header[name]) for name in Counts.__annotations__})
        kind, version = header["format"], header["format_version"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, expected, f"none ({error})") from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise _damaged(path, f"{_FORMAT} of version {_VERSION}", f"{kind} of version {version}")
    return counts


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _damaged(path: Path, expected: str, found: str) -> DataError:
    return DataError(f"{path}: expected {expected}, found {found}: run `rq repair`")
