"""Tokens by the rule with which DPR (Karpukhin et al., 2020) looks for answers in passages.

The text is normalised to Unicode NFD. A run of letters, numbers and marks is a token; any other
character that is neither a separator nor a control character (categories Z and C, among them
invisible ones, surrogates and those that are not assigned) is a token of its own. Tokens are
compared in lower case. So ``1,000`` is three tokens, ``Spider-Man`` too, and a word of Chinese
stands in a sentence only where something that is no letter stands around it.

The categories are those of Python's unicodedata; DPR takes those of the package regex, which may
know characters of a later version of Unicode.
"""

import unicodedata


class _Spacing(dict[int, str]):
    """Character → the same with blanks around it where it is a token, for ``str.translate``.

    It is filled as characters are met: looking at all of Unicode would take longer than most texts.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)[0]
        spaced = character if kind in "LNM" else " " if kind in "ZC" else f" {character} "
        self[code] = spaced
        return spaced


_SPACING = _Spacing()
_FINAL_SIGMA, _SIGMA = "\N{GREEK SMALL LETTER FINAL SIGMA}", "\N{GREEK SMALL LETTER SIGMA}"


def decomposed(text: str) -> str:
    """The text in Unicode NFD: an accented letter is the letter and a mark."""
    return unicodedata.normalize("NFD", text)


def joined_tokens(text: str) -> str:
    """The tokens of a text in NFD, in lower case, with a blank before and after each.

    Tokens have no blanks, so one text's tokens stand in another's, in this order and with nothing
    between them, exactly where its string stands in the other's. Without tokens it is one blank.
    """
    tokens = text.translate(_SPACING).split()
    # One word's case never depends on its neighbours: at a blank, a Greek word is at its end.
    return f" {' '.join(tokens).lower()} " if tokens else " "


def answer_tokens(text: str) -> list[str]:
    """The tokens of any text, in lower case."""
    return joined_tokens(decomposed(text)).split()


def folded(text: str) -> str:
    """Lower case in which a token reads the same alone and inside a text.

    ``str.lower`` looks at what is around a letter in one case: the sigma at a word's end.
    """
    return text.lower().replace(_FINAL_SIGMA, _SIGMA)
