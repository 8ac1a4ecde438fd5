"""Tokens by DPR's rule, compared with the rule applied character by character."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.data import CorpusReader
from rocketrank.eval.answer_tokens import answer_tokens, folded, joined_tokens

# Letters with accents composed and not, marks, digits of several kinds, separators, control and
# invisible characters, symbols beyond the basic plane, a surrogate, letters with odd cases.
ODD = (
    "aZ9 é\u0301ñ½Ⅷ٣\u00a0\u2003\n\t\x00\u00ad\u200d\ufeff\ue000-_'\u2019.,$€😀👍\U0001f3fd\ufe0f"
    "ßẞİ\u0131Σς\u03c3東京한कि\ud800"
)
TEXT = st.text(st.sampled_from(ODD) | st.characters(), max_size=30)


def tokens_by_category(text: str) -> list[str]:
    """The rule, read off character by character; every token in lower case for itself."""
    tokens: list[str] = []
    run = ""
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)[0]
        if kind in ("L", "N", "M"):
            run += character
            continue
        tokens += [run] if run else []
        run = ""
        if kind not in ("Z", "C"):
            tokens.append(character)
    return [token.lower() for token in (*tokens, *([run] if run else []))]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \t\n\u00a0\u3000", []),
        ("\x00\x1f\x7f\x85\u200b\ufeff\ue000\ud800", []),
        ("May 18, 2018", ["may", "18", ",", "2018"]),
        ("$1,000.50", ["$", "1", ",", "000", ".", "50"]),
        ("Spider-Man's", ["spider", "-", "man", "'", "s"]),
        ("snake_case", ["snake", "_", "case"]),
        ("...", [".", ".", "."]),
        ("Röntgen", ["ro\u0308ntgen"]),
        ("Ro\u0308ntgen", ["ro\u0308ntgen"]),
        ("co\u00adop", ["co", "op"]),
        ("½ Ⅷ", ["½", "ⅷ"]),
        ("東京都、日本", ["東京都", "、", "日本"]),
        ("हिन्दी", ["हिन्दी"]),
        ("❤\ufe0fyes", ["❤", "\ufe0fyes"]),
        ("👍\U0001f3fd", ["👍", "\U0001f3fd"]),
        ("👩\u200d🔬", ["👩", "🔬"]),
        ("STRASSE Straße", ["strasse", "straße"]),
        ("İI", ["i\u0307i"]),
        ("ΟΔΟΣ'\u0391", ["οδος", "'", "\u03b1"]),
    ],
)
def test_texts_have_the_tokens_of_the_rule(text: str, tokens: list[str]) -> None:
    assert answer_tokens(text) == tokens
    assert tokens_by_category(text) == tokens


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_tokens_are_those_of_the_rule_read_character_by_character(text: str) -> None:
    assert answer_tokens(text) == tokens_by_category(text)


def test_characters_of_the_first_planes_are_of_the_kind_that_the_rule_names() -> None:
    for code in (*range(0x3400), *range(0x1F300, 0x1F700), *range(0xE0000, 0xE0200)):
        assert answer_tokens(f"a{chr(code)}b") == tokens_by_category(f"a{chr(code)}b"), hex(code)


def test_tokens_of_real_passages_are_those_of_the_package_regex(shared_data: Path) -> None:
    regex = pytest.importorskip("regex", reason="needs the package regex, which DPR takes")
    rule = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]", regex.IGNORECASE | regex.MULTILINE)
    for passage in CorpusReader([shared_data / "nq" / "passages.tsv"]):
        text = unicodedata.normalize("NFD", passage.text)
        assert answer_tokens(passage.text) == [token.lower() for token in rule.findall(text)]


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_a_token_alone_reads_folded_as_it_reads_in_its_text(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    for token in joined_tokens(decomposed).split():
        assert folded(token) in folded(decomposed)


def test_importing_looks_at_no_character() -> None:
    code = "from rocketrank.eval import answer_tokens as a; print(len(a._SPACING))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2] / "src",
    )
    assert done.stdout.strip() == "0"
