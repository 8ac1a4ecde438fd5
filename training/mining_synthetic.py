"""What was found for a synthetic query, as if its passages had never had the piece that is asked.

An index holds passages whole, and by its own words a query finds the passage that it is from
whatever else that one says. So the passage is encoded anew without them, and takes the place that
its score has among the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data.records import Passage
from ..durable import write_durably
from .denoising import Found
from .mining_queries import MiningQuery

if TYPE_CHECKING:
    from .mining import Retriever

Hits = list[tuple[Passage, float]]


def own_scores(
    batch: Sequence[MiningQuery],
    positives: Sequence[Sequence[Passage]],
    vectors: NDArray[np.float32],
    retriever: "Retriever",
) -> dict[str, float]:
    """By query id, the score of what is left of its passage; only of queries with a cut."""
    rows = [row for row, query in enumerate(batch) if query.cut]
    if not rows:
        return {}
    own = [positives[row][0] for row in rows]
    encoded = retriever.encode_passages([each.text for each in own], [each.title for each in own])
    return {
        batch[row].id: float(vector @ vectors[row])
        for row, vector in zip(rows, encoded, strict=True)
    }


def as_cut(query: MiningQuery, hits: Hits, own: tuple[Passage, float] | None, depth: int) -> Hits:
    """The first ``depth`` of ``hits`` cut as the query's are, its ``own`` passage in its new place.

    ``hits`` has one more than ``depth`` where the index has. Where ``own`` is None, or is behind
    all of them, it is left out. Other queries' hits are only shortened.
    """
    if query.cut is None:
        return hits[:depth]
    found = [(query.cut.of(each), score) for each, score in hits if each.id not in query.positives]
    if own is not None:
        place = sum(score >= own[1] for _, score in found)
        found.insert(place, own)
    return found[:depth]


def is_lost(query: MiningQuery, found: Sequence[Found]) -> bool:
    """Whether a synthetic query's own passage is not among what the retriever found."""
    if query.kind is None:
        return False
    return not any(
        each.passage.id in query.positives and each.source.startswith("retriever:")
        for each in found
    )


def write_made(output: Path, queries: Sequence[MiningQuery]) -> None:
    """The synthetic queries beside ``output``, as BEIR has queries and judgements: to be looked at,
    and for other tools, to which the passages are whole.
    """
    records = ({"_id": each.id, "text": each.text, "kind": each.kind} for each in queries)
    lines = [orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in records]
    write_durably(output.with_name(f"{output.stem}.queries.jsonl"), lines)
    judged = [
        f"{each.id}\t{passage}\t1\n".encode() for each in queries for passage in each.positives
    ]
    write_durably(
        output.with_name(f"{output.stem}.qrels"), [b"query-id\tcorpus-id\tscore\n", *judged]
    )
