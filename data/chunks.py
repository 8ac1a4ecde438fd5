"""A corpus of documents as a corpus of chunks, whose ids lead back to the documents.

The chunk of the document ``guide.md`` that was made of its characters 1200 to 1890 has the id
``guide.md#1200-1890``, the document's title, and ``document``, ``start`` and ``end`` among its
metadata. Characters are those of the source: of a text file the file's, of Markdown and HTML those
of the file with its markup, of a collection those of the passage's text.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .chunking import LEAST_TOKENS, Chunking, chunk_ranges
from .corpus import CorpusReader
from .extraction import Extract
from .records import Passage

DOCUMENT, START, END = "document", "start", "end"


class PassageTokens(Protocol):
    """How the model that will read the chunks splits passages into tokens."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """The characters (n, 2) of each token."""
        ...

    def room(self, title: str) -> int:
        """How many tokens of a text the model reads beside this title."""
        ...


class ChunkedCorpus:
    """The chunks of ``corpus`` in its order, read once.

    Beside a long title a chunk has fewer tokens, down to half of the limit, so that all of it is
    read. A document without text gives one chunk, for its title.
    """

    def __init__(self, corpus: CorpusReader, tokens: PassageTokens, chunking: Chunking) -> None:
        self._corpus = corpus
        self._tokens = tokens
        self._chunking = chunking.checked()

    @property
    def location(self) -> str:
        return self._corpus.location

    @property
    def skipped_empty(self) -> int:
        return self._corpus.skipped_empty

    @property
    def bytes_total(self) -> int | None:
        return self._corpus.bytes_total

    @property
    def bytes_read(self) -> int | None:
        return self._corpus.bytes_read

    @property
    def unread(self) -> set[str]:
        """Documents that could not be read, so far."""
        return {each.path for each in self._corpus.unread}

    def __iter__(self) -> Iterator[Passage]:
        for passage in self._corpus:
            self._check(passage)
            yield from self._chunks(passage, self._corpus.extract)

    def _chunks(self, passage: Passage, extract: Extract | None) -> Iterator[Passage]:
        limit = self._chunking.limit
        room = max(min(limit, self._tokens.room(passage.title)), limit // 2, LEAST_TOKENS)
        text, before, repeated = passage.text, (-1, -1), 0
        for start, end in chunk_ranges(text, self._tokens.spans, self._chunking, limit=room):
            source = extract.source_range(start, end) if extract else (start, end)
            # Chunks within one stretch that cannot be taken apart, such as a long code span.
            repeated = repeated + 1 if source == before else 0
            before = source
            yield _chunk(passage, text[start:end], source, repeated)
        if before == (-1, -1):
            yield _chunk(passage, "", (0, 0), 0)

    def _check(self, passage: Passage) -> None:
        taken = next((key for key in (DOCUMENT, START, END) if key in passage.metadata), None)
        if taken is not None:
            raise DataError(
                f"{self.location}: expected no metadata called {taken!r}, which chunks have for "
                f"themselves, found it in {passage.id!r}: rename it, or index without --chunk"
            )


def _chunk(document: Passage, text: str, source: tuple[int, int], repeated: int) -> Passage:
    start, end = source
    again = f".{repeated + 1}" if repeated else ""
    metadata = {**document.metadata, DOCUMENT: document.id, START: start, END: end}
    return Passage(f"{document.id}#{start}-{end}{again}", text, document.title, metadata)


def document_of(passage_id: str, metadata: Mapping[str, Any]) -> str:
    """The id of the document that a passage is a chunk of; its own where it is none."""
    found = metadata.get(DOCUMENT)
    return found if isinstance(found, str) and passage_id.startswith(f"{found}#") else passage_id
