"""Filling a segment shard by shard, and recognising the shards that an earlier run committed."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.chunking import Chunking
from ..data.lines import shown
from ..data.records import Passage
from ..durable import make_folder, sha256_of
from ..errors import DataError, RocketRankError
from .layout import SegmentFolder
from .passages import Ledger, Shard, passage_bytes
from .progress import Progress
from .vectors import LARGEST_NORM, VectorType, write_vectors

# Long texts make shards of fewer passages, so that memory does not depend on their length.
SHARD_BYTES = 32 << 20
_SHARDS_OF_A_SIZE = 16
_LARGEST_SHARD = 16
"""Of that many times as many passages as the first ones."""


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
    """``kind`` is one of ``kinds.KINDS`` or a FAISS factory string.

    ``shard_size`` is that of the first shards (see ``shard_rows``).
    ``precision`` is a note on how the encoder computes, kept in the manifest; ``fields`` are the
    metadata that get columns to filter by, ``vectors`` how vectors are stored. ``wait`` is how many
    seconds another writer may take, ``memory`` how many bytes building the structure may take.
    ``bm25`` makes postings too, to search by words. ``chunking`` is how the corpus was cut from
    documents, which the index remembers.
    """

    kind: str = "auto"
    shard_size: int = 4096
    skip_duplicates: bool = False
    overwrite: bool = False
    threads: int | None = None
    precision: str = ""
    vectors: VectorType = "float32"
    fields: tuple[str, ...] = ()
    wait: float = 0
    memory: int | None = None
    bm25: bool = False
    chunking: Chunking | None = None


class VectorSource(Protocol):
    """Where the vectors of a new segment come from.

    ``content_sha256`` tells given vectors apart, so that a build goes on with the same ones; it is
    empty where vectors follow from passages and model.
    """

    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def content_sha256(self) -> str: ...
    def vectors(
        self, passages: Sequence[Passage], *, on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """float32 (n, dim); ``on_done`` may hear how many more are done, n in all."""
        ...


class Encoded:
    """Vectors that an encoder makes."""

    content_sha256 = ""

    def __init__(self, encoder: PassageEncoder) -> None:
        self.dim = encoder.dim
        self.fingerprint = encoder.fingerprint
        self.name = encoder.name
        self._encoder = encoder

    def vectors(
        self, passages: Sequence[Passage], *, on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """As ``VectorSource.vectors``."""
        return self._encoder.encode_passages(
            [passage.text for passage in passages],
            [passage.title for passage in passages],
            on_done=on_done,
        )


class _Reading(NamedTuple):
    """A shard as read from the corpus; ``locations`` are its passages' places in the files."""

    number: int
    first_row: int
    passages: list[Passage]
    locations: list[str]
    content_sha256: str


class ShardReader:
    """Cuts ``passages`` of ``corpus`` into shards; counts the ``duplicates`` it leaves out.

    ``wanted`` may leave passages out or refuse them; it is given each with its bytes and its place.
    """

    def __init__(
        self,
        corpus: Corpus,
        passages: Iterator[Passage],
        ledger: Ledger,
        options: BuildOptions,
        wanted: Callable[[Passage, bytes, str], bool] | None = None,
    ) -> None:
        self.corpus = corpus
        self._passages = passages
        self._ledger = ledger
        self._options = options
        self._wanted = wanted
        self.duplicates = 0
        self._met: set[str] = set()

    @property
    def unmet_fields(self) -> list[str]:
        """The fields that no passage read so far has."""
        return [name for name in self._options.fields if name not in self._met]

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
        # A version before made shards of one size: what is there is gone on with as it is.
        made = self._ledger.shards
        known = number < len(made)
        wanted = made[number].rows if known else shard_rows(number, self._options.shard_size)
        for passage in self._passages:
            stored = self._storable(passage)
            row = self._first_row_of(passage.id, rows, first_row)
            if row is not None:
                self._skip_or_refuse(passage.id, row)
                continue
            rows[passage.id] = first_row + len(passages)
            if self._wanted and not self._wanted(passage, stored, self.corpus.location):
                continue
            digest.update(stored)
            size += len(stored)
            passages.append(passage)
            locations.append(self.corpus.location)
            if len(passages) == wanted or size >= SHARD_BYTES:
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
        for name in self._options.fields:
            value = passage.metadata.get(name)
            if value is not None:
                self._met.add(name)
            if not _can_be_compared(value):
                raise DataError(
                    f"{self.corpus.location}: expected a text, a finite number of 64 bits or a "
                    f"truth value in field {name!r} of passage {passage.id!r}, found "
                    f"{type(value).__name__} {shown(str(value))}: mend this line, or leave the "
                    "field out of --fields"
                )
        try:
            return passage_bytes(passage)
        except (TypeError, UnicodeEncodeError) as error:
            raise DataError(
                f"{self.corpus.location}: expected text and metadata that UTF-8 and JSON can "
                f"hold, found passage {passage.id!r} with other content ({error}): mend this line"
            ) from error


