"""Results as text: tables for a terminal, for Markdown and LaTeX.

Every function is from results to text. A mean has four decimals, and the best one of a measure is
marked: with ``*`` in a terminal, in bold elsewhere. Means that print alike are marked alike, and
none is where all do, or where systems were measured over different queries. Markdown and LaTeX mark
with † and ‡ what differs significantly from the baseline; the terminal has the p-values instead,
and so has Markdown in a second table.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..text_width import padded, printable, shortened, width_of
from .comparison import over_same_queries
from .results import Difference, RunResult

# A p-value below this gets a mark in Markdown and LaTeX.
_SIGNIFICANT = 0.05
_GAP = "  "
# A name gets at least these columns, if it has as many, before a table is broken into blocks.
_LEAST_LABEL = 15
_LEAST_WIDTH = 40
_NOTHING = "-"
_SYSTEM = "system"
_T_TEST, _RANDOMISATION = "†", "‡"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<|~&$])")
_LATEX_SPECIAL = {
    **{each: f"\\{each}" for each in "&%_#${}"},
    **{each: f"{{{each}}}" for each in "[]*"},  # they would be arguments of the \\ before them
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}
_LATEX_MARKS = {_T_TEST: r"\dagger", _RANDOMISATION: r"\ddagger"}


class _Cell(NamedTuple):
    text: str
    best: bool = False
    marks: str = ""


class _Column(NamedTuple):
    heading: str
    cells: list[_Cell]


class _Label(NamedTuple):
    """A row's name, and the place of its system among all."""

    place: int
    text: str


class _Table(NamedTuple):
    """``numbered``: some names are shortened to the same, and have their place before them."""

    text: str
    numbered: bool


def terminal_table(
    results: Sequence[RunResult],
    differences: Sequence[Difference] = (),
    *,
    width: int = 80,
    confidence: float = 0.95,
) -> str:
    """One row a system, one column a measure; then a table of differences for each measure.

    A table wider than ``width`` (40 at least) is broken into blocks of columns, and a name that is
    too long shortened in its middle. ``confidence`` is that of the differences' intervals.
    """
    width = max(width, _LEAST_WIDTH)
    columns = _columns(results)
    labels = [_Label(place, printable(each.name)) for place, each in enumerate(results, 1)]
    by_name = dict(zip((each.name for each in results), labels, strict=True))
    tables = [_table(labels, [_starred(column) for column in columns], width)]
    parts = [tables[0].text]
    for group in _by_measure(differences):
        rows = [by_name.get(each.system, _Label(0, printable(each.system))) for each in group]
        tables.append(_table(rows, _difference_columns(group, confidence), width))
        parts.append(f"{_title(group[0], width)}\n{tables[-1].text}")
    notes = ["*: the best of its column."] if _has_best(columns) else []
    if unmarked := _over_different_queries(results):
        notes.append(f"No best by {printable(unmarked)}: not all over the same queries.")
    if any(table.numbered for table in tables):
        notes.append("1: 2: …: the places of the systems, where shortened names are alike.")
    if differences:
        notes.append(_note(_by_measure(differences)[0]))
    if notes:
        parts.append("\n".join(textwrap.fill(note, width) for note in notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(
    results: Sequence[RunResult],
    differences: Sequence[Difference] = (),
    *,
    confidence: float = 0.95,
) -> str:
    """One row a system, one column a measure, as GitHub reads it; then the differences."""
    columns = _columns(results, differences)
    rows = [[_SYSTEM, *(_markdown(column.heading) for column in columns)]]
    for place, result in enumerate(results):
        cells = [column.cells[place] for column in columns]
        bold = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
        marked = [text + cell.marks for text, cell in zip(bold, cells, strict=True)]
        rows.append([_markdown(result.name), *marked])
    parts = [_markdown_rows(rows), _caption(results, columns, differences, _markdown, str)]
    for group in _by_measure(differences):
        of = _difference_columns(group, confidence)
        first = f"{group[0].measure}: difference from {group[0].baseline}"
        rows = [[_markdown(first), *(column.heading for column in of)]]
        for place, each in enumerate(group):
            rows.append([_markdown(each.system), *(column.cells[place].text for column in of)])
        parts.append(_markdown_rows(rows))
    return "\n\n".join(parts) + "\n"


def latex_table(results: Sequence[RunResult], differences: Sequence[Difference] = ()) -> str:
    """A table for LaTeX with the package booktabs: one row a system, one column a measure."""
    columns = _columns(results, differences)
    rows = [[_SYSTEM, *(_latex(column.heading) for column in columns)]]
    for place, result in enumerate(results):
        cells = [column.cells[place] for column in columns]
        bold = [rf"\textbf{{{cell.text}}}" if cell.best else cell.text for cell in cells]
        marked = [
            f"{text}\\rlap{{{_daggers(cell.marks)}}}" if cell.marks else text
            for text, cell in zip(bold, cells, strict=True)
        ]
        rows.append([_latex(result.name), *marked])
    heading, *body = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_caption(results, columns, differences, _latex, _daggers)}}}",
            r"\label{tab:evaluation}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            heading,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _columns(results: Sequence[RunResult], differences: Sequence[Difference] = ()) -> list[_Column]:
    """The measures in the order in which they come up; before them how many queries, if that
    varies, after them the time of a query, if it was taken."""
    marks = {(each.system, each.measure): _significance(each) for each in differences}
    columns = []
    if len({result.queries for result in results}) > 1:
        columns.append(_Column("queries", [_Cell(str(each.queries)) for each in results]))
    for measure in dict.fromkeys(one for result in results for one in result.values):
        means = [f"{one.mean(measure):.4f}" if measure in one.values else "" for one in results]
        alike = len(set(filter(None, means))) == 1
        comparable = over_same_queries(results, measure)
        best = max(filter(None, means), key=float) if comparable and not alike else ""
        cells = [
            _Cell(text, text == best, marks.get((one.name, measure), ""))
            if text
            else _Cell(_NOTHING)
            for text, one in zip(means, results, strict=True)
        ]
        columns.append(_Column(printable(measure), cells))
    if any(result.milliseconds is not None for result in results):
        times = [
            _NOTHING if one.milliseconds is None else f"{one.milliseconds:.1f}" for one in results
        ]
        columns.append(_Column("ms/query", [_Cell(time) for time in times]))
    return columns


