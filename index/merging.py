"""Several segments made into one without what is deleted; the vectors are copied."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from .encoding import BuildOptions, ShardReader, fill_segment
from .kinds import Choice
from .manifest import Manifest, Segment
from .segments import StoredSegment
from .writing import finish_segment, open_ledger, settings_of, unfinished_segment


class _Copied:
    """The stored vectors of passages, each of which is in one of ``segments``."""

    content_sha256 = ""

    def __init__(self, segments: Sequence[StoredSegment], manifest: Manifest) -> None:
        self.dim = manifest.width
        self.fingerprint = manifest.model.fingerprint
        self.name = manifest.model.name
        self._segments = segments

    def vectors(
        self, passages: Sequence[Passage], *, on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """As ``VectorSource.vectors``."""
        places = {passage.id: place for place, passage in enumerate(passages)}
        vectors = np.empty((len(passages), self.dim), dtype=np.float32)
        for segment in self._segments:
            rows = segment.rows_by_id(places)
            if rows:
                chosen = [places[passage_id] for passage_id in rows]
                vectors[chosen] = segment.vectors.gather(np.array([*rows.values()]))
        return vectors


class _LivePassages:
    """The passages of segments that are not deleted, as a corpus."""

    skipped_empty = 0

    def __init__(self, segments: Sequence[StoredSegment]) -> None:
        self._segments = segments
        self.bytes_total: int | None = sum(each.segment.count for each in segments)
        self.bytes_read: int | None = 0
        self.location = ""

    def __iter__(self) -> Iterator[Passage]:
        self.bytes_read = 0
        for segment in self._segments:
            for passage in segment.live_passages():
                self.location = f"passage {passage.id!r} of segment {segment.segment.number}"
                self.bytes_read += 1
                yield passage


def merge(
    segments: Sequence[StoredSegment],
    manifest: Manifest,
    choice: Callable[[int], Choice],
    options: BuildOptions,
    *,
    purpose: str,
    progress: bool,
) -> Segment:
    """One new segment of all passages of ``segments`` in their order, for an index ``manifest``.

    ``choice`` gives the structure for a number of passages. A run that was killed is gone on with.
    """
    directory = segments[0].directory
    source, corpus = _Copied(segments, manifest), _LivePassages(segments)
    segment = unfinished_segment(directory, manifest, (purpose,))
    with open_ledger(segment, settings_of(purpose, source, options), overwrite=True) as ledger:
        reader = ShardReader(corpus, iter(corpus), ledger, options)
        task = "merging"
        fill_segment(segment, ledger, reader, source, options, task=task, progress=progress)
        return finish_segment(
            segment,
            ledger,
            choice,
            manifest.width,
            options,
            progress=progress,
        )
