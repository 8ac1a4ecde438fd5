"""The plots of a page of results: single queries, recall against depth, quality against time."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from .charts import Bars, Chart, Line, bars_svg, svg, swatch
from .page_data import Pair, differences_by_query, names_of_measures
from .results import RunResult


class CostPoint(NamedTuple):
    """What a system reaches, measure → mean, and takes a query, when it re-ranks ``depth`` hits."""

    system: str
    depth: int
    milliseconds: float
    values: Mapping[str, float]


def pair_name(results: Sequence[RunResult], pair: Pair) -> str:
    return f"{results[pair.of].name} against {results[pair.against].name}"


def difference_plots(
    results: Sequence[RunResult],
    pairs: Sequence[Pair],
    shown: Sequence[Pair],
    controls: str,
    numbers: Iterator[int],
) -> str:
    """One figure with a plot a pair and measure, of which a script shows one at a time.

    Where no script runs, all of ``shown`` can be seen, and ``controls`` cannot.
    """
    plots = []
    for at, pair in enumerate(pairs):
        for place, measure in enumerate(names_of_measures(results)):
            values = differences_by_query(results[pair.of], results[pair.against], measure)
            bars = Bars(
                title=f"Difference of each query, {pair_name(results, pair)}",
                unit=f"difference in {measure}",
                across="queries, the largest gain first",
                values=values,
            )
            hidden = "" if pair in shown else " hidden"
            plots.append(
                f'<div class="plot" data-pair="{at}" data-measure="{place}"{hidden}>'
                f'<p class="over" dir="auto">{escape(pair_name(results, pair))}, '
                f"{escape(measure)}</p>\n{bars_svg(bars, next(numbers))}</div>"
            )
    return (
        f"<figure><figcaption>Difference of each query</figcaption>\n{controls}\n"
        f'{"".join(plots)}\n<p class="over" id="pointed" aria-hidden="true" hidden></p></figure>'
    )


def recall_plot(results: Sequence[RunResult], number: int) -> str:
    """Mean recall against depth, a line a system; empty where no result has it."""
    units = list(dict.fromkeys(_recall_unit(result) for result in results if result.recall))
    one = len(units) == 1
    lines = [
        Line(
            name=result.name if one else f"{result.name} ({_recall_unit(result)})",
            points=sorted((float(depth), value) for depth, value in result.recall.items()),
            style=place,
            dashed=True,
            marks=True,
        )
        for place, result in enumerate(results)
        if result.recall
    ]
    if not lines:
        return ""
    depths = [depth for line in lines for depth, _ in line.points]
    chart = Chart(
        title="Recall against depth",
        unit=units[0] if one else "mean",
        lines=lines,
        first=min(depths),
        last=max(depths),
        logarithmic=True,
        across="depth",
        from_zero=True,
    )
    return _figure(chart, number)


def _recall_unit(result: RunResult) -> str:
    if result.findings.answers is not None:
        return "mean top-k accuracy"
    grade = result.recall_grade
    return f"mean recall, grade {grade} and above" if grade > 1 else "mean recall"


def cost_plots(
    results: Sequence[RunResult], costs: Sequence[CostPoint], numbers: Iterator[int]
) -> str:
    """Quality against time, a plot a measure and a line a system, its depths at the marks."""
    names = dict.fromkeys([*(result.name for result in results), *(each.system for each in costs)])
    styles = {name: place for place, name in enumerate(names)}
    figures = []
    for measure in dict.fromkeys(name for each in costs for name in each.values):
        points = [each for each in costs if measure in each.values]
        times = [each.milliseconds for each in points]
        best = max(points, key=lambda each: each.values[measure]).system
        chart = Chart(
            title=f"{measure} against time",
            unit=f"mean {measure}",
            lines=[
                _cost_line(
                    [each for each in points if each.system == name], measure, style, name != best
                )
                for name, style in styles.items()
                if any(each.system == name for each in points)
            ],
            first=min(times) if min(times) > 0 else 0.0,
            last=max(times),
            logarithmic=min(times) > 0,
            across="milliseconds a query",
        )
        figures.append(_figure(chart, next(numbers), "At the marks: how many hits are re-ranked."))
    return "\n".join(figures)


def _cost_line(points: Sequence[CostPoint], measure: str, style: int, below: bool) -> Line:
    by_depth = sorted(points, key=lambda each: each.depth)
    return Line(
        name=points[0].system,
        points=[(each.milliseconds, each.values[measure]) for each in by_depth],
        style=style,
        dashed=True,
        marks=True,
        labels=[str(each.depth) for each in by_depth],
        labels_below=below,
    )


def _figure(chart: Chart, number: int, about: str = "") -> str:
    entries = "".join(
        f"<li>{swatch(line)}<bdi>{escape(line.name)}</bdi></li>" for line in chart.lines
    )
    said = f'<p class="over">{about}</p>' if about else ""
    return (
        f"<figure><figcaption><bdi>{escape(chart.title)}</bdi></figcaption>{said}\n"
        f'<ul class="legend">{entries}</ul>\n{svg(chart, number)}</figure>'
    )
