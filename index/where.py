"""Conditions on the fields of passages, such as ``year >= 2020 and source = 'nyt'``, as SQL.

    condition   = conjunction { "or" conjunction }
    conjunction = single { "and" single }
    single      = { "not" } ( "(" condition ")" | comparison )
    comparison  = field operator value | value operator field
                | field ["not"] "in" "(" value { "," value } ")"
                | field ["not"] "between" value "and" value
                | field ["not"] "like" text
                | field "is" ["not"] "null"
    operator    = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
    field       = letters of any language, digits and _, or any name in "…" or `…`
    value       = text | -12 | 1.5e3 | "true" (1) | "false" (0)
    text        = '…', a quote inside it twice

Keywords are read in either case, names of fields exactly as they are. What a condition means:

* A field that a passage does not have meets no comparison and no negated one, neither ``!=`` nor
  ``not``, as NULL in SQL; ``is null`` finds it.
* Numbers are compared with numbers and texts with texts. A value of the other kind is a different
  one: it meets ``!=`` and what else is negated, and nothing besides. SQLite by itself takes every
  text for larger than every number.
* Texts are ordered by code point. In ``like``, % stands for any characters and _ for one, and the
  letters A to Z are alike in either case, as in SQLite; a text with a NUL is like no pattern.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import isfinite
from typing import Literal, NamedTuple

import orjson

from ..data.lines import shown
from ..errors import UsageError

Value = str | int | float

# Every value may take a parameter of its own; SQLite before 3.32 has 999 of them.
_MOST_PARTS = 10_000 if sqlite3.sqlite_version_info >= (3, 32) else 900
_LONGEST_PATTERN = 10_000  # characters; SQLite's limit is 50,000 bytes
_DEEPEST = 20
_WIDEST = 8
_FIELDS_NAMED = 20

_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SPELLINGS = {"==": "=", "<>": "!="}
_KEYWORDS = frozenset(("and", "or", "not", "in", "between", "like", "is", "null"))
_TRUTHS = {"true": 1, "false": 0}
_QUOTES = "'\"`"

_CURE = (
    "put texts and dates in single quotes, and names with other characters than letters, digits "
    "and _ in double quotes"
)
_CURES = {
    "end": "complete the condition there",
    "field": "put texts in single quotes, and join comparisons with and, or",
    ")": "close what was opened, and take away what is too much",
    "null": "passages without a field are found by `is null`",
}

_LEXEME = re.compile(
    r"(?P<number>[+-]?\.?[0-9](?:[eE][+-]|[\w.])*)"
    r"|(?P<word>[^\s\x00-/:-@\[-^`{-\x7f]+)"  # no white space, no ASCII but letters, digits and _
    r"|(?P<sign><=|>=|<>|!=|==|[=<>(),])"
)
_SPACE = re.compile(r"\s*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Condition:
    """A condition as SQL over ``field_0``, ``field_1``, …, numbered by their place in ``fields``.

    ``sql`` is made of this module's words alone, with a ? for each of ``values``: nothing of the
    user's text is in it. For SQLite it is neither too deep nor too long, whatever was written.
    """

    def __init__(self, text: str, fields: Sequence[str]) -> None:
        """Raises UsageError, with the column (from 1), for what is no condition on ``fields``."""
        part = _Parser(text, fields).whole()
        self.sql: str = part.sql
        self.values: tuple[Value, ...] = part.values


class _Token(NamedTuple):
    kind: str
    """field, value, end, or the keyword or sign itself in its one spelling."""
    text: str
    """The name of a field, or what was written."""
    column: int
    value: Value = 0


class _Part(NamedTuple):
    """SQL that can stand beside AND and OR, its values, and how high it piles up SQLite's parser.

    The parser's stack holds 100 symbols in most releases. Of ``(first OR second)`` it keeps ``(``
    while it reads the first, and ``( first OR`` while it reads the second.
    """

    height: int
    sql: str
    values: tuple[Value, ...]


class _Parser:
    """Recursive descent, one token ahead; SQL is made on the way.

    ``negated`` goes down to the comparisons, where it becomes NOT: by De Morgan's laws, which hold
    for SQL's three truth values, too.
    """

    def __init__(self, text: str, fields: Sequence[str]) -> None:
        self._fields = fields
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = 0
        self._parts = 0

    def whole(self) -> _Part:
        if self._next.kind == "end":
            condition = "a condition such as \"year >= 2020 and source = 'nyt'\""
            raise _refusal(1, condition, "an empty one", "write one, or search without it")
        part = self._either(False)
        if self._next.kind != "end":
            raise _unexpected(self._next, "and, or or the end")
        return part

    def _either(self, negated: bool) -> _Part:
        parts = [self._both(negated)]
        while self._took("or"):
            parts.append(self._both(negated))
        return _joined(parts, "AND" if negated else "OR")

    def _both(self, negated: bool) -> _Part:
        parts = [self._single(negated)]
        while self._took("and"):
            parts.append(self._single(negated))
        return _joined(parts, "OR" if negated else "AND")

    def _single(self, negated: bool) -> _Part:
        while self._took("not"):
            negated = not negated
        opening = self._next
        if not self._took("("):
            part = self._comparison()
            return part._replace(sql=f"NOT {part.sql}") if negated else part
        self._depth += 1
        if self._depth > _DEEPEST:
            cure = "take away those that are not needed; and binds before or"
            most = f"at most {_DEEPEST} parentheses in one another"
            raise _refusal(opening.column, most, "one more", cure)
        part = self._either(negated)
        if not self._took(")"):
            raise _unexpected(self._next, f"and, or or the ) to the ( of column {opening.column}")
        self._depth -= 1
        return part

    def _comparison(self) -> _Part:
        first = self._take()
        if first.kind == "value":
            self._count(first)
            sign = self._take()
            if sign.kind not in _MIRRORED:
                raise _unexpected(sign, "=, !=, <, <=, > or >= and a field")
            return _compared(self._column(self._take()), _MIRRORED[sign.kind], first.value)
        column = self._column(first)
        sign = self._take()
        if sign.kind in _MIRRORED:
            return _compared(column, sign.kind, self._value())
        if sign.kind == "is":
            return self._missing(column, sign)
        part = self._by_keyword(column, self._take() if sign.kind == "not" else sign)
        return part._replace(sql=f"(NOT {part.sql})") if sign.kind == "not" else part

    def _by_keyword(self, column: str, keyword: _Token) -> _Part:
        if keyword.kind == "in":
            return _among(column, self._list())
        if keyword.kind == "like":
            return _like(column, self._pattern())
        if keyword.kind == "between":
            return self._between(column)
        raise _unexpected(keyword, "a comparison (=, !=, <, <=, >, >=, in, like, between, is null)")

    def _missing(self, column: str, sign: _Token) -> _Part:
        self._count(sign)
        negation = "NOT " if self._took("not") else ""
        if not self._took("null"):
            raise _unexpected(self._next, "null" if negation else "null or not null")
        return _Part(0, f"({column} IS {negation}NULL)", ())

    def _between(self, column: str) -> _Part:
        lower = self._value()
        if not self._took("and"):
            raise _unexpected(self._next, "and, then the upper bound")
        column_of_upper, upper = self._next.column, self._value()
        if isinstance(lower, str) != isinstance(upper, str):
            found = f"{shown(lower)} and {shown(upper)}"
            cure = "put both in single quotes, or neither"
            raise _refusal(column_of_upper, "two numbers or two texts", found, cure)
        sql = f"({column} >= ? AND {column} <= ? AND {_of_kind(column, lower)})"
        return _Part(0, sql, (lower, upper))

    def _list(self) -> list[Value]:
        if not self._took("("):
            raise _unexpected(self._next, "( and a list of values")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        if not self._took(")"):
            raise _unexpected(self._next, "a comma or the ) after the list of values")
        return values

    def _pattern(self) -> str:
        column = self._next.column
        pattern = self._value()
        if isinstance(pattern, str) and "\0" not in pattern and len(pattern) <= _LONGEST_PATTERN:
            return pattern
        expected = f"a text without NUL, of at most {_LONGEST_PATTERN:,} characters"
        found = shown(pattern)
        if isinstance(pattern, str) and len(pattern) > _LONGEST_PATTERN:
            found = f"{len(pattern):,} characters"
        cure = "compare with = for a whole text, and with <, <=, > or >= for a number"
        raise _refusal(column, expected, found, cure)

    def _value(self) -> Value:
        token = self._take()
        if token.kind != "value":
            raise _unexpected(token, "a value ('text', a number, true or false)")
        self._count(token)
        return token.value

    def _column(self, token: _Token) -> str:
        if token.kind != "field":
            raise _unexpected(token, "the name of a field")
        if token.text in self._fields:
            return f"field_{self._fields.index(token.text)}"
        named = ", ".join(shown(name) for name in self._fields[:_FIELDS_NAMED])
        more = len(self._fields) - _FIELDS_NAMED
        there = f"a field of this index ({named}{f' and {more} more' if more > 0 else ''})"
        if not self._fields:
            there = "no condition, for this index has no fields"
        cure = "fields are chosen with --fields when the index is built"
        raise _refusal(token.column, there, shown(token.text), cure)

    def _count(self, token: _Token) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            cure = "name a range with between, or search in several parts"
            most = f"at most {_MOST_PARTS:,} values in a condition"
            raise _refusal(token.column, most, "one more", cure)

    def _take(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _took(self, kind: str) -> bool:
        if self._next.kind != kind:
            return False
        self._take()
        return True


def _refusal(column: int, expected: str, found: str, cure: str) -> UsageError:
    return UsageError(f"where, column {column}: expected {expected}, found {found}: {cure}")


def _unexpected(token: _Token, expected: str) -> UsageError:
    cure = _CURES.get(token.kind, _CURE)
    found = "the end" if token.kind == "end" else shown(token.text)
    return _refusal(token.column, expected, found, cure)


def _of_kind(column: str, value: Value) -> str:
    """True for values of the kind of ``value``, NULL for NULL, and of use to an index.

    SQLite's order puts all numbers before the empty text.
    """
    return f"{column} >= ''" if isinstance(value, str) else f"{column} < ''"


def _compared(column: str, operator: str, value: Value) -> _Part:
    if operator in ("=", "!="):
        return _Part(0, f"({column} {operator} ?)", (value,))
    return _Part(0, f"({column} {operator} ? AND {_of_kind(column, value)})", (value,))


def _like(column: str, pattern: str) -> _Part:
    # SQLite reads numbers as texts here, and texts only up to a NUL.
    texts = f"{column} >= '' AND instr({column}, char(0)) = 0"
    return _Part(0, f"({column} LIKE ? AND {texts})", (pattern,))


def _among(column: str, values: Sequence[Value]) -> _Part:
    """Membership in a list. As JSON it is one parameter, whatever its length."""
    # SQLite's JSON ends texts at a NUL, and may read a decimal as a neighbour of it.
    others = [each for each in values if isinstance(each, float) or "\0" in str(each)]
    listed = [each for each in values if not isinstance(each, float) and "\0" not in str(each)]
    sql = f"{column} IN (SELECT value FROM json_each(?))"
    if others:
        sql += f" OR {column} IN ({', '.join('?' * len(others))})"
    return _Part(0, f"({sql})", (orjson.dumps(listed).decode(), *others))


def _joined(parts: Sequence[_Part], word: Literal["AND", "OR"]) -> _Part:
    """All ``parts`` with ``word`` between them, in nested groups, the lowest ones first.

    SQLite refuses expressions more than 1,000 deep, which a long chain without groups is, and more
    than 100 symbols on its parser's stack. A group adds 1 to its highest member, which comes first,
    or 3 to the next one; only the second takes twice the values. So with parentheses 20 deep, which
    are 42 turns of AND and OR, and 10,000 < 2**14 values, the height is at most 28 + 3 * 14 = 70.
    """
    numbers = count()
    heap = [(part.height, next(numbers), part) for part in parts]
    heapify(heap)
    while len(heap) > 1:
        group = [heappop(heap)[2] for _ in range(min(_WIDEST, len(heap)))]
        group.sort(key=lambda part: -part.height)
        height = max(group[0].height + 1, group[1].height + 3)
        sql = f" {word} ".join(part.sql for part in group)
        values = tuple(value for part in group for value in part.values)
        heappush(heap, (height, next(numbers), _Part(height, f"({sql})", values)))
    return heap[0][2]


def _tokens(text: str) -> Iterator[_Token]:
    """The tokens of ``text``, then its end. Raises UsageError for what is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"half a surrogate pair ({text[error.start]!a})"
        cure = "decode the condition as UTF-8"
        raise _refusal(error.start + 1, "text of whole characters", found, cure) from None
    at = 0
    while space := _SPACE.match(text, at):
        at = space.end()
        if at == len(text):
            yield _Token("end", "", at + 1)
            return
        token, at = _quoted(text, at) if text[at] in _QUOTES else _unquoted(text, at)
        yield token


def _quoted(text: str, start: int) -> tuple[_Token, int]:
    """The text or name that opens at ``start``, and where it ends; its quote, twice, is in it."""
    quote = text[start]
    end = text.find(quote, start + 1)
    while end >= 0 and text[end + 1 : end + 2] == quote:
        end = text.find(quote, end + 2)
    if end < 0:
        cure = f"close it; a {quote} that is part of it is written twice"
        raise _refusal(start + 1, f"a {quote} that closes this one", "the end", cure)
    inner = text[start + 1 : end].replace(quote * 2, quote)
    kind = "value" if quote == "'" else "field"
    return _Token(kind, inner, start + 1, inner), end + 1


def _unquoted(text: str, start: int) -> tuple[_Token, int]:
    """The number, word or sign at ``start``, and where it ends."""
    match = _LEXEME.match(text, start)
    column = start + 1
    if match is None:
        raise _unexpected(_Token("", text[start], column), "a name, a value or a comparison")
    written, end = match[0], match.end()
    # A few letters of other alphabets become ASCII ones in lower case.
    keyword = written.lower() if written.isascii() else ""
    if match.lastgroup == "number":
        return _Token("value", written, column, _number(written, column)), end
    if match.lastgroup == "sign":
        return _Token(_SPELLINGS.get(written, written), written, column), end
    if keyword in _TRUTHS:
        return _Token("value", written, column, _TRUTHS[keyword]), end
    if keyword in _KEYWORDS:
        return _Token(keyword, written, column), end
    if not written.isidentifier():
        raise _unexpected(_Token("", written, column), "a name of letters, digits and _")
    return _Token("field", written, column), end


def _number(written: str, column: int) -> int | float:
    found = shown(written)
    if _INTEGER.fullmatch(written):
        # 19 digits are enough for 64 bits, and Python refuses to read thousands of them.
        digits = written.lstrip("+-").lstrip("0") or "0"
        number = int(digits[:20]) * (-1 if written.startswith("-") else 1)
        if -(2**63) <= number < 2**63:
            return number
        cure = "write it with a decimal point, or in single quotes where it is a text"
        raise _refusal(column, f"whole numbers from {-(2**63)} to {2**63 - 1}", found, cure)
    decimal = float(written) if _DECIMAL.fullmatch(written) else float("inf")
    if isfinite(decimal):
        return decimal
    raise _refusal(column, "a number such as 2020, -1.5 or 2e6, below 1.8e308", found, _CURE)
