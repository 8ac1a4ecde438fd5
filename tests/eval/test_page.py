"""The page of results read back as HTML, SVG and JSON; positions and tables worked out by hand."""

import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.errors import RocketRankError
from rocketrank.eval.page import CostPoint, write_page
from rocketrank.eval.page_data import as_script_text, pairs_of_systems
from rocketrank.eval.page_plots import recall_plot
from rocketrank.eval.page_style import PAGE_STYLE, STYLE
from rocketrank.eval.results import AnswerMarks, Difference, Findings, RunResult, TopHit

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "input"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "a & b &amp; c",
    "\"double\" 'single' `back`",
    "🚀 \u05e9\u05dc\u05d5\u05dd \u202eright to left",
    "line\u2028and\u2029paragraph\nand \\n \t",
    "${alert(1)}",
)


class Reader(HTMLParser):
    """What a browser would find: elements with their attributes, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.elements[place][2].append(data)

    def all(self, tag: str) -> list[str]:
        return ["".join(words) for name, _, words in self.elements if name == tag]

    def rows(self, table: int) -> list[list[str]]:
        """The texts of the cells of a table's rows."""
        found: list[list[list[str]]] = []
        for name, _, words in self.elements:
            if name == "table":
                found.append([])
            elif name == "tr":
                found[-1].append([])
            elif name in ("th", "td"):
                found[-1][-1].append("".join(words))
        return found[table]

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.all("script")[0])
        return found


def result(name: str, measures: Mapping[str, Sequence[float]], **more: Any) -> RunResult:
    values = {
        measure: {f"q{place}": value for place, value in enumerate(column)}
        for measure, column in measures.items()
    }
    return RunResult(name=name, values=values, **more)


A = result("bm25", {"AP": [0.5, 0.25, 0.0], "RR": [1.0, 0.0, 0.5]}, recall={1: 0.2, 10: 0.5})
B = result("dense", {"AP": [0.5, 0.5, 0.25], "RR": [0.5, 0.0, 0.5]}, recall={1: 0.3, 10: 0.6})
TOP = {
    "q0": (TopHit("p1", 12.5, 2), TopHit("p9", 3.25, None)),
    "q2": (TopHit("p9", 0.125, 0), TopHit("p4", -1.0, -1)),
}
BETTER = Difference(
    "dense", "bm25", "AP", 0.41667, 0.25, 0.16667, -0.01, 0.25, 0.04, 0.00001, 2, 1, 0, ()
)


def page(folder: Path, *results: RunResult, **more: Any) -> str:
    differences = more.pop("differences", ())
    write_page(folder / "page.html", results, differences, **{"title": "a page", **more})
    return (folder / "page.html").read_text("utf-8")


