"""A small deterministic encoder and corpora, and a command that builds an index with them.

``python small_index.py DIRECTORY COUNT SHARD_SIZE KIND SECONDS_A_SHARD`` is what tests kill; with
the kind "none" it writes vectors alone.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.index import BuildOptions, BuildReport, build_index
from rocketrank.index.vector_encoding import EncodeOptions, encode_corpus


class HashingEncoder:
    """Counts of hashed words with signs, divided by their length; equal texts are equal vectors."""

    def __init__(self, dim: int = 16, *, fingerprint: str = "a" * 64, seconds: float = 0) -> None:
        self.dim = dim
        self.fingerprint = fingerprint
        self.name = "hashing"
        self._seconds = seconds

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        time.sleep(self._seconds)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            title = titles[row] if titles else ""
            for word in f"{title} {text}".split():
                digest = hashlib.sha256(word.encode()).digest()
                vectors[row, digest[0] % self.dim] += 1 if digest[1] % 2 else -1
            if on_done:
                on_done(1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normalized: NDArray[np.float32] = vectors / np.maximum(lengths, 1)
        return normalized


class TableEncoder:
    """Looks passages up in a table of vectors: the text is the number of a row."""

    fingerprint = "b" * 64
    name = "table"

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.dim = vectors.shape[1]

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        return self.vectors[[int(text) for text in texts]]


class ListCorpus:
    """Passages of a list, as if each were a line of ``small.jsonl``."""

    skipped_empty = 0

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.location = ""
        self.bytes_total: int | None = len(passages)
        self.bytes_read: int | None = 0

    def __iter__(self) -> Iterator[Passage]:
        for line, passage in enumerate(self.passages, start=1):
            self.location = f"small.jsonl:{line}"
            self.bytes_read = line
            yield passage


def sentences(count: int) -> list[Passage]:
    """Passages of a few words each out of 50, some with a title, some with metadata."""
    random = np.random.default_rng(7)
    words = random.integers(50, size=(count, 6))
    return [
        Passage(
            id=f"doc-{number}",
            text=" ".join(f"w{word}" for word in row),
            title=f"title {number}" if number % 3 == 0 else "",
            metadata={"number": number} if number % 2 else {},
        )
        for number, row in enumerate(words)
    ]


def build(directory: Path, passages: Sequence[Passage], **options: object) -> BuildReport:
    """Builds, or goes on with, an index of ``passages`` in shards of 10."""
    chosen = BuildOptions(**{"shard_size": 10, **options})  # type: ignore[arg-type]
    return build_index(directory, ListCorpus(passages), HashingEncoder(), chosen)


def files(directory: Path) -> dict[str, bytes]:
    """Every file's bytes, manifests without their time."""
    found = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
    for name in found:
        if name.endswith(".json"):
            manifest = orjson.loads(found[name])
            del manifest["created"]
            found[name] = orjson.dumps(manifest)
    return found


def build_table(
    directory: Path, vectors: NDArray[np.float32], kind: str = "flat", shard_size: int = 500
) -> BuildReport:
    """Builds an index whose row i holds ``vectors[i]``."""
    passages = [Passage(f"p{row}", str(row)) for row in range(len(vectors))]
    options = BuildOptions(kind=kind, shard_size=shard_size)
    return build_index(directory, ListCorpus(passages), TableEncoder(vectors), options)


if __name__ == "__main__":
    target, corpus = Path(sys.argv[1]), ListCorpus(sentences(int(sys.argv[2])))
    encoder, shard_size = HashingEncoder(seconds=float(sys.argv[5])), int(sys.argv[3])
    if sys.argv[4] == "none":
        encode_corpus(target, corpus, encoder, EncodeOptions(shard_size=shard_size))
    else:
        build_index(target, corpus, encoder, BuildOptions(kind=sys.argv[4], shard_size=shard_size))