def _over_different_queries(results: Sequence[RunResult]) -> str:
    """The measures, with commas, of which not all systems have values for the same queries."""
    names = dict.fromkeys(one for result in results for one in result.values)
    return ", ".join(one for one in names if not over_same_queries(results, one))


def _has_best(columns: Sequence[_Column]) -> bool:
    return any(cell.best for column in columns for cell in column.cells)


def _difference_columns(group: Sequence[Difference], confidence: float) -> list[_Column]:
    """Of differences by one measure."""
    texts = {
        "difference": [f"{each.difference:+.4f}" for each in group],
        f"{100 * confidence:g}% interval": [
            f"[{each.low:+.4f}, {each.high:+.4f}]" for each in group
        ],
        "t-test": [_p_value(each.t_test) for each in group],
        "random": [_p_value(each.randomisation) for each in group],
        "won/tied/lost": [f"{each.wins}/{each.ties}/{each.losses}" for each in group],
    }
    return [_Column(heading, [_Cell(text) for text in of]) for heading, of in texts.items()]


def _p_value(p_value: float) -> str:
    return "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _significance(difference: Difference) -> str:
    found = {_T_TEST: difference.t_test, _RANDOMISATION: difference.randomisation}
    return "".join(mark for mark, p_value in found.items() if p_value < _SIGNIFICANT)


def _by_measure(differences: Sequence[Difference]) -> list[list[Difference]]:
    groups: dict[tuple[str, str], list[Difference]] = {}
    for each in differences:
        groups.setdefault((each.baseline, each.measure), []).append(each)
    return list(groups.values())


def _title(difference: Difference, width: int) -> str:
    queries = difference.wins + difference.ties + difference.losses
    title = f"{printable(difference.measure)}: difference over {queries:,} queries from "
    room = max(width - width_of(title), _LEAST_LABEL)
    return shortened(title + shortened(printable(difference.baseline), room), width)


