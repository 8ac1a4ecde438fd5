"""Reading a corpus: passages from files of any known format, as a stream.

The format is known by the first lines of each file (``detect_corpus_format`` has the rule), never
by the file's name; ``format=`` overrides. What is done with what is found in real files, beyond
what ``lines`` does for any file:

===========================================  =======================================================
duplicate ids                                passed on: the index refuses or skips them
neither text nor title (blanks do not count)  error, or skipped and counted with ``skip_empty``
empty id                                     error
id that is a JSON integer                    becomes a string
id that is a JSON float, bool or null        error
text or title that is no JSON string         error (a title may be null or missing)
line that is no JSON object                  error
no id or no text key                         error that names the keys found
further scalar keys, a ``metadata`` object   ``Passage.metadata``; null and other lists are left out
header (``pid passage``, ``title para``, …)  recognised on the first line and left out
too few or too many tabs                     error with both numbers
quotes in tsv                                kept, except in DPR files that quote like CSV
RocketQA files                               ids are line numbers from 0, going on over the files;
                                             the title ``-`` means none
empty file                                   no passages; ``count`` tells
file of no known format                      error that lists the formats
folder, Markdown, HTML, text of no format    documents, one passage each (``documents`` has how)
===========================================  =======================================================
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..errors import DataError, UsageError
from .documents import DocumentFiles, Unread, is_document_name, is_text_name
from .extraction import Extract
from .lines import STANDARD_INPUT, LineFile, check_paths, collection_in, first_block, shown
from .passage_formats import (
    CORPUS_FORMATS,
    FORMAT_SHAPES,
    CorpusFormat,
    ParsePassage,
    detect_corpus_format,
    dpr_columns,
    dpr_parser,
    is_msmarco_header,
    is_rocketqa_header,
    parse_beir,
    parse_msmarco,
    rocketqa_parser,
)
from .records import Passage

SAMPLE_LINES = 64


class CorpusReader:
    """The passages of files and folders (``-`` is standard input), read once and in order.

    ``format`` holds for every file; "auto" decides for each. A passage without text and title is a
    DataError, or is left out and counted when ``skip_empty``. Raises UsageError at once for a file
    that cannot be opened, and DataError (``file:line: expected …, found …``) while reading.

    ``formats`` maps the files begun so far to their formats, ``count`` is the number of passages
    given, ``skipped_empty`` of those left out. ``unread`` lists files below folders, and documents,
    that could not be read; ``extract`` is how the last passage's text was taken from its file,
    None where it is a line's.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        format: CorpusFormat | Literal["auto"] = "auto",
        skip_empty: bool = False,
    ) -> None:
        if isinstance(paths, str | Path):
            raise UsageError(f"paths must be a sequence of files; write [{str(paths)!r}]")
        if format != "auto" and format not in CORPUS_FORMATS:
            raise UsageError(f"format ({format}) must be one of auto, {', '.join(CORPUS_FORMATS)}")
        check_corpus_paths(paths)
        self.skipped_empty = 0
        self.count = 0
        self.extract: Extract | None = None
        self._format = format
        self._skip_empty = skip_empty
        self._formats: dict[str, CorpusFormat] = {}
        self._files = [
            DocumentFiles(path) if _holds_documents(path, format) else LineFile(path)
            for path in paths
        ]
        self._location = ""
        self._row_ids = itertools.count()
        self._passages = self._read()

    def __iter__(self) -> Iterator[Passage]:
        return self._passages

    @property
    def location(self) -> str:
        """``file:line`` of the last passage given, "" before the first."""
        return self._location

    @property
    def unread(self) -> list[Unread]:
        """Files that could not be read, so far."""
        return [
            each for file in self._files if isinstance(file, DocumentFiles) for each in file.unread
        ]

    @property
    def holds_documents(self) -> bool:
        """Whether files or folders of documents are among those given."""
        return any(isinstance(file, DocumentFiles) for file in self._files)

    @property
    def formats(self) -> Mapping[str, CorpusFormat]:
        """File name → format, for the files begun so far that are not empty."""
        return self._formats

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, as they lie on the disk (compressed)."""
        return sum(file.bytes_read for file in self._files)

    @property
    def bytes_total(self) -> int | None:
        """Size of all files together, None when one is a pipe."""
        sizes = [file.bytes_total for file in self._files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def _read(self) -> Iterator[Passage]:
        for file in self._files:
            if isinstance(file, DocumentFiles):
                yield from self._documents(file)
            else:
                yield from self._lines(file)
        if self.unread and not self.count:
            path, reason = self.unread[0]
            more = f" (and {len(self.unread) - 1:,} more could not be read)"
            raise DataError(
                f"{path}: expected a document that can be read, found {reason}"
                f"{more if len(self.unread) > 1 else ''}: name files of text, Markdown or HTML"
            )

    def _documents(self, files: DocumentFiles) -> Iterator[Passage]:
        for document in files:
            self._location = files.location
            self.extract = document.extract
            self.count += 1
            yield document.passage
        self.extract = None

    def _lines(self, file: LineFile) -> Iterator[Passage]:
        parse = self._prepare(file)
        self._location = file.place
        for passage in file.parsed(parse) if parse else ():
            text = passage.text
            if (not text or text.isspace()) and not passage.title.strip():
                self._drop(file, passage)
                continue
            self.count += 1
            self._location = file.place
            yield passage

    def _drop(self, file: LineFile, passage: Passage) -> None:
        if not self._skip_empty:
            file.fail(
                "a text or a title",
                f"neither in passage {shown(passage.id)}; --skip-empty leaves such passages out",
            )
        self.skipped_empty += 1

    def _prepare(self, file: LineFile) -> ParsePassage | None:
        """The parser for a file, its header skipped; None for an empty file."""
        # With the format given, a pipe's first passage comes with its first line.
        sample = file.peek(1 if self._format not in ("auto", "dpr") else SAMPLE_LINES)
        if not sample:
            return None
        format = detect_corpus_format(sample) if self._format == "auto" else self._format
        if format is None:
            raise DataError(_unknown_format(file.name, sample[0]))
        self._formats[file.name] = format
        return self._parser(file, format, sample)

    def _parser(self, file: LineFile, format: CorpusFormat, sample: list[str]) -> ParsePassage:
        if format == "beir":
            return parse_beir
        if format == "dpr":
            columns = dpr_columns(sample[0])
            if columns:
                file.skip()
            return dpr_parser(sample[1:] if columns else sample, columns)
        if format == "msmarco":
            if is_msmarco_header(sample[0]):
                file.skip()
            return parse_msmarco
        if is_rocketqa_header(sample[0]):
            file.skip()
        return rocketqa_parser(self._row_ids)


def check_corpus_paths(paths: Sequence[str | Path]) -> None:
    """As ``check_paths``; a folder may be given, unless it is one that a collection comes in."""
    folders = {str(path) for path in paths if Path(path).is_dir()}
    check_paths(
        path for path in paths if str(path) not in folders or collection_in(Path(path)) is not None
    )


def _holds_documents(path: str | Path, format: CorpusFormat | Literal["auto"]) -> bool:
    """Whether what is at ``path`` is read as documents rather than as a file of passages."""
    if str(path) == STANDARD_INPUT:
        return False
    if Path(path).is_dir():
        return True
    if format != "auto":
        return False
    return is_document_name(path) or (is_text_name(path) and not _is_collection(path))


def _is_collection(path: str | Path) -> bool:
    """Whether a text file begins like one of the formats of passages."""
    beginning = first_block(path).decode("utf-8-sig", "replace")
    lines = [line.removesuffix("\r") for line in beginning.split("\n", SAMPLE_LINES)[:SAMPLE_LINES]]
    if not all(lines):
        lines = lines[: lines.index("")]
    return bool(lines) and detect_corpus_format(lines) is not None


def _unknown_format(name: str, line: str) -> str:
    shapes = "; ".join(f"{format}: {shape}" for format, shape in FORMAT_SHAPES.items())
    return (
        f"{name}:1: expected lines of a known format ({shapes}), found {shown(line)}; "
        f"name the format with --format"
    )
