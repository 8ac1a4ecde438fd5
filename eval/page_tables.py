"""The tables and findings of a page of results as HTML: means, notes, comparisons."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from .charts import Line, interval_svg, swatch
from .comparison import over_same_queries
from .page_data import TIE, names_of_measures
from .results import Difference, RunResult

_NONE = "\u2013"
_LEFT = ' class="word"'


def means_table(results: Sequence[RunResult]) -> str:
    """A row a system, a column a measure; the best of a column is bold and has a mark."""
    measures = names_of_measures(results)
    means = {measure: [_mean(result, measure) for result in results] for measure in measures}
    unmarked = [each for each in measures if not over_same_queries(results, each)]
    timed = any(result.milliseconds is not None for result in results)
    heads = ["System", "Queries", *measures, *(["ms per query"] if timed else [])]
    rows = []
    for place, result in enumerate(results):
        cells = [f"<td>{result.queries:,}</td>"]
        cells += [
            _mean_cell(means[measure], place, marks=measure not in unmarked) for measure in measures
        ]
        if timed:
            time = result.milliseconds
            cells.append(f"<td>{_NONE if time is None else f'{time:,.1f}'}</td>")
        rows.append(f"<tr>{_system_cell(result.name, place)}{''.join(cells)}</tr>")
    about = "Mean over the queries. ★ marks the best of a column." if len(results) > 1 else ""
    if unmarked:
        about += f" No best by {escape(', '.join(unmarked))}: not all over the same queries."
    return f'<p class="about">{about}</p>{_table("Means", heads, rows)}'


def notes_list(results: Sequence[RunResult], notes: Mapping[str, Sequence[str]]) -> str:
    """The sentences of each system, in the order of the results; empty where there are none."""
    names = dict.fromkeys([*(result.name for result in results), *notes])
    blocks = []
    for name in names:
        sentences = "".join(f'<li dir="auto">{escape(note)}</li>' for note in notes.get(name, ()))
        if sentences:
            blocks.append(f'<h3 dir="auto">{escape(name)}</h3>\n<ul class="notes">{sentences}</ul>')
    return "\n".join(blocks)


def differences_table(
    results: Sequence[RunResult], differences: Sequence[Difference], confidence: float
) -> str:
    """A row a comparison, its interval drawn on one axis for all rows of a measure."""
    places = {result.name: place for place, result in enumerate(results)}
    reach: dict[str, float] = {}
    for each in differences:
        longest = max(abs(each.low), abs(each.high), abs(each.difference), 1e-9)
        reach[each.measure] = max(reach.get(each.measure, 0.0), longest)
    heads = ["System", "Measure", "Difference", f"{100 * confidence:g} % interval", ""]
    heads += ["p, t-test", "p, randomised", "Better", "Alike", "Worse"]
    rows = [
        f"<tr>{_system_cell(each.system, places.get(each.system, 0))}"
        f"{''.join(_difference_cells(each, reach[each.measure]))}</tr>"
        for each in differences
    ]
    baselines = " or ".join(
        f"<bdi>{escape(name)}</bdi>"
        for name in dict.fromkeys(each.baseline for each in differences)
    )
    about = (
        f"Each system less the baseline, {baselines}, over the same queries. The interval is a "
        "bootstrap over the queries. The p-values are two-sided and adjusted for the number of "
        "systems (Holm); those below 0.05 are bold. The last columns count queries."
    )
    return f'<p class="about">{about}</p>{_table("Comparisons", heads, rows)}'


def signed(value: float) -> str:
    """With four digits and its sign."""
    if round(value, 4) == 0:
        return "0.0000"
    return f"{value:+.4f}".replace("-", "\u2212")


def _table(name: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(
        f'<th scope="col"{_LEFT if head == "Measure" else ""}>{escape(head)}</th>'
        if head
        else "<td></td>"
        for head in heads
    )
    body = "\n".join(rows)
    return (
        f'<div class="wide" role="region" aria-label="{escape(name)}" tabindex="0"><table>'
        f"<thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _system_cell(name: str, place: int) -> str:
    mark = swatch(Line(name=name, points=(), style=place, marks=True))
    return f'<th scope="row" class="name"><span>{mark}<bdi>{escape(name)}</bdi></span></th>'


def _mean(result: RunResult, measure: str) -> float:
    return result.mean(measure) if result.values.get(measure) else math.nan


def _mean_cell(means: Sequence[float], place: int, *, marks: bool) -> str:
    mean = means[place]
    if math.isnan(mean):
        return f"<td>{_NONE}</td>"
    best = max(value for value in means if not math.isnan(value))
    if not marks or len(means) == 1 or mean < best - TIE:
        return f"<td>{mean:.4f}</td>"
    return f'<td><span class="star" role="img" aria-label="best">★</span> <b>{mean:.4f}</b></td>'


def _difference_cells(each: Difference, reach: float) -> Iterator[str]:
    yield f'<td class="word"><bdi>{escape(each.measure)}</bdi></td>'
    yield f"<td><b>{signed(each.difference)}</b></td>"
    yield f"<td>{signed(each.low)} to {signed(each.high)}</td>"
    yield f"<td>{interval_svg(each.low, each.difference, each.high, reach)}</td>"
    for p_value in (each.t_test, each.randomisation):
        text = "&lt; 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
        yield f"<td>{f'<b>{text}</b>' if p_value < 0.05 else text}</td>"
    for count in (each.wins, each.ties, each.losses):
        yield f"<td>{count:,}</td>"
