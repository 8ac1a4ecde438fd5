"""Structures on GPUs: all that needs one is here.

A structure on a GPU proposes candidates as one in memory does (``search.py``), and its file stays
open: what FAISS cannot do on a GPU is asked of the structure that it came from. That is a search
for more than 2,048 candidates, a widened one of more than 2,048 lists, and one that may return less
than half of the rows. A file is moved once for all indexes that are opened with the same ``Gpus``.

What can end the process in FAISS is kept out: its count of GPUs where the driver is older than its
CUDA, its own sharding (an error there is in a thread that nobody catches), and GPU memory that is
freed while another thread searches.
"""

import ctypes
import logging
import threading
import weakref
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError, RocketRankError, UsageError
from .gpu_plan import (
    FLOAT32_CODE_BYTES,
    LIMIT,
    RESERVE,
    SCRATCH,
    GpuOptions,
    GpuPlan,
    GpuShape,
    plan_gpu,
    shape_of,
)
from .selection import Selection
from .structure import LEAST_DEPTH, Parts, Structure, faiss_library, margin

_SELECTED_SHARE = 2
"""At least one row of so many must be selected, or the search is the CPU's."""
_CPU = "take --index-device cpu"

logger = logging.getLogger("rocketrank.index")


def gpu_count() -> int:
    """The GPUs that FAISS can use; 0 with its CPU wheel and where there is no driver."""
    faiss = faiss_library()
    if not hasattr(faiss, "StandardGpuResources") or not _driver_count():
        return 0
    return int(faiss.get_num_gpus())


def require_gpus(count: int) -> None:
    """Raises one sentence unless FAISS can use ``count`` GPUs, numbered from 0."""
    if not hasattr(faiss_library(), "StandardGpuResources"):
        raise MissingDependencyError(
            f"searching on a GPU needs FAISS with GPU support, and {_installed()} has none: "
            "pip uninstall faiss-cpu, then pip install faiss-gpu-cu12, which takes its place, or "
            + _CPU
        )
    found = gpu_count()
    if not found:
        raise UsageError(
            f"expected {count} GPU{'s' if count > 1 else ''}, and FAISS sees none: check that "
            f"nvidia-smi lists it and CUDA_VISIBLE_DEVICES does not hide it, or {_CPU}"
        )
    if found < count:
        raise UsageError(
            f"GPU {count - 1} was asked for, and FAISS sees {found}, numbered from 0: name one of "
            f"these, or {_CPU}"
        )


def _installed() -> str:
    for name in ("faiss-cpu", "faiss"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "the installed one"


def free_bytes(number: int) -> int | None:
    """Bytes of the GPU's memory that nobody uses; None where its driver does not say.

    Of the driver itself, which numbers GPUs as FAISS does: nvidia-smi has an order of its own.
    """
    driver = _driver()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), number):
        return None
    # The context that FAISS will use: its own memory is then counted as taken.
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease(device)
    return None if failed else free.value


def _driver() -> ctypes.CDLL | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver


def _driver_count() -> int:
    driver, count = _driver(), ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


