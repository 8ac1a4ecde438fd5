"""What is decided about GPUs before anything is put on one; none is needed here."""

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from rocketrank.errors import MissingDependencyError, UsageError
from rocketrank.index import Index
from rocketrank.index.gpu import gpu_count, require_gpus
from rocketrank.index.gpu_plan import (
    CODE_BYTES,
    GpuOptions,
    GpuShape,
    device_bytes,
    gpu_options_of,
    plan_gpu,
    shape_of,
)
from rocketrank.index.kinds import choose
from rocketrank.index.structure import new_index, take_apart

from .small_index import build_table

FLAT = GpuShape(name="flat.faiss", rows=1_000_000, dim=384)
GIB = 1 << 30
cpu_wheel = pytest.mark.skipif(
    hasattr(faiss, "StandardGpuResources"), reason="this FAISS can use GPUs"
)


def shape(factory: str, dim: int, name: str = "x") -> GpuShape:
    index = new_index(factory, dim)  # what is taken apart belongs to it
    return shape_of(name, take_apart(index))


# Bytes


def test_flat_vectors_take_4_bytes_a_dimension_and_4_for_the_norm() -> None:
    assert device_bytes(FLAT, float16=False) == 1_000_000 * (384 * 4 + 4) == 1_540_000_000


def test_float16_halves_the_dimensions_of_flat_vectors_alone() -> None:
    assert device_bytes(FLAT, float16=True) == 1_000_000 * (384 * 2 + 4) == 772_000_000


def test_the_largest_of_three_shards_has_the_row_that_is_left() -> None:
    assert device_bytes(FLAT, float16=False, shards=3) == 333_334 * 1540


def test_product_quantized_lists_take_their_codes_and_row_numbers_in_pieces_of_512_bytes() -> None:
    shape = GpuShape(name="", rows=1_000_000, dim=384, lists=4000, code=96)
    # 250 rows a list: 24,000 bytes of codes in 47 pieces, 2,000 of row numbers in 4.
    each = 47 * 512 + 4 * 512 + (384 * 4 + 4) + 24
    assert device_bytes(shape, float16=False) == 4000 * each + 2 * 256 * 384 * 4 == 111_490_432


def test_float16_changes_nothing_for_lists() -> None:
    shape = GpuShape(name="", rows=1000, dim=8, lists=10)
    assert device_bytes(shape, float16=True) == device_bytes(shape, float16=False)


def test_lists_of_whole_vectors_are_rounded_up_to_32_vectors() -> None:
    shape = GpuShape(name="", rows=1000, dim=4, lists=10)
    # 100 rows a list: 128 vectors of 16 bytes, 800 bytes of row numbers in 2 pieces.
    assert device_bytes(shape, float16=False) == 10 * (2048 + 1024 + 20 + 24)


def test_pieces_from_1_mib_on_are_pages_of_2_mib() -> None:
    shape = GpuShape(name="", rows=1_000_000, dim=4, lists=10)
    # 100,000 rows a list: 1,600,000 bytes of vectors; 800,000 of row numbers in 1,563 pieces.
    assert device_bytes(shape, float16=False) == 10 * (2097152 + 1563 * 512 + 20 + 24)


# Plans


def test_what_fits_on_one_gpu_goes_there() -> None:
    plan = plan_gpu([FLAT], {0: 3 * GIB}, GpuOptions(), working=GIB)
    assert (plan.devices, plan.mode, plan.float16) == ((0,), "one", False)
    assert plan.bytes_per_device == 1_540_000_000 + GIB


def test_what_fits_on_each_gpu_is_replicated() -> None:
    plan = plan_gpu([FLAT], {0: 3 * GIB, 2: 3 * GIB}, GpuOptions(devices=(0, 2)), working=GIB)
    assert (plan.devices, plan.mode) == ((0, 2), "replicated")


def test_what_fits_on_all_gpus_together_alone_is_sharded() -> None:
    plan = plan_gpu([FLAT], {0: 2 * GIB, 1: 9 * GIB}, GpuOptions(devices=2), working=GIB)
    assert plan.mode == "sharded"
    assert plan.bytes_per_device == 500_000 * 1540 + GIB


