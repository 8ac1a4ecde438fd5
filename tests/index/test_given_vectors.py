"""An index of vectors that are there already is the index that encoding would have made."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import (
    BuildOptions,
    BuildReport,
    ChangeOptions,
    Index,
    add_passages,
    build_index,
    build_index_of,
    delete_passages,
    repair_index,
    verify_index,
)
from rocketrank.index.given_vectors import (
    GivenPassages,
    GivenVectors,
    check_made_by,
    checked_sample,
)
from rocketrank.index.vector_export import EXPORT_FORMATS, ExportFormat, export_vectors
from rocketrank.index.vector_files import VectorFiles, open_vectors

from .small_index import HashingEncoder, ListCorpus, build, files, sentences
from .vector_formats import WRITERS, random_vectors

PASSAGES = sentences(45)
IDS = [passage.id for passage in PASSAGES]
QUERIES = random_vectors(20, dim=16)
OPTIONS = BuildOptions(shard_size=10)


def encoded(passages: Sequence[Passage] = PASSAGES) -> NDArray[np.float32]:
    return HashingEncoder().encode_passages(
        [passage.text for passage in passages], [passage.title for passage in passages]
    )


def opened(*paths: Path) -> VectorFiles:
    return open_vectors(paths, copies=paths[0].parent)


def build_given(
    directory: Path,
    given: VectorFiles,
    passages: Sequence[Passage] | None = PASSAGES,
    options: BuildOptions = OPTIONS,
) -> BuildReport:
    corpus = GivenPassages(given) if passages is None else ListCorpus(passages)
    return build_index_of(directory, corpus, GivenVectors(given, HashingEncoder()), options)


def answers(directory: Path) -> tuple[list[list[str]], bytes]:
    """All passages by all queries: ids in their order, and the bytes of the scores."""
    with Index.open(directory) as index:
        found = index.search(QUERIES, len(index))
        ids = [[each.id for each in index.passages(rows)] for rows in found.rows.tolist()]
    return ids, found.scores.tobytes()


def written(folder: Path, name: str, ids: Sequence[str], vectors: NDArray[np.float32]) -> Path:
    folder.mkdir()
    return WRITERS[name](folder, vectors, ids)


@pytest.mark.parametrize("name", WRITERS)
def test_its_files_are_those_of_an_encoded_index(tmp_path: Path, name: str) -> None:
    build(tmp_path / "encoded", PASSAGES)
    given = opened(written(tmp_path / "given", name, IDS, encoded()))
    assert build_given(tmp_path / "index", given).passages == 45
    mine, other = files(tmp_path / "index"), files(tmp_path / "encoded")
    same = [each for each in other if each.endswith((".npy", ".faiss"))]
    assert len(same) == 6
    assert all(mine[each] == other[each] for each in same)
    assert answers(tmp_path / "index") == answers(tmp_path / "encoded")


@pytest.mark.parametrize("name", WRITERS)
def test_vectors_in_another_order_and_too_many_make_the_same_index(
    tmp_path: Path, name: str
) -> None:
    build(tmp_path / "encoded", PASSAGES)
    order = np.random.default_rng(5).permutation(45)
    ids = [*(IDS[place] for place in order), "of no passage"]
    vectors = np.concatenate([encoded()[order], random_vectors(1, dim=16)])
    given = opened(written(tmp_path / "given", name, ids, vectors))
    assert len(given) - build_given(tmp_path / "index", given).passages == 1
    assert answers(tmp_path / "index") == answers(tmp_path / "encoded")


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_what_is_exported_makes_the_same_index_to_the_last_bit(
    tmp_path: Path, to: ExportFormat
) -> None:
    before = tmp_path / "before"
    build(before, PASSAGES[:30])
    delete_passages(before, ["doc-3", "doc-29"], ChangeOptions())
    add_passages(before, ListCorpus(PASSAGES[30:]), HashingEncoder(), ChangeOptions())
    with Index.open(before) as index:
        live = list(index.live_passages())
        report = export_vectors(index, to, tmp_path / "out", texts=True)
    assert report.vectors == len(live) == 43
    corpus = CorpusReader([tmp_path / "out" / "corpus.jsonl"])
    source = GivenVectors(opened(tmp_path / "out"), HashingEncoder())
    build_index_of(tmp_path / "with texts", corpus, source, OPTIONS)
    build_given(tmp_path / "without", opened(tmp_path / "out"), None)
    with Index.open(tmp_path / "with texts") as index:
        assert list(index.live_passages()) == live
    assert answers(tmp_path / "with texts") == answers(before)
    assert answers(tmp_path / "without") == answers(before)


def test_without_a_corpus_passages_have_ids_alone(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "tevatron", IDS, encoded()))
    assert not given.has_texts
    build_given(tmp_path / "index", given, None)
    with Index.open(tmp_path / "index") as index:
        assert list(index.live_passages()) == [Passage(each, "") for each in IDS]
    report = verify_index(tmp_path / "index", HashingEncoder())
    assert (report.sampled, report.problems) == (0, ())


def test_without_texts_lost_vectors_are_not_encoded_again(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "tevatron", IDS, encoded()))
    build_given(tmp_path / "index", given, None)
    (tmp_path / "index/segments/000001/vectors/000001.npy").write_bytes(b"lost")
    report = repair_index(tmp_path / "index", encoder_for=lambda _: HashingEncoder())
    assert any("found others or none" in each for each in report.left)


def test_json_lines_bring_the_texts(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "pyserini-json-lines", IDS, encoded()))
    build_given(tmp_path / "index", given, None)
    with Index.open(tmp_path / "index") as index:
        [passage] = index.passages_by_id(["doc-7"])
    assert passage == Passage("doc-7", "of doc-7")


def test_passages_without_vectors_are_counted_before_anything_is_built(tmp_path: Path) -> None:
    lines = [json.dumps({"_id": each.id, "text": each.text}) for each in PASSAGES]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    given = opened(written(tmp_path / "given", "npy", IDS[:43], encoded()[:43]))
    with pytest.raises(DataError) as error:
        checked_sample(CorpusReader([tmp_path / "corpus.jsonl"]), given)
    assert str(error.value).startswith(
        f"{tmp_path / 'corpus.jsonl'}:44: 'doc-43': expected a vector for each passage, found none "
        "with this id (2 of 45 passages have none)"
    )


def test_a_passage_without_a_vector_leaves_no_index(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "npy", IDS[:43], encoded()[:43]))
    with pytest.raises(DataError, match="'doc-43': expected a vector for each passage"):
        build_given(tmp_path / "index", given)
    with pytest.raises(DataError, match="this index is unfinished"):
        Index.open(tmp_path / "index")


class Stopped(Exception):
    """Stands for whatever ends a run between two shards."""


class StoppingVectors(GivenVectors):
    """Gives two shards, and then stops."""

    shards = 0

    def vectors(
        self, passages: Sequence[Passage], *, on_done: Callable[[int], object]
    ) -> NDArray[np.float32]:
        self.shards += 1
        if self.shards > 2:
            raise Stopped
        return super().vectors(passages, on_done=on_done)


def stopped(directory: Path, given: VectorFiles) -> None:
    source = StoppingVectors(given, HashingEncoder())
    with pytest.raises(Stopped):
        build_index_of(directory, ListCorpus(PASSAGES), source, OPTIONS)


def test_a_stopped_build_goes_on_with_the_same_vectors(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "tevatron", IDS, encoded()))
    build_given(tmp_path / "whole", given)
    stopped(tmp_path / "index", given)
    again = opened(tmp_path / "given")
    assert build_given(tmp_path / "index", again).resumed_from == 20
    assert files(tmp_path / "index") == files(tmp_path / "whole")


def test_a_stopped_build_refuses_other_vectors_and_a_build_without(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "tevatron", IDS, encoded()))
    other = opened(written(tmp_path / "other", "tevatron", IDS, encoded() * np.float32(2)))
    stopped(tmp_path / "index", given)
    words = "begun with other vectors than this command gives with --vectors"
    with pytest.raises(UsageError, match=words):
        build_given(tmp_path / "index", other)
    with pytest.raises(UsageError, match=words):
        build_index(tmp_path / "index", ListCorpus(PASSAGES), HashingEncoder(), OPTIONS)
    again = BuildOptions(shard_size=10, overwrite=True)
    assert build_given(tmp_path / "index", other, options=again).resumed_from == 0


def test_a_sample_is_drawn_from_the_whole_corpus(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "npy", IDS, encoded()))
    sample = checked_sample(ListCorpus(PASSAGES), given)
    assert len({passage.id for passage in sample}) == 16
    assert any(passage in PASSAGES[30:] for passage in sample)
    check_made_by(HashingEncoder(), given, sample)


def test_vectors_that_another_model_made_are_refused_with_the_figure(tmp_path: Path) -> None:
    vectors = encoded()
    vectors[:, :2] = vectors[:, 1::-1]
    given = opened(written(tmp_path / "given", "npy", IDS, vectors))
    sample = checked_sample(ListCorpus(PASSAGES), given)
    places = [IDS.index(passage.id) for passage in sample]
    a, b = vectors[places], encoded(sample)
    cosine = np.mean((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    with pytest.raises(DataError, match="were not made by hashing") as error:
        check_made_by(HashingEncoder(), given, sample)
    assert f"16 passages encoded with it, found {cosine:.4f}" in str(error.value)


def test_vectors_of_another_length_are_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = opened(written(tmp_path / "given", "npy", IDS, encoded() * np.float32(3)))
    check_made_by(HashingEncoder(), given, PASSAGES[:16])
    assert "3 times as long as those that hashing makes" in caplog.text


def test_vectors_of_another_width_than_the_models_are_refused(tmp_path: Path) -> None:
    given = opened(written(tmp_path / "given", "npy", IDS, random_vectors(45, dim=4)))
    with pytest.raises(DataError, match="vectors of width 16, as model hashing makes, found w"):
        GivenVectors(given, HashingEncoder())
