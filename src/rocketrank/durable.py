"""Writing files so that a reader, or the next run after a power cut, never meets half of one.

Every file or folder is written beside its place, fsynced, renamed over its place, and then the
folder around it is fsynced, because on POSIX a rename is durable only when its folder is. Where one
process alone writes, the place beside is ``NAME.partial``, which the run after a kill uses again;
where several may, it is ``.NAME.<random>.partial``.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RocketRankError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTIAL = ".partial"
_CURABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
_CHUNK = 1 << 20


@contextmanager
def explained_write(path: Path, cure: str | None = None) -> Iterator[None]:
    """Turns an operating system's error while writing ``path`` into one sentence."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has gone: nobody is left to tell
        raise
    except OSError as error:
        usual = (
            "make room or give write permission, then run the same command again; it goes on "
            "where it stopped"
            if error.errno in _CURABLE
            else "name another folder"
        )
        raise RocketRankError(
            f"{path}: cannot be written ({error.strerror or error}): {cure or usual}"
        ) from error


def check_new_folder(target: Path) -> None:
    """UsageError unless ``target`` is free for a folder: not there, or an empty folder."""
    if target.is_dir():
        if any(target.iterdir()):
            raise UsageError(f"{target} is not empty; name a new folder")
    elif target.exists():
        raise UsageError(f"{target} is a file; name a new folder")


def fsync(place: Path) -> None:
    """Makes a file's content, or creations, renames and removals in a folder, durable."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates ``folder`` durably if it is not there, and those above it."""
    with explained_write(folder):
        missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            fsync(each.parent)


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Gives the place of what is renamed to ``path``, file or folder, when the block ends well.

    ``alone`` says that no other process writes ``path``. When the block fails, nothing is left.
    Raises OSError.
    """
    partial = _beside(path, alone)
    try:
        yield partial
        put_in_place(partial, path)
    except BaseException:
        _remove(partial)
        raise


def put_in_place(partial: Path, path: Path) -> None:
    """Renames the closed file, or the folder, ``partial`` to ``path`` durably. Raises OSError."""
    for place in (*partial.rglob("*"), partial):
        fsync(place)
    os.replace(partial, path)
    fsync(path.parent)


def write_durably(
    path: Path,
    chunks: Iterable[bytes | memoryview],
    *,
    alone: bool = False,
    cure: str | None = None,
) -> None:
    """Replaces ``path`` by the concatenated ``chunks`` in one step.

    Links are followed; a pipe or a device is written into. What ``chunks`` raises is passed on:
    only what is wrong with the file becomes a sentence, with ``cure`` at its end.
    """
    with explained_write(path, cure):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        in_place = _must_be_written_in_place(path)
        target = path if in_place else path.resolve()
        partial = target if in_place else _beside(target, alone)
        file = open(partial, "wb")  # noqa: SIM115
    try:
        for chunk in chunks:
            with explained_write(path, cure):
                file.write(chunk)
        with explained_write(path, cure):
            file.close()
            if not in_place:
                put_in_place(partial, target)
    except BaseException:
        with suppress(OSError):  # a second word about what could not be written
            file.close()
        if not in_place:
            _remove(partial)
        raise


def save_tensors(
    path: Path, tensors: "Mapping[str, NDArray[Any]]", metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file, not yet durable, with the mode of any new file. Raises OSError.

    The library itself writes from the arrays' first byte on, whatever their strides, gives the
    file mode 0600, and has an error of its own with the system's number in its text.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode & 0o777
    try:
        contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        save_file(contiguous, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    path.chmod(mode)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _beside(path: Path, alone: bool) -> Path:
    return path.with_name(
        path.name + PARTIAL if alone else f".{path.name}.{secrets.token_hex(4)}{PARTIAL}"
    )


def _remove(partial: Path) -> None:
    with suppress(OSError):  # a second word about what could not be written
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _must_be_written_in_place(path: Path) -> bool:
    """Whether renaming onto ``path`` would put a file in the place of a device or a pipe."""
    systems = path.is_relative_to("/dev") or path.is_relative_to("/proc")
    if systems and not path.is_relative_to("/dev/shm"):
        return True  # /dev/stdout and /dev/fd/63 lead to names that are no files
    return path.exists() and not path.is_file()
