"""A training run to look at: one HTML page of curves that needs nothing else, and its figures."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from ..durable import write_durably
from ..eval.charts import STYLES, Chart, Line, Points, svg, swatch
from ..eval.page_style import STYLE
from .progress import TOTAL, Entry, StepEntry, ValidationEntry, read_metrics

_SYSTEMS = {
    "retriever": "retriever",
    "reranker": "re-ranker",
    "two_stages": "both stages",
    "agreement": "agreement",
}
"""How systems are called on the page, in the order of their styles."""


def write_curves(metrics: Path, page: Path, title: str) -> None:
    """Draw the log ``metrics`` into the HTML file ``page``: losses, validation, rates and speed.

    Raises UsageError and DataError for the log, RocketRankError where the page cannot be written.
    """
    steps, validations = _read(metrics)
    figures = _summary(steps, validations)
    last = figures["steps"]
    numbers = count(1)  # of the charts on the page
    body = [
        f"<h1>{escape(title)}</h1>",
        _tiles(figures),
        _section(
            "Validation", _validation_charts(figures["validation"], validations, last), numbers
        ),
        _validation_table(figures["validation"], validations),
        _section("Losses", _loss_charts(steps, last), numbers),
        _section("Learning rate, speed and padding", _speed_charts(steps, last), numbers),
        _time_bar(figures["seconds"]),
    ]
    if not steps and not validations:
        body.append("<p>The log has no entries yet.</p>")
    write_durably(page, [_document(title, body).encode()])


def summary(metrics: Path) -> dict[str, Any]:
    """The figures of a run: what its last, first and best values were, and its mean speed.

    ``losses`` has the smoothed last value by loss; ``validation`` is system → measure → first,
    best, best_step (the earliest of equal ones) and last. Speeds are means over the time of the
    steps, ``padding`` over their tokens; ``seconds`` are totals. What is not known is None.
    """
    known: dict[str, Any] = _known(_summary(*_read(metrics)))
    return known


def _known(value: Any) -> Any:
    """``value`` with None where a number is not finite."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(metrics: Path) -> tuple[list[StepEntry], list[ValidationEntry]]:
    entries = list(read_metrics(metrics))
    return (
        [entry for entry in entries if isinstance(entry, StepEntry)],
        [entry for entry in entries if isinstance(entry, ValidationEntry)],
    )


def _summary(steps: Sequence[StepEntry], validations: Sequence[ValidationEntry]) -> dict[str, Any]:
    times = [sum(entry.seconds.values()) or 1.0 for entry in steps]
    tokens = [entry.tokens_per_second * time for entry, time in zip(steps, times, strict=True)]
    last: StepEntry | None = steps[-1] if steps else None
    ends: list[Entry] = [*steps[-1:], *validations[-1:]]
    return {
        "steps": max((entry.step for entry in ends), default=0),
        "elapsed_seconds": max((entry.elapsed for entry in ends), default=0.0),
        "losses": {name: _smoothed(points)[-1][1] for name, points in _losses(steps).items()},
        "validation": {
            system: {measure: _best(points) for measure, points in measures.items()}
            for system, measures in _validations(validations).items()
        },
        "learning_rate": dict(last.learning_rate) if last else {},
        "queries_per_second": _mean([entry.queries_per_second for entry in steps], times),
        "tokens_per_second": _mean([entry.tokens_per_second for entry in steps], times),
        "padding": _mean([entry.padding for entry in steps], tokens),
        "seconds": {
            part: math.fsum(entry.seconds.get(part, 0.0) for entry in steps)
            for part in _names(entry.seconds for entry in steps)
        },
    }


def _best(points: Points) -> dict[str, float | int | None]:
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    step, value = max(finite, key=lambda point: point[1]) if finite else (None, None)
    return {
        "first": points[0][1],
        "best": value,
        "best_step": None if step is None else int(step),
        "last": points[-1][1],
    }


