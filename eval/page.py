"""An evaluation to look at: one HTML page that needs nothing else, with plots and every query."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path

from ..durable import write_durably
from .page_data import (
    Pair,
    as_script_text,
    names_of_measures,
    page_data,
    pairs_of_systems,
    query_ids,
)
from .page_plots import CostPoint, cost_plots, difference_plots, pair_name, recall_plot
from .page_script import SCRIPT
from .page_style import PAGE_STYLE, STYLE
from .page_tables import differences_table, means_table, notes_list
from .results import Difference, RunResult

__all__ = ["CostPoint", "write_page"]


def write_page(
    path: Path,
    results: Sequence[RunResult],
    differences: Sequence[Difference],
    *,
    title: str,
    queries: Mapping[str, str] | None = None,
    passages: Mapping[str, str] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    costs: Sequence[CostPoint] = (),
    confidence: float = 0.95,
) -> None:
    """Write ``path``: means, findings, comparisons, plots, and a table of queries to search in.

    ``queries`` and ``passages`` are texts by id, as far as they are known; passages that no result
    has near its top are left out, and long ones are cut (10 hits of 6,980 queries by two systems
    make 37 MB with their texts and 5 MB without). ``notes`` are sentences by system,
    ``confidence`` is that of the intervals in ``differences``. Equal input gives equal bytes.
    Raises RocketRankError where the page cannot be written.
    """
    pairs = pairs_of_systems(results, differences)
    compared = differences_table(results, differences, confidence) if differences else ""
    body = [
        f'<h1 dir="auto">{escape(title)}</h1>',
        f'<p class="about">{_counts(results)}</p>',
        _section("means", "Means", means_table(results)),
        _section("findings", "Findings", notes_list(results, notes or {})),
        _section("comparisons", "Comparisons", compared),
        _section("plots", "Plots", _plots(results, differences, pairs, costs)),
    ]
    if query_ids(results):
        data = as_script_text(page_data(results, pairs, queries or {}, passages or {}))
        body += [
            _section("queries", "Queries", _queries(results, pairs)),
            f'<script type="application/json" id="data">{data}</script>',
            f"<script>{SCRIPT}</script>",
        ]
    # what a name of a file brought in that is no Unicode becomes a question mark
    write_durably(path, [_document(title, body).encode("utf-8", "replace")])


def _counts(results: Sequence[RunResult]) -> str:
    parts = (
        (len(results), "system"),
        (len(query_ids(results)), "query"),
        (len(names_of_measures(results)), "measure"),
    )
    return ", ".join(
        f"{number:,} {name if number == 1 else name.replace('query', 'querie') + 's'}"
        for number, name in parts
    )


def _section(name: str, heading: str, content: str) -> str:
    if not content:
        return ""
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{content}\n</section>'
    )


def _plots(
    results: Sequence[RunResult],
    differences: Sequence[Difference],
    pairs: Sequence[Pair],
    costs: Sequence[CostPoint],
) -> str:
    numbers = count(1)  # of the charts on the page
    figures = []
    if pairs and names_of_measures(results):
        compared = {(each.system, each.baseline) for each in differences}
        shown = [
            pair
            for pair in pairs
            if not compared or (results[pair.of].name, results[pair.against].name) in compared
        ]
        controls = _controls(results, pairs)
        figures.append(difference_plots(results, pairs, shown, controls, numbers))
    figures.append(recall_plot(results, next(numbers)))
    figures.append(cost_plots(results, costs, numbers))
    drawn = "\n".join(filter(None, figures))
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _controls(results: Sequence[RunResult], pairs: Sequence[Pair], search: str = "") -> str:
    """What to compare and by which measure, where there is a choice."""
    boxes = [
        _choice("Comparison", "pair", [pair_name(results, pair) for pair in pairs]),
        _choice("Measure", "measure", names_of_measures(results)),
        search,
    ]
    return f'<div class="controls live" hidden>{"".join(boxes)}</div>' if any(boxes) else ""


def _choice(label: str, name: str, options: Sequence[str]) -> str:
    if len(options) < 2:
        return ""
    items = "".join(
        f'<option value="{place}">{escape(option)}</option>' for place, option in enumerate(options)
    )
    return f'<label>{label} <select data-pick="{name}">{items}</select></label>'


def _queries(results: Sequence[RunResult], pairs: Sequence[Pair]) -> str:
    search = (
        '<label class="search">Search <input type="search" id="search" autocomplete="off" '
        'spellcheck="false" placeholder="id or text of a query"></label>'
    )
    return (
        '<p class="about">Open a query to see its rankings. '
        '<span class="grade good">✓ 1</span> relevant, with its grade; '
        '<span class="grade bad">✗ 0</span> judged not relevant; '
        '<span class="grade unknown">?</span> not judged.</p>'
        "<noscript><p>This table is made by a script, which does not run here.</p></noscript>"
        f"{_controls(results, pairs, search)}"
        '<p class="live about" id="found" role="status" hidden></p>'
        '<div class="live" hidden><table class="queries"><thead><tr id="heads"></tr></thead>'
        '<tbody id="rows"></tbody></table></div>'
        '<p class="live" hidden><button type="button" id="more" class="more"></button></p>'
    )


def _document(title: str, body: Sequence[str]) -> str:
    digest = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{PAGE_STYLE}</style></head><body>",
            *filter(None, body),
            "</body></html>\n",
        )
    )
