"""What is used on this machine, and what it refuses."""

import os
from typing import Any

import pytest

from rocketrank.errors import UsageError
from rocketrank.inference import choose_runtime, cpu_has_bf16


def test_openvino_on_all_usable_cores_is_the_default_on_a_cpu() -> None:
    choice = choose_runtime()
    assert (choice.engine, choice.gpu) == ("openvino", None)
    assert choice.threads == len(os.sched_getaffinity(0))


def test_auto_takes_bf16_only_where_the_processor_has_it() -> None:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        words = set(file.read().split())
    assert cpu_has_bf16() == bool(words & {"avx512_bf16", "amx_bf16"})
    assert choose_runtime().precision == ("bf16" if cpu_has_bf16() else "fp32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx"}, r"engine \(onnx\) must be one of auto, openvino, paddle"),
        ({"precision": "int8"}, r"precision \(int8\) must be one of auto, fp32, bf16"),
        ({"threads": 0}, r"threads \(0\) must be at least 1"),
        ({"device": "tpu"}, r"device \(tpu\) must be cpu, gpu or gpu:N"),
        ({"device": "gpu:x"}, r"device \(gpu:x\) must be cpu, gpu or gpu:N"),
        ({"device": "gpu:99"}, r"device \(gpu:99\): \d+ GPUs? found here"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_runtime(**options)
