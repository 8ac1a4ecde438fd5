"""``rq encode``: a corpus or queries as a folder of vectors, so that a killed run goes on.

``unfinished.json`` is written first. Each shard's two files are written, and then that file again
with one shard more: the shard's commit point. The last step renames it to ``vectors.json``. The
next run of the same command reads the texts again and compares each shard's content instead of
encoding it.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.records import Passage, Query
from ..durable import PARTIAL, check_new_folder, explained_write, make_folder, put_in_place
from ..errors import DataError, RocketRankError, UsageError
from .encoding import SHARD_BYTES, Corpus, PassageEncoder, check_vectors, shard_rows
from .passages import passage_bytes
from .progress import Progress
from .vector_shards import (
    NOTE,
    UNFINISHED,
    ShardNote,
    Side,
    VectorsNote,
    check_shard,
    read_note,
    write_note,
    write_shard,
)

Item = TypeVar("Item", bound=Passage | Query)


class QueryEncoder(Protocol):
    """As ``PassageEncoder``, for the other side."""

    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (n, dim)."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """``shard_size`` is that of the first shards, ``precision`` a note on how is computed."""

    shard_size: int = 4096
    skip_duplicates: bool = False
    precision: str = ""


class EncodeReport(NamedTuple):
    """What was written. ``resumed_from`` vectors an earlier run had made."""

    vectors: int
    width: int
    resumed_from: int
    skipped_duplicates: int
    seconds: float
    bytes_on_disk: int


def encode_corpus(
    folder: Path,
    corpus: Corpus,
    encoder: PassageEncoder,
    options: EncodeOptions,
    *,
    progress: bool = False,
) -> EncodeReport:
    """Writes the vectors of ``corpus`` into ``folder``, or goes on with that.

    Raises UsageError for a folder in use, DataError for passages that cannot be encoded or are not
    those that the folder was begun with.
    """

    def encode(
        passages: Sequence[Passage], on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        texts = [passage.text for passage in passages]
        titles = [passage.title for passage in passages]
        return encoder.encode_passages(texts, titles, on_done=on_done)

    side = _Side(
        note=_note(encoder, options, "passages"),
        encode=encode,
        content=lambda passage: passage_bytes(Passage(passage.id, passage.text, passage.title)),
        place=lambda: corpus.location,
        position=lambda: corpus.bytes_read,
        total=corpus.bytes_total,
    )
    return _write(folder, iter(corpus), side, options, progress=progress)


def encode_queries(
    folder: Path,
    queries: Sequence[Query],
    encoder: QueryEncoder,
    options: EncodeOptions,
    *,
    progress: bool = False,
) -> EncodeReport:
    """As ``encode_corpus``, for queries."""

    def encode(some: Sequence[Query], on_done: Callable[[int], object]) -> NDArray[np.float32]:
        return encoder.encode_queries([query.text for query in some])

    side = _Side(
        note=_note(encoder, options, "queries"),
        encode=encode,
        content=lambda query: passage_bytes(Passage(query.id, query.text)),
        place=lambda: "queries",
        position=lambda: None,
        total=len(queries),
    )
    return _write(folder, iter(queries), side, options, progress=progress)


def _note(
    encoder: PassageEncoder | QueryEncoder, options: EncodeOptions, side: Side
) -> VectorsNote:
    return VectorsNote(
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        precision=options.precision,
        width=encoder.dim,
        side=side,
    )


@dataclass(frozen=True, kw_only=True)
class _Side(Generic[Item]):
    """What passages and queries differ in: their ``content`` in bytes, where the last one read is
    (``place``), how far reading is (``position`` of ``total``)."""

    note: VectorsNote
    encode: Callable[[Sequence[Item], Callable[[int], object]], NDArray[np.float32]]
    content: Callable[[Item], bytes]
    place: Callable[[], str]
    position: Callable[[], int | None]
    total: int | None


class _Reading(NamedTuple, Generic[Item]):
    """A shard as read."""

    items: list[Item]
    places: list[str]
    content_sha256: str


@dataclass
class _Made:
    """What is in the folder so far."""

    shards: list[ShardNote]
    contents: list[str]


def _write(
    folder: Path,
    items: Iterator[Item],
    side: _Side[Item],
    options: EncodeOptions,
    *,
    progress: bool,
) -> EncodeReport:
    started = time.monotonic()
    if options.shard_size < 1:
        raise UsageError(f"shard_size ({options.shard_size}) must be at least 1")
    _refuse_finished(folder)
    if not _is_ours(folder):
        check_new_folder(folder)
    first = next(items, None)
    if first is None:
        raise DataError(f"expected at least one of the {side.note.side}, found none: name others")
    make_folder(folder)
    with _locked(folder):
        _refuse_finished(folder)
        made = _begun(folder, side.note, options)
        reader = _Reader(chain([first], items), side, made, options)
        resumed = number = 0
        with Progress("encoding", shown=progress, total=side.total) as bar:
            while (reading := reader.next(number)).items:
                if number < len(made.shards):
                    _check_same(folder, made, number, reading)
                    resumed += len(reading.items)
                    bar.advance(len(reading.items), of=len(reading.items), position=side.position())
                else:
                    _commit(folder, made, reading, _encoded(reading, side, bar), side, options)
                number += 1
        if number < len(made.shards):
            raise _others(folder, made.shards[number].vectors, f"the {side.note.side} end before")
        with explained_write(folder / NOTE):
            put_in_place(folder / UNFINISHED, folder / NOTE)
    return EncodeReport(
        vectors=sum(shard.rows for shard in made.shards),
        width=side.note.width,
        resumed_from=resumed,
        skipped_duplicates=reader.duplicates,
        seconds=time.monotonic() - started,
        bytes_on_disk=sum(each.stat().st_size for each in folder.iterdir()),
    )


def _is_ours(folder: Path) -> bool:
    """Whether an earlier run has begun the folder, or was killed while it did."""
    if (folder / UNFINISHED).exists():
        return True
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return names == [UNFINISHED + PARTIAL]


def _refuse_finished(folder: Path) -> None:
    if (folder / NOTE).exists():
        found = read_note(folder)
        count = sum(shard.rows for shard in found.shards)
        raise UsageError(
            f"{folder}: already holds the vectors of {count:,} {found.note.side} made with "
            f"{found.note.model}: name another folder"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder itself; the system frees it when this process dies."""
    with explained_write(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RocketRankError(
                f"{folder}: cannot be locked ({error.strerror}): wait until the other process that "
                "writes it ends, or name another folder"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _begun(folder: Path, note: VectorsNote, options: EncodeOptions) -> _Made:
    """What an earlier run of this command left; UsageError where it was another one."""
    if not (folder / UNFINISHED).exists():
        made = _Made([], [])
        _note_shards(folder, made, note, options)
        return made
    found = read_note(folder, UNFINISHED)
    size = {"shard_size": options.shard_size}
    before = {**asdict(found.note), "shard_size": found.content.get("shard_size")}
    for name, value in {**asdict(note), **size}.items():
        if name != "model" and before[name] != value:
            what = "model" if name == "fingerprint" else name.replace("_", " ")
            pair = (found.note.model, note.model) if what == "model" else (before[name], value)
            raise UsageError(
                f"{folder}: these unfinished vectors were begun with {what} {pair[0]}, and this "
                f"command has {pair[1]}: run it as before to go on, or name another folder"
            )
    contents = found.content.get("contents")
    if not isinstance(contents, list) or len(contents) != len(found.shards):
        raise DataError(
            f"{folder / UNFINISHED}: expected the content of {len(found.shards)} shards, found "
            f"{shown(contents)}: name another folder"
        )
    return _Made(found.shards, contents)


class _Reader(Generic[Item]):
    """Cuts what is read into shards; counts the ``duplicates`` that it leaves out."""

    def __init__(
        self, items: Iterator[Item], side: _Side[Item], made: _Made, options: EncodeOptions
    ) -> None:
        self._items = items
        self._side = side
        self._made = [shard.rows for shard in made.shards]
        self._options = options
        self._rows: dict[str, int] = {}
        self.duplicates = 0

    def next(self, number: int) -> _Reading[Item]:
        """Shard ``number``, empty where everything has been read."""
        known = number < len(self._made)
        wanted = self._made[number] if known else shard_rows(number, self._options.shard_size)
        items: list[Item] = []
        places: list[str] = []
        digest, size = hashlib.sha256(), 0
        for item in self._items:
            if not self._is_new(item.id):
                continue
            content = self._side.content(item)
            digest.update(content)
            size += len(content)
            items.append(item)
            places.append(self._side.place())
            if len(items) == wanted or size >= SHARD_BYTES:
                break
        return _Reading(items, places, digest.hexdigest())

    def _is_new(self, item_id: str) -> bool:
        row = self._rows.get(item_id)
        if row is None:
            self._rows[item_id] = len(self._rows)
            return True
        if not self._options.skip_duplicates:
            raise DataError(
                f"{self._side.place()}: expected an id not seen before, found {shown(item_id)} "
                f"again (first at row {row}): make the ids unique, say with --format if these are "
                "no ids, or keep the first of each with --skip-duplicates"
            )
        self.duplicates += 1
        return False


def _encoded(reading: _Reading[Item], side: _Side[Item], bar: Progress) -> NDArray[np.float32]:
    """The shard's vectors (n, dim); the bar moves with each batch."""
    left, position = len(reading.items), side.position()

    def advance(count: int) -> None:
        nonlocal left
        bar.advance(count, of=left, position=position)
        left -= count

    vectors = side.encode(reading.items, advance)
    if left:
        advance(left)
    ids = [item.id for item in reading.items]
    check_vectors(vectors, ids, reading.places, side.note.width, side.note.model)
    return vectors


def _commit(
    folder: Path,
    made: _Made,
    reading: _Reading[Item],
    vectors: NDArray[np.float32],
    side: _Side[Item],
    options: EncodeOptions,
) -> None:
    ids = [item.id for item in reading.items]
    made.shards.append(write_shard(folder, len(made.shards), ids, vectors))
    made.contents.append(reading.content_sha256)
    _note_shards(folder, made, side.note, options)


def _note_shards(folder: Path, made: _Made, note: VectorsNote, options: EncodeOptions) -> None:
    more = {"shard_size": options.shard_size, "contents": made.contents}
    write_note(folder, note, made.shards, name=UNFINISHED, **more)


def _check_same(folder: Path, made: _Made, number: int, reading: _Reading[Item]) -> None:
    """DataError where an earlier run made shard ``number`` of something else."""
    shard = made.shards[number]
    if (shard.rows, made.contents[number]) != (len(reading.items), reading.content_sha256):
        places = f"{reading.places[0]} to {reading.places[-1]}"
        raise _others(folder, shard.vectors, f"what is read differs in {places}")
    check_shard(folder, shard)


def _others(folder: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{folder}: expected the texts that {name} was made of, found others ({why}): give the "
        "same files to go on, or name another folder"
    )
