"""Documents in files and folders: plain text, Markdown and HTML, told by name and content.

A folder is read with all folders below it, in the order of names; hidden files and folders and
links to folders are passed over. What is done with what is found:

======================================  ===========================================================
``.md``, ``.markdown``, ``.mdx``        Markdown
``.html``, ``.htm``, ``.xhtml``         HTML; also any other file that begins as HTML does
any other text                          plain text, whatever its name
UTF-8, UTF-16 and UTF-32 with a mark    read; HTML also in the encoding that it declares
other encodings, binary files           not read, and listed with the reason
no permission, gone meanwhile           not read, and listed
a file without text                     not read, and listed
a file of more than 256 MiB             not read, and listed
collections, ``.jsonl``, ``.tsv``, …    not read inside a folder, and listed: name them themselves
======================================  ===========================================================
"""

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from .extraction import DocumentKind, Extract, extract
from .records import Passage

LARGEST = 256 << 20
_KINDS: dict[str, DocumentKind] = {
    **dict.fromkeys((".md", ".markdown", ".mdx"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
}
_COLLECTIONS = frozenset((".jsonl", ".ndjson", ".tsv", ".csv", ".trec", ".qrels"))
_TEXTS = frozenset((".txt", ".text", ".rst", ".adoc", ".org", ".log", ".py", ".tex"))
_PACKED = frozenset((".gz", ".zst", ".xz", ".bz2", ".zip"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BEGINS_AS_HTML = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_DECLARED_WITHIN = 4096


class Document(NamedTuple):
    """A passage that may be long, and how its text was taken from its source."""

    passage: Passage
    extract: Extract


class Unread(NamedTuple):
    """A file that could not be read, and why."""

    path: str
    reason: str


class UnreadableError(Exception):
    """Why a file gives no document."""


def is_text_name(path: str | Path) -> bool:
    """Whether a file of this name is a plain text, unless it is a collection of passages."""
    return Path(path).suffix.lower() in _TEXTS


def is_document_name(path: str | Path) -> bool:
    """Whether a file of this name is a document, whatever is in it."""
    return Path(path).suffix.lower() in _KINDS


class DocumentFiles:
    """The documents of a file or of a folder, read once; ``unread`` lists what was passed over.

    A document's id is the path that was given, with what is below it: ``docs/guide/start.md``.
    Raises UsageError at once for a folder that cannot be listed or holds no file.
    """

    def __init__(self, path: str | Path) -> None:
        self._root = Path(os.path.normpath(path))
        self._whole_folder = self._root.is_dir()
        self._files = _files_below(self._root) if self._whole_folder else [self._root]
        if not self._files:
            raise UsageError(f"{path}: expected a folder with files to read, found none in it")
        self.bytes_total = sum(_size_of(file) for file in self._files)
        self.bytes_read = 0
        self.location = ""
        self.unread: list[Unread] = []

    def __iter__(self) -> Iterator[Document]:
        for file in self._files:
            self.location = str(file)
            try:
                yield self._read(file)
            except UnreadableError as error:
                self.unread.append(Unread(str(file), str(error)))
            self.bytes_read += _size_of(file)

    def _read(self, file: Path) -> Document:
        name = str(file)
        if not _is_utf8(name):
            raise UnreadableError("a name that is no UTF-8: rename it")
        suffix = file.suffix.lower()
        if self._whole_folder and suffix in _COLLECTIONS | _PACKED:
            raise UnreadableError("a collection or an archive: a corpus is named as a file itself")
        content = _content(file)
        kind = _KINDS.get(suffix)
        source = _decoded(content, is_html=kind == "html")
        if kind is None:
            kind = "html" if _BEGINS_AS_HTML.match(source, 0, _DECLARED_WITHIN) else "text"
        found = extract(source, kind)
        if not found.text.strip():
            raise UnreadableError("no text in it")
        return Document(Passage(name, found.text, found.title or file.stem), found)


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise UsageError(f"{folder}: cannot be listed: {error.strerror}") from None

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += (Path(place, name) for name in sorted(names) if not name.startswith("."))
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, as the system names them
        return False
    return True


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _content(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise UnreadableError("no regular file")
        if _size_of(file) > LARGEST:
            raise UnreadableError(f"larger than {LARGEST >> 20} MiB: split it")
        return file.read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None


def _decoded(content: bytes, *, is_html: bool) -> str:
    """The text as it stands, line ends too; a byte order mark is no part of it."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding:
        if b"\0" in content:
            raise UnreadableError("a binary file")
        declared = _DECLARED.search(content, 0, _DECLARED_WITHIN) if is_html else None
        encoding = declared[1].decode("ascii", "replace") if declared else "utf-8"
    try:
        return content.decode(encoding)
    except LookupError:
        raise UnreadableError(f"in an encoding that is not known here, {encoding}") from None
    except UnicodeError as error:
        place = getattr(error, "start", 0)
        raise UnreadableError(
            f"no {encoding} at byte {place}: convert it to UTF-8, or it is a binary file"
        ) from None
