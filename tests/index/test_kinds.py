"""Which structure is chosen, by the rules written in kinds.py worked out by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from rocketrank.index.kinds import KINDS, choose

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize(
    ("count", "factory"),
    [
        (1, "Flat"),
        (100_000, "Flat"),
        (100_001, "HNSW32,Flat"),
        (2_000_000, "HNSW32,Flat"),
        (4_000_000, "OPQ96,IVF8000,PQ96"),
    ],
)
def test_auto_chooses_by_size_and_says_why(count: int, factory: str) -> None:
    choice = choose("auto", count, 384)
    assert choice.factory == factory
    noun = "passage" if count == 1 else "passages"
    assert choice.reason.startswith(f"auto chose {choice.kind} for {count:,} {noun}: ")


@pytest.mark.parametrize(
    ("count", "lists"), [(1, 1), (77, 1), (78, 2), (3900, 100), (1_000_000, 4000)]
)
def test_ivf_has_four_times_the_root_of_n_lists_of_39_passages_or_more(
    count: int, lists: int
) -> None:
    assert choose("ivf", count, 8).factory == f"IVF{lists},Flat"


@pytest.mark.parametrize(
    ("dim", "parts"), [(1, 1), (7, 1), (12, 3), (100, 25), (384, 96), (768, 128), (1021, 1)]
)
def test_a_product_quantizer_has_a_byte_for_four_dimensions_or_more(dim: int, parts: int) -> None:
    assert choose("ivfpq", 2560, dim).factory == f"OPQ{parts},IVF65,PQ{parts}"


@pytest.mark.parametrize(
    ("kind", "factory"),
    [("ivfpq4", "OPQ192,IVF65,PQ192x4fs"), ("ivf-rabitq", "RR384,IVF65,RaBitQ")],
)
def test_coarser_quantizers_take_half_a_byte_for_two_dimensions_or_a_bit_for_one(
    kind: str, factory: str
) -> None:
    assert choose(kind, 2560, 384).factory == factory


@pytest.mark.parametrize(
    ("kind", "count"), [("ivfpq", 256), ("ivfpq", 384), ("ivfpq4", 383), ("OPQ96,PQ96", 300)]
)
def test_rotations_of_few_vectors_do_not_end_the_process(
    tmp_path: Path, kind: str, count: int
) -> None:
    """FAISS's OPQ writes outside its memory with fewer vectors than they are wide: here 384."""
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from rocketrank.errors import UsageError\n"
        "from rocketrank.index.kinds import choose\n"
        "from rocketrank.index.filling import fill\n"
        "from rocketrank.index.vectors import VectorShards\n"
        f"vectors = np.random.default_rng(1).normal(size=({count}, 384)).astype(np.float32)\n"
        f"np.save({str(tmp_path / 'x.npy')!r}, vectors)\n"
        f"shards = VectorShards([Path({str(tmp_path / 'x.npy')!r})], [{count}], 384)\n"
        "try:\n"
        f"    fill(choose({kind!r}, {count}, 384), shards, lambda n, end: None)\n"
        "except UsageError as error:\n"
        "    print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    refused = kind not in KINDS and count < 384
    assert ("needs at least 384 passages to train on" in ran.stdout) == refused
