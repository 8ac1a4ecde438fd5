"""Lines from files and streams: compression, encodings, damage, and that nothing is read ahead."""

import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data.lines import LineFile, check_paths, iter_lines
from rocketrank.errors import DataError, UsageError

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstandard": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
}
# Any character but those that end a line or are refused.
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\ufeff"), min_size=1)


def read(path: Path) -> list[str]:
    lines = list(iter_lines(path))
    assert [number for number, _ in lines] == list(range(1, len(lines) + 1))
    return [line for _, line in lines]


def read_bytes(folder: Path, content: bytes) -> list[str]:
    path = folder / "file"
    path.write_bytes(content)
    return read(path)


@pytest.mark.parametrize("compression", COMPRESSORS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, max_size=30))
def test_lines_come_back_from_every_compression(
    tmp_path: Path, compression: str, lines: list[str]
) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    assert read_bytes(tmp_path, COMPRESSORS[compression](content)) == lines


@pytest.mark.parametrize("compression", ["gzip", "zstandard", "xz"])
def test_members_one_after_another_are_one_file(tmp_path: Path, compression: str) -> None:
    compress = COMPRESSORS[compression]
    members = compress(b"one\ntw") + compress(b"") + compress(b"o\nthree\n")
    assert read_bytes(tmp_path, members) == ["one", "two", "three"]


@pytest.mark.parametrize("compression", ["gzip", "zstandard", "xz"])
def test_large_members_one_after_another_are_one_file(tmp_path: Path, compression: str) -> None:
    texts = ["".join(f"{os.urandom(20).hex()}\n" for _ in range(5_000)) for _ in range(4)]
    members = b"".join(COMPRESSORS[compression](text.encode()) for text in texts)
    assert read_bytes(tmp_path, members) == "".join(texts).split("\n")[:-1]


def test_zero_padding_after_gzip_is_ignored(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, gzip.compress(b"one\n") + bytes(512)) == ["one"]


