"""A build killed at any point goes on where it stopped, or says why it cannot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import BuildOptions, Index, build_index, verify_index
from rocketrank.index import encoding as encoding_module

from .small_index import HashingEncoder, ListCorpus, build, files, sentences

SCRIPT = Path(__file__).with_name("small_index.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"


def command(directory: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Starts a build of 600 passages in 20 shards."""
    return subprocess.Popen(
        [sys.executable, SCRIPT, directory, "600", "30", "ivf", str(seconds)],
        env={"PYTHONPATH": str(SOURCE)},
    )


class Stopped(Exception):
    """Stands for whatever ends a run between two shards."""


class StoppingEncoder(HashingEncoder):
    """Encodes two shards, or as many as ``shards``, and then stops."""

    calls = 0
    shards = 2

    def encode_passages(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls > self.shards:
            raise Stopped
        return super().encode_passages(texts, titles)


def unfinished(directory: Path, *, overwrite: bool = False) -> None:
    """Leaves a build of ``sentences(45)`` with rows 0 to 19 committed."""
    options = BuildOptions(shard_size=10, overwrite=overwrite)
    with pytest.raises(Stopped):
        build_index(directory, ListCorpus(sentences(45)), StoppingEncoder(), options)


def test_shards_of_one_size_that_a_version_before_left_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = StoppingEncoder()
    encoder.shards = 25
    with monkeypatch.context() as before, pytest.raises(Stopped):
        before.setattr(encoding_module, "_SHARDS_OF_A_SIZE", 1000)
        options = BuildOptions(shard_size=1)
        build_index(tmp_path / "index", ListCorpus(sentences(45)), encoder, options)
    report = build(tmp_path / "index", sentences(45), shard_size=1)
    assert (report.resumed_from, report.passages) == (25, 45)
    assert verify_index(tmp_path / "index", HashingEncoder()).problems == ()


def test_killed_at_many_points_it_ends_with_the_bytes_of_an_uninterrupted_build(
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(whole, 0).wait() == 0
    random = np.random.default_rng(11)
    kills = 0
    for attempt in range(6):
        shards = len(list(killed.glob("segments/000001/vectors/*.npy")))
        process = command(killed, 0.02)
        deadline = time.monotonic() + 20
        # Wait for progress, so that each kill hits another place and the loop moves on; every
        # second time for a transaction that is under way.
        while process.poll() is None and time.monotonic() < deadline:
            now = len(list(killed.glob("segments/000001/vectors/*.npy")))
            journal = killed / "segments/000001/passages.sqlite-journal"
            if now > shards + random.integers(3) and (attempt % 2 or journal.exists()):
                break
            time.sleep(0.0005)
        if attempt % 2:
            time.sleep(random.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += process.returncode == -signal.SIGKILL
        if not (killed / "manifest.json").exists():
            with pytest.raises(
                DataError, match="this index is unfinished: run the same `rq index`"
            ):
                Index.open(killed)
    assert kills >= 4
    assert command(killed, 0).wait() == 0
    assert files(killed) == files(whole)


def stopped_at_each(
    call: str, monkeypatch: pytest.MonkeyPatch, run: Callable[[int], None]
) -> Iterator[int]:
    """Calls ``run(n)`` for n = 1, 2, …, ended before its n+1st ``os.call``; yields each n."""
    original = getattr(os, call)
    for allowed in range(1, 100):
        calls = 0

        def stopping(*arguments: object, allowed: int = allowed) -> object:
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise Stopped
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, stopping)
            try:
                run(allowed)
                return
            except Stopped:
                pass
        yield allowed


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_stopped_at_each_system_call_it_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    passages = sentences(45)
    build(tmp_path / "whole", passages)

    def run(number: int) -> None:
        build(tmp_path / str(number), passages)

    for number in stopped_at_each(call, monkeypatch, run):
        if not (tmp_path / str(number) / "manifest.json").exists():
            build(tmp_path / str(number), passages)
        assert files(tmp_path / str(number)) == files(tmp_path / "whole")


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink", "rmdir"])
def test_stopped_at_each_system_call_of_overwriting_there_is_the_old_index_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    old, new = sentences(25), sentences(45)[::-1]

    def run(number: int) -> None:
        build(tmp_path / str(number), old)
        build(tmp_path / str(number), new, overwrite=True)

    for number in stopped_at_each(call, monkeypatch, run):
        directory = tmp_path / str(number)
        if (directory / "manifest.json").exists():
            with Index.open(directory) as index:
                assert index.passages(range(len(index))) in (old, new)
        build(directory, new, overwrite=True)
        with Index.open(directory) as index:
            assert index.passages(range(len(index))) == new
        names = {path.name for path in directory.iterdir()}
        assert names == {"commits", "manifest.json", "segments", "write.lock"}
        assert len(list((directory / "segments").iterdir())) == 1


def test_going_on_reports_what_was_there_and_does_not_encode_it_again(tmp_path: Path) -> None:
    unfinished(tmp_path / "index")
    report = build(tmp_path / "index", sentences(45))
    assert (report.passages, report.resumed_from) == (45, 20)


def test_an_unfinished_index_is_refused_when_the_corpus_differs(tmp_path: Path) -> None:
    unfinished(tmp_path / "index")
    changed = sentences(45)
    changed[13] = changed[13]._replace(text="changed")
    sentence = (
        r"expected the passages of the unfinished index in rows 10 to 19, found others "
        r"\(the corpus differs in small\.jsonl:11 to small\.jsonl:20\): .* --overwrite"
    )
    with pytest.raises(DataError, match=sentence):
        build(tmp_path / "index", changed)
    report = build(tmp_path / "index", changed, overwrite=True)
    assert (report.passages, report.resumed_from) == (45, 10)
    with Index.open(tmp_path / "index") as index:
        assert index.passages(range(45)) == changed


def test_an_unfinished_index_is_refused_when_the_corpus_is_shorter(tmp_path: Path) -> None:
    unfinished(tmp_path / "index")
    with pytest.raises(DataError, match=r"rows 10 to 19, found others \(the corpus ends before it"):
        build(tmp_path / "index", sentences(10))


def test_overwriting_an_unfinished_index_with_the_corpus_in_another_order(tmp_path: Path) -> None:
    unfinished(tmp_path / "index")
    turned = sentences(45)[::-1]
    assert build(tmp_path / "index", turned, overwrite=True).resumed_from == 0
    with Index.open(tmp_path / "index") as index:
        assert index.passages(range(45)) == turned


@pytest.mark.parametrize(
    ("encoder", "options", "sentence"),
    [
        (HashingEncoder(fingerprint="c" * 64), {}, r"begun with model hashing \(a{12}\), and "
         r"this command has hashing \(cccccccccccc\)"),
        (HashingEncoder(dim=8), {}, "begun with width 16, and this command has 8"),
        (HashingEncoder(), {"shard_size": 7}, "begun with shard size 10, and this command has 7"),
    ],
)  # fmt: skip
def test_an_unfinished_index_is_refused_when_model_or_options_differ(
    tmp_path: Path, encoder: HashingEncoder, options: dict[str, int], sentence: str
) -> None:
    unfinished(tmp_path / "index")
    chosen = BuildOptions(**{"shard_size": 10, **options})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=sentence):
        build_index(tmp_path / "index", ListCorpus(sentences(45)), encoder, chosen)
    again = BuildOptions(**{"shard_size": 10, "overwrite": True, **options})  # type: ignore[arg-type]
    report = build_index(tmp_path / "index", ListCorpus(sentences(45)), encoder, again)
    assert (report.passages, report.resumed_from) == (45, 0)


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_a_damaged_vector_file_is_found_when_going_on(tmp_path: Path, damage: str) -> None:
    unfinished(tmp_path / "index")
    path = tmp_path / "index/segments/000001/vectors/000001.npy"
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(DataError, match=r"000001\.npy is missing or damaged"):
        build(tmp_path / "index", sentences(45))
    assert build(tmp_path / "index", sentences(45), overwrite=True).resumed_from == 10


def test_a_damaged_ledger_is_found_when_going_on(tmp_path: Path) -> None:
    unfinished(tmp_path / "index")
    path = tmp_path / "index/segments/000001/passages.sqlite"
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 5000)
    with pytest.raises(RocketRankError, match="found a damaged file"):
        build(tmp_path / "index", sentences(45))
    assert build(tmp_path / "index", sentences(45), overwrite=True).resumed_from == 0


def test_a_stopped_overwriting_goes_on_and_the_old_index_stays(tmp_path: Path) -> None:
    build(tmp_path / "index", sentences(5))
    unfinished(tmp_path / "index", overwrite=True)
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 5
    report = build(tmp_path / "index", sentences(45), overwrite=True)
    assert (report.passages, report.resumed_from) == (45, 20)
