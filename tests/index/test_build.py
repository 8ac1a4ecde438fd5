"""Building: what is stored, what is refused, and that the same corpus gives the same bytes."""

import fcntl
import os
import resource
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import BuildOptions, Index, build_index, verify_index
from rocketrank.index.encoding import shard_rows

from .small_index import HashingEncoder, ListCorpus, build, build_table, files, sentences


def test_passages_come_back_as_they_were_in_the_order_asked(tmp_path: Path) -> None:
    passages = sentences(35)
    passages[4] = Passage("übung\0", "z\u0000ero 🚀", "", {"deep": {"list": [1, None, "é"]}})
    build(tmp_path / "index", passages)
    with Index.open(tmp_path / "index") as index:
        assert index.passages([34, 4, 0, 4]) == [
            passages[34],
            passages[4],
            passages[0],
            passages[4],
        ]
        assert index.passages([]) == []
        with pytest.raises(UsageError, match="expected rows from 0 to 34, found 35"):
            index.passages([3, 35])


def test_the_stored_vectors_are_the_encoder_s(tmp_path: Path) -> None:
    passages = sentences(25)
    build(tmp_path / "index", passages)
    folder = tmp_path / "index/segments/000001/vectors"
    stored = [np.load(path) for path in sorted(folder.iterdir())]
    assert [len(each) for each in stored] == [10, 10, 5]
    expected = HashingEncoder().encode_passages(
        [passage.text for passage in passages], [passage.title for passage in passages]
    )
    np.testing.assert_array_equal(np.concatenate(stored), expected)


def test_the_report_and_the_manifest_say_what_was_built(tmp_path: Path) -> None:
    report = build(tmp_path / "index", sentences(25), precision="bf16")
    assert report.passages == 25 and report.kind == "flat" and report.resumed_from == 0
    assert report.reason.startswith("auto chose flat for 25 passages: up to 100,000 an exhaustive")
    on_disk = sum(p.stat().st_size for p in (tmp_path / "index").rglob("*") if p.is_file())
    assert report.bytes_on_disk == on_disk
    with Index.open(tmp_path / "index") as index:
        assert (index.dim, len(index), index.model_name) == (16, 25, "hashing")
        assert index.fingerprint == "a" * 64
        assert index.manifest.model.precision == "bf16"
        assert index.manifest.segments[0].structure.reason == report.reason
    assert verify_index(tmp_path / "index").problems == ()


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_two_builds_of_the_same_corpus_differ_in_their_time_only(tmp_path: Path, kind: str) -> None:
    for name, threads in (("one", 1), ("two", 2)):
        build(tmp_path / name, sentences(700), kind=kind, shard_size=300, threads=threads)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_repeated_id_is_named_with_its_line_and_first_row(tmp_path: Path) -> None:
    passages = [*sentences(25), Passage("doc-3", "again")]
    expected = (
        r"^small\.jsonl:26: expected a passage id not seen before, found 'doc-3' again "
        r"\(first at row 3\)"
    )
    with pytest.raises(DataError, match=expected):
        build(tmp_path / "index", passages)
    with pytest.raises(
        DataError, match=r"small\.jsonl:3: .* found 'doc-1' again \(first at row 1\)"
    ):
        build(tmp_path / "other", [*sentences(2), Passage("doc-1", "again")])


def test_after_a_repeated_id_the_build_goes_on_with_skip_duplicates(tmp_path: Path) -> None:
    passages = [
        *sentences(25),
        Passage("doc-3", "again"),
        Passage("doc-24", "again"),
        *sentences(1),
    ]
    with pytest.raises(DataError, match="found 'doc-3' again"):
        build(tmp_path / "index", passages)
    report = build(tmp_path / "index", passages, skip_duplicates=True)
    assert (report.passages, report.skipped_duplicates, report.resumed_from) == (25, 3, 20)
    with Index.open(tmp_path / "index") as index:
        assert index.passages([3, 24]) == [sentences(25)[3], sentences(25)[24]]


def test_an_empty_corpus_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one passage in the corpus, found none"):
        build(tmp_path / "index", [])
    assert list(tmp_path.iterdir()) == []


