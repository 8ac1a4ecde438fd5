"""Every command and program of the documentation by task, run in its order on sample data."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from .samples import SAMPLES

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCE = DOCS.parent / "src"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    content: str

    @property
    def commands(self) -> list[list[str]]:
        """What to start: each command behind a ``$``, or the program."""
        if self.language == "python":
            return [[sys.executable, "-c", self.content]]
        lines = [line for line in self.content.splitlines() if line.startswith("$ ")]
        return [["bash", "-c", line.removeprefix("$ ")] for line in lines]


def blocks_of(page: str) -> list[Block]:
    return [Block(*each) for each in _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which ``rq`` is the command of this working tree."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "rq").write_text(f'#!/bin/sh\nexec {sys.executable} -m rocketrank "$@"\n')
    (folder / "rq").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SOURCE),
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", SAMPLES)
def test_every_block_of_the_page_runs(
    page: str, shared_data: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    SAMPLES[page](tmp_path, shared_data)
    for block in blocks_of(page):
        for command in block.commands:
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{command[-1]}\n{said}"
            assert said.strip(), f"{command[-1]} said nothing"


def test_each_page_has_commands() -> None:
    assert all(any(block.commands for block in blocks_of(page)) for page in SAMPLES)


def test_commands_stand_in_blocks_that_are_run() -> None:
    """But for what wants a GPU, which its page says."""
    for page in SAMPLES:
        text = (DOCS / page).read_text(encoding="utf-8")
        outside = re.findall(r"^rq .*", _BLOCK.sub("", text), re.MULTILINE)
        assert all("--device gpu" in line for line in outside), page
