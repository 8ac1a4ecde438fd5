"""Checking: each damage is found and named once, and what is whole is never complained of."""

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.errors import DataError, UsageError
from rocketrank.index import ChangeOptions, Index, delete_passages, verify_index

from .damaged_index import (
    DAMAGES,
    DELETED,
    SEGMENT,
    flip,
    make_format_1,
    make_index,
    random_vectors,
    refresh,
    replace_all,
    truncate,
)
from .small_index import HashingEncoder, build, build_table, sentences


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "index"
    make_index(path)
    return path


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def test_a_whole_index_has_no_problems_and_is_counted(directory: Path) -> None:
    report = verify_index(directory, HashingEncoder(), sample=30)
    assert report.problems == ()
    assert (report.commit, report.passages, report.deleted, report.sampled) == (4, 67, 3, 30)
    # passages, vectors (4, 2 and 1 shards) and structures of three segments, two files of bits
    assert report.files == 3 + 7 + 3 + 2
    with Index.open(directory) as index:
        paths = [directory / file.file for file in index.manifest.files()]
    assert report.bytes == sum(path.stat().st_size for path in paths)


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected an index, found a folder without"):
        verify_index(tmp_path)


def test_a_sample_below_zero_is_refused(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"sample \(-1\) must be 0 or more"):
        verify_index(directory, sample=-1)


def test_nothing_is_written_while_an_index_is_checked(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert verify_index(directory).problems == ()
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o700)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq", "IVF2,SQ8", "HNSW8,SQ8", "PQ4"])
def test_structures_of_each_kind_hold_their_vectors(tmp_path: Path, kind: str) -> None:
    build_table(tmp_path / "index", random_vectors(300), kind)
    assert verify_index(tmp_path / "index").problems == ()


@pytest.mark.parametrize("vectors", ["float16", "int8"])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_vectors_of_each_type_are_those_of_the_encoder_and_the_structure(
    tmp_path: Path, vectors: str, kind: str
) -> None:
    build(tmp_path / "index", sentences(120), vectors=vectors, kind=kind)
    assert verify_index(tmp_path / "index", HashingEncoder()).problems == ()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("passages.sqlite", "texts cannot be made again"),
        ("vectors/000002.npy", "`rq repair .*` encodes its passages again"),
        ("flat.faiss", "`rq repair .*` builds it again from the vectors"),
        ("live-000004.bits", "what was deleted cannot be known"),
    ],
)
def test_each_damaged_file_is_one_problem_with_its_cure(
    directory: Path, name: str, cure: str, damage: Callable[[Path], object]
) -> None:
    damage(directory / SEGMENT / name)
    report = verify_index(directory, HashingEncoder())
    [problem] = report.problems
    assert problem.startswith(str(directory / SEGMENT / name) + ": expected ")
    assert re.search(cure, problem)


def test_other_damage_does_not_hide_damage(directory: Path) -> None:
    for name in ("passages.sqlite", "vectors/000001.npy", "vectors/000003.npy", "flat.faiss"):
        flip(directory / SEGMENT / name)
    assert len(verify_index(directory).problems) == 4


def test_a_damaged_passages_file_is_said_to_be_read_by_sqlite_or_not(directory: Path) -> None:
    path = directory / SEGMENT / "passages.sqlite"
    flip(path, position=24)  # the header's change counter, which the check does not look at
    [problem] = verify_index(directory).problems
    assert "(SQLite's own check: ok)" in problem
    path.write_bytes(b"x" * path.stat().st_size)
    [problem] = verify_index(directory).problems
    assert "(SQLite's own check: file is not a database)" in problem


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE passages SET row = 99 WHERE row = 9", "expected passages in rows 0 to 39, found "
         "40 in rows 0 to 99"),
        ("UPDATE shards SET rows = 9 WHERE number = 1", "expected 10 of segments/000001/vectors/"
         "000001.npy in the ledger, found 9"),
        ("UPDATE shards SET fingerprint = 'f' WHERE number = 3", "expected 'a{64}' of .*000003"
         ".npy in the ledger, found 'f'"),
        ("UPDATE shards SET vectors_sha256 = '0' WHERE number = 0", "000000.npy in the ledger, "
         "found '0'"),
        ("DELETE FROM shards WHERE number = 3", "expected a ledger of 4 shards, found 3"),
        ("DELETE FROM fields WHERE row = 7", "expected the fields of 40 passages, found those of "
         "39"),
        ("UPDATE fields SET field_0 = 'x' WHERE row = 7", "expected '7' in field 'number' of row "
         "7, found 'x'"),
        ("UPDATE settings SET value = '[]' WHERE name = 'fields'", "expected the fields number, "
         "found others"),
        ("DROP TABLE fields", "SQLite cannot read .*no such table"),
    ],
)  # fmt: skip
def test_passages_that_contradict_the_manifest_are_found(
    directory: Path, statement: str, sentence: str
) -> None:
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    refresh(directory)
    problems = verify_index(directory).problems
    assert len(problems) >= 1
    assert all(str(directory / SEGMENT / "passages.sqlite") in each for each in problems)
    assert any(re.search(sentence, each) for each in problems)


def test_an_id_in_two_segments_is_found(directory: Path) -> None:
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    connection.execute("UPDATE passages SET id = 'doc-63' WHERE row = 9")
    connection.commit()
    connection.close()
    refresh(directory)
    [problem] = verify_index(directory).problems
    assert "expected each id once in the index, found doc-63 in" in problem.replace("'", "")


def test_an_id_that_is_deleted_in_one_of_two_segments_is_no_problem(directory: Path) -> None:
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    connection.execute(f"UPDATE passages SET id = 'doc-63' WHERE id = '{DELETED[0]}'")
    connection.commit()
    connection.close()
    refresh(directory)
    assert verify_index(directory).problems == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0])
