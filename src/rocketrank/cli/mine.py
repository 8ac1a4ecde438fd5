"""``rq mine``: lists of hard negatives for training queries, undenoised and denoised."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ..errors import UsageError
from ..text_width import cut, printable
from . import options
from .mine_queries import check_sources, selected, to_make, with_made
from .show import in_words, style_of_output

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..inference import RuntimeChoice
    from ..training.denoising import Limits
    from ..training.mining import MiningResult, MiningSources
    from ..training.mining_report import MiningReport

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
            help="What is made: title, heading, sentence, cloze, endpoint.",
            show_default="all",
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="Have queries written too, by a chat API like OpenAI's; its key is "
            "RQ_ENDPOINT_KEY in the environment.",
        ),
    ] = None,
    endpoint_model: Annotated[
        str | None,
        typer.Option("--endpoint-model", metavar="NAME", help="The model that writes them."),
    ] = None,
    endpoint_prompt: Annotated[
        Path | None,
        typer.Option(
            "--endpoint-prompt",
            metavar="FILE",
            help="What it is told, with {passage} where the passage goes.",
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
    check_sources(queries, qrels, synthesize, pseudo_positives)
    asks: dict[str, str | Path | None] = {
        "--endpoint": endpoint,
        "--endpoint-model": endpoint_model,
        "--endpoint-prompt": endpoint_prompt,
    }
    made = to_make(synthesize, kinds, asks, keep_unfound=keep_unfound, seed=seed)
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
    given = selected(queries, qrels, pseudo_positives)
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
        asked = with_made(given, made, sources.index, output)
        result = mining.mine(
            output,
            asked,
            sources,
            chosen,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    _print_report(result, output, examples)


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