@pytest.mark.parametrize("compression", ["gzip", "zstandard", "xz"])
def test_truncated_compression_is_named_with_file_and_line(
    tmp_path: Path, compression: str
) -> None:
    text = "".join(f"{os.urandom(20).hex()}\n" for _ in range(50_000)).encode()
    path = tmp_path / "cut"
    content = COMPRESSORS[compression](text)
    path.write_bytes(content[: len(content) // 2])
    lines: list[tuple[int, str]] = []
    with pytest.raises(DataError, match="truncated") as caught:
        for line in iter_lines(path):
            lines.append(line)
    assert [line for _, line in lines] == text.decode().split("\n")[: len(lines)]
    assert len(lines) > 10_000
    assert str(caught.value).startswith(f"{path}:{len(lines) + 1}: expected the end of the ")


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstandard"])
def test_damaged_compression_is_an_error(tmp_path: Path, compression: str) -> None:
    with_checksum = zstandard.ZstdCompressor(write_checksum=True).compress
    compress = {**COMPRESSORS, "zstandard": with_checksum}[compression]
    content = bytearray(compress(b"line\n" * 100))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DataError, match="damaged data"):
        read_bytes(tmp_path, bytes(content))


def test_other_bytes_after_gzip_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the end of the gzip data, found other bytes"):
        read_bytes(tmp_path, gzip.compress(b"one\n") + b"more")


def test_crlf_ends_a_line_and_other_characters_do_not(tmp_path: Path) -> None:
    content = "one\r\ntwo\x85\u2028\x0b\x0c\x1c.\rthree\r\n".encode()
    assert read_bytes(tmp_path, content) == ["one", "two\x85\u2028\x0b\x0c\x1c.\rthree"]


@pytest.mark.parametrize("content", [b"one\ntwo", b"one\r\ntwo\r"])
def test_the_last_line_may_lack_its_end(tmp_path: Path, content: bytes) -> None:
    assert read_bytes(tmp_path, content) == ["one", "two"]


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_utf8_mark_is_dropped(tmp_path: Path, compression: str) -> None:
    assert read_bytes(tmp_path, COMPRESSORS[compression](b"\xef\xbb\xbfone\n")) == ["one"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_an_error_that_says_how_to_convert(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"UTF-16 text: convert it with `iconv"):
        read_bytes(tmp_path, "\ufeffone\n".encode(encoding))


@pytest.mark.parametrize("start", [b"PK\x03\x04 zip..", b"BZh91AY&SY", b"PAR1...."])
def test_containers_of_other_kinds_are_named(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(DataError, match=r"expected lines of UTF-8 text, found .* first"):
        read_bytes(tmp_path, start)


def test_invalid_utf8_is_an_error_with_line_and_byte_after_the_lines_before(tmp_path: Path) -> None:
    path = tmp_path / "latin1.tsv"
    path.write_bytes("1\tgut\n2\tschön\n".encode("latin-1"))
    lines = iter_lines(path)
    assert next(lines) == (1, "1\tgut")
    with pytest.raises(DataError, match=r"latin1\.tsv:2: .* found the byte 0xf6 at byte 5 "):
        next(lines)


def test_a_nul_byte_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file:2: expected text, found a NUL byte"):
        read_bytes(tmp_path, b"one\ntw\0o\nthree\n")


def test_blank_lines_at_the_end_are_ignored(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b"one\n\n\r\n\n") == ["one"]


def test_a_blank_line_elsewhere_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file:2: expected no blank line"):
        read_bytes(tmp_path, b"one\n\n\nfour\n")


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_an_empty_file_has_no_lines(tmp_path: Path, compression: str) -> None:
    assert read_bytes(tmp_path, COMPRESSORS[compression](b"")) == []


def test_a_file_without_line_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"x" * (1 << 27)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"zeros:1: expected lines of at most 64 MiB"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_file_of_34_mb_is_never_in_memory(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(COMPRESSORS[compression](b"a line that comes again and again\n" * 1_000_000))
    tracemalloc.start()
    try:
        lines = iter_lines(path)
        for _ in range(100_000):
            next(lines)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_pipe_gives_its_first_line_while_its_other_end_is_open(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    line_read = threading.Event()

    def feed() -> None:
        with open(path, "wb", buffering=0) as pipe:
            pipe.write(b"first line\nsecond")
            line_read.wait(timeout=10)

    feeder = threading.Thread(target=feed)
    feeder.start()
    file = LineFile(path)
    assert next(iter(file)) == (1, "first line")
    assert file.bytes_total is None
    assert not line_read.is_set()
    line_read.set()
    feeder.join()


def test_standard_input_may_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(gzip.compress(b"one\ntwo\n")))
    monkeypatch.setattr(sys, "stdin", stream)
    assert [line for _, line in iter_lines("-")] == ["one", "two"]


def test_standard_input_of_a_process_is_read() -> None:
    code = "from rocketrank.data.lines import iter_lines; print(sum(1 for _ in iter_lines('-')))"
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"x\n" * 1000,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    assert done.stdout == b"1000\n"


def test_bytes_read_reach_the_size_of_the_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"line\n" * 1000))
    file = LineFile(path)
    assert (file.bytes_read, file.bytes_total) == (0, path.stat().st_size)
    for _ in file:
        pass
    assert file.bytes_read == file.bytes_total


def test_a_missing_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.tsv: cannot be read: No such file"):
        iter_lines(tmp_path / "nowhere.tsv")


def test_a_directory_is_refused_with_the_file_to_give(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").touch()
    with pytest.raises(UsageError, match=r"found a directory; give one of its files: queries"):
        iter_lines(tmp_path)
    (tmp_path / "corpus.jsonl.gz").touch()
    with pytest.raises(UsageError, match=r"found a directory; give .*/corpus\.jsonl\.gz$"):
        iter_lines(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it holds no file to give"):
        iter_lines(tmp_path)


def test_standard_input_is_refused_twice() -> None:
    with pytest.raises(UsageError, match="only once"):
        check_paths(["-", "-"])
