"""What a plan says of an index before it is built, and the kind that it picks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UsageError
from .calibration import Recall
from .encoding import BuildOptions
from .kinds import KINDS, Choice
from .writing import check_options

K = 100
"""Hits of the search whose time and recall are predicted."""
PLANNED = tuple(kind for kind in KINDS if kind != "auto")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """``build`` as for the build that is planned; limits in bytes; ``sample`` passages encoded.

    ``build.memory`` also bounds what encoding and searching may have in memory.
    """

    build: BuildOptions
    disk: int | None = None
    sample: int = 1024


class Disk(NamedTuple):
    """Bytes on the disk; ``postings`` are those of a build with ``bm25``."""

    passages: int
    vectors: int
    structure: int
    manifests: int
    postings: int = 0

    @property
    def total(self) -> int:
        return sum(self)


class Memory(NamedTuple):
    """Bytes in memory of the whole process.

    ``encoding`` and ``structure`` are the peaks of the two stages of building, without the
    ``mapped`` vector files, which the system takes out of memory where it needs room.
    ``searching`` is what a search wants to have there, for the most part mapped too.
    """

    encoding: int
    structure: int
    mapped: int
    searching: int

    @property
    def building(self) -> int:
        return max(self.encoding, self.structure)


@dataclass(frozen=True, kw_only=True)
class KindPlan:
    """What is predicted of one kind; ``problem`` says why it cannot be had, None where it can.

    ``structure_seconds`` include writing it and its checksum. ``query_seconds`` are for one query
    with all threads. ``recall`` None: not known. Where the kind cannot be built at all, only
    ``problem`` is there.
    """

    kind: str
    problem: str | None
    factory: str | None = None
    parts: int = 0
    disk: Disk | None = None
    memory: Memory | None = None
    structure_seconds: float | None = None
    query_seconds: float | None = None
    recall: Recall | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan for a corpus; ``chosen`` None where no kind fits the limits.

    ``encode_seconds`` for all passages, with reading and storing them, at the mean speed of the
    sample, and by the faster and the slower of its halves.
    """

    passages: int
    content_bytes: int
    skipped_empty: int
    skipped_duplicates: int
    sample: int
    width: int
    vectors: str
    passages_a_second: float
    fixed_seconds: float
    encode_seconds: float
    encode_seconds_range: tuple[float, float]
    kinds: tuple[KindPlan, ...]
    auto: str
    chosen: str | None
    reason: str


def check_plan(options: PlanOptions) -> None:
    """UsageError for numbers that mean nothing."""
    check_options(options.build)
    for name, value in (("sample", options.sample), ("disk", options.disk)):
        if value is not None and value < 1:
            raise UsageError(f"{name} ({value}) must be at least 1")


def over_limits(
    disk: Disk, memory: Memory, *, disk_limit: int | None, memory_limit: int | None
) -> str | None:
    """Why a kind does not fit, in words; None where it does."""
    if disk_limit is not None and disk.total > disk_limit:
        taken, allowed = _sizes(disk.total, disk_limit)
        return f"takes {taken} of disk, and {allowed} are allowed"
    if memory_limit is not None:
        for what, size in (
            ("to encode", memory.encoding),
            ("to build", memory.structure),
            ("to search", memory.searching),
        ):
            if size > memory_limit:
                taken, allowed = _sizes(size, memory_limit)
                return f"takes {taken} of memory {what}, and {allowed} are allowed"
    return None


def pick(plans: Sequence[KindPlan], auto: Choice) -> tuple[str | None, str]:
    """The kind to build and one sentence why: ``auto``'s, or of those that fit what finds most.

    Unknown recall comes last, equal recall is decided by the shorter query.
    """
    by_kind = {plan.kind: plan for plan in plans}
    usual = by_kind.get(auto.kind)
    if usual is not None and usual.problem is None:
        return auto.kind, auto.reason
    why = f"auto would choose {auto.kind}"
    if usual is not None:
        why += f", which {usual.problem}"
    fitting = [plan for plan in plans if plan.problem is None]
    if not fitting:
        return None, f"{why}; no other kind fits either"
    best = max(
        fitting,
        key=lambda plan: (plan.recall.share if plan.recall else -1.0, -(plan.query_seconds or 0.0)),
    )
    finds = f"finds most (recall about {best.recall.share:.2f})" if best.recall else "is left"
    return best.kind, f"{why}; of the kinds that fit, {best.kind} {finds}"


def _sizes(first: int, second: int) -> tuple[str, str]:
    """Both in words, with as many digits as it takes to tell them apart."""
    for digits in (1, 3, 6):
        words = _size(first, digits), _size(second, digits)
        if words[0] != words[1]:
            return words
    return f"{first} bytes", f"{second} bytes"


def _size(count: int, digits: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.{digits}f} {name}"
    return f"{count} bytes"
