"""Building an index, so that it may be killed at any point and goes on where it stopped.

A shard is encoded, its vector file put in place, and then one SQLite transaction stores its
passages and its ledger row; that commit is the shard's commit point. When all are in, the FAISS
structure is made from the vector files, and replacing ``manifest.json`` commits the index.

The next run of the same command reads the corpus again and compares each committed shard's content
instead of encoding it. A build that replaces an index (``overwrite``) works in the same folder
under the file names of the next generation (see ``layout.py``); the old manifest and its files stay
valid until the new manifest is renamed over the old one, and only then are the old files removed.
Killed between the two, the new index is in force, and the next build removes what was left.
"""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..data.records import Passage
from ..durable import explained_write, fsync, make_folder, sha256_of
from ..errors import DataError, UsageError
from .encoding import BuildOptions, Corpus, PassageEncoder, ShardReader, encode_corpus
from .kinds import choose
from .layout import (
    MANIFEST,
    Layout,
    generations,
    locked,
    refuse_foreign,
    remove_generations,
    remove_inner_files,
)
from .manifest import (
    FORMAT_VERSION,
    Manifest,
    ModelNote,
    NewerFormatError,
    Segment,
    StoredFile,
    StructureNote,
    VectorFile,
    has_our_manifest,
    read_manifest,
    write_manifest,
)
from .passages import Ledger, Shard
from .progress import Progress
from .structure import check_kind, fill, omp_threads, write_index
from .vectors import VectorShards

_log = logging.getLogger("rocketrank.index")


class BuildReport(NamedTuple):
    """What a build did. ``resumed_from`` passages were found encoded by an earlier run."""

    passages: int
    skipped_duplicates: int
    skipped_empty: int
    resumed_from: int
    kind: str
    factory: str
    reason: str
    seconds: float
    bytes_on_disk: int


def build_index(
    directory: Path,
    corpus: Corpus,
    encoder: PassageEncoder,
    options: BuildOptions,
    *,
    progress: bool = False,
) -> BuildReport:
    """Encodes ``corpus`` into the index folder ``directory``, or goes on with a build of it.

    Raises UsageError for options and folders that cannot be used, DataError for passages that
    cannot, RocketRankError when the folder is being built elsewhere or cannot be written.
    """
    started = time.monotonic()
    _check_options(options)
    check_kind(options.kind, encoder.dim)
    refuse_foreign(directory, has_our_manifest=has_our_manifest(directory))
    passages = _with_a_first_one(corpus)
    with explained_write(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        layout = _layout_to_build(directory, overwrite=options.overwrite)
        with _open_ledger(layout, encoder, options) as ledger:
            reader = ShardReader(corpus, passages, ledger, options)
            resumed = encode_corpus(layout, ledger, reader, encoder, options, progress=progress)
            manifest = _finish(layout, ledger, encoder, options, progress=progress)
        write_manifest(directory, manifest)
        remove_generations(directory, keep={layout.generation})
    return BuildReport(
        passages=manifest.count,
        skipped_duplicates=reader.duplicates,
        skipped_empty=corpus.skipped_empty,
        resumed_from=resumed,
        kind=manifest.structure.kind,
        factory=manifest.structure.factory,
        reason=manifest.structure.reason,
        seconds=time.monotonic() - started,
        bytes_on_disk=sum(file.bytes for file in manifest.files())
        + (directory / MANIFEST).stat().st_size,
    )


def _with_a_first_one(corpus: Corpus) -> Iterator[Passage]:
    """The passages, once it is known that there are some: a file that is no corpus leaves no index.

    Reading one ahead keeps ``corpus.location`` right, because the next is read only after it.
    """
    passages = iter(corpus)
    first = next(passages, None)
    if first is None:
        raise DataError(
            f"expected at least one passage in the corpus, found none ({corpus.skipped_empty} "
            "skipped as empty): name files that hold passages"
        )
    return chain([first], passages)


def _check_options(options: BuildOptions) -> None:
    if options.shard_size < 1:
        raise UsageError(f"shard_size ({options.shard_size}) must be at least 1")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"threads ({options.threads}) must be at least 1")


