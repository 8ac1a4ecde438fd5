"""``rq search``: one question, a file of questions, or a prompt."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import RocketRankError, UsageError
from . import options
from .show import as_record, print_hits, style_of_output

if TYPE_CHECKING:
    from ..data.records import Query, RunEntry
    from ..search_options import Fuse, SearchOptions
    from ..stages import Hit

RunFormat = Literal["trec", "msmarco", "jsonl"]


def search(
    directory: Annotated[Path, typer.Option("--index", metavar="DIR", help="The index to search.")],
    query: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="What to look for.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The retriever.",
            show_default="the one that filled the index",
        ),
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option(
            "--reranker",
            metavar="MODEL",
            help="A cross-encoder that orders the first results anew.",
        ),
    ] = None,
    k: Annotated[
        int, typer.Option("--k", "--hits", "--topk", metavar="K", help="How many hits to return.")
    ] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Search only passages that meet it, such as \"year >= 2020 and source = 'nyt'\"; "
            "fields are those of rq index --fields.",
        ),
    ] = None,
    group: options.Group = None,
    first_stage: options.FirstStage = "dense",
    hybrid_weight: options.HybridWeight = None,
    effort: options.Effort = 1.0,
    refine: options.Refine = None,
    rerank_depth: Annotated[
        int | None,
        typer.Option("--rerank-depth", metavar="N", help="How many results the re-ranker reads."),
    ] = None,
    rerank_ms: Annotated[
        float | None,
        typer.Option(
            "--rerank-ms",
            metavar="MS",
            help="Re-rank as many results, best first, as MS milliseconds a query allow.",
        ),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option(
            "--fuse",
            metavar="auto|WEIGHT",
            help="Add the retriever's score times WEIGHT to the re-ranker's; auto: the weight that "
            "was chosen when the re-ranker was trained, or by rq eval --tune-fusion --save.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", metavar="X", help="Leave out hits with a score below X."),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            "--min-probability",
            metavar="P",
            help="Leave out hits with a probability below P; rq eval --calibrate --save makes "
            "probabilities of scores.",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", metavar="FILE", help="Answer a file of queries; - is stdin."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where the run is written.",
            show_default="standard output",
        ),
    ] = None,
    format: Annotated[
        RunFormat | None,
        typer.Option("--format", help="Format of the run.", show_default="trec"),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            "--tag",
            metavar="WORD",
            help="The run's name in trec format.",
            show_default="rocketrank",
        ),
    ] = None,
    json: options.Json = False,
    device: options.Device = "cpu",
    index_device: options.IndexDevice = None,
    index_float16: options.IndexFloat16 = False,
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Search an index.

    One QUESTION, a file of queries, or a prompt when neither is given.
    """
    given = {"--model": model, "--reranker": reranker, "--fuse": fuse}
    given |= {"--queries": queries, "--output": output, "--where": where}
    for option, value in given.items():
        options.refuse_empty(option, value)
    _check(query, queries, {"--output": output, "--format": format, "--tag": tag}, json)
    from ..engine import SearchEngine
    from ..search_options import (
        check_first_stage,
        check_least,
        check_rerank_ms,
        check_search_options,
    )

    if rerank_depth is not None and reranker is None:
        raise UsageError(f"--rerank-depth ({rerank_depth}) needs --reranker, the model that reads")
    if rerank_ms is not None and reranker is None:
        raise UsageError(f"--rerank-ms ({rerank_ms:g}) needs --reranker, whose time it bounds")
    if fuse is not None and reranker is None:
        raise UsageError(f"--fuse ({fuse}) needs --reranker, the model whose scores it adds to")
    check_search_options(k, rerank_depth)
    check_rerank_ms(rerank_ms)
    check_least(min_score, min_probability)
    share = options.hybrid_weight(hybrid_weight, first_stage)
    asked_fusion = parse_fuse(fuse)
    asked = None if queries is None else _read(queries)
    _check_where(directory, where)
    with SearchEngine.open(
        directory,
        model=model,
        reranker=reranker,
        device=device,
        index_device=index_device,
        index_float16=index_float16,
        precision=precision,
        engine=engine,
        threads=threads,
        effort=effort,
        refine=refine,
        hybrid_weight=share,
    ) as opened:
        check_first_stage(first_stage, asked_fusion, has_words=opened.index.has_words)
        weight = opened.fusion_weight(asked_fusion)
        wanted: SearchOptions = {
            "k": k,
            "rerank_depth": rerank_depth,
            "fuse": weight,
            "where": where,
            "first_stage": first_stage,
            "group": group,
            "rerank_ms": rerank_ms,
            "min_score": min_score,
            "min_probability": min_probability,
        }
        if asked is not None:
            texts = [each.text for each in asked]
            answers = opened.search_stream(texts, progress=sys.stderr.isatty(), **wanted)
            _write_run(asked, answers, output or "-", format or "trec", tag or "rocketrank")
        elif query is None:
            # What holds for every question is refused before the prompt.
            opened.search_many([], **wanted)
            _prompt(partial(opened.search, **wanted), json)
        else:
            _answer(partial(opened.search, **wanted), query, json)


