"""Tables against their text, and what every one must keep whatever the names are."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.eval.changed_queries import changed_queries_text
from rocketrank.eval.results import Difference, RunResult, TopHit
from rocketrank.eval.tables import (
    latex_table,
    markdown_table,
    terminal_table,
)
from rocketrank.text_width import cut, padded, shortened, width_of


def result(name: str, *, milliseconds: float | None = None, **means: float) -> RunResult:
    """Over two queries."""
    values = {name.replace("_at_", "@"): {"1": mean, "2": mean} for name, mean in means.items()}
    return RunResult(name=name, values=values, milliseconds=milliseconds)


def difference(system: str, baseline: str, measure: str = "nDCG@10") -> Difference:
    return Difference(
        system=system,
        baseline=baseline,
        measure=measure,
        mean=0.75,
        baseline_mean=0.5,
        difference=0.25,
        low=-0.125,
        high=0.5,
        t_test=0.00004,
        randomisation=0.06,
        wins=30,
        ties=2,
        losses=11,
        changed=(("q1", 1.0, 0.25), ("q2", 0.0, 0.5)),
    )


BM25 = result("bm25", nDCG_at_10=0.5, RR_at_10=0.7036)
DENSE = result("dense", nDCG_at_10=0.75, RR_at_10=0.25)


def test_a_terminal_table_is_as_written_here() -> None:
    assert terminal_table([BM25, DENSE], [difference("dense", "bm25")]) == (
        "system  nDCG@10    RR@10\n"
        "bm25     0.5000   0.7036*\n"
        "dense    0.7500*  0.2500\n"
        "\n"
        "nDCG@10: difference over 43 queries from bm25\n"
        "system  difference        95% interval   t-test  random  won/tied/lost\n"
        "dense      +0.2500  [-0.1250, +0.5000]  <0.0001  0.0600        30/2/11\n"
        "\n"
        "*: the best of its column.\n"
        "t-test, random: two-sided p-values of the paired t-test and of the randomisation\n"
        "test. Tied: equal up to 1e-9. Interval: bootstrap over queries.\n"
    )


def test_a_markdown_table_is_as_written_here() -> None:
    assert markdown_table([BM25, DENSE], [difference("dense", "bm25")], confidence=0.9) == (
        "| system |     nDCG@10 |      RR@10 |\n"
        "| ------ | ----------: | ---------: |\n"
        "| bm25   |      0.5000 | **0.7036** |\n"
        "| dense  | **0.7500**† |     0.2500 |\n"
        "\n"
        "Means over 2 queries, the best in bold. †: differs from bm25 with p below 0.05 by a "
        "two-sided paired t-test, ‡: by a randomisation test.\n"
        "\n"
        "| nDCG@10: difference from bm25 | difference |       90% interval |  t-test | random "
        "| won/tied/lost |\n"
        "| ----------------------------- | ---------: | -----------------: | ------: | -----: "
        "| ------------: |\n"
        "| dense                         |    +0.2500 | [-0.1250, +0.5000] | <0.0001 | 0.0600 "
        "|       30/2/11 |\n"
    )


def test_a_latex_table_is_as_written_here() -> None:
    differences = [difference("dense", "bm25"), difference("x_y", "bm25")]
    third = result("x_y", nDCG_at_10=0.5)
    assert latex_table([BM25, DENSE, third], differences) == (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}[t]\n"
        "\\centering\n"
        "\\caption{Means over 2 queries, the best in bold. $^{\\dagger}$: differs from bm25 with p "
        "below 0.05 by a two-sided paired t-test, $^{\\ddagger}$: by a randomisation test, "
        "adjusted for 2 systems (Holm).}\n"
        "\\label{tab:evaluation}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "system & nDCG@10 & RR@10 \\\\\n"
        "\\midrule\n"
        "bm25 & 0.5000 & \\textbf{0.7036} \\\\\n"
        "dense & \\textbf{0.7500}\\rlap{$^{\\dagger}$} & 0.2500 \\\\\n"
        "x\\_y & 0.5000\\rlap{$^{\\dagger}$} & - \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_means_that_print_alike_are_both_the_best_and_none_is_where_all_do() -> None:
    means = {"a": 0.5, "b": 0.50001, "c": 0.4}
    rows = [result(name, AP=mean, P=0.1) for name, mean in means.items()]
    assert terminal_table(rows).splitlines()[1:4] == [
        "a       0.5000*  0.1000",
        "b       0.5000*  0.1000",
        "c       0.4000   0.1000",
    ]
    assert "best" not in terminal_table(rows[:1])
    assert "bold" not in markdown_table(rows[:1])


def test_numbers_of_queries_are_shown_where_they_differ_and_times_where_they_were_taken() -> None:
    other = RunResult(name="other", values={"AP": {"1": 1.0}}, milliseconds=12.34)
    both = result("both", AP=0.5)
    assert terminal_table([both, other]).splitlines()[:3] == [
        "system  queries      AP  ms/query",
        "both          2  0.5000         -",
        "other         1  1.0000      12.3",
    ]
    assert "Means over queries, no best by AP" in markdown_table([both, other])


def test_columns_that_do_not_fit_go_into_another_block_with_the_names_again() -> None:
    measures = {f"measure{number}": 0.5 for number in range(9)}
    table = terminal_table([result("first", **measures), result("second", **measures)], width=50)
    blocks = table.split("\n\n")
    assert [len(block.splitlines()) for block in blocks] == [3, 3, 3]
    assert [re.findall("measure[0-9]", block) for block in blocks] == [
        [f"measure{number}" for number in range(start, start + 4) if number < 9]
        for start in (0, 4, 8)
    ]
    assert all(block.splitlines()[1].startswith("first ") for block in blocks)


def test_a_long_name_is_shortened_in_its_middle() -> None:
    name = "runs/2024/" + "very-" * 20 + "long.trec"
    label, _ = terminal_table([result(name, AP=0.5)], width=40).splitlines()[1].split()
    first, last = label.split("…")
    assert len(label) == 32
    assert name.startswith(first) and name.endswith(last) and min(len(first), len(last)) > 14


def test_names_that_are_alike_when_shortened_are_numbered() -> None:
    names = [f"{'a' * 40}{middle}{'b' * 40}" for middle in "xyz"]
    table = terminal_table(
        [result(name, AP=0.5) for name in names],
        [difference(names[2], names[0], "AP"), difference(names[1], names[0], "AP")],
    )
    assert re.findall(r"^(\d): a+…b+ ", table, re.M) == ["1", "2", "3", "3", "2"]
    assert "the places of the systems" in table


def test_a_published_name_is_escaped() -> None:
    rows = [result("a&b_c%$#{x}~^\\|[*]--", AP=0.5)]
    assert (
        r"a\&b\_c\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textbar{}"
        r"{[}{*}{]}-{}- & 0.5000 \\"
    ) in latex_table(rows)
    assert r"| a\&b\_c%\$#{x}\~^\\\|\[\*\]-- | 0.5000 |" in markdown_table(rows)


NASTY = st.text(st.sampled_from("&%_#${}~^\\|[]*<>`-\n\t\x1b\0 ab1é漢\u0301"), max_size=30)
NAMES = st.lists(NASTY, min_size=1, max_size=4, unique=True)


def everything(names: list[str]) -> tuple[list[RunResult], list[Difference]]:
    rows = [
        RunResult(name=name, values={"AP": {"1": at / 8, "2": 0.5}, names[0]: {"1": 0.0, "2": at}})
        for at, name in enumerate(names)
    ]
    return rows, [difference(name, names[0], "AP") for name in names[1:]]


def markdown_cells(row: str) -> list[str]:
    """As GitHub's specification splits a row: at bars without a backslash before them."""
    cells, at = [""], 1
    assert row[0] == row[-1] == "|"
    while at < len(row) - 1:
        if row[at] == "\\":
            cells[-1] += row[at : at + 2]
            at += 2
        elif row[at] == "|":
            cells.append("")
            at += 1
        else:
            cells[-1] += row[at]
            at += 1
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in cells]


