"""Checking a segment: that its files are as they were written, and that they agree.

What a file says is looked at only where its bytes are those that were written: FAISS may end the
process over a damaged file, and of damage the file's name says more than what follows from it.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.words import words
from ..durable import sha256_of
from ..errors import DataError, RocketRankError
from .manifest import Manifest, Segment, StoredFile, VectorFile
from .parts import Part, part_vectors, parts_of
from .passages import FIELDS, PassageReader, Shard
from .postings import Postings
from .progress import Progress
from .selection import Selection
from .structure import Structure, faiss_library, take_apart
from .vectors import map_vectors, unpacked

_BLOCK = 65_536
_SEED = 20_240_301
_AS_WRITTEN = "the file is as it was written, so build the index again with --overwrite"


def segment_problems(
    directory: Path, manifest: Manifest, segment: Segment, sample: int, bar: Progress
) -> Iterator[str]:
    """What is wrong with the files of a segment, and where they contradict each other."""
    path = directory / segment.passages.file
    wrong = damage(directory, segment.passages)
    if wrong:
        says = sqlite_says(path) if path.is_file() else "there is no file"
        yield (
            f"{path}: {wrong} (SQLite's own check: {says}): texts cannot be made again, so go back "
            f"to the earlier commit that `rq repair {directory}` names, or index the corpus again"
        )
    else:
        yield from _passage_problems(path, manifest, segment, sample)
    if segment.postings:
        texts = path if not wrong else None
        yield from _postings_problems(directory, segment, segment.postings, texts, sample)
    if segment.live:
        yield from _live_problems(directory, segment, segment.live)
    whole = True
    for file in segment.vectors:
        wrong = damage(directory, file)
        if wrong:
            whole = False
            cure = f"`rq repair {directory}` encodes its passages again"
            yield f"{directory / file.file}: {wrong}: {cure}"
        else:
            path = directory / file.file
            yield from _vector_problems(path, file, manifest, segment.largest_norm)
        bar.advance(file.rows, of=file.rows, position=None)
    for part in parts_of(segment):
        wrong = damage(directory, part.file)
        if wrong:
            cure = f"`rq repair {directory}` builds it again from the vectors"
            yield f"{directory / part.file.file}: {wrong}: {cure}"
        elif whole:
            yield from _structure_problems(directory, manifest, segment, part, sample)


def damage(directory: Path, file: StoredFile) -> str | None:
    """What is wrong with the bytes of a file, as ``expected …, found …``; None when nothing is."""
    path = directory / file.file
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"expected {file.bytes} bytes, found {size}"
        digest = sha256_of(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return f"expected a file of {file.bytes} bytes, found none"
    except PermissionError as error:  # no damage, and nothing may be replaced for it
        raise RocketRankError(
            f"{path}: cannot be read ({error.strerror}): check permissions"
        ) from error
    except OSError as error:
        return f"expected {file.bytes} bytes, found an error of the disk ({error.strerror})"
    if digest != file.sha256:
        return f"expected SHA-256 {file.sha256[:12]}…, found {digest[:12]}…"
    return None


def sqlite_says(path: Path) -> str:
    """``ok``, or the first complaint of SQLite's own check of the file."""
    try:
        with closing(read_only(path)) as connection:
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)


def read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)


def drawn_rows(count: int, sample: int) -> NDArray[np.int64]:
    """At most ``sample`` of the numbers 0 … ``count`` - 1, the same each time, rising."""
    chosen = np.random.default_rng(_SEED).choice(count, size=min(sample, count), replace=False)
    return np.sort(chosen).astype(np.int64)


def _live_problems(directory: Path, segment: Segment, file: StoredFile) -> Iterator[str]:
    path = directory / file.file
    wrong = damage(directory, file)
    if wrong:
        yield (
            f"{path}: {wrong}: what was deleted cannot be known without it, so go back to the "
            f"earlier commit that `rq repair {directory}` names, or index the corpus again"
        )
        return
    bits = np.fromfile(path, dtype=np.uint8)
    count = Selection(bits, segment.rows).count if len(bits) * 8 >= segment.rows else 0
    if count != segment.count:
        yield f"{path}: expected {segment.count} bits to be set, found {count}: {_AS_WRITTEN}"


