"""``manifest.json``: what an index consists of. Replacing this file is what commits a build.

``checksum`` is a SHA-256 over everything but itself and ``created``, so that two builds of the same
corpus differ in ``created`` alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import orjson

from ..durable import write_durably
from ..errors import DataError, RocketRankError
from .layout import MANIFEST

FORMAT = "rocketrank index"
FORMAT_VERSION = 1
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ModelNote:
    """The encoder that filled the index; ``precision`` is empty where it did not say."""

    name: str
    fingerprint: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file by its path below the index folder."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class VectorFile(StoredFile):
    rows: int


@dataclass(frozen=True, kw_only=True)
class StructureNote:
    """The FAISS structure: how it was made, why, and how it is searched."""

    kind: str
    factory: str
    reason: str
    search: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows ``first_row`` … ``end_row`` - 1. ``largest_norm`` bounds FAISS's rounding error."""

    first_row: int
    end_row: int
    largest_norm: float
    vectors: tuple[VectorFile, ...]
    faiss: StoredFile


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of an index; there is one segment now, and readers refuse more."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    generation: int
    model: ModelNote
    width: int
    count: int
    structure: StructureNote
    passages: StoredFile
    segments: tuple[Segment, ...]
    created: str

    def files(self) -> list[StoredFile]:
        """Every file but the manifest itself."""
        inner = [file for segment in self.segments for file in (*segment.vectors, segment.faiss)]
        return [self.passages, *inner]


class NewerFormatError(DataError):
    """The index was written by a later RocketRank."""


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Commits ``manifest`` in one step."""
    content = asdict(manifest)
    content["checksum"] = _checksum(content)
    lines = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_durably(directory / MANIFEST, [lines], alone=True)


def read_manifest(directory: Path) -> Manifest | None:
    """The committed manifest, None when there is none.

    Raises NewerFormatError, or DataError for a manifest that is not as it was written.
    """
    path = directory / MANIFEST
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # No DataError: what cannot be read is not damaged, and nothing may be thrown away for it.
        raise RocketRankError(
            f"{path}: cannot be read ({error.strerror}): check permissions"
        ) from error
    except orjson.JSONDecodeError as error:
        raise _damaged(path, f"expected JSON, found a file that is none ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise _damaged(path, f"expected format {FORMAT!r}, found {found!r}")
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise _damaged(path, f"expected a number as format_version, found {version!r}")
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path}: written by format {version}, this RocketRank reads up to {FORMAT_VERSION}: "
            "upgrade rocketrank"
        )
    return _parse(path, content)


def has_our_manifest(directory: Path) -> bool:
    """Whether a manifest is there that RocketRank wrote, readable by this version or not."""
    try:
        content = orjson.loads((directory / MANIFEST).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    try:
        manifest = Manifest(
            generation=_field(content, "generation", int),
            model=ModelNote(**_texts(_field(content, "model", dict), ModelNote)),
            width=_field(content, "width", int),
            count=_field(content, "count", int),
            structure=_structure(_field(content, "structure", dict)),
            passages=_file(_field(content, "passages", dict)),
            segments=tuple(_segment(each) for each in _dicts(content, "segments")),
            created=_field(content, "created", str),
        )
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if content.get("checksum") != _checksum(content):
        raise _damaged(path, "expected the content that its checksum was taken of, found another")
    rows = [
        (s.first_row, s.end_row, sum(file.rows for file in s.vectors)) for s in manifest.segments
    ]
    if rows != [(0, manifest.count, manifest.count)]:
        raise _damaged(path, f"expected one segment of {manifest.count} rows, found {rows}")
    return manifest


def _structure(content: Mapping[str, Any]) -> StructureNote:
    search = _field(content, "search", dict)
    texts = _texts(content, StructureNote, but="search")
    return StructureNote(**texts, search={name: _field(search, name, int) for name in search})


def _segment(content: Mapping[str, Any]) -> Segment:
    return Segment(
        first_row=_field(content, "first_row", int),
        end_row=_field(content, "end_row", int),
        largest_norm=_field(content, "largest_norm", float),
        vectors=tuple(
            VectorFile(rows=_field(each, "rows", int), **asdict(_file(each)))
            for each in _dicts(content, "vectors")
        ),
        faiss=_file(_field(content, "faiss", dict)),
    )


def _file(content: Mapping[str, Any]) -> StoredFile:
    name = PurePosixPath(_field(content, "file", str))
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"expected a file inside the index folder, found {str(name)!r}")
    return StoredFile(
        file=str(name),
        bytes=_field(content, "bytes", int),
        sha256=_field(content, "sha256", str),
    )


def _texts(content: Mapping[str, Any], record: type, but: str = "") -> dict[str, str]:
    return {name: _field(content, name, str) for name in record.__annotations__ if name != but}


def _dicts(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = _field(content, name, list)
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"expected objects in {name!r}, found something else")
    return entries


def _field(content: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = content.get(name)
    if type(value) is not kind:
        raise ValueError(f"expected {name!r} to be of type {kind.__name__}, found {value!r}")
    return value


def _checksum(content: Mapping[str, Any]) -> str:
    signed = {name: content[name] for name in content if name not in ("checksum", "created")}
    return hashlib.sha256(orjson.dumps(signed, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}: build the index again with --overwrite")
