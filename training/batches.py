"""What one step reads: the lists of all processes, and the tokens that this process encodes.

Every process draws the same lists and knows all of them; only the encoding is divided. A passage
is encoded once a batch, whatever the number of lists it is in, by the process whose list names it
first.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..errors import DataError
from ..runtime import Batch as Chunk
from ..runtime import make_batches
from ..tokenizing import Tokenizer, Tokens
from .examples import Example
from .lists import Candidate
from .models import Reranker, Retriever

if TYPE_CHECKING:
    from ..two_stage import PassageTexts


class Layout(NamedTuple):
    """B lists of up to N candidates over P distinct passages, in all processes together.

    ``candidates`` (B, N) int64 are places in ``passages``, 0 on padding; ``real`` (B, N) is False
    there. ``duplicate`` (B, N): the candidate repeats a passage of its list. ``known`` (B, P): the
    passage is a labelled positive of the query. ``list_owner`` (B,) and ``passage_owner`` (P,)
    are the processes that encode them.
    """

    examples: list[Example]
    passages: list[Passage]
    candidates: NDArray[np.int64]
    real: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    known: NDArray[np.bool_]
    list_owner: NDArray[np.int64]
    passage_owner: NDArray[np.int64]

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(B, N): what a loss over the list sees, each passage once. Column 0 is the only positive
        that it sees: another id may have the text of a positive."""
        positive = np.take_along_axis(self.known, self.candidates, axis=1)
        positive[:, 0] = False
        return self.real & ~self.duplicate & ~positive


class Batch(NamedTuple):
    """A layout with this process's chunks. A chunk's rows count what this process encodes:
    its queries, its passages, and the real candidates of its lists, row by row."""

    layout: Layout
    queries: list[Chunk]
    passages: list[Chunk]
    pairs: list[Chunk]

    @property
    def tokens(self) -> tuple[int, int]:
        """How many tokens the chunks hold, without and with padding."""
        chunks = [*self.queries, *self.passages, *self.pairs]
        real = sum(int(chunk.attention_mask.sum()) for chunk in chunks)
        return real, sum(chunk.attention_mask.size for chunk in chunks)


def lay_out(
    examples: Sequence[Example],
    positives: dict[str, frozenset[str]],
    texts: "PassageTexts | None",
    *,
    processes: int = 1,
) -> Layout:
    """Find the distinct passages of ``examples``: those with one title and text.

    ``texts`` gives the passages of candidates that carry none. Candidates of one id with texts of
    their own may read differently: what synthetic queries were cut out of. A query's positives are
    then all that have the id of one.
    """
    found = _passages(examples, texts)
    places: dict[tuple[str, str], int] = {}
    places_of_id: dict[str, set[int]] = defaultdict(set)
    passages: list[Passage] = []
    owners: list[int] = []
    width = max(len(example.candidates) for example in examples)
    candidates = np.zeros((len(examples), width), dtype=np.int64)
    real = np.zeros(candidates.shape, dtype=np.bool_)
    duplicate = np.zeros(candidates.shape, dtype=np.bool_)
    list_owner = np.arange(len(examples)) * processes // len(examples)
    for row, example in enumerate(examples):
        for column, candidate in enumerate(example.candidates):
            passage = _own_passage(candidate) or found[candidate.id]
            place = places.setdefault((passage.title, passage.text), len(passages))
            if place == len(passages):
                passages.append(passage)
                owners.append(int(list_owner[row]))
            places_of_id[candidate.id].add(place)
            duplicate[row, column] = place in candidates[row, :column]
            candidates[row, column] = place
            real[row, column] = True
    known = np.zeros((len(examples), len(passages)), dtype=np.bool_)
    for row, example in enumerate(examples):
        labelled = positives[example.query_id].intersection(places_of_id)
        known[row, [place for each in labelled for place in places_of_id[each]]] = True
    known[np.arange(len(examples)), candidates[:, 0]] = True
    return Layout(
        list(examples),
        passages,
        candidates,
        real,
        duplicate,
        known,
        list_owner,
        np.array(owners, dtype=np.int64),
    )


def make_batch(
    layout: Layout,
    retriever: Retriever | None,
    reranker: Reranker | None,
    *,
    tokens_per_chunk: int,
    process: int = 0,
) -> Batch:
    """Tokenise what ``process`` encodes, for the models that the stage runs."""
    mine = [
        (example, row)
        for example, row, owner in zip(
            layout.examples, layout.candidates, layout.list_owner, strict=True
        )
        if owner == process
    ]
    queries: list[Chunk] = []
    passages: list[Chunk] = []
    pairs: list[Chunk] = []
    if retriever:
        owned = [layout.passages[p] for p in np.flatnonzero(layout.passage_owner == process)]
        tokens = retriever.query_tokens([example.query for example, _ in mine])
        queries = _chunks(tokens, retriever.query.tokenizer, tokens_per_chunk)
        tokens = retriever.passage_tokens(owned)
        passages = _chunks(tokens, retriever.passage.tokenizer, tokens_per_chunk)
    if reranker:
        asked = [
            (example.query, layout.passages[place])
            for example, row in mine
            for place in row[: len(example.candidates)]
        ]
        tokens = reranker.pair_tokens([each[0] for each in asked], [each[1] for each in asked])
        pairs = _chunks(tokens, reranker.pair.tokenizer, tokens_per_chunk)
    return Batch(layout, queries, passages, pairs)


def _chunks(tokens: Sequence[Tokens], tokenizer: Tokenizer, budget: int) -> list[Chunk]:
    return list(
        make_batches(tokens, pad_id=tokenizer.pad_id, longest=tokenizer.length, budget=budget)
    )


def _passages(examples: Sequence[Example], texts: "PassageTexts | None") -> dict[str, Passage]:
    """The passages, by id, of candidates without a text of their own."""
    wanted = list(
        {
            candidate.id: None
            for example in examples
            for candidate in example.candidates
            if candidate.text is None
        }
    )
    found: dict[str, Passage] = {}
    if wanted:
        if texts is None:
            raise DataError(
                f"{len(wanted)} candidates of this batch have no text, the first with the id "
                f'"{wanted[0]}": say with --passages which index or corpus holds them'
            )
        found.update(zip(wanted, texts.texts(wanted), strict=True))
    return found


def _own_passage(candidate: Candidate) -> Passage | None:
    if candidate.text is None:
        return None
    return Passage(candidate.id, candidate.text, candidate.title)
