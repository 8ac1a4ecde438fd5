"""Additions, deletions and compaction, where the model test does not look."""

import os
from pathlib import Path
from typing import Any

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.index import (
    BuildOptions,
    ChangeOptions,
    Index,
    PassageList,
    add_passages,
    build_index,
    compact,
    delete_passages,
    history,
    repair_index,
)
from rocketrank.index.layout import locked

from .small_index import HashingEncoder, build, sentences

OPTIONS = ChangeOptions(shard_size=10)


def kind_of(directory: Path) -> tuple[str, int]:
    with Index.open(directory) as index:
        return index.manifest.kind, index.manifest.commit


def test_additions_of_one_passage_leave_segments_like_the_binary_digits_of_their_number(
    tmp_path: Path,
) -> None:
    directory, passages = tmp_path / "index", sentences(51)
    build(directory, passages[:1])
    for passage in passages[1:]:
        add_passages(directory, PassageList([passage]), HashingEncoder(), OPTIONS)
    with Index.open(directory) as index:
        assert [segment.rows for segment in index.manifest.segments] == [32, 16, 2, 1]
        assert index.passages(range(51)) == passages


def test_what_was_trained_is_not_folded_into_what_is_added(tmp_path: Path) -> None:
    directory, passages = tmp_path / "index", sentences(80)
    build(directory, passages[:30], kind="ivf")
    for added in (passages[30:50], passages[50:]):
        add_passages(directory, PassageList(added), HashingEncoder(), OPTIONS)
    with Index.open(directory) as index:
        kinds = [(each.structure.kind, each.rows) for each in index.manifest.segments]
        assert kinds == [("ivf", 30), ("flat", 50)]


def test_adding_makes_no_segment_larger_than_a_flat_one_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocketrank.index.changes.FOLDED", 8)
    build(tmp_path, sentences(1))
    for passage in sentences(27)[1:]:
        add_passages(tmp_path, PassageList([passage]), HashingEncoder(), OPTIONS)
    with Index.open(tmp_path) as index:
        assert [each.rows for each in index.manifest.segments] == [8, 8, 8, 2, 1]


def test_a_kind_that_makes_the_same_structure_is_remembered_all_the_same(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    compact(tmp_path, OPTIONS, kind="flat")
    assert kind_of(tmp_path) == ("flat", 2)
    compact(tmp_path, OPTIONS)
    assert kind_of(tmp_path) == ("flat", 2)


def test_all_passages_may_be_deleted_and_others_added(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    delete_passages(tmp_path, [f"doc-{number}" for number in range(10)], OPTIONS)
    encoder = HashingEncoder()
    with Index.open(tmp_path) as index:
        assert (len(index), index.search(encoder.encode_passages(["w1"]), 3).rows.max()) == (0, -1)
    add_passages(tmp_path, PassageList(sentences(3)), encoder, OPTIONS)
    with Index.open(tmp_path) as index:
        assert index.passages(index.rows().tolist()) == sentences(3)


def test_a_model_of_another_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="whose vectors cannot be compared with those"):
        add_passages(
            tmp_path, PassageList(sentences(12)), HashingEncoder(fingerprint="f" * 64), OPTIONS
        )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_writer_is_refused_or_waits(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    with locked(tmp_path):
        for wait in (0, 0.1):
            with pytest.raises(RocketRankError, match="another process is writing this index"):
                delete_passages(tmp_path, ["doc-1"], ChangeOptions(wait=wait))
    assert delete_passages(tmp_path, ["doc-1"], ChangeOptions(wait=0.1)).deleted == 1


def test_an_added_passage_keeps_its_fields(tmp_path: Path) -> None:
    encoder = HashingEncoder()
    old = PassageList([Passage("a", "w1", metadata={"year": 1999})])
    build_index(tmp_path, old, encoder, BuildOptions(fields=("year",)))
    new = PassageList([Passage("b", "w1", metadata={"year": 2001})])
    add_passages(tmp_path, new, encoder, OPTIONS)
    with Index.open(tmp_path) as index:
        [rows] = index.search(encoder.encode_passages(["w1"]), 1, "year > 2000").rows.tolist()
        assert [passage.id for passage in index.passages(rows)] == ["b"]


def test_a_snapshot_whose_name_goes_while_names_are_read_is_none(tmp_path: Path) -> None:
    build(tmp_path, sentences(3))
    (tmp_path / "snapshots").mkdir()
    # What is listed and then not there: what a reader meets when a writer drops a name.
    (tmp_path / "snapshots" / "gone.json").symlink_to("nowhere")
    assert [commit.names for commit in history(tmp_path)] == [()]


def test_an_id_that_comes_twice_is_refused_also_where_the_first_changes_nothing(
    tmp_path: Path,
) -> None:
    build(tmp_path, sentences(3))
    same = sentences(1)[0]
    twice = PassageList([same, same._replace(text="another")])
    with pytest.raises(DataError, match="passage 2 of 2: expected a passage id not seen before"):
        add_passages(tmp_path, twice, HashingEncoder(), OPTIONS, update=True)


def test_a_lone_surrogate_is_no_id(tmp_path: Path) -> None:
    build(tmp_path, sentences(3))
    with pytest.raises(UsageError, match="expected ids that are texts of UTF-8"):
        delete_passages(tmp_path, ["\ud800"], OPTIONS)


def test_a_damaged_snapshot_does_not_make_a_change_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, sentences(3))
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "x.json").write_text("{")
    assert delete_passages(tmp_path, ["doc-1"], OPTIONS).passages == 2
    assert "nothing is removed for now" in caplog.text


