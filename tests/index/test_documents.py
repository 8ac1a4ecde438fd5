"""An index of documents: their chunks, changes by document, and the way back to the source."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data.chunking import Chunking
from rocketrank.data.chunks import ChunkedCorpus
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    ChangeReport,
    Index,
    add_passages,
    build_index,
    committed_manifest,
)

from .small_index import HashingEncoder

CHUNKING = Chunking(20, 15)
DOCUMENTS = {
    "a.txt": " ".join(f"First document, sentence {n}." for n in range(12)),
    "b.md": "# Second\n\n" + " ".join(f"Sentence *{n}* of the second." for n in range(12)),
    "c.html": "<title>Third</title>"
    + "".join(f"<p>Paragraph {n} &amp; more.</p>" for n in range(12)),
}


class WordTokens:
    """Words and signs as tokens; a model that reads 40 of them."""

    def spans(self, text: str) -> NDArray[np.int64]:
        found = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def room(self, title: str) -> int:
        return 40 - len(self.spans(title))


class CountingEncoder(HashingEncoder):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[str] = []

    def encode_passages(self, texts, titles=None, *, on_done=None):  # type: ignore[no-untyped-def]
        self.encoded += texts
        return super().encode_passages(texts, titles, on_done=on_done)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``docs`` with DOCUMENTS in it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def chunks() -> ChunkedCorpus:
    return ChunkedCorpus(CorpusReader(["docs"]), WordTokens(), CHUNKING)


@pytest.fixture
def index(docs: Path, tmp_path: Path) -> Path:
    options = BuildOptions(fields=("document",), chunking=CHUNKING)
    build_index(tmp_path / "index", chunks(), HashingEncoder(), options)
    return tmp_path / "index"


def change(
    index: Path,
    *,
    update: bool = True,
    prune: bool = False,
    insert: bool = False,
    encoder: HashingEncoder | None = None,
) -> ChangeReport:
    options = ChangeOptions(missing="allowed" if insert else "error", prune=prune)
    return add_passages(index, chunks(), encoder or HashingEncoder(), options, update=update)


def content(index: Path) -> Mapping[str, Passage]:
    with Index.open(index) as opened:
        return {passage.id: passage for passage in opened.live_passages()}


def built_anew(tmp_path: Path) -> Mapping[str, Passage]:
    """What an index of the folder as it is now holds."""
    options = BuildOptions(fields=("document",), chunking=CHUNKING)
    build_index(tmp_path / "anew", chunks(), HashingEncoder(), options)
    return content(tmp_path / "anew")


def test_every_chunk_of_a_plain_text_is_what_stands_at_its_place(index: Path, docs: Path) -> None:
    found = [each for each in content(index).values() if each.metadata["document"] == "docs/a.txt"]
    assert len(found) > 3
    for chunk in found:
        start, end = chunk.metadata["start"], chunk.metadata["end"]
        assert chunk.id == f"docs/a.txt#{start}-{end}"
        assert DOCUMENTS["a.txt"][start:end] == chunk.text


@pytest.mark.parametrize("name", ["b.md", "c.html"])
def test_the_place_of_a_chunk_has_its_words_between_markup(index: Path, name: str) -> None:
    for chunk in content(index).values():
        if chunk.metadata["document"] == f"docs/{name}":
            written = DOCUMENTS[name][chunk.metadata["start"] : chunk.metadata["end"]]
            plain = re.sub(r"<[^>]*>", " ", written).replace("&amp;", "&").replace("*", "")
            assert plain.split() == chunk.text.split()


def test_every_chunk_has_the_title_of_its_document(index: Path) -> None:
    titles = {each.metadata["document"]: set[str]() for each in content(index).values()}
    for each in content(index).values():
        titles[each.metadata["document"]].add(each.title)
    assert titles == {"docs/a.txt": {"a"}, "docs/b.md": {"Second"}, "docs/c.html": {"Third"}}


def test_the_index_remembers_how_documents_were_cut(index: Path) -> None:
    assert committed_manifest(index).chunking == CHUNKING


def test_an_index_of_documents_is_refused_by_a_rocketrank_that_knows_none(index: Path) -> None:
    assert '"format_version": 4' in (index / "manifest.json").read_text()


def test_chunks_beside_a_long_title_are_smaller(docs: Path) -> None:
    (docs / "a.txt").rename(docs / f"{' '.join(['long'] * 26)}.txt")
    longest = max(
        len(WordTokens().spans(each.text)) for each in chunks() if each.title.startswith("long")
    )
    assert longest <= 40 - 26


def test_a_changed_document_is_encoded_again_from_its_change_on(index: Path, docs: Path) -> None:
    (docs / "a.txt").write_text(DOCUMENTS["a.txt"].replace("sentence 11", "sentence XI"))
    encoder = CountingEncoder()
    change(index, encoder=encoder)
    assert len(encoder.encoded) < 3
    assert "XI" in encoder.encoded[-1]


@pytest.mark.parametrize("text", ["Now short.", DOCUMENTS["a.txt"] + " And longer. " * 20])
def test_after_an_update_the_index_has_what_a_new_one_has(
    index: Path, docs: Path, tmp_path: Path, text: str
) -> None:
    (docs / "a.txt").write_text(text)
    change(index)
    assert content(index) == built_anew(tmp_path)


def test_a_document_that_only_lost_its_end_is_updated(
    index: Path, docs: Path, tmp_path: Path
) -> None:
    whole = [each for each in content(index).values() if each.metadata["document"] == "docs/a.txt"]
    kept = max(each.metadata["end"] for each in whole[:-2])
    (docs / "a.txt").write_text(DOCUMENTS["a.txt"][:kept])
    change(index)
    assert content(index) == built_anew(tmp_path)


def test_updating_what_has_not_changed_makes_no_commit(index: Path) -> None:
    encoder = CountingEncoder()
    report = change(index, encoder=encoder)
    assert (report.commit, encoder.encoded) == (1, [])


def test_a_new_document_needs_to_be_asked_for(index: Path, docs: Path) -> None:
    (docs / "d.txt").write_text("New.")
    with pytest.raises(
        DataError, match=r"found 'docs/d\.txt': add new ones with rq add, or with --ins"
    ):
        change(index)
    assert change(index, insert=True).added == 1


def test_documents_that_are_gone_stay_unless_pruned(
    index: Path, docs: Path, tmp_path: Path
) -> None:
    (docs / "b.md").unlink()
    change(index)
    assert "docs/b.md" in {each.metadata["document"] for each in content(index).values()}
    change(index, prune=True)
    assert content(index) == built_anew(tmp_path)


def test_a_document_that_cannot_be_read_now_is_not_pruned(index: Path, docs: Path) -> None:
    before = content(index)
    (docs / "b.md").write_bytes(b"\0")
    change(index, prune=True)
    assert content(index) == before


def test_adding_a_document_that_is_there_with_another_text_is_refused(
    index: Path, docs: Path
) -> None:
    (docs / "a.txt").write_text(DOCUMENTS["a.txt"] + " More.")
    with pytest.raises(
        DataError, match=r"docs/a.txt', which is there with another text or cut othe"
    ):
        change(index, update=False)


def test_adding_a_document_that_has_become_shorter_is_refused(index: Path, docs: Path) -> None:
    whole = [each for each in content(index).values() if each.metadata["document"] == "docs/a.txt"]
    (docs / "a.txt").write_text(whole[0].text)
    with pytest.raises(DataError, match="which is there with another text"):
        change(index, update=False)


def test_pruning_an_index_of_passages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("p1\tone\n")
    corpus = CorpusReader([tmp_path / "c.tsv"])
    build_index(tmp_path / "index", corpus, HashingEncoder(), BuildOptions())
    with pytest.raises(UsageError, match="prune is for an index of documents"):
        add_passages(
            tmp_path / "index",
            CorpusReader([tmp_path / "c.tsv"]),
            HashingEncoder(),
            ChangeOptions(prune=True),
            update=True,
        )


def test_metadata_with_the_names_of_a_chunks_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"_id": "1", "text": "x", "start": 5}\n')
    corpus = ChunkedCorpus(CorpusReader([tmp_path / "c.jsonl"]), WordTokens(), CHUNKING)
    with pytest.raises(DataError, match=r"c\.jsonl:1: expected no metadata called 'start'"):
        list(corpus)


def test_a_passage_without_text_keeps_its_title(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"_id": "1", "title": "Only this", "text": ""}\n')
    corpus = ChunkedCorpus(CorpusReader([tmp_path / "c.jsonl"]), WordTokens(), CHUNKING)
    [chunk] = corpus
    assert (chunk.id, chunk.title, chunk.text) == ("1#0-0", "Only this", "")
