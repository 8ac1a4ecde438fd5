"""Structures in parts: how a segment is cut, and that a search does not show it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rocketrank.errors import UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    Index,
    PassageList,
    build_index,
    compact,
    delete_passages,
    repair_index,
    verify_index,
)
from rocketrank.index import parts as parts_module
from rocketrank.index.encoding import shard_rows
from rocketrank.index.filling import required_points
from rocketrank.index.kinds import choose
from rocketrank.index.parts import cut, memory_of
from rocketrank.index.structure import new_index, take_apart

from .small_index import TableEncoder
from .test_filters import QUERIES, VECTORS, exact, passage

ROWS = 3000
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def three_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flat index of 3,000 passages whose budget is enough for a third of them.

    Eight files of 130 are 1,040 vectors; while their array doubles for the fifth, 1,170 are there.
    """
    monkeypatch.setattr(parts_module, "_BASE", 0)
    monkeypatch.setattr(parts_module, "_ROWS_AT_LEAST", 1)
    passages = PassageList([passage(row) for row in range(ROWS)])
    options = BuildOptions(kind="flat", shard_size=130, fields=("third",), memory=1200 * 16 * 4)
    build_index(tmp_path / "index", passages, TableEncoder(VECTORS), options)
    return tmp_path / "index"


def mask_of(rows: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.arange(len(VECTORS)) < rows


def test_parts_are_runs_of_whole_files_of_about_equal_size() -> None:
    runs, choice = cut([10] * 7, lambda count: choose("flat", count, 8), 8, None)
    assert runs == [range(7)] and choice.factory == "Flat"


def test_a_budget_is_kept_by_every_part(three_parts: Path) -> None:
    with Index.open(three_parts) as index:
        [segment] = index.manifest.segments
    rows = [file.rows for file in segment.structure.files]
    assert rows == [1040, 1040, 920]
    assert segment.structure.reason.endswith("; in 3 parts, to be built within 0 MiB")


def test_a_search_of_parts_is_the_search_of_the_whole(three_parts: Path) -> None:
    with Index.open(three_parts) as index:
        assert index.search(QUERIES, 40).rows.tolist() == exact(mask_of(ROWS), 40)
        thirds = index.search(QUERIES, 40, "third = 2").rows.tolist()
    assert thirds == exact(mask_of(ROWS) & (np.arange(len(VECTORS)) % 3 == 2), 40)


def test_deletions_reach_every_part(three_parts: Path) -> None:
    gone = [row for rows in exact(mask_of(ROWS), 10) for row in rows]
    delete_passages(three_parts, [f"p{row}" for row in set(gone)], ChangeOptions())
    mask = mask_of(ROWS)
    mask[gone] = False
    with Index.open(three_parts) as index:
        assert index.search(QUERIES, 40).rows.tolist() == exact(mask, 40)


def test_a_damaged_part_alone_is_built_again(three_parts: Path) -> None:
    path = three_parts / "segments/000001/flat-2.faiss"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x7f")
    [problem] = verify_index(three_parts).problems
    assert "flat-2.faiss: expected SHA-256" in problem
    [done] = repair_index(three_parts).done
    assert "flat-2.faiss" in done and path.read_bytes() == content
    assert verify_index(three_parts).problems == ()


def test_compacting_leaves_parts_alone_until_there_is_something_to_fold(three_parts: Path) -> None:
    assert compact(three_parts, ChangeOptions()).commit == 1
    delete_passages(three_parts, ["p0"], ChangeOptions())
    assert compact(three_parts, ChangeOptions()).commit == 3


def test_compacting_to_another_kind_without_a_budget_makes_one_part(three_parts: Path) -> None:
    compact(three_parts, ChangeOptions(), kind="ivf")
    with Index.open(three_parts) as index:
        [segment] = index.manifest.segments
        assert [file.rows for file in segment.structure.files] == [ROWS]
        assert index.search(QUERIES, 40).rows.tolist() == exact(mask_of(ROWS), 40)


def test_a_budget_that_is_too_small_for_any_part_is_refused_with_the_least() -> None:
    """Parts of 13 files at the least, 17 while they grow: 102 MiB, and 400 for the process."""

    def flat(count: int) -> object:
        return choose("flat", count, 384)

    with pytest.raises(UsageError, match=r"memory \(100 MiB\) must be at least 502 MiB"):
        cut([4096] * 100, flat, 384, 100 << 20)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq", "ivfpq4", "ivf-rabitq"])
def test_what_a_build_takes_is_below_what_was_reckoned(tmp_path: Path, kind: str) -> None:
    """The peak of anonymous memory in a process of its own, the vectors mapped."""
    rows, dim = 30_000, 128
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from rocketrank.index.kinds import choose\n"
        "from rocketrank.index.filling import fill, write_index\n"
        "from rocketrank.index.vectors import VectorShards\n"
        f"paths = sorted(Path({str(tmp_path)!r}).glob('*.npy'))\n"
        f"vectors = VectorShards(paths, [{rows // 10}] * 10, {dim})\n"
        f"filled = fill(choose({kind!r}, {rows}, {dim}), vectors, lambda n, end: None)\n"
        f"write_index(filled.index, Path({str(tmp_path)!r}) / 'x.faiss')\n"
        # Not getrusage: a process that was forked has its parent's peak there.
        "[line] = [each for each in open('/proc/self/status') if each.startswith('VmHWM')]\n"
        "print(int(line.split()[1]) * 1024)"
    )
    random = np.random.default_rng(1)
    for number in range(10):
        part = random.normal(size=(rows // 10, dim)).astype(np.float32)
        np.save(tmp_path / f"{number:06d}.npy", part)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
    )
    mapped = rows * dim * 4
    assert int(ran.stdout) - mapped < memory_of(choose(kind, rows, dim), [rows // 10] * 10, dim)


@pytest.mark.parametrize("memory", [1024, 1500, 6000])
def test_every_part_keeps_within_the_budget_by_the_kind_that_was_chosen_for_all(
    memory: int,
) -> None:
    rows = [4096] * 2148
    runs, part = cut(rows, lambda count: choose("auto", count, 384), 384, memory << 20)
    files = [[rows[number] for number in run] for run in runs]
    assert part.kind == "ivfpq" and sum(map(sum, files)) == sum(rows)
    assert all(memory_of(part, each, 384) <= memory << 20 for each in files)


def shards_of(passages: int) -> list[int]:
    """As a build with the usual options makes them."""
    rows: list[int] = []
    while sum(rows) < passages:
        rows.append(min(shard_rows(len(rows), 4096), passages - sum(rows)))
    return rows


@pytest.mark.parametrize("memory", [585, 725, 900, 1200])
@pytest.mark.parametrize("kind", ["ivf", "auto"])
def test_every_part_has_enough_to_train_on(kind: str, memory: int) -> None:
    """The last file of 6,095,559 passages has 711 of them, and a part less than its lists."""
    rows = shards_of(6_095_559)
    assert rows[-1] == 711
    try:
        runs, part = cut(rows, lambda count: choose(kind, count, 384), 384, memory << 20)
    except UsageError:
        return  # no number of parts keeps to the budget, which is said before anything is built
    needed = required_points(take_apart(new_index(part.factory, 384)))
    assert min(sum(rows[number] for number in run) for run in runs) >= needed


@pytest.mark.parametrize(
    "factory",
    ["Flat", "HNSW16,Flat", "HNSW32_SQ8", "RR64,HNSW8,Flat", "IVF100,Flat", "SQ8", "PQ16",
     "PQ16x4fs", "IVF100,SQ8", "OPQ16,IVF100,PQ16x4fs", "RaBitQ", "IVF100,RaBitQ"],
)  # fmt: skip
def test_what_building_takes_is_reckoned_for_every_structure(factory: str) -> None:
    custom = choose(factory, 100_000, 64)
    assert memory_of(custom, [1000] * 9000, 64) > memory_of(custom, [1000] * 100, 64) > 400 << 20


def test_a_sample_of_as_many_lists_as_the_factory_says_is_reckoned() -> None:
    custom = choose("IVF65536,PQ48", 5_000_000, 384)
    assert memory_of(custom, [50_000] * 100, 384) > 65_536 * 50 * 384 * 4


def test_a_file_that_alone_is_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match="in files of up to 100,000"):
        cut([100_000] * 3, lambda count: choose("flat", count, 384), 384, 480 << 20)
