"""RocketRank's own folder of vectors: what ``rq encode`` writes and ``rq index --vectors`` reads.

vectors.json   model, fingerprint, precision, width, side, and the shards with their checksums;
               written last, so that a folder that has it is whole
000000.npy     float32 (rows, width)
000000.ids     the ids of these rows, each a string of JSON on a line of its own
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.lines import shown
from ..durable import sha256_of, write_durably
from ..errors import DataError, RocketRankError
from .vectors import write_vectors

NOTE = "vectors.json"
UNFINISHED = "unfinished.json"
"""What stands in place of ``vectors.json`` while ``rq encode`` is at work."""
_FORMAT = "rocketrank-vectors"
_VERSION = 1

Side = Literal["passages", "queries"]


@dataclass(frozen=True, kw_only=True)
class VectorsNote:
    """What made a folder's vectors: a model, as which ``precision`` computed it, of which side."""

    model: str
    fingerprint: str
    precision: str
    width: int
    side: Side


class ShardNote(NamedTuple):
    """A shard: the names of its files, its rows, and the checksums of both."""

    vectors: str
    ids: str
    rows: int
    vectors_sha256: str
    ids_sha256: str


def write_shard(
    folder: Path, number: int, ids: Sequence[str], vectors: NDArray[np.float32]
) -> ShardNote:
    """Writes both files of a shard durably."""
    content = b"".join(orjson.dumps(each) + b"\n" for each in ids)
    names = f"{number:06d}.npy", f"{number:06d}.ids"
    digest = write_vectors(folder / names[0], vectors)
    write_durably(folder / names[1], [content], alone=True)
    return ShardNote(*names, len(ids), digest, hashlib.sha256(content).hexdigest())


def write_note(
    folder: Path,
    note: VectorsNote,
    shards: Iterable[ShardNote],
    *,
    name: str = NOTE,
    **more: object,
) -> None:
    """Writes ``vectors.json``, or another file of its form with ``more`` in it."""
    listed = [shard._asdict() for shard in shards]
    content = {
        "format": _FORMAT,
        "format_version": _VERSION,
        **asdict(note),
        "count": sum(shard["rows"] for shard in listed),
        "shards": listed,
        **more,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    write_durably(folder / name, [orjson.dumps(content, option=options)], alone=True)


class Noted(NamedTuple):
    """What a folder says of itself; ``content`` is all of it."""

    note: VectorsNote
    shards: list[ShardNote]
    content: dict[str, Any]


def read_note(folder: Path, name: str = NOTE) -> Noted:
    """What ``write_note`` has written. DataError where it is not that."""
    path = folder / name
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RocketRankError(
            f"{path}: cannot be read ({error.strerror}): check permissions"
        ) from error
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"{path}: expected JSON, found a file that is none ({error}): encode into a new folder"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataError(f"{path}: expected the format {_FORMAT!r}, found none: name another folder")
    if content.get("format_version") != _VERSION:
        raise DataError(
            f"{path}: written by format {shown(content.get('format_version'))}, this RocketRank "
            f"reads {_VERSION}: upgrade rocketrank"
        )
    try:
        note = VectorsNote(
            **{name: _checked(content, name, kind) for name, kind in _note_types().items()}
        )
        shards = [
            ShardNote(**{name: _checked(each, name, kind) for name, kind in _SHARD_TYPES.items()})
            for each in content["shards"]
        ]
        if note.side not in get_args(Side):
            raise ValueError(f"found the side {note.side!r}")
        if any(Path(each).name != each for shard in shards for each in shard[:2]):
            raise ValueError("found files of another folder")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected what rq encode writes, {error}: encode into a new folder"
        ) from error
    return Noted(note, shards, content)


_SHARD_TYPES: dict[str, type] = {
    "vectors": str,
    "ids": str,
    "rows": int,
    "vectors_sha256": str,
    "ids_sha256": str,
}


def _note_types() -> dict[str, type]:
    texts = dict.fromkeys(("model", "fingerprint", "precision", "side"), str)
    return {**texts, "width": int}


def _checked(content: Any, name: str, kind: type) -> Any:
    value = content.get(name)
    if type(value) is not kind:
        raise ValueError(f"found {shown(value)} as {name}")
    return value


def check_shard(folder: Path, shard: ShardNote) -> None:
    """DataError where a file of the shard is missing or not as it was written."""
    for name, sha256 in ((shard.vectors, shard.vectors_sha256), (shard.ids, shard.ids_sha256)):
        path = folder / name
        try:
            found = sha256_of(path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}): copy the whole folder, or encode again"
            ) from error
        if found != sha256:
            raise DataError(
                f"{path}: expected the file with the SHA-256 {sha256[:12]}…, found {found[:12]}…: "
                "it was changed since; copy it again, or encode again"
            )


def shard_ids(folder: Path, shard: ShardNote) -> list[str]:
    """The ids of a shard's rows."""
    path = folder / shard.ids
    ids = []
    for line, content in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, str):
            raise DataError(
                f"{path}:{line}: expected a string of JSON, found {shown(content)}: encode again"
            )
        ids.append(found)
    return ids
