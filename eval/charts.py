"""Charts as SVG text: axes with units and ticks, lines that are told apart without colours, bars.

Colours, dashes and fonts are classes, which the page around the charts defines for light and dark.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

STYLES = 6
"""How many styles of lines there are: classes ``line0`` to ``line5``."""

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 26, 38
_MOST_POINTS = 600
_MARK = 3.6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points by x. ``faint`` lines are background: their outliers do not stretch the axis.

    ``best`` is a point to ring. Lines of several styles in one chart have marks or dashes.
    ``labels`` are short texts at the marks, one a point, to their left and above or, for lines
    with ``labels_below``, to their right and below: the sides that a rising line leaves free.
    """

    name: str
    points: Points
    style: int = 0
    faint: bool = False
    marks: bool = False
    dashed: bool = False
    best: tuple[float, float] | None = None
    labels: Sequence[str] = ()
    labels_below: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """``unit`` is of y, ``across`` of x, whose axis goes from ``first`` to ``last``.

    A logarithmic one goes on to the round numbers around both, which are above 0.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    last: float
    from_zero: bool = False
    across: str = "step"
    first: float = 0.0
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One bar a value, the largest first; ``across`` is what is counted along the axis of x."""

    title: str
    unit: str
    across: str
    values: Sequence[float]


class _Scale(NamedTuple):
    """Numbers from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def svg(chart: Chart, number: int) -> str:
    """The chart; ``number`` tells it from the others of its page."""
    low, high = _range(chart)
    y_ticks = ticks(low, high, 5)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    x = _across(chart)
    y = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    area = f'x="{_LEFT}" y="{_TOP}" width="{x.end - _LEFT}" height="{y.start - _TOP}"'
    return "\n".join(
        (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="chart{number}">',
            f'<title id="chart{number}">{escape(_told(chart))}</title>',
            f'<clipPath id="area{number}"><rect {area}/></clipPath>',
            *_axes(chart.unit, chart.across, x, y, y_ticks),
            f'<g clip-path="url(#area{number})">',
            *(_path(line, x, y) for line in chart.lines if len(line.points) > 1),
            "</g>",
            *(mark for line in chart.lines for mark in _marks(line, chart.across, x, y)),
            "</svg>",
        )
    )


def bars_svg(bars: Bars, number: int) -> str:
    """The bars, those above 0 and those below in a look of their own, and how many there are.

    The attributes ``data-start`` and ``data-end`` say where on the axis of x the bars lie.
    """
    values = sorted(bars.values, reverse=True)
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if low == high:
        low, high = -1.0, 1.0
    y_ticks = ticks(low, high, 5)
    x = _Scale(0, max(len(values), 1), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    better, worse = sum(value > 0 for value in values), sum(value < 0 for value in values)
    told = (
        f"{bars.title} ({bars.unit}): {better:,} of {len(values):,} above 0, {worse:,} below; "
        f"from {high if better else 0:+.4g} to {low if worse else 0:+.4g}"
    )
    return "\n".join(
        (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="chart{number}" '
            f'data-start="{x.start}" data-end="{x.end}">',
            f'<title id="chart{number}">{escape(told)}</title>',
            *_axes(bars.unit, bars.across, x, y, y_ticks),
            *_bar_paths(values, x, y),
            f'<path class="axis" d="M{x.start} {y(0)}H{x.end}"/>',
            f'<text class="count rise" x="{x.end}" y="{_TOP + 4}" text-anchor="end">'
            f"{better:,} better</text>",
            f'<text class="count fall" x="{_LEFT + 8}" y="{y.start - 8}">{worse:,} worse</text>',
            "</svg>",
        )
    )


def interval_svg(low: float, middle: float, high: float, reach: float) -> str:
    """An interval and what is in it, on an axis from ``-reach`` to ``reach`` with a mark at 0."""
    x = _Scale(-reach, reach, 4, 136)
    style = 2 if low <= 0 <= high else 0 if middle > 0 else 1
    look = {0: "line0", 1: "line1", 2: "line5"}[style]
    return (
        '<svg class="interval" viewBox="0 0 140 18" aria-hidden="true">'
        f'<path class="axis" d="M{x(0)} 1V17"/>'
        f'<path class="line {look}" d="M{x(low)} 9H{x(high)}M{x(low)} 5v8M{x(high)} 5v8"/>'
        f'<circle class="mark {look}" cx="{x(middle)}" cy="9" r="3.6"/></svg>'
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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, both above 0, that stand well apart on a log axis."""
    return _rounds(low, high, (1, 2, 5) if high / low <= 1001 else (1,))


