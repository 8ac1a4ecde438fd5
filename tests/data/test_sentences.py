"""Where sentences end: by hand, and what holds for every text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.data.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One ends. Another begins.", ["One ends.", "Another begins."]),
        ("Is it so? Yes! It is", ["Is it so?", "Yes!", "It is"]),
        ("About 3.5 mg of it. Then 2 more.", ["About 3.5 mg of it.", "Then 2 more."]),
        ("Fig. 2 shows it, e.g. in mice.", ["Fig. 2 shows it, e.g. in mice."]),
        ("Dr. A. Fleming saw mould. It grew.", ["Dr. A. Fleming saw mould.", "It grew."]),
        ("Smith et al. (2001) said so. We agree.", ["Smith et al. (2001) said so.", "We agree."]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("It was called os.path. and so on", ["It was called os.path. and so on"]),
        ("Wait… What now?", ["Wait…", "What now?"]),
        ("A heading\n\nA paragraph", ["A heading", "A paragraph"]),
        ("One line\nand the next.", ["One line\nand the next."]),
        ("猫が好きです。犬も好きです！", ["猫が好きです。", "犬も好きです！"]),  # noqa: RUF001
        ("他说：「好。」然后走了。", ["他说：「好。」", "然后走了。"]),  # noqa: RUF001
        ("यह एक है। यह दो है।", ["यह एक है।", "यह दो है।"]),
        ("", []),
        ("  ", [""]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet=st.sampled_from("aB1 .!?。\n\"')…"), max_size=60) | st.text(max_size=60))
def test_the_sentences_cover_the_text_and_none_but_the_only_one_is_blank(text: str) -> None:
    spans = sentence_spans(text)
    assert "".join(text[start:end] for start, end in spans) == text
    if len(spans) > 1:
        assert all(text[start:end].strip() for start, end in spans)
