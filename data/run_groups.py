"""Reading large runs fast: one group of columns a query, instead of an entry a line.

Blocks of a file are split and converted as a whole where numpy finds every line to be as it should
be: the same number of columns, one blank or tab between them, ranks and scores that are numbers.
With the first line that is not, :func:`~rocketrank.data.runs.read_run` takes over from that place.
So what is read, and what is refused in which words, is what read_run reads and refuses.
"""

import itertools
import math
import operator
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from ..errors import UsageError
from .decompression import DamagedError, plain_blocks
from .lines import STANDARD_INPUT, shown
from .records import RunEntry
from .runs import RunFormat, detect_run_format, read_run

_UTF8_MARK = b"\xef\xbb\xbf"
_TAB, _NEWLINE, _BLANK = b"\t\n "
# what str.split() takes for a blank, beyond ASCII
_OTHER_BLANK = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
# Bytes without a newline that are still taken for a line; read_run allows more.
_LONGEST_LINE = 1 << 20
_HIGHEST_RANK = 999_999_999
_OF_RANKS = b"0123456789,"
_OF_SCORES = b"0123456789,+-.eE"


class RunGroup(NamedTuple):
    """What a run has of one query, in the file's order; the three lists are equally long."""

    query_id: str
    ids: list[str]
    ranks: list[int]
    scores: list[float]


class _IrregularError(Exception):
    """Something that only read_run reads, or that nobody can read."""


def read_run_groups(
    path: str | Path, format: RunFormat | Literal["auto"] = "auto"
) -> Iterator[RunGroup]:
    """The run of a file or of ``-``, query by query, in the order in which the queries begin.

    A query whose lines are not together comes once more after all others, then with all of its
    lines in the file's order: who keeps the last group of a query has the whole of it. A query
    with no passages (jsonl) does not come. Raises what read_run raises, in the same words.
    """
    entries = read_run(path, format)
    if str(path) == STANDARD_INPUT or not Path(path).is_file():  # cannot be read a second time
        return group_entries(entries)
    return _whole_groups(path, format)


def group_entries(entries: Iterable[RunEntry]) -> Iterator[RunGroup]:
    """The same of entries, which are all held in memory: each query comes once, and whole.

    Raises UsageError for a score that is not finite.
    """
    groups: dict[str, RunGroup] = {}
    for query_id, passage_id, rank, score in entries:
        if not math.isfinite(score):
            raise UsageError(
                f"the score of query {shown(query_id)} and passage {shown(passage_id)} is {score}: "
                "expected a finite number"
            )
        group = groups.get(query_id)
        if group is None:
            group = groups[query_id] = RunGroup(query_id, [], [], [])
        group.ids.append(passage_id)
        group.ranks.append(int(rank))
        group.scores.append(float(score))
    yield from groups.values()


def _whole_groups(path: str | Path, format: RunFormat | Literal["auto"]) -> Iterator[RunGroup]:
    seen: set[str] = set()
    scattered: dict[str, RunGroup] = {}
    for group in _neighbours_joined(_file_groups(path, format)):
        if group.query_id in seen:
            scattered[group.query_id] = RunGroup(group.query_id, [], [], [])
        else:
            seen.add(group.query_id)
            yield group
    if scattered:
        for group in _file_groups(path, format):
            if group.query_id in scattered:
                _append(scattered[group.query_id], group)
        yield from scattered.values()


def _append(group: RunGroup, more: RunGroup) -> None:
    group.ids.extend(more.ids)
    group.ranks.extend(more.ranks)
    group.scores.extend(more.scores)


def _neighbours_joined(groups: Iterable[RunGroup]) -> Iterator[RunGroup]:
    """A query that goes on in the next block, or line of JSON, as one group."""
    held: RunGroup | None = None
    for group in groups:
        if held is not None and held.query_id == group.query_id:
            _append(held, group)
            continue
        if held is not None:
            yield held
        held = group
    if held is not None:
        yield held


def _file_groups(path: str | Path, format: RunFormat | Literal["auto"]) -> Iterator[RunGroup]:
    """Groups as they come, cut where a block ends."""
    done = 0
    try:
        for group in _regular_groups(Path(path), format):
            done += len(group.ids)
            yield group
        return
    except (_IrregularError, DamagedError, OSError):
        pass
    entries = itertools.islice(read_run(path, format), done, None)
    for query_id, of_query in itertools.groupby(entries, key=operator.attrgetter("query_id")):
        _, ids, ranks, scores = zip(*of_query, strict=True)
        yield RunGroup(query_id, list(ids), list(ranks), list(scores))


