"""The file of a segment's postings: what it holds, and what happens when it is damaged."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rocketrank.data.records import Passage
from rocketrank.data.words import words
from rocketrank.errors import DataError, RocketRankError
from rocketrank.index import (
    ChangeOptions,
    Index,
    committed_manifest,
    compact,
    delete_passages,
    repair_index,
    verify_index,
)
from rocketrank.index.postings import Postings, extents
from rocketrank.index.postings_writing import write_postings

from .damaged_index import DAMAGES, flip, refresh, replace_all
from .small_index import HashingEncoder, build, files
from .word_texts import OPTIONS, add, found_in, texts

TEXTS = [
    *(passage.full_text for passage in texts(120)),
    "often " * 254 + "x",
    "often " * 255,
    "often " * 70_000 + "北京",
    "",
    "the",
]


def test_every_word_has_its_passages_and_frequencies(tmp_path: Path) -> None:
    write_postings(tmp_path / "p.bm25", TEXTS)
    postings = Postings(tmp_path / "p.bm25")
    counted = [Counter(words(text)) for text in TEXTS]
    assert postings.lengths.tolist() == [each.total() for each in counted]
    for word in {word for each in counted for word in each}:
        expected = {row: each[word] for row, each in enumerate(counted) if word in each}
        rows, frequencies = postings.find(word)
        assert dict(zip(rows.tolist(), frequencies.tolist(), strict=True)) == expected
        assert rows.tolist() == sorted(expected)
    assert postings.total_frequency() == postings.counts.tokens == sum(postings.lengths.tolist())


@pytest.mark.parametrize(
    "word", ["", "absent", "zzz", "~", "\ud800", "ofte", "oftenx", "\U0010ffff"]
)
def test_a_word_in_no_passage_has_none(tmp_path: Path, word: str) -> None:
    write_postings(tmp_path / "p.bm25", TEXTS)
    assert len(Postings(tmp_path / "p.bm25").find(word).rows) == 0


@pytest.mark.parametrize("some", [[], ["", "the"]])
def test_no_words_at_all_make_a_file_too(tmp_path: Path, some: list[str]) -> None:
    write_postings(tmp_path / "p.bm25", some)
    postings = Postings(tmp_path / "p.bm25")
    assert (postings.counts.rows, postings.counts.words) == (len(some), 0)
    assert len(postings.find("the").rows) == 0


@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_building_in_pieces_gives_the_same_bytes(tmp_path: Path, piece: int) -> None:
    write_postings(tmp_path / "whole.bm25", TEXTS)
    write_postings(tmp_path / "pieces.bm25", TEXTS, piece=piece)
    assert (tmp_path / "pieces.bm25").read_bytes() == (tmp_path / "whole.bm25").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces.bm25", "whole.bm25"]


def test_texts_that_cannot_be_read_leave_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield "one text"
        raise DataError("the second is damaged")

    with pytest.raises(DataError, match="the second is damaged"):
        write_postings(tmp_path / "p.bm25", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RocketRankError, match=r"p\.bm25: cannot be written \(No such file"):
        write_postings(tmp_path / "gone/p.bm25", TEXTS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: b"", "found an empty file"),
        (lambda content: content[:100], "expected the header"),
        (lambda content: content[:-64], "bytes, found"),
        (lambda content: b"x" + content[1:], "expected the header"),
        (lambda content: content.replace(b'version":1', b'version":2'), "found .* of version 2"),
        (lambda content: content.replace(b'"rows":', b'"raws":'), "expected the header"),
    ],
)
def test_a_file_that_is_no_postings_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], says: str
) -> None:
    path = tmp_path / "p.bm25"
    write_postings(path, TEXTS)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=says):
        Postings(path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three commits: 40 passages, 12 more in a second segment, two deleted."""
    build(tmp_path / "index", texts(40), bm25=True)
    add(tmp_path / "index", texts(52)[40:])
    delete_passages(tmp_path / "index", ["p1", "p45"], ChangeOptions())
    return tmp_path / "index"


def test_a_whole_index_has_no_problems(directory: Path) -> None:
    assert verify_index(directory).problems == ()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("number", [1, 2])
def test_damaged_postings_are_found_and_made_again_to_the_same_bytes(
    directory: Path, number: int, damage: Callable[[Path], object]
) -> None:
    before, found = files(directory), found_in(directory)
    path = directory / f"segments/{number:06d}/postings.bm25"
    damage(path)
    [problem] = verify_index(directory).problems
    assert problem.startswith(f"{path}: expected ")
    assert "builds it again from the passages" in problem
    report = repair_index(directory)
    assert report.left == ()
    [done] = report.done
    assert str(path) in done
    assert "to the same bytes" in done
    assert files(directory) == before
    assert found_in(directory) == found


def test_postings_that_get_other_bytes_are_a_new_file_in_a_new_commit(directory: Path) -> None:
    found = found_in(directory)
    path = directory / "segments/000001/postings.bm25"
    old = path.read_bytes()
    path.write_bytes(old + bytes(64))
    refresh(directory)  # as if another version had written more
    flip(path)
    report = repair_index(directory)
    assert report.left == ()
    assert "to other bytes" in report.done[0]
    assert path.with_name("postingsx.bm25").read_bytes() == old
    assert verify_index(directory).problems == ()
    assert found_in(directory) == found


