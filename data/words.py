"""The words of a text as BM25 counts them, and BM25's parameters.

Words are runs of letters, digits and underscores in lower case; Chinese and Japanese characters are
words of their own; Lucene's English stop words are left out; nothing is stemmed. Signs that combine
with a letter, such as the vowels of Hindi, end a word.
"""

import re

K1, B = 0.9, 0.4
"""What Anserini, and after it BEIR, uses for passages."""

STOP_WORDS = (
    *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is"),
    *("it", "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there"),
    *("these", "they", "this", "to", "was", "will", "with"),
)
"""The classical English list of Lucene, 33 words."""

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+")
_STOPPED = frozenset(STOP_WORDS)


def words(text: str) -> list[str]:
    """The words of ``text`` in their order, each as often as it occurs."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOPPED]
