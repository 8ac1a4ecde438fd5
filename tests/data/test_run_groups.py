"""Reading runs by blocks against reading them line by line."""

import gzip
import itertools
import lzma
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data import RunEntry, read_run
from rocketrank.data.run_groups import RunGroup, group_entries, read_run_groups
from rocketrank.errors import DataError, UsageError

LINE = b"q1 Q0 p1 1 2.5 t\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


def entries_of(groups: Iterable[RunGroup]) -> list[RunEntry]:
    return [
        RunEntry(group.query_id, *entry)
        for group in groups
        for entry in zip(group.ids, group.ranks, group.scores, strict=True)
    ]


def error_of(read: Callable[[Path], Iterable[object]], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read(path))
    return str(caught.value)


def long_run(queries: int = 30, hits: int = 700) -> bytes:
    """More than a block, with queries that go over the end of one."""
    return b"".join(
        b"q%d Q0 p%d %d %f tag\n" % (query, 7 * rank + query, rank, 1 / rank)
        for query in range(queries)
        for rank in range(1, hits + 1)
    )


@pytest.mark.parametrize(
    "content",
    [
        LINE,
        LINE.rstrip(),
        b"q1\tQ0\tp1\t1\t2.5\tt\nq1 Q0\tp2 2 -1 t\nq2 Q0 p1 0 1e-3 t\n",
        LINE + b"\n\n",
        b"\n\n",
        b"",
        b"\xef\xbb\xbf" + LINE,
        b"\xef\xbb\xbf" + LINE.rstrip(),
        LINE.replace(b"\n", b"\r\n") * 2,
        LINE.replace(b"\n", b"\r\n") + b"\r\n",
        LINE.rstrip() + b"\r",
        b"  q1  Q0 p1 1 2.5 t \n" + LINE,
        LINE + b"q1 Q0 p2 007 +1 t\nq1 Q0 p2 8 .5 t\nq1 Q0 p2 8 1. t\nq1 Q0 p2 8 1_0 t\n",
        b"q1 Q0 p1 1 100000000000000000000000000000000 t\nq1 Q0 p2 2 18446744073709551617 t\n",
        b"q1 Q0 p1 1 1e-320 t\nq1 Q0 p2 2 -1E30 t\nq1 Q0 p3 3 0.1000000000000000055 t\n",
        "köln Q0 straße 1 2.5 t\nköln Q0 日本 2 1.5 t\n".encode(),
        "a\u00a0Q0 p 1 2.5 t\n".encode(),
        "a\u3000Q0 p 1 2.5 t\nb Q0 \u2003p 1 2.5 t\n".encode(),
        b"a\x1cQ0 p 1 2.5 t\n",
        b"q1\tp1\t1\nq1\tp2\t2\nq2\tp1\t1\n",
        b"q1 p1 1\nq1 p2 2\n",
        b"q\tp\t1\nq 1\tp 1\t1\nq 1\tp 2\t2\n",
        b"q1\tp1\t1\t71.5\nq2\tp1\t1\t-2\n",
        b"q1\tp1\t1\t71.5\nq2\tp1\t4\n",
        b'{"query_id": "q1", "hits": [{"id": "a", "rank": 1, "score": 2}]}\n'
        b'{"query_id": "q2", "hits": []}\n'
        b'{"query_id": "q3", "hits": [{"id": "a", "rank": 0, "score": 2.5}]}\n',
    ],
)
def test_what_is_read_is_what_read_run_reads(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert entries_of(read_run_groups(path)) == list(read_run(path))


@pytest.mark.parametrize(
    "content",
    [
        LINE + b"q Q0 p 2 nan t\n",
        LINE + b"q Q0 p 2 -inf t\n",
        LINE + b"q Q0 p 2 1e999 t\n",
        LINE + b"q Q0 p 2 high t\n",
        LINE + b"q Q0 p 2 null t\n",
        LINE + b"q Q0 p 2 true t\n",
        LINE + b'q Q0 p 2 "1" t\n',
        LINE + b"q Q0 p 2 1,5 t\n",
        LINE + b"q Q0 p 2 [1 t\nq Q0 p 3 2] t\n",
        LINE + b"q Q0 p 1.5 1.0 t\n",
        LINE + b"q Q0 p -1 1.0 t\n",
        LINE + b"q Q0 p 1234567890 1.0 t\n",
        LINE + "q Q0 p ² 1.0 t\n".encode(),
        LINE + b"q Q0 p 2 1.0\n",
        LINE + b"q Q0 p 2 1.0 a tag\n",
        LINE + b"q Q0 p 2 1.0\nq Q0 p 3 0.5 my tag\n",  # as many columns as two good lines
        LINE + b"\n" + LINE,
        LINE + b"q Q0 p 2 1.0 \0\n",
        LINE + b"q Q0 \xff 2 1.0 t\n",
        b"q\tp\t1\nq\tp\t0\n",
        b"q\tp\t1\nq\tp\n",
        b"q\t\t1\n",
        b"q\n",
        b"PK\x03\x04" + LINE,
        b'{"query_id": "q", "hits": []}\n{"query_id": "q"}\n',
        b'{"query_id": "q", "hits": [{"id": "p", "rank": 1, "score": null}]}\n',
        long_run() + b"q Q0 p 2 nan t\n",
        long_run() + b"q Q0 p 2\n" + long_run(),
    ],
)
def test_what_is_refused_is_what_read_run_refuses_in_the_same_words(
    path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    message = error_of(read_run_groups, path)
    assert message == error_of(read_run, path)
    assert message.startswith(f"{path}:")


COMPRESSORS = [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress]


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_a_compressed_run_is_read_as_it_lies_there(
    path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(compress(long_run()))
    assert entries_of(read_run_groups(path)) == list(read_run(path))


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_a_truncated_compression_is_refused_after_its_whole_lines(
    path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(compress(long_run())[:-9])
    read: list[RunGroup] = []
    with pytest.raises(DataError) as caught:
        read.extend(read_run_groups(path))
    assert str(caught.value) == error_of(read_run, path)
    assert "it is truncated, fetch it again" in str(caught.value)


@pytest.mark.parametrize("end", [b"", b"\n\n\n", b"q Q0  p 1 1.0 t\n"])
def test_queries_that_go_over_the_end_of_a_block_stay_whole(path: Path, end: bytes) -> None:
    path.write_bytes(long_run() + end)
    groups = list(read_run_groups(path))
    assert [len(group.ids) for group in groups[:30]] == [700] * 30
    assert entries_of(groups) == list(read_run(path))


def test_a_query_whose_lines_are_apart_comes_once_more_and_whole(path: Path) -> None:
    path.write_bytes(b"a Q0 p1 1 3 t\nb Q0 p1 1 3 t\na Q0 p2 2 2 t\nc Q0 p1 1 3 t\na Q0 p3 3 1 t\n")
    groups = list(read_run_groups(path))
    assert [group.query_id for group in groups] == ["a", "b", "c", "a"]
    assert groups[-1] == RunGroup("a", ["p1", "p2", "p3"], [1, 2, 3], [3.0, 2.0, 1.0])


def test_a_query_on_two_lines_of_json_is_one_group(path: Path) -> None:
    line = b'{"query_id": "q", "hits": [{"id": "%s", "rank": 1, "score": 2}]}\n'
    path.write_bytes(line % b"a" + line % b"b")
    assert list(read_run_groups(path)) == [RunGroup("q", ["a", "b"], [1, 1], [2.0, 2.0])]


def test_a_pipe_gives_every_query_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = b"a Q0 p1 1 3 t\nb Q0 p1 1 3 t\na Q0 p2 2 2 t\n"
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    groups = list(read_run_groups(path))
    writer.join()
    assert groups == [RunGroup("a", ["p1", "p2"], [1, 2], [3, 2]), RunGroup("b", ["p1"], [1], [3])]


FIELD = st.sampled_from(["a", "bc", "1", "22", "0.5", "-3", "1e5", "nan", "+7", "é", "", "\u00a0"])
BETWEEN = st.sampled_from([" ", " ", " ", "\t", "  "])


@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.lists(
        st.tuples(st.lists(FIELD, min_size=3, max_size=7), BETWEEN)
        | st.just((["q", "Q0", "p", "1", "2.5", "t"], " "))
        | st.just((["q", "p", "1"], "\t")),
        max_size=4,
    ),
    format=st.sampled_from(["auto", "trec", "msmarco"]),
)
def test_any_text_is_read_or_refused_as_read_run_does(
    path: Path, lines: list[tuple[list[str], str]], format: Any
) -> None:
    path.write_text("".join(between.join(fields) + "\n" for fields, between in lines))

    def by_groups() -> list[RunEntry]:
        whole = {group.query_id: group for group in read_run_groups(path, format)}
        return entries_of(whole.values())

    def outcome(read: Callable[[], list[RunEntry]]) -> list[RunEntry] | str:
        try:
            return sorted(read())
        except DataError as error:
            return str(error)

    assert outcome(by_groups) == outcome(lambda: list(read_run(path, format)))


def test_a_file_that_is_not_there_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_run_groups(tmp_path / "none")


def test_a_format_that_does_not_exist_is_refused(path: Path) -> None:
    path.write_bytes(LINE)
    with pytest.raises(UsageError, match="must be one of"):
        read_run_groups(path, "csv")  # type: ignore[arg-type]


def test_entries_in_any_order_are_gathered_by_query() -> None:
    entries = [RunEntry("a", "p1", 1, 2.0), RunEntry("b", "p1", 1, 2.0), RunEntry("a", "p2", 2, 1)]
    for order in itertools.permutations(entries):
        groups = {group.query_id: group for group in group_entries(order)}
        assert sorted(entries_of(groups.values())) == sorted(entries)
        assert len(groups) == 2


def test_an_entry_without_a_finite_score_is_named() -> None:
    with pytest.raises(UsageError, match=r"query 'a' and passage 'p' is nan: expected a finite"):
        list(group_entries([RunEntry("a", "p", 1, float("nan"))]))


@pytest.mark.parametrize("line", [b"q 1\ta b\t1\n", b"q\ta 1 2 3\t4\n", b"q Q0 a\t1\t3 x\n"])
def test_blanks_between_tabs_are_read_as_read_run_reads_them(path: Path, line: bytes) -> None:
    path.write_bytes(line)
    assert entries_of(read_run_groups(path)) == list(read_run(path))
