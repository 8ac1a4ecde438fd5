"""RocketRank's side of the comparisons: python ours.py, asked through standard input."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from models import in_integers
from worker import seconds, serve

from rocketrank import SearchEngine, __version__
from rocketrank.inference import Precision
from rocketrank.models import open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder


class Ours:
    """Keeps what was opened last of each kind."""

    def open_encoder(self, folder: str, backend: str, length: int, texts: str) -> dict[str, Any]:
        folder, precision = _as_asked(folder, backend, texts)
        model = open_model(folder, role="dual-encoder")
        settings = replace(model.settings, passage_length=length, query_length=length)
        self._encoder = DualEncoder.load(replace(model, settings=settings), precision=precision)
        return {"versions": _versions()}

    def encode(
        self, texts: str, batch_size: int | None = None, save: str | None = None
    ) -> dict[str, Any]:
        items = json.loads(Path(texts).read_text())
        found: list[Any] = []
        taken = seconds(lambda: found.append(self._encoder.encode_passages(items)))
        if save is not None:
            np.save(save, found[0])
        return {"seconds": taken, "count": len(items)}

    def encode_queries(self, texts: str) -> dict[str, Any]:
        items = json.loads(Path(texts).read_text())
        return {"each": [seconds(lambda t=t: self._encoder.encode_queries([t])) for t in items]}

    def open_reranker(self, folder: str, backend: str, length: int, texts: str) -> dict[str, Any]:
        folder, precision = _as_asked(folder, backend, texts)
        model = open_model(folder, role="cross-encoder")
        settings = replace(model.settings, pair_length=length)
        self._reranker = CrossEncoder.load(replace(model, settings=settings), precision=precision)
        return {}

    def score(
        self, pairs: str, batch_size: int | None = None, save: str | None = None
    ) -> dict[str, Any]:
        lists = [[(q, p) for q, p in each] for each in json.loads(Path(pairs).read_text())]
        found: list[Any] = []
        taken = seconds(lambda: found.extend(self._reranker.score(each) for each in lists))
        if save is not None:
            np.save(save, np.concatenate(found))
        return {"seconds": taken, "count": sum(map(len, lists))}

    def open_search(
        self, index: str, reranker: str, backend: str, depth: int, texts: str
    ) -> dict[str, Any]:
        self._depth = depth
        reranker, precision = _as_asked(reranker, backend, texts)
        self._stages = {
            stages: SearchEngine.open(index, reranker=second, precision=precision)
            for stages, second in ((1, None), (2, reranker))
        }
        return {}

    def search(self, texts: str, stages: int, k: int) -> dict[str, Any]:
        found: list[list[str]] = []

        def one(query: str) -> None:
            hits = self._stages[stages].search(query, k=k, rerank_depth=self._depth)
            found.append([hit.id for hit in hits])

        queries = json.loads(Path(texts).read_text())
        return {"each": [seconds(lambda q=q: one(q)) for q in queries], "found": found}


def _as_asked(folder: str, backend: str, texts: str) -> tuple[str, Precision]:
    """The model and its precision: ``int8`` is a folder that rq quantize makes of ``texts``."""
    if backend != "int8":
        return folder, cast(Precision, backend)
    return str(in_integers(Path(folder), Path(texts))), "auto"


def _versions() -> dict[str, str]:
    import openvino

    return {"rocketrank": __version__, "openvino": openvino.__version__}


if __name__ == "__main__":
    ours = Ours()
    names = ("open_encoder", "encode", "encode_queries", "open_reranker", "score", "open_search")
    serve({name: getattr(ours, name) for name in (*names, "search")})