def drawings(text: str) -> list[ElementTree.Element]:
    """The plots of a page, without swatches and intervals; raises where one is not XML."""
    found = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    roots = [
        ElementTree.fromstring(one.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"')) for one in found
    ]
    return [root for root in roots if root.get("role") == "img"]


def title_of(drawing: ElementTree.Element) -> str:
    return str(drawing.findtext(f"{SVG}title"))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = page(tmp_path, A, B, differences=[BETTER], costs=[CostPoint("dense", 0, 5.0, {"AP": 1})])
    found = Reader(text)
    names = {name for _, attributes, _ in found.elements for name in attributes}
    assert found.open == []
    assert not {"src", "href", "srcset", "action"} & names
    assert not [name for name in names if name.startswith("on")]
    assert "http:" not in text
    assert "https:" not in text
    assert set(re.findall(r"url\((.)|@import", text)) == {"#"}


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    found = Reader(page(tmp_path, A, B))
    scripts = [attributes for name, attributes, _ in found.elements if name == "script"]
    assert [one.get("type") for one in scripts] == ["application/json", None]
    digest = b64encode(hashlib.sha256(found.all("script")[1].encode()).digest()).decode()
    policies = [one.get("content") for name, one, _ in found.elements if name == "meta"]
    assert any(f"script-src 'sha256-{digest}'" in str(one) for one in policies)
    assert any("default-src 'none'" in str(one) for one in policies)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_user_wrote_is_text_and_no_markup(tmp_path: Path, text: str) -> None:
    values = {text: {text: 0.5, "other": 0.25}}
    hostile = RunResult(
        name=text, values=values, recall={1: 0.5, 2: 1.0}, top={text: (TopHit(text, 1.0, 1),)}
    )
    plain = RunResult(name="a", values={"AP": {"q": 0.5, "other": 0.25}})

    def elements(one: RunResult, name: str, measure: str, word: str) -> Reader:
        return Reader(
            page(
                tmp_path,
                one,
                RunResult(name="b", values=one.values, recall={1: 0.5}),
                differences=[BETTER._replace(system=name, baseline="b", measure=measure)],
                title=word,
                notes={name: [word]},
                costs=[CostPoint(name, 1, 1.0, {measure: 0.5})],
                queries={word: word},
                passages={word: word},
            )
        )

    found = elements(hostile, text, text, text)
    recall = {1: 0.5, 2: 1.0}
    expected = elements(
        RunResult(name="a", values=plain.values, recall=recall, top={"q": (TopHit("p", 1.0, 1),)}),
        "a",
        "AP",
        "a word",
    )
    assert [(name, set(has)) for name, has, _ in found.elements] == [
        (name, set(has)) for name, has, _ in expected.elements
    ]
    assert found.all("h1") == [text]
    assert found.all("title")[0] == text
    assert found.all("h3") == [text]
    assert found.data()["systems"] == [text, "b"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_every_plot_is_well_formed_xml(tmp_path: Path, text: str) -> None:
    one = RunResult(name=text, values={text: {"q": 1.0}}, recall={1: 0.5, 2: 1.0})
    other = RunResult(name="b", values={text: {"q": 0.5}})
    costs = [CostPoint(text, 1, 1.0, {text: 0.5}), CostPoint(text, 2, 3.0, {text: 0.5})]
    found = drawings(page(tmp_path, one, other, costs=costs))
    assert len(found) == 3
    shown = text.split("\n")[0]  # the parser of XML reads other white space as it likes
    assert shown in title_of(found[0])
    assert all(drawing.get("aria-labelledby") for drawing in found)


def test_the_embedded_data_are_those_of_the_results(tmp_path: Path) -> None:
    other = result("dense", {"AP": [0.1, float("nan"), 1 / 3], "P": [1.0]})
    first = result("bm25", {"AP": [0.5, 0.25, 0.0]}, top=TOP)
    long = "a word " * 200
    data = Reader(
        page(tmp_path, first, other, queries={"q1": "why?"}, passages={"p9": long, "none": "x"})
    ).data()
    assert data["systems"] == ["bm25", "dense"]
    assert data["measures"] == ["AP", "P"]
    assert data["pairs"] == [[1, 0]]
    assert data["queries"] == ["q0", "q1", "q2"]
    assert data["query_texts"] == [None, "why?", None]
    assert data["passages"] == ["p1", "p9", "p4"]
    texts = data["passage_texts"]
    assert (texts[0], texts[2]) == (None, None)
    assert long.startswith(texts[1][:-1])
    assert (texts[1][-1], len(texts[1]) < 400) == ("…", True)
    assert data["values"] == [
        [[0.5, 0.25, 0.0], [None, None, None]],
        [[0.1, None, 1 / 3], [1.0, None, None]],
    ]
    assert data["tops"] == [
        [[[0, 12.5, 2], [1, 3.25, None]], None, [[1, 0.125, 0], [2, -1.0, -1]]],
        [None, None, None],
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE)))
def test_texts_come_back_out_of_a_script_element_as_they_went_in(texts: list[str]) -> None:
    written = as_script_text(texts)
    assert json.loads(written) == texts
    assert not re.search("<|\u2028|\u2029", written)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    assert page(tmp_path, A, B, differences=[BETTER]) == page(tmp_path, A, B, differences=[BETTER])


def test_the_best_means_are_marked_and_those_equal_to_them(tmp_path: Path) -> None:
    same = result("same", {"AP": [0.5, 0.5, 0.25]}, milliseconds=12.34)
    assert Reader(page(tmp_path, A, B, same)).rows(0) == [
        ["System", "Queries", "AP", "RR", "ms per query"],
        ["bm25", "3", "0.2500", "★ 0.5000", "\u2013"],
        ["dense", "3", "★ 0.4167", "0.3333", "\u2013"],
        ["same", "3", "★ 0.4167", "\u2013", "12.3"],
    ]
    assert "★" not in page(tmp_path, A)


def test_a_comparison_is_a_row_with_its_interval_and_p_values(tmp_path: Path) -> None:
    found = Reader(page(tmp_path, A, B, differences=[BETTER], confidence=0.9))
    heads, row = found.rows(1)
    assert "90 % interval" in heads
    assert row[0:4] == ["dense", "AP", "+0.1667", "\u22120.0100 to +0.2500"]
    assert row[5:] == ["0.0400", "< 0.0001", "2", "1", "0"]
    assert "Each system less the baseline, bm25," in "".join(found.all("p"))


def test_notes_stand_under_their_systems_in_the_order_of_the_results(tmp_path: Path) -> None:
    notes = {"dense": ["ties matter"], "bm25": ["2 queries are missing", "3 are unjudged"]}
    found = Reader(page(tmp_path, A, B, notes=notes))
    assert found.all("h3") == ["bm25", "dense"]
    assert found.all("li")[:3] == ["2 queries are missing", "3 are unjudged", "ties matter"]


