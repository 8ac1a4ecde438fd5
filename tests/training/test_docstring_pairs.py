"""Questions and answers out of docstrings: what is asked, what is masked, who is in which part."""

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError
from rocketrank.training.docstring_pairs import (
    LONGEST_BODY,
    DocstringPair,
    docstring_pairs,
    split_pairs,
)

BODY = "The kettle is filled first, and a lid keeps the steam inside until it sings."


def pair_of(name: str, text: str) -> DocstringPair | None:
    """The only pair in a documentation of one docstring."""
    return next(iter(docstring_pairs([Passage(f"lib/{name}", text, name)])), None)


def test_the_first_sentence_asks_for_what_follows_it() -> None:
    text = "Boil water for a pot of tea. Pour it at once.\n" + BODY
    assert pair_of("kitchen.boil", text) == DocstringPair(
        "lib/kitchen.boil", "Boil water for a pot of tea.", f"Pour it at once.\n{BODY}"
    )


def test_a_pair_is_a_query_and_a_passage_of_one_id() -> None:
    pair = pair_of("kitchen.boil", f"Boil water for a pot of tea.\n{BODY}")
    assert pair is not None
    assert tuple(pair.query[:2]) == ("lib/kitchen.boil", "Boil water for a pot of tea.")
    assert tuple(pair.passage[:3]) == ("lib/kitchen.boil", BODY, "")


def test_a_stop_inside_a_name_or_before_a_small_letter_ends_no_sentence() -> None:
    pair = pair_of("kitchen.boil", f"Heat os.path or water, e.g. for tea. Then pour.\n{BODY}")
    assert pair is not None
    assert pair.question == "Heat os.path or water, e.g. for tea."


def test_the_names_of_the_object_are_masked_on_both_sides() -> None:
    text = (
        "Let Kettle.boil heat water until kitchen.Kettle.boil is done.\n"
        "With boil(cups) the boiling lasts, and self.boil() says so; Boil early for tea."
    )
    pair = pair_of("kitchen.Kettle.boil", text)
    assert pair is not None
    assert pair.question == "Let … heat water until … is done."
    assert pair.body == "With …(cups) the boiling lasts, and …() says so; Boil early for tea."


def test_the_names_of_class_and_module_alone_are_words_like_others() -> None:
    pair = pair_of("kettle.Lid.close", f"Close the lid of a kettle for good.\n{BODY}")
    assert pair is not None
    assert pair.question == "Close the lid of a kettle for good."


def test_a_summary_that_the_body_repeats_is_taken_out_of_it() -> None:
    text = f"Boil water for tea.\nBoil  water\nfor tea. {BODY}\nTo boil water for tea, wait."
    pair = pair_of("kitchen.heat", text)
    assert pair is not None
    assert "boil water for tea" not in " ".join(pair.body.lower().split())
    assert BODY in pair.body


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("a signature", "boil(cups) -> minutes"),
        ("a call", "Same as boil(cups, lid=None) for one cup."),
        ("no sentence", "kettle, cups and tea leaves of a kind"),
        ("too short", "Boil some water."),
        ("next to nothing but the name", "Boil … … … … … water."),
    ],
)
def test_what_opens_with_no_sentence_asks_nothing(name: str, summary: str) -> None:
    assert pair_of("kitchen.heat", f"{summary}\n{BODY}") is None


def test_a_summary_with_next_to_nothing_behind_it_asks_nothing() -> None:
    assert pair_of("kitchen.heat", "Boil water for a pot of tea.\nPour it at once.") is None


def test_a_body_is_cut_between_words_and_keeps_its_lines() -> None:
    lines = "one two three four\n" * LONGEST_BODY
    pair = pair_of("kitchen.heat", f"Boil water for a pot of tea.\n{lines}")
    assert pair is not None
    assert len(pair.body.split()) == LONGEST_BODY
    assert lines.startswith(pair.body)


def test_only_the_beginnings_of_docstrings_are_read() -> None:
    text = f"Boil water for a pot of tea.\n{BODY}"
    passages = [Passage("topic/tea", text), Passage("lib/kitchen.boil#2", text)]
    assert docstring_pairs(passages) == []


def test_a_question_of_several_objects_has_no_answer() -> None:
    passages = [
        Passage("lib/kitchen.boil", f"Boil water for a pot of tea.\n{BODY}"),
        Passage("lib/camp.boil", f"Boil water for a pot of tea.\nOver a fire: {BODY}"),
        Passage("lib/camp.cook", f"Cook a pot of soup.\nOver a fire, stirred: {BODY}"),
    ]
    assert [pair.id for pair in docstring_pairs(passages)] == ["lib/camp.cook"]


def test_of_several_objects_with_one_body_the_first_has_it() -> None:
    passages = [
        Passage("lib/kitchen.boil", f"Boil water for a pot of tea.\n{BODY}"),
        Passage("lib/camp.boil", f"Boil water for a can of soup.\n{BODY}"),
    ]
    assert [pair.id for pair in docstring_pairs(passages)] == ["lib/kitchen.boil"]


def numbered(count: int) -> list[DocstringPair]:
    return [DocstringPair(f"lib/m.f{n}", f"What is {n}?", f"It is {n}.") for n in range(count)]


def test_the_parts_have_their_sizes_and_no_pair_in_common() -> None:
    parts = split_pairs(numbered(50), (10, 5, 20))
    assert [len(part) for part in parts] == [10, 5, 20]
    assert len({pair.id for part in parts for pair in part}) == 35


def test_the_order_of_the_documentation_changes_no_part() -> None:
    pairs = numbered(50)
    assert split_pairs(pairs, (10, 5)) == split_pairs(pairs[::-1], (10, 5))


def test_too_small_a_documentation_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"at least 1,100 docstrings .* found 30: "):
        split_pairs(numbered(30), (1000, 100))


def test_the_documentation_of_this_python_has_pairs_without_their_summaries() -> None:
    from rocketrank.data.python_docs import python_documentation

    pairs = docstring_pairs(python_documentation())
    assert len(pairs) > 1500
    assert len({pair.id for pair in pairs}) == len(pairs)
    assert len({pair.body for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert " ".join(pair.question.lower().split()) not in " ".join(pair.body.lower().split())
        # the masked name is nowhere as a word of its own; attributes of others may be called so
        assert f" {pair.id.rpartition('.')[2]}(" not in f" {pair.body}"
