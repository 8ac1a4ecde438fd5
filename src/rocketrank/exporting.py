"""Turns a model into a static program on disk, once, in a process of its own.

The child process is what imports Paddle: a search that finds its program in the cache never does,
the memory of the export is given back, and what the exporters print stays out of our output.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import orjson

from .errors import RocketRankError
from .models import Model, ModelSettings, Tower, cache_directory

ProgramFormat = Literal["openvino", "paddle"]

_log = logging.getLogger(__name__)

# Raise it when the exported computation changes: older programs are then left unused.
EXPORT_VERSION = 1

_MAIN_FILE = {"openvino": "program.xml", "paddle": "program.json"}


def exported_program(model: Model, tower: Tower, form: ProgramFormat) -> Path:
    """The program's main file, exported first if the cache has none; safe between processes.

    With shared towers, and for a cross-encoder, both towers lead to one program.
    Raises RocketRankError when the export fails, with the exporter's own last line.
    """
    main_file = program_folder(model, tower, form) / _MAIN_FILE[form]
    if not main_file.exists():
        _log.info("exporting %s for %s, once; some seconds", model.name, form)
        _export_in_child(model, tower, form)
    return main_file


def is_exported(model: Model, tower: Tower, form: ProgramFormat) -> bool:
    """Whether the cache already holds this program."""
    return (program_folder(model, tower, form) / _MAIN_FILE[form]).exists()


def program_folder(model: Model, tower: Tower, form: ProgramFormat) -> Path:
    """Where in the cache a program belongs: by the model's fingerprint, not by its name."""
    side = tower if model.settings.towers == "separate" else "model"
    key = hashlib.sha256(f"{EXPORT_VERSION} {model.fingerprint}".encode()).hexdigest()[:32]
    return cache_directory() / "programs" / key / f"{side}-{form}"


def export_into_cache(model: Model, tower: Tower, form: ProgramFormat) -> None:
    """Export in this process, which imports Paddle, and put the result into the cache at once."""
    folder = program_folder(model, tower, form)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise RocketRankError(
            f"the model cache {cache_directory()} cannot be written ({error.strerror}); "
            "set ROCKETRANK_CACHE to a folder that can"
        ) from error
    try:
        _write_program(model, tower, form, beside)
        try:
            beside.rename(folder)
        except OSError:
            # Another process exported the same program at the same time: its copy serves as well.
            if not is_exported(model, tower, form):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _export_in_child(model: Model, tower: Tower, form: ProgramFormat) -> None:
    request = {
        "name": model.name,
        "path": str(model.path),
        "settings": asdict(model.settings),
        "tower": tower,
        "form": form,
    }
    package_root = str(Path(__file__).resolve().parents[1])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "rocketrank.exporting"],
        input=orjson.dumps(request),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise RocketRankError(
            f"{model.name} could not be exported for {form}: "
            f"{lines[-1] if lines else f'exit code {child.returncode}'}"
        )


def _write_program(model: Model, tower: Tower, form: ProgramFormat, target: Path) -> None:
    from . import backbone

    config = model.config(tower)
    folder = model.tower_path(tower)
    if model.settings.role == "cross-encoder":
        layer: Any = backbone.load_scorer(folder, config)
    else:
        settings = model.settings
        layer = backbone.load_tower(
            folder, config, pooling=settings.pooling, normalize=settings.normalize
        )
    backbone.save_program(layer, config, target / "program")
    if form == "openvino":
        _paddle_to_openvino(target)


def _paddle_to_openvino(target: Path) -> None:
    import openvino
    import paddle2onnx

    onnx = target / "program.onnx"
    paddle_files = [target / "program.json", target / "program.pdiparams"]
    # optimize_tool="None": constant folding takes 20 s and OpenVINO does its own.
    paddle2onnx.export(
        *map(str, paddle_files), str(onnx), opset_version=17, optimize_tool="None", verbose=False
    )
    program = openvino.Core().read_model(str(onnx))
    openvino.save_model(program, str(target / "program.xml"), compress_to_fp16=False)
    del program
    for file in (onnx, *paddle_files):
        file.unlink()


def _main() -> int:
    request = orjson.loads(sys.stdin.buffer.read())
    settings = ModelSettings(**request["settings"])
    model = Model(request["name"], Path(request["path"]), settings)
    try:
        export_into_cache(model, request["tower"], request["form"])
    except RocketRankError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