def _mean(values: Sequence[float], weights: Sequence[float]) -> float | None:
    pairs = [pair for pair in zip(values, weights, strict=True) if all(map(math.isfinite, pair))]
    total = math.fsum(weight for _, weight in pairs)
    return math.fsum(value * weight for value, weight in pairs) / total if total else None


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all mappings, in the order in which they come."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _losses(steps: Sequence[StepEntry]) -> dict[str, Points]:
    """The points of each loss, the whole first; one that is always 0 was left out of the run."""
    found: dict[str, Points] = {}
    for name in sorted(_names(entry.losses for entry in steps), key=lambda name: name != TOTAL):
        points = [(entry.step, entry.losses[name]) for entry in steps if name in entry.losses]
        if name == TOTAL or any(value for _, value in points):
            found[name] = points
    return found


def _validations(entries: Sequence[ValidationEntry]) -> dict[str, dict[str, Points]]:
    """system → measure → points."""
    return {
        system: {
            measure: [
                (entry.step, entry.validation[system][measure])
                for entry in entries
                if measure in entry.validation.get(system, {})
            ]
            for measure in _names(entry.validation.get(system, {}) for entry in entries)
        }
        for system in _names(entry.validation for entry in entries)
    }


def _span(points: Points) -> int:
    """Over how many entries a curve is smoothed: a fiftieth of them."""
    return max(1, len(points) // 50)


def _smoothed(points: Points) -> list[tuple[float, float]]:
    """The exponential mean of values up to each, without the bias of its start at 0."""
    keep = 1 - 2 / (_span(points) + 1)
    mean = weight = 0.0
    smooth = []
    for step, value in points:
        if math.isfinite(value):
            mean = keep * mean + (1 - keep) * value
            weight = keep * weight + (1 - keep)
        smooth.append((step, mean / weight if math.isfinite(value) else math.nan))
    return smooth


def _smooth_chart(title: str, unit: str, points: Points, last: float, style: int = 0) -> Chart:
    smooth = Line(name=title, points=_smoothed(points), style=style)
    raw = Line(name="each entry", points=points, style=style, faint=True)
    lines = [raw, smooth] if _span(points) > 1 else [smooth]
    return Chart(title=title, unit=unit, lines=lines, last=last, from_zero=True)


def _loss_charts(steps: Sequence[StepEntry], last: float) -> list[Chart]:
    return [
        _smooth_chart(
            "Weighted sum" if name == TOTAL else name.replace("_", " ").capitalize(),
            "loss",
            points,
            last,
            style,
        )
        for style, (name, points) in enumerate(_losses(steps).items())
    ]


def _validation_charts(
    figures: Mapping[str, Any], entries: Sequence[ValidationEntry], last: float
) -> list[Chart]:
    """One chart a measure, with a line a system."""
    points = _validations(entries)
    styles = {system: at for at, system in enumerate(_names([_SYSTEMS, points]))}
    charts = []
    for measure in _names(points[system] for system in points):
        lines = []
        for system in (each for each in styles if measure in points.get(each, {})):
            best = figures[system][measure]
            lines.append(
                Line(
                    name=_system(system),
                    points=points[system][measure],
                    style=styles[system],
                    marks=True,
                    best=None if best["best"] is None else (best["best_step"], best["best"]),
                )
            )
        title = measure.replace("_", " ")
        charts.append(Chart(title=title, unit="mean over dev queries", lines=lines, last=last))
    return charts


def _speed_charts(steps: Sequence[StepEntry], last: float) -> list[Chart]:
    if not steps:
        return []
    rates = [
        Line(
            name=_system(model),
            points=[
                (entry.step, entry.learning_rate[model])
                for entry in steps
                if model in entry.learning_rate
            ],
            style=[*_SYSTEMS, model].index(model),
            dashed=True,
        )
        for model in _names(entry.learning_rate for entry in steps)
    ]
    queries = [(entry.step, entry.queries_per_second) for entry in steps]
    tokens = [(entry.step, entry.tokens_per_second) for entry in steps]
    padding = [(entry.step, 100 * entry.padding) for entry in steps]
    return [
        Chart(
            title="Learning rate",
            unit="step size of the optimiser",
            lines=rates,
            last=last,
            from_zero=True,
        ),
        _smooth_chart("Queries", "queries per second", queries, last, 3),
        _smooth_chart("Tokens", "tokens per second, padding not counted", tokens, last, 4),
        _smooth_chart("Padding", "% of all tokens", padding, last, 5),
    ]


def _system(name: str) -> str:
    return _SYSTEMS.get(name, name.replace("_", " "))


def _section(heading: str, charts: Sequence[Chart], numbers: Iterator[int]) -> str:
    if not charts:
        return ""
    figures = "\n".join(map(_figure, charts, numbers))
    return f'<h2>{heading}</h2>\n<div class="charts">\n{figures}\n</div>'


def _figure(chart: Chart, number: int) -> str:
    entries = "".join(
        f"<li>{swatch(line)}{escape(_legend(chart, line))}</li>" for line in chart.lines
    )
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>\n"
        f'<ul class="legend">{entries}</ul>\n{svg(chart, number)}</figure>'
    )


