"""The page of curves read back as HTML and SVG, and the figures of a run worked out by hand."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.eval.charts import Chart, Line, label, svg, thinned, ticks
from rocketrank.eval.page_style import STYLE
from rocketrank.training.curves import summary, write_curves
from rocketrank.training.progress import Entry, MetricsLog, StepEntry, ValidationEntry

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br"}


def step(number: int, total: float = 1.0, **changes: Any) -> StepEntry:
    entry = StepEntry(
        step=number,
        elapsed=2.0 * number,
        losses={"supervised": total / 2, "total": total, "contrastive": 0.0},
        learning_rate={"retriever": 2e-5, "reranker": 1e-5},
        queries_per_second=12.0,
        tokens_per_second=9000.0,
        padding=0.1,
        seconds={"forward": 1.0, "backward": 3.0},
    )
    return entry._replace(**changes)


def validation(number: int, retriever: float, both: float) -> ValidationEntry:
    systems = {"retriever": {"nDCG@10": retriever}, "two_stages": {"nDCG@10": both}}
    return ValidationEntry(number, 2.0 * number + 1, systems)


RUN: list[Entry] = [
    validation(0, 0.5, 0.4),
    step(10, 2.0),
    validation(10, 0.75, 0.6),
    step(20, 1.0),
    validation(20, 0.75, 0.8),
]


def log(folder: Path, entries: Sequence[Entry]) -> Path:
    with MetricsLog(folder / "metrics.jsonl") as opened:
        for entry in entries:
            opened.write(entry)
    return folder / "metrics.jsonl"


def page(folder: Path, entries: Sequence[Entry], title: str = "a run") -> str:
    write_curves(log(folder, entries), folder / "curves.html", title)
    return (folder / "curves.html").read_text()


def drawings(text: str) -> list[ElementTree.Element]:
    """The charts of a page, without the swatches of legends; raises where one is not XML."""
    found = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    roots = [
        ElementTree.fromstring(one.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"')) for one in found
    ]
    return [root for root in roots if root.get("role") == "img"]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[0-9.]+) (-?[0-9.]+)", path)]


class Balance(HTMLParser):
    """Finds elements that are not closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = page(tmp_path, RUN)
    parsed = Balance()
    parsed.feed(text)
    assert parsed.open == []
    assert not {"src", "href", "onload"} & {name for name, _ in parsed.attributes}
    assert "<script" not in text
    assert "http" not in text
    assert set(re.findall(r"url\((.)|@import", text)) == {"#"}


def test_a_title_is_text_and_no_markup(tmp_path: Path) -> None:
    text = page(tmp_path, RUN, title='<b>"run" & more')
    assert "<h1>&lt;b&gt;&quot;run&quot; &amp; more</h1>" in text
    assert "<b>&quot;" not in text


def test_every_chart_has_axes_with_units_and_a_description(tmp_path: Path) -> None:
    charts = drawings(page(tmp_path, RUN))
    assert len(charts) == 1 + 2 + 4  # validation, losses, rates and speeds
    for chart in charts:
        units = [one.text for one in chart.iter(f"{SVG}text") if one.get("class") == "unit"]
        labels = [one.text for one in chart.iter(f"{SVG}text") if one.get("class") == "tick"]
        assert len(units) == 2
        assert units[0] == "step"
        assert len(labels) >= 6
        assert len(set(labels)) > len(labels) / 2
        title = chart.find(f"{SVG}title")
        assert title is not None
        assert title.get("id") == chart.get("aria-labelledby")


def test_no_name_is_there_twice_on_a_page(tmp_path: Path) -> None:
    names = re.findall(r' id="([^"]+)"', page(tmp_path, RUN))
    assert len(names) == len(set(names)) == 2 * 7


def test_points_lie_where_the_ticks_of_the_axes_say() -> None:
    line = Line(name="retriever", points=[(0, 0.0), (50, 0.25), (100, 1.0)], marks=True)
    text = svg(Chart(title="t", unit="u", lines=[line], last=100), 1)
    (root,) = drawings(text)
    at: dict[str, dict[str, float]] = {"end": {}, "middle": {}}
    for one in root.iter(f"{SVG}text"):
        if one.get("class") == "tick":
            axis = str(one.get("text-anchor"))
            place = one.get("y" if axis == "end" else "x")
            at[axis][str(one.text)] = float(str(place)) - (4 if axis == "end" else 0)
    y, x = at["end"], at["middle"]
    (drawn,) = (one for one in root.iter(f"{SVG}path") if one.get("class") == "line line0")
    first, middle, last = points(str(drawn.get("d")))
    assert first == (x["0"], y["0"])
    assert last == (x["100"], y["1.0"])
    assert middle[0] == pytest.approx((x["0"] + x["100"]) / 2, abs=0.1)
    assert middle[1] == pytest.approx(0.75 * first[1] + 0.25 * last[1], abs=0.1)