@settings(max_examples=50, deadline=None)
@given(NAMES)
def test_a_markdown_table_gives_every_name_and_cell_back(names: list[str]) -> None:
    text = markdown_table(*everything(names))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) == min(len(names), 2)
    for table, expected in zip(tables, (names, names[1:]), strict=False):
        heading, rule, *rows = map(markdown_cells, table.splitlines())
        assert {len(row) for row in (heading, rule, *rows)} == {len(heading)}
        cleaned = [re.sub(r"[\0\x1b\s]+", " ", name).strip() for name in expected]
        assert [row[0] for row in rows] == cleaned


@settings(max_examples=50, deadline=None)
@given(NAMES)
def test_a_latex_table_has_balanced_braces_and_as_many_cells_in_every_row(
    names: list[str],
) -> None:
    text = latex_table(*everything(names))
    # what a control symbol is made of is no longer special
    plain = re.sub(r"\\[&%_#${}]", "", text.removeprefix("% \\usepackage{booktabs}\n"))
    depth = 0
    for brace in re.findall(r"[{}]", plain):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[%#~|<>`_\0\x1b]", plain)
    assert all(after == "{" for after in re.findall(r"\^(.)", plain))
    assert plain.count("$") % 2 == 0
    body = plain[plain.index("\\toprule") : plain.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r" \\")]
    (columns,) = re.findall(r"\\begin{tabular}{(l+r*)}", plain)
    assert len(rows) == 1 + len(names)
    assert {row.count("&") + 1 for row in rows} == {len(columns)}
    assert not any(re.match(r"\s*[\[*]", row) for row in rows)


