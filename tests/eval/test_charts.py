"""Axes, bars and intervals of charts, worked out by hand; of lines and ticks in test_curves.py."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from rocketrank.eval.charts import Bars, Chart, Line, bars_svg, interval_svg, log_ticks, svg

SVG = "{http://www.w3.org/2000/svg}"


def read(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1))


def paths(root: ElementTree.Element) -> dict[str, str]:
    return {str(one.get("class")): str(one.get("d")) for one in root.iter(f"{SVG}path")}


def places(root: ElementTree.Element) -> list[float]:
    """Where on the axis of x the points of the line lie."""
    return [float(one) for one in re.findall(r"[ML]([0-9.]+) ", paths(root)["line line0"])]


def labels(root: ElementTree.Element) -> dict[str, float]:
    """The axis of x: text → place."""
    return {
        str(one.text): float(str(one.get("x")))
        for one in root.iter(f"{SVG}text")
        if one.get("text-anchor") == "middle"
    }


def test_powers_of_ten_stand_at_equal_distances_on_a_logarithmic_axis() -> None:
    line = Line(name="a", points=[(1, 0.0), (10, 0.5), (100, 0.75), (1000, 1.0)])
    chart = Chart(title="t", unit="u", lines=[line], first=1, last=1000, logarithmic=True)
    root = read(svg(chart, 1))
    at = labels(root)
    # 484 pixels from 58 on: a third of them for a power of ten, log10(2) = 0.30103 of it up to 2
    assert at["1"] == 58
    assert at["2"] == pytest.approx(58 + 484 / 3 * 0.30103, abs=0.06)
    assert at["10"] == pytest.approx(58 + 484 / 3, abs=0.06)
    assert at["100"] == pytest.approx(58 + 2 * 484 / 3, abs=0.06)
    assert at["1,000"] == 58 + 484
    assert places(root) == [at["1"], at["10"], at["100"], at["1,000"]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 1000, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
        (3, 60, [5, 10, 20, 50]),
        (0.02, 0.5, [0.02, 0.05, 0.1, 0.2, 0.5]),
        (1, 1e6, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(
    low: float, high: float, expected: list[float]
) -> None:
    assert log_ticks(low, high) == expected


@pytest.mark.parametrize(("first", "last"), [(100, 100), (3.7, 812), (1e-3, 1e7), (12, 18)])
def test_a_logarithmic_axis_has_room_for_all_its_points(first: float, last: float) -> None:
    line = Line(name="a", points=[(first, 0.5), (last, 0.5)], marks=True)
    chart = Chart(title="t", unit="u", lines=[line], first=first, last=last, logarithmic=True)
    root = read(svg(chart, 1))
    assert all(58 <= place <= 542 for place in places(root))
    assert len(labels(root)) > 1


def test_the_points_of_a_line_carry_their_labels_beside_them() -> None:
    points = [(0, 0.0), (10, 1.0)]
    line = Line(name="a", points=points, marks=True, labels=["zero", "<ten>"], labels_below=True)
    root = read(svg(Chart(title="t", unit="u", lines=[line], last=10), 1))
    found = {
        str(one.text): (float(str(one.get("x"))), float(str(one.get("y"))))
        for one in root.iter(f"{SVG}text")
        if str(one.get("class")).startswith("point")
    }
    assert found == {"zero": (58 + 6, 222 + 15), "<ten>": (542 + 6, 26 + 15)}


def test_each_bar_ends_at_its_value() -> None:
    bars = Bars(title="t", unit="u", across="queries", values=[-1.0, 1.0, 0.0, 0.5])
    root = read(bars_svg(bars, 1))
    # the axis goes from -1 at pixel 222 to 1 at pixel 26; a query has 121 pixels, a fifth is gap
    assert paths(root)["rise"] == "M70.1 124.0V26.0H166.9V124.0M191.1 124.0V75.0H287.9V124.0"
    assert paths(root)["fall"] == "M433.1 124.0V222.0H529.9V124.0"
    counts = [one.text for one in root.iter(f"{SVG}text") if "count" in str(one.get("class"))]
    assert counts == ["2 better", "1 worse"]


def test_the_longest_bars_of_thousands_are_not_lost() -> None:
    values = [0.0] * 6978 + [1.0, -1.0]
    root = read(bars_svg(Bars(title="t", unit="u", across="queries", values=values), 1))
    assert "V26.0" in paths(root)["rise"]
    assert "V222.0" in paths(root)["fall"]


def test_a_plot_of_thousands_of_bars_stays_small() -> None:
    values = [place / 6980 for place in range(6980)]
    assert len(bars_svg(Bars(title="t", unit="u", across="queries", values=values), 1)) < 20_000


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e-9]])
def test_bars_of_nothing_make_a_plot_all_the_same(values: list[float]) -> None:
    root = read(bars_svg(Bars(title="t", unit="u", across="queries", values=values), 1))
    assert paths(root)["fall"] == ""
    assert labels(root)["0"] == 58


def test_an_interval_is_drawn_to_scale_around_0() -> None:
    # from -0.5 at pixel 4 to 0.5 at pixel 136: 0 at 70, 0.25 at 103
    root = read(interval_svg(-0.25, 0.0, 0.25, 0.5))
    assert paths(root)["axis"].startswith("M70.0 ")
    assert paths(root)["line line5"].startswith("M37.0 9H103.0")


@pytest.mark.parametrize(
    ("low", "high", "look"), [(0.1, 0.3, "line0"), (-0.3, -0.1, "line1"), (-0.1, 0.3, "line5")]
)
def test_an_interval_around_0_looks_unlike_a_gain_and_a_loss(
    low: float, high: float, look: str
) -> None:
    (dot,) = read(interval_svg(low, (low + high) / 2, high, 0.5)).iter(f"{SVG}circle")
    assert dot.get("class") == f"mark {look}"
