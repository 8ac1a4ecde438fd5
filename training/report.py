"""What a person sees of a run: the live line, the log, and the page at the end."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from .loop import StepReport
from .optimiser import Group
from .progress import TOTAL, MetricsLog, StepEntry, ValidationEntry, progress_line
from .recipe import Stage
from .validation import Validation

METRICS_LOG = "metrics.jsonl"
_VISUALDL = "visualdl"
_BAR = "{percentage:3.0f}% step {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
_BAR_GROWS = 4
"""Columns that the times and numbers of a bar may grow by until it is drawn again."""
_USUAL_COLUMNS = 80

_log = logging.getLogger(__name__)


class RunReport:
    """Every step and validation, in the log and on standard error. A context manager.

    ``step`` is where the run goes on, None for a new one. The progress line is ``shown`` on a
    terminal only; validations are told there or, elsewhere, by the logger. Only one process of
    several ``writes``.
    """

    def __init__(
        self,
        output: Path,
        stage: Stage,
        groups: Sequence[Group],
        *,
        step: int | None,
        steps: int,
        shown: bool,
        writes: bool = True,
    ) -> None:
        self._stage = stage
        self._rates = {group.name: group.learning_rate for group in groups}
        self._log = (
            MetricsLog(output / METRICS_LOG, resume_step=step, visualdl=output / _VISUALDL)
            if writes
            else None
        )
        self._began = time.monotonic() - (self._log.elapsed if self._log else 0.0)
        self._bar = tqdm(
            total=steps,
            initial=step or 0,
            bar_format=_BAR,
            dynamic_ncols=True,
            disable=not (shown and writes),
        )

    def step(self, report: StepReport) -> None:
        if self._log is None:
            return
        entry = StepEntry(
            step=report.step,
            elapsed=self._elapsed(),
            losses={
                name: value
                for name, value in report.losses._asdict().items()
                if name == "total" or getattr(self._stage, name)
            },
            learning_rate={
                name: rate * report.learning_rate_factor for name, rate in self._rates.items()
            },
            queries_per_second=report.queries / sum(report.seconds.values()),
            tokens_per_second=report.tokens / sum(report.seconds.values()),
            padding=1 - report.tokens / max(1, report.padded_tokens),
            seconds=report.seconds,
        )
        self._log.write(entry)
        if not self._bar.disable:
            bar = {**self._bar.format_dict, "postfix": "", "ncols": None}
            taken = len(self._bar.format_meter(**bar)) + len(", ") + _BAR_GROWS
            self._bar.set_postfix_str(fitting_line(entry, _columns() - taken), refresh=False)
        self._bar.update()

    def validating(self) -> None:
        """A validation begins, which may take minutes."""
        if not self._bar.disable:
            self._bar.set_postfix_str("validating on the dev queries")

    def validation(self, step: int, validation: Validation) -> None:
        if self._log is None:
            return
        measures = dict(validation.measures)
        if validation.agreement is not None:
            measures["agreement"] = {"Kendall's tau": validation.agreement}
        self._log.write(ValidationEntry(step, self._elapsed(), measures))
        means = ", ".join(
            f"{system.replace('_', ' ')} {values[self._stage.select_by]:.4f}"
            for system, values in validation.measures.items()
        )
        text = f"step {step}: dev {self._stage.select_by}: {means}"
        if self._bar.disable:
            _log.info("%s", text)
        else:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.write(text, file=self._bar.fp)

    def sync(self) -> None:
        if self._log is not None:
            self._log.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._log is not None:
            self._log.close()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def fitting_line(entry: StepEntry, room: int) -> str:
    """As much of the progress line as ``room`` columns hold; what matters least is left out."""
    whole = progress_line(entry).split(", ")
    short = progress_line(entry._replace(losses={TOTAL: entry.losses[TOTAL]})).split(", ")
    lines = [whole, whole[:-1], whole[:-2], short, short[:-1], short[:-2], short[:-3], short[:1]]
    joined = [", ".join(line) for line in lines]
    return next((line for line in joined if len(line) <= room), joined[-1])


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS
