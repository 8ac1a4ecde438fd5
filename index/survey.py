"""A corpus counted as ``rq index`` would read it, with a sample of it drawn on the way."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.records import Passage
from ..data.sampling import Reservoir
from .build import with_a_first_one
from .encoding import BuildOptions, Corpus, ShardReader
from .passages import Ledger, Shard, passage_bytes
from .postings import Counts, Postings, size_of
from .postings_writing import write_postings
from .progress import Progress

_PAGE = 4096
_DIGEST = "0" * 64
_LEDGER_ROW = 240
"""Bytes of a shard in the ledger: two checksums, the fingerprint and numbers."""


class Survey(NamedTuple):
    """``rows`` are the passages of each shard, ``content_bytes`` ids, texts and metadata of all.

    ``positions`` are the places of the ``sample`` in the corpus, rising.
    """

    rows: list[int]
    content_bytes: int
    skipped_empty: int
    duplicates: int
    sample: list[Passage]
    positions: list[int]
    seconds: float

    @property
    def passages(self) -> int:
        return sum(self.rows)


def survey(
    corpus: Corpus,
    options: BuildOptions,
    settings: Mapping[str, str],
    size: int,
    folder: Path,
    *,
    progress: bool = False,
) -> Survey:
    """Reads ``corpus`` once, shard by shard, and keeps ``size`` passages drawn evenly.

    The same corpus gives the same sample. Raises DataError as a build does for a corpus without
    passages and for passages that cannot be indexed, and for repeated ids unless they are skipped.
    """
    sample: Reservoir[Passage] = Reservoir(size)
    rows, content = [], 0
    started = time.perf_counter()
    with (
        Ledger(folder / "counted.sqlite", settings) as ids,
        Progress("counting", shown=progress, total=corpus.bytes_total) as bar,
    ):
        reader = ShardReader(corpus, with_a_first_one(corpus), ids, options)
        for reading in reader:
            for passage in reading.passages:
                content += len(passage_bytes(passage))
                sample.offer(passage)
            rows.append(len(reading.passages))
            note = Shard(reading.number, reading.first_row, rows[-1], _DIGEST, _DIGEST, _DIGEST)
            ids.commit(note, [Passage(each.id, "") for each in reading.passages])
            bar.advance(rows[-1], of=rows[-1], position=corpus.bytes_read)
    drawn = sample.drawn()
    return Survey(
        rows=rows,
        content_bytes=content,
        skipped_empty=corpus.skipped_empty,
        duplicates=reader.duplicates,
        sample=[passage for _, passage in drawn],
        positions=[position for position, _ in drawn],
        seconds=time.perf_counter() - started,
    )


class OnDisk(NamedTuple):
    """What the passages will take on the disk, and how long one takes to store."""

    bytes: int
    seconds_each: float


def passages_on_disk(found: Survey, settings: Mapping[str, str], folder: Path) -> OnDisk:
    """The passages file's size, from one in which the sample is written.

    Its size beyond the content, for one passage, is taken for all; the content is known. Rows have
    the numbers of the corpus's middle, because SQLite stores smaller numbers in fewer bytes.
    """
    path = folder / "sampled.sqlite"
    sample, count = found.sample, found.passages
    whole = len(sample) == count
    # As many transactions as the build has, where it is the same.
    rows = found.rows if whole else [len(sample)]
    first = 0 if whole else (count - len(sample)) // 2
    with Ledger(path, settings) as ledger:
        empty = path.stat().st_size
        started = time.perf_counter()
        done = 0
        for number, here in enumerate(rows):
            note = Shard(number, first + done, here, _DIGEST, _DIGEST, _DIGEST)
            ledger.commit(note, sample[done : done + here])
            done += here
        seconds = (time.perf_counter() - started) / len(sample)
    written = path.stat().st_size
    if whole:
        return OnDisk(written, seconds)
    sampled = sum(len(passage_bytes(each)) for each in sample)
    overhead = (written - empty - sampled) / len(sample)
    size = empty + found.content_bytes + overhead * count + _LEDGER_ROW * len(found.rows)
    return OnDisk(round(size / _PAGE) * _PAGE, seconds)


def postings_on_disk(found: Survey, folder: Path) -> OnDisk:
    """The size of the postings for BM25, from those of the sample and of every second one of it.

    Occurrences grow with the passages; words as a power of them (Heaps' law), which the two say.
    """
    sample, count = found.sample, found.passages
    started = time.perf_counter()
    whole = _postings_of(sample, folder / "sampled.bm25")
    seconds = (time.perf_counter() - started) / len(sample)
    if len(sample) == count or len(sample) < 2:
        return OnDisk(size_of(whole), seconds)
    half = _postings_of(sample[::2], folder / "half.bm25")
    doubling = len(sample) / half.rows
    power = math.log(max(1, whole.words) / max(1, half.words)) / math.log(doubling)
    times = count / len(sample)
    words = whole.words * times ** min(1.0, max(0.0, power))
    counts = Counts(
        rows=count,
        tokens=round(whole.tokens * times),
        words=round(words),
        letters=round(whole.letters * words / max(1, whole.words)),
        postings=round(whole.postings * times),
        large=round(whole.large * times),
    )
    return OnDisk(size_of(counts), seconds)


def _postings_of(passages: Sequence[Passage], path: Path) -> Counts:
    write_postings(path, [each.full_text for each in passages])
    return Postings(path).counts
