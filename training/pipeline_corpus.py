"""The corpus of a pipeline: passages as they are given, or documents, cut into chunks.

Chunks are those that ``rq index`` would make for the passages' length of the recipe, by the
tokenizer of the starting retriever, so that all indexes of a pipeline have the same.
"""

from collections.abc import Sequence
from pathlib import Path

from ..data.chunking import Chunking, chunking_of, usual_limit
from ..data.chunks import ChunkedCorpus
from ..data.corpus import CorpusReader
from ..index import Corpus
from ..models import open_model
from ..retriever import PassageTokens
from .recipe import Recipe


def open_corpus(recipe: Recipe, paths: Sequence[Path]) -> tuple[Corpus, Chunking | None]:
    """The corpus, read once, and how its documents are cut. Raises RocketRankError."""
    reader = CorpusReader(paths)
    if not reader.holds_documents:
        return reader, None
    tokens = PassageTokens(open_model(recipe.models.retriever, role="dual-encoder"))
    chunking = chunking_of(
        usual_limit(min(tokens.length, recipe.models.passage_length or tokens.length))
    )
    return ChunkedCorpus(reader, tokens, chunking), chunking
