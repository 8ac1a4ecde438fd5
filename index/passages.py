"""Passages and the ledger of encoded shards, both in one SQLite file.

The transaction that stores a shard's passages stores its ledger row too, so a shard is in the index
as a whole or not at all. A rollback journal (not a WAL) keeps the file's bytes a function of the
transactions committed, whatever happened in between.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self
from weakref import WeakSet

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.records import NO_METADATA, Passage
from ..durable import PARTIAL, explained_write, put_in_place
from ..errors import DataError, RocketRankError, UsageError
from .layout import APPLICATION_ID

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE passages (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
    metadata TEXT
);
CREATE TABLE shards (
    number INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, rows INTEGER NOT NULL,
    vectors_sha256 TEXT NOT NULL, content_sha256 TEXT NOT NULL, fingerprint TEXT NOT NULL
);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
FIELDS = "fields"
"""The setting that lists, as JSON, the metadata that has columns of its own to filter by."""
GIVEN = "given_vectors"
"""The setting that tells given vectors apart; not there where a model makes them."""
PURPOSE = "purpose"
"""The setting that says which command began the segment."""
_COMPLETE = "complete"

# SQLite's smallest limit on parameters in use is 999.
_IDS_AT_ONCE = 500


class Shard(NamedTuple):
    """A row of the ledger: passages ``first_row`` … ``first_row + rows - 1`` are encoded."""

    number: int
    first_row: int
    rows: int
    vectors_sha256: str
    content_sha256: str
    fingerprint: str


def passage_bytes(passage: Passage) -> bytes:
    """Id, title, text and metadata, each with its length before it, for a digest over passages.

    Raises TypeError or UnicodeEncodeError for what JSON or UTF-8 cannot say.
    """
    fields = (passage.id, passage.title, passage.text, _metadata_json(passage) or "")
    encoded = [field.encode() for field in fields]
    return b"".join(len(field).to_bytes(8, "big") + field for field in encoded)


def _metadata_json(passage: Passage) -> str | None:
    return orjson.dumps(dict(passage.metadata)).decode() if passage.metadata else None


class Ledger:
    """The passages file of a build in progress; one thread, one process (the folder is locked)."""

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        """Opens ``path``, or creates it with ``settings``; DataError when it cannot be read."""
        self._path = path
        if not path.exists():
            _create(path, settings)
        with self._explained():
            self._connection = sqlite3.connect(path, isolation_level=None)
            # EXTRA makes the journal's removal durable: after a power cut a journal that came back
            # would undo the transaction.
            self._connection.execute("PRAGMA synchronous = EXTRA")
            # The first read also rolls back what a killed process had not committed.
            self.settings = dict(self._connection.execute("SELECT name, value FROM settings"))
            select = "SELECT * FROM shards ORDER BY number"
            self.shards = [Shard(*row) for row in self._connection.execute(select)]
            self._fields: list[str] = orjson.loads(self.settings.get(FIELDS, "[]"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def row_of(self, passage_id: str) -> int | None:
        with self._explained():
            select = "SELECT row FROM passages WHERE id = ?"
            found = self._connection.execute(select, (passage_id,)).fetchone()
        return None if found is None else int(found[0])

    def commit(self, shard: Shard, passages: Sequence[Passage]) -> None:
        """Stores the passages and the ledger row in one transaction: the shard's commit point."""
        records = (
            (row, passage.id, passage.title, passage.text, _metadata_json(passage))
            for row, passage in enumerate(passages, start=shard.first_row)
        )
        with self._explained(), self._transaction() as connection:
            connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?)", records)
            if self._fields:
                marks = ", ?" * len(self._fields)
                values = (
                    (row, *(passage.metadata.get(name) for name in self._fields))
                    for row, passage in enumerate(passages, start=shard.first_row)
                )
                connection.executemany(f"INSERT INTO fields VALUES (?{marks})", values)
            connection.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)", shard)
        self.shards.append(shard)

    @property
    def complete(self) -> bool:
        """Whether nothing was left to do but to commit the segment."""
        return _COMPLETE in self.settings

    def mark_complete(self) -> None:
        if not self.complete:
            with self._explained(), self._transaction() as connection:
                connection.execute("INSERT INTO settings VALUES (?, '')", (_COMPLETE,))
            self.settings[_COMPLETE] = ""

    def drop_from(self, number: int) -> None:
        """Forgets the shards from ``number`` on."""
        first_row = self.shards[number].first_row
        with self._explained(), self._transaction() as connection:
            connection.execute("DELETE FROM passages WHERE row >= ?", (first_row,))
            if self._fields:
                connection.execute("DELETE FROM fields WHERE row >= ?", (first_row,))
            connection.execute("DELETE FROM shards WHERE number >= ?", (number,))
            connection.execute("DELETE FROM settings WHERE name = ?", (_COMPLETE,))
        self.settings.pop(_COMPLETE, None)
        del self.shards[number:]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise DataError(
                    f"{self._path}: expected the ledger of an unfinished index, found another "
                    f"file ({error}): remove it, or name another folder"
                ) from error
            raise RocketRankError(
                f"{self._path}: cannot be written ({error}): make room or give write permission, "
                "then run the same command again; it goes on where it stopped"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self._path}: expected the ledger of an unfinished index, found a damaged file "
                f"({error}): start again with --overwrite"
            ) from error


