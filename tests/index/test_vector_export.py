"""What ``rq export`` writes is what other programs' own readers read."""

import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import Index
from rocketrank.index import vector_export as vector_export_module
from rocketrank.index.vector_export import ExportFormat, ExportReport, export_vectors
from rocketrank.index.vector_files import open_vectors

from .small_index import build, build_table, sentences
from .vector_formats import random_vectors

VECTORS = random_vectors(2500, dim=12)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of ``VECTORS``, in five files."""
    folder = tmp_path_factory.mktemp("table") / "index"
    build_table(folder, VECTORS)
    return folder


def export(directory: Path, to: ExportFormat, folder: Path, *, texts: bool = False) -> ExportReport:
    with Index.open(directory) as index:
        return export_vectors(index, to, folder, texts=texts)


def ids() -> list[str]:
    return [f"p{row}" for row in range(len(VECTORS))]


def test_numpy_reads_the_array(table: Path, tmp_path: Path) -> None:
    export(table, "npy", tmp_path / "out")
    found = np.load(tmp_path / "out" / "vectors.npy")
    assert (found.dtype, found.tobytes()) == (np.float32, VECTORS.tobytes())
    assert (tmp_path / "out" / "vectors.ids.txt").read_text().split() == ids()


def test_the_faiss_file_has_the_bytes_that_faiss_writes(table: Path, tmp_path: Path) -> None:
    export(table, "pyserini", tmp_path / "out")
    index = faiss.IndexFlatIP(12)
    index.add(VECTORS)
    faiss.write_index(index, str(tmp_path / "expected"))
    assert (tmp_path / "out" / "index").read_bytes() == (tmp_path / "expected").read_bytes()
    assert (tmp_path / "out" / "docid").read_text() == "".join(f"{each}\n" for each in ids())


def test_the_usual_loader_reads_the_pickles(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_export_module, "_PICKLE_BYTES", 1000 * 12 * 4)
    export(table, "tevatron", tmp_path / "out")
    loaded = [
        pickle.loads((tmp_path / "out" / f"corpus_emb.{number}.pkl").read_bytes())
        for number in range(3)
    ]
    assert np.concatenate([vectors for vectors, _ in loaded]).tobytes() == VECTORS.tobytes()
    assert [each for _, some in loaded for each in some] == ids()


def test_our_own_format_keeps_the_model(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_export_module, "_SHARD_BYTES", 1000 * 12 * 4)
    export(table, "rocketrank", tmp_path / "out")
    files = open_vectors([tmp_path / "out"], copies=tmp_path)
    assert [len(part.ids) for part in files.parts] == [1000, 1000, 500]
    assert [(note.model, note.fingerprint) for note in files.notes] == [("table", "b" * 64)]
    assert files.of_ids(ids()).tobytes() == VECTORS.tobytes()


@pytest.mark.parametrize("to", ["npy", "pyserini"])
def test_an_id_that_fits_on_no_line_is_refused_and_nothing_is_left(
    tmp_path: Path, to: ExportFormat
) -> None:
    for number, bad in enumerate(("two\nlines", "blank at the end ", "two\u2028lines")):
        build(tmp_path / str(number), [Passage("a", "text"), Passage(bad, "text")])
        with pytest.raises(DataError, match="ids that fit on a line of their own"):
            export(tmp_path / str(number), to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("to", ["rocketrank", "tevatron"])
def test_other_formats_hold_any_id(tmp_path: Path, to: ExportFormat) -> None:
    strange = ["two\nlines", " blanks ", "\u2028", "é"]
    build(tmp_path / "index", [Passage(each, "text") for each in strange])
    export(tmp_path / "index", to, tmp_path / "out")
    files = open_vectors([tmp_path / "out"], copies=tmp_path)
    assert [passage.id for _, passage in files.passages()] == strange


@pytest.mark.parametrize("vector_type", ["float16", "int8"])
def test_rounded_vectors_are_exported_as_they_are_searched(
    tmp_path: Path, vector_type: str
) -> None:
    build(tmp_path / "index", sentences(20), vectors=vector_type)
    export(tmp_path / "index", "npy", tmp_path / "out")
    with Index.open(tmp_path / "index") as index:
        [(_, stored)] = index.live_vectors()
    found = np.load(tmp_path / "out" / "vectors.npy")
    assert (found.dtype, found.tobytes()) == (np.float32, stored.tobytes())


def test_a_folder_in_use_is_left_alone(table: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        export(table, "npy", tmp_path)


def test_texts_that_are_not_there_cannot_be_exported(tmp_path: Path) -> None:
    build(tmp_path / "index", [Passage("a", "")])
    with pytest.raises(DataError, match="expected passages with texts, found none"):
        export(tmp_path / "index", "npy", tmp_path / "out", texts=True)
    assert not (tmp_path / "out").exists()
