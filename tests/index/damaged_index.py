"""An index of several segments with deletions and a snapshot, and ways to damage its files."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.durable import sha256_of
from rocketrank.index import (
    ChangeOptions,
    Index,
    Manifest,
    add_passages,
    committed_manifest,
    delete_passages,
    take_snapshot,
)
from rocketrank.index.commits import commit
from rocketrank.index.manifest import Segment, StoredFile, VectorFile

from .small_index import HashingEncoder, ListCorpus, build, sentences

PASSAGES = sentences(70)
DELETED = ("doc-3", "doc-4", "doc-45")
SEGMENT = "segments/000001/"


class OtherMachine(HashingEncoder):
    """The same vectors but for rounding, as another precision or processor gives them."""

    def encode_passages(self, *args: Any, **options: Any) -> NDArray[np.float32]:
        return super().encode_passages(*args, **options) * np.float32(1 - 2**-20)


def make_index(directory: Path) -> None:
    """Commits 1 to 4: 40 passages, 20 more, 10 more, three deleted of the first two segments.

    Commit 2 has the snapshot ``two``; the passages' number is a field.
    """
    build(directory, PASSAGES[:40], fields=("number",))
    add(directory, PASSAGES[40:60])
    take_snapshot(directory, "two")
    add(directory, PASSAGES[60:])
    delete_passages(directory, DELETED, ChangeOptions())


def add(directory: Path, passages: list[Passage]) -> None:
    add_passages(directory, ListCorpus(passages), HashingEncoder(), ChangeOptions(shard_size=10))


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def replace_all(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


DAMAGES: list[Callable[[Path], object]] = [flip, truncate, Path.unlink, replace_all]


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def found(directory: Path) -> tuple[list[list[str]], list[list[float]]]:
    """The ids and scores that ten queries find."""
    texts = [passage.text for passage in PASSAGES[::7]]
    with Index.open(directory) as index:
        result = index.search(HashingEncoder().encode_passages(texts), 15)
        ids = [[passage.id for passage in index.passages(row.tolist())] for row in result.rows]
    return ids, result.scores.tolist()


def refresh(directory: Path, change: Callable[[Segment], Segment] = lambda each: each) -> Manifest:
    """Commits the first segment as its files are now, as if they had been written so."""
    manifest = committed_manifest(directory)
    segment = change(manifest.segments[0])
    segment = replace(
        segment,
        passages=_as_it_is(directory, segment.passages),
        vectors=_rows_as_they_are(directory, segment.vectors),
        structure=replace(
            segment.structure, files=_rows_as_they_are(directory, segment.structure.files)
        ),
        live=segment.live and _as_it_is(directory, segment.live),
        postings=segment.postings and _as_it_is(directory, segment.postings),
    )
    manifest = replace(manifest, segments=(segment, *manifest.segments[1:]))
    shutil.rmtree(directory / "commits")
    shutil.rmtree(directory / "snapshots", ignore_errors=True)
    commit(directory, manifest)
    return manifest


def _rows_as_they_are(directory: Path, files: tuple[VectorFile, ...]) -> tuple[VectorFile, ...]:
    return tuple(VectorFile(rows=each.rows, **vars(_as_it_is(directory, each))) for each in files)


def _as_it_is(directory: Path, file: StoredFile) -> StoredFile:
    path = directory / file.file
    return StoredFile(file=file.file, bytes=path.stat().st_size, sha256=sha256_of(path))


def random_vectors(count: int, seed: int = 5) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def make_format_1(directory: Path) -> None:
    """An index of 25 passages as the first format laid it out."""
    build(directory, sentences(25))
    segment = directory / "segments/000001"
    (segment / "passages.sqlite").rename(directory / "passages.sqlite")
    (segment / "vectors").rename(directory / "vectors")
    (directory / "faiss").mkdir()
    (segment / "flat.faiss").rename(directory / "faiss/flat.faiss")
    shutil.rmtree(directory / "segments")
    shutil.rmtree(directory / "commits")
    known = orjson.loads((directory / "manifest.json").read_bytes())
    [kept] = known["segments"]
    structure = kept["structure"]

    def moved(file: dict[str, object], name: str) -> dict[str, object]:
        return {**file, "file": name}

    content = {
        "format": known["format"],
        "format_version": 1,
        "generation": 1,
        "count": 25,
        "width": known["width"],
        "model": known["model"],
        "passages": moved(kept["passages"], "passages.sqlite"),
        "structure": {name: structure[name] for name in ("kind", "factory", "reason", "search")},
        "segments": [
            {
                "vectors": [
                    moved(file, f"vectors/{number:06d}.npy")
                    for number, file in enumerate(kept["vectors"])
                ],
                "largest_norm": kept["largest_norm"],
                "faiss": moved(structure["files"][0], "faiss/flat.faiss"),
            }
        ],
    }
    signed = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    content |= {"checksum": hashlib.sha256(signed).hexdigest(), "created": known["created"]}
    (directory / "manifest.json").write_bytes(orjson.dumps(content))