def shard_rows(number: int, first: int) -> int:
    """Passages in shard ``number`` of a segment whose first shards have ``first``.

    They grow to sixteen times that, doubling every sixteen shards: what a kill loses stays a small
    part of what was done, and a large index does not have thousands of files.
    """
    return first * min(_LARGEST_SHARD, 1 << min(number // _SHARDS_OF_A_SIZE, 30))


def _can_be_compared(value: object) -> bool:
    """Whether SQLite compares it as its type suggests; a bool is 0 or 1 there."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str)


def fill_segment(
    folder: SegmentFolder,
    ledger: Ledger,
    reader: ShardReader,
    source: VectorSource,
    options: BuildOptions,
    *,
    task: str = "encoding",
    progress: bool,
) -> int:
    """Brings the ledger and the vector files to hold the whole corpus, one shard in memory.

    Returns how many passages an earlier run had encoded.
    """
    make_folder(folder.vectors)
    corpus = reader.corpus
    resumed = shards = 0
    with Progress(task, shown=progress, total=corpus.bytes_total) as bar:
        for reading in reader:
            if _is_committed(folder, ledger, reading, options):
                count = len(reading.passages)
                resumed += count
                bar.advance(count, of=count, position=corpus.bytes_read)
            else:
                vectors = _vectors(reading, source, bar, corpus.bytes_read)
                _commit(folder, ledger, reading, vectors, source.fingerprint, options.vectors)
            shards = reading.number + 1
    if len(ledger.shards) > shards:
        _drop_or_refuse(folder, ledger, shards, "the corpus ends before it", options)
    return resumed


def _is_committed(
    folder: SegmentFolder, ledger: Ledger, reading: _Reading, options: BuildOptions
) -> bool:
    """Whether an earlier run committed this very shard, and its vectors are as they were."""
    if reading.number >= len(ledger.shards):
        return False
    shard = ledger.shards[reading.number]
    path = folder.vector_file(shard.number)
    if (shard.rows, shard.content_sha256) != (len(reading.passages), reading.content_sha256):
        place = f"{reading.locations[0]} to {reading.locations[-1]}"
        _drop_or_refuse(folder, ledger, shard.number, f"the corpus differs in {place}", options)
    elif not _has_digest(path, shard.vectors_sha256):
        _drop_or_refuse(folder, ledger, shard.number, f"{path} is missing or damaged", options)
    else:
        return True
    return False


def _has_digest(path: Path, sha256: str) -> bool:
    """Whether the file is there, can be read, and is as it was."""
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def _drop_or_refuse(
    folder: SegmentFolder, ledger: Ledger, number: int, why: str, options: BuildOptions
) -> None:
    """Forgets the shards from ``number`` on if the user wants to start again."""
    if not options.overwrite:
        shard = ledger.shards[number]
        last = shard.first_row + shard.rows - 1
        raise DataError(
            f"{folder.directory}: expected the passages of the unfinished index in rows "
            f"{shard.first_row} to {last}, found others ({why}): give the same corpus to go on, or "
            "start again with --overwrite"
        )
    ledger.drop_from(number)


def _vectors(
    reading: _Reading, source: VectorSource, bar: Progress, position: int | None
) -> NDArray[np.float32]:
    """The shard's vectors (n, dim); the bar moves with each batch."""
    left = len(reading.passages)

    def advance(count: int) -> None:
        nonlocal left
        bar.advance(count, of=left, position=position)
        left -= count

    vectors = source.vectors(reading.passages, on_done=advance)
    if left:
        advance(left)
    ids = [passage.id for passage in reading.passages]
    check_vectors(vectors, ids, reading.locations, source.dim, source.name)
    return vectors


def _commit(
    folder: SegmentFolder,
    ledger: Ledger,
    reading: _Reading,
    vectors: NDArray[np.float32],
    fingerprint: str,
    vector_type: VectorType,
) -> None:
    sha256 = write_vectors(folder.vector_file(reading.number), vectors, vector_type)
    shard = Shard(
        reading.number,
        reading.first_row,
        len(reading.passages),
        sha256,
        reading.content_sha256,
        fingerprint,
    )
    ledger.commit(shard, reading.passages)


def check_vectors(
    vectors: NDArray[np.float32], ids: Sequence[str], locations: Sequence[str], dim: int, name: str
) -> None:
    """RocketRankError for vectors that the model ``name`` cannot have meant."""
    expected = (len(ids), dim)
    if vectors.shape != expected or vectors.dtype != np.float32:
        raise RocketRankError(
            f"model {name}: expected float32 vectors of shape {expected}, found "
            f"{vectors.dtype} of shape {vectors.shape}: check the model's folder"
        )
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(norms <= LARGEST_NORM))
    if len(bad):
        place = int(bad[0])
        raise DataError(
            f"{locations[place]}: expected a finite vector for passage {ids[place]!r}, "
            f"found one of length {norms[place]} from model {name}: try --precision fp32, "
            "or take the passage out"
        )
