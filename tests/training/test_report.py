"""What is told of a run while it goes on, on a terminal and in the log."""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from rocketrank.training.loop import StepReport
from rocketrank.training.optimiser import Group
from rocketrank.training.progress import StepEntry, progress_line
from rocketrank.training.recipe import Stage
from rocketrank.training.report import RunReport, fitting_line
from rocketrank.training.step import Losses
from rocketrank.training.validation import Validation

STAGE = Stage(contrastive=1.0)
GROUPS = [Group("retriever", {}, 1e-5), Group("reranker", {}, 3e-5)]
VALIDATION = Validation(
    {"retriever": {"nDCG@10": 0.5, "R@10": 0.75}, "two_stages": {"nDCG@10": 0.625, "R@10": 1.0}},
    0.25,
    None,
    {},
    {},
)


def entry() -> StepEntry:
    losses = {"total": 4.9, "supervised": 1.4, "distillation": 0.1, "contrastive": 3.4}
    rates = {"retriever": 2e-5, "reranker": 3e-5}
    return StepEntry(7, 1.0, losses, rates, 12.5, 9100.0, 0.08, {})


def step(number: int) -> StepReport:
    losses = Losses(4.9, 1.4, 0.1, 3.4, 0.0)
    seconds = {"waiting": 0.5, "gradients": 1.0, "optimiser": 0.5}
    return StepReport(number, losses, 0.5, 1.0, 8, 900, 1000, seconds)


def report(
    folder: Path,
    *,
    step: int | None = None,
    stage: Stage = STAGE,
    shown: bool = False,
    writes: bool = True,
) -> RunReport:
    return RunReport(folder, stage, GROUPS, step=step, steps=9, shown=shown, writes=writes)


def logged(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


def written(folder: Path, steps: Iterable[int], *, resumed: int | None = None) -> list[object]:
    with report(folder, step=resumed) as told:
        for number in steps:
            told.step(step(number))
    return [each["step"] for each in logged(folder)]


def test_the_line_fits_wherever_the_loss_does() -> None:
    for room in range(len("loss 4.900"), 130):
        line = fitting_line(entry(), room)
        assert len(line) <= room
        assert line.startswith("loss 4.900")


def test_what_matters_least_is_left_out_first() -> None:
    whole = progress_line(entry())
    assert fitting_line(entry(), 200) == whole
    lines = dict.fromkeys(fitting_line(entry(), room) for room in range(len(whole), 0, -1))
    parts = "(supervised 1.400, distillation 0.100, contrastive 3.400)"
    rates = "lr 2e-5/3e-5"
    assert [*lines] == [
        f"loss 4.900 {parts}, {rates}, 12 queries/s, 9.1k tokens/s, padding 8%",
        f"loss 4.900 {parts}, {rates}, 12 queries/s, 9.1k tokens/s",
        f"loss 4.900 {parts}, {rates}, 12 queries/s",
        f"loss 4.900, {rates}, 12 queries/s, 9.1k tokens/s, padding 8%",
        f"loss 4.900, {rates}, 12 queries/s, 9.1k tokens/s",
        f"loss 4.900, {rates}, 12 queries/s",
        f"loss 4.900, {rates}",
        "loss 4.900",
    ]


def test_a_step_is_logged_with_the_losses_of_the_stage(tmp_path: Path) -> None:
    stage = replace(STAGE, distillation=0.0)
    with report(tmp_path, stage=stage) as told:
        told.step(step(1))
    (found,) = logged(tmp_path)
    assert found["losses"] == {"total": 4.9, "supervised": 1.4, "contrastive": 3.4}
    assert found["learning_rate"] == {"retriever": 5e-6, "reranker": 1.5e-5}
    assert found["queries_per_second"] == 4.0
    assert found["tokens_per_second"] == 450.0
    assert found["padding"] == pytest.approx(0.1)


def test_a_run_that_goes_on_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    assert written(tmp_path, [1, 2, 3]) == [1, 2, 3]
    assert written(tmp_path, [3, 4], resumed=2) == [1, 2, 3, 4]


def test_a_run_that_begins_anew_replaces_the_log(tmp_path: Path) -> None:
    for value in (0.5, 0.75):  # of two starts, say
        with report(tmp_path) as told:
            told.validation(0, VALIDATION._replace(measures={"retriever": {"nDCG@10": value}}))
            told.step(step(1))
        first, second = logged(tmp_path)
        assert first["validation"] == {
            "retriever": {"nDCG@10": value},
            "agreement": {"Kendall's tau": 0.25},
        }
        assert second["step"] == 1


def test_a_validation_is_logged_and_told_where_no_line_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "rocketrank"), report(tmp_path) as told:
        told.validating()
        told.validation(0, VALIDATION)
    assert caplog.messages == ["step 0: dev nDCG@10: retriever 0.5000, two stages 0.6250"]
    (found,) = logged(tmp_path)
    agreement = {"agreement": {"Kendall's tau": 0.25}}
    assert found["validation"] == VALIDATION.measures | agreement
    assert capsys.readouterr() == ("", "")


def test_a_shown_line_goes_to_standard_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "rocketrank"), report(tmp_path, shown=True) as told:
        told.validating()
        told.validation(0, VALIDATION)
        told.step(step(1))
    said = capsys.readouterr()
    assert said.out == "" and caplog.messages == []
    assert re.search(r"  0% step 0/9 \[\d\d:\d\d<\?\], validating on the dev queries", said.err)
    assert "step 0: dev nDCG@10: retriever 0.5000, two stages 0.6250\n" in said.err
    assert re.search(r" 11% step 1/9 \[\d\d:\d\d<\d\d:\d\d\], loss 4.900, lr 5e-6/1.5e-5", said.err)


def test_only_one_of_several_processes_reports(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with report(tmp_path, shown=True, writes=False) as told:
        told.validating()
        told.validation(0, VALIDATION)
        told.step(step(1))
        told.sync()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == []
