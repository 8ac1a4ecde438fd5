"""``rq plan``: what an index of a corpus will take for each kind of structure, and which to build.

The corpus is read once and counted; a sample of it is encoded, and FAISS's steps are timed on small
structures (``survey.py``, ``calibration.py``, ``timing.py``). The forms in ``costs.py`` say what
that comes to for the whole corpus. Nothing is kept.
"""

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from .calibration import Encoding, Recall, encode_sample, measured_recall
from .costs import (
    Costs,
    build_seconds,
    query_seconds,
    shard_memory,
    structure_bytes,
    structure_memory,
    vector_bytes,
)
from .encoding import BuildOptions, Corpus, Encoded, PassageEncoder
from .kinds import Choice, choose, depth_factor, points_needed
from .layout import SegmentFolder, relative
from .manifest import (
    Manifest,
    ModelNote,
    Segment,
    StoredFile,
    StructureNote,
    VectorFile,
    manifest_bytes,
)
from .parts import cut
from .plan import (
    PLANNED,
    Disk,
    K,
    KindPlan,
    Memory,
    Plan,
    PlanOptions,
    check_plan,
    over_limits,
    pick,
)
from .survey import OnDisk, Survey, passages_on_disk, postings_on_disk, survey
from .timing import measure_costs
from .writing import now, settings_of

_log = logging.getLogger("rocketrank.index")


class _Measured(NamedTuple):
    found: Survey
    stored: OnDisk
    postings: OnDisk | None
    encoding: Encoding
    costs: Costs
    recalls: dict[str, Recall | None]


def plan_index(
    corpus: Corpus,
    encoder: PassageEncoder,
    options: PlanOptions,
    *,
    kinds: Sequence[str] = PLANNED,
    progress: bool = False,
) -> Plan:
    """Predicts what an index of ``corpus`` takes, by reading it once and measuring for a minute.

    Raises UsageError for options that mean nothing, DataError for a corpus that cannot be indexed.
    """
    check_plan(options)
    build = options.build
    with tempfile.TemporaryDirectory(prefix="rq-plan-") as name:
        measured = _measure(corpus, encoder, options, kinds, Path(name), progress=progress)
    plans = tuple(_kind_plan(kind, measured, encoder, options) for kind in kinds)
    found, encoding = measured.found, measured.encoding
    auto = choose("auto", found.passages, encoder.dim)
    chosen, reason = pick(plans, auto)
    seconds = [_encode_seconds(rate, measured, encoder.dim, build) for rate in encoding.twice]
    return Plan(
        passages=found.passages,
        content_bytes=found.content_bytes,
        skipped_empty=found.skipped_empty,
        skipped_duplicates=found.duplicates,
        sample=len(encoding.vectors),
        width=encoder.dim,
        vectors=build.vectors,
        passages_a_second=encoding.passages_a_second,
        fixed_seconds=encoding.fixed_seconds,
        encode_seconds=_encode_seconds(encoding.passages_a_second, measured, encoder.dim, build),
        encode_seconds_range=(min(seconds), max(seconds)),
        kinds=plans,
        auto=auto.kind,
        chosen=chosen,
        reason=reason,
    )


def _measure(
    corpus: Corpus,
    encoder: PassageEncoder,
    options: PlanOptions,
    kinds: Sequence[str],
    folder: Path,
    *,
    progress: bool,
) -> _Measured:
    build = options.build
    settings = settings_of("index", Encoded(encoder), build)
    found = survey(corpus, build, settings, options.sample, folder, progress=progress)
    stored = passages_on_disk(found, settings, folder)
    postings = postings_on_disk(found, folder) if build.bm25 else None
    encoding = encode_sample(encoder, found.sample, progress=progress)
    if len(encoding.vectors) < len(found.sample):
        _log.info(
            "the model is slow here: %d passages are encoded for the plan, not %d",
            len(encoding.vectors),
            len(found.sample),
        )
    count, dim = found.passages, encoder.dim
    possible = [kind for kind in kinds if count >= points_needed(kind, dim)]
    choices = {kind: choose(kind, count, dim) for kind in possible}
    costs = measure_costs(
        encoding.vectors,
        count,
        list(choices),
        vector_type=build.vectors,
        folder=folder,
        threads=build.threads,
        progress=progress,
    )
    recalls = {
        kind: measured_recall(choice, count, encoding.vectors, build.vectors, folder)
        for kind, choice in choices.items()
    }
    return _Measured(found, stored, postings, encoding, costs, recalls)


def _encode_seconds(rate: float, measured: _Measured, dim: int, build: BuildOptions) -> float:
    """Reading, encoding and storing every passage at ``rate`` passages a second."""
    found, costs = measured.found, measured.costs
    storing = vector_bytes(found.rows, dim, build.vectors) * costs.writing_a_byte
    each = 1 / rate + measured.stored.seconds_each
    return measured.encoding.fixed_seconds + found.passages * each + found.seconds + storing


