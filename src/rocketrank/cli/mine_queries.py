"""Which queries ``rq mine`` mines for: those of files, and those that are made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..index import Index
    from ..training.endpoint import Endpoint
    from ..training.making import Making
    from ..training.mining_queries import MiningQueries


def check_sources(
    queries: str | None, qrels: str | None, synthesize: int | None, pseudo_positives: bool
) -> None:
    """Raises UsageError where nothing says what is mined for, or options contradict each other."""
    options.refuse_empty("--queries", queries)
    options.refuse_empty("--qrels", qrels)
    if queries is None and qrels is not None:
        raise UsageError(
            f"--qrels ({qrels}) needs --queries, the queries that its judgements are about"
        )
    if queries is None and pseudo_positives:
        raise UsageError("--pseudo-positives needs --queries, some of them without a judgement")
    if queries is None and synthesize is None:
        raise UsageError(
            "nothing says which queries to mine for: name them with --queries and --qrels, or have "
            "them made from the passages with --synthesize N"
        )
    if queries is not None and qrels is None and not pseudo_positives:
        raise UsageError(
            f"--queries ({queries}) needs --qrels, their judgements; for queries that nobody has "
            "judged use --pseudo-positives with --reranker"
        )


def to_make(
    count: int | None,
    kinds: str | None,
    asks: Mapping[str, str | Path | None],
    *,
    keep_unfound: bool,
    seed: int,
) -> "Making | None":
    """What the options ask to be made, None for nothing. ``asks`` are those of the endpoint."""
    from ..training.cuts import KINDS, QUERY_KINDS
    from ..training.making import Making
    from ..training.synthesis import check_kinds

    if count is None:
        given = {"--kinds": kinds, "--keep-unfound": keep_unfound or None, **asks}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} needs --synthesize N, the number of queries to make")
        return None
    if count < 1:
        raise UsageError(f"--synthesize ({count}) must be at least 1")
    endpoint = _endpoint(asks)
    usual = QUERY_KINDS if endpoint else KINDS
    names = usual if kinds is None else [each.strip() for each in kinds.split(",")]
    if "endpoint" in names and endpoint is None:
        raise UsageError(f"--kinds ({kinds}) needs --endpoint, the address of what writes queries")
    if endpoint is not None and "endpoint" not in names:
        raise UsageError(f"--kinds ({kinds}) leaves no use for --endpoint: name endpoint too")
    cut = [each for each in names if each != "endpoint"]
    chosen = check_kinds(cut) if cut or endpoint is None else ()
    return Making(count=count, kinds=chosen, endpoint=endpoint, seed=seed)


def _endpoint(asks: Mapping[str, str | Path | None]) -> "Endpoint | None":
    from ..training.endpoint import open_endpoint

    url, model, prompt = asks["--endpoint"], asks["--endpoint-model"], asks["--endpoint-prompt"]
    for option, value in asks.items():
        options.refuse_empty(option, value)
        if url is None and value is not None:
            raise UsageError(f"{option} ({value}) needs --endpoint, the address of the API")
    if url is None:
        return None
    if model is None:
        raise UsageError(f"--endpoint ({url}) needs --endpoint-model, the name of a model there")
    return open_endpoint(str(url), str(model), None if prompt is None else Path(prompt))


def selected(queries: str | None, qrels: str | None, unjudged: bool) -> "MiningQueries | None":
    """The queries of files, None where none are named."""
    from ..data.qrels import read_qrels
    from ..data.queries import read_queries
    from ..training.mining_queries import select_queries

    if queries is None:
        return None
    judgements = () if qrels is None else read_qrels(qrels)
    return select_queries(read_queries(queries), judgements, unjudged=unjudged)


def with_made(
    given: "MiningQueries | None", making: "Making | None", index: "Index", output: Path
) -> "MiningQueries":
    """``given`` and behind them those that are made from the passages of ``index``.

    An endpoint's answers are kept beside ``output``.
    """
    from ..training.making import make
    from ..training.mining_queries import with_synthetic

    if making is None:
        return cast("MiningQueries", given)
    ledger = output.with_name(f"{output.stem}.endpoint.jsonl")
    return with_synthetic(given, make(index.live_passages, making, ledger=ledger))
