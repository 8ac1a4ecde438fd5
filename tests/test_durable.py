"""What is written appears whole or not at all, and what was there before stays until then."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from rocketrank.durable import (
    make_folder,
    put_in_place,
    replacing,
    save_tensors,
    sha256_of,
    write_durably,
)
from rocketrank.errors import RocketRankError


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The syncs and renames that are made, each with the name of what it is made to."""
    made: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor: int) -> None:
        made.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def noting_replace(source: Path, target: Path) -> None:
        made.append(("replace", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    return made


def test_a_file_is_synced_then_renamed_and_then_its_folder_is_synced(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    write_durably(tmp_path / "file", [b"one ", memoryview(b"two")], alone=True)
    assert calls == [("fsync", "file.partial"), ("replace", "file"), ("fsync", tmp_path.name)]
    assert (tmp_path / "file").read_bytes() == b"one two"


def test_all_in_a_folder_is_synced_before_the_folder_is_renamed(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    with replacing(tmp_path / "model", alone=True) as partial:
        (partial / "query").mkdir(parents=True)
        (partial / "query" / "weights").write_bytes(b"1")
        (partial / "settings").write_bytes(b"2")
    everything = {"query", "weights", "settings", "model.partial"}
    assert {name for _, name in calls[:4]} == everything
    assert calls[4:] == [("replace", "model"), ("fsync", tmp_path.name)]
    assert names(tmp_path) == ["model", "model/query", "model/query/weights", "model/settings"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("way", ["file", "folder"])
def test_when_the_system_refuses_the_old_one_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, way: str
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def refusing(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refusing)
    if way == "file":
        with pytest.raises(RocketRankError, match=r"file: cannot be written \(No space left on"):
            write_durably(tmp_path / "file", [b"new"])
    else:
        with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "x") as partial:
            partial.mkdir()
            (partial / "inner").write_bytes(b"new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_an_error_of_the_source_is_passed_on_and_nothing_is_left(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError("the source is gone")

    with pytest.raises(OSError, match=r"^the source is gone$"):
        write_durably(tmp_path / "file", failing())
    assert names(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "model") as partial:
        partial.mkdir()
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one"


def test_what_a_killed_run_left_is_written_over_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"half of something that was longer")
    write_durably(tmp_path / "file", [b"whole"], alone=True)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    write_durably(tmp_path / "link", [b"text"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"text"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write_durably, args=(tmp_path / "pipe", [b"text"]))
    writer.start()
    assert (tmp_path / "pipe").read_bytes() == b"text"
    writer.join()
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_in_the_place_of_a_file_is_refused_before_the_source_is_read(
    tmp_path: Path,
) -> None:
    def unread() -> Iterator[bytes]:
        pytest.fail("read")
        yield b""

    with pytest.raises(RocketRankError, match=r"cannot be written \(Is a directory\): name an"):
        write_durably(tmp_path, unread(), cure="name another file")


def test_folders_are_made_with_those_above_them(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert names(tmp_path) == ["a", "a/b"]
    assert calls == [("fsync", tmp_path.name), ("fsync", "a")]


def test_a_file_in_the_place_of_a_folder_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RocketRankError, match=r"file: cannot be written \(File exists\): name an"):
        make_folder(tmp_path / "file")


def test_tensors_keep_their_order_whatever_their_strides(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors: dict[str, NDArray[Any]] = {
        "turned": array.T,
        "part": array[::2, 1:3],
        "number": np.asarray(np.float16(3)),
    }
    save_tensors(tmp_path / "file", tensors, {"format": "pt"})
    loaded = load_file(tmp_path / "file")
    for name, tensor in tensors.items():
        assert loaded[name].shape == tensor.shape
        np.testing.assert_array_equal(loaded[name], tensor, strict=True)


def test_tensors_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_tensors(tmp_path / "file", {"x": np.zeros(2)})
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_tensors_without_a_folder_are_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_tensors(tmp_path / "none" / "file", {"x": np.zeros(2)})


def test_the_digest_is_the_published_one_of_abc(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    (tmp_path / "partial").write_bytes(b"abc")
    put_in_place(tmp_path / "partial", tmp_path / "file")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "file") == digest
