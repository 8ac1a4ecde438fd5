"""The side of sentence-transformers and FAISS, as their documentation shows them.

Needs the packages of requirements.txt in an environment of their own, and none of RocketRank.
"""

import json
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    export_static_quantized_openvino_model,
)
from worker import seconds, serve


def _open(kind: Any, folder: str, backend: str, texts: str, **options: Any) -> Any:
    """``fp32``, ``bf16``, ``onnx``, ``openvino`` or ``int8`` in the library's own words.

    The last is OpenVINO's after the library's export, which measures on ``texts``.
    """
    if backend != "int8":
        return kind(folder, device="cpu", **options, **_options(backend))
    made = Path(texts).with_suffix(f".{kind.__name__}.openvino-int8")
    if not made.exists():
        model = kind(folder, device="cpu", **options, **_options("openvino"))
        model.save_pretrained(str(made))
        lines = [json.dumps({"text": text}) for text in json.loads(Path(texts).read_text())]
        samples = made / "samples"
        samples.mkdir()
        (samples / "train.jsonl").write_text("\n".join(lines))
        named = {"dataset_config_name": "default", "dataset_split": "train", "column_name": "text"}
        export_static_quantized_openvino_model(
            model, None, str(made), dataset_name=str(samples), **named
        )
    file = {"file_name": "openvino_model_qint8_quantized.xml"}
    return kind(str(made), device="cpu", backend="openvino", model_kwargs=file, **options)


def _options(backend: str) -> dict[str, Any]:
    if backend in ("onnx", "openvino"):
        return {"backend": backend, "model_kwargs": {"export": True}}
    kind = torch.bfloat16 if backend == "bf16" else torch.float32
    return {"model_kwargs": {"dtype": kind}}


class Theirs:
    """Keeps what was opened last of each kind."""

    def open_encoder(self, folder: str, backend: str, length: int, texts: str) -> dict[str, Any]:
        self._encoder = _open(SentenceTransformer, folder, backend, texts)
        self._encoder.max_seq_length = length
        return {"versions": _versions()}

    def _encode(self, texts: list[str], batch_size: int | None) -> Any:
        options = {} if batch_size is None else {"batch_size": batch_size}
        return self._encoder.encode(texts, normalize_embeddings=True, **options)

    def encode(
        self, texts: str, batch_size: int | None = None, save: str | None = None
    ) -> dict[str, Any]:
        items = json.loads(Path(texts).read_text())
        found: list[Any] = []
        taken = seconds(lambda: found.append(self._encode(items, batch_size)))
        if save is not None:
            np.save(save, found[0].astype(np.float32))
        return {"seconds": taken, "count": len(items)}

    def encode_queries(self, texts: str) -> dict[str, Any]:
        items = json.loads(Path(texts).read_text())
        return {"each": [seconds(lambda t=t: self._encode([t], None)) for t in items]}

    def open_reranker(self, folder: str, backend: str, length: int, texts: str) -> dict[str, Any]:
        own = {"max_length": length, "activation_fn": torch.nn.Identity()}
        self._reranker = _open(CrossEncoder, folder, backend, texts, **own)
        return {}

    def score(
        self, pairs: str, batch_size: int | None = None, save: str | None = None
    ) -> dict[str, Any]:
        lists = json.loads(Path(pairs).read_text())
        found: list[Any] = []
        taken = seconds(lambda: found.extend(self._predict(each, batch_size) for each in lists))
        if save is not None:
            np.save(save, np.concatenate(found).astype(np.float32))
        return {"seconds": taken, "count": sum(map(len, lists))}

    def _predict(self, pairs: list[tuple[str, str]], batch_size: int | None) -> Any:
        options = {} if batch_size is None else {"batch_size": batch_size}
        return self._reranker.predict(pairs, **options)

    def open_search(self, vectors: str, corpus: str, depth: int) -> dict[str, Any]:
        """An exact index over ``vectors``, and the texts by their place in it."""
        self._ids, self._texts = json.loads(Path(corpus).read_text())
        stored = np.load(vectors)
        self._index = faiss.IndexFlatIP(stored.shape[1])
        self._index.add(stored)
        self._depth = depth
        return {}

    def search(
        self, texts: str, stages: int, k: int, batch_size: int | None = None
    ) -> dict[str, Any]:
        found: list[list[str]] = []

        def one(query: str) -> None:
            vector = self._encode([query], None).astype(np.float32)
            _, rows = self._index.search(vector, self._depth if stages == 2 else k)
            best = rows[0]
            if stages == 2:
                pairs = [(query, self._texts[row]) for row in best]
                scores = self._predict(pairs, batch_size)
                best = best[np.argsort(-scores, kind="stable")][:k]
            found.append([self._ids[row] for row in best])

        queries = json.loads(Path(texts).read_text())
        return {"each": [seconds(lambda q=q: one(q)) for q in queries], "found": found}


def _versions() -> dict[str, str]:
    import onnxruntime
    import openvino
    import sentence_transformers
    import transformers

    modules = (sentence_transformers, transformers, torch, onnxruntime, openvino, faiss)
    return {module.__name__: str(module.__version__) for module in modules}


if __name__ == "__main__":
    theirs = Theirs()
    names = ("open_encoder", "encode", "encode_queries", "open_reranker", "score", "open_search")
    serve({name: getattr(theirs, name) for name in (*names, "search")})
