"""Conditions on fields, evaluated by SQLite and beside it by plain Python."""

import operator
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import reduce
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.errors import UsageError
from rocketrank.index.where import Condition

FIELDS = ("year", "source", "my field")
Cell = str | int | float | None
Row = tuple[Cell, Cell, Cell]
reproducible = settings(max_examples=100, deadline=None, derandomize=True)


def selected(text: str, rows: Sequence[Row]) -> list[int]:
    """The numbers of those ``rows`` that SQLite finds, from a table as an index has it."""
    condition = Condition(text, FIELDS)
    with closing(sqlite3.connect(":memory:")) as connection:
        columns = "row INTEGER PRIMARY KEY, field_0, field_1, field_2"
        connection.execute(f"CREATE TABLE fields ({columns})")
        for number in range(3):
            connection.execute(f"CREATE INDEX by_{number} ON fields (field_{number})")
        numbered = ((number, *row) for number, row in enumerate(rows))
        connection.executemany("INSERT INTO fields VALUES (?, ?, ?, ?)", numbered)
        select = f"SELECT row FROM fields WHERE {condition.sql}"
        return sorted(row for (row,) in connection.execute(select, condition.values))


def refused(text: str, fields: Sequence[str] = FIELDS) -> str:
    with pytest.raises(UsageError) as caught:
        Condition(text, fields)
    return str(caught.value)


YEARS: list[Row] = [(year, None, None) for year in (2019, 2020.0, 2020.5, 2021, "2020", "x", None)]
BY_HAND: tuple[tuple[str, list[int]], ...] = (
    *(("year = 2020", [1]), ("year == 2020.0", [1]), ("year = '2020'", [4]), ("'x' = year", [5])),
    *(("year != 2020", [0, 2, 3, 4, 5]), ("year <> '2020'", [0, 1, 2, 3, 5])),
    *(("year < 2020.5", [0, 1]), ("year <= 2020.5", [0, 1, 2]), ("2020.5 > year", [0, 1])),
    *(("year > 2020", [2, 3]), ("year >= 2020", [1, 2, 3]), ("2020 <= year", [1, 2, 3])),
    *(("2020 < year", [2, 3]), ("2020 > year", [0]), ("2020 >= year", [0, 1]), ("1 = year", [])),
    *(("year >= '2020'", [4, 5]), ("year > ''", [4, 5]), ("year < 'x'", [4])),
    *(("year in (2019, '2020', 2020.5)", [0, 2, 4]), ("year in (2020)", [1])),
    *(("year not in (2019, 'x', 2020.5)", [1, 3, 4]), ("not year not in (2019)", [0])),
    *(("year between 2020 and 2021", [1, 2, 3]), ("year between '2' and '3'", [4])),
    *(("year not between 2020 and 2021", [0, 4, 5]), ("not year < 2021", [3, 4, 5])),
    *(("year is null", [6]), ("year is not null", [0, 1, 2, 3, 4, 5])),
    *(("not year is null", [0, 1, 2, 3, 4, 5]), ("not not year = 2019", [0])),
    *(("year like '20%'", [4]), ("year like 'X'", [5]), ("year like '_'", [5])),
    *(("year not like '2%'", [0, 1, 2, 3, 5]), ("year = 2019 or year is null", [0, 6])),
    ("year = 2019 or year = 2021 and year = 5", [0]),
    ("(year = 2019 or year = 2021) and year > 2020", [3]),
    ("not year = 2019 and year < 2021", [1, 2]),
    ("not (year = 2019 or year > 2020)", [1, 4, 5]),
    ("year = 2019 OR NOT year iS nOT nUlL", [0, 6]),
    ("\n\tyear>=2020\u00a0and(year<=+2020)\r\n", [1]),
)


@pytest.mark.parametrize(("text", "rows"), BY_HAND)
def test_an_operator_finds_the_rows_that_it_finds_by_hand(text: str, rows: list[int]) -> None:
    assert selected(text, YEARS) == rows


