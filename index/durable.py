"""Writing files so that a reader, or the next run after a power cut, never meets half of one.

Every file is written beside its place as ``NAME.partial``, fsynced, renamed over its place, and
then the folder is fsynced, because on POSIX a rename is durable only when its folder is.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RocketRankError

PARTIAL = ".partial"
_CURABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
_CHUNK = 1 << 20


@contextmanager
def explained_write(path: Path) -> Iterator[None]:
    """Turns an operating system's error while writing ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        cure = (
            "make room or give write permission, then run the same command again; it goes on "
            "where it stopped"
            if error.errno in _CURABLE
            else "name another folder"
        )
        raise RocketRankError(
            f"{path}: cannot be written ({error.strerror or error}): {cure}"
        ) from error


def fsync_folder(folder: Path) -> None:
    """Makes creations, renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates ``folder`` durably if it is not there; its parent exists."""
    with explained_write(folder):
        if not folder.is_dir():
            folder.mkdir()
            fsync_folder(folder.parent)


def write_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Replaces ``path`` by the concatenated ``chunks`` in one step."""
    partial = path.with_name(path.name + PARTIAL)
    with explained_write(path):
        with open(partial, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
        put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Renames the closed file ``partial`` to ``path`` durably."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    fsync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
