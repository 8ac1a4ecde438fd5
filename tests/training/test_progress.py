"""The log of a run through kills and resumptions, VisualDL's records, and the progress line."""

import json
import logging
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.training.progress import (
    Entry,
    MetricsLog,
    StepEntry,
    ValidationEntry,
    progress_line,
    read_metrics,
)


def step(number: int, **changes: Any) -> StepEntry:
    entry = StepEntry(
        step=number,
        elapsed=2.0 * number,
        losses={"total": 1 / (number + 1), "supervised": 0.25},
        learning_rate={"retriever": 2e-5, "reranker": 1e-5},
        queries_per_second=12.0,
        tokens_per_second=9100.0,
        padding=0.08,
        seconds={"forward": 1.5, "backward": 2.5},
    )
    return entry._replace(**changes)


def validation(number: int) -> ValidationEntry:
    systems = {"retriever": {"nDCG@10": 0.5}, "two_stages": {"nDCG@10": 0.625, "MRR@10": 0.75}}
    return ValidationEntry(number, 2.0 * number + 1, systems)


def write(path: Path, *entries: Entry, **options: Any) -> None:
    with MetricsLog(path, **options) as log:
        for entry in entries:
            log.write(entry)


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    entries: list[Entry] = [step(1), step(2), validation(2), step(3)]
    write(tmp_path / "metrics.jsonl", *entries)
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == entries


def test_every_entry_is_one_json_object_on_one_line(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", step(1), validation(1))
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["losses"] == {"total": 0.5, "supervised": 0.25}
    assert second["validation"]["two_stages"]["MRR@10"] == 0.75


def test_an_entry_is_in_the_file_before_the_log_is_closed(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(step(1))
        assert list(read_metrics(log.path)) == [step(1)]
        log.sync()


def test_a_loss_that_is_not_finite_comes_back_as_nan(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", step(1, losses={"total": math.inf}))
    (entry,) = read_metrics(tmp_path / "metrics.jsonl")
    assert isinstance(entry, StepEntry)
    assert math.isnan(entry.losses["total"])


def test_a_resumed_log_is_that_of_a_run_that_was_never_stopped(tmp_path: Path) -> None:
    straight: list[Entry] = [step(1), step(2), validation(2), step(3), step(4), validation(4)]
    write(tmp_path / "straight.jsonl", *straight)
    killed, resumed = straight[:4], straight[3:]
    write(tmp_path / "metrics.jsonl", *killed)
    write(tmp_path / "metrics.jsonl", *resumed, resume_step=2)
    straight_bytes = (tmp_path / "straight.jsonl").read_bytes()
    assert (tmp_path / "metrics.jsonl").read_bytes() == straight_bytes


@pytest.mark.parametrize("lost", [1, 7, 150])
def test_a_half_written_last_line_is_left_out_and_does_not_stay(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, step(1), step(2))
    path.write_bytes(path.read_bytes()[:-lost])
    assert list(read_metrics(path)) == [step(1)]
    write(path, step(2), resume_step=2)
    assert list(read_metrics(path)) == [step(1), step(2)]


def test_a_validation_that_is_repeated_after_a_resumption_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, step(1), validation(1))
    write(path, validation(1), step(2), resume_step=1)
    assert list(read_metrics(path)) == [step(1), validation(1), step(2)]


def test_a_step_before_the_last_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(step(5))
        with pytest.raises(ValueError, match="step 4 comes after that of step 5"):
            log.write(step(4))


def test_without_resumption_an_earlier_log_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", step(1), step(2))
    write(tmp_path / "metrics.jsonl", step(1))
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [step(1)]


def test_the_seconds_of_the_run_go_on_from_the_last_entry_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, step(1), step(2), validation(2), step(3))
    with MetricsLog(path, resume_step=2) as log:
        assert log.elapsed == 5.0


def test_a_log_that_is_not_there_is_begun_at_resumption_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "run" / "metrics.jsonl", step(8), resume_step=7)
    assert list(read_metrics(tmp_path / "run" / "metrics.jsonl")) == [step(8)]
    assert "the log begins after step 7" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"step": 1}\n',
        b'{"step": "1", "elapsed": 1, "validation": {}}\n',
        b'{"step": 1, "elapsed": 1, "validation": {"retriever": 0.5}}\n',
        b'{"step": 1, "elapsed": "x", "validation": {}}\n',
        b'{"step": 1, "elapsed": {}, "validation": {}}\n',
        b'{"step": 1, "elapsed": 1, "validation": {}, "other": 1}\n',
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, step(1))
    path.write_bytes(path.read_bytes() + line + path.read_bytes())
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: expected a line of a training log"):
        list(read_metrics(path))
    kept = path.read_bytes()
    with pytest.raises(DataError, match=":2: "):
        MetricsLog(path, resume_step=9)
    assert path.read_bytes() == kept


