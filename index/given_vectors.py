"""An index of vectors that are there already, instead of encoding: where they come from."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..data.records import Passage
from ..data.sampling import Reservoir
from ..errors import DataError, UsageError
from .encoding import Corpus, PassageEncoder
from .vector_files import VectorFiles

LEAST_COSINE = 0.99
"""Mean cosine of given vectors and passages encoded again, below which another model made them."""
SAMPLE = 16
_LENGTHS_APART = 0.05

_log = logging.getLogger("rocketrank.index")


class GivenVectors:
    """The vectors of files by the ids of passages, as a ``VectorSource``.

    ``encoder`` is the model that made them, by which queries will be encoded.
    """

    def __init__(self, files: VectorFiles, encoder: PassageEncoder) -> None:
        """DataError for vectors of another width, UsageError for files that name another model."""
        _check_notes(files, encoder)
        if files.dim != encoder.dim:
            raise DataError(
                f"{files.parts[0].path}: expected vectors of width {encoder.dim}, as model "
                f"{encoder.name} makes, found width {files.dim}: name the model that made them "
                "with --model"
            )
        self.dim = encoder.dim
        self.fingerprint = encoder.fingerprint
        self.name = encoder.name
        self.content_sha256 = files.content_sha256
        self._files = files

    def vectors(
        self, passages: Sequence[Passage], *, on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """As ``VectorSource.vectors``. DataError for a passage without a vector."""
        ids = [passage.id for passage in passages]
        missing = self._files.missing(ids)
        if missing:
            raise _no_vector(shown(missing[0]), len(missing), len(ids))
        found = self._files.of_ids(ids)
        on_done(len(passages))
        return found


class GivenPassages:
    """The passages of vector files, as a corpus: without texts, but where the files bring them."""

    skipped_empty = 0

    def __init__(self, files: VectorFiles) -> None:
        self._files = files
        self.location = ""
        self.bytes_total: int | None = len(files)
        self.bytes_read: int | None = 0

    def __iter__(self) -> Iterator[Passage]:
        self.bytes_read = 0
        for place, passage in self._files.passages():
            self.location = place
            self.bytes_read += 1
            yield passage


def checked_sample(corpus: Corpus, files: VectorFiles) -> list[Passage]:
    """Reads the corpus once, to see that every passage has its vector; some passages, drawn evenly.

    DataError for the first passage that has none, with how many there are; nothing is kept.
    """
    drawn = Reservoir[Passage](SAMPLE)
    count = missing = 0
    first = ""
    for passage in corpus:
        count += 1
        drawn.offer(passage)
        if passage.id not in files:
            missing += 1
            first = first or f"{corpus.location}: {shown(passage.id)}"
    if missing:
        raise _no_vector(first, missing, count)
    return [passage for _, passage in drawn.drawn()]


def check_made_by(encoder: PassageEncoder, files: VectorFiles, sample: Sequence[Passage]) -> None:
    """DataError where ``sample`` encoded by ``encoder`` is not what ``files`` have for it."""
    if not sample:
        return
    given = files.of_ids([passage.id for passage in sample]).astype(np.float64)
    texts, titles = zip(*((passage.text, passage.title) for passage in sample), strict=True)
    made = encoder.encode_passages(list(texts), list(titles)).astype(np.float64)
    lengths = [np.linalg.norm(each, axis=1) for each in (given, made)]
    products = np.einsum("ij,ij->i", given, made)
    cosine = float(np.mean(products / np.maximum(lengths[0] * lengths[1], 1e-300)))
    if not cosine >= LEAST_COSINE:
        raise DataError(
            f"{files.parts[0].path}: these vectors were not made by {encoder.name}: expected a "
            f"mean cosine of at least {LEAST_COSINE} between them and {len(sample)} passages "
            f"encoded with it, found {cosine:.4f}: name the model that made them with --model, or "
            "take them as they are with --trust-vectors"
        )
    ratio = float(np.mean(lengths[0]) / np.mean(lengths[1]))
    if abs(ratio - 1) > _LENGTHS_APART:
        _log.warning(
            "the given vectors are %.3g times as long as those that %s makes: scores are inner "
            "products, so passages rank by length too; divide each by its length if the model does",
            ratio,
            encoder.name,
        )


def _check_notes(files: VectorFiles, encoder: PassageEncoder) -> None:
    for part in files.parts:
        note, folder = part.note, part.path.parent
        if note is None:
            continue
        if note.side != "passages":
            raise UsageError(
                f"{folder}: expected vectors of passages, found those of "
                f"{note.side}: encode the corpus without --queries"
            )
        if note.fingerprint != encoder.fingerprint:
            raise UsageError(
                f"{folder}: was made by model {note.model} (fingerprint "
                f"{note.fingerprint[:12]}), and this command has {encoder.name} (fingerprint "
                f"{encoder.fingerprint[:12]}), whose vectors cannot be compared with those: name "
                "the first with --model"
            )


def _no_vector(first: str, missing: int, count: int) -> DataError:
    return DataError(
        f"{first}: expected a vector for each passage, found none with this id ({missing:,} of "
        f"{count:,} passages have none): give all files of vectors, or the corpus that they belong "
        "to"
    )


def existing_folder(path: Path) -> Path:
    """``path`` if it is a folder, or the next one above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())
