"""The lists of one query, from its labelled positives and what was found for it.

A list has one positive, in column 0. Each promoted positive makes a list of its own with the same
negatives as the denoised lists of the labelled ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.records import Passage
from .denoising import Decision, Denoised, Found, Pool, denoise, draw, pseudo_label, text_key
from .lists import Candidate, RankingList
from .mining_options import MiningOptions
from .mining_queries import MiningQuery
from .mining_report import MiningReport


class Logits(NamedTuple):
    """The re-ranker's, of a query's labelled positives and of its pool's candidates."""

    positives: NDArray[np.float32]
    candidates: NDArray[np.float32]


class _Judged(NamedTuple):
    """What the re-ranker made of a pool; ``pseudo`` is about the best of an unlabelled query."""

    denoised: Denoised
    pseudo: Decision | None = None


class _Plan(NamedTuple):
    """A list to be drawn. Plans of one ``purpose`` draw the same negatives."""

    kind: Literal["undenoised", "denoised", "promoted", "pseudo"]
    positive: Found
    candidates: Sequence[Found]
    purpose: str


def lists_of_query(
    query: MiningQuery,
    positives: Sequence[Passage],
    pool: Pool,
    logits: Logits | None,
    options: MiningOptions,
    report: MiningReport,
) -> list[RankingList]:
    """The query's lists, undenoised ones first; all that was decided goes into ``report``.

    ``logits`` None: there is no re-ranker, and so no denoised list. A list without a negative is
    left out. A synthetic query has none where the re-ranker is confident of another passage than
    its own: the limit is that of a promotion, and asks more of neither than of a labelled query.
    """
    judged = None if logits is None else _judge(query, pool, logits, options)
    if _is_dropped(query, positives, judged, report):
        return []
    report.record(query.id, query.text, [*pool.decisions, *_decisions(judged)])
    first_of_text = {text_key(passage): passage for passage in reversed(positives)}
    labelled = [
        pool.labelled.get(passage.id, Found(passage, None, ""))
        for passage in positives
        if first_of_text[text_key(passage)] is passage
    ]
    report.count("queries", "same_positive", len(positives) - len(labelled))
    lists = []
    for plan in _plans([_from_source(each, query) for each in labelled], pool, judged, options):
        negatives = draw(
            plan.candidates,
            options.negatives,
            seed=options.seed,
            query_id=query.id,
            purpose=plan.purpose,
        )
        if not negatives:
            report.count("lists", "without_negatives")
            continue
        report.count("lists", plan.kind)
        report.count("lists", "short", len(negatives) < options.negatives)
        # What is cut stands in no index: a list of such passages brings their texts.
        with_text = options.with_text or query.cut is not None
        positive = _candidate(plan.positive, 1, with_text)
        others = [_candidate(each, 0, with_text) for each in negatives]
        lists.append(RankingList(query.id, query.text, (positive, *others)))
    return lists


def _is_dropped(
    query: MiningQuery,
    positives: Sequence[Passage],
    judged: _Judged | None,
    report: MiningReport,
) -> bool:
    """Whether a synthetic query gets no list, which is counted as what became of it."""
    if query.kind is None:
        return False
    dropped = judged is not None and bool(judged.denoised.promoted)
    rule = "not_confident" if dropped else "kept"
    report.count_synthetic(query.kind, rule, query.text, positives[0])
    return dropped


def _judge(
    query: MiningQuery, pool: Pool, logits: Logits, options: MiningOptions
) -> _Judged | None:
    """None where there is nothing to judge: a query without labels for which nothing was found."""
    if query.positives:
        reference = float(logits.positives.max())
        return _Judged(
            denoise(pool.candidates, logits.candidates, reference, options.limits, query.irrelevant)
        )
    if not pool.candidates:
        return None
    best, denoised = pseudo_label(pool.candidates, logits.candidates, options.limits)
    if best.rule == "not_confident":
        return _Judged(Denoised((), (), ()), best)
    return _Judged(denoised, best)


def _decisions(judged: _Judged | None) -> Iterable[Decision]:
    if judged is None:
        return ()
    own = () if judged.pseudo is None else (judged.pseudo,)
    return (*own, *(decision for part in judged.denoised for decision in part))


def _plans(
    labelled: Sequence[Found], pool: Pool, judged: _Judged | None, options: MiningOptions
) -> Iterator[_Plan]:
    if options.lists != "denoised":
        promoted = {each.found.passage.id for each in judged.denoised.promoted} if judged else set()
        left = [each for each in pool.candidates if each.passage.id not in promoted]
        for positive in labelled:
            yield _Plan("undenoised", positive, left, f"undenoised {positive.passage.id}")
    if judged is None:
        return
    negatives = [_noted(each, "denoised") for each in judged.denoised.negatives]
    for positive in labelled:
        yield _Plan("denoised", positive, negatives, "denoised")
    for each in judged.denoised.promoted:
        yield _Plan("promoted", _noted(each, "promoted"), negatives, "denoised")
    if judged.pseudo is not None and judged.pseudo.rule == "pseudo_positive":
        yield _Plan("pseudo", _noted(judged.pseudo, "pseudo"), negatives, "denoised")


def _from_source(found: Found, query: MiningQuery) -> Found:
    origin = f"synthetic:{query.kind}" if query.kind else "qrels"
    return found._replace(source=f"{origin}+{found.source}" if found.source else origin)


def _noted(decision: Decision, what: str) -> Found:
    """The candidate with its confidence behind its source: ``retriever:12+denoised:0.03``."""
    found = decision.found
    return found._replace(source=f"{found.source}+{what}:{decision.confidence:.4g}")


def _candidate(found: Found, label: int, with_text: bool) -> Candidate:
    passage, score, source = found
    text, title = (passage.text, passage.title) if with_text else (None, "")
    return Candidate(passage.id, label, score, source, text, title)
