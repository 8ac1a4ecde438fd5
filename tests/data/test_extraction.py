"""The text of Markdown and HTML against what a reader would see, and the way back to the source."""

import re
from html import escape, unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.data.extraction import Extract, extract


def source_of(found: Extract, source: str, words: str) -> str:
    """What in the source the first occurrence of ``words`` in the text came from."""
    place = found.text.index(words)
    start, end = found.source_range(place, place + len(words))
    return source[start:end]


def as_words(text: str) -> list[str]:
    return text.split()


MARKDOWN = [
    ("# Title\n\nSome *text* here.", "Title\n\nSome text here."),
    ('One [link](http://x.y "t") and ![a picture](p.png).', "One link and a picture."),
    ("- one\n- two\n  more\n\nAfter", "one\ntwo\nmore\n\nAfter"),
    ("| a | b |\n|---|---|\n| 1 | 2 |", "a b\n1 2"),
    ("Text\n\n```python\ndef f():\n    return 1\n```\n", "Text\n\ndef f():\n    return 1"),
    ("    indented\n      code", "indented\n  code"),
    ("a &amp; b \\* c", "a & b * c"),
    ("<div class='x'>\nhtml\n</div>\n\ntext", "text"),
    ("Title\n=====\n\ntext", "Title\n\ntext"),
    ("> quoted\n> text", "quoted\ntext"),
    ("use `a  b` now", "use a  b now"),
]


@pytest.mark.parametrize(("source", "text"), MARKDOWN)
def test_markdown_is_read_as_a_reader_does(source: str, text: str) -> None:
    assert extract(source, "markdown").text == text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("text\n\n# The *one*\n\n# another", "The one"),
        ('---\nlayout: x\ntitle: "Front: matter"\n---\n# Heading', "Front: matter"),
        ("only text", ""),
    ],
)
def test_the_title_of_markdown_is_its_front_matters_or_first_heading(
    source: str, title: str
) -> None:
    assert extract(source, "markdown").title == title


def test_front_matter_is_no_text() -> None:
    assert extract("---\ntitle: x\n---\nText.", "markdown").text == "Text."


@pytest.mark.parametrize(
    ("words", "written"),
    [("bold words", "bold** words"), ("& so", "&amp; so"), ("code", "code"), ("two", "two")],
)
def test_words_of_markdown_lead_back_to_where_they_are_written(words: str, written: str) -> None:
    source = "---\nt: 1\n---\n# Head\n\nSome **bold** words &amp; so\n`code`\r\n\n1. one\n2. two\n"
    assert source_of(extract(source, "markdown"), source, words) == written


HTML = [
    ("<p>One <b>wo</b>rd &lt;3</p>", "One word <3"),
    ("<p>One\n   two</p><p>three</p>", "One two\n\nthree"),
    ("<ul><li>a<li>b</ul>", "a\nb"),
    ("<table><tr><th>a</th><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    ("<pre>x = 1\n  y</pre>", "x = 1\n  y"),
    ("a<br>b", "a\nb"),
    ("<script>var x = '<p>no</p>';</script><style>p{}</style>yes", "yes"),
    ("<nav>menu</nav><main><p>text</p></main><footer>foot</footer>", "text"),
    ('<div>menu</div><div role="main">text</div><div>more</div>', "text"),
    ("a <!-- role=main --> b", "a b"),
    ("caf&eacute; &#8364; &unknown; &amp.", "café € &unknown; &."),
    ("<p>unclosed <b>tags<p>go on</i>", "unclosed tags\n\ngo on"),
    ("", ""),
]


@pytest.mark.parametrize(("source", "text"), HTML)
def test_html_is_read_as_a_browser_shows_it(source: str, text: str) -> None:
    assert extract(source, "html").text == text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("<head><title> A &amp;\n B </title></head><h1>C</h1>", "A & B"),
        ("<h1>C <i>D</i></h1>", "C"),
        ("<p>x</p>", ""),
    ],
)
def test_the_title_of_a_page_is_its_own_or_its_heading(source: str, title: str) -> None:
    assert extract(source, "html").title == title


WORD = st.text("abc<>&é漢", min_size=1, max_size=6)
TAGS = st.sampled_from(["p", "b", "i", "li", "div", "td", "pre", "span"])


@st.composite
def pages(draw: st.DrawFn) -> str:
    parts = []
    for words in draw(st.lists(st.lists(WORD, min_size=1, max_size=4), min_size=1, max_size=6)):
        tag = draw(TAGS)
        parts.append(
            f"<{tag}>{' '.join(map(escape, words))}</{tag}>{draw(st.sampled_from(['', chr(10)]))}"
        )
    return "".join(parts)


@given(pages(), st.data())
def test_any_stretch_of_a_page_leads_back_to_its_words(source: str, data: st.DataObject) -> None:
    found = extract(source, "html")
    bounds = [match.span() for match in re.finditer(r"\S+", found.text)]
    first = data.draw(st.integers(0, len(bounds) - 1))
    last = data.draw(st.integers(first, len(bounds) - 1))
    begin, end = bounds[first][0], bounds[last][1]
    start, stop = found.source_range(begin, end)
    shown = unescape(re.sub(r"<[^>]*>", " ", source[start:stop]))
    assert "".join(as_words(shown)) == "".join(as_words(found.text[begin:end]))


@given(st.text(max_size=200))
def test_any_text_is_read_as_markdown_and_html(source: str) -> None:
    for kind in ("markdown", "html"):
        found = extract(source, kind)
        if found.text:
            start, end = found.source_range(0, len(found.text))
            assert 0 <= start < end <= len(source)
