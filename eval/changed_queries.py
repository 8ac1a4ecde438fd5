"""The queries that changed most between two systems, as text: both rankings side by side."""

import itertools
from collections.abc import Mapping, Sequence

from ..text_width import cut, padded, printable, shortened, width_of
from .results import Difference, RunResult, TopHit

_GAP = "  "
_LEAST_WIDTH = 40
_NOTHING = "-"


def changed_queries_text(
    difference: Difference,
    results: Sequence[RunResult],
    queries: Mapping[str, str] | None = None,
    passages: Mapping[str, str] | None = None,
    *,
    width: int = 80,
) -> str:
    """The queries that changed most, each with the rankings of both systems side by side.

    A line has rank, passage id and grade; ``queries`` and ``passages`` (id → text) add the texts
    that they have, cut to the width. A ranking is as long as the results keep it.
    """
    width = max(width, _LEAST_WIDTH)
    kept = {each.name: each.top for each in results}
    sides = [(name, kept.get(name, {})) for name in (difference.system, difference.baseline)]
    title = f"{printable(difference.measure)}, what changed most: "
    room = (width - width_of(title) - len(" against ")) // 2
    names = [shortened(printable(name), max(room, 1)) for name, _ in sides]
    parts = [f"{title}{names[0]} against {names[1]}"]
    half = (width - len(_GAP)) // 2
    for number, (query_id, ours, theirs) in enumerate(difference.changed, start=1):
        figures = f": {ours:.4f} against {theirs:.4f}, {ours - theirs:+.4f}"
        room = width - len(f"{number}. {figures}")
        lines = [f"{number}. {shortened(printable(query_id), max(room, 1))}{figures}"]
        if queries and (text := printable(queries.get(query_id, ""))):
            lines.append(cut(f"   {text}", width))
        left, right = (_ranking(name, top, query_id, passages or {}, half) for name, top in sides)
        for pair in itertools.zip_longest(left, right, fillvalue=""):
            lines.append(f"{padded(pair[0], half)}{_GAP}{pair[1]}".rstrip())
        parts.append("\n".join(filter(None, lines)))
    if not difference.changed:
        parts.append("No query changed.")
    shown = (top.get(each[0], ()) for _, top in sides for each in difference.changed)
    if any(hit.grade is None for hits in shown for hit in hits):
        parts.append(f"Grade {_NOTHING}: nobody judged the passage for the query.")
    return "\n\n".join(parts) + "\n"


def _ranking(
    name: str,
    top: Mapping[str, tuple[TopHit, ...]],
    query_id: str,
    passages: Mapping[str, str],
    width: int,
) -> list[str]:
    """One side: the system's name, then a line for each passage and one for its text."""
    room = width - 12  # beside a rank of three digits and the grade
    lines = [f"     {padded(shortened(printable(name), room), room)}  grade"]
    hits = top.get(query_id, ())
    for rank, hit in enumerate(hits, start=1):
        grade = _NOTHING if hit.grade is None else str(hit.grade)
        passage_id = padded(shortened(printable(hit.passage_id), room), room)
        lines.append(f"{rank:>3}  {passage_id}  {grade:>5}")
        if passages:
            lines.append(cut(f"     {printable(passages.get(hit.passage_id, ''))}", width))
    if not hits:
        lines.append("     nothing found" if top else "     its ranking was not kept")
    return lines