def test_structures_add_up() -> None:
    plan = plan_gpu([FLAT, FLAT], {0: 9 * GIB}, GpuOptions(), working=0)
    assert plan.bytes_per_device == 2 * 1_540_000_000


def test_unknown_free_memory_is_taken_for_enough() -> None:
    assert plan_gpu([FLAT], {0: None}, GpuOptions()).mode == "one"


def test_too_little_memory_is_said_with_both_sizes_and_every_cure_that_helps() -> None:
    with pytest.raises(UsageError) as caught:
        plan_gpu([FLAT], {0: 1_200_000_000}, GpuOptions(), working=100 << 20)
    assert str(caught.value) == (
        "the index needs 1.5 GiB on GPU 0, and GPU 0 has 1.1 GiB free: store float16, which needs "
        "0.8 GiB, with --index-float16, or divide it over 2 such GPUs (--index-device gpu:0,1), or "
        "build the index again with --kind ivfpq, or leave the index on the CPU with "
        "--index-device cpu"
    )


def test_a_cure_that_would_not_fit_either_is_not_named() -> None:
    with pytest.raises(UsageError) as caught:
        plan_gpu([FLAT], {0: 50_000_000}, GpuOptions(), working=0)
    assert "float16" not in str(caught.value)
    assert "ivfpq" not in str(caught.value)
    assert "divide it over 31 such GPUs" in str(caught.value)  # 32,259 rows each; 30 have 33,334


def test_replication_that_was_asked_for_names_sharding_as_a_cure() -> None:
    options = GpuOptions(devices=2, mode="replicated")
    with pytest.raises(UsageError, match=r"needs 1\.4 GiB on each GPU, and GPU 1 has 0\.9 GiB"):
        plan_gpu([FLAT], {0: 2 * GIB, 1: 1_000_000_000}, options, working=0)
    with pytest.raises(UsageError, match="over 2 such GPUs with the mode sharded"):
        plan_gpu([FLAT], {0: 2 * GIB, 1: 1_000_000_000}, options, working=0)


def test_a_kind_that_cannot_be_moved_is_refused_before_its_size_is_looked_at() -> None:
    shape = GpuShape(name="h", rows=10, dim=4, refusal="h: a graph: take flat")
    with pytest.raises(UsageError, match=r"^h: a graph: take flat, or leave the index on the CPU"):
        plan_gpu([FLAT, shape], {0: 0}, GpuOptions())


def test_a_kind_that_cannot_be_moved_stays_where_that_is_allowed() -> None:
    shape = GpuShape(name="h", rows=10, dim=4, refusal="h: a graph: take flat")
    plan = plan_gpu([FLAT, shape], {0: 9 * GIB}, GpuOptions(partial=True), working=0)
    assert plan.staying == ("h: a graph: take flat",)
    assert plan.bytes_per_device == 1_540_000_000


def test_an_index_without_movable_structures_needs_no_memory() -> None:
    shape = GpuShape(name="h", rows=10, dim=4, refusal="h: a graph: take flat")
    assert plan_gpu([shape], {0: 0}, GpuOptions(partial=True)).bytes_per_device == 0


@pytest.mark.parametrize("devices", [0, (), (1, 1), (-1,)])
def test_devices_that_are_none_are_refused(devices: Any) -> None:
    with pytest.raises(UsageError, match="must be at least 1 GPU"):
        GpuOptions(devices=devices)


# Which structures


@pytest.mark.parametrize(
    ("factory", "lists", "code"),
    [("Flat", 0, 0), ("IVF20,Flat", 20, 0), ("OPQ16,IVF20,PQ16", 20, 16), ("IVF20,PQ8", 20, 8)],
)
def test_flat_ivf_and_ivfpq_can_be_moved(factory: str, lists: int, code: int) -> None:
    expected = GpuShape(name="x", rows=0, dim=64, lists=lists, code=code)
    assert shape(factory, 64) == expected


