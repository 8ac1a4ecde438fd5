"""Opening: each thing that can be wrong with a folder is one sentence with the cure."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.index import BuildOptions, Index, build_index, verify_index

from .small_index import HashingEncoder, ListCorpus, sentences


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    build_index(path, ListCorpus(sentences(25)), HashingEncoder(), BuildOptions(shard_size=10))
    return path


def test_a_missing_folder_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder: build an index with `rq index"):
        Index.open(tmp_path / "none")


def test_a_file_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected an index folder, found a file"):
        Index.open(tmp_path / "file")


def test_a_folder_without_a_manifest_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected an index, found a folder without manifest\.json"
    ):
        Index.open(tmp_path)


def test_threads_below_one_are_refused(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"threads \(0\) must be at least 1"):
        Index.open(directory, threads=0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format_version": 5}, r"written by format 5, this RocketRank reads up to 4: upgrade "
         "rocketrank$"),
        ({"format_version": "1"}, "expected a number as format_version, found '1'"),
        ({"format": "something"}, "expected format 'rocketrank index', found 'something'"),
        ({"commit": "25"}, "expected 'commit' to be of type int, found '25'"),
        ({"commit": True}, "expected 'commit' to be of type int, found True"),
        ({"model": None}, "expected 'model' to be of type dict, found None"),
        ({"segments": [1]}, "expected objects in 'segments'"),
        ({"width": 8}, "expected the content that its checksum was taken of, found another"),
    ],
)  # fmt: skip
def test_a_changed_manifest_is_refused(
    directory: Path, changes: dict[str, object], sentence: str
) -> None:
    path = directory / "manifest.json"
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **changes}))
    with pytest.raises(DataError, match=sentence):
        Index.open(directory)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_object_is_refused(directory: Path, content: bytes) -> None:
    (directory / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: expected .*: `rq repair` may mend it"):
        Index.open(directory)


FILES = [
    f"segments/000001/{name}" for name in ("passages.sqlite", "vectors/000001.npy", "flat.faiss")
]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: this file of the index is missing"):
        Index.open(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_both_sizes(directory: Path, name: str) -> None:
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-1])
    sentence = rf"{name}: expected {len(content)} bytes, found {len(content) - 1}"
    with pytest.raises(DataError, match=sentence):
        Index.open(directory)
    assert len(verify_index(directory).problems) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(directory: Path, name: str) -> None:
    content = bytearray((directory / name).read_bytes())
    content[-1] ^= 1
    (directory / name).write_bytes(content)
    [problem] = verify_index(directory).problems
    assert name in problem and "expected SHA-256" in problem


def test_a_faiss_file_with_other_content_of_the_same_size_is_refused(directory: Path) -> None:
    path = directory / "segments/000001/flat.faiss"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match="expected a FAISS index, found a file that FAISS cannot"):
        Index.open(directory)


def test_passages_of_another_count_are_refused(directory: Path) -> None:
    path = directory / "segments/000001/passages.sqlite"
    size = path.stat().st_size
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM passages WHERE row = 24")
    connection.commit()
    connection.close()
    assert path.stat().st_size == size
    with pytest.raises(DataError, match=r"passages\.sqlite: expected 25 passages, found 24"):
        Index.open(directory)


def test_passages_that_are_no_database_are_refused(directory: Path) -> None:
    path = directory / "segments/000001/passages.sqlite"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match="expected the passages of an index, found a file that"):
        Index.open(directory)


def test_an_index_can_be_moved_and_read_where_nothing_can_be_written(
    directory: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "with blank & 100% #?"
    shutil.move(directory, moved)
    for path in [*moved.rglob("*"), moved]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = sorted(path.name for path in moved.rglob("*"))
    with Index.open(moved) as index:
        assert index.passages([2]) == [sentences(3)[2]]
    assert sorted(path.name for path in moved.rglob("*")) == before
    for path in [moved, *moved.rglob("*")]:
        path.chmod(0o700)


def test_importing_the_package_loads_no_faiss() -> None:
    code = "import sys, rocketrank.index; print('faiss' in sys.modules)"
    source = Path(__file__).resolve().parents[2] / "src"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        check=True,
    )
    assert found.stdout == b"False\n"


def test_a_missing_faiss_is_a_sentence_with_the_command_that_installs_it(directory: Path) -> None:
    code = (
        "import sys; sys.modules['faiss'] = None\n"
        "from pathlib import Path; from rocketrank.index import Index\n"
        f"try: Index.open(Path({str(directory)!r}))\n"
        "except ImportError as error: print(error)"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        check=True,
    )
    assert found.stdout == b'FAISS is not installed: pip install "rocketrank[cpu]"\n'
