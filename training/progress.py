"""What a training run says while it goes on: a log of metrics, VisualDL records, a progress line.

``metrics.jsonl`` has one JSON object a line, in the order of the steps::

    {"step":10,"elapsed":31.5,"losses":{"total":0.41,"supervised":0.3},"learning_rate":{"retriever":
     2e-5},"queries_per_second":12.0,"tokens_per_second":9100.0,"padding":0.08,"seconds":{"forward":
     1.2,"backward":2.1}}
    {"step":10,"elapsed":40.2,"validation":{"retriever":{"nDCG@10":0.71},"two_stages":{…}}}

A number that is not finite is ``null`` there and ``nan`` when it is read. VisualDL's records are
made of the same entries.
"""

import logging
import math
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import orjson

from ..data.lines import shown
from ..durable import explained_write, write_durably
from ..errors import DataError, UsageError

_log = logging.getLogger(__name__)

TOTAL = "total"
"""The name of the loss that is the weighted sum of the others."""

_DEPTHS = {"validation": 2, "losses": 1, "learning_rate": 1, "seconds": 1}
_VISUALDL_FILE = "vdlrecords.0000000000.log"  # VisualDL knows its files by the first word


class StepEntry(NamedTuple):
    """The steps since the entry before, or one of them; which is up to the trainer.

    ``losses`` are the parts before their weights and their weighted sum, "total";
    ``learning_rate`` is by model. ``padding`` is a share of all tokens, ``tokens_per_second``
    counts the others. ``seconds`` is the time by what it went to ("tokenising", "forward", …),
    ``elapsed`` that of the whole run so far, without the time in which it was stopped.
    """

    step: int
    elapsed: float
    losses: Mapping[str, float]
    learning_rate: Mapping[str, float]
    queries_per_second: float
    tokens_per_second: float
    padding: float
    seconds: Mapping[str, float]


class ValidationEntry(NamedTuple):
    """Measures on the dev queries after ``step`` steps: system → measure → value.

    Systems are "retriever", "reranker", "two_stages", and "agreement" for what compares the
    orders of the two models.
    """

    step: int
    elapsed: float
    validation: Mapping[str, Mapping[str, float]]


Entry = StepEntry | ValidationEntry


