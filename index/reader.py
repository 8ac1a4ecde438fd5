"""Opening a committed index and searching it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.records import Passage
from ..durable import sha256_of
from ..errors import DataError, RocketRankError, UsageError
from .layout import MANIFEST, generations
from .manifest import Manifest, StoredFile, read_manifest
from .passages import PassageReader
from .search import SearchResult, search_exactly
from .structure import Structure, omp_threads
from .vectors import LARGEST_NORM, VectorShards

_ATTEMPTS = 3


class Index:
    """A committed index, read-only. Several threads may search it and read passages at once."""

    def __init__(self, directory: Path, manifest: Manifest, *, threads: int | None = None) -> None:
        """Opens the files that ``manifest`` names; use ``Index.open``."""
        segment = manifest.segments[0]
        _check_sizes(directory, manifest)
        self.directory = directory
        self.manifest = manifest
        self._threads = threads
        self._largest_norm = segment.largest_norm
        self._vectors = VectorShards(
            [directory / file.file for file in segment.vectors],
            [file.rows for file in segment.vectors],
            manifest.width,
        )
        self._structure = Structure(
            directory / segment.faiss.file,
            manifest.count,
            manifest.width,
            manifest.structure.search,
        )
        self._passages = PassageReader(directory / manifest.passages.file)
        stored = self._passages.count()
        if stored != manifest.count:
            self.close()
            raise DataError(
                f"{directory / manifest.passages.file}: expected {manifest.count} passages, found "
                f"{stored}: build the index again with --overwrite"
            )

    @classmethod
    def open(cls, directory: Path, *, threads: int | None = None) -> Self:
        """Opens the index in ``directory`` without reading its data.

        Raises DataError for a folder that is no finished index or has a damaged file, UsageError
        for ``threads`` below 1.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads ({threads}) must be at least 1")
        manifest = committed_manifest(directory)
        for _ in range(_ATTEMPTS):
            try:
                return cls(directory, manifest, threads=threads)
            except RocketRankError:
                # A build may have replaced the index between its manifest and its files.
                latest = committed_manifest(directory)
                if latest.generation == manifest.generation:
                    raise
                manifest = latest
        return cls(directory, manifest, threads=threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def dim(self) -> int:
        return self.manifest.width

    @property
    def fingerprint(self) -> str:
        return self.manifest.model.fingerprint

    @property
    def model_name(self) -> str:
        return self.manifest.model.name

    def search(self, queries: NDArray[np.float32], k: int) -> SearchResult:
        """The ``k`` best passages for each of ``queries`` (n, dim) float32.

        Sorted by falling score, ties by row; row -1 and score -inf where the index has fewer than
        ``k`` passages. Raises UsageError for queries that do not fit the index.
        """
        self._check(queries, k)
        with omp_threads(self._threads):
            return search_exactly(
                self._structure, self._vectors, self._largest_norm, np.ascontiguousarray(queries), k
            )

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages at ``rows``, in that order."""
        return self._passages.passages(rows)

    def passages_by_id(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these external ids, in that order. Raises as ``check_ids``."""
        found = self._passages.by_id(ids)
        if len(found) < len(set(ids)):
            self.check_ids(ids)
        return [found[passage_id] for passage_id in ids]

    def check_ids(self, ids: Collection[str]) -> None:
        """Raises DataError that names the first of ``ids`` that is in no passage."""
        distinct = dict.fromkeys(ids)
        missing = list(self._passages.missing(distinct))
        if missing:
            raise DataError(
                f"{self.directory}: expected passages with the ids asked for, found none with the "
                f"id {shown(missing[0])} ({len(missing):,} of {len(distinct):,} are missing): use "
                "the index that the ids come from, or index their corpus"
            )

    def close(self) -> None:
        """Gives the files back; passages cannot be read afterwards."""
        self._passages.close()
        self._vectors.close()

    def _check(self, queries: NDArray[Any], k: int) -> None:
        if k < 1:
            raise UsageError(f"k ({k}) must be at least 1")
        if queries.ndim != 2:
            raise UsageError(
                f"expected queries of shape (n, {self.dim}), found shape {queries.shape}: "
                "a single vector goes in as queries[np.newaxis]"
            )
        if queries.shape[1] != self.dim:
            raise UsageError(
                f"expected queries of width {self.dim}, as in the index filled by "
                f"{self.model_name}, found width {queries.shape[1]}: encode them with that model"
            )
        if queries.dtype != np.float32:
            raise UsageError(
                f"expected queries of type float32, found {queries.dtype}: "
                "convert them with .astype(np.float32)"
            )
        norms = np.linalg.norm(queries.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(norms <= LARGEST_NORM))
        if len(bad):
            raise UsageError(
                f"expected finite query vectors, found one of length {norms[bad[0]]} at position "
                f"{bad[0]}: encode it again with --precision fp32"
            )


def committed_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``, or DataError that says what is there instead."""
    manifest = read_manifest(directory)
    if manifest is not None:
        return manifest
    if not directory.exists():
        raise DataError(
            f"{directory}: there is no such folder: build an index with "
            f"`rq index CORPUS --index {directory}`"
        )
    if not directory.is_dir():
        raise DataError(f"{directory}: expected an index folder, found a file: name the folder")
    if generations(directory):
        raise DataError(
            f"{directory}: this index is unfinished: run the same `rq index` command again; it "
            "goes on where it stopped"
        )
    cure = (
        "name the folder of an index"
        if any(directory.iterdir())
        else f"build one with `rq index CORPUS --index {directory}`"
    )
    raise DataError(f"{directory}: expected an index, found a folder without {MANIFEST}: {cure}")


def check_files(directory: Path) -> list[str]:
    """Reads every file of the index; one sentence for each that is not as it was written."""
    manifest = committed_manifest(directory)
    problems = []
    for file in manifest.files():
        problem = _size_problem(directory, file)
        if problem is None and sha256_of(directory / file.file) != file.sha256:
            problem = (
                f"{directory / file.file}: expected SHA-256 {file.sha256[:12]}…, found another: "
                "build the index again with --overwrite"
            )
        if problem is not None:
            problems.append(problem)
    if not problems:
        reader = PassageReader(directory / manifest.passages.file)
        stored = reader.full_count()
        reader.close()
        if stored != manifest.count:
            problems.append(
                f"{directory / manifest.passages.file}: expected {manifest.count} passages, found "
                f"{stored}: build the index again with --overwrite"
            )
    return problems


def _check_sizes(directory: Path, manifest: Manifest) -> None:
    for file in manifest.files():
        problem = _size_problem(directory, file)
        if problem is not None:
            raise DataError(problem)


def _size_problem(directory: Path, file: StoredFile) -> str | None:
    path = directory / file.file
    if not path.is_file():
        return f"{path}: this file of the index is missing: build it again with --overwrite"
    size = path.stat().st_size
    if size != file.bytes:
        return (
            f"{path}: expected {file.bytes} bytes, found {size}: build the index again with "
            "--overwrite"
        )
    return None