def _kind_plan(
    kind: str, measured: _Measured, encoder: PassageEncoder, options: PlanOptions
) -> KindPlan:
    found, build, dim = measured.found, options.build, encoder.dim
    needed = points_needed(kind, dim)
    if found.passages < needed:
        problem = f"needs {needed} passages to train on, and there are {found.passages}"
        return KindPlan(kind=kind, problem=problem)
    try:
        runs, choice = cut(
            found.rows, partial(choose, kind, dim=dim), dim, build.memory, build.vectors
        )
    except UsageError as error:
        return KindPlan(kind=kind, problem=str(error))
    rows = [[found.rows[number] for number in run] for run in runs]
    disk = _disk(choice, rows, measured, encoder, build)
    memory = _memory(choice, rows, disk, measured, dim, build)
    costs = measured.costs
    building = sum(build_seconds(choice, sum(part), dim, costs) for part in rows)
    writing = disk.structure * costs.writing_a_byte
    hashing = (disk.structure + disk.passages + disk.postings) * costs.hashing_a_byte
    splitting = found.passages * measured.postings.seconds_each if measured.postings else 0.0
    return KindPlan(
        kind=kind,
        problem=over_limits(disk, memory, disk_limit=options.disk, memory_limit=build.memory),
        factory=choice.factory,
        parts=len(rows),
        disk=disk,
        memory=memory,
        structure_seconds=building + writing + hashing + splitting,
        query_seconds=sum(query_seconds(choice, sum(part), dim, K, costs) for part in rows),
        recall=measured.recalls[kind],
    )


def _disk(
    choice: Choice,
    rows: Sequence[Sequence[int]],
    measured: _Measured,
    encoder: PassageEncoder,
    build: BuildOptions,
) -> Disk:
    dim = encoder.dim
    structures = [structure_bytes(choice, sum(part), dim) for part in rows]
    manifest = _manifest(choice, rows, structures, measured, encoder, build)
    return Disk(
        passages=measured.stored.bytes,
        vectors=vector_bytes(measured.found.rows, dim, build.vectors),
        structure=sum(structures),
        # The commit in force and the copy of it.
        manifests=2 * len(manifest_bytes(manifest)),
        postings=measured.postings.bytes if measured.postings else 0,
    )


def _memory(
    choice: Choice,
    rows: Sequence[Sequence[int]],
    disk: Disk,
    measured: _Measured,
    dim: int,
    build: BuildOptions,
) -> Memory:
    found, process = measured.found, measured.encoding.resident
    structure = max(structure_memory(choice, part, dim, build.vectors) for part in rows)
    largest = max(sum(part) for part in rows)
    return Memory(
        encoding=process.peak + shard_memory(found.rows, found.content_bytes, dim),
        structure=process.now + structure,
        mapped=disk.vectors * largest // found.passages,
        searching=process.now + disk.structure,
    )


def _manifest(
    choice: Choice,
    rows: Sequence[Sequence[int]],
    structures: Sequence[int],
    measured: _Measured,
    encoder: PassageEncoder,
    build: BuildOptions,
) -> Manifest:
    """The manifest that the build would write, but for digests, which are as long."""
    folder, digest = SegmentFolder(Path(), 1), "0" * 64
    name = partial(relative, Path())
    count, dim = measured.found.passages, encoder.dim
    files = [
        VectorFile(
            file=name(folder.vector_file(number)),
            bytes=vector_bytes([each], dim, build.vectors),
            sha256=digest,
            rows=each,
        )
        for number, each in enumerate(measured.found.rows)
    ]
    parts = [
        VectorFile(
            file=name(folder.structure(choice.kind, number)),
            bytes=size,
            sha256=digest,
            rows=sum(part),
        )
        for number, (part, size) in enumerate(zip(rows, structures, strict=True))
    ]
    postings = None
    if measured.postings:
        size = measured.postings.bytes
        postings = StoredFile(file=name(folder.postings()), bytes=size, sha256=digest)
    return Manifest(
        commit=1,
        history_from=1,
        change="index",
        model=ModelNote(
            name=encoder.name, fingerprint=encoder.fingerprint, precision=build.precision
        ),
        width=dim,
        vectors=build.vectors,
        kind=choice.kind,
        fields=build.fields,
        segments=(
            Segment(
                number=1,
                rows=count,
                count=count,
                largest_norm=1 + 2**-20 / 3,
                passages=StoredFile(
                    file=name(folder.passages), bytes=measured.stored.bytes, sha256=digest
                ),
                vectors=tuple(files),
                structure=StructureNote(
                    kind=choice.kind,
                    factory=choice.factory,
                    reason=choice.reason,
                    search={"nprobe": 64, "depth_factor": depth_factor(choice.kind)}
                    if "IVF" in choice.factory
                    else {},
                    files=tuple(parts),
                ),
                live=None,
                postings=postings,
            ),
        ),
        created=now(),
    )