def _note(group: Sequence[Difference]) -> str:
    return (
        "t-test, random: two-sided p-values of the paired t-test and of the randomisation test"
        f"{_adjusted(group)}. Tied: equal up to 1e-9. Interval: bootstrap over queries."
    )


def _adjusted(group: Sequence[Difference]) -> str:
    """What is to be said of the p-values of one measure."""
    return f", adjusted for {len(group)} systems (Holm)" if len(group) > 1 else ""


def _caption(
    results: Sequence[RunResult],
    columns: Sequence[_Column],
    differences: Sequence[Difference],
    escaped: Callable[[str], str],
    mark: Callable[[str], str],
) -> str:
    counts = {result.queries for result in results}
    text = "Means over queries"
    if len(counts) == 1:
        count = counts.pop()
        text = f"Means over {count:,} {'query' if count == 1 else 'queries'}"
    if _has_best(columns):
        text += ", the best in bold"
    if unmarked := _over_different_queries(results):
        text += f", no best by {escaped(unmarked)}, which is not over the same queries for all"
    if differences:
        group = _by_measure(differences)[0]
        text += (
            f". {mark(_T_TEST)}: differs from {escaped(group[0].baseline)} with p below "
            f"{_SIGNIFICANT} by a two-sided paired t-test, {mark(_RANDOMISATION)}: by a "
            f"randomisation test{_adjusted(group)}"
        )
    return f"{text}."


def _table(labels: Sequence[_Label], columns: Sequence[_Column], width: int) -> _Table:
    """Names on the left, columns on the right; in blocks one below the other if need be."""
    texts = [[column.heading, *(cell.text for cell in column.cells)] for column in columns]
    filled = [[padded(one, max(map(width_of, of)), right=True) for one in of] for of in texts]
    sizes = [len(_GAP) + width_of(of[0]) for of in filled]
    longest = max([len(_SYSTEM), *(width_of(label.text) for label in labels)])
    left = width - sum(sizes)
    if left < min(longest, _LEAST_LABEL):
        left = max(width // 3, _LEAST_LABEL)
    left = min(longest, left)
    names, numbered = _short_labels(labels, left)
    blocks: list[list[list[str]]] = []
    room = 0
    for column, size in zip(filled, sizes, strict=True):
        if not blocks or room < size:
            blocks.append([])
            room = width - left
        blocks[-1].append(column)
        room -= size
    text = "\n\n".join(
        "\n".join(
            _GAP.join([padded(name, left), *cells]).rstrip()
            for name, *cells in zip([_SYSTEM, *names], *block, strict=True)
        )
        for block in blocks or [[]]
    )
    return _Table(text, numbered)


def _starred(column: _Column) -> _Column:
    """A place for the star behind every figure, so that figures stay below one another."""
    if not any(cell.best for cell in column.cells):
        return column
    cells = [_Cell(cell.text + ("*" if cell.best else " ")) for cell in column.cells]
    return _Column(f"{column.heading} ", cells)


def _short_labels(labels: Sequence[_Label], width: int) -> tuple[list[str], bool]:
    """In at most ``width`` columns. Where two are then alike, all have their place before them; the
    second value says whether that is so."""
    short = [shortened(label.text, width) for label in labels]
    if len(set(short)) == len(short):
        return short, False
    places = [f"{label.place}: " for label in labels]
    return [
        place + shortened(label.text, width - len(place))
        for place, label in zip(places, labels, strict=True)
    ], True


def _markdown_rows(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading; the first column is of names, the others are of numbers."""
    sizes = [max(3, *map(width_of, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * sizes[0], *("-" * (size - 1) + ":" for size in sizes[1:])]
    return "\n".join(
        "| "
        + " | ".join(padded(cell, sizes[at], right=at > 0) for at, cell in enumerate(row))
        + " |"
        for row in (rows[0], rule, *rows[1:])
    )


def _markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", printable(text))


def _latex(text: str) -> str:
    escaped = "".join(_LATEX_SPECIAL.get(each, each) for each in printable(text))
    return re.sub("-(?=-)", "-{}", escaped)  # or two would become one dash


def _daggers(marks: str) -> str:
    return f"$^{{{''.join(_LATEX_MARKS[each] for each in marks)}}}$" if marks else ""