def _create(path: Path, settings: Mapping[str, str]) -> None:
    """Puts an empty ledger in place as a whole, so that a file of that name is always readable."""
    partial = path.with_name(path.name + PARTIAL)
    with explained_write(path):
        # A journal left of an earlier file would be rolled back into the new one.
        for name in (partial.name, f"{partial.name}-journal", f"{path.name}-journal"):
            path.with_name(name).unlink(missing_ok=True)
        try:
            connection = sqlite3.connect(partial, isolation_level=None)
            connection.executescript(_SCHEMA + _field_columns(settings))
            connection.executemany("INSERT INTO settings VALUES (?, ?)", sorted(settings.items()))
            connection.close()
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error)) from error
        put_in_place(partial, path)


def _field_columns(settings: Mapping[str, str]) -> str:
    """A table with a column for each field, named by its number, and an index on each."""
    count = len(orjson.loads(settings.get(FIELDS, "[]")))
    if not count:
        return ""
    columns = "".join(f", field_{number}" for number in range(count))
    table = f"CREATE TABLE fields (row INTEGER PRIMARY KEY{columns});\n"
    return table + "\n".join(
        f"CREATE INDEX by_field_{number} ON fields (field_{number});" for number in range(count)
    )


class _Connection:
    """A thread's own read-only connection, closed when the thread ends or the index is closed."""

    def __init__(self, path: Path) -> None:
        uri = path.absolute().as_uri() + "?mode=ro"
        self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self.process = os.getpid()


class PassageReader:
    """Reads passages by row or by id; several threads may, each on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()

    def count(self) -> int:
        """Passages stored, from the last row number: rows have no gaps."""
        found = self._select("SELECT max(row) FROM passages", ())
        return 0 if found[0][0] is None else int(found[0][0]) + 1

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages at ``rows``, in that order."""
        wanted = [int(row) for row in rows]
        select = (
            "SELECT row, id, text, title, metadata FROM passages "
            "WHERE row IN (SELECT value FROM json_each(?))"
        )
        selected = self._select(select, (orjson.dumps(wanted).decode(),))
        found = {row: self._passage(*fields) for row, *fields in selected}
        missing = next((row for row in wanted if row not in found), None)
        if missing is not None:
            raise UsageError(
                f"expected rows from 0 to {self.count() - 1}, found {missing}: "
                "pass rows that a search returned"
            )
        return [found[row] for row in wanted]

    def by_id(self, ids: Collection[str]) -> dict[str, Passage]:
        """The passages with these external ids, by id; ids that are not there are left out."""
        selected = self._select_by_id("id, text, title, metadata", ids)
        return {fields[0]: self._passage(*fields) for fields in selected}

    def rows_by_id(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of these external ids; ids that are not there are left out, texts not read."""
        return {passage_id: row for passage_id, row in self._select_by_id("id, row", ids)}

    def ids(self, rows: Sequence[int]) -> list[str]:
        """The external ids at ``rows``, in that order."""
        select = "SELECT row, id FROM passages WHERE row IN (SELECT value FROM json_each(?))"
        found = dict(self._select(select, (orjson.dumps([int(row) for row in rows]).decode(),)))
        return [found[int(row)] for row in rows]

    def matching(self, condition: str, parameters: Sequence[Any]) -> NDArray[np.int64]:
        """The rows whose columns ``field_0``, ``field_1``, … meet an SQL ``condition``, rising."""
        select = f"SELECT row FROM fields WHERE {condition}"
        with self._explained():
            cursor = self._connection().execute(select, tuple(parameters))
            return np.sort(np.fromiter((row for (row,) in cursor), dtype=np.int64))

    def close(self) -> None:
        with self._lock:
            for connection in list(self._connections):
                connection.sqlite.close()
        self._local = threading.local()

    def _select_by_id(self, columns: str, ids: Iterable[str]) -> Iterator[Any]:
        remaining = iter(ids)
        while batch := tuple(islice(remaining, _IDS_AT_ONCE)):
            marks = ",".join("?" * len(batch))
            yield from self._select(f"SELECT {columns} FROM passages WHERE id IN ({marks})", batch)

    def _passage(self, passage_id: str, text: str, title: str, metadata: str | None) -> Passage:
        try:
            fields = orjson.loads(metadata) if metadata else NO_METADATA
        except orjson.JSONDecodeError as error:
            raise DataError(
                f"{self._path}: expected metadata in JSON, found a damaged passage ({error}): "
                "build the index again with --overwrite"
            ) from error
        return Passage(passage_id, text, title, fields)

    def _select(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        with self._explained():
            return list(self._connection().execute(statement, parameters))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (UnicodeEncodeError, OverflowError, sqlite3.ProgrammingError) as error:
            raise UsageError(
                f"expected ids that are texts of UTF-8, found others ({error}): give the ids that "
                "the passages have"
            ) from error
        except sqlite3.Error as error:
            raise DataError(
                f"{self._path}: expected the passages of an index, found a file that cannot be "
                f"read ({error}): open the index again if it was replaced meanwhile, or build it "
                "again with --overwrite"
            ) from error

    def _connection(self) -> sqlite3.Connection:
        holder: _Connection | None = getattr(self._local, "holder", None)
        # SQLite connections must not cross a fork.
        if holder is None or holder.process != os.getpid():
            holder = _Connection(self._path)
            self._local.holder = holder
            with self._lock:
                self._connections.add(holder)
        return holder.sqlite
