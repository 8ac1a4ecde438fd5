"""Encoding a corpus shard by shard, and recognising the shards that an earlier run committed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..durable import make_folder, sha256_of
from ..errors import DataError, RocketRankError
from .layout import Layout
from .passages import Ledger, Shard, passage_bytes
from .progress import Progress
from .vectors import LARGEST_NORM, write_vectors

# Long texts make shards of fewer passages, so that memory does not depend on their length.
_SHARD_BYTES = 32 << 20


class PassageEncoder(Protocol):
    """What fills an index. ``fingerprint`` names the vector space, ``name`` finds the model."""

    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        """float32 (n, dim); ``on_done`` hears how many more are done, n in all."""
        ...


class Corpus(Protocol):
    """Passages in a fixed order, read once from the beginning for each build."""

    @property
    def location(self) -> str:
        """``file:line`` of the passage last yielded."""
        ...

    @property
    def skipped_empty(self) -> int: ...
    @property
    def bytes_total(self) -> int | None: ...
    @property
    def bytes_read(self) -> int | None: ...
    def __iter__(self) -> Iterator[Passage]: ...


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """``kind`` is auto, flat, ivf, hnsw, ivfpq or a FAISS factory string; see ``kinds.py``.

    ``precision`` is a note on how the encoder computes, kept in the manifest.
    """

    kind: str = "auto"
    shard_size: int = 4096
    skip_duplicates: bool = False
    overwrite: bool = False
    threads: int | None = None
    precision: str = ""


class _Reading(NamedTuple):
    """A shard as read from the corpus; ``locations`` are its passages' places in the files."""

    number: int
    first_row: int
    passages: list[Passage]
    locations: list[str]
    content_sha256: str


class ShardReader:
    """Cuts ``passages`` of ``corpus`` into shards; counts the ``duplicates`` it leaves out."""

    def __init__(
        self, corpus: Corpus, passages: Iterator[Passage], ledger: Ledger, options: BuildOptions
    ) -> None:
        self.corpus = corpus
        self._passages = passages
        self._ledger = ledger
        self._options = options
        self.duplicates = 0

    def __iter__(self) -> Iterator[_Reading]:
        number = first_row = 0
        while (reading := self._read(number, first_row)).passages:
            yield reading
            number += 1
            first_row += len(reading.passages)

    def _read(self, number: int, first_row: int) -> _Reading:
        passages: list[Passage] = []
        locations: list[str] = []
        rows: dict[str, int] = {}
        digest, size = hashlib.sha256(), 0
        for passage in self._passages:
            row = self._first_row_of(passage.id, rows, first_row)
            if row is not None:
                self._skip_or_refuse(passage.id, row)
                continue
            stored = self._storable(passage)
            digest.update(stored)
            size += len(stored)
            rows[passage.id] = first_row + len(passages)
            passages.append(passage)
            locations.append(self.corpus.location)
            if len(passages) == self._options.shard_size or size >= _SHARD_BYTES:
                break
        return _Reading(number, first_row, passages, locations, digest.hexdigest())

    def _first_row_of(self, passage_id: str, rows: dict[str, int], first_row: int) -> int | None:
        """Where the id was met before; the ledger may hold rows that are yet to be read again."""
        if passage_id in rows:
            return rows[passage_id]
        row = self._ledger.row_of(passage_id) if first_row else None
        return row if row is not None and row < first_row else None

    def _skip_or_refuse(self, passage_id: str, row: int) -> None:
        if not self._options.skip_duplicates:
            raise DataError(
                f"{self.corpus.location}: expected a passage id not seen before, found "
                f"{passage_id!r} again (first at row {row}): make the ids unique, say with "
                "--format if these are no ids, or keep the first of each with --skip-duplicates"
            )
        self.duplicates += 1

    def _storable(self, passage: Passage) -> bytes:
        try:
            return passage_bytes(passage)
        except (TypeError, UnicodeEncodeError) as error:
            raise DataError(
                f"{self.corpus.location}: expected text and metadata that UTF-8 and JSON can "
                f"hold, found passage {passage.id!r} with other content ({error}): mend this line"
            ) from error