def test_postings_of_damaged_passages_are_left(directory: Path) -> None:
    folder = directory / "segments/000001"
    replace_all(folder / "passages.sqlite")
    flip(folder / "postings.bm25")
    left = " ".join(repair_index(directory).left)
    assert f"{folder / 'postings.bm25'}: " in left
    assert "which it is made of, is damaged too" in left


def test_vectors_that_are_encoded_again_keep_their_postings(directory: Path) -> None:
    found = found_in(directory)
    flip(directory / "segments/000001/vectors/000000.npy")
    assert repair_index(directory, lambda _: HashingEncoder()).left == ()
    assert found_in(directory) == found
    assert verify_index(directory).problems == ()


def test_postings_of_other_passages_are_found(directory: Path) -> None:
    path = directory / "segments/000001/postings.bm25"
    other = texts(40)
    other[7] = Passage("p7", " ".join(reversed(other[7].text.split())) + " more")
    write_postings(path, (each.full_text for each in other))
    refresh(directory)
    [problem] = verify_index(directory).problems
    assert f"{path}: expected the words of passage" in problem
    assert "row 7" in problem


def test_postings_of_another_number_of_passages_are_refused(directory: Path) -> None:
    path = directory / "segments/000001/postings.bm25"
    write_postings(path, (each.full_text for each in texts(39)))
    refresh(directory)
    [problem] = verify_index(directory).problems
    assert "expected the postings of 40 passages" in problem
    with pytest.raises(DataError, match="expected the postings of 40 passages, found those of 39"):
        Index.open(directory)


@pytest.mark.parametrize("name", ["starts", "large_places"])
def test_places_out_of_range_are_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "postings.bm25"
    write_postings(path, ["flea " * 300, "flea egg"])
    content = bytearray(path.read_bytes())
    extent = extents(Postings(path).counts)[name]
    array = extent.of(np.frombuffer(content, dtype=np.uint8))
    array[-1] = 10**6
    path.write_bytes(content)
    with pytest.raises(DataError, match="run `rq repair`"):
        Postings(path).find("flea")


def test_rows_out_of_range_are_a_sentence(directory: Path) -> None:
    path = directory / "segments/000001/postings.bm25"
    rows, _ = Postings(path).find("word0")
    content = path.read_bytes()
    place = content.index(rows.tobytes())
    path.write_bytes(content[:place] + np.uint32(10**9).tobytes() + content[place + 4 :])
    with pytest.raises(
        DataError, match=r"expected rows up to 39, found 1000000000: run `rq repair`"
    ):
        found_in(directory, ["word0"])


def test_a_manifest_that_misses_postings_is_refused(directory: Path) -> None:
    with pytest.raises(DataError, match="expected segment 1 to have postings where 'bm25' is true"):
        refresh(directory, lambda segment: replace(segment, postings=None))
        committed_manifest(directory)


KILLED = """
import os, signal, sys
from pathlib import Path
from rocketrank.index import ChangeOptions, changes, compact, postings_writing
from tests.index.small_index import build
from tests.index.word_texts import texts
directory, module, name = sys.argv[1:]
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr({"changes": changes, "postings_writing": postings_writing}[module], name, killed)
if (Path(directory) / "manifest.json").exists():
    compact(Path(directory), ChangeOptions(shard_size=10), bm25=True)
else:
    build(Path(directory), texts(60), bm25=True)
"""


def kill(directory: Path, place: str) -> None:
    """Builds the index, or gives it postings, in a process that is killed at a function's call."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-c", KILLED, str(directory), *place.split()]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL


def test_a_build_that_is_killed_while_it_splits_words_goes_on_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    build(tmp_path / "whole", texts(60), bm25=True)
    kill(tmp_path / "killed", "postings_writing _fill")
    left = [path.name for path in (tmp_path / "killed").rglob("*.bm25*")]
    assert left == ["postings.bm25.partial"]
    build(tmp_path / "killed", texts(60), bm25=True)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.parametrize("place", ["postings_writing _fill", "changes commit"])
def test_a_killed_compact_that_gives_postings_is_repeated(tmp_path: Path, place: str) -> None:
    for name in ("whole", "killed"):
        build(tmp_path / name, texts(60))
    compact(tmp_path / "whole", OPTIONS, bm25=True)
    before = committed_manifest(tmp_path / "killed")
    kill(tmp_path / "killed", place)
    assert committed_manifest(tmp_path / "killed") == before
    assert verify_index(tmp_path / "killed").problems == ()
    compact(tmp_path / "killed", OPTIONS, bm25=True)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_what_a_killed_build_left_is_removed_by_one_without_postings(tmp_path: Path) -> None:
    build(tmp_path / "i", texts(20))
    folder = tmp_path / "i/segments/000001"
    for name in ("postings.bm25", "postings.bm25.partial", "postings-pairs.bm25.partial"):
        (folder / name).write_bytes(b"half")
    delete_passages(tmp_path / "i", ["p1"], ChangeOptions())
    assert list(folder.glob("*.bm25*")) == []


def test_a_folded_segment_has_postings_of_its_own(tmp_path: Path) -> None:
    build(tmp_path / "i", texts(8), bm25=True)
    add(tmp_path / "i", texts(20)[8:])
    [segment] = committed_manifest(tmp_path / "i").segments
    assert segment.postings is not None
    assert Postings(tmp_path / "i" / segment.postings.file).counts.rows == 20
