"""Files of vectors are read by content, and what is wrong in them is named with file and row."""

import gzip
import json
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.index.vector_files import VectorFiles, open_vectors

from .vector_formats import (
    WRITERS,
    npy,
    pyserini_faiss,
    pyserini_json_lines,
    random_vectors,
    tevatron,
)

IDS = [f"doc {number}/é" for number in range(25)]


def opened(*paths: Path, ids: Path | None = None) -> VectorFiles:
    return open_vectors(paths, ids=ids, copies=paths[0].parent)


@pytest.mark.parametrize("name", WRITERS)
def test_vectors_are_read_by_id_in_any_order_to_the_last_bit(tmp_path: Path, name: str) -> None:
    vectors = random_vectors(25)
    files = opened(WRITERS[name](tmp_path, vectors, IDS))
    order = np.random.default_rng(1).permutation(25)
    assert len(files) == 25
    assert np.array_equal(files.of_ids([IDS[place] for place in order]), vectors[order])
    assert [passage.id for _, passage in files.passages()] == IDS


@pytest.mark.parametrize("name", WRITERS)
def test_one_file_of_it_can_be_named_instead_of_the_folder(tmp_path: Path, name: str) -> None:
    vectors = random_vectors(1)
    folder = WRITERS[name](tmp_path, vectors, ["a"])
    file = {
        "npy": "given.npy",
        "pyserini-faiss": "index",
        "pyserini-json-lines": "embeddings.jsonl",
        "tevatron": "corpus_emb.10.pkl",
    }[name]
    assert np.array_equal(opened(tmp_path / file).of_ids(["a"]), vectors)
    assert folder.exists()


def test_several_files_of_several_formats_follow_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    vectors, paths = random_vectors(20), []
    for number, (folder, write) in enumerate(zip(folders, WRITERS.values(), strict=True)):
        folder.mkdir()
        rows = slice(5 * number, 5 * number + 5)
        paths.append(write(folder, vectors[rows], IDS[rows]))
    files = opened(*paths)
    assert np.array_equal(files.of_ids(IDS[:20]), vectors)
    assert [passage.id for _, passage in files.passages()] == IDS[:20]


def test_float16_is_widened_exactly(tmp_path: Path) -> None:
    halves = random_vectors(3).astype(np.float16)
    np.save(tmp_path / "x.npy", halves)
    (tmp_path / "x.txt").write_text("a\nb\nc\n")
    found = opened(tmp_path / "x.npy").of_ids(["a", "b", "c"])
    assert found.dtype == np.float32
    assert np.array_equal(found, halves.astype(np.float32))


@pytest.mark.parametrize("numbers", [[7, 8], ["7", "8"]], ids=["integers", "strings"])
@pytest.mark.parametrize("form", ["npy", "json"])
def test_ids_may_be_a_list_of_json_or_an_array(
    tmp_path: Path, numbers: list[object], form: str
) -> None:
    np.save(tmp_path / "x.npy", random_vectors(2))
    if form == "npy":
        np.save(tmp_path / "x.ids.npy", np.array(numbers))
    else:
        (tmp_path / "x.ids.json").write_text(json.dumps(numbers))
    assert [passage.id for _, passage in opened(tmp_path).passages()] == ["7", "8"]


def test_ids_may_be_in_a_file_that_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", random_vectors(2))
    (tmp_path / "names").write_text("a\nb\n")
    files = opened(tmp_path / "x.npy", ids=tmp_path / "names")
    assert "b" in files
    with pytest.raises(UsageError, match=r"--ids \(.*names\) is for one \.npy file"):
        opened(tmp_path, ids=tmp_path / "names")


def test_json_lines_bring_their_contents_and_may_be_compressed(tmp_path: Path) -> None:
    records = [
        {"id": 1, "contents": "one text", "vector": [1.0, 2.0]},
        {"id": "2", "contents": ["title", "text"], "vector": [3, 4]},
    ]
    content = "".join(json.dumps(each) + "\n" for each in records).encode()
    (tmp_path / "part.jsonl.gz").write_bytes(gzip.compress(content))
    files = opened(tmp_path)
    assert files.has_texts
    found = [(place, passage.id, passage.text) for place, passage in files.passages()]
    path = tmp_path / "part.jsonl.gz"
    assert found == [(f"{path}: row 0", "1", "one text"), (f"{path}: row 1", "2", "title\ntext")]
    assert files.of_ids(["2"]).tolist() == [[3, 4]]


def test_tevatrons_list_of_rows_is_read(tmp_path: Path) -> None:
    vectors = random_vectors(3)
    (tmp_path / "e.pkl").write_bytes(pickle.dumps((list(vectors), ("a", "b", 3))))
    assert np.array_equal(opened(tmp_path / "e.pkl").of_ids(["a", "b", "3"]), vectors)


