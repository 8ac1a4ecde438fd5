"""Line charts as SVG text: axes with units and ticks, lines that are told apart without colours.

Colours, dashes and fonts are classes, which the page around the charts defines for light and dark.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from .progress import short_number

STYLES = 6
"""How many styles of lines there are: classes ``line0`` to ``line5``."""

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 26, 38
_MOST_POINTS = 600
_MARK = 3.6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points by x. ``faint`` lines are background: their outliers do not stretch the axis.

    ``best`` is a point to ring. Lines of several styles in one chart have marks or dashes.
    """

    name: str
    points: Points
    style: int = 0
    faint: bool = False
    marks: bool = False
    dashed: bool = False
    best: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """``unit`` is of y; ``last`` is where the axis of x, which begins at 0, ends."""

    title: str
    unit: str
    lines: Sequence[Line]
    last: float
    from_zero: bool = False


class _Scale(NamedTuple):
    """Numbers from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def svg(chart: Chart, number: int) -> str:
    """The chart; ``number`` tells it from the others of its page."""
    low, high = _range(chart)
    y_ticks = ticks(low, high, 5)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    x = _Scale(0, max(chart.last, 1), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    area = f'x="{_LEFT}" y="{_TOP}" width="{x.end - _LEFT}" height="{y.start - _TOP}"'
    return "\n".join(
        (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="chart{number}">',
            f'<title id="chart{number}">{escape(_told(chart))}</title>',
            f'<clipPath id="area{number}"><rect {area}/></clipPath>',
            *_axes(chart, x, y, y_ticks),
            f'<g clip-path="url(#area{number})">',
            *(_path(line, x, y) for line in chart.lines if len(line.points) > 1),
            "</g>",
            *(mark for line in chart.lines for mark in _marks(line, x, y)),
            "</svg>",
        )
    )


def swatch(line: Line) -> str:
    """The line's look in a legend."""
    shown = f'<path d="M1 6H33" class="{_classes(line)}"/>'
    if line.marks:
        shown += _mark(line.style, 17, 6, "")
    return f'<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true">{shown}</svg>'


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers, some ``about`` of them, from at or below ``low`` to at or above ``high``."""
    exact = (high - low) / about
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(round_one * power for round_one in (1, 2, 5, 10) if round_one * power >= exact)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def label(value: float, step: float) -> str:
    """``value`` with as many digits as tell it from its neighbours at a distance of ``step``."""
    if abs(value) < step / 2:
        return "0"
    if step < 1e-3:
        return short_number(value)
    for unit, word in ((1e6, "M"), (1e3, "k")):
        if step >= unit:
            return f"{value / unit:,.0f}{word}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most some hundreds of the points: the lowest and highest of each run of neighbours."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        run = points[start : start + size]
        kept += sorted({min(run, key=_height), max(run, key=_height)})
    return kept


def _height(point: tuple[float, float]) -> float:
    return -math.inf if math.isnan(point[1]) else point[1]


def _range(chart: Chart) -> tuple[float, float]:
    """What the axis of y must show: every line, of faint ones the middle 98 %."""
    seen: list[float] = []
    for line in chart.lines:
        values = sorted(value for _, value in line.points if math.isfinite(value))
        cut = len(values) // 100 if line.faint else 0
        seen += values[cut : len(values) - cut]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if chart.from_zero:
        low = min(low, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        spread = abs(high) / 2 or 0.5
        low, high = (low if chart.from_zero else low - spread), high + spread
    return low, high


def _axes(chart: Chart, x: _Scale, y: _Scale, y_ticks: Sequence[float]) -> Iterator[str]:
    for value in y_ticks:
        at = y(value)
        yield f'<path class="grid" d="M{_LEFT} {at}H{x.end}"/>'
        text = label(value, y_ticks[1] - y_ticks[0])
        yield f'<text class="tick" x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{text}</text>'
    steps = ticks(x.low, x.high, 6)
    whole = [value for value in steps if value <= x.high and value == int(value)]
    for value in whole:
        at = x(value)
        yield f'<path class="axis" d="M{at} {y.start}v4"/>'
        text = label(value, max(1.0, steps[1] - steps[0]))
        yield f'<text class="tick" x="{at}" y="{y.start + 17}" text-anchor="middle">{text}</text>'
    yield f'<path class="axis" d="M{_LEFT} {y.start}H{x.end}"/>'
    yield f'<text class="unit" x="{x.end}" y="{_HEIGHT - 5}" text-anchor="end">step</text>'
    yield f'<text class="unit" x="4" y="13">{escape(chart.unit)}</text>'


def _path(line: Line, x: _Scale, y: _Scale) -> str:
    """The line, with a gap where a value is not finite."""
    words = []
    pen = "M"
    for at, value in thinned(line.points):
        if math.isfinite(value):
            words.append(f"{pen}{x(at)} {y(value)}")
            pen = "L"
        else:
            pen = "M"
    return f'<path class="{_classes(line)}" d="{"".join(words)}"/>'


def _marks(line: Line, x: _Scale, y: _Scale) -> Iterator[str]:
    if not line.marks and len(line.points) > 1:
        return
    for at, value in thinned(line.points):
        if math.isfinite(value):
            said = f"{line.name}, step {at:,.0f}: {value:.4g}"
            yield _mark(line.style, x(at), y(value), said)
    if line.best is not None:
        at, value = line.best
        yield f'<circle class="best line{line.style % STYLES}" cx="{x(at)}" cy="{y(value)}" r="8"/>'


def _mark(style: int, x: float, y: float, said: str) -> str:
    """A dot, a square, a triangle or a diamond with what is said when it is pointed at."""
    r = _MARK
    shape = (
        f"M{x - r} {y}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r} {y - r}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x} {y - r - 1}l{r + 1} {2 * r + 1}h{-2 * r - 2}z",
        f"M{x} {y - r - 1}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
    )[style % 4]
    title = f"<title>{escape(said)}</title>" if said else ""
    return f'<path class="mark line{style % STYLES}" d="{shape}">{title}</path>'


def _classes(line: Line) -> str:
    style = line.style % STYLES
    return f"line line{style}{' faint' if line.faint else f' dash{style}' if line.dashed else ''}"


def _told(chart: Chart) -> str:
    """The chart in words, for who cannot see it."""
    ends = []
    for line in chart.lines:
        values = [value for _, value in line.points if math.isfinite(value)]
        if values and not line.faint:
            ends.append(f"{line.name} from {values[0]:.4g} to {values[-1]:.4g}")
    return f"{chart.title} ({chart.unit}) over steps: {'; '.join(ends) or 'no values'}"
