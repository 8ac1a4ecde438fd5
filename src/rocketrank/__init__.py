"""RocketRank: train a retriever and a re-ranker together, index a corpus, search it.

``from rocketrank import SearchEngine`` is the usual way in; the name is looked up when it is first
used, so that importing the package loads neither Paddle nor FAISS nor NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Hit, SearchEngine

__version__ = "0.1.0"
__all__ = ["Hit", "SearchEngine", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Hit", "SearchEngine"):
        from importlib import import_module

        return getattr(import_module(".engine", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
