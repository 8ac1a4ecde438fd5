"""The forms of a plan's costs, by hand, and memory against what a build takes."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rocketrank.index.costs import (
    Costs,
    Line,
    build_seconds,
    grown,
    line_of,
    line_through,
    query_seconds,
)
from rocketrank.index.kinds import Choice, choose

SOURCE = Path(__file__).resolve().parents[2] / "src"

COSTS = Costs(
    clustering=Line(1.0, 0.5),
    assigning=Line(2.0, 0.25),
    training={"ivf": Line(0.0, 0.0), "ivfpq": Line(100.0, 2.0)},
    adding={"flat": 3.0, "ivf": 0.0, "ivfpq": 5.0},
    linking=Line(4.0, 2.0),
    querying={
        "ivf": Line(10.0, 1.0),
        "hnsw": Line(0.0, 6.0),
        "ivfpq": Line(20.0, 0.125),
        "ivfpq4": Line(20.0, 0.125),
    },
    scanning=0.5,
    refining=Line(7.0, 0.01),
    far=3.0,
    writing_a_byte=0.0,
    hashing_a_byte=0.0,
)


def test_flat_takes_the_same_for_each_vector() -> None:
    assert build_seconds(choose("flat", 50, 8), 50, 8, COSTS) == 150


def test_lists_cost_their_k_means_and_the_assigning() -> None:
    # Two lists of width 8: 16 products; ten iterations over 100 points, then 100 vectors.
    choice = Choice("ivf", "IVF2,Flat", "")
    expected = 10 * 100 * (1 + 0.5 * 16) + 100 * (2 + 0.25 * 16)
    assert build_seconds(choice, 100, 8, COSTS) == expected


def test_k_means_takes_no_more_than_256_points_a_list() -> None:
    choice = Choice("ivf", "IVF2,Flat", "")
    expected = 10 * 512 * (1 + 0.5 * 16) + 1000 * (2 + 0.25 * 16)
    assert build_seconds(choice, 1000, 8, COSTS) == expected


def test_codes_cost_their_training_too_over_at_most_16384_points() -> None:
    choice = Choice("ivfpq", "OPQ2,IVF2,PQ2", "")
    lists = 10 * 512 * (1 + 0.5 * 16) + 20_000 * (2 + 0.25 * 16)
    expected = lists + 100 + 2 * 16_384 + 20_000 * 5
    assert build_seconds(choice, 20_000, 8, COSTS) == expected


def test_a_graph_costs_the_sum_of_logarithms() -> None:
    exact = sum(3 * (4 + 2 * math.log(m)) for m in range(1, 10_001))
    predicted = build_seconds(choose("hnsw", 10_000, 8), 10_000, 8, COSTS)
    assert predicted == pytest.approx(exact, rel=0.001)


def test_a_query_visits_its_share_of_the_lists() -> None:
    # 800 lists of which 100 are visited: an eighth of 8,000 vectors, at the slower of both speeds.
    expected = 800 * 0.5 + 10 + 1000 * 1.0 + 7 + 0.01 * 125
    assert query_seconds(Choice("ivf", "IVF800,Flat", ""), 8000, 8, 100, COSTS) == expected


def test_a_query_of_codes_scores_five_times_as_many_again() -> None:
    expected = 800 * 0.5 + 20 + 1000 * 0.125 + 7 + 0.01 * 500
    choice = Choice("ivfpq", "OPQ2,IVF800,PQ2", "")
    assert query_seconds(choice, 8000, 8, 100, COSTS) == expected


def test_a_query_of_coarser_codes_scores_ten_times_as_many_again() -> None:
    expected = 800 * 0.5 + 20 + 1000 * 0.125 + 7 + 0.01 * 1000
    choice = Choice("ivfpq4", "OPQ2,IVF800,PQ2x4fs", "")
    assert query_seconds(choice, 8000, 8, 100, COSTS) == expected


def test_an_exhaustive_query_reads_every_vector() -> None:
    assert query_seconds(choose("flat", 8000, 8), 8000, 8, 100, COSTS) == 4000 + 7 + 1.25


def test_an_array_that_grows_holds_its_old_and_its_new_place_for_a_moment() -> None:
    # Rooms for 2, 4, 8 and 16 parts: while the last is filled, 8 old ones, 8 moved and 2 new.
    assert grown([2] * 5, 100) == (1800, 1000)
    assert grown([7], 4) == (28, 28)


def test_a_line_goes_through_two_points_and_never_falls() -> None:
    assert line_through((1, 5), (3, 9)) == Line(3, 2)
    assert line_through((1, 5), (3, 1)) == Line(5, 0)


def test_the_nearest_line_is_that_of_least_squares() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, 5.0), (3.0, 6.0)]
    slope, fixed = np.polyfit([x for x, _ in points], [y for _, y in points], 1)
    assert line_of(points) == pytest.approx(Line(fixed, slope))


_FILLING = """
import sys
from pathlib import Path
import numpy as np
from rocketrank.index.calibration import resident
from rocketrank.index.costs import structure_memory
from rocketrank.index.kinds import choose
from rocketrank.index.filling import fill
from rocketrank.index.vectors import VectorShards, write_vectors
folder, kind, rows = Path(sys.argv[1]), sys.argv[2], [4096] * 33
for number in range(len(rows)):
    vectors = np.random.default_rng(number).standard_normal((4096, 64), dtype=np.float32)
    write_vectors(folder / f"{number}.npy", vectors)
shards = VectorShards([folder / f"{number}.npy" for number in range(len(rows))], rows, 64)
choice = choose("flat", 10, 64)
fill(choice, VectorShards([folder / "0.npy"], [4096], 64), lambda *_: None)
Path("/proc/self/clear_refs").write_text("5")
before = resident().now
choice = choose(kind, sum(rows), 64)
fill(choice, shards, lambda *_: None)
print(before + structure_memory(choice, rows, 64, "float32") + sum(rows) * 256, resident().peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_building_takes_the_memory_that_was_predicted(tmp_path: Path, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILLING, str(tmp_path), kind],
        env={"PYTHONPATH": str(SOURCE), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    predicted, measured = map(int, done.stdout.split())
    assert abs(predicted / measured - 1) < 0.25
