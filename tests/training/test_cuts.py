"""What is cut out of a passage to be asked, and what is left of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.data.records import Passage
from rocketrank.training.cuts import KINDS, Cut, Kind, can_be_asked, piece_of, reading, word_count

STORY = Passage(
    "p",
    "The kettle sings. Steam leaves it through a narrow spout. Water is then ready for the pot.",
    "How a kettle boils water",
)
MANUAL = """\
# How a kettle boils water

Fill it first.

## Before the first use

Boil it twice and pour the water away.
"""


def cut(passage: Passage, kind: Kind, seed: int = 0) -> tuple[str, str, str]:
    piece = piece_of(passage, kind, seed)
    assert piece is not None
    assert piece.rest.id == passage.id
    return piece.text, piece.rest.title, piece.rest.text


def test_a_title_leaves_the_text_alone() -> None:
    assert cut(STORY, "title") == (STORY.title, "", STORY.text)


def test_a_title_takes_the_heading_that_repeats_it_with_it() -> None:
    text, title, rest = cut(STORY._replace(text=MANUAL), "title")
    assert (text, title) == (STORY.title, "")
    assert rest == MANUAL.partition("\n\n")[2].strip()


def test_the_first_sentence_leaves_the_others_and_the_title() -> None:
    first, _, rest = STORY.text.partition(" Steam")
    assert cut(STORY, "sentence") == (first, STORY.title, f"Steam{rest}")


def test_a_cloze_is_any_sentence_but_the_first() -> None:
    found = {cut(STORY, "cloze", seed)[::2] for seed in range(20)}
    steam, water = "Steam leaves it through a narrow spout.", "Water is then ready for the pot."
    assert found == {
        (steam, f"The kettle sings. {water}"),
        (water, f"The kettle sings. {steam}"),
    }


def test_a_heading_is_the_first_that_is_not_the_title() -> None:
    text, title, rest = cut(STORY._replace(text=MANUAL), "heading")
    assert (text, title) == ("Before the first use", STORY.title)
    assert rest == MANUAL.replace("## Before the first use\n", "").strip()


@pytest.mark.parametrize(
    ("text", "heading", "rest"),
    [
        ("Care of the kettle\n===\nWipe it.", "Care of the kettle", "Wipe it."),
        (
            "Care of the kettle\n\nWipe it with a soft cloth.",
            "Care of the kettle",
            "Wipe it with a soft cloth.",
        ),
        (
            "```\n# a comment in code\n```\n# Words of a heading\nText.",
            "Words of a heading",
            "```\n# a comment in code\n```\nText.",
        ),
        ("## Care of kettles ##\nWipe them.", "Care of kettles", "Wipe them."),
    ],
)
def test_headings_are_marked_underlined_or_alone_before_a_longer_line(
    text: str, heading: str, rest: str
) -> None:
    assert cut(Passage("p", text), "heading") == (heading, "", rest)


@pytest.mark.parametrize(
    "text",
    [
        "It is a sentence that stops.\n\nAnd another one that is much longer.",
        "- a point of a list\n- another point, which is longer",
        "One line of a paragraph\nand the next, which is longer than it",
        "# Short\nText.",
        "",
    ],
)
def test_other_lines_are_no_headings_to_ask(text: str) -> None:
    piece = piece_of(Passage("p", text), "heading", 0)
    assert piece is None or piece.text == "One line of a paragraph"


@pytest.mark.parametrize("kind", KINDS)
def test_a_passage_without_the_piece_is_left_as_it_is(kind: Kind) -> None:
    bare = Passage("p", "One sentence alone.")
    assert piece_of(bare, kind, 0) is None
    assert Cut(kind, 0).of(bare) == bare


@pytest.mark.parametrize("kind", ["title", "sentence"])
def test_a_passage_that_is_nothing_else_has_no_piece(kind: Kind) -> None:
    assert piece_of(Passage("p", "", "A title that stands alone"), kind, 0) is None


def test_words_have_letters_and_ideographs_are_words() -> None:
    assert word_count("3 of 4 mice (75 %) in 2b") == 4  # of, mice, in, 2b
    assert word_count("猫が好き") == 4
    assert not can_be_asked("1.2 3 4 %") and not can_be_asked("two words")
    assert can_be_asked("these three words") and not can_be_asked("word " * 41)


def test_a_reading_has_whole_words_between_blanks() -> None:
    assert reading("In Vitro") in reading("cells, in  vitro!")
    assert reading("in vitro") not in reading("main vitrols")


@given(st.text(alphabet=st.sampled_from("aB #=-.!\n`1。"), max_size=80), st.sampled_from(KINDS))
def test_what_is_left_has_only_letters_that_were_there(text: str, kind: Kind) -> None:
    """Nothing is made up, and a second cut of the same passage gives the same."""
    passage = Passage("p", text, "A title of words")
    piece = piece_of(passage, kind, 7)
    if piece is not None:
        assert piece == piece_of(passage, kind, 7)
        assert piece.rest.text and piece.rest.text == piece.rest.text.strip()
        assert len(piece.rest.text) <= len(text)
        if kind != "title":
            assert piece.text in text
