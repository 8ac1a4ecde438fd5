"""Where the sentences of a text lie, in any language, without a model.

A sentence ends at a full stop, question or exclamation mark with the closing quotes and brackets
behind it, when white space and something other than a small letter follow (after the rules of
Unicode's annex 29, sentence boundaries); at the full stops of Chinese, Japanese and Hindi wherever
they stand; and at an empty line. No sentence ends behind an initial or a common abbreviation.
"""

import re
import string

# The closing quotes and brackets, the stops of Chinese and Japanese, those of Hindi and Arabic.
_CLOSING = "\"'\u201d\u2019\u00bb)\\]\uff09\u300d\u300f\u3011\u300b"
_END = re.compile(
    rf"[\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4][{_CLOSING}]*\s*"
    rf"|[.!?…]+[{_CLOSING}]*\s+"
    r"|[^\S\n]*\n[^\S\n]*\n\s*"
)
_ABBREVIATIONS = {
    *("al", "approx", "bspw", "bzw", "ca", "cf", "co", "corp", "dr", "ed", "eds", "eq", "eqs"),
    *("etc", "fig", "figs", "inc", "jr", "ltd", "mr", "mrs", "ms", "nos", "nr", "pp", "prof"),
    *("ref", "refs", "sec", "sp", "spp", "sr", "st", "usw", "vgl", "viz", "vol", "vols", "vs"),
}
_LETTERS = string.ascii_letters
_LONGEST = 1 + max(map(len, _ABBREVIATIONS))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence; white space belongs to the sentence before it.

    The spans follow one another and cover the text.
    """
    spans = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        if end < len(text) and text[start:end].strip() and _is_end(text, match):
            spans.append((start, end))
            start = end
    return [*spans, (start, len(text))] if text else spans


def _is_end(text: str, match: re.Match[str]) -> bool:
    sign = match[0][0]
    if sign not in ".!?…":
        return True
    if text[match.end()].islower():
        return False
    is_one_stop = sign == "." and not match[0].startswith("..")
    if not is_one_stop:
        return True
    # Behind an abbreviation a sentence rarely ends, and a sentence too long does less harm.
    word = text[max(0, match.start() - _LONGEST) : match.start()]
    word = word[len(word.rstrip(_LETTERS)) :]
    return len(word) != 1 and word.lower() not in _ABBREVIATIONS