@settings(max_examples=50, deadline=None)
@given(NAMES, st.integers(73, 120))
def test_no_line_of_a_terminal_table_is_wider_than_it_may_be(names: list[str], width: int) -> None:
    text = terminal_table(*everything(names), width=width)
    assert max(map(width_of, text.splitlines())) <= width
    assert not re.search(r"[\0\x1b\t]", text)


@settings(max_examples=50, deadline=None)
@given(NASTY, st.integers(1, 40))
def test_a_shortened_text_fits_and_keeps_what_fits(text: str, width: int) -> None:
    text = text.replace("\n", " ")
    assert width_of(shortened(text, width)) <= width
    assert width_of(cut(text, width)) <= width
    assert (shortened(text, width) == text) == (width_of(text) <= width) or "…" in text
    assert width_of(padded(cut(text, width), width)) == width


def test_a_text_is_shortened_to_its_beginning_and_end() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 6) == "abc…ij"
    assert shortened("漢字漢字", 5) == "漢…字"
    assert shortened("abc", 1) == cut("abc", 1) == "…"
    assert cut("ab cdef", 4) == "ab…"


TOP = {
    "q1": (TopHit("p1", 3.5, 2), TopHit("p2", 3.0, None)),
    "q2": (TopHit("p3", 1.0, 0),),
}


def test_rankings_stand_beside_each_other_as_written_here() -> None:
    ours = RunResult(name="dense", values={}, top=TOP)
    base = RunResult(name="bm25", values={}, top={"q1": (TopHit("p9", 9.0, 1),)})
    text = changed_queries_text(
        difference("dense", "bm25"), [base, ours], {"q1": "who\nwas  it?"}, width=50
    )
    assert text == (
        "nDCG@10, what changed most: dense against bm25\n"
        "\n"
        "1. q1: 1.0000 against 0.2500, +0.7500\n"
        "   who was it?\n"
        "     dense         grade       bm25          grade\n"
        "  1  p1                2    1  p9                1\n"
        "  2  p2                -\n"
        "\n"
        "2. q2: 0.0000 against 0.5000, -0.5000\n"
        "     dense         grade       bm25          grade\n"
        "  1  p3                0       nothing found\n"
        "\n"
        "Grade -: nobody judged the passage for the query.\n"
    )


def test_passages_are_shown_below_their_ids_and_cut() -> None:
    ours, base = (RunResult(name=name, values={}, top=TOP) for name in ("dense", "bm25"))
    passages = {"p1": "what the first passage says", "p3": "short"}
    lines = changed_queries_text(
        difference("dense", "bm25"), [ours, base], passages=passages, width=50
    ).splitlines()
    at = lines.index("  1  p1                2    1  p1                2")
    assert lines[at + 1] == "     what the first pas…       what the first pas…"
    assert lines[at + 2].startswith("  2  p2")
    assert "     short                     short" in lines


def test_a_result_without_rankings_says_so() -> None:
    text = changed_queries_text(difference("dense", "bm25"), [BM25])
    assert text.count("its ranking was not kept") == 4
    unchanged = difference("dense", "bm25")._replace(changed=())
    assert "No query changed." in changed_queries_text(unchanged, [BM25, DENSE])


@pytest.mark.parametrize("width", [80, 100])
@settings(max_examples=50, deadline=None)
@given(name=NASTY, text=st.text(max_size=200))
def test_no_line_of_the_rankings_is_wider_than_it_may_be(width: int, name: str, text: str) -> None:
    top = {"q1": (TopHit(name * 4, 1.0, 3),), "q2": ()}
    ours, base = (RunResult(name=each, values={}, top=top) for each in (name, "base"))
    shown = changed_queries_text(
        difference(name, "base"), [ours, base], {"q1": text}, {name * 4: text}, width=width
    )
    assert max(map(width_of, shown.split("\n"))) <= width


def test_a_mean_over_other_queries_is_not_the_best_and_the_line_below_says_why() -> None:
    few = RunResult(name="few", values={"AP": {"1": 1.0}, "RR": {"1": 0.5}})
    many = RunResult(name="many", values={"AP": {"1": 0.5, "2": 0.5}})
    text = terminal_table([few, many])
    assert "*" not in text
    assert "No best by AP: not all over the same queries." in text
    assert "**" not in markdown_table([few, many])
    assert "no best by AP, which is not over the same queries" in markdown_table([few, many])
    assert "textbf" not in latex_table([few, many])