def read_metrics(path: str | Path) -> Iterator[Entry]:
    """The entries of a log. A last line that is not whole, of a run that was killed, is left out.

    Raises UsageError for a file that cannot be opened, DataError for any other bad line.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the name") from None
    return _entries(file, path)


def _entries(file: BinaryIO, path: str | Path) -> Iterator[Entry]:
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _parse(line)
            except (TypeError, ValueError):
                raise DataError(
                    f"{path}:{number}: expected a line of a training log, found "
                    f"{shown(line.decode(errors='replace'))}: remove the line"
                ) from None


def _parse(line: bytes) -> Entry:
    """Raises TypeError for other keys, ValueError for other values."""
    record = orjson.loads(line)
    step = record.pop("step", None) if isinstance(record, dict) else None
    if type(step) is not int:
        raise ValueError(line)
    values = {key: _numbers(value) for key, value in record.items()}
    kind = ValidationEntry if "validation" in values else StepEntry
    for key, value in values.items():
        wanted = _DEPTHS.get(key, 0)
        if not _depths(value) <= {wanted} or isinstance(value, dict) != (wanted > 0):
            raise ValueError(line)
    return kind(step=step, **values)


def _numbers(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _depths(value: object) -> set[int]:
    """How deep the numbers in nested objects lie."""
    if not isinstance(value, dict):
        return {0}
    return {depth + 1 for each in value.values() for depth in _depths(each)}


class MetricsLog:
    """The log of a run, to which it appends. A context manager; one process writes.

    Without ``resume_step`` a log that is there is replaced. With it, what it holds up to that step
    stays, and what a run that was killed has logged after its last checkpoint is dropped, so that
    no step is there twice. ``visualdl`` is a folder for VisualDL's records, which are written anew
    from the log; where they cannot be written, a warning is logged and the run goes on without.
    Raises RocketRankError where the log cannot be written, DataError where it cannot be read.
    """

    def __init__(
        self, path: Path, *, resume_step: int | None = None, visualdl: Path | None = None
    ) -> None:
        self.path = path
        self.elapsed = 0.0
        """Seconds of the run up to its last entry."""
        self._last: dict[type[Entry], int] = {}
        kept = [] if resume_step is None else _kept(path, resume_step)
        with explained_write(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, map(_line, kept), alone=True)
        with explained_write(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._visual = None if visualdl is None else _open_visualdl(visualdl)
        started = time.time() - (kept[-1].elapsed if kept else 0.0)
        self._started = started if math.isfinite(started) else time.time()
        for entry in kept:
            self._note(entry)

    def write(self, entry: Entry) -> None:
        """Append an entry. One of the same kind and step as the last is not written again.

        That happens where a run is resumed between a checkpoint and the validation after it.
        Raises ValueError for a step before the last, RocketRankError where nothing can be written.
        """
        last = self._last.get(type(entry), -1)
        if entry.step < last:
            raise ValueError(f"the entry of step {entry.step} comes after that of step {last}")
        if entry.step == last:
            return
        line = _line(entry)
        end = self._file.seek(0, 2)
        with explained_write(self.path):
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                with suppress(OSError):  # a second word about what could not be written
                    self._file.truncate(end)  # a full disk takes half a line
                raise
        self._note(entry)

    def sync(self) -> None:
        """Make what was written durable: before a checkpoint, whose steps must all be there."""
        with explained_write(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        if self._visual is not None:
            self._visual.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _note(self, entry: Entry) -> None:
        self._last[type(entry)] = entry.step
        if math.isfinite(entry.elapsed):
            self.elapsed = entry.elapsed
        if self._visual is None:
            return
        try:
            self._visual.write(entry, self._started)
        except OSError as error:
            _log.warning("VisualDL's records end at step %d: %s", entry.step, error.strerror)
            self._visual.close()
            self._visual = None


def _kept(path: Path, resume_step: int) -> list[Entry]:
    if not path.exists():
        _log.warning("%s is not there: the log begins after step %d", path, resume_step)
        return []
    return [entry for entry in read_metrics(path) if entry.step <= resume_step]


def _line(entry: Entry) -> bytes:
    return orjson.dumps(entry._asdict(), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


class _VisualRecords:
    """VisualDL's record file, written at once.

    VisualDL's own LogWriter leaves that to a thread, which dies on a full disk: the run would then
    wait for it for ever.
    """

    def __init__(self, folder: Path) -> None:
        """Raises what importing VisualDL raises, and OSError where the file cannot be made."""
        with warnings.catch_warnings(action="ignore"):  # of packages that it imports
            from visualdl.component.base_component import meta_data, scalar
            from visualdl.writer.record_writer import RecordWriter
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / _VISUALDL_FILE, "wb", buffering=0)  # noqa: SIM115
        self._writer = RecordWriter(self._file)
        self._scalar = scalar
        meta = meta_data(display_name=folder.name, walltime=_milliseconds(time.time()))
        self._writer.write(meta.SerializeToString())

    def write(self, entry: Entry, started: float) -> None:
        """The entry's finite numbers, under tags such as "losses/total". Raises OSError."""
        when = _milliseconds(started + entry.elapsed) if math.isfinite(entry.elapsed) else 0
        for tag, value in _tagged(entry._asdict()):
            if tag not in ("step", "elapsed") and math.isfinite(value):
                record = self._scalar(tag.replace("%", ""), value, entry.step, when)
                self._writer.write(record.SerializeToString())

    def close(self) -> None:
        self._file.close()


def _open_visualdl(folder: Path) -> _VisualRecords | None:
    try:
        return _VisualRecords(folder)
    except ModuleNotFoundError as error:
        _log.warning(
            "no VisualDL records are written (%s): they need `pip install visualdl`", error
        )
    except Exception as error:  # such as folders that its import makes in the user's home
        _log.warning("no VisualDL records are written to %s: %s", folder, error)
    return None


def _tagged(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _tagged(value, f"{prefix}{key}/")
        else:
            yield prefix + key, float(value)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def progress_line(entry: Entry) -> str:
    """The entry in one short line, for the end of a progress bar."""
    if isinstance(entry, ValidationEntry):
        return ", ".join(
            f"{system.replace('_', ' ')} {' '.join(_named(values))}"
            for system, values in entry.validation.items()
        )
    parts = [*_named({key: one for key, one in entry.losses.items() if key != TOTAL})]
    total = [f"{entry.losses[TOTAL]:.3f}"] if TOTAL in entry.losses else []
    inside = f"({', '.join(parts)})" if total and parts else ", ".join(parts)
    return ", ".join(
        (
            " ".join(("loss", *total, *([inside] if inside else []))),
            f"lr {'/'.join(_distinct(map(short_number, entry.learning_rate.values())))}",
            f"{_thousands(entry.queries_per_second)} queries/s",
            f"{_thousands(entry.tokens_per_second)} tokens/s",
            f"padding {100 * entry.padding:.0f}%",
        )
    )


def _named(values: Mapping[str, float]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{name.replace('_', ' ')} {value:.3f}"


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def short_number(number: float) -> str:
    """With two digits: 2e-5, 0.0015."""
    return re.sub(r"e([-+])0*", r"e\1", f"{number:.2g}").replace("e+", "e")


def _thousands(number: float) -> str:
    if number >= 10_000:
        return f"{number / 1000:.0f}k" if number < 10_000_000 else f"{number / 1e6:.0f}M"
    if number >= 1000:
        return f"{number / 1000:.1f}k"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"