def test_a_value_that_is_not_finite_is_a_gap() -> None:
    line = Line(name="loss", points=[(1, 1.0), (2, 2.0), (3, math.nan), (4, 2.0), (5, 1.0)])
    (root,) = drawings(svg(Chart(title="t", unit="u", lines=[line], last=5), 1))
    (drawn,) = (one for one in root.iter(f"{SVG}path") if "line" in str(one.get("class")))
    assert re.sub(r"[^ML]", "", str(drawn.get("d"))) == "MLML"


def test_an_outlier_of_a_faint_line_does_not_flatten_the_others() -> None:
    raw = [(at, 1.0 + at % 2) for at in range(200)]
    raw[50] = (50, 1e6)
    lines = [
        Line(name="raw", points=raw, faint=True),
        Line(name="mean", points=[(0, 1.5), (199, 1.4)]),
    ]
    text = svg(Chart(title="t", unit="u", lines=lines, last=199), 1)
    assert max(float(one) for one in re.findall(r'end">([0-9.]+)</text>', text)) == 2.0


def test_the_best_of_each_system_is_ringed_and_named(tmp_path: Path) -> None:
    text = page(tmp_path, RUN)
    assert "retriever, best 0.7500 at step 10" in text  # the earliest of equal ones
    assert "both stages, best 0.8000 at step 20" in text
    rings = drawings(text)[0].iter(f"{SVG}circle")
    lines = [
        points(str(one.get("d")))
        for one in drawings(text)[0].iter(f"{SVG}path")
        if str(one.get("class")).startswith("line")
    ]
    centres = [(float(str(one.get("cx"))), float(str(one.get("cy")))) for one in rings]
    assert centres == [lines[0][1], lines[1][2]]


def test_lines_of_one_chart_differ_in_shape_or_dash_and_not_in_colour_alone(
    tmp_path: Path,
) -> None:
    systems = {name: {"AP": 0.5} for name in ("retriever", "reranker", "two_stages", "agreement")}
    text = page(tmp_path, [step(1), step(2), ValidationEntry(1, 1.0, systems)])
    validations, _, _, rates, *_ = drawings(text)
    marks = [str(one.get("d")) for one in validations.iter(f"{SVG}path") if one.get("class")]
    shapes = [re.sub(r"^M[0-9. -]+", "", one) for one in marks if one.endswith("z")]
    assert len(set(shapes)) == 4
    looks = [str(one.get("class")) for one in rates.iter(f"{SVG}path")]
    assert [one for one in looks if one.startswith("line")] == [
        "line line0 dash0",
        "line line1 dash1",
    ]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_lines_and_text_stand_out_from_their_ground(scheme: int) -> None:
    # contrast as WCAG 2.1 defines it: 3 for graphics, 4.5 for text
    colours = dict(re.findall(r"--(\w+): (#\w+)", STYLE.split("@media")[scheme]))
    for name, least in {"ink": 4.5, "dim": 4.5, **{f"c{at}": 3.0 for at in range(6)}}.items():
        for ground in ("ground", "card"):
            pair = sorted(_luminance(colours[each]) for each in (name, ground))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_loss_that_is_always_0_is_left_out(tmp_path: Path) -> None:
    text = page(tmp_path, RUN)
    assert "<figcaption>Supervised</figcaption>" in text
    assert "Contrastive" not in text


def test_every_validation_is_in_the_table_and_the_best_is_bold(tmp_path: Path) -> None:
    rows = re.findall(r"<tr><th>(\d+)</th>(.*?)</tr>", page(tmp_path, RUN))
    assert rows == [
        ("0", "<td>0.5000</td><td>0.4000</td>"),
        ("10", "<td><b>0.7500</b></td><td>0.6000</td>"),
        ("20", "<td>0.7500</td><td><b>0.8000</b></td>"),
    ]


def test_the_time_of_the_steps_is_shown_in_shares(tmp_path: Path) -> None:
    text = page(tmp_path, RUN)
    assert "forward 25.0 %" in text
    assert "backward 75.0 %" in text


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [step(1)],
        [validation(0, 0.5, 0.5)],
        [step(1, math.nan, elapsed=math.nan, seconds={})],
        [step(1), step(2), step(3, learning_rate={}, losses={"total": -1e-9})],
        [step(number, 1e9) for number in range(1, 400)],
        [ValidationEntry(5, 1.0, {"retriever": {"AP": math.nan}, "other_one": {}})],
    ],
    ids=["none", "one", "validation", "nan", "tiny", "constant", "unknown"],
)
def test_any_log_makes_a_page_of_finite_coordinates(tmp_path: Path, entries: list[Entry]) -> None:
    text = page(tmp_path, entries)
    parsed = Balance()
    parsed.feed(text)
    assert parsed.open == []
    for chart in drawings(text):
        for element in chart.iter():
            assert not re.search(r"\bnan\b|\binf\b", " ".join(map(str, element.attrib.values())))
    assert ("The log has no entries yet." in text) == (not entries)


