"""Files of vectors as other programs write them: by their published layouts, with none of our code.

Pyserini (pyserini/encode): a FaissRepresentationWriter makes ``index`` and ``docid``, a
JsonlRepresentationWriter ``embeddings.jsonl``. Tevatron (tevatron/retriever/driver/encode.py):
``pickle.dump((encoded, lookup_indices), f)``.
"""

import json
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def npy(folder: Path, vectors: Vectors, ids: Sequence[str]) -> Path:
    np.save(folder / "given.npy", vectors)
    (folder / "given.ids.txt").write_text("".join(f"{each}\n" for each in ids))
    return folder / "given.npy"


def pyserini_faiss(folder: Path, vectors: Vectors, ids: Sequence[str]) -> Path:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"{each}\n" for each in ids))
    return folder


def pyserini_json_lines(folder: Path, vectors: Vectors, ids: Sequence[str]) -> Path:
    with open(folder / "embeddings.jsonl", "w") as file:
        for passage_id, vector in zip(ids, vectors, strict=True):
            record = {"id": passage_id, "contents": f"of {passage_id}", "vector": vector.tolist()}
            file.write(json.dumps(record) + "\n")
    return folder


def tevatron(folder: Path, vectors: Vectors, ids: Sequence[str]) -> Path:
    """Eleven files or fewer, in the order of their numbers, which is not that of their names."""
    bounds = np.linspace(0, len(ids), 12).astype(int)
    for number, (start, end) in enumerate(pairwise(bounds)):
        if start < end:
            with open(folder / f"corpus_emb.{number}.pkl", "wb") as file:
                pickle.dump((vectors[start:end], list(ids[start:end])), file)
    return folder


WRITERS: dict[str, Callable[[Path, Vectors, Sequence[str]], Path]] = {
    "npy": npy,
    "pyserini-faiss": pyserini_faiss,
    "pyserini-json-lines": pyserini_json_lines,
    "tevatron": tevatron,
}


def random_vectors(count: int, dim: int = 8, seed: int = 3) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