def encode_corpus(
    layout: Layout,
    ledger: Ledger,
    reader: ShardReader,
    encoder: PassageEncoder,
    options: BuildOptions,
    *,
    progress: bool,
) -> int:
    """Brings the ledger and the vector files to hold the whole corpus, one shard in memory.

    Returns how many passages an earlier run had encoded.
    """
    make_folder(layout.vectors)
    corpus = reader.corpus
    resumed = shards = 0
    with Progress("encoding", shown=progress, total=corpus.bytes_total) as bar:
        for reading in reader:
            if _is_committed(layout, ledger, reading, options):
                count = len(reading.passages)
                resumed += count
                bar.advance(count, of=count, position=corpus.bytes_read)
            else:
                vectors = _encode(reading, encoder, bar, corpus.bytes_read)
                _commit(layout, ledger, reading, vectors, encoder.fingerprint)
            shards = reading.number + 1
    if len(ledger.shards) > shards:
        _drop_or_refuse(layout, ledger, shards, "the corpus ends before it", options)
    return resumed


def _is_committed(layout: Layout, ledger: Ledger, reading: _Reading, options: BuildOptions) -> bool:
    """Whether an earlier run committed this very shard, and its vectors are as they were."""
    if reading.number >= len(ledger.shards):
        return False
    shard = ledger.shards[reading.number]
    path = layout.vector_file(shard.number)
    if (shard.rows, shard.content_sha256) != (len(reading.passages), reading.content_sha256):
        place = f"{reading.locations[0]} to {reading.locations[-1]}"
        _drop_or_refuse(layout, ledger, shard.number, f"the corpus differs in {place}", options)
    elif not path.is_file() or sha256_of(path) != shard.vectors_sha256:
        _drop_or_refuse(layout, ledger, shard.number, f"{path} is missing or damaged", options)
    else:
        return True
    return False


def _drop_or_refuse(
    layout: Layout, ledger: Ledger, number: int, why: str, options: BuildOptions
) -> None:
    """Forgets the shards from ``number`` on if the user wants to start again."""
    if not options.overwrite:
        shard = ledger.shards[number]
        last = shard.first_row + shard.rows - 1
        raise DataError(
            f"{layout.directory}: expected the passages of the unfinished index in rows "
            f"{shard.first_row} to {last}, found others ({why}): give the same corpus to go on, or "
            "start again with --overwrite"
        )
    ledger.drop_from(number)


def _encode(
    reading: _Reading, encoder: PassageEncoder, bar: Progress, position: int | None
) -> NDArray[np.float32]:
    """The shard's vectors (n, dim); the bar moves with each batch."""
    left = len(reading.passages)

    def advance(count: int) -> None:
        nonlocal left
        bar.advance(count, of=left, position=position)
        left -= count

    vectors = encoder.encode_passages(
        [passage.text for passage in reading.passages],
        [passage.title for passage in reading.passages],
        on_done=advance,
    )
    _check_vectors(vectors, reading.passages, reading.locations, encoder)
    return vectors


def _commit(
    layout: Layout,
    ledger: Ledger,
    reading: _Reading,
    vectors: NDArray[np.float32],
    fingerprint: str,
) -> None:
    sha256 = write_vectors(layout.vector_file(reading.number), vectors)
    shard = Shard(
        reading.number,
        reading.first_row,
        len(reading.passages),
        sha256,
        reading.content_sha256,
        fingerprint,
    )
    ledger.commit(shard, reading.passages)


def _check_vectors(
    vectors: NDArray[np.float32],
    passages: list[Passage],
    locations: list[str],
    encoder: PassageEncoder,
) -> None:
    expected = (len(passages), encoder.dim)
    if vectors.shape != expected or vectors.dtype != np.float32:
        raise RocketRankError(
            f"model {encoder.name}: expected float32 vectors of shape {expected}, found "
            f"{vectors.dtype} of shape {vectors.shape}: check the model's folder"
        )
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(norms <= LARGEST_NORM))
    if len(bad):
        place = int(bad[0])
        raise DataError(
            f"{locations[place]}: expected a finite vector for passage {passages[place].id!r}, "
            f"found one of length {norms[place]} from model {encoder.name}: try --precision fp32, "
            "or take the passage out"
        )
