"""What a person sees of a run: the live line, the log, and the page at the end."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from .loop import StepReport
from .optimiser import Group
from .progress import MetricsLog, StepEntry, ValidationEntry, progress_line
from .recipe import Stage
from .validation import Validation

METRICS_LOG = "metrics.jsonl"
_VISUALDL = "visualdl"


class RunReport:
    """Every step and validation, in the log and on standard error. A context manager.

    ``step`` is where the run goes on. Only one process of several reports (``writes``).
    """

    def __init__(
        self,
        output: Path,
        stage: Stage,
        groups: Sequence[Group],
        *,
        step: int,
        steps: int,
        shown: bool,
    ) -> None:
        self._stage = stage
        self._rates = {group.name: group.learning_rate for group in groups}
        path = output / METRICS_LOG
        self._log = MetricsLog(
            path, resume_step=step if path.exists() else None, visualdl=output / _VISUALDL
        )
        self._began = time.monotonic() - self._log.elapsed
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=not shown)

    def step(self, report: StepReport) -> None:
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
        self._bar.set_postfix_str(progress_line(entry), refresh=False)
        self._bar.update()

    def validation(self, step: int, validation: Validation) -> None:
        measures = dict(validation.measures)
        if validation.agreement is not None:
            measures["agreement"] = {"Kendall's tau": validation.agreement}
        self._log.write(ValidationEntry(step, self._elapsed(), measures))
        self._log.sync()
        if not self._bar.disable:
            means = ", ".join(
                f"{system} {values[self._stage.select_by]:.4f}"
                for system, values in validation.measures.items()
            )
            self._bar.write(f"step {step}: {self._stage.select_by} {means}", file=self._bar.fp)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._log.close()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began
