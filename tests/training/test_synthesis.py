"""Queries made from passages: which are made, which are left out, and on what that depends."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.training.cuts import KINDS, Cut, Kind, reading
from rocketrank.training.synthesis import (
    Synthesis,
    SynthesisOptions,
    check_kinds,
    names_in,
    synthesize,
)

REST = "It is filled with cold water before it is put on the stove to boil."
OPTIONS = SynthesisOptions(count=1000)


def made(
    passages: Sequence[Passage], *kinds: Kind, options: SynthesisOptions = OPTIONS
) -> Synthesis:
    return synthesize(lambda: iter(passages), replace(options, kinds=kinds or KINDS))


def asked(passages: Sequence[Passage], *kinds: Kind) -> dict[str, str]:
    return {each.id: each.text for each in made(passages, *kinds).queries}


def kettle(number: int, *, text: str = "", title: str | None = None) -> Passage:
    """A passage unlike the others, with a title, and three sentences to ask."""
    words = ["copper", "glass", "steel", "clay", "tin", "iron", "brass", "silver"]
    word = f"{words[number % 8]}{'x' * (number // 8)}"
    usual = (
        f"The {word} kettle has a lid on it. Cold water is put in {word} before it boils. "
        f"A {word} spout lets the hot steam out."
    )
    made_of = f"Kettles made of {word}" if title is None else title
    return Passage(f"p{number}", text or usual, made_of)


def test_each_kind_asks_for_the_passage_that_it_is_from() -> None:
    found = made([kettle(0, text=f"# Of metal kettles\n\n{kettle(0).text}"), kettle(1)])
    assert {each.id: (each.kind, each.passage_id) for each in found.queries} == {
        f"{kind}/p{number}": (kind, f"p{number}")
        for number in (0, 1)
        for kind in KINDS
        if (kind, number) != ("heading", 1)
    }
    texts = {each.id: each.text for each in found.queries}
    assert texts["title/p1"] == "Kettles made of glass"
    assert texts["heading/p0"] == "Of metal kettles"
    assert texts["sentence/p1"] == "The glass kettle has a lid on it."
    middle = "Cold water is put in glass before it boils."
    assert texts["cloze/p1"] in (middle, "A glass spout lets the hot steam out.")


def test_a_sentence_that_several_documents_have_is_asked_by_none() -> None:
    passages = [kettle(0), kettle(1), kettle(2, title="Kettles  made of GLASS")]
    found = made(passages, "title")
    assert [each.id for each in found.queries] == ["title/p0"]
    assert found.report.counts["title.elsewhere"] == 2


@pytest.mark.parametrize(
    ("changed", "kind", "rule"),
    [
        ({"title": ""}, "title", "absent"),
        ({"title": "Two words"}, "title", "length"),
        ({"title": "word " * 41}, "title", "length"),
        ({"title": "kettle has a lid"}, "title", "repeated"),
        ({"text": "Much too short a text."}, "title", "short_rest"),
        ({"text": "Only one sentence is here and nothing else"}, "sentence", "absent"),
        ({"text": f"As said. {REST}"}, "sentence", "length"),
        ({"text": f"XY12 and AB34 melt. {REST} XY12 does. AB34 does."}, "sentence", "masked"),
        ({"text": f"It is so. {REST} It is so."}, "sentence", "repeated"),
    ],
)
def test_a_rule_that_leaves_a_query_out_is_counted_with_an_example(
    changed: dict[str, str], kind: Kind, rule: str
) -> None:
    report = made([kettle(0, **changed), kettle(1)], kind).report
    assert report.counts[f"{kind}.{rule}"] == 1
    assert report.counts[f"{kind}.passages"] == 2
    assert report.counts[f"{kind}.drawn"] == 1
    texts = [each.query for each in report.examples[f"{kind}.{rule}"]]
    assert len(texts) == (rule != "absent")


def test_of_a_document_in_parts_the_first_alone_asks_its_title() -> None:
    parts = [
        Passage(f"d{number}", f"{text} {REST}", "A book about kettles", {"document": "d"})
        for number, text in enumerate(["Copper is a metal.", "Glass is none.", "Tin is one."])
    ]
    found = made([*parts, kettle(4)], "title")
    assert {each.id for each in found.queries} == {"title/d0", "title/p4"}
    assert found.report.counts["title.later_part"] == 2


def test_names_that_the_rest_repeats_are_masked_in_a_first_sentence() -> None:
    text = f"The protein BRCA1 was found by King in yeast. {REST} King saw that BRCA1 binds DNA."
    found = asked([Passage("p", text)], "sentence")
    assert found == {"sentence/p": "The protein … was found by … in yeast."}


@pytest.mark.parametrize(
    ("sentence", "rest", "names"),
    [
        ("Kettles boil", "Kettles are here", set()),
        ("BRCA1 binds", "and BRCA1 too", {"BRCA1"}),
        ("we saw mRNA in rats", "mRNA is in rats", {"mRNA"}),
        ("with IL-6 and p53", "p53 but IL-66", {"p53"}),
        ("with IL-6 inside", "where IL-6 is", {"IL-6"}),
        ("in 1928 with Fleming", "Fleming in 1928", {"Fleming"}),
        ("by Fleming", "nobody else", set()),
    ],
)
def test_names_have_capitals_or_letters_beside_digits(
    sentence: str, rest: str, names: set[str]
) -> None:
    assert names_in(sentence, rest) == names


def test_one_cloze_in_ten_stays_in_its_passage() -> None:
    found = made([kettle(number) for number in range(600)], "cloze").queries
    whole = [each for each in found if each.cut is None]
    # 600 draws of 0.1: mean 60, standard deviation 7.3
    assert 30 <= len(whole) <= 90
    assert {each.cut for each in found} == {None, Cut("cloze", 0)}
    none_kept = made([kettle(0)], "cloze", options=replace(OPTIONS, cloze_kept=0.0)).queries
    assert [each.cut for each in none_kept] == [Cut("cloze", 0)]


def test_no_query_stands_in_what_is_left_of_its_passage() -> None:
    passages = {each.id: each for each in map(kettle, range(60))}
    for query in made(list(passages.values())).queries:
        passage = passages[query.passage_id]
        if query.cut is not None:
            assert reading(query.text) not in reading(query.cut.of(passage).full_text), query
        else:
            assert query.kind == "cloze" and reading(query.text) in reading(passage.text)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40), st.integers(0, 3))
def test_the_queries_do_not_depend_on_the_order_of_the_passages(
    generator: random.Random, count: int, seed: int
) -> None:
    passages = [kettle(number) for number in range(12)]
    options = SynthesisOptions(count=count, seed=seed)
    expected = made(passages, options=options).queries
    generator.shuffle(passages)
    assert made(passages, options=options).queries == expected


def test_kinds_share_the_number_and_one_that_has_few_leaves_its_share_to_the_others() -> None:
    passages = [
        kettle(number, title="" if number > 1 else kettle(number).title) for number in range(20)
    ]
    found = made(passages, options=SynthesisOptions(count=21)).queries
    kinds = [each.kind for each in found]
    assert len(found) == len(set(found)) == 21
    assert kinds.count("title") == 2
    assert kinds.count("heading") == 0
    assert sorted([kinds.count("sentence"), kinds.count("cloze")]) == [9, 10]


def test_another_seed_draws_other_queries() -> None:
    passages = [kettle(number) for number in range(40)]
    ids = [
        {each.id for each in made(passages, options=SynthesisOptions(count=20, seed=seed)).queries}
        for seed in (0, 1)
    ]
    assert ids[0] != ids[1]


def test_a_corpus_without_anything_to_ask_is_refused() -> None:
    with pytest.raises(DataError, match=r"found none with a title.*give longer passages"):
        made([Passage("p", "Short.")])


def test_kinds_are_known_and_each_is_taken_once() -> None:
    assert check_kinds(["cloze", "title", "cloze"]) == ("title", "cloze")
    with pytest.raises(UsageError, match=r"kinds \(titles\) must be some of title, heading"):
        check_kinds(["titles"])