def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read"):
        read_metrics(tmp_path / "none.jsonl")


def test_half_a_line_on_a_full_disk_is_taken_back(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from rocketrank.errors import RocketRankError
from rocketrank.training.progress import MetricsLog, ValidationEntry
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with MetricsLog(Path({str(tmp_path / "metrics.jsonl")!r})) as log:
    log.write(ValidationEntry(1, 1.0, {{"retriever": {{"AP": 0.5}}}}))
    try:
        log.write(ValidationEntry(2, 1.0, {{"retriever": {{"AP": 0.5}}}}))
    except RocketRankError as error:
        print(error)
"""
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=source, check=True
    )
    assert "metrics.jsonl: cannot be written (File too large)" in done.stdout
    (whole,) = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert whole.endswith(b"}\n")


def visualdl_scalars(folder: Path) -> dict[str, Any]:
    """What VisualDL's own reader finds in the one file of records in ``folder``."""
    with warnings.catch_warnings(action="ignore"):
        from visualdl import LogReader
    (path,) = folder.iterdir()
    reader = LogReader(file_path=str(path))
    return {
        tag: [(one.id, one.value) for one in reader.get_data("scalar", tag)]
        for tag in reader.get_tags()["scalar"]
    }


def test_visualdl_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("visualdl", exc_type=ImportError)
    folder = tmp_path / "visualdl"
    write(tmp_path / "metrics.jsonl", step(1), step(3), validation(3), visualdl=folder)
    scalars = visualdl_scalars(folder)
    assert scalars["losses/total"] == [(1, 0.5), (3, 0.25)]
    assert scalars["learning_rate/retriever"] == [
        (1, pytest.approx(2e-5)),
        (3, pytest.approx(2e-5)),
    ]
    assert scalars["validation/two_stages/MRR@10"] == [(3, 0.75)]
    assert scalars["seconds/backward"] == [(1, 2.5), (3, 2.5)]


def test_visualdls_records_have_no_step_twice_after_a_resumption(tmp_path: Path) -> None:
    pytest.importorskip("visualdl", exc_type=ImportError)
    path, folder = tmp_path / "metrics.jsonl", tmp_path / "visualdl"
    write(path, step(1), step(2), step(3), visualdl=folder)
    write(path, step(3), step(4), resume_step=2, visualdl=folder)
    assert [number for number, _ in visualdl_scalars(folder)["padding"]] == [1, 2, 3, 4]


def test_a_run_goes_on_without_visualdl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "visualdl", None)
    monkeypatch.setitem(sys.modules, "visualdl.component.base_component", None)
    write(tmp_path / "metrics.jsonl", step(1), visualdl=tmp_path / "visualdl")
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [step(1)]
    assert "pip install visualdl" in caplog.text


def test_a_run_goes_on_where_visualdls_records_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("visualdl", exc_type=ImportError)
    (tmp_path / "visualdl").write_text("a file where the folder should be")
    write(tmp_path / "metrics.jsonl", step(1), visualdl=tmp_path / "visualdl")
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [step(1)]
    assert "no VisualDL records are written" in caplog.text


def test_visualdl_leaves_the_log_handlers_and_warning_filters_as_they_were(tmp_path: Path) -> None:
    pytest.importorskip("visualdl", exc_type=ImportError)
    handlers, filters = list(logging.root.handlers), list(warnings.filters)
    write(tmp_path / "metrics.jsonl", step(1), visualdl=tmp_path / "visualdl")
    assert (logging.root.handlers, warnings.filters) == (handlers, filters)


def test_the_progress_line_has_losses_rate_speed_and_padding() -> None:
    assert progress_line(step(1)) == (
        "loss 0.500 (supervised 0.250), lr 2e-5/1e-5, 12 queries/s, 9.1k tokens/s, padding 8%"
    )


def test_the_progress_line_names_a_rate_once_where_both_models_have_it() -> None:
    entry = step(1, losses={"contrastive": 2.0}, learning_rate={"retriever": 0.5, "reranker": 0.5})
    assert progress_line(entry).startswith("loss contrastive 2.000, lr 0.5, ")


def test_the_progress_line_of_a_validation_has_its_measures() -> None:
    assert progress_line(validation(1)) == (
        "retriever nDCG@10 0.500, two stages nDCG@10 0.625 MRR@10 0.750"
    )


@pytest.mark.parametrize(
    ("speed", "shown"),
    [(0.25, "0.2"), (99.6, "100"), (1234, "1.2k"), (45678, "46k"), (12345678, "12M")],
)
def test_speeds_are_shown_in_few_digits(speed: float, shown: str) -> None:
    assert f" {shown} tokens/s" in progress_line(step(1, tokens_per_second=float(speed)))