def test_there_is_a_plot_of_differences_for_each_pair_and_measure(tmp_path: Path) -> None:
    third = result("third", {"AP": [0.0, 0.0, 0.0], "RR": [0.0, 0.0, 0.0]})
    found = Reader(page(tmp_path, A, B, third, differences=[BETTER]))
    plots = [has for name, has, _ in found.elements if has.get("class") == "plot"]
    assert [(one["data-pair"], one["data-measure"], "hidden" in one) for one in plots] == [
        ("0", "0", False),  # those that were compared are seen without a script too
        ("0", "1", False),
        ("1", "0", True),
        ("1", "1", True),
        ("2", "0", True),
        ("2", "1", True),
    ]


def test_pairs_are_those_compared_first_and_then_every_other_once() -> None:
    results = [result(name, {"AP": [0.5]}) for name in "abc"]
    compared = [
        BETTER._replace(system="a", baseline="b"),
        BETTER._replace(system="c", baseline="b"),
        BETTER._replace(system="a", baseline="b", measure="RR"),
    ]
    assert pairs_of_systems(results, compared) == [(0, 1), (2, 1), (2, 0)]
    assert pairs_of_systems(results, []) == [(1, 0), (2, 0), (2, 1)]


def test_quality_against_time_is_drawn_only_where_costs_are_known(tmp_path: Path) -> None:
    costs = [
        CostPoint("dense", 50, 100.0, {"AP": 0.5, "RR": 0.6}),
        CostPoint("dense", 0, 10.0, {"AP": 0.25}),
    ]
    before = [title_of(one) for one in drawings(page(tmp_path, A, B))]
    after = [title_of(one) for one in drawings(page(tmp_path, A, B, costs=costs))]
    assert len(before) == 3
    assert after[:3] == before
    assert [one.split(" (")[0] for one in after[3:]] == ["AP against time", "RR against time"]
    labels = [
        one.text
        for one in drawings(page(tmp_path, A, B, costs=costs))[3].iter(f"{SVG}text")
        if str(one.get("class")).startswith("point")
    ]
    assert labels == ["0", "50"]


@pytest.mark.parametrize(
    "results",
    [
        (),
        (A,),
        (RunResult(name="none", values={}),),
        (RunResult(name="none", values={"AP": {}}), A),
        (A, result("other", {"AP": [0.5]}), result("third", {"P": [1.0]}, recall={5: 0.1})),
        (A, A),
    ],
    ids=["none", "one", "without measures", "without queries", "unlike", "alike"],
)
def test_any_results_make_a_whole_page_of_finite_coordinates(
    tmp_path: Path, results: tuple[RunResult, ...]
) -> None:
    text = page(tmp_path, *results)
    found = Reader(text)
    assert found.open == []
    ids = re.findall(r' id="([^"]+)"', text.split("<script")[0])
    assert len(ids) == len(set(ids))
    for drawing in drawings(text):
        for element in drawing.iter():
            assert not re.search(r"\bnan\b|\binf\b", " ".join(map(str, element.attrib.values())))


def test_a_file_name_that_is_no_unicode_makes_a_page_all_the_same(tmp_path: Path) -> None:
    name = b"r\xffn".decode("utf-8", "surrogateescape")
    found = Reader(page(tmp_path, RunResult(name=name, values={"AP": {"q": 1.0}})))
    assert found.data()["systems"] == ["r?n"]


def test_a_page_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RocketRankError, match=r"none/page\.html: cannot be written"):
        page(tmp_path / "none", A)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_signs_and_signed_numbers_stand_out_from_their_ground(scheme: int) -> None:
    colours: dict[str, str] = {}
    for style in (STYLE, PAGE_STYLE):
        colours |= dict(re.findall(r"--([\w-]+): (#\w+)", style.split("@media")[scheme]))
    pairs = [("good", "good-ground"), ("bad", "bad-ground"), ("ink", "unknown-ground")]
    pairs += [(name, ground) for name in ("c0", "c1") for ground in ("ground", "card")]
    for text, ground in pairs:  # 4.5 for text by WCAG 2.1
        pair = sorted(_luminance(colours[each]) for each in (text, ground))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_axis_of_recall_says_from_which_grade_on_passages_count() -> None:
    def drawn(*results: RunResult) -> str:
        return recall_plot(results, 1)

    graded = replace(A, recall_grade=2)
    assert "mean recall, grade 2 and above" in drawn(graded)
    assert "grade" not in drawn(A, B)
    assert "dense (mean recall)" in drawn(graded, B)
    assert "bm25 (mean recall, grade 2 and above)" in drawn(graded, B)
    by_answers = replace(A, findings=Findings(answers=AnswerMarks()))
    assert "mean top-k accuracy" in drawn(by_answers)
