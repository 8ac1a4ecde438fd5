"""Whether a text has an answer in it: cases worked out by hand, and DPR's definition itself."""

import json
import logging
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.data import CorpusReader, read_queries
from rocketrank.errors import UsageError
from rocketrank.eval.answers import AnswerMatcher, has_answer

# few characters, so that answers are often found; some whose case or form depends on others
LETTERS = "abAB1é\u0301Σς\u03c3İßẞ東-., \t\u00ad😀"
TEXT = st.text(st.sampled_from(LETTERS), max_size=24)
ANSWERS = st.lists(st.text(st.sampled_from(LETTERS), max_size=5), max_size=3)


def tokens_by_category(text: str) -> list[str]:
    """DPR's rule with a mark between characters that are not of one run."""
    marked = ""
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)[0]
        marked += character if kind in "LNM" else "\n" if kind in "ZC" else f"\n{character}\n"
    return [token.lower() for token in marked.split("\n") if token]


def is_found(answers: list[str], text: str) -> bool:
    """DPR's definition, but that an answer without tokens is found nowhere."""
    words = tokens_by_category(text)
    for answer in answers:
        wanted = tokens_by_category(answer)
        for start in range(len(words)):
            if wanted and words[start : start + len(wanted)] == wanted:
                return True
    return False


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        # words, whole and in their order
        ("Cyrus", "It was Cyrus.", True),
        ("Cyrus", "It was Cyrus2.", False),
        ("Cyr", "It was Cyrus.", False),
        ("the Great Cyrus", "Cyrus the Great", False),
        ("Cyrus the Great", "Cyrus\n the\u00a0\tGreat", True),
        ("Cyrus Great", "Cyrus the Great", False),
        ("the end the start", "the end the end the start", True),
        ("longer than the text", "longer than", False),
        # punctuation is a token of its own, on both sides
        ("Super Bowl LII,", "won Super Bowl LII, in 2018", True),
        ("Super Bowl LII,", "won Super Bowl LII in 2018", False),
        ("Super Bowl LII", "won Super Bowl LII, in 2018", True),
        ("U.S.", "the U.S. Mint", True),
        ("U.S", "the U.S. Mint", True),
        ("US", "the U.S. Mint", False),
        ("U. S.", "the U.S. Mint", True),
        ("don't", "they don't", True),
        ("don't", "they don\u2019t", False),
        ('"Heroes"', 'the album "Heroes" of 1977', True),
        ("?", "who?", True),
        ("snake case", "snake_case", False),
        # accents, composed and not
        ("Röntgen", "Wilhelm Conrad Ro\u0308ntgen", True),
        ("Ro\u0308ntgen", "Wilhelm Conrad Röntgen", True),
        ("Rontgen", "Wilhelm Conrad Röntgen", False),
        ("Ångström", "\u212bngström", True),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", True),
        # numbers
        ("1000", "1,000 people", False),
        ("1,000", "1000 people", False),
        ("1, 000", "1,000 people", True),
        ("000", "1,000 people", True),
        ("3.5", "3.50", False),
        ("5", "$5", True),
        ("$5", "5", False),
        ("2", "x²", False),
        ("90%", "some 90 % of it", True),
        ("٣", "3", False),
        # hyphens
        ("Spider-Man", "Spider - Man", True),
        ("Spider-Man", "Spider Man", False),
        ("Spider Man", "Spider-Man", False),
        ("Spider-Man", "Spider\u2013Man", False),
        ("co op", "co\u00adop", True),
        ("coop", "co\u00adop", False),
        # writing without blanks: a run of letters is one token
        ("東京", "東京、日本", True),
        ("東京", "東京都", False),
        ("東京", "首都は東京です", False),
        ("東京", "首都は「東京」です", True),
        # symbols, control and invisible characters
        ("👍", "good👍👍", True),
        ("👍", "good👍\U0001f3fd", True),
        ("👍\U0001f3fd", "good👍", False),
        ("❤", "❤\ufe0f", True),
        ("❤\ufe0f", "❤", False),
        ("ab", "a\x00b", False),
        ("a b", "a\x00b", True),
        ("a b", "a\u200bb", True),
        ("\ufeffab", "ab", True),
        # case: lower(), nothing that folds more
        ("CYRUS", "cyrus", True),
        ("Straße", "STRASSE", False),
        ("STRAẞE", "straße", True),
        ("İstanbul", "İSTANBUL", True),
        ("Istanbul", "İstanbul", False),
        ("\u0131s\u0131", "ISI", False),
        ("ΟΔΟΣ", "οδος", True),
        ("ΟΔΟΣ", "ΟΔΟΣ'\u0391", True),
        ("οδο\u03c3", "οδος", False),
        ("Ⅷ", "ⅷ", True),
        ("ﬁn", "fin", False),
        # nothing to look for
        ("", "any text", False),
        ("", "", False),
        (" \t", "any text", False),
        ("\u200b\x00", "any text", False),
        ("any", "", False),
    ],
)
def test_an_answer_is_found_where_its_tokens_stand_together(
    answer: str, text: str, found: bool
) -> None:
    assert has_answer([answer], text) is found
    assert is_found([answer], text) is found


def test_one_of_several_answers_is_enough_and_none_is_not() -> None:
    assert has_answer(["no", "", "Yongge Dai"], "bought by Yongge Dai in 2017")
    assert not has_answer([], "any text")


