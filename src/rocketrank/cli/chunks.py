"""Cutting documents into chunks on the command line: the options, and what was not read."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .show import in_words

if TYPE_CHECKING:
    from ..data.chunking import Chunking
    from ..data.corpus import CorpusReader
    from ..index import Corpus
    from ..retriever import DualEncoder

Chunk = Annotated[
    int | None,
    typer.Option(
        "--chunk",
        metavar="TOKENS",
        min=0,
        help="Cut texts into chunks of at most so many tokens, at sentence ends where possible; 0: "
        "leave them whole.",
        show_default="200 for files and folders of documents, 0 for collections",
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        metavar="TOKENS",
        help="How far behind the last chunk the next one begins.",
        show_default="three quarters of --chunk",
    ),
]

_LISTED = 20


def chosen_chunking(
    reader: "CorpusReader", encoder: "DualEncoder", chunk: int | None, stride: int | None
) -> "Chunking | None":
    """How the corpus is cut; None where it is not. UsageError for what the model cannot read."""
    from ..data.chunking import chunking_of, usual_limit

    tokens = encoder.passage_tokens() if chunk or reader.holds_documents else None
    if chunk is None and tokens:
        chunk = usual_limit(tokens.length)
    if not chunk or tokens is None:
        if stride is not None:
            raise UsageError(f"--stride ({stride}) needs --chunk, the size of what it is between")
        return None
    chunking = chunking_of(chunk, stride)
    most = tokens.room("")
    if chunk > most:
        raise UsageError(
            f"--chunk ({chunk}) is more than the {most} tokens of a text that {encoder.name} "
            f"reads: give {most} or less"
        )
    return chunking


def with_document(fields: tuple[str, ...], chunking: "Chunking | None") -> tuple[str, ...]:
    """The fields of an index, in which chunks can be found by their document."""
    from ..data.chunks import DOCUMENT

    return fields if chunking is None or DOCUMENT in fields else (DOCUMENT, *fields)


def cut(reader: "CorpusReader", encoder: "DualEncoder", chunking: "Chunking | None") -> "Corpus":
    """The corpus as it is indexed: ``reader`` itself, or its chunks."""
    from ..data.chunks import ChunkedCorpus

    return ChunkedCorpus(reader, encoder.passage_tokens(), chunking) if chunking else reader


def unread_lines(reader: "CorpusReader") -> list[str]:
    """How many files could not be read, and the first of them with the reasons; empty for none."""
    unread = reader.unread
    if not unread:
        return []
    lines = [f"{in_words(len(unread), 'file')} could not be read and left out:"]
    lines += [f"  {each.path}: {each.reason}" for each in unread[:_LISTED]]
    return lines + ([f"  and {len(unread) - _LISTED:,} more"] if len(unread) > _LISTED else [])