class BrokenEncoder(HashingEncoder):
    """Returns what a broken model might."""

    def __init__(self, broken: NDArray[Any]) -> None:
        super().__init__()
        self.broken = broken

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        return self.broken


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_vector_that_is_not_finite_is_named_with_its_passage(
    tmp_path: Path, value: float
) -> None:
    vectors = np.zeros((3, 16), dtype=np.float32)
    vectors[1, 5] = value
    corpus = ListCorpus(sentences(3))
    with pytest.raises(
        DataError, match=r"^small\.jsonl:2: expected a finite vector for passage 'doc-1'"
    ):
        build_index(tmp_path / "index", corpus, BrokenEncoder(vectors), BuildOptions())


@pytest.mark.parametrize(
    ("vectors", "found"),
    [
        (np.zeros((3, 16)), r"float64 of shape \(3, 16\)"),
        (np.zeros((2, 16), dtype=np.float32), r"float32 of shape \(2, 16\)"),
        (np.zeros((3, 15), dtype=np.float32), r"float32 of shape \(3, 15\)"),
    ],
)
def test_vectors_of_another_shape_or_type_are_refused(
    tmp_path: Path, vectors: NDArray[Any], found: str
) -> None:
    corpus = ListCorpus(sentences(3))
    expected = rf"model hashing: expected float32 vectors of shape \(3, 16\), found {found}"
    with pytest.raises(RocketRankError, match=expected):
        build_index(tmp_path / "index", corpus, BrokenEncoder(vectors), BuildOptions())


