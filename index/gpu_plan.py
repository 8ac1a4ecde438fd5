"""What goes to which GPU, and whether it fits: decisions that need none.

The limits are those of FAISS 1.11 to 1.14 without cuVS: ``GPU_MAX_SELECTION_K`` (DeviceDefs.cuh),
``IVFPQ::isSupportedPQCodeLength``, and 48 KiB of shared memory for a query's lookup tables
(``GpuIndexIVFPQ::verifyPQSettings_``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import UsageError
from .kinds import choose, list_count
from .structure import Parts, faiss_library

LIMIT = 2048
"""FAISS selects at most so many candidates, or lists, for a query on a GPU."""
CODE_BYTES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
"""Lengths of a product quantizer's code, 8 bits a part, that FAISS searches on a GPU."""
FLOAT32_CODE_BYTES = 48
"""Longer codes have lookup tables of float16, or they outgrow shared memory."""
SCRATCH = 512 << 20
"""Bytes that FAISS keeps on each GPU for the intermediate results of a search; it tiles by them."""
RESERVE = 256 << 20
"""Bytes for cuBLAS and for what a search needs beyond ``SCRATCH``."""
_MOST_GPUS = 64
_CPU = "leave the index on the CPU with --index-device cpu"


@dataclass(frozen=True, kw_only=True)
class GpuOptions:
    """``devices`` is how many GPUs, from 0, or their numbers, as CUDA_VISIBLE_DEVICES orders them.

    ``replicated`` puts a copy on each, which divide the queries; ``sharded`` divides the vectors;
    ``auto`` shards what does not fit on each. ``float16`` stores the vectors of flat structures in
    half the bytes. With ``partial``, kinds that no GPU can search stay on the CPU, with a note, and
    so does all where FAISS can use no GPU.
    """

    devices: int | tuple[int, ...] = 1
    mode: Literal["auto", "replicated", "sharded"] = "auto"
    float16: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "replicated", "sharded"):
            raise UsageError(f"mode ({self.mode}) must be one of auto, replicated, sharded")
        numbers = self.numbers
        if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise UsageError(
                f"devices ({self.devices}) must be at least 1 GPU, or the numbers of different ones"
            )

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(range(self.devices)) if isinstance(self.devices, int) else self.devices


@dataclass(frozen=True, kw_only=True)
class GpuShape:
    """What a structure takes on a GPU; ``refusal`` says why it cannot be there and what would help.

    ``dim`` is that of the vectors behind its transforms, ``lists`` 0 where it is flat, ``code`` the
    bytes of a product-quantized vector, 0 where vectors are whole.
    """

    name: str
    rows: int
    dim: int
    lists: int = 0
    code: int = 0
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """Where structures go. ``bytes_per_device`` is what they and searching them take on each GPU.

    ``staying`` says of each structure that is left on the CPU why it is.
    """

    devices: tuple[int, ...]
    mode: Literal["one", "replicated", "sharded"]
    float16: bool
    bytes_per_device: int
    staying: tuple[str, ...] = ()


class NoRoomOnGpuError(UsageError):
    """The memory of a GPU is too little for the index."""


def gpu_options_of(
    device: str, index_device: str | None = None, *, float16: bool = False
) -> GpuOptions | None:
    """What ``--device`` and ``--index-device`` say of the index; None: it stays on the CPU.

    The index goes where the model is unless ``index_device`` (cpu, gpu, gpu:N or gpu:N,M) says
    where; what cannot go there is an error then, and otherwise a note, but for want of memory.
    """
    option = "--device" if index_device is None else "--index-device"
    text = device if index_device is None else index_device
    if text == "cpu":
        if float16:
            raise UsageError(
                f"--index-float16 is for an index on a GPU, and {option} is cpu: leave it out, or "
                "name a GPU with --index-device"
            )
        return None
    match = re.fullmatch(r"gpu(?::(\d+(?:,\d+)*))?", text)
    if match is None:
        raise UsageError(f"{option} ({text}) must be cpu, gpu, gpu:N or gpu:N,M")
    numbers = tuple(int(each) for each in (match[1] or "0").split(","))
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{option} ({text}) must name each GPU once")
    return GpuOptions(devices=numbers, float16=float16, partial=index_device is None)


def shape_of(name: str, parts: Parts) -> GpuShape:
    """The shape of a structure in memory, which is called ``name`` in what is said of it."""
    inner = parts.inner
    shape = GpuShape(
        name=name,
        rows=int(inner.ntotal),
        dim=int(inner.d),
        lists=int(getattr(inner, "nlist", 0)),
        code=int(inner.pq.M) if parts.name == "IndexIVFPQ" else 0,
    )
    why = _hindrance(shape, parts.name, inner)
    cure = f"build the index again with --kind flat, ivf or {_ivfpq(shape)}"
    return replace(shape, refusal=f"{name}: {why}: {cure}") if why else shape


def _hindrance(shape: GpuShape, name: str, inner: Any) -> str:
    if name in ("IndexFlat", "IndexFlatIP"):
        return ""
    if name not in ("IndexIVFFlat", "IndexIVFPQ"):
        return f"FAISS searches flat, ivf and ivfpq on GPUs, and an {name} on the CPU only"
    coarse = type(faiss_library().downcast_index(inner.quantizer)).__name__
    if coarse not in ("IndexFlat", "IndexFlatIP"):
        return f"on a GPU the lists are chosen by an IndexFlat, and here by an {coarse}"
    if name == "IndexIVFPQ" and (inner.pq.nbits != 8 or shape.code not in CODE_BYTES):
        allowed = ", ".join(str(each) for each in CODE_BYTES)
        return (
            f"codes on a GPU have 8 bits a part and one of {allowed} parts, and these have "
            f"{inner.pq.nbits} bits and {shape.code} parts"
        )
    if name == "IndexIVFPQ" and not inner.by_residual:
        return "codes on a GPU are those of residuals, and these are of the vectors themselves"
    return ""