VALUES: tuple[tuple[str, object], ...] = (
    *(("true", 1), ("FALSE", 0), ("-12", -12), ("+007", 7), ("0" * 5000 + "1", 1)),
    *((".5", 0.5), ("5.", 5.0), ("-1.5E+3", -1500.0), ("2e-1", 0.2)),
    *(("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))),
    *(("'it''s'", "it's"), ("''", ""), ("''''", "'"), ("'\"`'", '"`')),
)


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_value_is_passed_on_as_it_is_written(text: str, value: object) -> None:
    values = Condition(f"year = {text}", FIELDS).values
    assert values == (value,) and type(values[0]) is type(value)


NAMES = (
    *(('"my field"', "my field"), ("`my field`", "my field"), ('"; --"', "; --"), ('""', "")),
    *(('"a""b`c"', 'a"b`c'), ('`a"b``c`', 'a"b`c'), ('"and"', "and"), ("`TRUE`", "TRUE")),
    *(("année", "année"), ("年", "年"), ("वर्ष", "वर्ष"), ("_x9", "_x9"), ("Other", "Other")),
)


@pytest.mark.parametrize(("written", "name"), NAMES)
def test_a_field_of_any_name_can_be_named(written: str, name: str) -> None:
    assert Condition(f"{written} = 1", ["other", name]).sql == "(field_1 = ?)"


ERRORS = (
    *(("year", 5, "a comparison", "the end", "complete"), ("year in ()", 10, "a value", "')'", "")),
    *(("year = ", 8, "a value", "the end", "complete"), ("year = 1)", 9, "the end", "')'", "")),
    ("year = nyt", 8, "a value", "'nyt'", "single quotes"),
    ('source = "nyt"', 10, "a value", "'nyt'", "single quotes"),
    ("year = null", 8, "a value", "'null'", "is null"),
    *(("year is 5", 9, "null or not null", "'5'", ""), ("year in 5", 9, "( and a list", "'5'", "")),
    ("year in (1, 2", 14, "a comma or the )", "the end", "complete"),
    ("year between 1 and 'b'", 20, "two numbers or two texts", "1 and 'b'", "both"),
    *(("year not = 5", 10, "a comparison", "'='", ""), ("5 like year", 3, "a field", "'like'", "")),
    *(("year like 5", 11, "a text", "5", "compare"), ("1 <= year <= 3", 11, "and, or", "'<='", "")),
    ("year like 'a\0'", 11, "without NUL", r"'a\x00'", ""),
    (f"year like '{'a' * 10_001}'", 11, "10,000", "10,001 characters", ""),
    ("(year = 1 or (year = 2)", 24, "the ) to the ( of column 1", "the end", ""),
    ("year = 1 year = 2", 10, "and, or", "'year'", "join"),
    ("year = 2020-01-05", 12, "and, or", "'-01'", "single quotes"),
    ("and year = 1", 1, "the name of a field", "'and'", "double quotes"),
    ("source = '''", 10, "a ' that closes", "the end", "twice"),
    ("my-field = 1", 3, "a name", "'-'", "double quotes"),
    *(("year = \0", 8, "a name", r"'\x00'", ""), ("year = 1_000", 8, "a number", "'1_000'", "")),
    ("x² = 1", 1, "letters, digits", "'x²'", "double quotes"),
    ("year = “nyt”", 8, "letters, digits", "'“nyt”'", "single quotes"),
    ("year = 1e999", 8, "below 1.8e308", "'1e999'", ""),
    ("year = 9223372036854775808", 8, str(2**63 - 1), "'9223372036854775808'", "decimal"),
    ("year = -9223372036854775809", 8, str(-(2**63)), "'-9223372036854775809'", "decimal"),
    ("year = " + "9" * 5000, 8, "whole numbers", "'9999", "decimal"),
    ("year = '\ud800'", 9, "whole characters", r"half a surrogate pair ('\ud800')", "UTF-8"),
    ("yaer = 1", 1, "'year', 'source', 'my field'", "'yaer'", "--fields"),
)


@pytest.mark.parametrize(("text", "column", "expected", "found", "cure"), ERRORS)
def test_what_cannot_be_read_is_named_with_its_column_and_cure(
    text: str, column: int, expected: str, found: str, cure: str
) -> None:
    message = refused(text)
    assert message.startswith(f"where, column {column}: expected ")
    assert re.search(f"{re.escape(expected)}.*, found {re.escape(found)}.*: .*{cure}", message)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_condition_is_refused_with_an_example(text: str) -> None:
    assert "year >= 2020 and source = 'nyt'" in refused(text)


def test_an_index_without_fields_says_so() -> None:
    assert "this index has no fields" in refused("year = 1", [])


def test_of_many_fields_some_are_named() -> None:
    message = refused("x = 1", [f"f{number}" for number in range(2000)])
    assert "'f0', 'f1', " in message and " and 1980 more)" in message and len(message) < 400


INJECTIONS = (
    *("1=1", "' or '1'='1", "year = 1; DROP TABLE fields", "year = 1 or 1=1 --", "year = 1 -- "),
    *("year = 1 /* and */", "year = '' or ''=''", r"source = 'a\' or 1=1 --'", "year = 'a' 'b'"),
    *("year = (SELECT 1)", "year in (SELECT row FROM fields)", "exists (SELECT 1)"),
    *("year = 1 UNION SELECT text FROM passages", "case when 1 then 1 end", "year = abs(1)"),
    *("row = 1", "rowid = 1", "field_0 = 1", "fields.year = 1", "[year] = 1", "year = year"),
    *("year = ?", "year = ?1", "year = :a", "year = @a", "year = $a", "year = x'00'", "year = 1\0"),
    *("year = 'a' || 'b'", "year + 1 = 2", "load_extension('x') = 1", "year glob '*'"),
    *("year collate nocase = 'a'", "year like '%' escape '%'"),
)


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_is_sql_and_no_condition_is_refused(text: str) -> None:
    assert refused(text).startswith("where, column ")


HOSTILE = (
    *("nyt", "' OR '1'='1", "'; DROP TABLE fields; --", "''", "'", '"', "`", "--", "/*", "*/", ";"),
    *("?", "?1", ":a", "%", "_", "", " ", "\\", "\\'", "\\u0000", '["a"]', "NULL", "field_0", "1"),
    *("\0", "a\0", "a\0b", "a", "\n", "\u2028", "\ufeff", "\ufffe", "\U0010ffff", "\u02bc"),
    *("\uff07", "é", "e\u0301", "x" * 100_000),
)


@pytest.mark.parametrize("form", ["source = {}", "source in ('none', {})", "{} = source"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_hostile_text_finds_the_row_that_holds_it(text: str, form: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    rows: list[Row] = [(None, other, None) for other in HOSTILE]
    assert selected(form.format(literal), rows) == [HOSTILE.index(text)]


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f"year = {number}" for number in range(5000)),
        " or ".join(f"year = {number} and source != 'x'" for number in range(2500)),
        f"not ({' and '.join(f'year != {number}' for number in range(5000))})",
        f"year in ({', '.join(str(number) for number in range(10_000))})",
        f"year in (7, {', '.join(str(number + 0.5) for number in range(9_999))})",
        f"{'not ' * 10_001}year != 7",
    ],
    ids=["or", "or of and", "not and", "in", "in decimals", "not"],
)
def test_a_long_condition_is_evaluated(text: str) -> None:
    assert selected(text, [(7, "y", None), (-1, "y", None), (None, None, None)]) == [0]


def test_more_values_than_sqlite_takes_are_refused() -> None:
    assert "at most 10,000 values" in refused(f"year in ({', '.join('1' * 10_001)})")
    assert "at most 10,000 values" in refused(" or ".join(["year is null"] * 10_001))


def deep(levels: int, values: int, leaf: str = "year not in (1, 2.5)") -> str:
    """Turns of and, or and not, with subtrees of one height beside each other while they last."""
    if not levels:
        return leaf
    if values < 8:
        return f"({leaf} and {leaf} or {leaf} and not {deep(levels - 1, 0)})"
    one = deep(levels - 1, values // 4)
    return f"({one} and {one} or {one} and not {one})"


@pytest.mark.parametrize("values", [0, 256])
def test_parentheses_20_deep_are_evaluated_whatever_is_in_them(values: int) -> None:
    assert selected(deep(20, values), [(3, None, None), (None, None, None)]) == [0]


@pytest.mark.parametrize("levels", [21, 100_000])
def test_deeper_parentheses_are_refused(levels: int) -> None:
    message = refused("(" * levels + "year = 1" + ")" * levels)
    assert message.startswith("where, column 21: expected at most 20 parentheses")


# A second implementation: three truth values, of which None is SQL's unknown.
Truth = bool | None
Evaluator = Callable[[Mapping[str, Cell]], Truth]
Made = tuple[str, Evaluator]

TEXTS = ("", "a", "A", "ab", "b", "é", "É", "2020", "%", "_", "a%", "it's", "a\0b", "\0", "日本")
NUMBERS = (0, 1, -1, 2020, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, 0.1, -0.0, 2020.0, 2.0**53, 2.0**63)
texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
numbers = st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e308, 1e308)
cells = st.none() | texts | numbers | st.just(float("inf"))
table = st.lists(st.tuples(cells, cells, cells), max_size=12)
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    **{"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
CAPITALS = str.maketrans(ascii_uppercase, ascii_lowercase)


def compared(sign: str, cell: Cell, value: Cell) -> Truth:
    if cell is None:
        return None
    if isinstance(cell, str) != isinstance(value, str):
        return sign in ("!=", "<>")
    return COMPARED[sign](cell, value)


def is_like(cell: Cell, pattern: str) -> Truth:
    if cell is None or not isinstance(cell, str) or "\0" in cell:
        return None if cell is None else False
    parts = [{"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern]
    lower = "".join(parts).translate(CAPITALS)
    return re.fullmatch(lower, cell.translate(CAPITALS), re.DOTALL) is not None


def negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


def both(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


@st.composite
def keyword(draw: st.DrawFn, word: str) -> str:
    return draw(st.sampled_from([word, word.upper(), word.title()]))


@st.composite
def literal(draw: st.DrawFn, value: str | int | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if type(value) is int and value in (0, 1) and draw(st.booleans()):
        return draw(keyword("true" if value else "false"))
    return draw(st.sampled_from(["", "+"] if str(value)[0] != "-" else [""])) + str(value)


@st.composite
def name(draw: st.DrawFn, field: str) -> str:
    return draw(st.sampled_from([f'"{field}"', f"`{field}`"] + [field] * field.isidentifier()))


@st.composite
def comparison(draw: st.DrawFn) -> Made:
    field = draw(st.sampled_from(FIELDS))
    sign = draw(st.sampled_from(list(COMPARED)))
    value = draw(texts | numbers)
    parts = [draw(name(field)), sign, draw(literal(value))]
    if draw(st.booleans()):
        parts = [parts[2], MIRROR.get(sign, sign), parts[0]]
    return draw(st.sampled_from(["", " ", "\n "])).join(parts), lambda row: compared(
        sign, row[field], value
    )


@st.composite
def by_keyword(draw: st.DrawFn) -> Made:
    field = draw(st.sampled_from(FIELDS))
    kind = draw(st.sampled_from(["in", "between", "like", "is"]))
    turned = draw(st.booleans())
    no = draw(keyword("not")) + " " if turned else ""
    start, word = f"{draw(name(field))} ", draw(keyword(kind))
    if kind == "is":
        text = f"{start}{word} {no}{draw(keyword('null'))}"
        return text, lambda row: (row[field] is None) != turned
    if kind == "in":
        values = draw(st.lists(texts | numbers, min_size=1, max_size=6))
        rest = f"({', '.join([draw(literal(value)) for value in values])})"

        def found(row: Mapping[str, Cell]) -> Truth:
            cell = row[field]
            return None if cell is None else any(compared("=", cell, each) for each in values)

    elif kind == "between":
        low, high = draw(st.tuples(texts, texts) | st.tuples(numbers, numbers))
        rest = f"{draw(literal(low))} {draw(keyword('and'))} {draw(literal(high))}"

        def found(row: Mapping[str, Cell]) -> Truth:
            cell = row[field]
            return both(compared(">=", cell, low), compared("<=", cell, high))

    else:
        # SQLite's LIKE reads U+FFFE and U+FFFF as U+FFFD.
        pattern = draw(texts.filter(lambda text: not re.search("[\0\ufffe\uffff]", text)))
        rest = draw(literal(pattern))

        def found(row: Mapping[str, Cell]) -> Truth:
            return is_like(row[field], pattern)

    return f"{start}{no}{word} {rest}", lambda row: negated(found(row)) if turned else found(row)


@st.composite
def combined(draw: st.DrawFn, inner: st.SearchStrategy[Made]) -> Made:
    """Parts with and, or and not between them, whose precedence is left to the reader."""
    part = st.tuples(inner, st.integers(0, 2))
    groups = draw(st.lists(st.lists(part, min_size=1, max_size=3), min_size=1, max_size=3))
    written = []
    for group in groups:
        parts = [f"{'not ' * turns}({text})" for (text, _), turns in group]
        written.append(f" {draw(keyword('and'))} ".join(parts))

    def found(row: Mapping[str, Cell]) -> Truth:
        truths = []
        for group in groups:
            evaluated = [(evaluate(row), turns % 2) for (_, evaluate), turns in group]
            turned = [negated(truth) if odd else truth for truth, odd in evaluated]
            truths.append(negated(reduce(both, turned)))
        return negated(reduce(both, truths))

    return f" {draw(keyword('or'))} ".join(written), found


conditions = st.recursive(comparison() | by_keyword(), combined, max_leaves=8)


@reproducible
@given(conditions, table)
def test_sqlite_finds_the_rows_that_plain_python_finds(made: Made, rows: list[Row]) -> None:
    text, evaluate = made
    truths = [evaluate(dict(zip(FIELDS, row, strict=True))) for row in rows]
    assert selected(text, rows) == [number for number, truth in enumerate(truths) if truth]
    assert SQL.fullmatch(Condition(text, FIELDS).sql)


PIECES = (
    *("year", "source", '"my field"', "`year`", "and", "or", "not", "in", "between", "like", "is"),
    *("null", "true", "NOT", "=", "!=", "<>", "<", "<=", ">", ">=", "==", "(", ")", ",", "1", "-2"),
    *("1e3", "'a'", "'it''s'", "''", "'", '"', "`", ";", "--", "/*", "\0", "?", "row", "\\"),
    *("SELECT", "DROP TABLE fields", "year = 1", "source like 'a%'", "year in (1, 'b')"),
)
SQL = re.compile(
    r"(?:field_[0-2]|\?|[(),]|''|= 0|[<>!]=|[<>=]|AND|OR|NOT|IN|IS|NULL|LIKE|instr|char\(0\)"
    r"|SELECT value FROM json_each| )+"
)
pieces = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)


@settings(reproducible, max_examples=500)
@given(st.text() | pieces | st.text("'\"()=19 yearnot"))
def test_any_text_is_refused_in_a_line_or_becomes_sql_without_it(text: str) -> None:
    try:
        condition = Condition(text, FIELDS)
    except UsageError as error:
        assert str(error).startswith("where") and str(error).isprintable()
    else:
        assert SQL.fullmatch(condition.sql)
        assert condition.sql.count("?") == len(condition.values)
        assert selected(text, []) == []
