"""The index: encoded passages, their texts and a FAISS structure as one transactional store."""

from .build import BuildReport, build_index, build_index_of
from .changes import ChangeOptions, ChangeReport, add_passages, compact, delete_passages
from .checking import VerifyReport, verify_index
from .effort import Effort
from .encoding import BuildOptions, Corpus, PassageEncoder, VectorSource
from .gpu_plan import GpuOptions, gpu_options_of
from .history import CommitNote, drop_snapshot, history, roll_back, take_snapshot
from .kinds import KINDS
from .manifest import Manifest
from .passage_list import PassageList
from .reader import Index, committed_manifest
from .repair import RepairReport, repair_index
from .search import SearchResult

__all__ = [
    "KINDS",
    "BuildOptions",
    "BuildReport",
    "ChangeOptions",
    "ChangeReport",
    "CommitNote",
    "Corpus",
    "Effort",
    "GpuOptions",
    "Index",
    "Manifest",
    "PassageEncoder",
    "PassageList",
    "RepairReport",
    "SearchResult",
    "VectorSource",
    "VerifyReport",
    "add_passages",
    "build_index",
    "build_index_of",
    "committed_manifest",
    "compact",
    "delete_passages",
    "drop_snapshot",
    "gpu_options_of",
    "history",
    "repair_index",
    "roll_back",
    "take_snapshot",
    "verify_index",
]
