"""A call of the system that fails, in any command, ends it in one sentence and loses nothing."""

import errno
import random
from collections.abc import Iterator

import pytest

from .store_commands import FAILURES, STEPS
from .store_states import Life, Outcome, Tally, share, undisturbed

NUMBERS = range(len(STEPS))
NAMES = [step.name for step in STEPS]
EVERY_STEP = pytest.mark.parametrize("step", NUMBERS, ids=NAMES)
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


def failures(life: Life, step: int) -> list[tuple[int, int]]:
    """Each point of the step that can fail, by its number, with each error."""
    points = life.outcomes[step].points
    return [
        (number, error)
        for number, point in enumerate(points, start=1)
        for error in FAILURES.get(point.split()[0], ())
    ]


def check_sentence(outcome: Outcome) -> bool:
    """Whether the command was ended, by one sentence, rather than by a traceback or a signal.

    A failure may be passed over where nothing depends on what failed.
    """
    assert outcome.ended in ("refused", "done")
    if outcome.ended == "refused":
        assert "\n" not in outcome.words
        assert ": " in outcome.words
    return outcome.ended == "refused"


def test_some_failing_calls_lose_nothing(life: Life) -> None:
    chosen = random.Random(4)
    for step in NUMBERS:
        for point, error in chosen.sample(failures(life, step), 2):
            check_sentence(life.disturbed(step, watched=True, at=point, error=error))


def test_a_faiss_file_that_cannot_be_written_loses_nothing(life: Life) -> None:
    point = life.outcomes[0].points.index("write flat.faiss.partial") + 1
    outcome = life.disturbed(0, watched=True, at=point, error=errno.ENOSPC)
    assert check_sentence(outcome)
    assert "flat.faiss: cannot be written (No space left on device): make room" in outcome.words


def test_a_passages_file_that_finds_no_room_loses_nothing(life: Life) -> None:
    for pages in (3, 7):
        outcome = life.disturbed(0, watched=True, pages=pages)
        assert check_sentence(outcome)
        assert "cannot be written (database or disk is full): make room" in outcome.words


@pytest.mark.crash
@EVERY_STEP
def test_every_failing_call_loses_nothing(life: Life, tally: Tally, step: int) -> None:
    every = share(failures(life, step), step)
    for point, error in every:
        check_sentence(life.disturbed(step, watched=True, at=point, error=error))
    tally.add(step, "one call fails", len(every))


@pytest.mark.crash
@EVERY_STEP
def test_a_disk_full_from_any_point_on_loses_nothing(life: Life, tally: Tally, step: int) -> None:
    every = [point for point, error in failures(life, step) if error == errno.ENOSPC]
    chosen = share(every, step)
    for point in chosen:
        full = {"at": point, "error": errno.ENOSPC, "lasting": True}
        assert check_sentence(life.disturbed(step, watched=True, **full))
    tally.add(step, "disk full from there on", len(chosen))


@pytest.mark.crash
@EVERY_STEP
def test_files_that_cannot_grow_further_lose_nothing(life: Life, tally: Tally, step: int) -> None:
    limits = range(0, life.largest_file(step) + BYTES_APART, BYTES_APART)
    ended = 0
    for limit in share(limits, step):
        ended += check_sentence(life.disturbed(step, bytes=limit, kill=False))
    for pages in share(range(1, 12), step):
        ended += check_sentence(life.disturbed(step, watched=True, pages=pages))
    tally.add(step, "a file cannot grow", ended)
