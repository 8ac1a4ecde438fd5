"""Whether a text has an answer in it, as DPR decides it (Karpukhin et al., 2020, section 4).

Strings: an answer is found where its tokens (:mod:`~rocketrank.eval.answer_tokens`) stand in the
text, one right after the other. The letters' case makes no difference, every other character does.

Regular expressions, for sets such as CuratedTREC: the pattern is searched in the text, both in
NFD, with IGNORECASE, UNICODE and MULTILINE. It is read by Python's ``re``, as in Pyserini; DPR
takes the package regex, which reads some patterns more (``\\p{L}``). As in both, a pattern that
cannot be read matches nothing; here a note says so.

One thing is otherwise: an answer without a token (empty, blank, control characters) and an empty
pattern match nothing. In DPR they match every text, also an empty one.
"""

import logging
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

from ..data.lines import shown
from ..errors import UsageError
from .answer_tokens import decomposed, folded, joined_tokens

AnswerMatch = Literal["string", "regex"]

ANSWER_MATCHES: tuple[AnswerMatch, ...] = get_args(AnswerMatch)

_log = logging.getLogger("rocketrank.eval")


def has_answer(answers: Sequence[str], text: str, *, match: AnswerMatch = "string") -> bool:
    """Whether ``text`` has one of the answers in it; False where there are none."""
    _check(answers)
    return _matcher(tuple(answers), match).matches(text)


class AnswerMatcher:
    """The answers of one question, prepared for many texts.

    ``can_match`` is False where no answer has anything to look for.
    """

    def __init__(self, answers: Sequence[str], *, match: AnswerMatch = "string") -> None:
        _check(answers)
        if match not in ANSWER_MATCHES:
            raise UsageError(f"match ({match}) must be one of {', '.join(ANSWER_MATCHES)}")
        distinct = dict.fromkeys(map(decomposed, answers))
        needles = map(_needle, distinct) if match == "string" else ()
        self._strings = tuple(each for each in needles if each[0])
        patterns = map(_pattern, distinct) if match == "regex" else ()
        self._patterns = tuple(each for each in patterns if each is not None)
        self.can_match = bool(self._strings or self._patterns)

    def matches(self, text: str) -> bool:
        """Whether the text has one of the answers in it."""
        text = decomposed(text)
        if self._patterns:
            return any(pattern.search(text) for pattern in self._patterns)
        # Most texts lack the longest word of every answer, and need not be cut into tokens.
        plain = folded(text)
        likely = [tokens for longest, tokens in self._strings if longest in plain]
        if not likely:
            return False
        tokens = joined_tokens(text)
        return any(each in tokens for each in likely)


def _check(answers: Sequence[str]) -> None:
    if isinstance(answers, str):
        raise UsageError(f"expected a list of answers, found one: write [{shown(answers)}]")


@lru_cache(maxsize=256)
def _matcher(answers: tuple[str, ...], match: AnswerMatch) -> AnswerMatcher:
    return AnswerMatcher(answers, match=match)


def _needle(answer: str) -> tuple[str, str]:
    """The longest token, folded, which is empty without tokens, and all tokens joined."""
    tokens = joined_tokens(answer)
    return max(map(folded, tokens.split()), key=len, default=""), tokens


def _pattern(answer: str) -> re.Pattern[str] | None:
    if not answer.strip():
        return None
    try:
        # What a pattern may mean to a later Python is of no use to whoever evaluates a run.
        with warnings.catch_warnings(action="ignore"):
            return re.compile(answer, re.IGNORECASE | re.UNICODE | re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        _log.warning(
            "the answer %s is no regular expression that Python can read (%s): it matches nothing",
            shown(answer),
            error,
        )
        return None
