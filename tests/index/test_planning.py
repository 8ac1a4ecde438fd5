"""What a plan predicts, against what building gives, and its forms, by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import BuildOptions, build_index, committed_manifest
from rocketrank.index import calibration as calibration_module
from rocketrank.index.build import bytes_on_disk
from rocketrank.index.calibration import Recall, encode_sample, enlarged, measured_recall
from rocketrank.index.costs import structure_bytes, vector_bytes
from rocketrank.index.encoding import Encoded
from rocketrank.index.filling import usual_probes
from rocketrank.index.kinds import Choice, choose, points_needed
from rocketrank.index.plan import (
    PLANNED,
    Disk,
    KindPlan,
    Memory,
    PlanOptions,
    over_limits,
    pick,
)
from rocketrank.index.planning import plan_index
from rocketrank.index.survey import Survey, passages_on_disk, survey
from rocketrank.index.vectors import VectorType
from rocketrank.index.writing import settings_of

from .small_index import HashingEncoder, ListCorpus, build_table, sentences

SOURCE = Path(__file__).resolve().parents[2] / "src"
RANDOM = np.random.default_rng(1).standard_normal((1500, 16), dtype=np.float32)
VECTORS: NDArray[np.float32] = RANDOM / np.linalg.norm(RANDOM, axis=1, keepdims=True)


def passages_of_words(count: int) -> list[Passage]:
    """Passages of 20 to 200 words, and a few fields."""
    random = np.random.default_rng(3)
    return [
        Passage(
            id=f"doc-{number}",
            text=" ".join(f"word{word}" for word in random.integers(1000, size=length)),
            title="a title" if number % 3 == 0 else "",
            metadata={"year": 1900 + number % 100},
        )
        for number, length in enumerate(random.integers(20, 200, size=count))
    ]


class Unread(HashingEncoder):
    """Gives every passage one vector: where only texts matter."""

    def encode_passages(
        self, texts: Sequence[str], titles: Sequence[str] | None = None, *, on_done: object = None
    ) -> NDArray[np.float32]:
        return np.ones((len(texts), self.dim), dtype=np.float32)


def surveyed(passages: list[Passage], size: int, folder: Path, options: BuildOptions) -> Survey:
    settings = settings_of("index", Encoded(HashingEncoder()), options)
    return survey(ListCorpus(passages), options, settings, size, folder)


def stored_bytes(passages: list[Passage], size: int, folder: Path, options: BuildOptions) -> int:
    settings = settings_of("index", Encoded(HashingEncoder()), options)
    folder.mkdir(exist_ok=True)
    found = survey(ListCorpus(passages), options, settings, size, folder)
    return passages_on_disk(found, settings, folder).bytes


@pytest.mark.parametrize("kind", PLANNED)
def test_the_file_of_a_structure_is_as_large_as_predicted(tmp_path: Path, kind: str) -> None:
    build_table(tmp_path, VECTORS, kind)
    [segment] = committed_manifest(tmp_path).segments
    assert segment.structure.kind == kind
    [file] = segment.structure.files
    predicted = structure_bytes(choose(kind, len(VECTORS), 16), len(VECTORS), 16)
    # Upper levels of a graph are drawn, lists of 4-bit codes are padded: expectations.
    drawn = {"hnsw": 0.01, "ivfpq4": 0.1}.get(kind, 0)
    assert abs(predicted / file.bytes - 1) <= drawn


@pytest.mark.parametrize("vector_type", ["float32", "float16", "int8"])
def test_vector_files_are_as_large_as_predicted(tmp_path: Path, vector_type: VectorType) -> None:
    options = BuildOptions(shard_size=10, vectors=vector_type)
    build_index(tmp_path, ListCorpus(sentences(35)), HashingEncoder(), options)
    [segment] = committed_manifest(tmp_path).segments
    rows = [file.rows for file in segment.vectors]
    assert vector_bytes(rows, 16, vector_type) == sum(file.bytes for file in segment.vectors)


def test_a_corpus_is_counted_in_the_shards_of_its_build(tmp_path: Path) -> None:
    options, passages = BuildOptions(shard_size=10), sentences(435)
    found = surveyed(passages, 50, tmp_path, options)
    build_index(tmp_path / "index", ListCorpus(passages), HashingEncoder(), options)
    [segment] = committed_manifest(tmp_path / "index").segments
    assert found.rows == [file.rows for file in segment.vectors]
    assert found.passages == 435


@pytest.mark.parametrize("fields", [(), ("year",)])
def test_passages_that_are_all_sampled_take_exactly_as_much(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    options, passages = BuildOptions(shard_size=100, fields=fields), passages_of_words(450)
    build_index(tmp_path / "index", ListCorpus(passages), HashingEncoder(), options)
    [segment] = committed_manifest(tmp_path / "index").segments
    assert stored_bytes(passages, 1000, tmp_path / "plan", options) == segment.passages.bytes


@pytest.mark.parametrize("fields", [(), ("year",)])
def test_passages_take_what_a_sample_says_within_two_percent(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    options, passages = BuildOptions(shard_size=500, fields=fields), passages_of_words(5000)
    build_index(tmp_path / "index", ListCorpus(passages), Unread(), options)
    [segment] = committed_manifest(tmp_path / "index").segments
    predicted = stored_bytes(passages, 500, tmp_path / "plan", options)
    assert abs(predicted / segment.passages.bytes - 1) < 0.02


def test_a_whole_index_takes_on_the_disk_what_was_planned(tmp_path: Path) -> None:
    passages = passages_of_words(2000)
    build = BuildOptions(shard_size=300, vectors="float16", bm25=True)
    plan = plan_index(
        ListCorpus(passages),
        HashingEncoder(),
        PlanOptions(build=build, sample=400),
        kinds=("flat", "ivf"),
    )
    for each in plan.kinds:
        options = BuildOptions(kind=each.kind, shard_size=300, vectors="float16", bm25=True)
        build_index(tmp_path / each.kind, ListCorpus(passages), HashingEncoder(), options)
        manifest = committed_manifest(tmp_path / each.kind)
        assert each.disk is not None and each.factory == manifest.segments[0].structure.factory
        assert abs(each.disk.total / bytes_on_disk(tmp_path / each.kind, manifest) - 1) < 0.02
    assert (plan.passages, plan.sample, plan.chosen, plan.auto) == (2000, 400, "flat", "flat")
    assert all((each.structure_seconds or 0) > 0 for each in plan.kinds)


def test_a_sample_is_the_same_every_time_and_from_the_whole_corpus(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        found.append(surveyed(sentences(2000), 200, tmp_path / name, BuildOptions()))
    assert found[0].positions == found[1].positions == sorted(set(found[0].positions))
    assert [each.id for each in found[0].sample] == [f"doc-{n}" for n in found[0].positions]
    quarters = np.bincount(np.array(found[0].positions) // 500)
    assert quarters.min() > 30 and quarters.sum() == 200


def test_a_corpus_smaller_than_the_sample_is_taken_whole(tmp_path: Path) -> None:
    found = surveyed(sentences(30), 1000, tmp_path, BuildOptions())
    assert found.positions == list(range(30))


def test_repeated_ids_are_counted_and_refused_as_by_a_build(tmp_path: Path) -> None:
    twice = 2 * passages_of_words(100)
    options = BuildOptions(shard_size=10, skip_duplicates=True)
    found = surveyed(twice, 150, tmp_path, options)
    assert (found.passages, found.duplicates, len(found.sample)) == (100, 100, 100)
    (tmp_path / "again").mkdir()
    with pytest.raises(DataError, match="expected a passage id not seen before"):
        surveyed(twice, 150, tmp_path / "again", BuildOptions(shard_size=10))


def test_a_corpus_without_passages_cannot_be_planned() -> None:
    options = PlanOptions(build=BuildOptions())
    with pytest.raises(DataError, match="at least one passage"):
        plan_index(ListCorpus([]), HashingEncoder(), options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PlanOptions(build=BuildOptions(), sample=0), r"sample \(0\)"),
        (PlanOptions(build=BuildOptions(), disk=0), r"disk \(0\)"),
        (PlanOptions(build=BuildOptions(memory=0)), r"memory \(0\)"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(options: PlanOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_index(ListCorpus(sentences(3)), HashingEncoder(), options)


def test_a_kind_that_cannot_be_trained_says_how_many_passages_it_needs() -> None:
    plan = plan_index(
        ListCorpus(sentences(100)),
        HashingEncoder(),
        PlanOptions(build=BuildOptions()),
        kinds=("flat", "ivfpq"),
    )
    flat, ivfpq = plan.kinds
    assert ivfpq.problem == "needs 256 passages to train on, and there are 100"
    assert (ivfpq.disk, ivfpq.recall, plan.chosen) == (None, None, "flat")
    assert flat.recall is not None and (flat.recall.share, flat.recall.exact) == (1.0, True)


@pytest.mark.parametrize(("kind", "dim", "needed"), [("ivfpq", 384, 384), ("ivfpq4", 16, 256)])
def test_codes_behind_a_rotation_need_as_many_passages_as_vectors_are_wide(
    kind: str, dim: int, needed: int
) -> None:
    assert points_needed(kind, dim) == needed


def test_a_slow_model_encodes_fewer_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_module, "_ENCODING_SECONDS", 0)
    encoding = encode_sample(HashingEncoder(), sentences(200))
    assert len(encoding.vectors) == 64
    assert min(encoding.twice) <= encoding.passages_a_second <= max(encoding.twice)


def test_one_passage_is_enough_for_a_sample() -> None:
    assert encode_sample(HashingEncoder(), sentences(1)).vectors.shape == (1, 16)


@pytest.mark.parametrize("rows", [300, 1500])
def test_as_many_lists_are_visited_as_a_build_notes(tmp_path: Path, rows: int) -> None:
    build_table(tmp_path, VECTORS[:rows], "ivf")
    [segment] = committed_manifest(tmp_path).segments
    lists = int(segment.structure.factory.removeprefix("IVF").removesuffix(",Flat"))
    assert segment.structure.search["nprobe"] == usual_probes(lists)
    assert [usual_probes(lists) for lists in (40, 511, 1264, 11_864)] == [40, 64, 158, 256]


def test_lists_that_are_all_visited_find_all(tmp_path: Path) -> None:
    choice = choose("ivf", len(VECTORS), 16)._replace(factory="IVF50,Flat")
    found = measured_recall(choice, len(VECTORS), VECTORS, "float32", tmp_path)
    assert found == Recall(1.0, 100, len(VECTORS), exact=True)


def test_an_eighth_of_the_lists_finds_more_among_vectors_in_clusters(tmp_path: Path) -> None:
    large = 260_000
    clustered = VECTORS[np.arange(1500) % 30] + 0.05 * VECTORS
    shares = []
    for vectors in (VECTORS, clustered):
        found = measured_recall(choose("ivf", large, 16), large, vectors, "float32", tmp_path)
        assert found is not None and (found.k, found.sample, found.exact) == (1, 1500, False)
        shares.append(found.share)
    assert 0.2 < shares[0] < 0.95 < shares[1] <= 1


def test_recall_that_cannot_be_known_is_not_made_up(tmp_path: Path) -> None:
    graph = choose("hnsw", 1_000_000, 16)
    assert measured_recall(graph, 1_000_000, VECTORS, "float32", tmp_path) is None
    few = choose("ivf", 1_000_000, 16)
    assert measured_recall(few, 1_000_000, VECTORS[:100], "float32", tmp_path) is None


def test_vectors_for_timing_have_the_lengths_of_the_samples() -> None:
    made = enlarged(2 * VECTORS, 5000)
    assert made.shape == (5000, 16)
    assert np.linalg.norm(made, axis=1) == pytest.approx(2, rel=1e-4)


def planned(kind: str, share: float | None, query: float, problem: str | None = None) -> KindPlan:
    recall = None if share is None else Recall(share, 1, 1000)
    return KindPlan(kind=kind, problem=problem, query_seconds=query, recall=recall)


def test_the_usual_kind_is_picked_where_it_fits() -> None:
    plans = [planned("flat", 1.0, 1.0), planned("hnsw", None, 0.001)]
    assert pick(plans, Choice("hnsw", "", "auto chose hnsw")) == ("hnsw", "auto chose hnsw")


def test_the_best_recall_that_fits_is_picked_where_the_usual_kind_does_not() -> None:
    plans = [
        planned("flat", 1.0, 1.0, "takes 14.00 GB of disk, and 8.00 GB are allowed"),
        planned("ivf", 0.91, 0.5),
        planned("hnsw", None, 0.001),
        planned("ivfpq", 0.91, 0.2),
        planned("ivfpq4", 0.85, 0.1),
    ]
    chosen, reason = pick(plans, Choice("flat", "", ""))
    assert chosen == "ivfpq"
    assert reason == (
        "auto would choose flat, which takes 14.00 GB of disk, and 8.00 GB are allowed; of the "
        "kinds that fit, ivfpq finds most (recall about 0.91)"
    )


def test_nothing_is_picked_where_nothing_fits() -> None:
    chosen, reason = pick([planned("flat", 1.0, 1.0, "is too large")], Choice("flat", "", ""))
    assert chosen is None
    assert reason == "auto would choose flat, which is too large; no other kind fits either"


@pytest.mark.parametrize(
    ("disk", "memory", "words"),
    [
        (100, 30, None),
        (99, 30, "takes 100 bytes of disk, and 99 bytes are allowed"),
        (None, 29, "of memory to build"),
        (None, 19, "of memory to encode"),
        (None, None, None),
    ],
)
def test_limits_rule_out_what_is_larger(
    disk: int | None, memory: int | None, words: str | None
) -> None:
    sizes = Memory(encoding=20, structure=30, mapped=500, searching=25)
    why = over_limits(Disk(10, 20, 60, 10), sizes, disk_limit=disk, memory_limit=memory)
    assert (why is None) if words is None else (why is not None and words in why)


def test_sizes_that_round_to_one_number_are_told_apart() -> None:
    sizes = Memory(encoding=3_240_000_000, structure=30, mapped=500, searching=25)
    why = over_limits(Disk(10, 20, 60, 10), sizes, disk_limit=None, memory_limit=3 << 30)
    assert why == "takes 3.240 GB of memory to encode, and 3.221 GB are allowed"


def test_limits_on_memory_cut_a_structure_into_parts_or_rule_it_out() -> None:
    build = BuildOptions(memory=1 << 20)
    options = PlanOptions(build=build)
    [flat] = plan_index(
        ListCorpus(sentences(300)), HashingEncoder(), options, kinds=("flat",)
    ).kinds
    assert flat.problem is not None and "must be at least" in flat.problem
