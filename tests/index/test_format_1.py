"""An index of format 1, which could not be changed, is read, changed and cleared away."""

import hashlib
import shutil
from pathlib import Path

import orjson
import pytest

from rocketrank.index import (
    ChangeOptions,
    Index,
    PassageList,
    add_passages,
    compact,
    delete_passages,
    roll_back,
)

from .small_index import HashingEncoder, build, sentences

QUERY = HashingEncoder().encode_passages(["w1 w2 w3"])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An index of 25 passages as the second build of format 1 left it, by its published layout."""
    new, old = tmp_path / "new", tmp_path / "old"
    build(new, sentences(25))
    manifest = orjson.loads((new / "manifest.json").read_bytes())
    [segment] = manifest["segments"]
    structure = dict(segment["structure"])
    [faiss] = structure.pop("files")
    old.mkdir()
    for name in ("vectors-2", "faiss-2"):
        (old / name).mkdir()
    for file, place in [
        (segment["passages"], "passages-2.sqlite"),
        (faiss, "faiss-2/flat.faiss"),
        *((each, f"vectors-2/{Path(each['file']).name}") for each in segment["vectors"]),
    ]:
        shutil.copy(new / file["file"], old / place)
        file["file"] = place
    content = {
        "format": "rocketrank index",
        "format_version": 1,
        "generation": 2,
        "model": manifest["model"],
        "width": 16,
        "count": 25,
        "structure": structure,
        "passages": segment["passages"],
        "segments": [
            {
                "first_row": 0,
                "end_row": 25,
                "largest_norm": segment["largest_norm"],
                "vectors": segment["vectors"],
                "faiss": faiss,
            }
        ],
    }
    signed = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    content["checksum"] = hashlib.sha256(signed).hexdigest()
    content["created"] = manifest["created"]
    (old / "manifest.json").write_bytes(orjson.dumps(content))
    (old / "build.lock").touch()
    return old


def test_it_is_searched_as_an_index_of_the_new_format_is(directory: Path) -> None:
    with Index.open(directory) as old, Index.open(directory.with_name("new")) as new:
        assert old.search(QUERY, 25).rows.tolist() == new.search(QUERY, 25).rows.tolist()
        assert old.passages(range(25)) == sentences(25)


def test_it_can_be_changed_and_taken_back(directory: Path) -> None:
    delete_passages(directory, ["doc-3"], ChangeOptions())
    report = add_passages(
        directory, PassageList(sentences(30)[25:]), HashingEncoder(), ChangeOptions()
    )
    assert (report.commit, report.passages) == (4, 29)
    roll_back(directory, "2")
    with Index.open(directory) as index:
        assert index.passages(range(25)) == sentences(25)


def test_compacting_it_leaves_no_file_of_the_old_layout(directory: Path) -> None:
    delete_passages(directory, ["doc-3"], ChangeOptions())
    compact(directory, ChangeOptions())
    names = {path.name for path in directory.iterdir()}
    assert names == {"build.lock", "commits", "manifest.json", "segments", "write.lock"}
