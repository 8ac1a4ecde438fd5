"""RocketRank: train a retriever and a re-ranker together, index a corpus, search it.

``from rocketrank import SearchEngine`` is the usual way in; the name is looked up when it is first
used, so that importing the package loads neither Paddle nor FAISS nor NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.records import Passage
    from .engine import SearchEngine
    from .stages import Hit

__version__ = "0.1.0"
__all__ = ["Hit", "Passage", "SearchEngine", "__version__"]
_PLACES = {"Hit": ".stages", "SearchEngine": ".engine", "Passage": ".data.records"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