class Moved:
    """An index on GPUs, freed when nobody holds it any more, and not during another's search.

    ``index`` searches what ``copies`` hold, each on a GPU; ``lock`` is that of these GPUs.
    """

    def __init__(self, index: Any, copies: list[Any], lock: threading.RLock) -> None:
        self._held = [index, *copies]
        self._lock = lock
        weakref.finalize(self, _free, self._held, lock)

    def search(
        self, queries: NDArray[np.float32], depth: int, probes: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``Structure.search``, of ``probes`` lists where there are lists."""
        with self._lock:
            return _search(self._held, queries, depth, probes)


def _search(
    held: list[Any], queries: NDArray[np.float32], depth: int, probes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    index, *copies = held
    for each in copies:  # replicas take no search parameters
        if hasattr(each, "nprobe"):
            each.nprobe = probes
    scores, rows = index.search(queries, depth)
    return scores, rows


def _free(held: list[Any], lock: threading.RLock) -> None:
    with lock:
        held.clear()


class GpuStructure:
    """A structure on GPUs; for many threads, of which one at a time searches there."""

    def __init__(
        self, structure: Structure, moved: Moved, *, name: str = "", float16: bool = False
    ) -> None:
        """``float16``: its whole vectors were rounded, so that its scores are not exact."""
        self._cpu = structure
        self._moved: Moved | None = moved
        self._name = name
        self._rounded = float16 and structure.lossless and not structure.probes(1)
        self.lossless = structure.lossless and not self._rounded
        self.selects = structure.selects

    def first_depth(self, k: int) -> int:
        """As ``Structure.first_depth``; twice ``k`` where vectors were rounded to float16.

        No more than a GPU gives where that is enough for ``k`` results: else nothing was asked of
        it.
        """
        usual = max(LEAST_DEPTH, 2 * k) if self._rounded else self._cpu.first_depth(k)
        return max(margin(k), min(usual, LIMIT))

    def search(
        self,
        queries: NDArray[np.float32],
        depth: int,
        effort: int,
        selection: Selection | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``Structure.search``."""
        moved, probes = self._moved, gpu_probes(self._cpu.probes(effort), effort)
        deeper = depth if selection is None else selected_depth(depth, selection)
        if moved is None or probes is None or deeper > LIMIT:
            return self._cpu.search(queries, depth, effort, selection)
        turned = queries
        for transform in self._cpu.parts.transforms:
            turned = transform.apply(turned)
        try:
            scores, rows = moved.search(turned, deeper, probes)
        except (RuntimeError, MemoryError) as error:
            logger.warning(
                "%s: a search on the GPU failed (%s) and was done on the CPU", self._name, error
            )
            return self._cpu.search(queries, depth, effort, selection)
        if selection is None:
            return scores, rows
        more = rows[:, -1] >= 0
        scores, rows = only_selected(scores, rows, selection, depth)
        short = np.flatnonzero(more & (rows[:, -1] < 0))
        if len(short):
            found = self._cpu.search(queries[short], depth, effort, selection)
            scores[short], rows[short] = found
        return scores, rows

    def close(self) -> None:
        """Lets go of the GPUs; what is searched from now on is searched on the CPU."""
        self._moved = None


def gpu_probes(probes: int, effort: int) -> int | None:
    """The lists that a GPU visits where the CPU visits ``probes``: 2,048 of more.

    None where a search that was widened (``effort`` above 1) visits more than that.
    """
    if probes > LIMIT:
        return LIMIT if effort == 1 else None
    return probes


def selected_depth(depth: int, selection: Selection) -> int:
    """Candidates to fetch so that ``depth`` of them are likely to be selected.

    More than a GPU can fetch where less than half of the rows are.
    """
    if selection.count * _SELECTED_SHARE < selection.rows:
        return LIMIT + 1
    return min(selection.rows, -(-depth * selection.rows // selection.count) + 16)


def only_selected(
    scores: NDArray[np.float32], rows: NDArray[np.int64], selection: Selection, depth: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first ``depth`` of each line that are selected, in their order; row -1 after them."""
    bits = selection.bits[np.maximum(rows, 0) >> 3] >> (rows & 7).astype(np.uint8)
    kept = (rows >= 0) & (bits & 1).astype(bool)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
    rows = np.where(kept, rows, -1)
    scores = np.where(kept, scores, np.finfo(np.float32).min)
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, depth - rows.shape[1]))
    return (
        np.pad(scores, missing, constant_values=np.finfo(np.float32).min),
        np.pad(rows, missing, constant_values=-1),
    )


class Gpus:
    """GPUs that structures are moved to, a file once; for indexes that follow each other."""

    def __init__(self, options: GpuOptions) -> None:
        """Raises one sentence where FAISS cannot use the GPUs of ``options``."""
        require_gpus(max(options.numbers) + 1)
        self.options = options
        self._lock = threading.RLock()
        self._resources: dict[int, Any] = {}
        self._moved: weakref.WeakValueDictionary[str, Moved] = weakref.WeakValueDictionary()
        self._said: set[str] = set()

    def move(self, structures: Mapping[str, tuple[str, Structure]]) -> dict[str, GpuStructure]:
        """Puts structures, by the checksum of their file and its name, where they fit.

        Returns those that can be on a GPU. Raises UsageError, before any is moved, when they do not
        fit.
        """
        with self._lock:
            there = {key: moved for key in structures if (moved := self._moved.get(key))}
            shapes = {key: shape_of(name, each.parts) for key, (name, each) in structures.items()}
            wanted = [shape for key, shape in shapes.items() if key not in there]
            free = {number: free_bytes(number) for number in self.options.numbers}
            working = RESERVE if self._resources else SCRATCH + RESERVE
            plan = plan_gpu(wanted, free, self.options, working=working)
            self._say(f"{reason}; it is searched on the CPU" for reason in plan.staying)
            unknown = (number for number, size in free.items() if size is None)
            self._say(f"GPU {each}: its free memory is unknown" for each in unknown)
            found = {}
            for key, (name, each) in structures.items():
                if shapes[key].refusal:
                    continue
                if (probes := each.probes(1)) > LIMIT:
                    self._say([f"{name}: the CPU visits {probes:,} lists, a GPU {LIMIT:,}"])
                moved = there.get(key) or self._put(shapes[key], each.parts, plan)
                self._moved[key] = moved
                found[key] = GpuStructure(each, moved, name=name, float16=plan.float16)
        return found

    def _say(self, notes: Iterable[str]) -> None:
        for note in notes:
            if note not in self._said:
                logger.warning("%s", note)
                self._said.add(note)

    def _put(self, shape: GpuShape, parts: Parts, plan: GpuPlan) -> Moved:
        shards = len(plan.devices) if plan.mode == "sharded" else 1
        copies = []
        for place, number in enumerate(plan.devices):
            shard = place if shards > 1 else 0
            try:
                copies.append(self._copied(parts, number, (shard, shards), plan.float16))
            except (RuntimeError, MemoryError) as error:
                raise RocketRankError(
                    f"{shape.name} could not be put on GPU {number} (FAISS says: "
                    f"{' '.join(str(error).split())}): free memory there, or {_CPU}"
                ) from error
        return Moved(combined(copies, plan.mode, flat=not shape.lists), copies, self._lock)

    def _copied(self, parts: Parts, number: int, shard: tuple[int, int], float16: bool) -> Any:
        faiss, inner = faiss_library(), parts.inner
        if number not in self._resources:
            self._resources[number] = faiss.StandardGpuResources()
            self._resources[number].setTempMemory(SCRATCH)
        resources = self._resources[number]
        if not hasattr(inner, "nlist"):
            config = faiss.GpuIndexFlatConfig()
            config.device, config.useFloat16, config.use_cuvs = number, float16, False
            copy = faiss.GpuIndexFlatIP(resources, inner.d, config)
            # A copy by index_cpu_to_gpu rounds all vectors at once, and needs four times the bytes.
            copy.add(flat_shard(inner, *shard))
            return copy
        options = faiss.GpuClonerOptions()
        options.use_cuvs = False
        options.useFloat16 = hasattr(inner, "pq") and (float16 or inner.pq.M > FLOAT32_CODE_BYTES)
        return faiss.index_cpu_to_gpu(resources, number, list_shard(inner, *shard), options)


def opened_gpus(options: GpuOptions) -> Gpus | None:
    """The GPUs of ``options``; with ``partial`` and none that FAISS can use a note, and None."""
    try:
        return Gpus(options)
    except (MissingDependencyError, UsageError) as error:
        if not options.partial:
            raise
        logger.warning("the index is searched on the CPU: %s", error)
        return None


def flat_shard(inner: Any, number: int, count: int) -> NDArray[np.float32]:
    """The vectors of shard ``number`` of ``count`` of a flat index: runs of about equal length."""
    flat = faiss_library().rev_swig_ptr(inner.get_xb(), inner.ntotal * inner.d)
    start, stop = (inner.ntotal * each // count for each in (number, number + 1))
    vectors: NDArray[np.float32] = flat.reshape(inner.ntotal, inner.d)[start:stop]
    return vectors


def list_shard(inner: Any, number: int, count: int) -> Any:
    """Shard ``number`` of ``count`` of an index with lists: each list's share by its row numbers.

    It holds on to the centroids of ``inner``.
    """
    if count == 1:
        return inner
    faiss = faiss_library()
    lists = (inner.quantizer, inner.d, inner.nlist)
    if hasattr(inner, "pq"):
        shard = faiss.IndexIVFPQ(*lists, inner.pq.M, inner.pq.nbits, inner.metric_type)
        shard.pq = inner.pq
    else:
        shard = faiss.IndexIVFFlat(*lists, inner.metric_type)
    shard.is_trained = True
    inner.copy_subset_to(shard, faiss.InvertedLists.SUBSET_TYPE_ID_MOD, count, number)
    return shard


def combined(copies: list[Any], mode: str, *, flat: bool) -> Any:
    """One index of whole or partial ``copies``; the rows of flat shards follow each other."""
    faiss = faiss_library()
    if mode == "one":
        return copies[0]
    if mode == "sharded":
        index = faiss.IndexShards(copies[0].d, True, flat)
        for each in copies:
            index.add_shard(each)
        return index
    index = faiss.IndexReplicas(copies[0].d, True)
    for each in copies:
        index.addIndex(each)
    return index
