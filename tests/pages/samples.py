"""Small real data under the names that the pages of the documentation give to people's own."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.data.records import Judgement, Passage
from rocketrank.models import open_model
from rocketrank.retriever import DualEncoder

from ..test_convert import DUAL_ENCODER, dual_encoder_variables, write_checkpoint

PASSAGES = [
    ("p7", "Penicillin", "Alexander Fleming discovered it in 1928."),
    ("p8", "Telephone", "Bell was granted a patent for it in 1876."),
    ("p9", "Bread", "Flour, water, yeast and salt are baked in an oven."),
    ("p10", "Whale", "A whale is a mammal that lives in the sea."),
]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_corpus(path: Path, passages: Iterable[Passage]) -> None:
    records = ({"_id": each.id, "title": each.title, "text": each.text} for each in passages)
    write_lines(path, map(json.dumps, records))


def notes(folder: Path, data: Path) -> None:
    """``notes``: text, Markdown, HTML, and a picture."""
    eggs = "# Eggs\n\nBoil an egg for *nine* minutes. The display says EGG-7 when the pan is dry.\n"
    tea = "<title>Tea</title><nav>Home</nav><p>Black tea draws for four minutes &amp; cools.</p>"
    write_lines(folder / "notes" / "kitchen" / "eggs.md", [eggs])
    write_lines(folder / "notes" / "kitchen" / "tea.html", [tea])
    long = [f"On day {day} the harbour was closed because of a storm." for day in range(60)]
    write_lines(folder / "notes" / "log.txt", long)
    (folder / "notes" / "pan.png").write_bytes(b"\x89PNG\0")


def own_queries(folder: Path, data: Path) -> None:
    """``my-data``: the beginnings of 70 of SciFact's abstracts, with claims to train on, choose by
    and test on. Whole ones would take minutes more and show no more."""
    judged = {"train": 24, "dev": 6, "test": 6}
    parts: dict[str, list[Judgement]] = {}
    left = iter(read_qrels(data / "scifact" / "qrels" / "train.tsv"))
    for part, count in judged.items():
        parts[part] = list(islice(left, count))
    every = [judgement for part in parts.values() for judgement in part]
    needed = {judgement.passage_id for judgement in every}
    corpus = list(CorpusReader([data / "scifact" / "corpus.jsonl.gz"]))
    chosen = [each for each in corpus if each.id in needed]
    chosen += [each for each in corpus if each.id not in needed][: 70 - len(chosen)]
    begun = (Passage(each.id, " ".join(each.text.split()[:50]), each.title) for each in chosen)
    write_corpus(folder / "my-data" / "corpus.jsonl", begun)
    asked = {judgement.query_id for judgement in every}
    queries = [
        each for each in read_queries(data / "scifact" / "queries.jsonl") if each.id in asked
    ]
    records = ({"_id": each.id, "text": each.text} for each in queries)
    write_lines(folder / "my-data" / "queries.jsonl", map(json.dumps, records))
    for part, judgements in parts.items():
        rows = (f"{each.query_id}\t{each.passage_id}\t{each.relevance}" for each in judgements)
        lines = ["query-id\tcorpus-id\tscore", *rows]
        write_lines(folder / "my-data" / "qrels" / f"{part}.tsv", lines)


def msmarco(folder: Path, data: Path) -> None:
    """``msmarco``: candidates of twelve training queries, and passages of three judged ones."""
    source, target = data / "msmarco", folder / "msmarco"
    target.mkdir()
    needed: set[str] = set()

    def copy(name: str, wanted: set[str], *, passage: int | None = None) -> None:
        """The lines of the queries ``wanted``; the passages in a column of theirs are needed."""
        with (source / name).open(encoding="utf-8") as file:
            lines = [line for line in file if line.split()[0] in wanted]
        if passage is not None:
            needed.update(line.split()[passage] for line in lines)
        (target / name.replace("dl19.tsv", "dev.small.tsv")).write_text("".join(lines), "utf-8")

    with (source / "queries.train.tsv").open(encoding="utf-8") as file:
        train = {line.split("\t")[0] for line in islice(file, 12)}
    copy("queries.train.tsv", train)
    copy("qrels.train.tsv", train, passage=2)
    copy("candidates.train.tsv", train, passage=1)
    with (source / "queries.dl19.tsv").open(encoding="utf-8") as file:
        dev = {line.split("\t")[0] for line in islice(file, 3)}
    copy("queries.dl19.tsv", dev)
    every = list(read_qrels(source / "qrels.dl19.txt"))
    judged = [
        each
        for query_id in sorted(dev)
        for each in [one for one in every if one.query_id == query_id][:60]
    ]
    needed.update(each.passage_id for each in judged)
    rows = (f"{each.query_id}\t0\t{each.passage_id}\t{each.relevance}" for each in judged)
    write_lines(target / "qrels.dev.small.tsv", rows)
    with (source / "collection.tsv").open(encoding="utf-8") as file:
        lines = [line for line in file if line.split("\t")[0] in needed]
    (target / "collection.tsv").write_text("".join(lines), encoding="utf-8")


def _corpus_and_model(folder: Path, name: str) -> tuple[list[Passage], NDArray[np.float32]]:
    """``corpus.jsonl``, a model folder, and the model's vectors of the corpus."""
    passages = [Passage(passage_id, text, title) for passage_id, title, text in PASSAGES]
    write_corpus(folder / "corpus.jsonl", passages)
    shutil.copytree(open_model("minilm").path, folder / name)
    encoder = DualEncoder.load(str(folder / name), precision="fp32")
    texts, titles = [each.text for each in passages], [each.title for each in passages]
    return passages, encoder.encode_passages(texts, titles)


