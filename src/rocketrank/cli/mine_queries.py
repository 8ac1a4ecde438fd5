"""Which queries ``rq mine`` mines for: those of files, and those that are made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from ..errors import DataError, UsageError
from . import options

if TYPE_CHECKING:
    from ..index import Index
    from ..training.endpoint import Endpoint
    from ..training.mining_queries import MiningQueries
    from ..training.synthesis import SynthesisOptions


class ToMake(NamedTuple):
    """What is cut out of passages, and how many queries an endpoint writes beside it."""

    cuts: "SynthesisOptions | None"
    endpoint: "Endpoint | None"
    written: int
    seed: int


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
) -> ToMake | None:
    """What the options ask to be made, None for nothing. ``asks`` are those of the endpoint."""
    from ..training.cuts import KINDS, QUERY_KINDS
    from ..training.synthesis import SynthesisOptions, check_kinds

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
    written = count // (len(chosen) + 1) if endpoint else 0
    if endpoint is not None:
        written = max(1, written)
    left = count - written
    cuts = SynthesisOptions(count=left, kinds=chosen, seed=seed) if chosen and left else None
    return ToMake(cuts, endpoint, written, seed)


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
    given: "MiningQueries | None", made: ToMake | None, index: "Index", output: Path
) -> "MiningQueries":
    """``given`` and behind them those that are made from the passages of ``index``.

    An endpoint's answers are kept beside ``output``.
    """
    from ..training.mining_queries import with_synthetic
    from ..training.mining_report import MiningReport
    from ..training.synthesis import Synthesis, synthesize
    from ..training.written_queries import written_queries

    if made is None:
        return cast("MiningQueries", given)
    parts = []
    if made.cuts is not None:
        parts.append(synthesize(index.live_passages, made.cuts))
    if made.endpoint is not None:
        ledger = output.with_name(f"{output.stem}.endpoint.jsonl")
        passages = index.live_passages
        parts.append(
            written_queries(passages, made.endpoint, made.written, seed=made.seed, ledger=ledger)
        )
    report = MiningReport()
    for part in parts:
        report.add(part.report.as_record())
    queries = [query for part in parts for query in part.queries]
    if not queries:
        raise DataError(
            "expected queries of 3 to 40 words from the endpoint, found none that can be used: "
            "look at its answers beside the output, and change the prompt or the model"
        )
    return with_synthetic(given, Synthesis(queries, report))
