"""Making a segment's vectors, structure and postings again, under their names or under new ones."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..durable import PARTIAL, explained_write, make_folder, put_in_place
from ..errors import DataError, RocketRankError
from .encoding import Encoded, PassageEncoder
from .kinds import Choice
from .layout import SegmentFolder, relative, remove_files, segment_numbers
from .manifest import Manifest, Segment, StoredFile, VectorFile
from .parts import Part, part_vectors, parts_of
from .passages import PURPOSE, PassageReader, Shard, passage_bytes
from .progress import Progress
from .segment_checks import damage, read_only
from .structure import omp_threads
from .vectors import LARGEST_NORM, VectorType, write_vectors
from .writing import build_postings, build_structure, check_encoder, stored

_Key = tuple[StoredFile, ...]


class Mender:
    """Knows what is ``damaged`` in the ``kept`` commits, and mends segment by segment."""

    def __init__(
        self,
        directory: Path,
        kept: Sequence[Manifest],
        encoder_for: Callable[[Manifest], PassageEncoder] | None,
        *,
        threads: int | None,
        progress: bool,
    ) -> None:
        """Reads every file of the ``kept`` commits."""
        self.directory = directory
        self._encoder_for = encoder_for
        self._encoders: dict[str, PassageEncoder] = {}
        self._threads = threads
        self._progress = progress
        self._segments = {
            _key(segment): (manifest, segment) for manifest in kept for segment in manifest.segments
        }
        files = {file for manifest in kept for file in manifest.files()}
        self._names = {file.file for file in files}
        found = ((file, damage(directory, file)) for file in sorted(files, key=lambda f: f.file))
        self.damaged = {file: wrong for file, wrong in found if wrong}
        self._mended: dict[_Key, Segment] = {}
        # Of commits that share a segment, one may have postings and another none.
        self._postings = {
            segment.postings: segment
            for manifest in kept
            for segment in manifest.segments
            if segment.postings
        }
        self._postings_again: dict[StoredFile | None, StoredFile] = {}

    def damaged_segments(self) -> list[tuple[Manifest, Segment]]:
        """Segments with damaged vectors or a damaged structure, one for all commits that share it.

        Each comes with one of these commits, which says what model made it.
        """
        return [
            (manifest, segment)
            for manifest, segment in self._segments.values()
            if any(file in self.damaged for file in (*segment.vectors, *segment.structure.files))
        ]

    def is_whole(self, manifest: Manifest) -> bool:
        return not any(file in self.damaged for file in manifest.files())

    def hopeless(self, manifest: Manifest) -> list[StoredFile]:
        """Damaged files of a commit that cannot be made again: texts and what was deleted."""
        return [
            file
            for segment in manifest.segments
            for file in (segment.passages, segment.live)
            if file and file in self.damaged
        ]

    def adopted(self, manifest: Manifest) -> Manifest:
        """The manifest with the segments that were made again under new names."""
        segments = tuple(
            replace(
                self._mended.get(_key(each), each),
                count=each.count,
                live=each.live,
                postings=self._postings_again.get(each.postings, each.postings),
            )
            for each in manifest.segments
        )
        return replace(manifest, segments=segments)

    def mend_postings(self, done: list[str], left: list[str]) -> None:
        """Makes all damaged postings again, of the passages, and says so."""
        for file, segment in self._postings.items():
            wrong = self.damaged.get(file)
            if wrong is None:
                continue
            old = self.directory / file.file
            texts = self.directory / segment.passages.file
            if segment.passages in self.damaged:
                left.append(f"{old}: {wrong}: {texts}, which it is made of, is damaged too")
                continue
            path = self._free_name(old)
            again = build_postings(
                self.directory, texts, segment.rows, path, progress=self._progress
            )
            what = f"{old}: {wrong}: built it again from the passages"
            if again.sha256 == file.sha256:
                self._put_back(path, old, file)
                done.append(f"{what}, to the same bytes")
            else:
                self._postings_again[file] = again
                done.append(f"{what}, to other bytes, which are in {path}")

    def mend(self, manifest: Manifest, segment: Segment, done: list[str], left: list[str]) -> None:
        """Makes a segment's vectors, then its structure again, and says so."""
        taken = [
            0,
            *segment_numbers(self.directory),
            *(each.number for _, each in self._segments.values()),
        ]
        new = SegmentFolder(self.directory, max(taken) + 1)
        vectors = segment.vectors
        if any(file in self.damaged for file in vectors):
            again = self._vectors_again(manifest, segment, new, done, left)
            if again is None:
                return
            vectors = again
        if vectors != segment.vectors:
            self._mended[_key(segment)] = self._new_segment(manifest, segment, vectors, new, done)
            return
        files = tuple(
            self._structure_again(manifest, segment, part, done)
            if part.file in self.damaged
            else part.file
            for part in parts_of(segment)
        )
        if files != segment.structure.files:
            self._mended[_key(segment)] = replace(
                segment, structure=replace(segment.structure, files=files)
            )

    def _vectors_again(
        self,
        manifest: Manifest,
        segment: Segment,
        new: SegmentFolder,
        done: list[str],
        left: list[str],
    ) -> tuple[VectorFile, ...] | None:
        """The segment's vector files when all are whole again; None when some cannot be."""
        lost = [file for file in segment.vectors if file in self.damaged]
        texts = self.directory / segment.passages.file
        encoder = None if segment.passages in self.damaged else self._encoder_of(manifest)
        if encoder is None:
            why = f"encoding its passages again needs the index's model, {manifest.model.name}"
            if segment.passages in self.damaged:
                why = f"its passages cannot be encoded again, because {texts} is damaged too"
            left += [f"{self.directory / each.file}: {self.damaged[each]}: {why}" for each in lost]
            return None
        found = []
        with closing(PassageReader(texts)) as reader:
            for shard, file in zip(_ledger(texts), segment.vectors, strict=True):
                again: VectorFile | None = file
                if file in self.damaged:
                    again = self._shard_again(
                        reader, shard, file, encoder, manifest.vectors, new, done
                    )
                if again is None:
                    left.append(
                        f"{texts}: expected the texts that shard {shard.number} was made of, found "
                        "others or none: index the corpus again with --overwrite"
                    )
                    return None
                found.append(again)
        return tuple(found)

    def _shard_again(
        self,
        reader: PassageReader,
        shard: Shard,
        file: VectorFile,
        encoder: PassageEncoder,
        vector_type: VectorType,
        new: SegmentFolder,
        done: list[str],
    ) -> VectorFile | None:
        """The shard encoded again: in its place if the bytes are the same, else in ``new``.

        None when its texts are not those that were encoded, or its vectors were given without.
        """
        passages = reader.passages(range(shard.first_row, shard.first_row + shard.rows))
        digest = sha256(b"".join(passage_bytes(passage) for passage in passages)).hexdigest()
        without_texts = not all(passage.full_text for passage in passages)
        if digest != shard.content_sha256 or without_texts:
            return None
        with Progress("encoding", shown=self._progress, total=shard.rows) as bar:
            vectors = Encoded(encoder).vectors(
                passages, on_done=lambda n: bar.advance(n, of=n, position=None)
            )
        _check_vectors(vectors, (shard.rows, encoder.dim), encoder.name)
        old, path = self.directory / file.file, new.vector_file(shard.number)
        make_folder(path.parent)
        written = write_vectors(path, vectors, vector_type)
        what = f"{old}: {self.damaged[file]}: encoded its {shard.rows} passages again"
        if written == file.sha256:
            self._put_back(path, old, file)
            done.append(f"{what}, to the same bytes")
            return file
        done.append(f"{what}, to other bytes, which are in {path}")
        return VectorFile(
            file=relative(self.directory, path),
            bytes=path.stat().st_size,
            sha256=written,
            rows=shard.rows,
        )

    def _structure_again(
        self, manifest: Manifest, segment: Segment, part: Part, done: list[str]
    ) -> VectorFile:
        """The file of a part's structure, built again: the same one, if its bytes are."""
        old = self.directory / part.file.file
        path = self._free_name(old)
        make_folder(path.parent)
        file, _ = self._build(manifest, segment, part, path)
        what = f"{old}: {self.damaged[part.file]}: built it again from the vectors"
        if file.sha256 == part.file.sha256:
            self._put_back(path, old, part.file)
            done.append(f"{what}, to the same bytes")
            return part.file
        done.append(f"{what}, to other bytes, which are in {path}")
        return file

    def _free_name(self, old: Path) -> Path:
        """A name for what replaces ``old`` that no file has and no commit names."""
        names = (old.with_name(f"{old.stem}{'x' * n}{old.suffix}") for n in count(1))
        return next(
            name
            for name in names
            if not name.exists() and relative(self.directory, name) not in self._names
        )

    def _new_segment(
        self,
        manifest: Manifest,
        segment: Segment,
        vectors: tuple[VectorFile, ...],
        new: SegmentFolder,
        done: list[str],
    ) -> Segment:
        """A segment of the same passages with other ``vectors``, and a ledger that says so."""
        changed = replace(segment, vectors=vectors)
        built = [
            self._build(manifest, segment, part, new.structure(segment.structure.kind, number))
            for number, part in enumerate(parts_of(changed))
        ]
        _copy_ledger(self.directory / segment.passages.file, new.passages, vectors)
        done.append(f"{new.folder}: holds the passages of segment {segment.number} from now on")
        return replace(
            changed,
            number=new.number,
            largest_norm=max(norm for _, norm in built),
            passages=stored(self.directory, new.passages),
            structure=replace(segment.structure, files=tuple(file for file, _ in built)),
        )

    def _build(
        self, manifest: Manifest, segment: Segment, part: Part, path: Path
    ) -> tuple[VectorFile, float]:
        """Writes the structure of a part, as it was chosen; its file and the largest norm."""
        note = segment.structure
        choice = Choice(note.kind, note.factory, note.reason)
        task = f"building {note.kind}"
        with (
            closing(part_vectors(self.directory, part, manifest)) as vectors,
            Progress(task, shown=self._progress, total=part.file.rows) as bar,
            omp_threads(self._threads),
        ):
            built = build_structure(choice, vectors, path, bar)
        file = asdict(stored(self.directory, path))
        return VectorFile(rows=part.file.rows, **file), built.largest_norm

    def _put_back(self, path: Path, old: Path, file: StoredFile) -> None:
        make_folder(old.parent)
        with explained_write(old):
            put_in_place(path, old)
        remove_files(self.directory, [path])  # the folders that were made for it
        del self.damaged[file]

    def _encoder_of(self, manifest: Manifest) -> PassageEncoder | None:
        """The model that made the vectors of a commit; a snapshot may have another's."""
        fingerprint = manifest.model.fingerprint
        if fingerprint not in self._encoders and self._encoder_for is not None:
            encoder = self._encoder_for(manifest)
            check_encoder(self.directory, manifest, encoder)
            self._encoders[fingerprint] = encoder
        return self._encoders.get(fingerprint)


