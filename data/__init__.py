"""Readers for the field's file formats, and the records they give."""

from .corpus import CorpusReader
from .datasets import Dataset, dataset_names, open_dataset
from .dpr_results import DprHit, DprResult, read_dpr_results, write_dpr_results
from .lines import iter_lines
from .passage_formats import CORPUS_FORMATS, CorpusFormat
from .qrels import QRELS_FORMATS, QrelsFormat, read_qrels
from .queries import QUERY_FORMATS, QueryFormat, read_queries
from .records import NO_METADATA, Judgement, Passage, Query, RunEntry, join_title
from .run_groups import RunGroup, read_run_groups
from .runs import RUN_FORMATS, RunFormat, read_run, write_run

__all__ = [
    "CORPUS_FORMATS",
    "NO_METADATA",
    "QRELS_FORMATS",
    "QUERY_FORMATS",
    "RUN_FORMATS",
    "CorpusFormat",
    "CorpusReader",
    "Dataset",
    "DprHit",
    "DprResult",
    "Judgement",
    "Passage",
    "QrelsFormat",
    "Query",
    "QueryFormat",
    "RunEntry",
    "RunFormat",
    "RunGroup",
    "dataset_names",
    "iter_lines",
    "join_title",
    "open_dataset",
    "read_dpr_results",
    "read_qrels",
    "read_queries",
    "read_run",
    "read_run_groups",
    "write_dpr_results",
    "write_run",
]