@pytest.mark.parametrize(
    "passage", [Passage("a", "lone \ud800"), Passage("a", "b", "", {"key": object()})]
)
def test_a_passage_that_cannot_be_stored_is_named(tmp_path: Path, passage: Passage) -> None:
    with pytest.raises(DataError, match=r"^small\.jsonl:1: expected text and metadata that UTF-8"):
        build(tmp_path / "index", [passage])


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("flatt", "kind 'flatt' cannot be used: FAISS says: could not parse index string flatt"),
        ("IVF4,PQ7", r"The dimension of the vector \(d\) should be a multiple"),
        ("IVF0,Flat", "a count in it is 0"),
        ("HNSW0", "a count in it is 0"),
        ("IDMap2,Flat", "leave IDMap out"),
        ("Flat,IDMap", "leave IDMap out"),
        ("PQ8,RFlat", "leave the refining out"),
        ("PCA8,Flat", "its PCAMatrix changes inner products"),
        ("L2norm,Flat", "its NormalizationTransform changes inner products"),
        ("HNSW32,PQ8", "measures L2 distances"),
        ("HNSW1", "needs at least 2 links"),
        ("LSH", "FAISS says: "),
        ("IMI2x8,PQ8", "FAISS says: MultiIndex not implemented for inner prod search"),
        ("NSG32,Flat", "it makes an IndexNSGFlat, which RocketRank cannot search"),
        ("IVF99999999999999999999,Flat", "FAISS says: "),
    ],
)
def test_factory_strings_that_cannot_be_used_are_refused_before_encoding(
    tmp_path: Path, kind: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        build(tmp_path / "index", sentences(3), kind=kind)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("kind", ["IVF64,Flat", "PQ4", "OPQ4,PQ4x4"])
def test_a_kind_with_too_few_passages_to_train_on_is_refused_and_another_goes_on(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(UsageError, match=r"needs at least \d+ passages to train on, and there are"):
        build(tmp_path / "index", sentences(30), kind=kind)
    report = build(tmp_path / "index", sentences(30), kind="auto")
    assert report.resumed_from == 30


def test_ivfpq_of_few_passages_says_that_it_became_flat(tmp_path: Path) -> None:
    report = build(tmp_path / "index", sentences(30), kind="ivfpq")
    assert report.kind == "flat"
    assert "needs 256 passages to train on and there are 30" in report.reason


@pytest.mark.parametrize(
    ("number", "rows"), [(0, 4096), (15, 4096), (16, 8192), (63, 32768), (64, 65536), (999, 65536)]
)
def test_a_shard_has_at_most_sixteen_times_the_passages_of_the_first(
    number: int, rows: int
) -> None:
    assert shard_rows(number, 4096) == rows


def test_shards_grow_so_that_a_large_index_has_few_files(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(40), shard_size=1)
    with Index.open(tmp_path / "index") as index:
        rows = [file.rows for file in index.manifest.segments[0].vectors]
    assert rows == 16 * [1] + 12 * [2]


@pytest.mark.parametrize(("name", "value"), [("shard_size", 0), ("threads", 0)])
def test_options_below_one_are_refused(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"{name} \({value}\) must be at least 1"):
        build(tmp_path / "index", sentences(3), **{name: value})


def test_a_folder_with_other_things_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"found a folder with other things in it"):
            build(tmp_path, sentences(3), overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("mine")
    with pytest.raises(UsageError, match="expected a folder for the index, found a file"):
        build(tmp_path / "index", sentences(3))


def test_a_finished_index_is_refused_without_overwrite(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(3))
    with pytest.raises(UsageError, match="already holds an index of 3 passages made with hashing"):
        build(tmp_path / "index", sentences(4))


def test_overwriting_leaves_the_old_index_searchable_until_the_new_one_is_in(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "index"
    build(directory, sentences(12))
    seen = []

    class Watching(HashingEncoder):
        def encode_passages(
            self,
            texts: Sequence[str],
            titles: Sequence[str] | None = None,
            *,
            on_done: Callable[[int], object] | None = None,
        ) -> NDArray[np.float32]:
            with Index.open(directory) as index:
                seen.append((len(index), index.passages([3])[0].id))
            return super().encode_passages(texts, titles)

    (directory / "notes.txt").write_text("the user's own")
    corpus = ListCorpus(sentences(40)[15:])
    options = BuildOptions(shard_size=10, overwrite=True)
    build_index(directory, corpus, Watching(), options)
    assert seen == [(12, "doc-3")] * 3
    with Index.open(directory) as index:
        assert (len(index), index.passages([3])[0].id) == (25, "doc-18")
    names = ["commits", "manifest.json", "notes.txt", "segments", "write.lock"]
    assert sorted(path.name for path in directory.iterdir()) == names
    assert [path.name for path in (directory / "segments").iterdir()] == ["000002"]
    assert [path.name for path in (directory / "commits").iterdir()] == ["000002.json"]


def test_a_failed_overwriting_leaves_the_old_index(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(12))
    with pytest.raises(DataError, match="again"):
        build(tmp_path / "index", [*sentences(25), *sentences(1)], overwrite=True)
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 12
    assert build(tmp_path / "index", sentences(25), overwrite=True).resumed_from == 20


def test_overwriting_mends_an_index_whose_manifest_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "index", sentences(25))
    (tmp_path / "index/manifest.json").write_text("{")
    with pytest.raises(DataError, match="expected JSON"):
        build(tmp_path / "index", sentences(25))
    assert build(tmp_path / "index", sentences(25), overwrite=True).passages == 25
    assert "building it anew" in caplog.text
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 25


def test_a_second_build_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "index"
    directory.mkdir()
    descriptor = os.open(directory / "write.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(RocketRankError, match="another process is writing this index"):
        build(directory, sentences(3))
    os.close(descriptor)
    assert build(directory, sentences(3)).passages == 3


def test_passages_hold_the_ledger_with_one_row_for_each_shard(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(25))
    connection = sqlite3.connect(tmp_path / "index/segments/000001/passages.sqlite")
    ledger = connection.execute("SELECT number, first_row, rows FROM shards").fetchall()
    connection.close()
    assert ledger == [(0, 0, 10), (1, 10, 10), (2, 20, 5)]


def test_a_read_only_folder_is_refused_in_words(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs a user whom the system refuses to write, found root")
    tmp_path.chmod(0o500)
    with pytest.raises(RocketRankError, match=r"cannot be written \(Permission denied\)"):
        build(tmp_path / "index", sentences(3))
    tmp_path.chmod(0o700)


def test_more_vector_files_than_a_process_may_open_can_be_searched(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        build_table(tmp_path / "index", vectors, shard_size=1)
        with Index.open(tmp_path / "index") as index:
            rows = index.search(vectors[:5], 300).rows
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [sorted(each) for each in rows.tolist()] == [list(range(300))] * 5


def test_an_index_of_a_newer_format_is_not_overwritten(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(3))
    path = tmp_path / "index/manifest.json"
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "format_version": 5}))
    with pytest.raises(DataError, match=r"written by format 5, .* upgrade rocketrank"):
        build(tmp_path / "index", sentences(3), overwrite=True)


def test_progress_is_shown_on_standard_error_and_reaches_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ListCorpus(sentences(2500))
    options = BuildOptions(shard_size=2000)
    build_index(tmp_path / "index", corpus, HashingEncoder(), options, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "encoding: 2,500 passages 100%|" in shown.err
    corpus.bytes_total = corpus.bytes_read = None
    build_index(tmp_path / "other", corpus, HashingEncoder(), options, progress=True)
    assert "encoding: 2,500 passages in 00:0" in capsys.readouterr().err
