"""Two processes, started as a user starts them, against one on the union of their lists."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rocketrank.backbone import paddle_module
from rocketrank.training.processes import Processes

from .small_step import STEPS, Arrays, largest_difference, start_reranker, start_retriever

paddle = paddle_module()

SCRIPT = Path(__file__).with_name("small_step.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
SECONDS = 240


def finished(arguments: list[str], folder: Path) -> None:
    """Run the script under ``python`` with a time limit; its output stays in ``folder``."""
    log = folder / "output.txt"
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "PADDLE_DISTRI_BACKEND": "gloo",
        "FLAGS_paddle_num_threads": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments, str(SCRIPT), "train", str(folder)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # which the launcher hands on: its children have their own sessions
            process.wait()
            pytest.fail(f"not finished in {SECONDS} s: {log.read_text()[-2000:]}")
    logs = [log, *sorted((folder / "logs").glob("workerlog.*"))]
    assert code == 0, "\n".join(each.read_text()[-2000:] for each in logs)


@pytest.fixture(scope="module")
def folder(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process alone, and then two, have left what they found."""
    folder = tmp_path_factory.mktemp("processes")
    for towers in ("shared", "separate"):
        (folder / towers).mkdir()
        start_retriever(shared_reference, folder / towers / "retriever", towers=towers)
        start_reranker(shared_reference, folder / towers / "reranker")
    finished([], folder)
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    finished([*launch, "--log_dir", str(folder / "logs")], folder)
    return folder


@pytest.fixture(scope="module", params=["shared", "separate"])
def results(request: pytest.FixtureRequest, folder: Path) -> dict[str, Arrays]:
    """What one process alone found, and each of two."""
    files = {"alone": "0-of-1", "first": "0-of-2", "second": "1-of-2"}
    return {
        name: dict(np.load(folder / str(request.param) / f"process-{file}.npz"))
        for name, file in files.items()
    }


def of(arrays: Arrays, step: str) -> Arrays:
    """The gradients or parameters under the name of a step."""
    prefixes = (f"{step}/retriever.", f"{step}/reranker.")
    return {name: value for name, value in arrays.items() if name.startswith(prefixes)}


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 60)
class TestTwoProcesses:
    @pytest.mark.parametrize("step", STEPS)
    def test_gradients_are_those_of_one_process_on_the_union(
        self, results: dict[str, Arrays], step: str
    ) -> None:
        alone = of(results["alone"], step)
        for name in ("first", "second"):
            assert largest_difference(of(results[name], step), alone) < 1e-6

    @pytest.mark.parametrize("step", STEPS)
    def test_each_process_sees_the_loss_of_all(self, results: dict[str, Arrays], step: str) -> None:
        alone = results["alone"][f"{step}/losses"]
        for name in ("first", "second"):
            np.testing.assert_allclose(results[name][f"{step}/losses"], alone, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("step", STEPS)
    def test_every_text_is_encoded_by_one_of_them(
        self, results: dict[str, Arrays], step: str
    ) -> None:
        alone, first, second = (results[name][f"{step}/rows"] for name in results)
        np.testing.assert_array_equal(first + second, alone)
        if step == "with a gradient cache":
            assert first[1] != second[1], "the passages are to be divided unequally"

    def test_five_steps_of_adamw_lead_both_to_the_parameters_of_one(
        self, results: dict[str, Arrays]
    ) -> None:
        alone = of(results["alone"], "trained")
        assert results["alone"]["farthest"] > 1e-4, "the steps are to be far longer than 1e-5"
        for name in ("first", "second"):
            found = of(results[name], "trained")
            for parameter, value in alone.items():
                # Their true gradient is 0, as all scores move alike: Adam follows its rounding.
                if not parameter.endswith(("k_proj.bias", "reranker.head.output.bias")):
                    np.testing.assert_allclose(
                        found[parameter], value, atol=1e-5, err_msg=parameter
                    )

    def test_both_processes_end_with_the_same_bits(self, results: dict[str, Arrays]) -> None:
        for name, value in of(results["first"], "trained").items():
            np.testing.assert_array_equal(results["second"][name], value)

    def test_what_one_process_learns_all_agree_on(self, results: dict[str, Arrays]) -> None:
        assert [float(each["agreed"]) for each in results.values()] == [1.0, 1.0, 1.0]


def test_one_process_alone_gathers_what_it_has() -> None:
    local = paddle.rand([3, 2])
    processes = Processes()
    assert processes.gather(local, np.zeros(3, dtype=np.int64)) is local
    assert processes.agree(2.0) == 2.0
    processes.sum_gradients([local])
    processes.wait()