@pytest.mark.parametrize(
    ("factory", "found"),
    [
        ("HNSW32,Flat", "an IndexHNSWFlat on the CPU only"),
        ("OPQ32,IVF20,PQ32x4fs", "an IndexIVFPQFastScan on the CPU only"),
        ("RR64,IVF20,RaBitQ", "an IndexIVFRaBitQ on the CPU only"),
        ("IVF20,SQ8", "an IndexIVFScalarQuantizer on the CPU only"),
        ("PQ8", "an IndexPQ on the CPU only"),
        ("IVF20_HNSW32,Flat", "and here by an IndexHNSWFlat"),
        ("IVF20,PQ8x6", "these have 6 bits and 8 parts"),
    ],
)
def test_other_structures_are_refused_with_a_kind_that_can_be_moved(
    factory: str, found: str
) -> None:
    refusal = shape(factory, 64, "segments/1/x.faiss").refusal
    assert refusal.startswith("segments/1/x.faiss: ")
    assert found in refusal
    assert "build the index again with --kind flat, ivf or " in refusal


def test_codes_that_are_too_long_for_a_gpu_are_refused_with_the_factory_of_shorter_ones() -> None:
    refusal = shape(choose("ivfpq", 1_000_000, 768).factory, 768).refusal
    assert "these have 8 bits and 128 parts" in refusal
    assert "--kind flat, ivf or 'OPQ96,IVF6,PQ96'" in refusal  # 256 passages have 6 lists


@pytest.mark.parametrize("dim", [1, 17, 64, 100, 312, 384, 768, 1024, 1536, 4096])
def test_the_product_quantizer_that_is_named_as_a_cure_can_be_moved(dim: int) -> None:
    named = shape("HNSW32,Flat", dim).refusal.rpartition(" or ")[2].strip("'")
    cured = shape(choose(named, 256, dim).factory, dim)
    assert cured.refusal == ""
    assert cured.code in CODE_BYTES


# What is asked for


@pytest.mark.parametrize(
    ("device", "index_device", "expected"),
    [
        ("cpu", None, None),
        ("gpu", "cpu", None),
        ("gpu", None, GpuOptions(devices=(0,), partial=True)),
        ("gpu:3", None, GpuOptions(devices=(3,), partial=True)),
        ("cpu", "gpu", GpuOptions(devices=(0,))),
        ("gpu:1", "gpu:0,2", GpuOptions(devices=(0, 2))),
    ],
)
def test_the_index_goes_where_the_model_is_unless_told_otherwise(
    device: str, index_device: str | None, expected: GpuOptions | None
) -> None:
    assert gpu_options_of(device, index_device) == expected


@pytest.mark.parametrize("text", ["gpu:", "gpu:a", "cuda", "gpu:0,", "GPU", "gpu:-1", "cpu:0"])
def test_a_device_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--index-device \(.*\) must be cpu, gpu, gpu:N or"):
        gpu_options_of("cpu", text)


def test_a_gpu_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--index-device \(gpu:1,1\) must name each GPU once"):
        gpu_options_of("cpu", "gpu:1,1")


@cpu_wheel
def test_a_faiss_for_cpus_is_named_with_the_wheel_that_replaces_it(tmp_path: Path) -> None:
    build_table(tmp_path / "index", np.eye(20, dtype=np.float32))
    assert gpu_count() == 0
    with pytest.raises(MissingDependencyError) as caught:
        require_gpus(1)
    assert f"faiss-cpu {faiss.__version__} has none" in str(caught.value)
    assert "pip install faiss-gpu-cu12, which takes its place" in str(caught.value)
    with pytest.raises(MissingDependencyError, match="faiss-gpu-cu12"):
        Index.open(tmp_path / "index", gpus=GpuOptions())


@cpu_wheel
def test_where_the_index_follows_the_model_it_stays_on_the_cpu_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.eye(20, dtype=np.float32)
    build_table(tmp_path / "index", vectors)
    with caplog.at_level(logging.WARNING, logger="rocketrank.index"):
        index = Index.open(tmp_path / "index", gpus=gpu_options_of("gpu"))
    with index:
        assert index.search(vectors, 1).rows.ravel().tolist() == list(range(20))
    assert "the index is searched on the CPU: searching on a GPU needs FAISS" in caplog.text