def _postings_problems(
    directory: Path, segment: Segment, file: StoredFile, texts: Path | None, sample: int
) -> Iterator[str]:
    """Whether the postings are those of the passages in ``texts``, on a sample of them."""
    path = directory / file.file
    wrong = damage(directory, file)
    if wrong:
        yield f"{path}: {wrong}: `rq repair {directory}` builds it again from the passages"
        return
    try:
        postings = Postings(path)
    except DataError as error:
        yield str(error)
        return
    rows, tokens = len(postings.lengths), int(postings.lengths.sum(dtype=np.int64))
    if (rows, tokens) != (segment.rows, postings.total_frequency()):
        yield (
            f"{path}: expected the postings of {segment.rows} passages with "
            f"{postings.total_frequency()} words, found lengths of {rows} with {tokens}: "
            f"{_AS_WRITTEN}"
        )
    elif texts is not None:
        drawn = drawn_rows(rows, sample).tolist()
        with closing(PassageReader(texts)) as reader:
            passages = reader.passages(drawn)
        for row, passage in zip(drawn, passages, strict=True):
            expected = Counter(words(passage.full_text))
            found = {word: _frequency(postings, word, row) for word in expected}
            if found != expected or postings.lengths[row] != expected.total():
                yield (
                    f"{path}: expected the words of passage {shown(passage.id)} in row {row}, "
                    f"found others: {_AS_WRITTEN}"
                )
                return


def _frequency(postings: Postings, word: str, row: int) -> int:
    """How often the passage at ``row`` has ``word``, by its postings."""
    rows, frequencies = postings.find(word)
    place = int(np.searchsorted(rows, row))
    return int(frequencies[place]) if place < len(rows) and rows[place] == row else 0


def _passage_problems(path: Path, manifest: Manifest, segment: Segment, sample: int) -> list[str]:
    try:
        with closing(read_only(path)) as connection:
            found = [
                *_ledger_problems(connection, manifest, segment),
                *_field_problems(connection, manifest, segment.rows, sample),
            ]
    except sqlite3.Error as error:
        found = [f"expected the passages of an index, found a file SQLite cannot read ({error})"]
    return [f"{path}: {each}: {_AS_WRITTEN}" for each in found]


def _ledger_problems(
    connection: sqlite3.Connection, manifest: Manifest, segment: Segment
) -> Iterator[str]:
    says = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if says != "ok":
        yield f"expected a whole SQLite file, found: {says}"
    select = "SELECT count(*), coalesce(min(row), 0), coalesce(max(row), -1) FROM passages"
    found = connection.execute(select).fetchone()
    if found != (segment.rows, 0, segment.rows - 1):
        yield (
            f"expected passages in rows 0 to {segment.rows - 1}, found {found[0]} in rows "
            f"{found[1]} to {found[2]}"
        )
    shards = [Shard(*row) for row in connection.execute("SELECT * FROM shards ORDER BY number")]
    if len(shards) != len(segment.vectors):
        yield f"expected a ledger of {len(segment.vectors)} shards, found {len(shards)}"
        return
    first_row = 0
    for number, (shard, file) in enumerate(zip(shards, segment.vectors, strict=True)):
        expected = (number, first_row, file.rows, file.sha256, manifest.model.fingerprint)
        noted = (*shard[:4], shard.fingerprint)
        first_row += file.rows
        if noted != expected:
            pair = next((a, b) for a, b in zip(expected, noted, strict=True) if a != b)
            yield f"expected {pair[0]!r} of {file.file} in the ledger, found {pair[1]!r}"


