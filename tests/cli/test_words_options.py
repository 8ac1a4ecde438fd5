"""``rq compact --bm25`` and what ``rq info`` says of postings."""

import json
from pathlib import Path

from rocketrank.index import Index

from .conftest import Run


def test_compact_gives_an_index_postings_and_takes_them(run: Run, hashed: Path) -> None:
    assert "  words      no postings for BM25\n" in run("info", hashed).out
    done = run("compact", hashed, "--bm25")
    assert (done.code, "\nwith postings for BM25\n" in done.out) == (0, True)
    assert "  words      postings for BM25\n" in run("info", hashed).out
    with Index.open(hashed) as index:
        assert index.has_words
    assert "nothing to fold" in run("compact", hashed).out
    assert "\nwithout postings for BM25\n" in run("compact", hashed, "--no-bm25").out
    assert not json.loads(run("info", hashed, "--json").out)["bm25"]


def test_the_size_of_postings_is_told(run: Run, hashed: Path) -> None:
    run("compact", hashed, "--bm25")
    told = json.loads(run("info", hashed, "--json").out)
    files = hashed.glob("segments/*/*.bm25")
    assert told["bytes"]["postings"] == sum(path.stat().st_size for path in files) > 0