def label(value: float, step: float) -> str:
    """``value`` with as many digits as tell it from its neighbours at a distance of ``step``."""
    if abs(value) < step / 2:
        return "0"
    if step < 1e-3:
        return re.sub(r"e([-+])0*", r"e\1", f"{value:.2g}").replace("e+", "e")
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


def _across(chart: Chart) -> _Scale:
    """The scale of x."""
    if not chart.logarithmic:
        return _Scale(chart.first, max(chart.last, chart.first + 1), _LEFT, _WIDTH - _RIGHT)
    low, high = chart.first, chart.last
    around = _rounds(low / 10, high * 10, (1, 2, 5))
    low = max(value for value in around if value <= low * (1 + 1e-9))
    high = min(value for value in around if value >= high * (1 - 1e-9))
    if low == high:
        low, high = low / 2, high * 2
    return _Scale(low, high, _LEFT, _WIDTH - _RIGHT, True)


def _rounds(low: float, high: float, leaders: Sequence[int]) -> list[float]:
    """Each leader times a power of ten, from ``low`` to ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # below 1 by division, which rounds once: 2 / 10 is 0.2
    rounds = [
        leader * 10.0**power if power >= 0 else leader / 10.0**-power
        for power in powers
        for leader in leaders
    ]
    edge = 1 + 1e-9
    return [value for value in rounds if low / edge <= value <= high * edge]


def _axes(unit: str, across: str, x: _Scale, y: _Scale, y_ticks: Sequence[float]) -> Iterator[str]:
    for value in y_ticks:
        at = y(value)
        yield f'<path class="grid" d="M{_LEFT} {at}H{x.end}"/>'
        text = label(value, y_ticks[1] - y_ticks[0])
        yield f'<text class="tick" x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{text}</text>'
    for value, text in _x_ticks(x):
        at = x(value)
        yield f'<path class="axis" d="M{at} {y.start}v4"/>'
        yield f'<text class="tick" x="{at}" y="{y.start + 17}" text-anchor="middle">{text}</text>'
    yield f'<path class="axis" d="M{_LEFT} {y.start}H{x.end}"/>'
    yield (
        f'<text class="unit" x="{x.end}" y="{_HEIGHT - 5}" text-anchor="end">'
        f"{escape(across)}</text>"
    )
    yield f'<text class="unit" x="4" y="13">{escape(unit)}</text>'


def _x_ticks(x: _Scale) -> Iterator[tuple[float, str]]:
    if x.logarithmic:
        for value in log_ticks(x.low, x.high):
            yield value, label(value, value) if value >= 1e4 else f"{value:,.4g}"
        return
    steps = ticks(x.low, x.high, 6)
    for value in steps:
        if x.low <= value <= x.high and value == int(value):
            yield value, label(value, max(1.0, steps[1] - steps[0]))


def _bar_paths(values: Sequence[float], x: _Scale, y: _Scale) -> Iterator[str]:
    """Neighbours that would share a pixel are one bar, as long as the longest of them."""
    each = max(1, math.ceil(len(values) / (x.end - x.start)))
    gap = 0.2 * each if len(values) < (x.end - x.start) / 4 else 0.0
    for look, sign in (("rise", 1), ("fall", -1)):
        words = []
        for start in range(0, len(values), each):
            longest = max(sign * value for value in values[start : start + each])
            if longest > 0:
                end = x(min(start + each, len(values)) - gap / 2)
                words.append(f"M{x(start + gap / 2)} {y(0)}V{y(sign * longest)}H{end}V{y(0)}")
        yield f'<path class="{look}" d="{"".join(words)}"/>'


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


def _marks(line: Line, across: str, x: _Scale, y: _Scale) -> Iterator[str]:
    if not line.marks and len(line.points) > 1:
        return
    for at, value in thinned(line.points):
        if math.isfinite(value):
            said = f"{line.name}, {across} {at:{',.0f' if at == int(at) else ',.4g'}}: {value:.4g}"
            yield _mark(line.style, x(at), y(value), said)
    for (at, value), text in zip(line.points, line.labels, strict=False):
        if math.isfinite(value):
            right, down, anchor = (6, 15, "start") if line.labels_below else (-6, -7, "end")
            place = f'x="{round(x(at) + right, 1)}" y="{round(y(value) + down, 1)}"'
            look = f'class="point text{line.style % STYLES}" text-anchor="{anchor}"'
            yield f"<text {look} {place}>{escape(text)}</text>"
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
    return f"{chart.title} ({chart.unit}) by {chart.across}: {'; '.join(ends) or 'no values'}"
