"""Repairing manifests, kept commits and snapshots: no commit is lost that can be read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from rocketrank.index import (
    ChangeOptions,
    Manifest,
    PassageEncoder,
    committed_manifest,
    delete_passages,
    repair_index,
    roll_back,
    take_snapshot,
    verify_index,
)
from rocketrank.index.commits import commit_numbers, snapshots

from .damaged_index import (
    DAMAGES,
    contents,
    found,
    make_index,
    replace_all,
)

Damage = Callable[[Path], object]


def never(_: Manifest) -> PassageEncoder:
    raise AssertionError("nothing had to be encoded")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "index"
    make_index(path)
    return path


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_put_back(directory: Path, damage: Damage) -> None:
    before, results = contents(directory), found(directory)
    damage(directory / "manifest.json")
    report = repair_index(directory, never)
    assert report.commit == 4 and "put commit 4 in force" in report.done[0]
    assert contents(directory) == before
    assert found(directory) == results


def test_a_manifest_damaged_with_its_copy_leaves_the_commit_before(directory: Path) -> None:
    replace_all(directory / "manifest.json")
    replace_all(directory / "commits/000004.json")
    report = repair_index(directory, never)
    assert report.commit == 5
    assert "put commit 3 in force as commit 5; what was changed after it is lost" in report.done[0]
    assert committed_manifest(directory).count == 70
    assert verify_index(directory).problems == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_damaged_copy_of_the_manifest_is_written_again(directory: Path, damage: Damage) -> None:
    before = contents(directory)
    damage(directory / "commits/000004.json")
    assert repair_index(directory, never).left == ()
    assert contents(directory) == before


def test_a_damaged_earlier_commit_is_set_aside_with_its_name(directory: Path) -> None:
    replace_all(directory / "commits/000002.json")
    report = repair_index(directory, never)
    assert len(report.done) == 2 and report.left == ()
    assert commit_numbers(directory) == [1, 3, 4] and snapshots(directory) == {}
    assert (directory / "commits/000002.json.damaged").exists()
    assert (directory / "snapshots/two.json.damaged").exists()
    assert verify_index(directory).problems == ()


def test_a_damaged_name_is_given_again_to_the_commit_that_nothing_else_keeps(
    directory: Path,
) -> None:
    for number in range(12):
        delete_passages(directory, [f"doc-{number + 10}"], ChangeOptions())
    assert commit_numbers(directory)[:2] == [2, 6]
    before = contents(directory)
    (directory / "snapshots/two.json").write_bytes(b"{")
    assert repair_index(directory, never).left == ()
    assert contents(directory) == before


def test_a_damaged_name_that_may_be_of_several_commits_loses_none(directory: Path) -> None:
    take_snapshot(directory, "four")
    for number in range(12):
        delete_passages(directory, [f"doc-{number + 10}"], ChangeOptions())
    for name in ("two", "four"):
        (directory / f"snapshots/{name}.json").write_bytes(b"{")
    repair_index(directory, never)
    assert set(snapshots(directory).values()) == {2, 4}
    delete_passages(directory, ["doc-30"], ChangeOptions())
    assert roll_back(directory, "2").count == 60


def test_a_name_of_a_commit_that_is_gone_is_dropped(directory: Path) -> None:
    (directory / "snapshots/gone.json").write_bytes(orjson.dumps({"commit": 77}))
    assert "names commit 77, which is gone" in repair_index(directory, never).done[0]
    assert snapshots(directory) == {"two": 2}
