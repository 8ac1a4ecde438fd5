"""``rq export``: the vectors of an index, for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options
from .show import in_words, size_in_words


def export(
    directory: options.IndexArgument,
    to: Annotated[
        Literal["rocketrank", "npy", "pyserini", "tevatron"],
        typer.Option("--to", help="For whom the files are."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The folder to make; must not exist.")
    ],
    texts: Annotated[
        bool, typer.Option("--texts", help="Write the passages too, as corpus.jsonl in DIR.")
    ] = False,
) -> None:
    """Write an index's vectors to files.

    All passages that are not deleted, in the order of the index, with their ids: what rq encode
    writes, a NumPy file, a FAISS file for Pyserini, or pickles for Tevatron. rq index --vectors
    reads each of them again.
    """
    import sys

    from ..index import Index
    from ..index.vector_export import export_vectors

    with Index.open(directory) as index:
        report = export_vectors(index, to, output, texts=texts, progress=sys.stderr.isatty())
        manifest = index.manifest
    print(
        f"{in_words(report.vectors, 'vector')} of width {report.width} in {output}, "
        f"{size_in_words(report.bytes_on_disk)}"
    )
    if manifest.vectors != "float32":
        print(
            f"the index keeps its vectors as {manifest.vectors}: the numbers are float32, rounded "
            "to what that can hold"
        )
    print(f"queries belong to the model {manifest.model.name}, which made them")
