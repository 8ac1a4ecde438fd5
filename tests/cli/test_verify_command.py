"""``rq verify``, ``rq repair`` and ``rq info`` in this process, on small indexes."""

import json
from pathlib import Path

import pytest

from rocketrank.index import Index, committed_manifest
from rocketrank.index.manifest import StoredFile

from ..index.small_index import build, sentences
from .conftest import Run


def damage(directory: Path, file: StoredFile) -> Path:
    """Turns a byte in the middle of a file."""
    path = directory / file.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def test_a_whole_index_passes(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    done = run("verify", hashed, "--no-model")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "commit 2: 29 passages and 1 deleted"
    assert lines[2] == "no passage encoded again"
    assert lines[-1] == "Nothing is wrong."


def test_a_turned_byte_is_found_with_its_file_and_exit_code_1(run: Run, hashed: Path) -> None:
    path = damage(hashed, committed_manifest(hashed).segments[0].structure.files[0])
    done = run("verify", hashed, "--no-model")
    assert done.code == 1
    assert f"problem: {path}: expected SHA-256" in done.out
    assert done.out.endswith(f"1 problem found. Mend what can be mended:  rq repair {hashed}\n")


def test_a_check_as_json_has_every_field(run: Run, hashed: Path) -> None:
    damage(hashed, committed_manifest(hashed).segments[0].vectors[0])
    done = run("verify", hashed, "--no-model", "--json")
    told = json.loads(done.out)
    assert done.code == 1
    assert (told["ok"], told["commit"], told["passages"], told["sampled"]) == (False, 1, 30, 0)
    assert len(told["problems"]) == 1


def test_a_check_without_the_model_says_how_to_check_the_rest(run: Run, hashed: Path) -> None:
    done = run("verify", hashed)
    (line,) = done.err.splitlines()
    assert done.code == 1
    assert "--model" in line
    assert line.endswith("or check all else with --no-model")


def test_a_sample_of_none_needs_no_model(run: Run, hashed: Path) -> None:
    assert run("verify", hashed, "--sample", "0").code == 0


def test_a_damaged_manifest_is_found_without_opening_a_model(run: Run, hashed: Path) -> None:
    (hashed / "manifest.json").write_bytes(b"{")
    done = run("verify", hashed)
    assert (done.code, "manifest.json" in done.out) == (1, True)


def test_a_structure_is_made_again_without_the_model(run: Run, hashed: Path) -> None:
    damage(hashed, committed_manifest(hashed).segments[0].structure.files[0])
    done = run("repair", hashed)
    assert (done.code, done.err) == (0, "")
    assert run("verify", hashed, "--no-model").code == 0


def test_a_whole_index_needs_no_repair(run: Run, hashed: Path) -> None:
    done = run("repair", hashed)
    assert done.out == "nothing to mend\ncommit 1 is in force\n"


def test_what_cannot_be_mended_is_said_with_exit_code_1(run: Run, hashed: Path) -> None:
    path = damage(hashed, committed_manifest(hashed).segments[0].passages)
    done = run("repair", hashed)
    assert done.code == 1
    assert f"not mended: {path}" in done.out


def test_info_tells_commit_segments_and_deletions(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    lines = run("info", hashed).out.splitlines()
    assert lines[1] == "  passages   29 (and 1 deleted, still stored)"
    assert any(line.startswith("  commit     2 (delete), ") for line in lines)
    told = json.loads(run("info", hashed, "--json").out)
    assert (told["commit"], told["passages"], told["deleted"]) == (2, 29, 1)
    assert [each["passages"] for each in told["segments"]] == [29]


def test_info_tells_the_fields_to_filter_by(run: Run, tmp_path: Path) -> None:
    build(tmp_path / "i", sentences(3), fields=("number", "source"))
    assert "  fields     number, source\n" in run("info", tmp_path / "i").out


def test_the_sizes_of_info_are_those_of_the_files(run: Run, hashed: Path) -> None:
    run("delete", "doc-0", "--index", hashed)
    told = json.loads(run("info", hashed, "--json").out)
    with Index.open(hashed) as index:
        files = [hashed / file.file for file in index.manifest.files()]
    assert sum(told["bytes"].values()) == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(("deleted", "hinted"), [(6, False), (7, True)])
def test_info_names_the_cure_above_a_fifth_deleted(
    run: Run, hashed: Path, deleted: int, hinted: bool
) -> None:
    run("delete", *(f"doc-{number}" for number in range(deleted)), "--index", hashed)
    assert (f"rq compact {hashed}" in run("info", hashed).out) == hinted


def test_info_of_an_index_with_nothing_left(run: Run, hashed: Path) -> None:
    run("delete", *(f"doc-{number}" for number in range(30)), "--index", hashed)
    done = run("info", hashed)
    assert (done.code, "  passages   0" in done.out) == (0, True)