def sentence_transformers(folder: Path, data: Path) -> None:
    """A model in the layout of sentence-transformers, its vectors, and triplets."""
    passages, vectors = _corpus_and_model(folder, "my-bi-encoder")
    np.save(folder / "vectors.npy", vectors)
    write_lines(folder / "vectors.ids.txt", (each.id for each in passages))
    triplet = {
        "query": "who discovered penicillin",
        "pos": ["Fleming."],
        "neg": ["Bell.", "Bread."],
    }
    write_lines(folder / "triplets.jsonl", [json.dumps(triplet)])


def rocketqa(folder: Path, data: Path) -> None:
    """A checkpoint, paragraphs and training pairs as RocketQA has them."""
    write_checkpoint(folder / "rocketqa-checkpoint", dual_encoder_variables(), DUAL_ENCODER)
    write_lines(folder / "para.txt", (f"{title}\t{text}" for _, title, text in PASSAGES))
    rows = [
        ("who discovered penicillin", title, text, int(title == "Penicillin"))
        for _, title, text in PASSAGES
    ]
    write_lines(folder / "de-train.tsv", ("\t".join(map(str, row)) for row in rows))


def pyserini(folder: Path, data: Path) -> None:
    """Vectors in both forms of Pyserini, topics and judgements."""
    passages, vectors = _corpus_and_model(folder, "my-encoder")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    (folder / "pyserini-index").mkdir()
    faiss.write_index(index, str(folder / "pyserini-index" / "index"))
    write_lines(folder / "pyserini-index" / "docid", (each.id for each in passages))
    records = (
        {"id": each.id, "contents": f"{each.title}\n{each.text}", "vector": vector.tolist()}
        for each, vector in zip(passages, vectors, strict=True)
    )
    write_lines(folder / "embeddings.jsonl", map(json.dumps, records))
    write_lines(folder / "topics.tsv", ["1\twho discovered penicillin", "2\tanimals of the sea"])
    write_lines(folder / "qrels.txt", ["1 0 p7 1", "2 0 p10 1"])


SAMPLES: Mapping[str, Callable[[Path, Path], None]] = {
    "search-my-documents.md": notes,
    "train-on-my-queries.md": own_queries,
    "ms-marco-from-scratch.md": msmarco,
    "from-sentence-transformers.md": sentence_transformers,
    "from-rocketqa.md": rocketqa,
    "from-pyserini.md": pyserini,
}
