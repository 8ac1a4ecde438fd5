"""What building, adding and compacting share: an unfinished segment, and finishing it.

A shard is encoded, its vector file put in place, and then one SQLite transaction stores its
passages and its ledger row; that commit is the shard's commit point. When all are in, the FAISS
structure is made from the vector files, and a new commit of the index names the segment. Until then
nobody reads it, and the next run of the same command goes on with it.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from ..durable import explained_write, fsync, make_folder, sha256_of
from ..errors import DataError, UsageError
from .commits import begun, commit_file, commit_numbers
from .encoding import BuildOptions, PassageEncoder, VectorSource
from .filling import fill, write_index
from .kinds import Choice
from .layout import SegmentFolder, relative, segment_numbers
from .manifest import (
    FORMAT_VERSION,
    Manifest,
    Segment,
    StoredFile,
    StructureNote,
    VectorFile,
    read_manifest_file,
)
from .parts import cut
from .passages import FIELDS, GIVEN, PURPOSE, Ledger, PassageReader
from .postings_writing import write_postings
from .progress import Progress
from .structure import omp_threads
from .vectors import VECTOR_TYPES, VectorShards

_AT_ONCE = 1000
"""Passages in memory while they are split into words."""


def check_options(options: BuildOptions) -> None:
    """UsageError for numbers that mean nothing."""
    if options.shard_size < 1:
        raise UsageError(f"shard_size ({options.shard_size}) must be at least 1")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"threads ({options.threads}) must be at least 1")
    if options.vectors not in VECTOR_TYPES:
        kinds = ", ".join(VECTOR_TYPES)
        raise UsageError(f"vectors ({options.vectors!r}) must be one of {kinds}")
    if options.memory is not None and options.memory < 1:
        raise UsageError(f"memory ({options.memory}) must be at least 1 byte")


def check_encoder(directory: Path, manifest: Manifest, encoder: PassageEncoder) -> None:
    """UsageError for another model than the one that filled the index."""
    model = manifest.model
    if (encoder.fingerprint, encoder.dim) != (model.fingerprint, manifest.width):
        raise UsageError(
            f"{directory}: was filled by model {model.name} (fingerprint {model.fingerprint[:12]}, "
            f"width {manifest.width}), and this command has {encoder.name} (fingerprint "
            f"{encoder.fingerprint[:12]}, width {encoder.dim}), whose vectors cannot be compared "
            "with those: use the index's own model"
        )


def settings_of(purpose: str, source: VectorSource, options: BuildOptions) -> dict[str, str]:
    """What must be the same for a run to go on with an unfinished segment."""
    cut = options.chunking
    given = {GIVEN: source.content_sha256} if source.content_sha256 else {}
    return {
        **given,
        PURPOSE: purpose,
        "model": source.name,
        "fingerprint": source.fingerprint,
        "width": str(source.dim),
        "precision": options.precision,
        "vectors": options.vectors,
        "shard_size": str(options.shard_size),
        FIELDS: orjson.dumps(list(options.fields)).decode(),
        "format_version": str(FORMAT_VERSION),
        **({"chunk": str(cut.limit), "stride": str(cut.stride)} if cut else {}),
    }


def unfinished_segment(
    directory: Path, current: Manifest | None, purposes: Collection[str | None]
) -> SegmentFolder:
    """The last segment of one of ``purposes`` that no commit names, or the next new one.

    Purpose None is that of a segment whose ledger cannot be read.
    """
    committed, readable = _committed_segments(directory, current)
    numbers = segment_numbers(directory)
    for number in reversed(numbers):
        segment = SegmentFolder(directory, number)
        if readable and number not in committed and begun(segment).purpose in purposes:
            return segment
    return SegmentFolder(directory, max([0, *numbers, *committed]) + 1)


def _committed_segments(directory: Path, current: Manifest | None) -> tuple[set[int], bool]:
    """The segments that commits name, and whether all commits could be read."""
    manifests = [current] if current else []
    readable = True
    for number in commit_numbers(directory):
        try:
            found = read_manifest_file(commit_file(directory, number))
        except DataError:
            readable = False
        else:
            manifests += [found] if found else []
    return {segment.number for each in manifests for segment in each.segments}, readable


def open_ledger(segment: SegmentFolder, settings: dict[str, str], *, overwrite: bool) -> Ledger:
    """The unfinished segment's ledger if this run can go on with it, or a new one.

    Without ``overwrite`` UsageError for a ledger that was begun with other settings.
    """
    make_folder(segment.folder)
    try:
        ledger = Ledger(segment.passages, settings)
    except DataError:
        if not overwrite:
            raise
        return _new_ledger(segment, settings)
    differing = [
        name
        for name in [*settings, GIVEN]
        if name != "model" and ledger.settings.get(name) != settings.get(name)
    ]
    if not differing:
        return ledger
    if not ledger.shards or overwrite:
        ledger.close()
        return _new_ledger(segment, settings)
    ledger.close()
    name = differing[0]
    if name == GIVEN:
        raise UsageError(
            f"{segment.directory}: this unfinished index was begun with other vectors than this "
            "command gives with --vectors: run it as before to go on, or start again with "
            "--overwrite"
        )
    shown = "model" if name == "fingerprint" else name
    pair = [
        f"{each['model']} ({each['fingerprint'][:12]})" if name == "fingerprint" else each.get(name)
        for each in (ledger.settings, settings)
    ]
    raise UsageError(
        f"{segment.directory}: this unfinished index was begun with {shown.replace('_', ' ')} "
        f"{pair[0]}, and this command has {pair[1]}: run it as before to go on, or start again "
        "with --overwrite"
    )


def _new_ledger(segment: SegmentFolder, settings: dict[str, str]) -> Ledger:
    with explained_write(segment.passages):
        segment.passages.unlink()
        fsync(segment.folder)
    return Ledger(segment.passages, settings)


def finish_segment(
    segment: SegmentFolder,
    ledger: Ledger,
    choice: Callable[[int], Choice],
    width: int,
    options: BuildOptions,
    *,
    progress: bool,
) -> Segment:
    """Makes the structure of the encoded shards, and postings if asked for; left is to commit.

    ``choice`` gives the structure for a number of vectors.
    """
    paths = [segment.vector_file(shard.number) for shard in ledger.shards]
    rows = [shard.rows for shard in ledger.shards]
    runs, chosen = cut(rows, choice, width, options.memory, options.vectors)
    files, largest_norm = [], 0.0
    task = f"building {chosen.kind}"
    with Progress(task, shown=progress, total=ledger.rows) as bar, omp_threads(options.threads):
        for part, run in enumerate(runs):
            vectors = VectorShards(
                [paths[each] for each in run], [rows[each] for each in run], width, options.vectors
            )
            path = segment.structure(chosen.kind, part)
            built = build_structure(chosen, vectors, path, bar)
            files.append(VectorFile(rows=len(vectors), **asdict(stored(segment.directory, path))))
            largest_norm = max(largest_norm, built.largest_norm)
    directory, postings = segment.directory, None
    if options.bm25:
        postings = build_postings(
            directory, segment.passages, ledger.rows, segment.postings(), progress=progress
        )
    ledger.mark_complete()
    return Segment(
        number=segment.number,
        rows=ledger.rows,
        count=ledger.rows,
        largest_norm=largest_norm,
        passages=stored(directory, segment.passages),
        vectors=tuple(
            VectorFile(
                file=relative(directory, path),
                bytes=path.stat().st_size,
                sha256=shard.vectors_sha256,
                rows=shard.rows,
            )
            for path, shard in zip(paths, ledger.shards, strict=True)
        ),
        structure=StructureNote(
            kind=chosen.kind,
            factory=chosen.factory,
            reason=chosen.reason,
            search=built.search,
            files=tuple(files),
        ),
        live=None,
        postings=postings,
    )


class Built(NamedTuple):
    """How a structure that was written is searched, and the norm of its longest vector."""

    search: dict[str, int]
    largest_norm: float


def build_structure(choice: Choice, vectors: VectorShards, path: Path, bar: Progress) -> Built:
    """Makes and writes the structure of ``vectors``; nothing of it stays in memory."""
    filled = fill(choice, vectors, lambda n, _: bar.advance(n, of=n, position=None))
    write_index(filled.index, path)
    return Built(filled.search, filled.largest_norm)


def build_postings(
    directory: Path, passages: Path, rows: int, path: Path, *, progress: bool
) -> StoredFile:
    """Writes the postings of all ``rows`` in a segment's file of ``passages`` as ``path``."""
    make_folder(path.parent)
    with (
        closing(PassageReader(passages)) as reader,
        Progress("splitting into words", shown=progress, total=rows) as bar,
    ):
        write_postings(path, _texts(reader, rows, bar))
    return stored(directory, path)


def _texts(reader: PassageReader, rows: int, bar: Progress) -> Iterator[str]:
    for start in range(0, rows, _AT_ONCE):
        passages = reader.passages(range(start, min(start + _AT_ONCE, rows)))
        yield from (passage.full_text for passage in passages)
        bar.advance(len(passages), of=len(passages), position=None)


def stored(directory: Path, path: Path) -> StoredFile:
    with explained_write(path):
        return StoredFile(
            file=relative(directory, path), bytes=path.stat().st_size, sha256=sha256_of(path)
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
