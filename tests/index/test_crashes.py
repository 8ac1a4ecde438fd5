"""A process killed at any point of any command loses nothing, and its repeat completes."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rocketrank.index import ChangeOptions, delete_passages

from .small_index import HashingEncoder
from .store_commands import STEPS
from .store_states import QUERIES, Life, Tally, share, undisturbed

NUMBERS = range(len(STEPS))
NAMES = [step.name for step in STEPS]
EVERY_STEP = pytest.mark.parametrize("step", NUMBERS, ids=NAMES)
RANDOM_KILLS = 200
BYTES_APART = 1024


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with undisturbed() as lived:
        yield lived


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    counts = Tally()
    yield counts
    counts.show()


def killing_points(life: Life, step: int) -> list[int]:
    """The points of the step but those where a file is only read, which change nothing."""
    points = life.outcomes[step].points
    return [number for number, point in enumerate(points, start=1) if not point.startswith("open ")]


def test_the_undisturbed_life_holds_what_a_dictionary_and_an_exact_search_say(life: Life) -> None:
    for step, state in zip(STEPS, life.states[1:], strict=True):
        assert state is not None
        passages = state.content.passages
        assert {passage.id: passage for passage in passages} == step.holds
        vectors = HashingEncoder().encode_passages(
            [passage.text for passage in passages], [passage.title for passage in passages]
        )
        places = {passage.id: place for place, passage in enumerate(passages)}
        expected = QUERIES @ vectors.T
        scores = np.frombuffer(state.content.scores, dtype=np.float32).reshape(len(QUERIES), -1)
        for query, found in enumerate(state.content.found):
            exact = expected[query, [places[passage_id] for passage_id in found]]
            assert np.allclose(scores[query, : len(found)], exact, atol=1e-5)
            assert (np.diff(exact) <= 1e-5).all()


def test_an_index_killed_at_some_points_has_the_last_commit_or_the_one_before(life: Life) -> None:
    chosen = random.Random(1)
    for step in NUMBERS:
        for point in chosen.sample(killing_points(life, step), 2):
            outcome = life.disturbed(step, watched=True, at=point)
            assert (outcome.ended, outcome.words) == ("killed", "SIGKILL")


def test_an_index_killed_in_the_middle_of_writing_has_the_last_commit_or_the_one_before(
    life: Life,
) -> None:
    chosen = random.Random(2)
    for step in chosen.sample(NUMBERS, 7):
        limit = chosen.randrange(life.largest_file(step))
        outcome = life.disturbed(step, bytes=limit, kill=True)
        assert outcome.ended == "done" or outcome.words == "SIGXFSZ"


def test_an_index_killed_at_some_moments_has_the_last_commit_or_the_one_before(life: Life) -> None:
    chosen = random.Random(3)
    for step in chosen.sample(NUMBERS, 7):
        life.disturbed(step, seconds=chosen.uniform(0, life.outcomes[step].seconds))


def test_half_the_name_of_a_snapshot_is_removed_by_the_next_change(
    tmp_path: Path, life: Life
) -> None:
    step = NAMES.index("snapshot")
    place = life.outcomes[step].points.index("close first.json.partial") + 1
    index = tmp_path / "index"
    shutil.copytree(life.folder / str(step), index)
    life.commands.run(index, step, watched=True, at=place)
    assert (index / "snapshots/first.json.partial").exists()
    delete_passages(index, ["doc-0"], ChangeOptions())
    assert not (index / "snapshots/first.json.partial").exists()


@pytest.mark.crash
@EVERY_STEP
def test_killed_at_every_point(life: Life, tally: Tally, step: int) -> None:
    points = share(killing_points(life, step), step)
    for point in points:
        outcome = life.disturbed(step, watched=True, at=point)
        assert (outcome.ended, outcome.words) == ("killed", "SIGKILL")
    tally.add(step, "points", len(points))


@pytest.mark.crash
@EVERY_STEP
def test_killed_at_random_moments(life: Life, tally: Tally, step: int) -> None:
    chosen = random.Random(step)
    usual = sorted(life.usual_seconds(step) for _ in range(3))[1]
    wanted = len(share(range(RANDOM_KILLS), step))
    kills = runs = 0
    while kills < wanted:
        outcome = life.disturbed(step, seconds=chosen.uniform(0, usual))
        kills += outcome.ended == "killed"
        runs += 1
        assert runs < 5 * wanted + 20
    tally.add(step, "random moments", kills)


@pytest.mark.crash
@EVERY_STEP
def test_killed_in_the_middle_of_writing(life: Life, tally: Tally, step: int) -> None:
    limits = range(0, life.largest_file(step) + BYTES_APART, BYTES_APART)
    kills = 0
    for limit in share(limits, step):
        kills += life.disturbed(step, bytes=limit, kill=True).ended == "killed"
    tally.add(step, "in the middle of a write", kills)
