"""``rq quantize``: a model in 8-bit integers, measured on a corpus."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .show import in_words


def quantize(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="minilm, a model folder or a hub id.")
    ],
    corpus: options.Corpus,
    output: Annotated[
        Path,
        typer.Option("--output", metavar="DIR", help="The model folder to make; must not exist."),
    ],
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Queries to measure with too.",
            show_default="titles or first words of passages",
        ),
    ] = None,
    format: options.CorpusFormat = "auto",
    skip_empty: options.SkipEmpty = False,
    threads: options.Threads = None,
) -> None:
    """Make a model faster.

    Its products with weights are computed in 8-bit integers from then on, between limits that are
    measured on 128 passages of the corpus, drawn evenly; another 128 show what that costs. It needs
    a processor with avx512_vnni or avx_vnni. An index is filled and searched with one of the two
    models: their fingerprints differ.
    """
    from ..data.corpus import CorpusReader
    from ..data.queries import read_queries
    from ..quantize import quantize_model

    options.refuse_empty("MODEL", model)
    report = quantize_model(
        model,
        CorpusReader(list(corpus), format=format, skip_empty=skip_empty),
        output,
        queries=read_queries(queries) if queries else (),
        threads=threads,
    )
    measured = in_words(report.measured, "passage")
    print(f"Wrote {report.target}: {report.role} in 8-bit integers, measured on {measured}.")
    others = f"Beside the model in floats, on {report.compared} others:"
    if report.role == "cross-encoder":
        print(f"{others} correlation of scores {report.mean:.4f}.")
        print(f'Use it with: rq search "…" --index DIR --reranker {report.target}')
    else:
        print(f"{others} cosine {report.mean:.4f} on average, {report.least:.4f} at least.")
        print(f"Use it with: rq index CORPUS --index DIR --model {report.target}")