@pytest.mark.parametrize("kind", ["HNSW8", "IVF2,Flat"])
def test_other_faiss_structures_are_read_where_they_hold_the_vectors(
    tmp_path: Path, kind: str
) -> None:
    vectors = random_vectors(100)
    index = faiss.index_factory(8, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index"))
    (tmp_path / "docid").write_text("".join(f"{row}\n" for row in range(100)))
    assert np.array_equal(opened(tmp_path).of_ids(["99", "0"]), vectors[[99, 0]])


def test_faiss_structures_of_codes_and_of_distances_are_refused(tmp_path: Path) -> None:
    (tmp_path / "docid").write_text("a\n")
    vectors = random_vectors(1)
    for index, words in (
        (faiss.IndexScalarQuantizer(8, 0, faiss.METRIC_INNER_PRODUCT), "IndexScalarQuantizer, wh"),
        (faiss.IndexFlatL2(8), "found one of another metric"),
    ):
        index.train(vectors)
        index.add(vectors)
        faiss.write_index(index, str(tmp_path / "index"))
        with pytest.raises(DataError, match=words):
            opened(tmp_path)


def test_an_array_without_ids_is_refused_and_told_what_to_write(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", random_vectors(2))
    with pytest.raises(UsageError, match=r"write them to x\.ids\.txt, one a line .* with --ids"):
        opened(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["npy", "pyserini-faiss", "tevatron"])
def test_another_number_of_ids_than_of_vectors_is_refused(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path, random_vectors(3), ["a", "b", "c"])
    if name == "tevatron":
        path = tmp_path / "one.pkl"
        path.write_bytes(pickle.dumps((random_vectors(3), ["a", "b"])))
    else:
        (tmp_path / ("given.ids.txt" if name == "npy" else "docid")).write_text("a\nb\n")
    with pytest.raises(DataError, match="an id for each of its 3 vectors, found 2 ids"):
        opened(path)


def test_an_id_that_comes_again_is_named_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = pyserini_faiss(tmp_path / "first", random_vectors(2), ["a", "b"])
    (tmp_path / "second").mkdir()
    second = npy(tmp_path / "second", random_vectors(2), ["c", "b"])
    with pytest.raises(DataError) as error:
        opened(first, second)
    assert str(error.value).startswith(f"{second}: row 1: expected an id not seen before")
    assert f"found 'b', which {first / 'index'}: row 1 has too" in str(error.value)


def test_files_of_two_widths_are_refused(tmp_path: Path) -> None:
    tevatron(tmp_path, random_vectors(1), ["a"])
    npy(tmp_path, random_vectors(1, dim=5), ["b"])
    with pytest.raises(DataError, match=r"given\.npy: expected vectors of width 8, .* width 5"):
        opened(tmp_path, tmp_path / "given.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["npy", "pyserini-faiss", "tevatron"])
def test_a_number_that_is_not_finite_is_named_with_its_row(
    tmp_path: Path, name: str, value: float
) -> None:
    vectors = random_vectors(2)
    vectors[1, 3] = value
    files = opened(WRITERS[name](tmp_path, vectors, ["a", "b"]))
    assert len(files.of_ids(["a"])) == 1
    with pytest.raises(DataError, match=rf"row \d: expected finite numbers .* found {value}"):
        files.of_ids(["a", "b"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "b", "contents": "", "vector": [1, NaN]}', "expected a JSON object"),
        ('{"id": "b", "contents": "", "vector": [1]}', "vectors of width 2, as on the first"),
        ('{"id": "b", "contents": "", "vector": {"word": 1}}', "a list of numbers in 'vector'"),
        ('{"id": "b", "contents": "", "vector": ["1", "2"]}', "a list of numbers in 'vector'"),
        ('{"id": "b", "contents": "", "vector": [[1], [1, 2]]}', "a list of numbers in 'vector'"),
        ('{"id": "b", "contents": ""}', "the key 'vector'"),
        ('{"id": "", "contents": "", "vector": [1, 2]}', "an id in 'id'"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"id": "a", "contents": "", "vector": [1, 2]}\n' + line + "\n")
    with pytest.raises(DataError) as error:
        opened(path)
    assert str(error.value).startswith(f"{path}:2: expected ")
    assert words in str(error.value)


def test_json_lines_keep_the_bits_of_float32(tmp_path: Path) -> None:
    vectors = random_vectors(4) * np.float32(1e-30)
    files = opened(pyserini_json_lines(tmp_path, vectors, IDS[:4]))
    assert files.of_ids(IDS[:4]).tobytes() == vectors.tobytes()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3, dtype=np.float32), r"found float32 of shape \(3,\)"),
        (np.zeros((3, 2)), r"found float64 of shape \(3, 2\)"),
        (np.array([["a"]], dtype=object), "cannot be read"),
    ],
    ids=["one dimension", "float64", "objects"],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    (tmp_path / "x.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match=words):
        opened(tmp_path / "x.npy")


def test_what_is_no_file_of_vectors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("some text\n")
    for path, words in (
        (tmp_path / "text", "expected vectors .* found another file"),
        (tmp_path, "found a folder without"),
        (tmp_path / "none", "there is no such file"),
    ):
        with pytest.raises(UsageError, match=words):
            opened(path)
