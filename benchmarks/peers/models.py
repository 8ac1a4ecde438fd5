"""The weights that both sides read: MiniLM, and a cross-encoder as large made from it."""

import json
import shutil
from pathlib import Path

import numpy as np
import orjson
from safetensors.numpy import load_file, save_file

from rocketrank.data.records import Passage
from rocketrank.durable import write_durably
from rocketrank.model_config import read_json_object
from rocketrank.models import open_model
from rocketrank.quantize import quantize_model


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as sentence-transformers lays it out."""
    return open_model("minilm").path


def in_integers(model: Path, texts: Path) -> Path:
    """What rq quantize makes of a model and of the texts in a JSON file, beside that file."""
    folder = texts.with_suffix(f".{model.name}.int8")
    if not folder.exists():
        passages = [Passage(str(n), text) for n, text in enumerate(json.loads(texts.read_text()))]
        quantize_model(model, passages, folder)
    return folder


def write_cross_encoder(folder: Path) -> Path:
    """MiniLM under a head of fixed random numbers: for speed and agreement, not for ranking."""
    if folder.exists():
        return folder
    source = minilm_folder()
    weights = {
        f"bert.{name}": value for name, value in load_file(source / "model.safetensors").items()
    }
    width = weights["bert.embeddings.word_embeddings.weight"].shape[1]
    random = np.random.default_rng(1)
    weights["classifier.weight"] = random.normal(0, 0.5, (1, width)).astype(np.float32)
    weights["classifier.bias"] = np.zeros(1, dtype=np.float32)
    beside = folder.with_name(folder.name + ".new")
    beside.mkdir(parents=True)
    save_file(weights, beside / "model.safetensors", metadata={"format": "pt"})
    config = read_json_object(source / "config.json")
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    write_durably(beside / "config.json", [orjson.dumps(config)])
    settings = {"role": "cross-encoder", "pair_length": 256}
    write_durably(beside / "rocketrank.json", [orjson.dumps(settings)])
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / name, beside / name)
    beside.rename(folder)
    return folder
