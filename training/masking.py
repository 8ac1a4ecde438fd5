"""Names taken out of a text, so that it cannot be found by their letters."""

import re
from collections.abc import Iterable

MASK = "…"


def masked(text: str, names: Iterable[str]) -> str:
    """``text`` with each of ``names`` masked, and with what qualifies one: ``os`` of ``os.path``.

    Only whole words are names: "socket" is none in "sockets".
    """
    # The longest first, or a name that begins with another would be masked in part.
    alternatives = "|".join(re.escape(each) for each in sorted(names, key=len, reverse=True))
    if not alternatives:
        return text
    return re.sub(rf"(?<![\w.])(?:\w+\.)*?(?:{alternatives})(?!\w)", MASK, text)
