"""``rq encode`` writes the vectors that an index would have, and goes on where it was killed."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketrank.data.records import Passage, Query
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index.given_vectors import GivenVectors
from rocketrank.index.vector_encoding import (
    EncodeOptions,
    EncodeReport,
    encode_corpus,
    encode_queries,
)
from rocketrank.index.vector_files import open_vectors
from rocketrank.index.vector_shards import VectorsNote, write_note, write_shard

from .small_index import HashingEncoder, ListCorpus, sentences

SCRIPT = Path(__file__).with_name("small_index.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
PASSAGES = sentences(45)
OPTIONS = EncodeOptions(shard_size=10, precision="fp32")


def encode(folder: Path, passages: Sequence[Passage] = PASSAGES, **changes: object) -> EncodeReport:
    options = EncodeOptions(**{"shard_size": 10, "precision": "fp32", **changes})  # type: ignore[arg-type]
    return encode_corpus(folder, ListCorpus(passages), HashingEncoder(), options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_hold_ids_vectors_and_the_model(tmp_path: Path) -> None:
    report = encode(tmp_path / "v")
    texts = [passage.text for passage in PASSAGES]
    titles = [passage.title for passage in PASSAGES]
    expected = HashingEncoder().encode_passages(texts, titles)
    arrays = [np.load(path) for path in sorted((tmp_path / "v").glob("*.npy"))]
    assert [len(each) for each in arrays] == [10, 10, 10, 10, 5]
    assert np.concatenate(arrays).tobytes() == expected.tobytes()
    lines = [path.read_text() for path in sorted((tmp_path / "v").glob("*.ids"))]
    assert "".join(lines) == "".join(f'"{passage.id}"\n' for passage in PASSAGES)
    note = orjson.loads((tmp_path / "v" / "vectors.json").read_bytes())
    told = {name: note[name] for name in ("model", "fingerprint", "precision", "width", "side")}
    assert told == {
        "model": "hashing",
        "fingerprint": "a" * 64,
        "precision": "fp32",
        "width": 16,
        "side": "passages",
    }
    assert (report.vectors, report.width, note["count"]) == (45, 16, 45)


def test_queries_are_encoded_as_queries_and_make_no_index(tmp_path: Path) -> None:
    class Queries(HashingEncoder):
        def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return -self.encode_passages(texts)

    queries = [Query(str(number), f"w{number}") for number in range(5)]
    encode_queries(tmp_path / "q", queries, Queries(), OPTIONS)
    files = open_vectors([tmp_path / "q"], copies=tmp_path)
    expected = -HashingEncoder().encode_passages([query.text for query in queries])
    assert np.array_equal(files.of_ids([query.id for query in queries]), expected)
    with pytest.raises(UsageError, match="expected vectors of passages, found those of queries"):
        GivenVectors(files, HashingEncoder())


def test_the_vectors_of_another_model_make_no_index(tmp_path: Path) -> None:
    encode(tmp_path / "v")
    files = open_vectors([tmp_path / "v"], copies=tmp_path)
    with pytest.raises(
        UsageError, match=r"v: was made by model hashing \(fingerprint aaaaaaaaaaaa"
    ):
        GivenVectors(files, HashingEncoder(fingerprint="c" * 64))


def test_killed_at_many_points_it_ends_with_the_bytes_of_an_uninterrupted_run(
    tmp_path: Path,
) -> None:
    def command(folder: Path, seconds: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, SCRIPT, folder, "600", "30", "none", str(seconds)],
            env={"PYTHONPATH": str(SOURCE)},
        )

    assert command(tmp_path / "whole", 0).wait() == 0
    random, kills = np.random.default_rng(11), 0
    for _ in range(4):
        made = len(list((tmp_path / "killed").glob("*.npy")))
        process = command(tmp_path / "killed", 0.02)
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "killed").glob("*.npy"))) > made + random.integers(3):
                break
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        with pytest.raises(DataError, match="these vectors are unfinished: run the same `rq enc"):
            open_vectors([tmp_path / "killed"], copies=tmp_path)
    assert kills == 4
    assert command(tmp_path / "killed", 0).wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_killed_before_the_first_shard_it_begins_again(tmp_path: Path) -> None:
    encode(tmp_path / "whole")
    stopped(tmp_path / "v", shards=0)
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["unfinished.json"]
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "unfinished.json.partial").write_bytes(b"half")
    for name in ("v", "w"):
        encode(tmp_path / name)
        assert contents(tmp_path / name) == contents(tmp_path / "whole")


class Stopped(Exception):
    """Stands for whatever ends a run between two shards."""


def stopped(folder: Path, shards: int = 2) -> None:
    """Leaves two shards of ten passages, or as many as ``shards``."""

    class Stopping(HashingEncoder):
        calls = 0

        def encode_passages(self, *arguments: object, **named: object) -> NDArray[np.float32]:
            self.calls += 1
            if self.calls > shards:
                raise Stopped
            return super().encode_passages(*arguments, **named)  # type: ignore[arg-type]

    with pytest.raises(Stopped):
        encode_corpus(folder, ListCorpus(PASSAGES), Stopping(), OPTIONS)


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    stopped(tmp_path / "v")
    assert encode(tmp_path / "v").resumed_from == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard_size": 5}, "were begun with shard size 10, and this command has 5"),
        ({"precision": "bf16"}, "were begun with precision fp32, and this command has bf16"),
    ],
)
def test_an_unfinished_folder_goes_on_only_with_the_same_options(
    tmp_path: Path, change: dict[str, int | str], words: str
) -> None:
    stopped(tmp_path / "v")
    with pytest.raises(UsageError, match=words):
        encode(tmp_path / "v", PASSAGES, **change)


@pytest.mark.parametrize("place", [3, 17])
def test_an_unfinished_folder_refuses_another_corpus(tmp_path: Path, place: int) -> None:
    stopped(tmp_path / "v")
    changed = [*PASSAGES]
    changed[place] = changed[place]._replace(text="other words")
    before = contents(tmp_path / "v")
    with pytest.raises(DataError, match=r"what is read differs in small\.jsonl:.* give the same"):
        encode(tmp_path / "v", changed)
    with pytest.raises(DataError, match="the passages end before"):
        encode(tmp_path / "v", PASSAGES[:10])
    assert contents(tmp_path / "v") == before


def test_a_finished_folder_and_one_in_use_are_left_alone(tmp_path: Path) -> None:
    encode(tmp_path / "v")
    before = contents(tmp_path / "v")
    with pytest.raises(UsageError, match="already holds the vectors of 45 passages made with ha"):
        encode(tmp_path / "v")
    assert contents(tmp_path / "v") == before
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").touch()
    with pytest.raises(UsageError, match="used is not empty; name a new folder"):
        encode(tmp_path / "used")


def test_an_id_that_comes_again_is_refused_or_left_out(tmp_path: Path) -> None:
    twice = [*PASSAGES, PASSAGES[7]]
    with pytest.raises(DataError, match=r"small\.jsonl:46: expected an id not .* \(first at row 7"):
        encode(tmp_path / "v", twice)
    report = encode(tmp_path / "w", twice, skip_duplicates=True)
    assert (report.vectors, report.skipped_duplicates) == (45, 1)


def test_no_passages_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one of the passages, found none"):
        encode(tmp_path / "v", [])
    assert not (tmp_path / "v").exists()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    encode(tmp_path / "v")
    path = tmp_path / "v" / "000001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"000001\.npy: expected the file with the SHA-256"):
        open_vectors([tmp_path / "v"], copies=tmp_path)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (b"no json", "expected JSON"),
        (b"{}", "expected the format 'rocketrank-vectors', found none"),
        ({"format_version": 2}, "written by format 2"),
        ({"width": "16"}, "found '16' as width"),
        ({"side": "both"}, "found the side 'both'"),
        ({"shards": [{"vectors": "../x"}]}, "found None as ids"),
    ],
)
def test_another_note_is_refused_in_words(
    tmp_path: Path, change: bytes | dict[str, object], error: str
) -> None:
    encode(tmp_path / "v")
    path = tmp_path / "v" / "vectors.json"
    if isinstance(change, dict):
        change = orjson.dumps({**orjson.loads(path.read_bytes()), **change})
    path.write_bytes(change)
    with pytest.raises(RocketRankError, match=error):
        open_vectors([tmp_path / "v"], copies=tmp_path)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True))
def test_any_ids_come_back(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    vectors = np.arange(len(ids), dtype=np.float32)[:, np.newaxis]
    note = VectorsNote(model="m", fingerprint="f", precision="", width=1, side="passages")
    write_note(folder, note, [write_shard(folder, 0, ids, vectors)])
    files = open_vectors([folder], copies=folder)
    assert np.array_equal(files.of_ids(ids), vectors)
    assert [passage.id for _, passage in files.passages()] == ids


def test_a_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path / "v")
    descriptor = os.open(tmp_path / "v", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(RocketRankError, match=r"v: cannot be locked .* the other process"):
            encode(tmp_path / "v")
    finally:
        os.close(descriptor)
    assert encode(tmp_path / "v").vectors == 45
