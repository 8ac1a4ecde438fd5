"""DPR's passages, quoted like CSV or not: the same text either way."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data import CorpusReader, Passage
from rocketrank.data.passage_formats import is_quoted
from rocketrank.errors import DataError

FIELD = st.text(st.sampled_from("ab \"'é."), min_size=1).map(lambda text: f"a{text}")
QUOTING = {
    "as DPR's": csv.QUOTE_MINIMAL,
    "all fields": csv.QUOTE_ALL,
    "all but numbers": csv.QUOTE_NONNUMERIC,
}


def written(passages: list[Passage], quoting: int) -> str:
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, delimiter="\t", quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerow(["id", "text", "title"])
    writer.writerows([int(p.id), p.text, p.title] for p in passages)
    return lines.getvalue()


def read(path: Path, content: str) -> list[Passage]:
    path.write_text(content, encoding="utf-8", newline="")
    return list(CorpusReader([path]))


@pytest.mark.parametrize("quoting", QUOTING)
def test_real_passages_are_the_same_quoted_and_unquoted(
    shared_data: Path, tmp_path: Path, quoting: str
) -> None:
    path = shared_data / "nq" / "passages.tsv"
    lines = path.read_bytes().decode().removesuffix("\n").split("\n")[1:]
    unquoted = list(CorpusReader([path]))
    assert ["\t".join(passage[:3]) for passage in unquoted] == lines
    assert read(tmp_path / "quoted.tsv", written(unquoted, QUOTING[quoting])) == unquoted


@pytest.mark.parametrize("start", [0, 1, 2, 3, 40, 99, 1300])
def test_real_passages_are_the_same_wherever_the_file_starts(
    shared_data: Path, tmp_path: Path, start: int
) -> None:
    passages = list(CorpusReader([shared_data / "nq" / "passages.tsv"]))[start : start + 700]
    unquoted = "".join("\t".join(passage[:3]) + "\n" for passage in passages)
    path = tmp_path / "passages.tsv"
    assert read(path, f"id\ttext\ttitle\n{unquoted}") == passages
    assert read(path, written(passages, csv.QUOTE_MINIMAL)) == passages


@pytest.mark.parametrize("quoting", QUOTING)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=80))
def test_what_the_csv_module_writes_is_read(
    tmp_path: Path, quoting: str, texts: list[tuple[str, str]]
) -> None:
    passages = [Passage(str(n), text, title) for n, (text, title) in enumerate(texts)]
    assert read(tmp_path / "quoted.tsv", written(passages, QUOTING[quoting])) == passages


def test_a_tab_inside_quotes_is_part_of_the_text(tmp_path: Path) -> None:
    passages = [Passage("1", "plain", "A"), Passage("2", "with\ttab", "B")]
    assert read(tmp_path / "quoted.tsv", written(passages, csv.QUOTE_MINIMAL)) == passages


@pytest.mark.parametrize(
    ("lines", "quoted"),
    [
        (["1\ttext\ttitle"], None),
        (['1\t"a ""b"" c"\ttitle'], True),
        (['1\t"every text"\ttitle', '2\t"is quoted"\ttitle'], True),
        (['1\t"all in quotes"\ttitle', "2\tand this is not\ttitle"], False),
        (['1\t5" pipe\ttitle'], False),
        (['1\t"Fever" is a song\ttitle'], False),
        (['1\t"a ""b"" c"\ttitle', '2\tsaid "no"\ttitle'], False),
        (['1\t"Fever" is a "song"\ttitle'], False),
        (['1\t"a\tb"\ttitle'], True),
    ],
)
def test_quoting_is_decided_by_fields_with_quotes(lines: list[str], quoted: bool | None) -> None:
    assert is_quoted(lines) is quoted


@pytest.mark.parametrize(
    ("late", "text"),
    [('"a ""b"" c"', 'a "b" c'), ('"a" and "b"', '"a" and "b"'), ('"a b"', '"a b"')],
)
def test_the_first_quote_decides_when_the_first_lines_have_none(
    tmp_path: Path, late: str, text: str
) -> None:
    plain = "".join(f"{number}\ttext\ttitle\n" for number in range(100))
    passages = read(tmp_path / "late.tsv", f"id\ttext\ttitle\n{plain}100\t{late}\ttitle\n")
    assert passages[-1] == Passage("100", text, "title")


def test_lines_are_never_joined(tmp_path: Path) -> None:
    content = 'id\ttext\ttitle\n1\t"a ""b"""\tA\n' + "2\tc\tC\n" * 70 + '3\t"open\nend"\tD\n'
    with pytest.raises(
        DataError, match=r""":73: expected a quoted field to end .* found '"open'"""
    ):
        read(tmp_path / "joined.tsv", content)


def test_a_malformed_field_in_a_quoted_file_is_an_error(tmp_path: Path) -> None:
    content = 'id\ttext\ttitle\n1\t"a ""b"""\tA\n' + "2\tc\tC\n" * 70 + '3\t"d "e" f"\tD\n'
    with pytest.raises(DataError, match=r":73: expected a quoted field to end on its line"):
        read(tmp_path / "malformed.tsv", content)


def test_columns_may_come_in_another_order(tmp_path: Path) -> None:
    passages = read(tmp_path / "order.tsv", "id\ttitle\ttext\n1\tA\tone\n")
    assert passages == [Passage("1", "one", "A")]


def test_the_header_may_be_missing_when_the_format_is_given(tmp_path: Path) -> None:
    path = tmp_path / "headless.tsv"
    path.write_text("1\tone\tA\n")
    assert list(CorpusReader([path], format="dpr")) == [Passage("1", "one", "A")]
    with pytest.raises(DataError, match="name the format with --format"):
        list(CorpusReader([path]))
