"""The page of results in a real browser: typed into, clicked on, and read back."""

import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from rocketrank.eval.page import CostPoint, write_page
from rocketrank.eval.results import Difference, RunResult, TopHit

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 120.0  # seconds: other work may leave the browser little of the processors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the PATH"),
]


class Browser:
    """A headless Chromium, spoken to in its DevTools protocol over two pipes.

    ``complaints`` collects what was written to the console and every error that nobody caught.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._read = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []

    def open(self, address: str) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        return self

    def window(self, width: int, height: int, scheme: str = "light") -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.value(script):
            assert time.monotonic() < end, f"in vain: {script}"
            time.sleep(0.05)

    def type(self, text: str) -> None:
        for character in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=character)
            self.call("Input.dispatchKeyEvent", type="keyUp")

    def press(self, key: str, code: int, text: str = "") -> None:
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        session = {} if method.startswith("Target.") else self._session
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], PATIENCE)[0], "the browser is silent"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._read += piece
        first, self._read = self._read.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        if message.get("method") in (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
        ):
            self.complaints.append(first.decode())
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a profile in ``folder``; its DevTools pipes are descriptors 3 and 4."""
    commands_in, commands = os.pipe()
    answers, answers_out = os.pipe()
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += ["--disable-dev-shm-usage", "--disable-background-networking"]
    words += ["--remote-debugging-pipe", f"--user-data-dir={folder}"]
    joined = f'exec 3<&{commands_in} 4>&{answers_out}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", joined, "bash", *words],
        pass_fds=(commands_in, answers_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands_in)
    os.close(answers_out)
    try:
        yield Browser(commands, answers)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(commands)
        os.close(answers)


QUERIES = 150
WORDS = {f"q{place}": f"question number {place}" for place in range(QUERIES)} | {
    "q77": "Where do zebras live?"
}
HITS = {
    "bm25": (TopHit("p1", 9.5, None), TopHit("p2", 8.25, 0), TopHit("p3", 7.0, 2)),
    "dense": (TopHit("p3", 0.9, 2), TopHit("p4", 0.8, 0)),
}