def test_vectors_that_are_not_finite_or_too_long_are_found(directory: Path, value: float) -> None:
    path = directory / SEGMENT / "vectors/000002.npy"
    vectors = np.load(path)
    vectors[4, 3] = value
    np.save(path, vectors)
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    manifest = refresh(directory)
    statement = "UPDATE shards SET vectors_sha256 = ? WHERE number = 2"
    connection.execute(statement, (manifest.segments[0].vectors[2].sha256,))
    connection.commit()
    connection.close()
    refresh(directory)
    problems = verify_index(directory).problems
    assert any("000002.npy: expected finite vectors" in each for each in problems)
    assert any("in row 4" in each for each in problems)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq", "IVF2,SQ8", "HNSW8,SQ8", "PQ4"])
def test_a_structure_of_other_vectors_is_found(tmp_path: Path, kind: str) -> None:
    build_table(tmp_path / "index", random_vectors(300), kind)
    build_table(tmp_path / "other", random_vectors(300, seed=6), kind)
    [path] = (tmp_path / "index" / SEGMENT).glob("*.faiss")
    shutil.copy(tmp_path / "other" / SEGMENT / path.name, path)
    refresh(tmp_path / "index")
    [problem] = verify_index(tmp_path / "index").problems
    assert re.search(r"faiss: expected (the vectors of the index|to find 100 stored)", problem)


def test_a_structure_of_another_count_is_found(directory: Path) -> None:
    build(directory.parent / "other", sentences(39))
    shutil.copy(directory.parent / "other" / SEGMENT / "flat.faiss", directory / SEGMENT)
    refresh(directory)
    [problem] = verify_index(directory).problems
    assert "flat.faiss: expected 40 vectors of width 16, found 39" in problem


def test_live_bits_of_another_count_are_found(directory: Path) -> None:
    flip(directory / SEGMENT / "live-000004.bits")
    refresh(directory)
    [problem] = verify_index(directory).problems
    assert "live-000004.bits: expected 38 bits to be set, found 37" in problem


def test_texts_that_are_not_what_was_encoded_are_found(directory: Path) -> None:
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    connection.execute("UPDATE passages SET text = 'another one', title = '' WHERE row = 9")
    connection.commit()
    connection.close()
    refresh(directory)
    assert verify_index(directory).problems == ()
    [problem] = verify_index(directory, HashingEncoder(), sample=67).problems
    assert re.search(r"expected a cosine of at least 0.999 .* passage '?doc-9'? \(1 of 67", problem)


def test_rounding_to_bfloat16_is_no_problem(directory: Path) -> None:
    class Rounding(HashingEncoder):
        def encode_passages(self, *args: Any, **options: Any) -> NDArray[np.float32]:
            vectors = super().encode_passages(*args, **options)
            return (vectors.view(np.uint32) & 0xFFFF0000).view(np.float32)

    assert verify_index(directory, Rounding(), sample=67).problems == ()


def test_another_model_is_refused(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"was filled by model hashing .*: use the index's own"):
        verify_index(directory, HashingEncoder(fingerprint="c" * 64))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_a_problem_that_names_the_commit_to_take(
    directory: Path, damage: Callable[[Path], object]
) -> None:
    damage(directory / "manifest.json")
    report = verify_index(directory)
    [problem] = report.problems
    assert report.commit == 4
    assert re.search(r"manifest\.json: expected .* `rq repair .*` puts commit 4 in force", problem)


def test_a_damaged_manifest_without_any_commit_is_an_error(directory: Path) -> None:
    replace_all(directory / "manifest.json")
    shutil.rmtree(directory / "commits")
    with pytest.raises(DataError, match=r"manifest\.json: expected JSON"):
        verify_index(directory)


@pytest.mark.parametrize("number", [2, 4])
def test_a_damaged_commit_is_named(directory: Path, number: int) -> None:
    path = directory / f"commits/{number:06d}.json"
    replace_all(path)
    [problem] = verify_index(directory).problems
    assert problem.startswith(f"{path}: expected ")


def test_a_file_that_an_earlier_commit_needs_is_checked_by_its_size(directory: Path) -> None:
    delete_passages(directory, ["doc-5"], ChangeOptions())
    truncate(directory / SEGMENT / "live-000004.bits")
    [problem] = verify_index(directory).problems
    assert re.search(r"^commit 4, which is kept: .*live-000004\.bits: expected 5 bytes", problem)


def test_damaged_snapshots_are_named(directory: Path) -> None:
    (directory / "snapshots/two.json").write_bytes(b"{")
    (directory / "snapshots/gone.json").write_bytes(b'{"commit": 77}')
    damaged, gone = verify_index(directory).problems
    assert "two.json: expected the number of a commit, found a damaged file" in damaged
    assert "gone.json: expected the number of a kept commit, found 77" in gone


def test_notes_say_what_is_there_besides_the_commit_in_force(directory: Path) -> None:
    (directory / SEGMENT / "vectors/000077.npy").write_bytes(b"left over")
    shutil.copytree(directory / SEGMENT, directory / "segments/000009")
    (directory / "mine.txt").write_text("the user's own")
    earlier, unfinished, stray = verify_index(directory).notes
    assert earlier.endswith("to go back to with rq rollback: 1, 2, 3")
    assert "000009: belongs to no commit (begun by rq index)" in unfinished
    assert stray.startswith("1 file that no commit needs") and "000077.npy" in stray


def test_an_index_of_format_1_is_checked(tmp_path: Path) -> None:
    make_format_1(tmp_path / "index")
    report = verify_index(tmp_path / "index", HashingEncoder())
    assert report.problems == () and report.passages == 25
