"""What is installed is what is in the folders, and the locks say what pyproject.toml says."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rocketrank"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
CORPUS = """\
{"_id": "penicillin", "title": "Penicillin", "text": "Alexander Fleming found it in 1928."}
{"_id": "telephone", "title": "Telephone", "text": "Bell was granted a patent in 1876."}
{"_id": "bread", "title": "Bread", "text": "Flour, water, yeast and salt are baked."}
"""


def package_folders() -> dict[str, Path]:
    """Every folder with an ``__init__.py`` that belongs into the package, by its import name."""
    tops = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    found = {"rocketrank": SOURCE} | {f"rocketrank.{top.name}": top for top in tops}
    for name, folder in list(found.items()):
        for path in folder.glob("*/__init__.py"):
            if not path.parent.is_symlink():
                found[f"{name}.{path.parent.name}"] = path.parent
    return found


def pins(lock: Path) -> dict[str, Version]:
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: Version(version) for name, version in lines}


def requirements_of(extra: str) -> Iterator[Requirement]:
    """What an extra asks for, with the extras of our own that it names resolved."""
    for line in PYPROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "rocketrank":
            for inner in requirement.extras:
                yield from requirements_of(inner)
        else:
            yield requirement


def test_every_folder_with_an_init_file_is_in_the_build_table() -> None:
    assert set(SETUPTOOLS["packages"]) == set(package_folders())


def test_the_build_table_maps_every_top_level_folder_to_itself() -> None:
    tops = {
        name: path.relative_to(ROOT).as_posix()
        for name, path in package_folders().items()
        if name == "rocketrank" or path.parent == ROOT
    }
    assert SETUPTOOLS["package-dir"] == tops


def test_every_top_level_folder_is_linked_into_the_source_tree() -> None:
    links = {path.name: os.readlink(path) for path in SOURCE.iterdir() if path.is_symlink()}
    tops = [path.name for path in package_folders().values() if path.parent == ROOT]
    assert links == {name: f"../../{name}" for name in tops}


def test_every_file_of_the_package_that_is_no_python_is_named_as_package_data() -> None:
    for name, folder in package_folders().items():
        patterns = SETUPTOOLS["package-data"].get(name, [])
        named = {path for pattern in patterns for path in folder.glob(pattern)}
        others = {
            path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc") and path.name[0] != "."
            if not any(part.is_symlink() for part in path.parents)
        }
        assert others == named, name


@pytest.mark.parametrize("extra", ["cpu", "backbone"])
def test_the_runtime_lock_meets_every_bound_of(extra: str) -> None:
    locked = pins(ROOT / "requirements" / "runtime.lock")
    core = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
    for requirement in [*core, *requirements_of(extra)]:
        version = locked[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_the_development_lock_holds_the_runtime_lock_version_for_version() -> None:
    runtime = pins(ROOT / "requirements" / "runtime.lock")
    development = pins(ROOT / "requirements" / "dev.lock")
    assert runtime.items() <= development.items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_a_hash_for_every_package_and_names_no_place(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--index|--find-links| @ |/home|/tmp", text)


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist and not from the work tree, as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    assert len(list(folder.glob("rocketrank-*.tar.gz"))) == 1
    (built,) = folder.glob("rocketrank-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_of_the_work_tree(wheel: Path) -> None:
    expected = {
        f"{name.replace('.', '/')}/{path.relative_to(folder)}"
        for name, folder in package_folders().items()
        for pattern in ["*.py", *SETUPTOOLS["package-data"].get(name, [])]
        for path in folder.glob(pattern)
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


@pytest.mark.slow
def test_the_wheel_alone_indexes_and_searches_in_a_clean_environment(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    inside = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", folder=tmp_path).strip()
    )
    install = ("-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(python, *install, wheel, folder=tmp_path)
    # The dependencies are those of this run. Their folder's own .pth files are not read from here,
    # so that an editable installation of the work tree in it does not take part.
    (inside / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    place = run(python, "-c", "import rocketrank; print(rocketrank.__file__)", folder=tmp_path)
    assert Path(place.strip()).is_relative_to(inside)

    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    command = environment / "bin" / "rq"
    run(command, "index", "corpus.jsonl", "--index", "small.index", folder=tmp_path)
    question = "who discovered antibiotics"
    found = run(command, "search", question, "--index", "small.index", "--k", "1", folder=tmp_path)
    assert "penicillin" in found