def test_compacting_gives_back_what_earlier_commits_kept(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    delete_passages(tmp_path, [f"doc-{number}" for number in range(10)], OPTIONS)
    compact(tmp_path, OPTIONS)
    assert [commit.number for commit in history(tmp_path)] == [3]
    assert not (tmp_path / "segments" / "000001").exists()
    assert compact(tmp_path, OPTIONS).commit == 3


def test_a_process_that_was_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    build(tmp_path, sentences(3))
    with locked(tmp_path):
        held = os.dup(next(each for each in descriptors() if each[1].endswith("write.lock"))[0])
    assert delete_passages(tmp_path, ["doc-1"], OPTIONS).deleted == 1
    os.close(held)


def descriptors() -> list[tuple[int, str]]:
    """The open files of this process; a duplicate is what a forked process has of them."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    return [(each, os.readlink(f"/proc/self/fd/{each}")) for each in numbers if _is_open(each)]


def _is_open(number: int) -> bool:
    return os.path.islink(f"/proc/self/fd/{number}")


def test_a_lost_manifest_of_a_changed_index_is_repaired_and_not_built_over(tmp_path: Path) -> None:
    build(tmp_path, sentences(10))
    delete_passages(tmp_path, ["doc-3"], OPTIONS)
    compact(tmp_path, OPTIONS)
    (tmp_path / "manifest.json").unlink()
    cure = (
        r"manifest\.json: this file of the index is missing: `rq repair .*` puts commit 3 in force"
    )
    with pytest.raises(DataError, match=cure):
        Index.open(tmp_path)
    with pytest.raises(DataError, match=cure):
        build(tmp_path, sentences(10))
    repair_index(tmp_path)
    with Index.open(tmp_path) as index:
        assert len(index) == 9


@pytest.mark.parametrize(
    ("passage", "sentence"),
    [
        (Passage("", "text"), "passage 1 of 1: expected an id, found none"),
        (Passage("a", ""), "passage 1 of 1: expected a text or title, found none"),
        (Passage(5, "text"), "passage 1 of 1: expected a text as its id, found 5"),  # type: ignore[arg-type]
        (Passage("a", None), "passage 1 of 1: expected a text as its text, found None"),  # type: ignore[arg-type]
    ],
)
def test_what_a_file_could_not_hold_a_program_cannot_add(
    tmp_path: Path, passage: Passage, sentence: str
) -> None:
    build(tmp_path, sentences(3))
    with pytest.raises(UsageError, match=sentence):
        add_passages(tmp_path, PassageList([passage]), HashingEncoder(), OPTIONS)


class Stopped(Exception):
    """Stands for whatever ends a run between two shards."""


class StoppingEncoder(HashingEncoder):
    """Encodes one shard and then stops."""

    calls = 0

    def encode_passages(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise Stopped
        return super().encode_passages(*arguments, **options)


def test_another_change_says_that_it_drops_what_an_interrupted_addition_had_encoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, sentences(5))
    with pytest.raises(Stopped):
        add_passages(tmp_path, PassageList(sentences(40)), StoppingEncoder(), OPTIONS)
    delete_passages(tmp_path, ["doc-1"], OPTIONS)
    assert "dropped 10 passages that an interrupted rq add or update had encoded" in caplog.text


def test_an_interrupted_addition_goes_on_when_it_is_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, sentences(5))
    with pytest.raises(Stopped):
        add_passages(tmp_path, PassageList(sentences(40)), StoppingEncoder(), OPTIONS)
    report = add_passages(tmp_path, PassageList(sentences(40)), HashingEncoder(), OPTIONS)
    assert (report.added, report.resumed_from, caplog.text) == (35, 10, "")