def system(name: str, values: list[float], recall: float) -> RunResult:
    by_query = dict(zip(WORDS, values, strict=True))
    return RunResult(
        name=name,
        values={"nDCG@10": by_query, "RR@10": dict.fromkeys(WORDS, 0.5)},
        recall={depth: recall * depth / 100 for depth in (1, 10, 100)},
        top=dict.fromkeys(WORDS, HITS[name]) if name in HITS else {},
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of three systems: dense is 0.5 above bm25 at q0, 0.49 below at q149."""
    half = [0.5] * QUERIES
    falling = [1 - 0.5 * (place / 75) for place in range(QUERIES)]
    results = [system("bm25", half, 0.7), system("dense", falling, 0.9), system("third", half, 0.8)]
    compared = [
        Difference(name, "bm25", "nDCG@10", 0.5, 0.5, 0.0, -0.1, 0.1, 1.0, 1.0, 74, 1, 75, ())
        for name in ("dense", "third")
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(
        path,
        results,
        compared,
        title="three systems",
        queries=WORDS,
        passages={"p3": "Zebras live in Africa."},
        costs=[CostPoint("dense", depth, 10.0 + depth, {"nDCG@10": 0.5}) for depth in (0, 50)],
    )
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Callable[[str], Browser]]:
    """Opens the page at a fragment; at the end nothing may stand on the console."""

    def at(fragment: str) -> Browser:
        return chromium.open(address + fragment)

    chromium.complaints.clear()
    yield at
    chromium.value("0")  # what it says until now is read
    assert chromium.complaints == []


IDS = "[...document.querySelectorAll('#rows tr.query bdi')].map((one) => one.textContent)"


def test_an_error_of_a_script_would_be_noticed(chromium: Browser) -> None:
    chromium.open("data:text/html,<script>throw Error('a test')</script>")
    assert "a test" in "".join(chromium.complaints)


def test_without_scripts_the_means_and_the_plots_are_there(chromium: Browser, address: str) -> None:
    page = chromium.open(address)
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.reload")
    page.wait_for("document.readyState === 'complete' && !document.querySelector('#heads th')")
    shown = "[...document.querySelectorAll('{}')].filter((one) => one.offsetParent).length"
    assert page.value(shown.format("tbody tr")) == 3 + 2  # systems, comparisons
    assert page.value(shown.format("figure")) == 3
    assert page.value(shown.format(".plot")) == 4  # two comparisons by two measures
    assert page.value(shown.format("input, select, noscript p")) == 1


def test_the_plots_are_there_and_of_the_differences_the_chosen_one(
    opened: Callable[[str], Browser],
) -> None:
    page = opened("")
    page.window(1280, 900)
    plots = "[...document.querySelectorAll('figure svg[role=img]')]"
    seen = f"{plots}.filter((one) => one.getBoundingClientRect().height > 100)"
    assert page.value(f"{seen}.length") == 3  # differences, recall, quality against time
    assert page.value(f"{plots}.length") == 3 * 2 + 2
    assert (
        page.value(f"getComputedStyle({seen}[0].querySelector('.rise')).fill") == "rgb(0, 114, 178)"
    )
    assert page.value(f"{IDS}.length") == 100
    assert page.value(f"{IDS}.slice(0, 3)") == ["q0", "q1", "q149"]  # by the size of the change
    page.value("document.getElementById('more').click()")
    assert page.value(f"{IDS}.length") == QUERIES


def test_typing_in_the_search_field_finds_a_query(opened: Callable[[str], Browser]) -> None:
    page = opened("")
    page.value("document.getElementById('search').focus()")
    page.type("live ZEBRA")
    assert page.value(IDS) == ["q77"]
    assert page.value("document.getElementById('found').textContent") == "1 of 150 queries"
    page.wait_for("location.hash === '#q=live+ZEBRA'")
    page.value("document.getElementById('search').value = ''")
    page.type("q14")
    assert page.value(f"{IDS}.sort()") == ["q14", *(f"q14{place}" for place in range(10))]


def test_a_link_opens_a_search_and_the_rankings_of_a_query(
    opened: Callable[[str], Browser],
) -> None:
    page = opened("#q=zebras&open=q77&sort=query")
    assert page.value(IDS) == ["q77"]
    sides = "[...document.querySelectorAll('#top77 section')]"
    assert page.value(f"{sides}.map((one) => one.querySelector('h4').textContent)") == [
        "dense 0.4867",
        "bm25 0.5000",
    ]
    items = f"{sides}.map((one) => [...one.querySelectorAll('li')].map((item) => item.innerText))"
    dense, bm25 = page.value(items)
    assert [re.sub(r"\s+", " ", one) for one in dense] == [
        "1 ✓ 2 p3 0.9 · rank 3 in the other Zebras live in Africa.",
        "2 ✗ 0 p4 0.8 · not in the other's first 3",
    ]
    assert [re.sub(r"\s+", " ", one)[:7] for one in bm25] == ["1 ? p1 ", "2 ✗ 0 p", "3 ✓ 2 p"]
    said = "[...document.querySelectorAll('#top77 .grade')].map((one) => one.ariaLabel)"
    assert page.value(said)[:3] == [
        "relevant, grade 2",
        "judged not relevant, grade 0",
        "not judged",
    ]


def test_a_link_to_a_query_far_down_shows_it(opened: Callable[[str], Browser]) -> None:
    page = opened("#open=q76")
    assert "q76" in page.value(IDS)
    assert page.value("document.getElementById('top76').getBoundingClientRect().top < innerHeight")


def test_rankings_open_and_close_by_keyboard(opened: Callable[[str], Browser]) -> None:
    page = opened("#q=zebras")
    page.window(1280, 900)
    page.value("document.getElementById('search').focus()")
    for _ in range(5 + 1):  # over the heads of the columns
        page.press("Tab", 9)
    assert page.value("document.activeElement.textContent") == "q77"
    for expected in ("true", "false"):
        page.press("Enter", 13, "\r")
        assert page.value("document.activeElement.ariaExpanded") == expected
        assert page.value("document.getElementById('top77') !== null") == (expected == "true")


def test_the_head_of_a_column_sorts_and_says_so(opened: Callable[[str], Browser]) -> None:
    page = opened("")
    head = "[...document.querySelectorAll('#heads button')].at({})"
    page.value(head.format(-1) + ".click()")  # gains first
    assert page.value(f"{IDS}.slice(0, 2)") == ["q0", "q1"]
    page.value(head.format(-1) + ".click()")  # losses first
    assert page.value(f"{IDS}.slice(0, 2)") == ["q149", "q148"]
    page.value(head.format(0) + ".click()")
    assert page.value(f"{IDS}.slice(0, 3)") == ["q0", "q1", "q2"]
    sorts = "[...document.querySelectorAll('#heads th')].map((one) => one.ariaSort)"
    assert page.value(sorts) == ["ascending", None, None, None, None]


def test_another_comparison_and_measure_can_be_chosen(opened: Callable[[str], Browser]) -> None:
    page = opened("")
    for name, place in (("pair", 2), ("measure", 1)):
        page.value(
            f"(() => {{ const box = document.querySelector('select[data-pick={name}]');"
            f" box.value = {place}; box.dispatchEvent(new Event('change')); }})()"
        )
    shown = "[...document.querySelectorAll('.plot:not([hidden]) .over')].map((e) => e.innerText)"
    assert page.value(shown) == ["third against dense, RR@10"]
    boxes = "[...document.querySelectorAll('select')].map((one) => one.value)"
    assert page.value(boxes) == ["2", "1", "2", "1"]
    page.wait_for("location.hash === '#system=third&baseline=dense&measure=RR%4010'")


def test_a_click_on_a_bar_opens_its_query(opened: Callable[[str], Browser]) -> None:
    page = opened("#q=nothing")
    page.window(1280, 900)
    place = page.value(
        "(() => { const drawing = document.querySelector('.plot:not([hidden]) svg');"
        " drawing.scrollIntoView(); const box = drawing.getBoundingClientRect();"
        " return [box.left + box.width * 541 / 560, box.top + box.height / 2]; })()"
    )
    at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **at)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **at)
    assert page.value("document.querySelector('#rows [aria-expanded=true]').textContent") == "q149"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(
    opened: Callable[[str], Browser], width: int, scheme: str
) -> None:
    page = opened("#open=q0")
    page.window(width, 900, scheme)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    beyond = (
        "[...document.querySelectorAll('body *')].filter((one) => !one.closest('.wide, svg')"
        " && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)"
    )
    assert page.value(beyond) == []
