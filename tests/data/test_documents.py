"""Documents in files and folders, written as people's folders are."""

import os
import re
from pathlib import Path

import pytest

from rocketrank.data.corpus import CorpusReader
from rocketrank.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder ``docs`` in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    return Path("docs")


def read(*paths: str | Path) -> dict[str, str]:
    return {passage.id: passage.text for passage in CorpusReader(paths)}


def reasons(*paths: str | Path) -> dict[str, str]:
    reader = CorpusReader(paths)
    list(reader)
    return {unread.path: unread.reason for unread in reader.unread}


def test_a_folder_is_read_with_those_below_it_in_the_order_of_names(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (folder / name).write_text(name)
    assert [*read(folder)] == ["docs/a.txt", "docs/b.txt", "docs/sub/c.txt"]


@pytest.mark.parametrize("given", ["docs", "docs/", "./docs", "docs/../docs"])
def test_ids_do_not_depend_on_how_the_folder_is_spelled(folder: Path, given: str) -> None:
    (folder / "a.txt").write_text("text")
    assert [*read(given)] == ["docs/a.txt"]


def test_hidden_files_and_folders_are_passed_over(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "a.txt").write_text("no")
    (folder / ".b.txt").write_text("no")
    (folder / "c.txt").write_text("yes")
    assert read(folder) == {"docs/c.txt": "yes"}


def test_a_plain_text_is_its_file_to_the_last_character(folder: Path) -> None:
    text = "é one\r\n\r\n  two\t\n"
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(folder) == {"docs/a.txt": text}


def test_a_text_without_title_has_its_files_name(folder: Path) -> None:
    (folder / "meeting notes.txt").write_text("text")
    assert [passage.title for passage in CorpusReader([folder])] == ["meeting notes"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_with_a_mark_are_read(folder: Path, encoding: str) -> None:
    (folder / "a.txt").write_bytes("Ünï".encode(encoding))
    assert read(folder) == {"docs/a.txt": "Ünï"}


def test_a_page_is_read_in_the_encoding_that_it_declares(folder: Path) -> None:
    (folder / "a.html").write_bytes('<meta charset="latin-1"><p>caf\xe9'.encode("latin-1"))
    assert read(folder) == {"docs/a.html": "café"}


def test_a_page_is_known_by_its_beginning_too(folder: Path) -> None:
    (folder / "page").write_text("<!DOCTYPE html><title>T</title><p>text")
    assert read(folder) == {"docs/page": "text"}


UNREADABLE = {
    "picture.png": (b"\x89PNG\0\1", "a binary file"),
    "latin.txt": (b"caf\xe9", "no utf-8 at byte 3: convert it to UTF-8, or it is a binary file"),
    "empty.txt": (b" \n", "no text in it"),
    "page.html": (b"<script>x</script>", "no text in it"),
    "corpus.jsonl": (b'{"_id": "1", "text": "x"}\n', "a collection or an archive"),
    "odd.html": (b'<meta charset="klingon"><p>x', "an encoding that is not known here, klingon"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_listed_with_its_reason(folder: Path, name: str) -> None:
    content, reason = UNREADABLE[name]
    (folder / "sub").mkdir()
    (folder / "sub" / name).write_bytes(content)
    (folder / "good.txt").write_text("text")
    assert reason in reasons(folder)[f"docs/sub/{name}"]


def test_a_name_that_is_no_utf_8_is_listed(folder: Path) -> None:
    (folder / "good.txt").write_text("text")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    assert [*reasons(folder).values()] == ["a name that is no UTF-8: rename it"]


def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path) -> None:
    (folder / "good.txt").write_text("text")
    os.mkfifo(folder / "pipe")
    assert reasons(folder) == {"docs/pipe": "no regular file"}


def test_nothing_that_can_be_read_is_an_error_that_says_why(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"\0")
    expected = "docs/a.png: expected a document that can be read, found a binary file"
    with pytest.raises(DataError, match=expected):
        list(CorpusReader([folder]))


def test_an_empty_folder_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(UsageError, match="docs: expected a folder with files to read, found none"):
        CorpusReader([folder])


def test_the_folder_of_a_collection_is_refused_with_the_file_to_name(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "x"}\n')
    with pytest.raises(UsageError, match=re.escape("give docs/corpus.jsonl")):
        CorpusReader([folder])


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt", "a.rst"])
def test_a_single_file_is_a_document(folder: Path, name: str) -> None:
    (folder / name).write_text("A line.\n\nAnother one.\n")
    assert [*read(folder / name)] == [f"docs/{name}"]


def test_a_text_file_with_ids_and_tabs_stays_a_collection(folder: Path) -> None:
    (folder / "collection.txt").write_text("p1\tone\np2\ttwo\n")
    assert read(folder / "collection.txt") == {"p1": "one", "p2": "two"}


def test_collections_and_documents_may_be_read_together(folder: Path) -> None:
    (folder / "a.txt").write_text("text")
    Path("c.tsv").write_text("p1\tone\n")
    assert read("c.tsv", folder) == {"p1": "one", "docs/a.txt": "text"}


def test_bytes_read_are_those_of_the_files(folder: Path) -> None:
    (folder / "a.txt").write_text("text")
    (folder / "b.png").write_bytes(b"\0\0")
    reader = CorpusReader([folder])
    list(reader)
    assert (reader.bytes_read, reader.bytes_total) == (6, 6)
