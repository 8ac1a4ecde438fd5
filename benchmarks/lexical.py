"""BM25 three ways on MS MARCO: our postings, SQLite's FTS5, and bm25s.

Each builds the same corpus from disk and answers the same queries for 100 passages, one at a time,
in turn in one process: build, size on disk and milliseconds a query, as ratios to ours. Ours and
bm25s have the same words and parameters (k1 0.9, b 0.4, English stop words); FTS5 has k1 1.2 and
b 0.75, which cannot be changed, and is asked for any of the same words. ``--memory`` builds each
once more in a process of its own for its peak. With ``--copies N`` the corpus is the real one and
N - 1 made of it by shuffling its words anew into as many passages of the same lengths.
"""

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import bm25s

sys.path.insert(0, str(Path(__file__).parent))
from scifact import spread

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.queries import read_queries
from rocketrank.data.words import K1, B, words
from rocketrank.index.calibration import resident
from rocketrank.index.postings import Postings
from rocketrank.index.postings_writing import write_postings
from rocketrank.index.word_search import LiveWords, search_words

K = 100
Search = Callable[[str], list[int]]
"""The rows of the passages found for a query, best first."""


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        if options.only:
            SIDES[options.only](folder, corpus(options))
            print(resident().peak)
            return
        queries = [each.text for each in read_queries(options.msmarco / "queries.train.tsv")]
        queries = queries[: options.queries]
        passages = sum(1 for _ in corpus(options))
        print(f"{passages:,} passages, {len(queries)} queries, {K} passages each", flush=True)
        if options.memory:
            for side in SIDES:
                print(f"{side}: peak {peak(side, options):.0f} MiB while building", flush=True)
        figures = [measure(folder / str(each), options, queries) for each in range(options.rounds)]
    for measured, unit in (("build", "s"), ("size", "MiB"), ("query", "ms")):
        for side in SIDES:
            values = [figure[side][measured] for figure in figures]
            ratios = [figure[side][measured] / figure["ours"][measured] for figure in figures]
            print(f"{measured} {side}: {spread(values, unit)}, {spread(ratios, 'times ours')}")


def arguments() -> argparse.Namespace:
    root = Path(__file__).resolve().parents[1]
    data = Path(os.environ.get("ROCKETRANK_DATA", root.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--msmarco", type=Path, default=data / "msmarco", metavar="DIR")
    parser.add_argument("--copies", type=int, default=1, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N", help="of the real passages")
    parser.add_argument("--queries", type=int, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the files are written")
    parser.add_argument("--only", choices=[*SIDES], help=argparse.SUPPRESS)
    return parser.parse_args()


def corpus(options: argparse.Namespace) -> Iterator[str]:
    """The texts, read anew each time; what is made up is the same each time."""
    reader = CorpusReader([options.msmarco / "collection.tsv"])
    texts = (passage.full_text for passage in islice(reader, options.limit))
    if options.copies == 1:
        return texts
    real = list(texts)
    return chain(real, *(shuffled(real, copy) for copy in range(1, options.copies)))


def shuffled(texts: Sequence[str], seed: int) -> Iterator[str]:
    """As many texts of the same lengths, of the same words in another order."""
    every = [word for text in texts for word in text.split()]
    random.Random(seed).shuffle(every)
    remaining = iter(every)
    for text in texts:
        yield " ".join(islice(remaining, len(text.split())))


def measure(
    folder: Path, options: argparse.Namespace, queries: Sequence[str]
) -> dict[str, dict[str, float]]:
    """A round: every side builds and then searches; the files are removed at its end."""
    figures, found = {}, {}
    for side, build in SIDES.items():
        place = folder / side
        place.mkdir(parents=True)
        started = time.perf_counter()
        search = build(place, corpus(options))
        built = time.perf_counter()
        for query in queries[:20]:
            search(query)
        warm = time.perf_counter()
        found[side] = [search(query) for query in queries]
        searched = time.perf_counter()
        figures[side] = {
            "build": built - started,
            "size": sum(file.stat().st_size for file in place.iterdir()) / 2**20,
            "query": (searched - warm) * 1000 / len(queries),
        }
    same = {side: shared(found[side], found["ours"]) for side in SIDES if side != "ours"}
    shutil.rmtree(folder)
    said = ", ".join(f"{side} {share:.1%}" for side, share in same.items())
    print(f"round done; of our {K} passages also found by {said}", flush=True)
    return figures


def shared(found: Sequence[list[int]], ours: Sequence[list[int]]) -> float:
    both = sum(len({*theirs} & {*mine}) for theirs, mine in zip(found, ours, strict=True))
    return both / max(1, sum(map(len, ours)))


def peak(side: str, options: argparse.Namespace) -> float:
    """MiB that a process takes at most that builds one side and nothing else."""
    given = ["--msmarco", str(options.msmarco), "--copies", str(options.copies)]
    given += ["--limit", str(options.limit)] if options.limit else []
    given += ["--work", str(options.work)] if options.work else []
    command = [sys.executable, __file__, "--only", side, *given]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return int(done.stdout) / (1 << 20)


def ours(folder: Path, texts: Iterator[str]) -> Search:
    write_postings(folder / "postings.bm25", texts)
    segments = [LiveWords(Postings(folder / "postings.bm25"), None)]

    def search(query: str) -> list[int]:
        rows = search_words(segments, [query], K, None).rows[0]
        found: list[int] = rows[rows >= 0].tolist()
        return found

    return search


def fts5(folder: Path, texts: Iterator[str]) -> Search:
    path = folder / "fts5.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        # Without the texts, which the index has already.
        connection.execute(
            "CREATE VIRTUAL TABLE passages USING fts5 (text, content='', tokenize='unicode61')"
        )
        insert = "INSERT INTO passages (rowid, text) VALUES (?, ?)"
        connection.executemany(insert, enumerate(texts))
        connection.execute("INSERT INTO passages (passages) VALUES ('optimize')")
    reader = sqlite3.connect(path)
    # The column ``rank`` is bm25(passages), which FTS5 sorts by faster under this name.
    select = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"

    def search(query: str) -> list[int]:
        wanted = " OR ".join(f'"{word}"' for word in words(query))
        return [row for (row,) in reader.execute(select, (wanted, K))] if wanted else []

    return search


def by_bm25s(folder: Path, texts: Iterator[str]) -> Search:
    vocabulary: dict[str, int] = {}
    documents = [
        array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)])
        for text in texts
    ]
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy")
    scorer.index((documents, vocabulary), create_empty_token=False, show_progress=False)
    scorer.save(str(folder), show_progress=False)
    most = min(K, len(documents))

    def search(query: str) -> list[int]:
        known = [word for word in words(query) if word in vocabulary]
        if not known:
            return []
        found = scorer.retrieve([known], k=most, show_progress=False)
        rows: list[int] = found.documents[0][found.scores[0] > 0].tolist()
        return rows

    return search


SIDES: dict[str, Callable[[Path, Iterator[str]], Search]] = {
    "ours": ours,
    "fts5": fts5,
    "bm25s": by_bm25s,
}

if __name__ == "__main__":
    main()
