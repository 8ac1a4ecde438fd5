"""Runs an exported program: OpenVINO or Paddle Inference behind one small interface."""

import importlib.util
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import MissingDependencyError, RocketRankError, UsageError
from .exporting import ProgramFormat

Precision = Literal["auto", "fp32", "bf16"]
EngineName = Literal["auto", "openvino", "paddle"]

# All that an encoder's program may be fed; some architectures read no token types.
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")

Feed = Mapping[str, NDArray[np.int64]]


class Program(Protocol):
    """A loaded program. ``run`` may be called from several threads at once."""

    input_names: tuple[str, ...]

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """(batch, tokens) int64 for each input name → the program's one output."""
        ...


@dataclass(frozen=True, kw_only=True)
class RuntimeChoice:
    """What will be used. ``gpu`` is the GPU's number, None on the CPU."""

    engine: ProgramFormat
    precision: Literal["fp32", "bf16"]
    threads: int
    gpu: int | None


def choose_runtime(
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    engine: EngineName = "auto",
    threads: int | None = None,
) -> RuntimeChoice:
    """Settle engine, precision and threads; UsageError for what this machine cannot do."""
    for option, value, allowed in (
        ("engine", engine, ("auto", "openvino", "paddle")),
        ("precision", precision, ("auto", "fp32", "bf16")),
    ):
        if value not in allowed:
            raise UsageError(f"{option} ({value}) must be one of {', '.join(allowed)}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads ({threads}) must be at least 1")
    gpu = _gpu_number(device)
    return RuntimeChoice(
        engine=_choose_engine(engine, gpu),
        precision=_choose_precision(precision, gpu),
        threads=threads or usable_cores(),
        gpu=gpu,
    )


def open_program(file: Path, choice: RuntimeChoice) -> Program:
    """Load an exported program with the engine of ``choice``."""
    if choice.engine == "openvino":
        return _OpenVINOProgram(file, choice)
    return _PaddleProgram(file, choice)


def openvino_properties(choice: RuntimeChoice) -> dict[str, Any]:
    """How OpenVINO compiles a program for ``choice``."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if choice.precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",  # THROUGHPUT halves the speed on two cores
        "INFERENCE_NUM_THREADS": choice.threads,
    }


def fed_names(compiled: Any) -> tuple[str, ...]:
    """What a program that OpenVINO has compiled is fed."""
    # A port has several names where the program casts its input at once.
    return tuple(name for name in INPUT_NAMES for port in compiled.inputs if name in port.names)


def usable_cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's feature flags as Linux names them; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split()[2:] for line in lines if line.startswith("flags")), []))


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_has_vnni() -> bool:
    """Whether the CPU multiplies 8-bit integers in hardware."""
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _choose_engine(asked: EngineName, gpu: int | None) -> ProgramFormat:
    if gpu is not None:
        if asked == "openvino":
            raise UsageError("engine openvino runs on the CPU: leave --engine out or take paddle")
        return "paddle"
    found = importlib.util.find_spec("openvino") is not None
    if asked == "openvino" and not found:
        raise MissingDependencyError(
            'OpenVINO is not installed: pip install "rocketrank[cpu]", or take --engine paddle'
        )
    return "paddle" if asked == "paddle" or not found else "openvino"


def _choose_precision(asked: Precision, gpu: int | None) -> Literal["fp32", "bf16"]:
    if asked == "bf16" and gpu is not None:
        raise UsageError("precision bf16 is for the CPU so far: on a GPU take auto or fp32")
    if asked != "auto":
        if asked == "bf16" and not cpu_has_bf16():
            raise UsageError(
                "precision bf16 needs a CPU with avx512_bf16 or amx_bf16, which this one lacks: "
                "take auto or fp32"
            )
        return asked
    return "bf16" if gpu is None and cpu_has_bf16() else "fp32"


def _gpu_number(device: str) -> int | None:
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return None
    if kind != "gpu" or (number and not number.isdecimal()):
        raise UsageError(f"device ({device}) must be cpu, gpu or gpu:N")
    paddle = _import_paddle()
    count = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    wanted = int(number or 0)
    if wanted >= count:
        found = f"{count} GPU{'s' if count != 1 else ''}"
        built = "" if paddle.device.is_compiled_with_cuda() else ", and this Paddle is a CPU build"
        raise UsageError(f"device ({device}): {found} found here{built}; take --device cpu")
    return wanted


def _import_paddle() -> Any:
    # backbone turns a failed import into a sentence and keeps Paddle's own warnings quiet.
    from .backbone import paddle_module

    return paddle_module()


class _OpenVINOProgram:
    def __init__(self, file: Path, choice: RuntimeChoice) -> None:
        import openvino

        properties = openvino_properties(choice)
        try:
            self._compiled = openvino.Core().compile_model(str(file), "CPU", properties)
        except RuntimeError as error:
            raise _unloadable(file, "OpenVINO", error) from error
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()
        self.input_names = fed_names(self._compiled)

    def run(self, feed: Feed) -> NDArray[np.float32]:
        with self._lock:
            outputs = self._request.infer(dict(feed), share_inputs=True)
            return np.array(outputs[0], dtype=np.float32)


class _PaddleProgram:
    def __init__(self, file: Path, choice: RuntimeChoice) -> None:
        inference = _import_paddle().inference
        try:
            self._predictor = inference.create_predictor(_paddle_config(inference, file, choice))
        except RuntimeError as error:
            raise _unloadable(file, "Paddle Inference", error) from error
        self._lock = threading.Lock()
        self.input_names = tuple(self._predictor.get_input_names())

    def run(self, feed: Feed) -> NDArray[np.float32]:
        with self._lock:
            for name, value in feed.items():
                self._predictor.get_input_handle(name).copy_from_cpu(value)
            self._predictor.run()
            (output,) = self._predictor.get_output_names()
            return np.asarray(
                self._predictor.get_output_handle(output).copy_to_cpu(), dtype=np.float32
            )


def _paddle_config(inference: Any, file: Path, choice: RuntimeChoice) -> Any:
    config = inference.Config(str(file), str(file.with_suffix(".pdiparams")))
    config.disable_glog_info()
    if choice.gpu is not None:
        config.enable_use_gpu(256, choice.gpu)
    else:
        config.disable_gpu()
        config.enable_mkldnn()
        # Fuses (1 - mask) · -10000 wrongly in Paddle 3.3: MPNet's vectors were off by 1.4.
        config.delete_pass("operator_scale_onednn_fuse_pass")
        config.set_cpu_math_library_num_threads(choice.threads)
        if choice.precision == "bf16":
            config.enable_mkldnn_bfloat16()
    return config


def _unloadable(file: Path, engine: str, error: RuntimeError) -> RocketRankError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return RocketRankError(
        f"{engine} cannot load {file} ({lines[-1] if lines else 'no reason given'}): "
        f"delete the folder {file.parent} and it is exported again"
    )