@settings(max_examples=300, deadline=None)
@given(answers=ANSWERS, text=TEXT)
def test_finding_is_what_the_definition_over_lists_of_tokens_says(
    answers: list[str], text: str
) -> None:
    assert has_answer(answers, text) is is_found(answers, text)


@settings(max_examples=100, deadline=None)
@given(text=TEXT, data=st.data())
def test_an_answer_cut_out_between_tokens_is_found(text: str, data: st.DataObject) -> None:
    tokens = tokens_by_category(text)
    start = data.draw(st.integers(0, len(tokens)))
    end = data.draw(st.integers(start, len(tokens)))
    assert has_answer([" ".join(tokens[start:end])], text) is (end > start)


@settings(max_examples=100, deadline=None)
@given(answers=ANSWERS, text=TEXT, forms=st.tuples(*[st.sampled_from(["NFC", "NFD"])] * 2))
def test_composed_and_decomposed_texts_are_the_same(
    answers: list[str], text: str, forms: tuple[Any, Any]
) -> None:
    rewritten = [unicodedata.normalize(forms[0], answer) for answer in answers]
    found = has_answer(rewritten, unicodedata.normalize(forms[1], text))
    assert found is has_answer(answers, text)


@settings(max_examples=100, deadline=None)
@given(
    answers=st.lists(st.text(st.sampled_from("abAB1éÉжЖ-. "), max_size=4), max_size=3),
    text=st.text(st.sampled_from("abAB1éÉжЖ-. "), max_size=20),
)
def test_the_case_of_letters_makes_no_difference(answers: list[str], text: str) -> None:
    found = has_answer(answers, text)
    assert has_answer([answer.upper() for answer in answers], text.lower()) is found
    assert has_answer([answer.lower() for answer in answers], text.upper()) is found


def questions_and_passages(shared_data: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    lines = (shared_data / "nq" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = CorpusReader([shared_data / "nq" / "passages.tsv"])
    return [json.loads(line) for line in lines], {each.id: each.text for each in corpus}


def test_every_question_of_natural_questions_is_answered_by_its_gold_passage(
    shared_data: Path,
) -> None:
    records, texts = questions_and_passages(shared_data)
    queries = list(read_queries(shared_data / "nq" / "questions.jsonl"))
    assert len(records) == len(queries) == 2_655
    for record, query in zip(records, queries, strict=True):
        assert has_answer(query.answers, texts[record["gold"]]), query


def test_other_passages_of_natural_questions_are_judged_as_the_definition_says(
    shared_data: Path,
) -> None:
    records, texts = questions_and_passages(shared_data)
    passages = list(texts.values())
    found = 0
    for place, record in enumerate(records[::5]):
        text = passages[place]
        assert has_answer(record["answers"], text) is is_found(record["answers"], text)
        found += has_answer(record["answers"], text)
    assert found < len(records[::5]) / 10


def test_a_thousand_questions_with_a_hundred_passages_each_take_less_than_five_seconds(
    shared_data: Path,
) -> None:
    records, texts = questions_and_passages(shared_data)
    words = " ".join(texts.values()).split()
    start = time.process_time()
    for number, record in enumerate(records[:1000]):
        matcher = AnswerMatcher(record["answers"])
        for place in range(100):
            at = 37 * (100 * number + place) % (len(words) - 100)
            matcher.matches(" ".join(words[at : at + 100]))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"(18|nineteen)\s?[0-9]{2}", "in Nineteen 01", True),
        (r"^born", "She was\nBorn in 1867", True),
        (r"died$", "the day he died\nwas a Monday", True),
        (r"^died", "the day he died", False),
        ("Röntgen", "Ro\u0308ntgen", True),
        (r"R\w+ntgen", "Ro\u0308ntgen", False),  # a mark is no \w
        (r"Cyr", "Cyrus", True),
        (r"U.S", "the UXS", True),
        ("", "any text", False),
        ("  ", "any  text", False),
    ],
)
def test_a_regular_expression_is_searched_in_the_decomposed_text(
    pattern: str, text: str, found: bool
) -> None:
    assert has_answer([pattern], text, match="regex") is found


@pytest.mark.parametrize(
    "pattern", ["(open", "*", "[z-a]", r"\p{L}", "a{2,1}", "(?P<1>a)", "x(?i)"]
)
def test_a_pattern_that_cannot_be_read_matches_nothing_and_is_named(
    pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "rocketrank.eval"):
        matcher = AnswerMatcher([pattern, "right"], match="regex")
    assert repr(pattern) in caplog.text
    assert matcher.matches("all right") and not matcher.matches(pattern)
    assert not AnswerMatcher([pattern], match="regex").can_match


def test_a_pattern_that_python_warns_about_is_read_without_a_warning() -> None:
    assert has_answer(["[[a]x"], "ax", match="regex")


def test_answers_without_a_token_leave_nothing_to_look_for() -> None:
    assert not AnswerMatcher(["", " ", "\u200b"]).can_match
    assert AnswerMatcher(["", "?"]).can_match


def test_one_answer_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"expected a list of answers, found one: write \['Rome'\]"
    ):
        has_answer("Rome", "Rome")
    with pytest.raises(UsageError, match="expected a list of answers"):
        AnswerMatcher("Rome")


def test_an_unknown_way_to_match_is_refused() -> None:
    with pytest.raises(UsageError, match=r"match \(fuzzy\) must be one of string, regex"):
        has_answer(["a"], "a", match="fuzzy")  # type: ignore[arg-type]
