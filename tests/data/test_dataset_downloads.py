"""Data sets from ir_datasets: what is written of its records, and what is said when it fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rocketrank.data import CorpusReader, Passage, Query, read_qrels, read_queries
from rocketrank.data.dataset_downloads import Download, export
from rocketrank.data.datasets import open_dataset
from rocketrank.errors import MissingDependencyError, RocketRankError, UsageError


class TitledDocument(NamedTuple):
    """The fields of ir_datasets' documents of BEIR."""

    doc_id: str
    text: str
    title: str
    metadata: dict[str, str]


class Document(NamedTuple):
    doc_id: str
    text: str


class Question(NamedTuple):
    query_id: str
    text: str
    answers: tuple[str, ...] = ()


class Relevance(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int
    iteration: str


class Records:
    """Three documents, two queries, and a connection that may break after so many documents."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after
        self.asked: list[str] = []

    def docs_iter(self) -> Iterator[Document | TitledDocument]:
        self.asked.append("docs")
        documents: list[Document | TitledDocument] = [
            TitledDocument("a", "tab\tand\nnewline", "Title", {"url": "u"}),
            Document("b", "naïve 文"),
            Document("c", "last"),
        ]
        for number, document in enumerate(documents):
            if number == self.breaks_after:
                raise ConnectionError("the connection broke")
            yield document

    def queries_iter(self) -> Iterator[Question]:
        self.asked.append("queries")
        yield Question("1", "first?", ("yes", "no"))
        yield Question("2", "second?")

    def qrels_iter(self) -> Iterator[Relevance]:
        self.asked.append("qrels")
        yield Relevance("1", "b", 2, "0")
        yield Relevance("2", "c", -1, "0")


def download(folder: Path, split: str = "dev/small", *, judged: bool = True) -> Download:
    return Download(
        name="tiny/set", folder=folder, split=split, judged=judged, by_hand="do it by hand"
    )


def test_exported_records_are_read_back_as_they_were(tmp_path: Path) -> None:
    wanted = download(tmp_path / "new" / "set")
    export(wanted, lambda _: Records())
    assert list(CorpusReader([wanted.corpus], format="beir")) == [
        Passage("a", "tab\tand\nnewline", "Title"),
        Passage("b", "naïve 文"),
        Passage("c", "last"),
    ]
    assert list(read_queries(wanted.queries, format="jsonl")) == [
        Query("1", "first?", ("yes", "no")),
        Query("2", "second?"),
    ]
    assert wanted.qrels
    assert [tuple(each) for each in read_qrels(wanted.qrels)] == [("1", "b", 2), ("2", "c", -1)]


def test_a_broken_connection_leaves_whole_files_and_no_other(tmp_path: Path) -> None:
    wanted = download(tmp_path)
    with pytest.raises(RocketRankError) as caught:
        export(wanted, lambda _: Records(breaks_after=2))
    assert str(caught.value) == (
        "tiny/set could not be downloaded by ir_datasets (its servers cannot be reached): try "
        "again, or do it by hand"
    )
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"queries.dev.small.jsonl", "dev.small.tsv"}


def test_the_next_export_goes_on_with_the_file_that_is_missing(tmp_path: Path) -> None:
    wanted = download(tmp_path)
    with pytest.raises(RocketRankError):
        export(wanted, lambda _: Records(breaks_after=0))
    source = Records()
    export(wanted, lambda _: source)
    assert source.asked == ["docs"]
    assert wanted.corpus.exists()


def test_a_second_split_shares_the_corpus(tmp_path: Path) -> None:
    export(download(tmp_path), lambda _: Records())
    source = Records()
    export(download(tmp_path, "train"), lambda _: source)
    assert sorted(source.asked) == ["qrels", "queries"]


def test_a_complete_export_asks_for_nothing(tmp_path: Path) -> None:
    export(download(tmp_path), lambda _: Records())

    def never(_: Download) -> Records:
        raise RuntimeError("opened")

    export(download(tmp_path), never)


def test_a_set_with_answers_has_no_judgements_written(tmp_path: Path) -> None:
    wanted = download(tmp_path, judged=False)
    export(wanted, lambda _: Records())
    assert wanted.qrels is None
    assert not (tmp_path / "qrels").exists()


def test_a_disk_that_is_not_to_be_written_is_not_taken_for_a_network(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RocketRankError, match="cannot be written") as caught:
        export(download(tmp_path / "file" / "set"), lambda _: Records())
    assert "ir_datasets" not in str(caught.value)


def test_a_set_that_was_downloaded_opens_without_ir_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    wanted = download(tmp_path / "msmarco-passage")
    export(wanted, lambda _: Records())
    dataset = open_dataset("msmarco", None, downloads=tmp_path)
    assert dataset.corpus == (wanted.corpus,)
    assert (dataset.queries, dataset.qrels) == (wanted.queries, wanted.qrels)
    assert (dataset.corpus_format, dataset.queries_format) == ("beir", "jsonl")
    assert dataset.preset == "msmarco"


def test_without_ir_datasets_the_command_and_the_files_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_dataset("scifact", None, downloads=tmp_path)
    assert str(caught.value) == (
        "beir/scifact/test cannot be downloaded without ir_datasets: pip install "
        "'rocketrank[datasets]', or put corpus.jsonl, queries.jsonl and qrels/test.tsv from "
        "https://github.com/beir-cellar/beir into a folder and give it with --data"
    )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["nq", "robust04", "beir/nq/train"])
def test_what_ir_datasets_has_not_is_to_be_put_there_by_hand(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="ir_datasets cannot download it; put ") as caught:
        open_dataset(name, None, downloads=tmp_path)
    assert str(caught.value).endswith("into a folder and give it with --data")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scifact", "dl19"])
def test_ir_datasets_without_a_network_ends_in_one_sentence(tmp_path: Path, name: str) -> None:
    pytest.importorskip("ir_datasets", reason="needs the extra datasets")
    nowhere = "http://127.0.0.1:9"
    program = (
        "import sys; from pathlib import Path; from rocketrank.data.datasets import open_dataset; "
        "from rocketrank.errors import RocketRankError\n"
        f"try: open_dataset({name!r}, None, downloads=Path({str(tmp_path)!r}))\n"
        "except RocketRankError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"http_proxy": nowhere, "https_proxy": nowhere, "IR_DATASETS_HOME": str(tmp_path / "ir")}
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    (message,) = done.stdout.splitlines()
    assert "could not be downloaded by ir_datasets (its servers cannot be reached)" in message
    assert message.endswith("into a folder and give it with --data")


def test_every_split_has_the_name_that_ir_datasets_gives_it() -> None:
    ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra datasets")
    from rocketrank.data.dataset_names import KNOWN_SETS

    names = [split.remote for known in KNOWN_SETS.values() for split in known.splits.values()]
    assert len([name for name in names if name]) > 40
    for name in filter(None, names):
        found = ir_datasets.registry[name]
        assert found.has_docs()
        assert found.has_queries()
        assert found.has_qrels()
