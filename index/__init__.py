"""The index: encoded passages, their texts and a FAISS structure as one transactional store."""

from .build import BuildReport, build_index
from .encoding import BuildOptions, Corpus, PassageEncoder
from .kinds import KINDS
from .manifest import Manifest
from .reader import Index, check_files, committed_manifest
from .search import SearchResult

__all__ = [
    "KINDS",
    "BuildOptions",
    "BuildReport",
    "Corpus",
    "Index",
    "Manifest",
    "PassageEncoder",
    "SearchResult",
    "build_index",
    "check_files",
    "committed_manifest",
]