def _check(
    query: str | None, queries: str | None, run_options: dict[str, str | None], json: bool
) -> None:
    """Refuse combinations that have no meaning, before anything is loaded."""
    if query is not None and queries is not None:
        raise UsageError("give either a question or --queries, not both")
    if query is not None and not query.strip():
        raise UsageError("the question is empty; write what to look for")
    if queries is None:
        for name, value in run_options.items():
            if value is not None:
                raise UsageError(f"{name} ({value}) needs --queries, the file to answer")
    elif json:
        raise UsageError("--json is for a question; with --queries write --format jsonl")
    tag, output = run_options["--tag"], run_options["--output"]
    if tag is not None and (not tag or any(map(str.isspace, tag))):
        raise UsageError(f"--tag ({tag!r}) must be one word without blanks")
    if output and Path(output).is_dir():
        raise UsageError(f"--output ({output}) is a folder; name a file in it")
    if output not in (None, "-") and not Path(output or "").absolute().parent.is_dir():
        raise UsageError(f"--output ({output}) is in a folder that does not exist; make it first")
    if query is None and queries is None and not sys.stdin.isatty():
        raise UsageError("nothing to look for; give a question, or --queries FILE (- is stdin)")


def parse_fuse(text: str | None) -> "Fuse | None":
    """``--fuse`` as the engine takes it, refused before anything is loaded."""
    from ..search_options import check_fuse

    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(f"--fuse ({text}) must be auto or a finite number of at least 0") from None
    check_fuse(weight)
    return weight


def _check_where(directory: Path, where: str | None) -> None:
    """Refuse a condition that the index cannot be asked, before models are loaded."""
    if where is None:
        return
    from ..index import committed_manifest
    from ..index.where import Condition

    Condition(where, committed_manifest(directory).fields)


def _read(path: str) -> "list[Query]":
    from ..data.queries import read_queries

    queries = list(read_queries(path))
    if not queries:
        raise UsageError(f"--queries ({path}) holds no query; one line each is expected")
    return queries


def _answer(search: "Callable[[str], list[Hit]]", query: str, json: bool) -> None:
    hits = search(query)
    if json:
        sys.stdout.write(as_record(query, hits).decode())
    else:
        print_hits(hits, query, style_of_output())


def _prompt(search: "Callable[[str], list[Hit]]", json: bool) -> None:
    """Answer line after line until an empty one; an error in one query does not end it."""
    with suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history for input())
    print("Type a question; an empty line or Ctrl-D leaves.", file=sys.stderr)
    while True:
        try:
            query = _asked()
        except EOFError:
            print(file=sys.stderr)
            return
        if not query.strip():
            return
        try:
            _answer(search, query, json)
        except RocketRankError as error:
            print(f"rq: {error}", file=sys.stderr)


def _asked() -> str:
    """A line from the prompt, which stays out of a standard output that goes to a file."""
    if sys.stdout.isatty():
        return input("rq> ")
    print("rq> ", end="", file=sys.stderr, flush=True)
    return input()


def _write_run(
    queries: "Sequence[Query]",
    answers: "Iterable[Sequence[Hit]]",
    output: str,
    format: RunFormat,
    tag: str,
) -> None:
    from ..data.runs import write_run

    texts = {query.id: query.text for query in queries}
    write_run(output, _entries(queries, answers), format=format, tag=tag, queries=texts)
    if output != "-":
        print(f"Wrote the hits of {len(queries):,} queries to {output}.", file=sys.stderr)


def _entries(
    queries: "Sequence[Query]", answers: "Iterable[Sequence[Hit]]"
) -> "Iterable[RunEntry]":
    from ..data.records import RunEntry

    for query, hits in zip(queries, answers, strict=True):
        for hit in hits:
            yield RunEntry(query.id, hit.id, hit.rank, hit.score)
