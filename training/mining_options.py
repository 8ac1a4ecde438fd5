"""What can be chosen about mining, and which choices have no meaning."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import UsageError
from .denoising import Limits

ListKinds = Literal["undenoised", "denoised", "hybrid"]

LIST_KINDS: tuple[ListKinds, ...] = get_args(ListKinds)


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """``negatives`` are wanted a list, from the top ``depth`` (and BM25's top ``bm25_depth``).

    ``hybrid`` lists are the union of both kinds. ``precision`` is a note on how the models compute,
    on which scores depend. ``with_text`` writes the passages themselves into the lists, instead of
    their ids alone. With ``round_trip`` a synthetic query is kept only if the retriever finds the
    rest of its passage by it.
    """

    lists: ListKinds = "undenoised"
    depth: int = 50
    negatives: int = 20
    bm25_depth: int = 0
    limits: Limits = field(default_factory=Limits)
    pseudo_positives: bool = False
    seed: int = 0
    with_text: bool = False
    precision: str = ""
    round_trip: bool = True

    @property
    def denoises(self) -> bool:
        return self.lists != "undenoised"


def check_mining(options: MiningOptions, *, reranker: bool) -> None:
    """Raises UsageError for options that have no meaning, before anything is opened."""
    if options.lists not in LIST_KINDS:
        raise UsageError(f"lists ({options.lists}) must be one of {', '.join(LIST_KINDS)}")
    for name, value, least in (
        ("depth", options.depth, 1),
        ("negatives", options.negatives, 1),
        ("bm25", options.bm25_depth, 0),
    ):
        if value < least:
            raise UsageError(f"{name} ({value}) must be at least {least}")
    most = options.depth + options.bm25_depth
    if options.negatives > most:
        raise UsageError(
            f"negatives ({options.negatives}) must be at most {most}, the candidates that are "
            "fetched for a query: raise depth, or ask for fewer negatives"
        )
    options.limits.checked()
    if options.denoises and not reranker:
        raise UsageError(
            f"lists ({options.lists}) need a re-ranker to denoise them: give one with --reranker, "
            "or choose undenoised"
        )
    if reranker and not options.denoises:
        raise UsageError(
            "lists (undenoised) have no use for a re-ranker: leave it out, or choose denoised or "
            "hybrid"
        )
    if options.pseudo_positives and not options.denoises:
        raise UsageError(
            "pseudo-positives need a re-ranker that is confident of them: give one with --reranker"
        )
