"""``rq train`` as a user meets it: what it prints, notes and refuses, and how it ends."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rocketrank.cli.train import train
from rocketrank.errors import UsageError
from rocketrank.training.lists import Candidate, RankingList, write_lists

from ..training.small_run import Done, Place, Rq, lists, place, serving, start_model

ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture(scope="module")
def rq(model_cache: Path) -> Iterator[Rq]:
    with serving(model_cache) as server:
        yield server


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path) -> Path:
    return start_model(shared_reference, tmp_path_factory.mktemp("start") / "start")


@pytest.fixture
def here(tmp_path: Path, start: Path) -> Place:
    return place(tmp_path / "place", start)


def stage(rq: Rq, there: Place, *arguments: object, **order: Any) -> Done:
    run = there.folder / "run"
    given = ["train", there.recipe_file, "--lists", there.lists, "--output", run, *arguments]
    return rq(*given, run=str(run), **order)


# What a whole run prints


@pytest.mark.slow
def test_a_run_ends_with_its_figures_and_with_what_to_do_next(rq: Rq, here: Place) -> None:
    done = stage(rq, here)
    assert done.status == 0
    title, header, *systems = done.stdout.splitlines()[:5]
    assert re.fullmatch(r"Dev queries, before training -> after step \d+, the best of 12:", title)
    assert header.split() == ["nDCG@10", "RR@10", "R@10", "R@50"]
    figure = r"0\.\d{4} -> [01]\.\d{4}"
    for name, line in zip(["retriever", "reranker", "two stages"], systems, strict=True):
        assert re.fullmatch(
            rf"  {name} +{figure}  {figure}  1.0000 -> 1.0000  1.0000 -> 1.0000", line
        )
    run = here.folder / "run"
    assert done.stdout.splitlines()[5:] == [
        f"Wrote {run}/retriever and {run}/reranker.",
        f"Curves: {run}/curves.html",
        f"Next: rq index CORPUS --model {run}/retriever --index INDEX",
        f'      rq search "QUESTION" --index INDEX --reranker {run}/reranker --fuse auto',
    ]
    assert [line.partition(":")[2].partition(":")[0] for line in done.stderr.splitlines()] == [
        f" step {step}" for step in (0, 3, 6, 9, 12)
    ]
    again = stage(rq, here)
    assert again.stdout == done.stdout
    assert again.stderr == (
        f"note: {run} holds a finished run of this recipe; nothing was trained\n"
    )


@pytest.mark.slow
def test_a_stage_for_one_model_says_how_to_use_that_model(rq: Rq, here: Place) -> None:
    run = here.folder / "run"
    done = stage(rq, here, "--stage", "reranker", "--set", "reranker.lists_per_step=4")
    assert done.status == 0
    assert done.stdout.splitlines()[-3:] == [
        f"Wrote {run}/reranker.",
        f"Curves: {run}/curves.html",
        f'Next: rq search "QUESTION" --index INDEX --reranker {run}/reranker',
    ]


@pytest.mark.slow
def test_a_run_that_learns_nothing_says_so(rq: Rq, here: Place) -> None:
    settings = ["joint.learning_rate=1e-9", "joint.patience=2", "joint.validate_every=1"]
    done = stage(rq, here, *(word for each in settings for word in ("--set", each)))
    assert done.stdout.splitlines()[:2] == [
        "Stopped early after step 2 of 12, which did not improve on step 0.",
        "Dev queries, before training -> after no step, for none improved on that:",
    ]


@pytest.mark.slow
def test_without_dev_queries_there_are_no_figures(rq: Rq, here: Place) -> None:
    done = stage(rq, here, "--set", "data.dev_share=0", "--set", "joint.epochs=1")
    assert done.status == 0
    assert done.stdout.startswith("Wrote ")
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 100, 120])
def test_the_live_line_fits_the_terminal(rq: Rq, here: Place, columns: int) -> None:
    done = stage(rq, here, columns=columns)
    assert done.status == 0
    pieces = [ESCAPE.sub("", each) for each in re.split(r"[\r\n]+", done.stderr)]
    lines = [each.rstrip() for each in pieces if "% step " in each]
    assert all(len(each) < columns for each in lines)
    assert lines[-1].startswith("100% step 12/12 [")
    steps = [each for each in lines if " loss " in each]
    numbers = r"loss \d+\.\d{3}, lr [\d.e-]+"
    assert steps and all(re.search(numbers, each) for each in steps)
    # no number is cut through
    ends = {
        60: r"(lr [\d.e-]+|queries/s)$",
        100: r"(padding \d+%|tokens/s)$",
        120: r"padding \d+%$",
    }
    assert all(re.search(ends[columns], each) for each in steps)
    assert any(each.endswith("validating on the dev queries") for each in lines)
    validations = [each for each in pieces if each.startswith("step ")]
    assert len(validations) == 5
    assert re.fullmatch(
        r"step 12: dev nDCG@10: retriever [\d.]+, reranker [\d.]+, two stages [\d.]+",
        validations[-1].rstrip(),
    )


@pytest.mark.slow
def test_an_interruption_on_a_terminal_is_answered(rq: Rq, here: Place) -> None:
    done = stage(rq, here, columns=100, after_step=4, signal=signal.SIGINT)
    assert done.status == 143
    said = ESCAPE.sub("", done.stderr)
    assert "note: stopping after this step; interrupt again to stop at once" in said
    assert re.search(r"Stopped after step \d+ of 12, which is kept in ", said)
    assert "Traceback" not in said


# What is noted and refused


@pytest.mark.slow
def test_lists_that_are_dropped_and_dev_queries_that_overlap_are_noted(rq: Rq, here: Place) -> None:
    bare = RankingList("q90", "nothing relevant", (Candidate("p90.1", 0, text="one"),))
    write_lists(here.lists, [*lists(), bare])
    dev = here.folder / "dev.jsonl"
    write_lists(dev, lists(5, first=13))
    done = stage(rq, here, "--dev", dev, "--set", "joint.epochs=0.5")
    assert done.status == 0
    assert done.stderr.splitlines()[:2] == [
        "note: 3 of the 5 dev queries are training queries too: the dev figures flatter",
        f"note: {here.lists}: 1 lists were dropped (1 have no positive and 0 no other candidate)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--dev", "none"], 2, "--dev none is no file: check the name"),
        (["--strict"], 1, "remove them, or leave out --strict to drop them"),
        (["--set", "joint.precision=bf16"], 2, "precision is bf16, but Paddle multiplies on a CPU"),
        (
            ["--set", "models.query_length=999"],
            2,
            "has positions for 130 tokens: write 130 or less",
        ),
        (["--set", "joint.select_by=nDGC@10"], 2, 'unknown measure "nDGC@10"'),
        (["--retriever", "no/such/model"], 2, "no/such/model"),
        (["--seed", "8", "--set", "seed=9"], 2, "seed is given twice, as 8 and as 9: say it once"),
        (["--set", "joint.epoch=3"], 2, 'unknown key "joint.epoch": write "joint.epochs"'),
        (["--set", "joint.epochs"], 2, "expected KEY=VALUE, such as joint.epochs=3"),
        (["--stage", "both"], 2, "'both' is not one of"),
        (["--device", "gpu:0"], 2, "device (gpu:0): 0 GPUs found here"),
        (["--device", "tpu"], 2, "device (tpu) must be cpu, gpu or gpu:N"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    rq: Rq, here: Place, arguments: list[str], status: int, sentence: str
) -> None:
    bare = RankingList("q90", "nothing relevant", (Candidate("p90.1", 0, text="one"),))
    write_lists(here.lists, [*lists(), bare])
    done = stage(rq, here, *arguments)
    *notes, said = done.stderr.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert said.startswith("rq: ") and sentence in said
    assert (done.status, done.stdout) == (status, "")
    assert not (here.folder / "run").exists()


@pytest.mark.slow
def test_another_recipe_in_the_same_folder_is_refused(rq: Rq, here: Place) -> None:
    stage(rq, here, after_step=4)
    done = stage(rq, here, "--set", "joint.epochs=5")
    assert done.status == 2
    assert done.stderr == (
        f"rq: {here.folder}/run holds a run with another recipe (joint.epochs: 4.0 / 5.0, there / "
        "now): go on with the recipe of then, or name another --output\n"
    )


def refused(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(train)
    done = CliRunner().invoke(app, ["scifact-cpu", "--output", "run", *arguments])
    assert isinstance(done.exception, UsageError)
    return str(done.exception)


def test_a_stage_without_lists_is_refused() -> None:
    assert refused() == (
        "a stage needs the lists it trains on: give --lists, or --pipeline to have them mined"
    )


def test_lists_that_are_missing_are_refused() -> None:
    assert refused("--lists", "none.jsonl") == (
        "--lists none.jsonl is no file: mine lists with rq mine, or check the name"
    )
