"""Which of a query's candidates may be negatives, which are positives, and which are neither.

Pure functions over one query's candidates, after RocketQA (NAACL 2021) and RocketQAv2 (EMNLP 2021):
undenoised lists draw their negatives from all candidates, denoised ones only from those that the
re-ranker is confident about. A one-logit re-ranker t has no class probability, so the confidence
that a candidate p is relevant is sigmoid(t(p) - t(positive)): how it compares with a passage that
is.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from ..errors import UsageError

Rule = Literal[
    "labelled_positive",
    "duplicate_id",
    "text_of_positive",
    "duplicate_text",
    "pool",
    "kept",
    "promoted",
    "uncertain",
    "judged_irrelevant",
    "pseudo_positive",
    "not_confident",
]


class Limits(NamedTuple):
    """Confidences: below ``low`` is a negative, above ``high`` a positive, between is dropped."""

    low: float = 0.1
    high: float = 0.9

    def checked(self) -> Self:
        """Itself, or UsageError where no candidate could be a negative, or one be both."""
        if not 0 < self.low <= self.high <= 1:
            raise UsageError(
                f"the limits low ({self.low}) and high ({self.high}) must be above 0, at most 1, "
                "and low not above high"
            )
        return self


class Found(NamedTuple):
    """A passage that a search found; ``source`` is the search and the rank, ``retriever:12``.

    ``score`` is that search's, None for a labelled positive that no search found.
    """

    passage: Passage
    score: float | None
    source: str


class Decision(NamedTuple):
    """What was decided about a candidate. Logits are the re-ranker's, None where it read nothing.

    ``positive_logit`` is that of the positive it was compared with.
    """

    rule: Rule
    found: Found
    logit: float | None = None
    positive_logit: float | None = None
    confidence: float | None = None


class Pool(NamedTuple):
    """The candidates that are left, best first, and the decisions about these and all others.

    ``labelled`` are the labelled positives among those found, by id.
    """

    candidates: tuple[Found, ...]
    labelled: dict[str, Found]
    decisions: tuple[Decision, ...]


class Denoised(NamedTuple):
    """Candidates by the re-ranker's confidence, each in the pool's order."""

    negatives: tuple[Decision, ...]
    promoted: tuple[Decision, ...]
    dropped: tuple[Decision, ...]


def text_key(passage: Passage) -> str:
    """What two passages share that read the same: title and text without case and white space."""
    return " ".join(passage.full_text.casefold().split())


def gather(found: Iterable[Found], positives: Sequence[Passage]) -> Pool:
    """The candidates among ``found`` that may become negatives of a query with these positives.

    Left out are the positives, passages that read like one of them, and passages that were found
    before or read like one found before. A passage found twice keeps its first place and score,
    and both sources.
    """
    positive_ids = {passage.id for passage in positives}
    positive_texts = {text_key(passage) for passage in positives}
    places: dict[str, Found] = {}
    decisions = []
    for each in found:
        earlier = places.get(each.passage.id)
        if earlier is None:
            places[each.passage.id] = each
        else:
            merged = earlier._replace(source=f"{earlier.source}+{each.source}")
            places[each.passage.id] = merged
            decisions.append(Decision("duplicate_id", merged))
    candidates: dict[str, Found] = {}
    labelled = {}
    for each in places.values():
        key = text_key(each.passage)
        if each.passage.id in positive_ids:
            labelled[each.passage.id] = each
            decisions.append(Decision("labelled_positive", each))
        elif key in positive_texts:
            decisions.append(Decision("text_of_positive", each))
        elif key in candidates:
            decisions.append(Decision("duplicate_text", each))
        else:
            candidates[key] = each
            decisions.append(Decision("pool", each))
    return Pool(tuple(candidates.values()), labelled, tuple(decisions))


def confidences(logits: NDArray[np.float32], reference: float) -> NDArray[np.float64]:
    """sigmoid(logits - reference), (n,) → (n,), without overflow at any distance."""
    # The identity with tanh needs no exponential that could overflow.
    halved = (logits.astype(np.float64) - reference) / 2
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(halved))
    return result


def denoise(
    candidates: Sequence[Found],
    logits: NDArray[np.float32],
    reference: float,
    limits: Limits,
    irrelevant: Collection[str] = (),
) -> Denoised:
    """Sorts ``candidates`` by confidence against ``reference``, the positive's logit.

    With several labelled positives the reference is the highest of their logits: what outranks it
    outranks them all, so promotion takes the most and a low confidence is reached the soonest.
    ``irrelevant`` ids were judged so by a person and are never promoted.
    """
    negatives, promoted, dropped = [], [], []
    for found, logit, confidence in zip(
        candidates, logits.tolist(), confidences(logits, reference).tolist(), strict=True
    ):
        decision = Decision("uncertain", found, logit, reference, confidence)
        if confidence < limits.low:
            negatives.append(decision._replace(rule="kept"))
        elif confidence <= limits.high:
            dropped.append(decision)
        elif found.passage.id in irrelevant:
            dropped.append(decision._replace(rule="judged_irrelevant"))
        else:
            promoted.append(decision._replace(rule="promoted"))
    return Denoised(tuple(negatives), tuple(promoted), tuple(dropped))


def pseudo_label(
    candidates: Sequence[Found], logits: NDArray[np.float32], limits: Limits
) -> tuple[Decision, Denoised]:
    """The single best candidate of a query without labels, and the others compared with it.

    Its rule is ``pseudo_positive`` where its confidence, sigmoid(t) as there is nothing to compare
    it with, is above the upper limit (RocketQA's data augmentation), else ``not_confident``. None
    of the others is promoted.
    """
    best = int(np.argmax(logits))
    logit = float(logits[best])
    confidence = float(confidences(logits[best : best + 1], 0.0)[0])
    confident = confidence > limits.high
    decision = Decision(
        "pseudo_positive" if confident else "not_confident",
        candidates[best],
        logit,
        confidence=confidence,
    )
    others = [*candidates[:best], *candidates[best + 1 :]]
    denoised = denoise(others, np.delete(logits, best), logit, limits)
    also_high = tuple(each._replace(rule="uncertain") for each in denoised.promoted)
    return decision, denoised._replace(promoted=(), dropped=(*also_high, *denoised.dropped))


def draw(
    candidates: Sequence[Found], count: int, *, seed: int, query_id: str, purpose: str
) -> list[Found]:
    """At most ``count`` of ``candidates`` in random order.

    The order is that of hashes of seed, query, purpose and candidate: it depends on no other query,
    so not on where a run was interrupted, nor on the order in which the candidates come, and any
    first part of a draw is itself a draw.
    """
    beginning = hashlib.blake2b(
        b"".join(
            len(field).to_bytes(8, "big") + field
            for field in (str(seed).encode(), query_id.encode(), purpose.encode())
        ),
        digest_size=16,
    )

    def place(found: Found) -> bytes:
        digest = beginning.copy()
        digest.update(found.passage.id.encode())
        return digest.digest()

    return sorted(candidates, key=place)[:count]