def test_a_long_run_makes_a_small_page(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=20_000)
    text = page(tmp_path, [step(at, float(one)) for at, one in enumerate(numbers, start=1)])
    assert len(text) < 400_000


def test_thinning_keeps_the_lowest_and_the_highest_point() -> None:
    values = np.random.default_rng(1).normal(size=5000)
    values[1234], values[4321] = 99, -99
    kept = thinned([(float(at), float(value)) for at, value in enumerate(values)])
    assert len(kept) <= 600
    assert {(1234.0, 99.0), (4321.0, -99.0)} <= set(kept)
    assert [at for at, _ in kept] == sorted(at for at, _ in kept)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.61, 0.69, [0.6, 0.62, 0.64, 0.66, 0.68, 0.7]),
        (0, 600, [0, 200, 400, 600]),
        (-0.3, 0.5, [-0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        (0, 3e-5, [0, 1e-5, 2e-5, 3e-5]),
    ],
)
def test_ticks_are_round_numbers_around_the_values(
    low: float, high: float, expected: list[float]
) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "distance", "text"),
    [
        (0.62, 0.02, "0.62"),
        (0.5, 0.1, "0.5"),
        (2e-5, 1e-5, "2e-5"),
        (1200, 200, "1,200"),
        (15_000, 5_000, "15k"),
        (3e6, 1e6, "3M"),
        (-1e-17, 0.1, "0"),
    ],
)
def test_labels_have_the_digits_that_tell_neighbours_apart(
    value: float, distance: float, text: str
) -> None:
    assert label(value, distance) == text


def test_the_figures_of_a_run_are_as_worked_out_by_hand(tmp_path: Path) -> None:
    slow = step(30, 4.0, queries_per_second=4.0, tokens_per_second=3000.0, padding=0.4)
    found = summary(log(tmp_path, [*RUN, slow._replace(seconds={"forward": 12.0})]))
    assert found["steps"] == 30
    assert found["elapsed_seconds"] == 60
    assert found["losses"] == {"total": 4.0, "supervised": 2.0}  # so few are not smoothed
    assert found["learning_rate"] == {"retriever": 2e-5, "reranker": 1e-5}
    assert found["validation"] == {
        "retriever": {"nDCG@10": {"first": 0.5, "best": 0.75, "best_step": 10, "last": 0.75}},
        "two_stages": {"nDCG@10": {"first": 0.4, "best": 0.8, "best_step": 20, "last": 0.8}},
    }
    assert found["seconds"] == {"forward": 14.0, "backward": 6.0}
    # 8 seconds at 12 and 12 at 4 queries/s; 72,000 tokens at 10 % and 36,000 at 40 % padding
    assert found["queries_per_second"] == pytest.approx((8 * 12 + 12 * 4) / 20)
    assert found["padding"] == pytest.approx((72 * 0.1 + 36 * 0.4) / 108)


def test_the_last_loss_of_a_long_run_is_smoothed(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(1, 0.2, size=200)
    found = summary(log(tmp_path, [step(at, float(one)) for at, one in enumerate(values)]))
    keep = 1 - 2 / (200 // 50 + 1)
    weights = keep ** np.arange(200)[::-1]
    assert found["losses"]["total"] == pytest.approx(np.average(values, weights=weights))


def test_what_is_not_known_is_null_in_json(tmp_path: Path) -> None:
    entries: list[Entry] = [
        step(1, math.nan),
        ValidationEntry(1, 1.0, {"retriever": {"AP": math.nan}}),
    ]
    found = summary(log(tmp_path, entries))
    assert orjson.loads(orjson.dumps(found)) == found
    assert found["losses"]["total"] is None
    assert found["validation"]["retriever"]["AP"]["best_step"] is None


def test_a_page_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    metrics = log(tmp_path, RUN)
    before = set(tmp_path.iterdir())
    with pytest.raises(RocketRankError, match=r"none/curves\.html: cannot be written"):
        write_curves(metrics, tmp_path / "none" / "curves.html", "a run")
    assert set(tmp_path.iterdir()) == before


def test_a_log_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read"):
        summary(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:1: "):
        write_curves(tmp_path / "bad.jsonl", tmp_path / "curves.html", "a run")