def _regular_groups(path: Path, format: RunFormat | Literal["auto"]) -> Iterator[RunGroup]:
    columns = 0
    for data in _whole_lines(path):
        columns = columns or _columns(data, format)
        _check_structure(data, columns)
        yield from _groups(_text(data), columns)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Blocks of lines, each with its newline; newlines at the end of the file are left out."""
    rest = b""
    first = True
    with path.open("rb", buffering=0) as file:
        for block in plain_blocks(file.read):
            data = rest + block
            end = data.rfind(b"\n") + 1
            if len(data) - end > _LONGEST_LINE:
                raise _IrregularError
            text = data[:end].rstrip(b"\n")
            if text:
                rest = data[len(text) + 1 :]
                text = data[: len(text) + 1]
                if b"\r" in text:
                    text = text.replace(b"\r\n", b"\n")
                yield text.removeprefix(_UTF8_MARK) if first else text
                first = False
            else:
                rest = data
    if rest.strip(b"\n"):
        yield rest.removeprefix(_UTF8_MARK) + b"\n" if first else rest + b"\n"


def _columns(data: bytes, format: RunFormat | Literal["auto"]) -> int:
    """How many columns the first line has, where the format has so many."""
    line = data[: data.index(b"\n")]
    columns = len(line.split())
    known = {"trec": (6,), "msmarco": (3, 4), "auto": (3, 4, 6)}.get(format, ())
    if columns not in known or line.startswith(b"{"):
        raise _IrregularError
    # ids with blanks in them can make six columns of a line that has three between its tabs
    if format == "auto" and b"\t" in line:
        found = detect_run_format(line.decode("utf-8", "replace"))
        if found != ("trec" if columns == 6 else "msmarco"):
            raise _IrregularError
    return columns


def _check_structure(data: bytes, columns: int) -> None:
    """Every line has this many columns, with a blank or tab and nothing else between them."""
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes <= _BLANK)  # control characters too
    if len(ends) % columns or np.any(np.diff(ends, prepend=-1) < 2):
        raise _IrregularError
    found = codes[ends].reshape(-1, columns)
    between = found[:, :-1]
    tabs = int(np.count_nonzero(between == _TAB))
    blanks = int(np.count_nonzero(between == _BLANK))
    # a line of msmarco with a tab in it may have blanks in its ids
    if (
        np.any(found[:, -1] != _NEWLINE)
        or tabs + blanks != between.size
        or (columns != 6 and tabs and blanks)
    ):
        raise _IrregularError


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _IrregularError from None
    if not text.isascii() and _OTHER_BLANK.search(text):
        raise _IrregularError
    return text


def _groups(text: str, columns: int) -> Iterator[RunGroup]:
    fields = text.split()
    queries = fields[::columns]
    ids = fields[2::columns] if columns == 6 else fields[1::columns]
    ranks = _ranks(fields[3::columns] if columns == 6 else fields[2::columns])
    if columns == 3:
        if 0 in ranks:
            raise _IrregularError
        scores = [1 / rank for rank in ranks]
    else:
        scores = _scores(fields[4::columns] if columns == 6 else fields[3::columns])
    changes = map(operator.ne, queries, itertools.islice(queries, 1, None))
    starts = itertools.compress(itertools.count(1), changes)
    for start, end in itertools.pairwise(itertools.chain((0,), starts, (len(queries),))):
        yield RunGroup(queries[start], ids[start:end], ranks[start:end], scores[start:end])


def _ranks(column: list[str]) -> list[int]:
    joined = ",".join(column)
    ranks = _json_numbers(joined, len(column), _OF_RANKS)
    if ranks is None or max(ranks) > _HIGHEST_RANK:
        raise _IrregularError
    return ranks


def _scores(column: list[str]) -> list[float]:
    values: list[float] | None = _json_numbers(",".join(column), len(column), _OF_SCORES)
    if values is None:
        try:
            values = list(map(float, column))
        except ValueError:
            raise _IrregularError from None
    scores = np.array(values, np.float64)
    if not np.isfinite(scores).all():
        raise _IrregularError
    converted: list[float] = scores.tolist()
    return converted


def _json_numbers(joined: str, count: int, characters: bytes) -> list[Any] | None:
    """So many numbers between commas, read as JSON, which is several times as fast as float().

    None where one of them is written as JSON does not allow ("+1", ".5", "007").
    """
    if not joined.isascii() or joined.encode().translate(None, characters):
        return None
    try:
        numbers: list[Any] = orjson.loads(f"[{joined}]")
    except orjson.JSONDecodeError:
        return None
    return numbers if len(numbers) == count else None
