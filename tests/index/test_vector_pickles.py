"""Pickles are read and never run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.errors import DataError
from rocketrank.index.vector_pickles import read_pickle, write_pickle

from .vector_formats import random_vectors


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["vectors", "ids", "whole"])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_does_not_run(
    tmp_path: Path, place: str
) -> None:
    bad = Malicious(tmp_path / "it-ran")
    content = {"vectors": (bad, ["a"]), "ids": (random_vectors(1), [bad]), "whole": bad}[place]
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"asks for posix\.system, which was not run"):
        read_pickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "it-ran").exists()
    pickle.loads((tmp_path / "bad.pkl").read_bytes())  # the usual loader does run it
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f2"])
def test_arrays_of_every_protocol_are_what_the_usual_loader_makes(
    tmp_path: Path, protocol: int, order: str, kind: str
) -> None:
    array = np.array(random_vectors(5), dtype=kind, order="F" if order == "F" else "C")
    content = pickle.dumps((array, ["a", "b", "c", "d", "e"]), protocol=protocol)
    (tmp_path / "e.pkl").write_bytes(content)
    vectors, ids = read_pickle(tmp_path / "e.pkl")
    assert np.array_equal(vectors, pickle.loads(content)[0].astype(np.float32))
    assert ids == ["a", "b", "c", "d", "e"]


def test_a_pickle_of_numpy_2_is_read(tmp_path: Path) -> None:
    """NumPy 2 writes the same calls from ``numpy._core``."""
    array = random_vectors(2)
    content = pickle.dumps((array, ["a", "b"]), protocol=2)
    moved = content.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    assert moved != content
    (tmp_path / "e.pkl").write_bytes(moved)
    assert np.array_equal(read_pickle(tmp_path / "e.pkl")[0], array)


def test_what_is_written_is_what_the_usual_loader_reads(tmp_path: Path) -> None:
    vectors = random_vectors(3)
    write_pickle(tmp_path / "e.pkl", vectors, ["a", "b", "c"])
    found, ids = pickle.loads((tmp_path / "e.pkl").read_bytes())
    assert (found.dtype, found.tobytes(), ids) == (np.float32, vectors.tobytes(), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2, 3], "found a list"),
        ((np.zeros((2, 3)), ["a", "b"]), "numbers of type f8"),
        ((np.zeros(2, dtype=np.float32), ["a", "b"]), r"an array of shape \(2,\)"),
        ((np.array([["a"]], dtype=object), ["a"]), "numbers of type O8"),
        (("text", ["a"]), "found a str in place of the array"),
        ((np.zeros((1, 3), dtype=np.float32), "a"), "found a str in place of the ids"),
        ((np.zeros((1, 3), dtype=np.float32), [1.5]), r"row 0: expected an id, found 1\.5"),
        ((np.zeros((1, 3), dtype=np.float32), [("a", 0)]), "a part of a document"),
        (([], []), "rows that make no array"),
    ],
)
def test_other_contents_are_refused_in_words(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "e.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words):
        read_pickle(tmp_path / "e.pkl")


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 400), byte=st.integers(0, 255), length=st.integers(0, 400))
def test_a_damaged_pickle_is_an_error_of_ours_or_still_an_array(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, length: int
) -> None:
    content = bytearray(pickle.dumps((random_vectors(4), ["a", "b", "c", "d"])))
    content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content[: len(content) - length % len(content)])
    try:
        vectors, ids = read_pickle(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert vectors.ndim == 2
        assert all(isinstance(each, str) for each in ids)
