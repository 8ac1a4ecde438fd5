"""Repairing: what can be made again is, search finds what it did before, and the rest is said."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    Index,
    Manifest,
    PassageEncoder,
    build_index,
    committed_manifest,
    delete_passages,
    history,
    repair_index,
    roll_back,
    verify_index,
)
from rocketrank.index.commits import commit_numbers
from rocketrank.index.layout import locked

from .damaged_index import (
    DAMAGES,
    PASSAGES,
    SEGMENT,
    OtherMachine,
    add,
    contents,
    flip,
    found,
    make_format_1,
    make_index,
    random_vectors,
    refresh,
    replace_all,
    truncate,
)
from .small_index import HashingEncoder, ListCorpus, TableEncoder, build, build_table

Damage = Callable[[Path], object]


def hashing(_: Manifest) -> PassageEncoder:
    return HashingEncoder()


def other_machine(_: Manifest) -> PassageEncoder:
    return OtherMachine()


def never(_: Manifest) -> PassageEncoder:
    raise AssertionError("nothing had to be encoded")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "index"
    make_index(path)
    return path


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def test_a_whole_index_is_left_as_it_is(directory: Path) -> None:
    before = contents(directory)
    report = repair_index(directory, never)
    assert (report.commit, report.done, report.left) == (4, (), ())
    assert contents(directory) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["flat.faiss", "vectors/000002.npy"])
@pytest.mark.parametrize("number", [1, 2])
def test_vectors_and_structures_are_made_again_to_the_same_bytes(
    directory: Path, number: int, name: str, damage: Damage
) -> None:
    before, results = contents(directory), found(directory)
    path = directory / f"segments/{number:06d}" / name
    if number == 2:  # it has shards 0 and 1 alone
        path = directory / "segments/000002" / name.replace("2.npy", "1.npy")
    damage(path)
    report = repair_index(directory, hashing)
    assert report.commit == 4 and report.left == ()
    [done] = report.done
    assert str(path) in done and "to the same bytes" in done
    assert contents(directory) == before
    assert verify_index(directory).problems == ()
    assert found(directory) == results


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivfpq", "IVF2,SQ8", "HNSW8,SQ8"])
def test_a_structure_of_any_kind_is_built_again_to_the_same_bytes(
    tmp_path: Path, kind: str
) -> None:
    build_table(tmp_path / "index", random_vectors(300), kind)
    before = contents(tmp_path / "index")
    [path] = (tmp_path / "index" / SEGMENT).glob("*.faiss")
    flip(path, 200)
    assert repair_index(tmp_path / "index", never).left == ()
    assert contents(tmp_path / "index") == before


def test_a_structure_that_gets_other_bytes_is_a_new_file_in_a_new_commit(directory: Path) -> None:
    results = found(directory)
    path = directory / SEGMENT / "flat.faiss"
    path.write_bytes(path.read_bytes() + b"of an older FAISS")
    refresh(directory)
    truncate(path)
    report = repair_index(directory, never)
    assert report.commit == 5 and report.left == ()
    manifest = committed_manifest(directory)
    assert manifest.change == "repair"
    assert manifest.segments[0].structure.files[0].file == SEGMENT + "flatx.faiss"
    assert not path.exists()  # the earlier commit names the new file too
    assert verify_index(directory).problems == ()
    assert found(directory) == results
    assert roll_back(directory, "4").segments == manifest.segments


def test_a_shard_that_gets_other_vectors_is_in_a_new_segment(directory: Path) -> None:
    _, scores = found(directory)
    truncate(directory / SEGMENT / "vectors/000001.npy")
    report = repair_index(directory, other_machine)
    assert report.commit == 5 and report.left == ()
    manifest = committed_manifest(directory)
    assert [segment.number for segment in manifest.segments] == [4, 2, 3]
    assert [segment.count for segment in manifest.segments] == [38, 19, 10]
    assert verify_index(directory, HashingEncoder(), sample=67).problems == ()
    np.testing.assert_allclose(found(directory)[1], scores, atol=1e-5)


@pytest.mark.parametrize("vectors", ["float16", "int8"])
def test_vectors_are_encoded_again_in_the_type_they_had(tmp_path: Path, vectors: str) -> None:
    build(tmp_path / "index", PASSAGES, vectors=vectors)
    before = contents(tmp_path / "index")
    (tmp_path / "index" / SEGMENT / "vectors/000001.npy").unlink()
    (tmp_path / "index" / SEGMENT / "flat.faiss").unlink()
    assert repair_index(tmp_path / "index", hashing).left == ()
    assert contents(tmp_path / "index") == before


def test_a_snapshot_of_another_model_is_mended_with_that_model(directory: Path) -> None:
    vectors = random_vectors(30)
    passages = ListCorpus([Passage(f"p{row}", str(row)) for row in range(30)])
    build_index(directory, passages, TableEncoder(vectors), BuildOptions(overwrite=True))
    flip(directory / SEGMENT / "vectors/000001.npy")
    flip(directory / committed_manifest(directory).segments[0].vectors[0].file)
    encoders: dict[str, PassageEncoder] = {
        "hashing": HashingEncoder(),
        "table": TableEncoder(vectors),
    }
    report = repair_index(directory, lambda manifest: encoders[manifest.model.name])
    assert len(report.done) == 2 and report.left == ()
    assert verify_index(directory, TableEncoder(vectors)).problems == ()
    roll_back(directory, "two")
    assert verify_index(directory, HashingEncoder()).problems == ()


def test_earlier_commits_share_what_was_encoded_again(directory: Path) -> None:
    truncate(directory / SEGMENT / "vectors/000001.npy")
    repair_index(directory, other_machine)
    assert [note.number for note in history(directory)] == [1, 2, 3, 4, 5]
    assert roll_back(directory, "two").count == 60
    assert verify_index(directory, HashingEncoder(), sample=60).problems == ()


def test_an_index_with_vectors_encoded_again_can_be_changed_on(directory: Path) -> None:
    truncate(directory / SEGMENT / "vectors/000001.npy")
    repair_index(directory, other_machine)
    delete_passages(directory, ["doc-15"], ChangeOptions())
    add(directory, [PASSAGES[15], PASSAGES[3]])
    assert verify_index(directory, HashingEncoder(), sample=68).problems == ()
    with Index.open(directory) as index:
        assert index.passages_by_id(["doc-15", "doc-3"]) == [PASSAGES[15], PASSAGES[3]]


def test_several_damages_of_several_segments_are_mended_at_once(directory: Path) -> None:
    before = contents(directory)
    flip(directory / SEGMENT / "vectors/000000.npy")
    (directory / SEGMENT / "vectors/000003.npy").unlink()
    truncate(directory / SEGMENT / "flat.faiss")
    truncate(directory / "segments/000003/flat.faiss")
    shutil.rmtree(directory / "segments/000002/vectors")
    replace_all(directory / "commits/000004.json")
    assert repair_index(directory, hashing).left == ()
    assert contents(directory) == before


def test_without_the_model_vectors_are_left_and_the_rest_is_mended(directory: Path) -> None:
    truncate(directory / SEGMENT / "vectors/000001.npy")
    (directory / "segments/000003/flat.faiss").unlink()
    report = repair_index(directory)
    assert any("000003/flat.faiss" in each for each in report.done)
    assert "000001.npy" in report.left[0] and "needs the index's model, hashing" in report.left[0]
    assert len(verify_index(directory).problems) == 1
    assert repair_index(directory, hashing).left == ()
    assert verify_index(directory).problems == ()


def test_another_model_is_refused_before_anything_is_encoded(directory: Path) -> None:
    flip(directory / SEGMENT / "vectors/000001.npy")
    before = contents(directory)
    with pytest.raises(UsageError, match="use the index's own model"):
        repair_index(directory, lambda _: HashingEncoder(fingerprint="c" * 64))
    assert contents(directory) == before


def test_vectors_whose_texts_are_damaged_too_are_left(directory: Path) -> None:
    flip(directory / SEGMENT / "vectors/000001.npy")
    flip(directory / SEGMENT / "passages.sqlite")
    report = repair_index(directory, never)
    assert any("because" in each and "passages.sqlite is damaged too" in each
               for each in report.left)  # fmt: skip
    assert any("no commit is whole: index the corpus again" in each for each in report.left)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_live_bits_are_left_and_the_whole_commit_is_named(
    directory: Path, damage: Damage
) -> None:
    damage(directory / SEGMENT / "live-000004.bits")
    before = contents(directory)
    report = repair_index(directory, never)
    assert report.done == () and contents(directory) == before
    assert "live-000004.bits: expected" in report.left[0]
    assert "goes back to commit 3, the last that is whole" in report.left[1]
    roll_back(directory, "3")
    assert repair_index(directory, never).left == ()  # sets commit 4 aside, which is not whole
    assert verify_index(directory).problems == ()
    assert committed_manifest(directory).count == 70


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_passages_file_is_left_and_the_whole_commit_is_named(
    directory: Path, damage: Damage
) -> None:
    damage(directory / "segments/000002/passages.sqlite")
    report = repair_index(directory, never)
    assert report.done == ()
    assert "passages.sqlite: expected" in report.left[0]
    assert "goes back to commit 1, the last that is whole" in report.left[1]
    roll_back(directory, "1")
    repair_index(directory, never)
    assert commit_numbers(directory) == [1, 5]
    assert verify_index(directory).problems == ()


def test_a_passages_file_that_sqlite_can_read_is_said_so(directory: Path) -> None:
    flip(directory / SEGMENT / "passages.sqlite", position=24)
    assert "(SQLite's own check of it: ok)" in repair_index(directory, never).left[0]


def test_what_no_commit_needs_is_removed_but_not_an_unfinished_build(directory: Path) -> None:
    before = contents(directory)
    (directory / SEGMENT / "vectors/000077.npy").write_bytes(b"left over")
    (directory / "mine.txt").write_text("the user's own")
    unfinished(directory)
    assert "removed 1 file that no commit needs" in repair_index(directory, never).done[0]
    assert (directory / "segments/000009/passages.sqlite").exists()
    repair_index(directory, never, drop_unfinished=True)
    assert contents(directory) == {**before, "mine.txt": b"the user's own"}


def unfinished(directory: Path) -> None:
    """A segment as a build that was killed before its structure leaves it."""
    shutil.copytree(directory / SEGMENT, directory / "segments/000009")
    (directory / "segments/000009/flat.faiss").unlink()
    (directory / "segments/000009/live-000004.bits").unlink()
    connection = sqlite3.connect(directory / "segments/000009/passages.sqlite")
    connection.execute("DELETE FROM settings WHERE name = 'complete'")
    connection.commit()
    connection.close()


def test_a_commit_that_a_reader_holds_is_not_written_over(directory: Path) -> None:
    results = found(directory)
    with Index.open(directory) as index:
        (directory / SEGMENT / "vectors/000001.npy").unlink()
        report = repair_index(directory, other_machine)
        assert report.commit == 5
        assert any("000004.json: a reader holds this commit" in each for each in report.left)
        assert len(index.passages([0, 30])) == 2
    assert repair_index(directory, other_machine).left == ()
    assert verify_index(directory).problems == ()
    np.testing.assert_allclose(found(directory)[1], results[1], atol=1e-5)


def test_a_repair_waits_for_no_other_writer(directory: Path) -> None:
    with locked(directory), pytest.raises(RocketRankError, match="another process is writing"):
        repair_index(directory)


def test_a_folder_that_is_no_index_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="expected an index"):
        repair_index(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["vectors/000001.npy", "faiss/flat.faiss"])
def test_an_index_of_format_1_is_mended(tmp_path: Path, name: str, damage: Damage) -> None:
    make_format_1(tmp_path / "index")
    content = (tmp_path / "index" / name).read_bytes()
    damage(tmp_path / "index" / name)
    assert repair_index(tmp_path / "index", hashing).left == ()
    assert (tmp_path / "index" / name).read_bytes() == content
    assert verify_index(tmp_path / "index").problems == ()


def test_a_segment_of_format_1_is_replaced_where_vectors_differ(tmp_path: Path) -> None:
    make_format_1(tmp_path / "index")
    truncate(tmp_path / "index/vectors/000001.npy")
    assert repair_index(tmp_path / "index", other_machine).left == ()
    assert verify_index(tmp_path / "index", HashingEncoder()).problems == ()


def test_texts_that_are_not_what_was_encoded_are_not_encoded(directory: Path) -> None:
    connection = sqlite3.connect(directory / SEGMENT / "passages.sqlite")
    connection.execute("UPDATE passages SET text = 'another one' WHERE row = 12")
    connection.commit()
    connection.close()
    refresh(directory)
    flip(directory / SEGMENT / "vectors/000001.npy")
    report = repair_index(directory, hashing)
    assert "expected the texts that shard 1 was made of, found others" in report.left[0]


KILLED = """
import os, sys
from pathlib import Path
from rocketrank.index import repair_index
from tests.index.damaged_index import OtherMachine

left = int(sys.argv[2])
for name in ("replace", "unlink"):
    def counted(*places, does=getattr(os, name), **options):
        global left
        left -= 1
        if not left:
            os._exit(9)
        return does(*places, **options)
    setattr(os, name, counted)
repair_index(Path(sys.argv[1]), lambda _: OtherMachine())
"""


@pytest.mark.slow
def test_a_repair_that_is_killed_anywhere_is_run_again(directory: Path, tmp_path: Path) -> None:
    _, scores = found(directory)
    flip(directory / SEGMENT / "vectors/000001.npy")
    flip(directory / "segments/000002/flat.faiss")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    for point in range(1, 40):
        copy = Path(shutil.copytree(directory, tmp_path / str(point)))
        command = [sys.executable, "-c", KILLED, str(copy), str(point)]
        status = subprocess.run(command, env=environment).returncode
        assert status in (0, 9)
        assert repair_index(copy, other_machine).left == ()
        assert verify_index(copy, HashingEncoder(), sample=67).problems == ()
        np.testing.assert_allclose(found(copy)[1], scores, atol=1e-5)
        assert commit_numbers(copy) == [1, 2, 3, 4, 5]
        if status == 0:
            break
    assert point > 9  # each replacement of a file was a point
