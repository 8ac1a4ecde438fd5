"""Tiny reference checkpoints as encoders, exported in this process: a child imports Paddle anew."""

from pathlib import Path
from typing import Any

from rocketrank.exporting import ProgramFormat, export_into_cache, is_exported
from rocketrank.inference import EngineName
from rocketrank.model_settings import ModelSettings
from rocketrank.models import Model, Tower, open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

ENGINES: list[EngineName] = ["openvino", "paddle"]


def tiny_encoder(folder: Path, engine: EngineName = "openvino", **settings: Any) -> DualEncoder:
    """A reference encoder as a dual encoder: it has no rocketrank.json of its own."""
    settings = {"query_length": 64, "passage_length": 64, **settings}
    model = Model(str(folder), folder, ModelSettings(role="dual-encoder", **settings))
    towers: list[Tower] = ["query", "passage"]
    for tower in towers:
        export_here(model, tower, engine)
    return DualEncoder.load(model, engine=engine, precision="fp32")


def tiny_scorer(folder: Path, engine: EngineName = "openvino") -> CrossEncoder:
    """A reference cross-encoder."""
    model = open_model(str(folder))
    export_here(model, "query", engine)
    return CrossEncoder.load(model, engine=engine, precision="fp32")


def export_here(model: Model, tower: Tower, engine: EngineName) -> None:
    form: ProgramFormat = "paddle" if engine == "paddle" else "openvino"
    if not is_exported(model, tower, form):
        export_into_cache(model, tower, form)
