"""Vectors kept as float16 and int8: what is lost, and that nothing more is lost later."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rocketrank.errors import DataError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    Index,
    PassageList,
    add_passages,
    build_index,
    compact,
    delete_passages,
)
from rocketrank.index.vectors import VECTOR_TYPES, VectorType, packed, unpacked

from .small_index import HashingEncoder, ListCorpus, TableEncoder, sentences

VECTORS = np.random.default_rng(3).normal(size=(400, 48)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def built(directory: Path, vector_type: VectorType, kind: str = "flat") -> Path:
    passages = PassageList(
        [passage._replace(text=str(row)) for row, passage in enumerate(sentences(400))]
    )
    options = BuildOptions(kind=kind, shard_size=150, vectors=vector_type)
    build_index(directory, passages, TableEncoder(VECTORS), options)
    return directory


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 9)),
        elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
    )
)
def test_what_was_stored_once_is_stored_again_with_the_same_bytes(vectors: np.ndarray) -> None:  # type: ignore[type-arg]
    for vector_type in VECTOR_TYPES:
        once = packed(vectors, vector_type)
        again = packed(unpacked(once), vector_type)
        assert again.tobytes() == once.tobytes()


def test_int8_is_off_by_half_a_step_of_the_vector_s_own_scale_at_most() -> None:
    steps = np.abs(VECTORS).max(axis=1, keepdims=True) / 127
    error = np.abs(unpacked(packed(VECTORS, "int8")) - VECTORS)
    # The scale is rounded up to 16 bits of mantissa.
    assert (error <= steps / 2 * (1 + 2**-15) + 1e-9).all()


def test_a_zero_vector_stays_one() -> None:
    zeros = np.zeros((2, 4), dtype=np.float32)
    assert (unpacked(packed(zeros, "int8")) == 0).all()


def test_numbers_beyond_float16_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="vector type float16 can hold numbers up to 65504"):
        packed(np.array([[1e6]], dtype=np.float32), "float16")


def test_every_finite_float16_is_read_as_numpy_reads_it() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, np.newaxis]
    assert unpacked(halves).tobytes() == halves.astype(np.float32).tobytes()


@pytest.mark.parametrize("vector_type", VECTOR_TYPES)
def test_rows_in_any_order_and_twice_are_gathered_from_several_files(
    tmp_path: Path, vector_type: VectorType
) -> None:
    rows = np.random.default_rng(1).integers(400, size=900)
    with Index.open(built(tmp_path / "index", vector_type)) as index:
        vectors = index._segments[0].vectors
        assert len(vectors._paths) == 3
        expected = unpacked(packed(VECTORS, vector_type))[rows]
        assert np.array_equal(vectors.gather(rows), expected)


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_a_vector_that_is_damaged_is_never_a_hit(tmp_path: Path, vector_type: VectorType) -> None:
    """All bits of an exponent set, which neither type has for a number."""
    directory = built(tmp_path / "index", vector_type)
    file = next(directory.rglob("*1.npy"))
    stored = np.load(file)
    stored[7, 3] = np.inf
    np.save(file, stored)
    with (
        Index.open(directory) as index,
        pytest.raises(DataError, match=r"damaged: run rq verify, which names them, and rq repair"),
    ):
        index.search(VECTORS[7:8], 400)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
@pytest.mark.parametrize("vector_type", ["float16", "int8"])
def test_scores_are_inner_products_of_what_is_stored(
    tmp_path: Path, vector_type: VectorType, kind: str
) -> None:
    queries = VECTORS[:7]
    stored = unpacked(packed(VECTORS, vector_type)).astype(np.float64)
    exact = (stored[np.newaxis] * queries[:, np.newaxis].astype(np.float64)).sum(axis=2)
    with Index.open(built(tmp_path / "index", vector_type, kind)) as index:
        found = index.search(queries, 10)
    expected = np.take_along_axis(exact.astype(np.float32), found.rows, axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
    if kind == "flat":
        order = np.argsort(-exact.astype(np.float32), axis=1, kind="stable")[:, :10]
        assert found.rows.tolist() == order.tolist()


@pytest.mark.parametrize(("vector_type", "share"), [("float16", 1 / 2), ("int8", 52 / 192)])
def test_vectors_take_a_half_or_a_quarter_and_their_scale(
    tmp_path: Path, vector_type: VectorType, share: float
) -> None:
    def taken(name: VectorType) -> int:
        with Index.open(built(tmp_path / name, name)) as index:
            [segment] = index.manifest.segments
            return sum(file.bytes for file in segment.vectors)

    heads = 3 * 192  # NumPy's header of each file, at most
    assert taken(vector_type) <= taken("float32") * share + heads


@pytest.mark.parametrize("vector_type", VECTOR_TYPES)
def test_changes_keep_the_type_and_compacting_changes_no_score(
    tmp_path: Path, vector_type: VectorType
) -> None:
    directory, encoder = tmp_path / "index", HashingEncoder()
    options = BuildOptions(shard_size=10, vectors=vector_type)
    build_index(directory, ListCorpus(sentences(40)), encoder, options)
    add_passages(directory, ListCorpus(sentences(60)), encoder, ChangeOptions(shard_size=10))
    delete_passages(directory, ["doc-3", "doc-50"], ChangeOptions())
    queries = encoder.encode_passages(["w1 w2", "w3 w4 w5"])
    found = []
    for _ in range(2):
        with Index.open(directory) as index:
            assert index.manifest.vectors == vector_type
            result = index.search(queries, 58)
            ids = [[p.id for p in index.passages(rows)] for rows in result.rows.tolist()]
            found.append((ids, result.scores.tobytes()))
        compact(directory, ChangeOptions(shard_size=10))
    assert found[0] == found[1]