def _field_problems(
    connection: sqlite3.Connection, manifest: Manifest, rows: int, sample: int
) -> Iterator[str]:
    """Whether the columns to filter by are there for each passage, and on a sample say the same."""
    if not manifest.fields:
        return
    query = "SELECT value FROM settings WHERE name = ?"
    noted = connection.execute(query, (FIELDS,)).fetchone()
    if noted is None or tuple(orjson.loads(noted[0])) != manifest.fields:
        yield f"expected the fields {', '.join(manifest.fields)}, found others"
        return
    count = connection.execute("SELECT count(*) FROM passages JOIN fields USING (row)").fetchone()
    if count[0] != rows:
        yield f"expected the fields of {rows} passages, found those of {count[0]}"
    columns = ", ".join(f"field_{number}" for number in range(len(manifest.fields)))
    select = (
        f"SELECT row, metadata, {columns} FROM passages JOIN fields USING (row) "
        "WHERE row IN (SELECT value FROM json_each(?))"
    )
    drawn = orjson.dumps(drawn_rows(rows, sample).tolist()).decode()
    for row, metadata, *values in connection.execute(select, (drawn,)):
        known = orjson.loads(metadata) if metadata else {}
        for name, value in zip(manifest.fields, values, strict=True):
            # JSON has no infinity: the metadata say null for it.
            value = None if isinstance(value, float) and not np.isfinite(value) else value
            if value != known.get(name):
                yield (
                    f"expected {shown(str(known.get(name)))} in field {name!r} of row {row}, "
                    f"found {shown(str(value))}"
                )
                return


def _vector_problems(
    path: Path, file: VectorFile, manifest: Manifest, largest_norm: float
) -> Iterator[str]:
    try:
        vectors = map_vectors(path, file.rows, manifest.width, manifest.vectors)
    except DataError as error:
        yield str(error)
        return
    for start in range(0, file.rows, _BLOCK):
        block = unpacked(vectors[start : start + _BLOCK]).astype(np.float64)
        norms = np.linalg.norm(block, axis=1)
        bad = np.flatnonzero(~(norms <= largest_norm * (1 + 1e-6)))
        if len(bad):
            yield (
                f"{path}: expected finite vectors no longer than {largest_norm}, found one of "
                f"length {norms[bad[0]]} in row {start + bad[0]}: {_AS_WRITTEN}"
            )
            return


def _structure_problems(
    directory: Path, manifest: Manifest, segment: Segment, part: Part, sample: int
) -> Iterator[str]:
    """Whether the FAISS structure of a part holds the stored vectors, on a sample of them."""
    path, count = directory / part.file.file, part.file.rows
    with closing(part_vectors(directory, part, manifest)) as vectors:
        rows = drawn_rows(count, sample)
        try:
            structure = Structure(path, count, manifest.width, segment.structure.search)
            stored = vectors.gather(rows)
        except DataError as error:
            yield str(error)
            return
        if not structure.lossless:
            depth = min(structure.first_depth(1), max(1, count // 8))
            _, proposed = structure.search(stored, depth, 4)
            # An equal vector of another row will do; half of all allows for what was quantized.
            found = sum(
                bool(np.all(vectors.gather(near[near >= 0]) == vector, axis=1).any())
                for near, vector in zip(proposed, stored, strict=True)
            )
            if 2 * found < len(rows):
                yield (
                    f"{path}: expected to find {len(rows)} stored vectors by themselves, found "
                    f"{found}: {_AS_WRITTEN}"
                )
            return
    del structure
    there = _held_vectors(path, rows)
    different = [row for place, row in enumerate(rows) if not _equal(there, row, stored[place])]
    if different:
        yield (
            f"{path}: expected the vectors of the index, found others in {len(different)} of "
            f"{len(rows)} rows, such as {different[0]}: {_AS_WRITTEN}"
        )


def _equal(there: dict[int, NDArray[np.float32]], row: int, vector: NDArray[np.float32]) -> bool:
    return row in there and np.array_equal(there[row], vector)


def _held_vectors(path: Path, rows: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """The vectors at ``rows`` of a lossless structure.

    Lists are read one by one: a direct map would cost memory for each row, and FAISS refuses to
    make one twice.
    """
    faiss = faiss_library()
    flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY
    whole = faiss.read_index(str(path), flags)  # it owns its parts
    inner = take_apart(whole).inner
    if not hasattr(inner, "nlist"):
        flat = faiss.downcast_index(inner.storage) if hasattr(inner, "hnsw") else inner
        return {int(row): flat.reconstruct(int(row)) for row in rows}
    found: dict[int, NDArray[np.float32]] = {}
    lists: Any = inner.invlists
    for number in range(inner.nlist):
        size = lists.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
            vectors = codes.view(np.float32).reshape(size, inner.d)
            for place in np.flatnonzero(np.isin(ids, rows)):
                found[int(ids[place])] = vectors[place].copy()
    return found
