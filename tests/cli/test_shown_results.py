"""How results look on a terminal, by example."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from rocketrank.cli.show import (
    Style,
    emphasise,
    hit_lines,
    query_pattern,
    size_in_words,
    snippet,
)
from rocketrank.text_width import cut, printable, width_of

PLAIN = Style(width=60, colour=False)


class Hit(NamedTuple):
    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any] = {}
    probability: float | None = None


def test_a_hit_is_a_heading_and_its_passage() -> None:
    lines = hit_lines([Hit(1, "p7", 0.51239, "Penicillin", "Found by Fleming.")], "fleming", PLAIN)
    assert list(lines) == ["1  0.5124  Penicillin  p7", "           Found by Fleming."]


def test_a_hit_without_title_is_headed_by_its_id() -> None:
    lines = hit_lines([Hit(1, "p7", -1.5, "", "Found.")], "x", PLAIN)
    assert list(lines) == ["1  -1.5000  p7", "            Found."]


def test_a_document_is_shown_with_the_place_of_its_best_chunk() -> None:
    chunk = {"document": "docs/a.md", "start": 120, "end": 800}
    lines = hit_lines([Hit(1, "docs/a.md", 0.5, "", "Found.", chunk)], "x", PLAIN)
    assert next(iter(lines)) == "1  0.5000  docs/a.md#120-800"


def test_ranks_and_scores_of_different_lengths_stand_in_columns() -> None:
    hits = [Hit(9, "a", 10.0, "", ""), Hit(10, "b", 2.5, "", "")]
    assert list(hit_lines(hits, "x", PLAIN)) == [" 9  10.0000  a", "10   2.5000  b"]


def test_a_probability_stands_behind_the_score_in_percent() -> None:
    hits = [
        Hit(1, "a", 10.0, "T", "x", probability=1.0),
        Hit(2, "b", -2.5, "", "", probability=0.0123),
    ]
    assert list(hit_lines(hits, "x", PLAIN)) == [
        "1  10.0000  100.0%  T  a",
        "                    x",
        "2  -2.5000    1.2%  b",
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    text = "one two three four five six seven eight nine ten " * 20
    hits = [Hit(1, "i" * 90, 0.5, "t" * 90, text)]
    assert all(width_of(line) <= PLAIN.width for line in hit_lines(hits, "seven", PLAIN))


def test_wide_characters_count_as_two_columns() -> None:
    assert width_of("北京 a") == 6
    assert cut("北京大学", 6) == "北京…"


def test_combining_accents_take_no_column() -> None:
    assert width_of("e\N{COMBINING ACUTE ACCENT}") == 1


def test_escape_sequences_in_a_passage_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\x00\r\n\tc") == "a [31mb c"


def test_a_snippet_shows_the_stretch_with_the_words_of_the_query() -> None:
    text = "beginning " * 50 + "Fleming discovered penicillin in London " + "end " * 50
    shown = snippet(text, query_pattern("who discovered penicillin"), 80)
    assert shown.startswith("…")
    assert "discovered penicillin" in shown
    assert width_of(shown) <= 80


def test_a_snippet_without_words_of_the_query_is_the_beginning() -> None:
    assert snippet("alpha beta gamma", query_pattern("delta"), 12) == "alpha beta…"


def test_words_of_the_query_are_bold_where_colour_is_shown() -> None:
    style = Style(width=60, colour=True)
    assert emphasise("Reading files", query_pattern("file"), style) == "Reading \x1b[1mfiles\x1b[0m"


def test_a_query_of_common_words_emphasises_nothing() -> None:
    assert query_pattern("what is the") is None


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (123456, "123 kB"), (2.5e9, "2.5 GB")],
)
def test_a_size_has_a_unit_and_few_digits(count: float, words: str) -> None:
    assert size_in_words(int(count)) == words
