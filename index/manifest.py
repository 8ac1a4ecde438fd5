"""A commit of an index: what it consists of, and its form in JSON.

``checksum`` is a SHA-256 over everything but itself and ``created``, so that two builds of the same
corpus differ in ``created`` alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import orjson

from ..data.chunking import Chunking
from ..errors import DataError, RocketRankError
from .vectors import VECTOR_TYPES, VectorType

FORMAT = "rocketrank index"
FORMAT_VERSION = 2
"""What an index without postings is written as, and what its ledgers say."""
_WITH_POSTINGS = 3
_WITH_CHUNKS = 4
"""An older RocketRank reads format 2 and passes over what it does not know, so a change that it
made would lose the postings, or how documents were cut, without a word: an index that has them must
be refused by it. One that has none is written as before, and any RocketRank may change it."""
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
    """The FAISS structure: how it was made, why, how it is searched, and a file for each part."""

    kind: str
    factory: str
    reason: str
    search: dict[str, int]
    files: tuple[VectorFile, ...]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """``rows`` passages, ``count`` of them not deleted: all, where there is no ``live`` file.

    ``largest_norm`` bounds FAISS's rounding error. ``postings`` are the words' for BM25.
    """

    number: int
    rows: int
    count: int
    largest_norm: float
    passages: StoredFile
    vectors: tuple[VectorFile, ...]
    structure: StructureNote
    live: StoredFile | None
    postings: StoredFile | None = None

    def files(self) -> list[StoredFile]:
        others = [each for each in (self.live, self.postings) if each]
        return [self.passages, *self.vectors, *self.structure.files, *others]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A commit. ``change`` is the command that made it, ``kind`` the structure that was asked for.

    Commits from ``history_from`` on are kept for a while; ``fields`` are the metadata columns.
    ``bm25`` says that each segment has postings, and that new ones get them; ``chunking`` how the
    documents that the passages are chunks of were cut.
    """

    commit: int
    history_from: int
    change: str
    model: ModelNote
    width: int
    vectors: VectorType
    kind: str
    fields: tuple[str, ...]
    segments: tuple[Segment, ...]
    created: str
    bm25: bool = False
    chunking: Chunking | None = None

    @property
    def count(self) -> int:
        """Passages that are not deleted."""
        return sum(segment.count for segment in self.segments)

    @property
    def rows(self) -> int:
        """Passages stored, deleted ones too."""
        return sum(segment.rows for segment in self.segments)

    def files(self) -> list[StoredFile]:
        """Every file but the manifest itself."""
        return [file for segment in self.segments for file in segment.files()]


class NewerFormatError(DataError):
    """The index was written by a later RocketRank."""


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is written."""
    version = _WITH_POSTINGS if manifest.bm25 else FORMAT_VERSION
    version = _WITH_CHUNKS if manifest.chunking else version
    content = {"format": FORMAT, "format_version": version, **asdict(manifest)}
    if not manifest.chunking:
        del content["chunking"]
    if not manifest.bm25:
        del content["bm25"]
        for segment in content["segments"]:
            del segment["postings"]
    content["checksum"] = _checksum(content)
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_manifest_file(path: Path) -> Manifest | None:
    """The manifest in ``path``, None when there is no such file.

    Raises NewerFormatError, or DataError for a manifest that is not as it was written.
    """
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
    if version > _WITH_CHUNKS:
        raise NewerFormatError(
            f"{path}: written by format {version}, this RocketRank reads up to {_WITH_CHUNKS}: "
            "upgrade rocketrank"
        )
    try:
        manifest = _parse(_from_format_1(content) if version == 1 else content)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if content.get("checksum") != _checksum(content):
        raise _damaged(path, "expected the content that its checksum was taken of, found another")
    return manifest


def is_our_manifest(path: Path) -> bool:
    """Whether RocketRank wrote the file, readable by this version or not."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _from_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Format 1 had one segment, whose rows were never deleted, and its parts on the top level."""
    [segment] = _dicts(content, "segments")
    count = _field(content, "count", int)
    file = {**_field(segment, "faiss", dict), "rows": count}
    structure = {**_field(content, "structure", dict), "files": [file]}
    number = _field(content, "generation", int)
    known = {"number": number, "rows": count, "count": count, "live": None}
    return {
        **content,
        "commit": number,
        "history_from": number,
        "change": "index",
        "vectors": "float32",
        "kind": structure.get("kind"),
        "fields": [],
        "segments": [
            {**segment, **known, "passages": content.get("passages"), "structure": structure}
        ],
    }


