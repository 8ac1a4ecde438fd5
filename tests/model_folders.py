"""Model folders written by hand, small enough to say all that they hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

BERT: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 2,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DUAL = {"role": "dual-encoder"}


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_tower(folder: Path, config: dict[str, Any]) -> None:
    write_json(folder / "config.json", config)
    save_file({"embedding": np.arange(4, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")


def write_model(
    folder: Path, settings: dict[str, Any] | None = None, config: dict[str, Any] = BERT
) -> Path:
    write_tower(folder, config)
    if settings is not None:
        write_json(folder / "rocketrank.json", settings)
    return folder
