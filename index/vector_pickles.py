"""Tevatron's encoded files: pickles of (array (n, dim), list of n ids), read and never run.

A pickle is a program, and its loader calls whatever the program names. Here nothing that it names
is imported: what NumPy's arrays are pickled with is answered by stand-ins of this module, which can
make an array of plain numbers and nothing else, and anything else is refused.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.lines import shown
from ..errors import DataError

PICKLE_START = b"\x80"
"""The first byte of a pickle of protocol 2 and above."""
_NUMBERS = ("f2", "f4")


class _ForbiddenError(Exception):
    """The pickle asks for ``args[0]``, which is no part of an array or a list."""


def read_pickle(path: Path) -> tuple[NDArray[np.float32], list[str]]:
    """The vectors (n, dim) and ids of one of Tevatron's files. DataError for any other content."""
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file).load()
    except _ForbiddenError as error:
        raise DataError(
            f"{path}: expected a pickle of a NumPy array and a list of ids, found one that asks "
            f"for {error.args[0]}, which was not run: take files that Tevatron's encode wrote"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check permissions") from error
    except Exception as error:  # what a damaged pickle raises is as manifold as its bytes
        raise _other(path, f"a file that cannot be unpickled ({shown(str(error))})") from error
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise _other(path, f"{_kind(content)}")
    vectors, ids = content
    return _vectors(path, vectors), _ids(path, ids)


def write_pickle(path: Path, vectors: NDArray[np.float32], ids: Sequence[str]) -> None:
    """Writes what Tevatron's encode writes. Raises OSError."""
    with open(path, "wb") as file:
        pickle.dump((np.ascontiguousarray(vectors), list(ids)), file, protocol=4)


class _Numbers:
    """Stands for ``numpy.dtype``: the type of an array's numbers."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code = str(code).lstrip("<>=|")
        self.order = str(code)[0] if str(code)[0] in "<>" else "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]


class _Array:
    """Stands for ``numpy.ndarray``; ``array`` is what it holds, once that is known."""

    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, numbers, by_columns, data = state
        self.array = _made(data, numbers, shape, "F" if by_columns else "C")


def _made(data: Any, numbers: Any, shape: Any, order: str = "C") -> NDArray[Any]:
    """The array of these bytes; ValueError where they do not fit."""
    if not isinstance(numbers, _Numbers) or numbers.code not in _NUMBERS:
        code = numbers.code if isinstance(numbers, _Numbers) else type(numbers).__name__
        raise ValueError(f"an array of numbers of type {code}, not float32 or float16")
    if not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array without its bytes")
    sizes = tuple(int(size) for size in shape)
    found = np.frombuffer(data, np.dtype(numbers.order + numbers.code))
    return found.reshape(sizes, order="F" if order == "F" else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, numbers: Any, shape: Any, order: Any = "C") -> _Array:
    found = _Array()
    found.array = _made(data, numbers, shape, order)
    return found


def _latin_bytes(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Numbers,
    ("_codecs", "encode"): _latin_bytes,
    # NumPy 2 has moved what arrays are pickled with.
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    """Loads arrays, lists, tuples, strings and integers."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str, /) -> Any:
        found = _STAND_INS.get((module, name))
        if found is None:
            raise _ForbiddenError(f"{module}.{name}")
        return found


def _vectors(path: Path, found: object) -> NDArray[np.float32]:
    """The array, or the list of the rows of one, that Tevatron's encoder on JAX writes."""
    try:
        if isinstance(found, list) and all(isinstance(each, _Array) for each in found):
            array = np.stack([each.array for each in found])
        elif isinstance(found, _Array):
            array = found.array
        else:
            raise _other(path, f"{_kind(found)} in place of the array")
    except (AttributeError, ValueError) as error:
        raise _other(path, f"rows that make no array ({error})") from error
    if array.ndim != 2:
        raise _other(path, f"an array of shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _ids(path: Path, found: object) -> list[str]:
    if not isinstance(found, list | tuple):
        raise _other(path, f"{_kind(found)} in place of the ids")
    for row, each in enumerate(found):
        if isinstance(each, tuple):
            raise DataError(
                f"{path}: row {row}: expected the id of a passage, found {shown(each)}, a part of "
                "a document: encode passages that have ids of their own"
            )
    return checked_ids(path, found)


def checked_ids(path: Path, listed: Sequence[object]) -> list[str]:
    """``listed`` as ids. DataError that names the row of what is none."""
    for row, each in enumerate(listed):
        if type(each) not in (str, int) or each == "":
            raise DataError(
                f"{path}: row {row}: expected an id, found {shown(each)}: mend the file"
            )
    return [str(each) for each in listed]


def _other(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: expected a pickle of a NumPy array (n, width) of float32 or float16 and a list "
        f"of n ids, found {found}: take files that Tevatron's encode wrote"
    )


def _kind(value: object) -> str:
    return "an array" if isinstance(value, _Array) else f"a {type(value).__name__}"
