"""Turns a model into a static program on disk, once, in a process of its own.

The child process is what imports Paddle: a search that finds its program in the cache never does,
the memory of the export is given back, and what the exporters print stays out of our output.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import orjson

from .durable import replacing
from .errors import MissingDependencyError, RocketRankError
from .model_settings import parse_settings, settings_values
from .models import Model, Tower, cache_directory

ProgramFormat = Literal["openvino", "paddle"]

_log = logging.getLogger(__name__)

# Raise it when the exported computation changes: older programs are then left unused.
EXPORT_VERSION = 1

_MAIN_FILE = {"openvino": "program.xml", "paddle": "program.json"}
# Written last, with the size of every other file: without it, or with other sizes, there is none.
_COMPLETE = "complete.json"
_EXPLAINED = 3
_LEFT_OVER_AFTER = 3600.0


def exported_program(model: Model, tower: Tower, form: ProgramFormat) -> Path:
    """The program's main file, exported first if the cache has no whole one.

    With shared towers, and for a cross-encoder, both towers lead to one program. Processes may
    export at once. Raises RocketRankError when the export fails, with the exporter's reason.
    """
    if not is_exported(model, tower, form):
        _log.info("exporting %s for %s, once; some seconds", model.name, form)
        _export_in_child(model, tower, form)
    return program_folder(model, tower, form) / _MAIN_FILE[form]


def is_exported(model: Model, tower: Tower, form: ProgramFormat) -> bool:
    """Whether the cache holds this program, every file in its full size."""
    folder = program_folder(model, tower, form)
    try:
        sizes = orjson.loads((folder / _COMPLETE).read_bytes())
        return bool(sizes) and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return False
    except OSError as error:
        raise _unusable_cache(error) from error


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
        _remove_left_overs(folder)
        with replacing(folder) as beside:
            beside.mkdir()
            _write_program(model, tower, form, beside)
            sizes = {file.name: file.stat().st_size for file in beside.iterdir()}
            (beside / _COMPLETE).write_bytes(orjson.dumps(sizes))
            if folder.exists() and not is_exported(model, tower, form):
                folder.rename(folder.parent / f".{folder.name}.{secrets.token_hex(6)}")
    except OSError as error:
        if not is_exported(model, tower, form):  # else another process did the same, faster
            raise _unusable_cache(error) from error


def _remove_left_overs(folder: Path) -> None:
    """Remove what killed exports have left beside ``folder``."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - path.stat().st_mtime > _LEFT_OVER_AFTER:
            shutil.rmtree(path, ignore_errors=True)


def _unusable_cache(error: OSError) -> RocketRankError:
    return RocketRankError(
        f"the model cache {cache_directory()} cannot be used ({error.strerror}); "
        "set ROCKETRANK_CACHE to a folder that you can write"
    )


def _export_in_child(model: Model, tower: Tower, form: ProgramFormat) -> None:
    request = {
        "name": model.name,
        "path": str(model.path),
        "settings": settings_values(model.settings),
        "tower": tower,
        "form": form,
    }
    package_root = str(Path(__file__).resolve().parents[1])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        # paddlenlp makes a folder when it is imported, by default in a home that may be read-only
        "PPNLP_HOME": str(cache_directory() / "paddlenlp"),
    }
    child = subprocess.run(
        # -P: a file named like a module in the user's folder must not be imported for it
        [sys.executable, "-P", "-W", "ignore", "-m", "rocketrank.exporting"],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=environment,
    )
    if child.returncode == 0:
        return
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {child.returncode}"
    if child.returncode == _EXPLAINED:
        raise RocketRankError(reason)
    if child.returncode < 0:
        reason = f"it was killed by signal {-child.returncode}, often for want of memory"
    raise RocketRankError(f"{model.name} could not be exported for {form}: {reason}")


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
        _paddle_to_openvino(target, model.limits(tower))


def _paddle_to_openvino(target: Path, limits: Path | None) -> None:
    from . import integer_products

    try:
        import openvino
        import paddle2onnx
    except ImportError as error:
        raise MissingDependencyError(
            f'{error.name} is not installed: pip install "rocketrank[cpu]", or take --engine paddle'
        ) from error

    onnx = target / "program.onnx"
    paddle_files = [target / "program.json", target / "program.pdiparams"]
    # optimize_tool="None": constant folding takes 20 s and OpenVINO does its own.
    paddle2onnx.export(
        *map(str, paddle_files), str(onnx), opset_version=17, optimize_tool="None", verbose=False
    )
    program = openvino.Core().read_model(str(onnx))
    if limits:
        integer_products.use_integers(program, integer_products.read_limits(limits), limits)
    openvino.save_model(program, str(target / "program.xml"), compress_to_fp16=False)
    del program
    for file in (onnx, *paddle_files):
        file.unlink()


def _main() -> int:
    request = json.load(sys.stdin)
    settings = parse_settings(request["settings"], request["path"])
    model = Model(request["name"], Path(request["path"]), settings)
    try:
        export_into_cache(model, request["tower"], request["form"])
    except RocketRankError as error:
        print(error, file=sys.stderr)
        return _EXPLAINED
    except Exception as error:
        first = next(filter(None, str(error).splitlines()), "no reason given")
        print(f"{type(error).__name__}: {first}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
