"""Readers for the field's file formats, and the records they give."""

from .corpus import CorpusReader
from .lines import iter_lines
from .passage_formats import CORPUS_FORMATS, CorpusFormat
from .qrels import QRELS_FORMATS, QrelsFormat, read_qrels
from .queries import QUERY_FORMATS, QueryFormat, read_queries
from .records import NO_METADATA, Judgement, Passage, Query, RunEntry, join_title
from .runs import RUN_FORMATS, RunFormat, read_run, write_run

__all__ = [
    "CORPUS_FORMATS",
    "NO_METADATA",
    "QRELS_FORMATS",
    "QUERY_FORMATS",
    "RUN_FORMATS",
    "CorpusFormat",
    "CorpusReader",
    "Judgement",
    "Passage",
    "QrelsFormat",
    "Query",
    "QueryFormat",
    "RunEntry",
    "RunFormat",
    "iter_lines",
    "join_title",
    "read_qrels",
    "read_queries",
    "read_run",
    "write_run",
]
