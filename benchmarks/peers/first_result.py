"""The first result of sentence-transformers and FAISS from a cold process.

python first_result.py MODEL VECTORS CORPUS QUERY
"""

import json
import sys
from pathlib import Path

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer

model, vectors, corpus, query = sys.argv[1:]
encoder = SentenceTransformer(model, device="cpu")
stored = np.load(vectors)
index = faiss.IndexFlatIP(stored.shape[1])
index.add(stored)
ids, texts = json.loads(Path(corpus).read_text())
scores, rows = index.search(encoder.encode([query], normalize_embeddings=True), 10)
for score, row in zip(scores[0], rows[0], strict=True):
    print(f"{score:.4f} {ids[row]} {texts[row][:100]}")
