"""Bytes of a file as text-sized blocks, decompressed according to what the bytes say.

The first bytes decide (gzip ``1f 8b``, zstandard ``28 b5 2f fd``, xz ``fd 37 7a 58 5a 00``), never
the file's name. Several compressed members one after another are one stream, as from
``cat a.gz b.gz``.
"""

import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import zstandard

BLOCK_SIZE = 1 << 18
MAGIC_LENGTH = 6
_FIRST_PIECE = 1 << 8

Read = Callable[[int], bytes]


class DamagedError(Exception):
    """Compressed data that end too early or make no sense; ``expected`` and ``found`` say how."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


class _Member(Protocol):
    """One compressed member being unpacked."""

    def pieces(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def rest(self) -> bytes | None:
        """The bytes after the member's end, or None while the member goes on."""


class _Gzip:
    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._decoder.eof:
            yield self._decoder.decompress(data, BLOCK_SIZE)
            data = self._decoder.unconsumed_tail

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _Xz:
    def __init__(self) -> None:
        self._decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._decoder.decompress(data, BLOCK_SIZE)
        while not self._decoder.eof and not self._decoder.needs_input:
            yield self._decoder.decompress(b"", BLOCK_SIZE)

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _Zstandard:
    """zstandard's incremental interface cannot limit its output, so its input is limited.

    A file of one repeated line grows ten-thousandfold: pieces start small and grow as long as the
    last one's output was less than a block.
    """

    def __init__(self) -> None:
        # The widest window that `zstd --long=31` writes; the default refuses more than 128 MiB.
        self._decoder = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._size = _FIRST_PIECE
        self._unread = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            piece = data[start : start + self._size]
            start += len(piece)
            block = self._decoder.decompress(piece)
            yield block
            if self._decoder.eof:
                self._unread = self._decoder.unused_data + data[start:]
                return
            fitting = BLOCK_SIZE * len(piece) // max(len(block), 1)
            self._size = max(1, min(2 * self._size, fitting, BLOCK_SIZE))

    @property
    def rest(self) -> bytes | None:
        return self._unread if self._decoder.eof else None


class Compression(NamedTuple):
    """A compression, its name for messages, and the bytes by which it is known."""

    name: str
    magic: bytes
    start: Callable[[], _Member]


_COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", _Gzip),
    Compression("zstandard", b"\x28\xb5\x2f\xfd", _Zstandard),
    Compression("xz", b"\xfd7zXZ\x00", _Xz),
)
_NOT_LINES = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"BZh", "bzip2 data: decompress it with bunzip2 first"),
    (b"PAR1", "a Parquet file: convert it to JSON lines first"),
    (b"\xff\xfe", "UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8` first"),
    (b"\xfe\xff", "UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8` first"),
)


def plain_blocks(read: Read) -> Iterator[bytes]:
    """Decompressed blocks of what ``read(size)`` gives until it gives ``b""``.

    ``read`` may return fewer bytes than asked for: a pipe's first lines are handed on while its
    other end still writes. Raises DamagedError.
    """
    head = b""
    while len(head) < MAGIC_LENGTH and (more := read(BLOCK_SIZE)):
        head += more
    for magic, what in _NOT_LINES:
        if head.startswith(magic):
            raise DamagedError("lines of UTF-8 text", what)
    for compression in _COMPRESSIONS:
        if head.startswith(compression.magic):
            yield from _unpack(compression, head, read)
            return
    while head:
        yield head
        head = read(BLOCK_SIZE)


def _unpack(compression: Compression, data: bytes, read: Read) -> Iterator[bytes]:
    name = compression.name
    member: _Member | None = None
    while data or (data := read(BLOCK_SIZE)):
        if member is None:
            data = _next_member(compression, data, read)
            if not data:
                return
            member = compression.start()
        try:
            yield from member.pieces(data)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise DamagedError(f"sound {name} data", f"damaged data ({error})") from None
        rest = member.rest
        if rest is None:
            data = b""
        else:
            member, data = None, rest
    if member is not None:
        raise DamagedError(
            f"the end of the {name} data", "the end of the file: it is truncated, fetch it again"
        )


def _next_member(compression: Compression, data: bytes, read: Read) -> bytes:
    """``data`` from where the next member starts, ``b""`` at the end; zero padding is skipped."""
    data = data.lstrip(b"\0")
    while len(data) < len(compression.magic) and (more := read(BLOCK_SIZE)):
        data = (data + more).lstrip(b"\0")
    if data and not data.startswith(compression.magic):
        raise DamagedError(f"the end of the {compression.name} data", f"other bytes: {data[:8]!r}")
    return data
