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
===========================================  =======================================================
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..errors import DataError, UsageError
from .lines import LineFile, check_paths, shown
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
    """The passages of one or more files (``-`` is standard input), read once and in order.

    ``format`` holds for every file; "auto" decides for each. A passage without text and title is a
    DataError, or is left out and counted when ``skip_empty``. Raises UsageError at once for a file
    that cannot be opened, and DataError (``file:line: expected …, found …``) while reading.

    ``formats`` maps the files begun so far to their formats, ``count`` is the number of passages
    given, ``skipped_empty`` of those left out.
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
        check_paths(paths)
        self.skipped_empty = 0
        self.count = 0
        self._format = format
        self._skip_empty = skip_empty
        self._formats: dict[str, CorpusFormat] = {}
        self._files = [LineFile(path) for path in paths]
        self._current: LineFile | None = None
        self._row_ids = itertools.count()
        self._passages = self._read()

    def __iter__(self) -> Iterator[Passage]:
        return self._passages

    @property
    def location(self) -> str:
        """``file:line`` of the last passage given, "" before the first."""
        return self._current.place if self._current else ""

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
            parse = self._prepare(file)
            self._current = file
            if parse is None:
                continue
            for passage in file.parsed(parse):
                text = passage.text
                if (not text or text.isspace()) and not passage.title.strip():
                    self._drop(file, passage)
                    continue
                self.count += 1
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


def _unknown_format(name: str, line: str) -> str:
    shapes = "; ".join(f"{format}: {shape}" for format, shape in FORMAT_SHAPES.items())
    return (
        f"{name}:1: expected lines of a known format ({shapes}), found {shown(line)}; "
        f"name the format with --format"
    )