def _layout_to_build(directory: Path, *, overwrite: bool) -> Layout:
    """The generation to work in: the unfinished one, or the one after the committed one."""
    committed = 0
    try:
        manifest = read_manifest(directory)
    except NewerFormatError:
        raise
    except DataError as error:
        if not overwrite:
            raise
        # No reader can open it, so nothing is lost, and what it named can be gone on with.
        _log.warning("%s; starting from its encoded shards", error)
        with explained_write(directory / MANIFEST):
            (directory / MANIFEST).unlink()
            fsync(directory)
        manifest = None
    if manifest is not None:
        if not overwrite:
            raise UsageError(
                f"{directory}: already holds an index of {manifest.count} passages made with "
                f"{manifest.model.name}: name another folder, or replace it with --overwrite"
            )
        committed = manifest.generation
    unfinished = [each for each in generations(directory) if each > committed]
    layout = Layout(directory, unfinished[-1] if unfinished else committed + 1)
    remove_generations(directory, keep={committed, layout.generation})
    return layout


def _open_ledger(layout: Layout, encoder: PassageEncoder, options: BuildOptions) -> Ledger:
    """The unfinished build's ledger if this run can go on with it, or a new one."""
    settings = {
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "width": str(encoder.dim),
        "precision": options.precision,
        "shard_size": str(options.shard_size),
        "format_version": str(FORMAT_VERSION),
    }
    try:
        ledger = Ledger(layout.passages, settings)
    except DataError:
        if not options.overwrite:
            raise
        return _new_ledger(layout, settings)
    differing = [
        name
        for name, value in settings.items()
        if name != "model" and ledger.settings.get(name) != value
    ]
    if not differing:
        return ledger
    if not ledger.shards or options.overwrite:
        ledger.close()
        return _new_ledger(layout, settings)
    ledger.close()
    name = differing[0]
    shown = "model" if name == "fingerprint" else name
    pair = [
        f"{each['model']} ({each['fingerprint'][:12]})" if name == "fingerprint" else each.get(name)
        for each in (ledger.settings, settings)
    ]
    raise UsageError(
        f"{layout.directory}: this unfinished index was begun with {shown.replace('_', ' ')} "
        f"{pair[0]}, and this command has {pair[1]}: run it as before to go on, or start again "
        "with --overwrite"
    )


def _new_ledger(layout: Layout, settings: dict[str, str]) -> Ledger:
    with explained_write(layout.passages):
        layout.passages.unlink()
    return Ledger(layout.passages, settings)


def _finish(
    layout: Layout,
    ledger: Ledger,
    encoder: PassageEncoder,
    options: BuildOptions,
    *,
    progress: bool,
) -> Manifest:
    """Makes the FAISS structure of the encoded shards; what is left to do is to commit."""
    paths = [layout.vector_file(shard.number) for shard in ledger.shards]
    vectors = VectorShards(paths, [shard.rows for shard in ledger.shards], encoder.dim)
    choice = choose(options.kind, ledger.rows, encoder.dim)
    make_folder(layout.faiss)
    faiss_file = layout.faiss / f"{choice.kind}.faiss"
    task = f"building {choice.kind}"
    with Progress(task, shown=progress, total=ledger.rows) as bar, omp_threads(options.threads):
        filled = fill(choice, vectors, lambda n, end: bar.advance(n, of=n, position=end))
    write_index(filled.index, faiss_file)
    with explained_write(layout.directory):
        remove_inner_files(layout.vectors, keep=set(paths))
        remove_inner_files(layout.faiss, keep={faiss_file})
    note = StructureNote(
        kind=choice.kind, factory=choice.factory, reason=choice.reason, search=filled.search
    )
    segment = Segment(
        first_row=0,
        end_row=ledger.rows,
        largest_norm=filled.largest_norm,
        vectors=tuple(_vector_file(layout, shard) for shard in ledger.shards),
        faiss=_stored(layout, faiss_file),
    )
    return Manifest(
        generation=layout.generation,
        model=ModelNote(
            name=encoder.name, fingerprint=encoder.fingerprint, precision=options.precision
        ),
        width=encoder.dim,
        count=ledger.rows,
        structure=note,
        passages=_stored(layout, layout.passages),
        segments=(segment,),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _vector_file(layout: Layout, shard: Shard) -> VectorFile:
    path = layout.vector_file(shard.number)
    return VectorFile(
        file=layout.relative(path),
        bytes=path.stat().st_size,
        sha256=shard.vectors_sha256,
        rows=shard.rows,
    )


def _stored(layout: Layout, path: Path) -> StoredFile:
    return StoredFile(file=layout.relative(path), bytes=path.stat().st_size, sha256=sha256_of(path))
