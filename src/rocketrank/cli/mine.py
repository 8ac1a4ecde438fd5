"""``rq mine``: lists of hard negatives for training queries, undenoised and denoised."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ..errors import UsageError
from ..text_width import cut, printable
from . import options
from .show import in_words, style_of_output

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..index import Index
    from ..inference import RuntimeChoice
    from ..training.denoising import Limits
    from ..training.mining import MiningResult, MiningSources
    from ..training.mining_queries import MiningQueries
    from ..training.mining_report import MiningReport
    from ..training.synthesis import SynthesisOptions

MOST_EXAMPLES = 10


def mine(
    directory: Annotated[
        Path, typer.Option("--index", metavar="DIR", help="The index to fetch candidates from.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE", help="Where the lists are written, JSON lines."),
    ],
    queries: Annotated[
        str | None,
        typer.Option("--queries", metavar="FILE", help="Training queries; - is stdin."),
    ] = None,
    qrels: Annotated[
        str | None,
        typer.Option(
            "--qrels", metavar="FILE", help="Judgements; a relevance above 0 is a positive."
        ),
    ] = None,
    synthesize: Annotated[
        int | None,
        typer.Option(
            "--synthesize", metavar="N", help="Make up to N training queries from the passages."
        ),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="KIND,…",
            help="What is made: title, heading, sentence, cloze.",
            show_default="all",
        ),
    ] = None,
    keep_unfound: Annotated[
        bool,
        typer.Option(
            "--keep-unfound",
            help="Keep synthetic queries whose passage the retriever does not find by them.",
        ),
    ] = False,
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
        typer.Option("--reranker", metavar="MODEL", help="A cross-encoder that denoises."),
    ] = None,
    lists: Annotated[
        Literal["undenoised", "denoised", "hybrid"] | None,
        typer.Option(
            "--lists",
            help="Which kinds; hybrid is both.",
            show_default="hybrid with --reranker, else undenoised",
        ),
    ] = None,
    depth: Annotated[
        int, typer.Option("--depth", metavar="N", help="Passages the retriever fetches a query.")
    ] = 50,
    negatives: Annotated[
        int, typer.Option("--negatives", metavar="N", help="Negatives drawn for each list.")
    ] = 20,
    bm25: Annotated[
        int, typer.Option("--bm25", metavar="N", help="Passages that BM25 adds a query.")
    ] = 0,
    low: Annotated[
        float | None,
        typer.Option(
            "--low",
            metavar="P",
            help="Denoising keeps negatives of a confidence below.",
            show_default="0.1",
        ),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option(
            "--high",
            metavar="P",
            help="Denoising promotes to positives above.",
            show_default="0.9",
        ),
    ] = None,
    pseudo_positives: Annotated[
        bool,
        typer.Option(
            "--pseudo-positives",
            help="Also mine queries without any judgement, where the re-ranker is confident.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the draws.")] = 0,
    with_text: Annotated[
        bool,
        typer.Option("--with-text/--ids-only", help="Write the passages too, or their ids alone."),
    ] = False,
    examples: Annotated[
        int,
        typer.Option(
            "--examples",
            metavar="N",
            min=0,
            max=MOST_EXAMPLES,
            help="Examples of each rule to print; the report always has them.",
        ),
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace lists, finished or not, that are there.")
    ] = False,
    device: options.Device = "cpu",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
) -> None:
    """Mine training lists from an index.

    Each labelled positive gets a list with negatives out of what the retriever, and BM25 if wanted,
    find for its query. With a re-ranker come denoised lists: negatives it is sure of, and further
    positives. A report is written beside the lists.

    A run that was killed goes on where it stopped when the same command is given again.
    """
    from ..engine import SearchEngine
    from ..inference import choose_runtime
    from ..training import mining
    from ..training.mining_options import MiningOptions, check_mining

    for option, value in {"--model": model, "--reranker": reranker}.items():
        options.refuse_empty(option, value)
    _check_sources(queries, qrels, synthesize, pseudo_positives)
    made = _synthesis(synthesize, kinds, keep_unfound, seed)
    runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
    chosen = MiningOptions(
        lists=lists or ("hybrid" if reranker else "undenoised"),
        depth=depth,
        negatives=negatives,
        bm25_depth=bm25,
        limits=_limits(low, high, reranker),
        pseudo_positives=pseudo_positives,
        seed=seed,
        with_text=with_text,
        precision=_in_words(runtime),
        round_trip=not keep_unfound,
    )
    check_mining(chosen, reranker=reranker is not None)
    mining.check_output(output, overwrite=overwrite)
    given = _selected(queries, qrels, pseudo_positives)
    with SearchEngine.open(
        directory,
        model=model,
        reranker=reranker,
        device=device,
        index_device="cpu",
        precision=precision,
        engine=engine,
        threads=threads,
    ) as opened:
        sources = _sources(opened)
        asked = _with_synthetic(given, made, sources.index)
        result = mining.mine(
            output,
            asked,
            sources,
            chosen,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    _print_report(result, output, examples)


def _check_sources(
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


def _synthesis(
    count: int | None, kinds: str | None, keep_unfound: bool, seed: int
) -> "SynthesisOptions | None":
    from ..training.cuts import KINDS
    from ..training.synthesis import SynthesisOptions, check_kinds

    if count is None:
        given = {"--kinds": kinds, "--keep-unfound": keep_unfound or None}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} needs --synthesize N, the number of queries to make")
        return None
    if count < 1:
        raise UsageError(f"--synthesize ({count}) must be at least 1")
    chosen = KINDS if kinds is None else check_kinds([each.strip() for each in kinds.split(",")])
    return SynthesisOptions(count=count, kinds=chosen, seed=seed)


def _selected(queries: str | None, qrels: str | None, unjudged: bool) -> "MiningQueries | None":
    from ..data.qrels import read_qrels
    from ..data.queries import read_queries
    from ..training.mining_queries import select_queries

    if queries is None:
        return None
    judgements = () if qrels is None else read_qrels(qrels)
    return select_queries(read_queries(queries), judgements, unjudged=unjudged)


def _with_synthetic(
    given: "MiningQueries | None", made: "SynthesisOptions | None", index: "Index"
) -> "MiningQueries":
    from ..training.mining_queries import MiningQueries, with_synthetic
    from ..training.synthesis import synthesize

    if made is None:
        return cast(MiningQueries, given)
    return with_synthetic(given, synthesize(index.live_passages, made))


def _limits(low: float | None, high: float | None, reranker: str | None) -> "Limits":
    from ..training.denoising import Limits

    for option, value in {"--low": low, "--high": high}.items():
        if value is not None and reranker is None:
            raise UsageError(f"{option} ({value}) needs --reranker, the model that is confident")
    usual = Limits()
    return Limits(usual.low if low is None else low, usual.high if high is None else high)


def _sources(opened: "SearchEngine") -> "MiningSources":
    """What the engine opened, by the types that it opens: it is declared by what a search needs."""
    from ..index import Index
    from ..reranker import CrossEncoder
    from ..retriever import DualEncoder
    from ..training.mining import MiningSources, tokenizer_fingerprint

    retriever = cast(DualEncoder, opened.retriever)
    return MiningSources(
        index=cast(Index, opened.index),
        retriever=retriever,
        reranker=cast(CrossEncoder | None, opened.reranker),
        tokenizer=tokenizer_fingerprint(retriever.model),
    )


def _in_words(runtime: "RuntimeChoice") -> str:
    """How the models compute, for the report and for refusing to go on otherwise."""
    place = "cpu" if runtime.gpu is None else "gpu"
    return f"{runtime.precision} by {runtime.engine} on {place}"


def _print_report(result: "MiningResult", output: Path, examples: int) -> None:
    for line in result.report.table():
        print(line)
    if examples:
        _print_examples(result.report, examples)
    if result.resumed:
        print(f"\nAn earlier run had mined {result.resumed:,} of these queries.")
    print(f"\nWrote {in_words(result.lists, 'list')} to {output}")
    print(f"and the report, with examples of each rule, to {result.report_path}")


def _print_examples(report: "MiningReport", number: int) -> None:
    """Passages come from anywhere: one line each, without what could steer the terminal."""
    width = style_of_output().width
    print("\nexamples")
    for line in report.example_lines(number):
        indent = line[: len(line) - len(line.lstrip())]
        print(indent + cut(printable(line), width - len(indent)))