def _key(segment: Segment) -> _Key:
    """What a segment is made of, whatever a commit has deleted from it."""
    return (segment.passages, *segment.vectors, *segment.structure.files)


def _ledger(path: Path) -> list[Shard]:
    with closing(read_only(path)) as connection:
        select = "SELECT * FROM shards ORDER BY number"
        return [Shard(*row) for row in connection.execute(select)]


def _copy_ledger(source: Path, target: Path, vectors: Sequence[VectorFile]) -> None:
    """Passages and ledger under another name, the ledger with the digests of ``vectors``.

    Its purpose is to be no command's unfinished segment.
    """
    partial = target.with_name(target.name + PARTIAL)
    make_folder(target.parent)
    with explained_write(target):
        # A journal left of an earlier file would be rolled back into the new one.
        partial.with_name(f"{partial.name}-journal").unlink(missing_ok=True)
        shutil.copyfile(source, partial)
        try:
            with closing(sqlite3.connect(partial)) as connection, connection:
                connection.executemany(
                    "UPDATE shards SET vectors_sha256 = ? WHERE number = ?",
                    [(file.sha256, number) for number, file in enumerate(vectors)],
                )
                connection.execute(
                    "INSERT OR REPLACE INTO settings VALUES (?, 'repair')", (PURPOSE,)
                )
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        put_in_place(partial, target)


def _check_vectors(vectors: NDArray[np.float32], shape: tuple[int, int], name: str) -> None:
    expected = f"finite float32 vectors of shape {shape}"
    if vectors.shape != shape or vectors.dtype != np.float32:
        found = f"{vectors.dtype} of shape {vectors.shape}"
        raise RocketRankError(
            f"model {name}: expected {expected}, found {found}: check the model's folder"
        )
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not (norms <= LARGEST_NORM).all():
        raise DataError(
            f"model {name}: expected {expected}, found one of length {norms.max()}: encode with "
            "--precision fp32"
        )