def _legend(chart: Chart, line: Line) -> str:
    if line.best is not None:
        step, value = line.best
        return f"{line.name}, best {value:.4f} at step {step:,.0f}"
    raw = next((each for each in chart.lines if each.faint), None)
    if raw is not None and line is not raw:
        return f"mean of about {_span(raw.points)} entries"
    return line.name


def _tiles(figures: Mapping[str, Any]) -> str:
    """The figures that are looked for first."""
    shown = [("steps", f"{figures['steps']:,}"), ("time", _duration(figures["elapsed_seconds"]))]
    for system, measures in figures["validation"].items():
        measure, values = next(iter(measures.items()), ("", {"best": None}))
        if values["best"] is not None:
            name = f"best {measure.replace('_', ' ')}, {_system(system)}"
            shown.append((name, f"{values['best']:.4f}"))
    for key, name in (("queries_per_second", "queries/s"), ("tokens_per_second", "tokens/s")):
        if figures[key] is not None:
            shown.append((name, f"{figures[key]:,.{0 if figures[key] >= 100 else 1}f}"))
    if figures["padding"] is not None:
        shown.append(("padding", f"{100 * figures['padding']:.1f} %"))
    tiles = (f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in shown)
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _validation_table(figures: Mapping[str, Any], entries: Sequence[ValidationEntry]) -> str:
    """Every validation in numbers, folded; the best of a column is bold."""
    if not entries:
        return ""
    columns = [(system, measure) for system in figures for measure in figures[system]]
    heads = "".join(
        f"<th>{escape(_system(system))}<br>{escape(measure.replace('_', ' '))}</th>"
        for system, measure in columns
    )
    rows = "\n".join(
        f"<tr><th>{entry.step:,}</th>{''.join(_cells(figures, columns, entry))}</tr>"
        for entry in entries
    )
    return (
        "<details><summary>All validations in numbers</summary>"
        f'<div class="wide"><table><tr><th>step</th>{heads}</tr>\n{rows}</table></div></details>'
    )


def _cells(
    figures: Mapping[str, Any], columns: Sequence[tuple[str, str]], entry: ValidationEntry
) -> Iterator[str]:
    for system, measure in columns:
        value = entry.validation.get(system, {}).get(measure, math.nan)
        text = f"{value:.4f}" if math.isfinite(value) else "-"
        best = figures[system][measure]["best_step"] == entry.step
        yield f"<td>{f'<b>{text}</b>' if best else text}</td>"


def _time_bar(seconds: Mapping[str, float]) -> str:
    """What the time of the steps went to, as one bar."""
    parts = {name: one for name, one in seconds.items() if math.isfinite(one) and one > 0}
    total = math.fsum(parts.values())
    if not total:
        return ""
    bar, legend = [], []
    for style, (name, value) in enumerate(parts.items()):
        said = f"{name.replace('_', ' ')} {100 * value / total:.1f} %"
        look = f'class="fill{style % STYLES}"'
        bar.append(
            f'<span {look} style="flex-grow:{value / total:.4f}" title="{escape(said)}"></span>'
        )
        legend.append(f"<li><span {look}></span>{escape(said)}</li>")
    return (
        f'<h2>Time of the steps</h2>\n<div class="bar">{"".join(bar)}</div>\n'
        f'<ul class="legend">{"".join(legend)}</ul>'
    )


def _document(title: str, body: Sequence[str]) -> str:
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head><body>",
            *body,
            "</body></html>\n",
        )
    )