def _code_bytes(dim: int) -> int:
    """The longest code for vectors of width ``dim`` on a GPU, as long as ``ivfpq`` where it can."""
    return max(each for each in CODE_BYTES if dim % each == 0 and each <= max(1, dim // 4))


def _ivfpq(shape: GpuShape) -> str:
    """The --kind of a product-quantized structure that can be on a GPU."""
    parts = _code_bytes(shape.dim)
    lists = list_count(max(256, shape.rows))
    factory = f"OPQ{parts},IVF{lists},PQ{parts}"
    usual = choose("ivfpq", max(256, shape.rows), shape.dim).factory
    return "ivfpq" if factory == usual else f"'{factory}'"


def device_bytes(shape: GpuShape, *, float16: bool, shards: int = 1) -> int:
    """Bytes that a structure, or the largest of ``shards`` parts of it, takes on a GPU.

    Flat: the vectors and their norms (4 bytes each). Lists: codes or vectors, in blocks of 32
    where they are whole, and row numbers of 8 bytes, both in a piece of memory for each list of
    average length; the centroids with their norms; 24 bytes of pointers; two copies of a product
    quantizer's 256 centroids.
    """
    if not shape.lists:
        return -(-shape.rows // shards) * (shape.dim * (2 if float16 else 4) + 4)
    length = -(-shape.rows // (shape.lists * shards))
    codes = length * shape.code if shape.code else -(-length // 32) * 32 * shape.dim * 4
    each = _allocated(codes) + _allocated(length * 8) + shape.dim * 4 + 4 + 24
    return shape.lists * each + (2 * 256 * shape.dim * 4 if shape.code else 0)


def _allocated(size: int) -> int:
    """CUDA gives memory in pieces of 512 bytes, and from 1 MiB on in pages of 2 MiB."""
    piece = 512 if size < 1 << 20 else 2 << 20
    return -(-size // piece) * piece


def plan_gpu(
    structures: Sequence[GpuShape],
    free_bytes_per_gpu: Mapping[int, int | None],
    options: GpuOptions,
    *,
    working: int = SCRATCH + RESERVE,
) -> GpuPlan:
    """Where ``structures`` go; UsageError, before anything is moved, when they cannot.

    ``free_bytes_per_gpu`` has each GPU's free bytes, None where nobody knows, which is taken for
    enough; ``working`` is what searching takes beside the structures.
    """
    staying = tuple(each.refusal for each in structures if each.refusal)
    if staying and not options.partial:
        raise UsageError(f"{staying[0]}, or {_CPU}")
    moving = [each for each in structures if not each.refusal]
    numbers = options.numbers
    known = {each: size for each in numbers if (size := free_bytes_per_gpu[each]) is not None}
    least = min(known.values(), default=None)
    whole = _total(moving, options.float16) + working
    shards = 1 if options.mode == "replicated" else len(numbers)
    if options.mode == "auto" and (least is None or whole <= least):
        shards = 1
    needed = _total(moving, options.float16, shards) + working
    if moving and least is not None and needed > least:
        number = min(known, key=lambda each: known[each])
        where = f"GPU {number}" if len(numbers) == 1 else "each GPU"
        cures = [*_cures(moving, least, options, working), _CPU]
        raise NoRoomOnGpuError(
            f"the index needs {_gib(needed)} on {where}, and GPU {number} has {_gib(least)} free: "
            + ", or ".join(cures)
        )
    return GpuPlan(
        devices=numbers,
        mode="one" if len(numbers) == 1 else "sharded" if shards > 1 else "replicated",
        float16=options.float16,
        bytes_per_device=needed if moving else 0,
        staying=staying,
    )


def _total(structures: Sequence[GpuShape], float16: bool, shards: int = 1) -> int:
    return sum(device_bytes(each, float16=float16, shards=shards) for each in structures)


def _cures(
    structures: Sequence[GpuShape], least: int, options: GpuOptions, working: int
) -> list[str]:
    """What would make ``structures`` fit into ``least`` bytes on each GPU; each alone does."""
    cures = []
    given = len(options.numbers)
    shards = 1 if options.mode == "replicated" else given
    half = _total(structures, True, shards) + working
    if not options.float16 and half <= least:
        cures.append(f"store float16, which needs {_gib(half)}, with --index-float16")
    for count in range(2, _MOST_GPUS + 1):
        divided = _total(structures, options.float16, count) + working
        if divided <= least:
            mode = " with the mode sharded" if options.mode == "replicated" else ""
            named = ",".join(str(each) for each in range(count))
            cures.append(f"divide it over {count} such GPUs{mode} (--index-device gpu:{named})")
            break
    small = [replace(each, code=_code_bytes(each.dim)) for each in structures]
    small = [replace(each, lists=list_count(max(256, each.rows))) for each in small]
    largest = max(structures, key=lambda each: each.rows)
    if not largest.code and _total(small, options.float16, shards) + working <= least:
        cures.append(f"build the index again with --kind {_ivfpq(largest)}")
    return cures


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
