"""What a process is told before Paddle is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
NAMES = ("FLAGS_paddle_num_threads", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PADDLE_TRAINERS_NUM")
PREPARED = (
    "import json, os; from rocketrank.environment import prepare_training; "
    "prepare_training({}); print(json.dumps(dict(os.environ)))"
)


def prepared(threads: int | None = None, **given: str) -> dict[str, str]:
    """The environment of a new process after it has prepared itself."""
    cleared = {key: value for key, value in os.environ.items() if key not in NAMES}
    finished = subprocess.run(
        [sys.executable, "-c", PREPARED.format(threads)],
        env={**cleared, "PYTHONPATH": str(SOURCE), **given},
        capture_output=True,
        text=True,
        check=True,
    )
    environment: dict[str, str] = json.loads(finished.stdout)
    return environment


def threads(environment: dict[str, str]) -> tuple[str, str]:
    return environment["FLAGS_paddle_num_threads"], environment["MKL_NUM_THREADS"]


def test_paddle_and_its_mkl_get_every_core() -> None:
    cores = str(len(os.sched_getaffinity(0)))
    assert threads(prepared()) == (cores, cores)


def test_processes_of_one_machine_share_the_cores() -> None:
    assert threads(prepared(PADDLE_TRAINERS_NUM="1024")) == ("1", "1")


def test_the_threads_of_openmp_are_those_of_both() -> None:
    assert threads(prepared(OMP_NUM_THREADS="3")) == ("3", "3")


def test_threads_that_are_asked_for_come_before_openmps() -> None:
    assert threads(prepared(5, OMP_NUM_THREADS="3")) == ("5", "5")


def test_what_the_user_has_set_stands() -> None:
    assert threads(prepared(MKL_NUM_THREADS="7"))[1] == "7"


@pytest.mark.skipif(
    "AuthenticAMD" not in Path("/proc/cpuinfo").read_text(), reason="needs a processor of AMD"
)
def test_mkl_takes_its_fast_path_on_amd() -> None:
    assert prepared()["MKL_DEBUG_CPU_TYPE"] in ("5", os.environ.get("MKL_DEBUG_CPU_TYPE"))