def _parse(content: Mapping[str, Any]) -> Manifest:
    names = _field(content, "fields", list)
    manifest = Manifest(
        commit=_field(content, "commit", int),
        history_from=_field(content, "history_from", int),
        change=_field(content, "change", str),
        model=ModelNote(**_texts(_field(content, "model", dict), ModelNote)),
        width=_field(content, "width", int),
        vectors=_vector_type(_field(content, "vectors", str)),
        kind=_field(content, "kind", str),
        fields=tuple(_field({"field": name}, "field", str) for name in names),
        segments=tuple(_segment(each) for each in _dicts(content, "segments")),
        created=_field(content, "created", str),
        bm25=_field({"bm25": False, **content}, "bm25", bool),
        chunking=_chunking(content),
    )
    for segment in manifest.segments:
        rows = sum(file.rows for file in segment.vectors)
        held = sum(file.rows for file in segment.structure.files)
        deleted = segment.rows - segment.count
        agree = rows == held == segment.rows and (deleted > 0) == (segment.live is not None)
        if not agree or deleted < 0:
            raise ValueError(
                f"expected segment {segment.number} to have {segment.rows} rows with "
                f"{segment.count} of them live, found vectors of {rows} and structures of {held}"
            )
        if (segment.postings is not None) != manifest.bm25:
            found = "none" if manifest.bm25 else "some"
            raise ValueError(
                f"expected segment {segment.number} to have postings where 'bm25' is true and only "
                f"there, found {found} with {manifest.bm25}"
            )
    return manifest


def _chunking(content: Mapping[str, Any]) -> Chunking | None:
    if content.get("chunking") is None:
        return None
    numbers = _field(content, "chunking", dict)
    return Chunking(_field(numbers, "limit", int), _field(numbers, "stride", int))


def _segment(content: Mapping[str, Any]) -> Segment:
    structure = _field(content, "structure", dict)
    search = _field(structure, "search", dict)
    return Segment(
        number=_field(content, "number", int),
        rows=_field(content, "rows", int),
        count=_field(content, "count", int),
        largest_norm=_field(content, "largest_norm", float),
        passages=_file(_field(content, "passages", dict)),
        vectors=_vector_files(content, "vectors"),
        structure=StructureNote(
            kind=_field(structure, "kind", str),
            factory=_field(structure, "factory", str),
            reason=_field(structure, "reason", str),
            search={name: _field(search, name, int) for name in search},
            files=_vector_files(structure, "files"),
        ),
        live=_file_or_none(content, "live"),
        postings=_file_or_none(content, "postings"),
    )


def _vector_files(content: Mapping[str, Any], name: str) -> tuple[VectorFile, ...]:
    return tuple(
        VectorFile(rows=_field(each, "rows", int), **asdict(_file(each)))
        for each in _dicts(content, name)
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


def _file_or_none(content: Mapping[str, Any], name: str) -> StoredFile | None:
    return None if content.get(name) is None else _file(_field(content, name, dict))


def _vector_type(name: str) -> VectorType:
    for known in VECTOR_TYPES:
        if name == known:
            return known
    raise ValueError(f"expected vectors of type {', '.join(VECTOR_TYPES)}, found {name!r}")


def _texts(content: Mapping[str, Any], record: type) -> dict[str, str]:
    return {name: _field(content, name, str) for name in record.__annotations__}


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
    return DataError(f"{path}: {what}: `rq repair` may mend it, or build the index again")
