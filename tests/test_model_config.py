"""What a config.json may say, and what is refused because it is not what is built here."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from rocketrank.errors import DataError
from rocketrank.model_config import hidden_width, max_length, read_config

CONFIG = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 4}


def written(folder: Path, **changes: Any) -> Path:
    (folder / "config.json").write_bytes(orjson.dumps({**CONFIG, **changes}))
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("relative_attention_num_buckets", 64),
    ],
)
def test_a_computation_that_is_not_built_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    shown = orjson.dumps(value).decode()
    with pytest.raises(DataError, match=f"config.json: {key} is {shown}, but only"):
        read_config(written(tmp_path, **{key: value}))


@pytest.mark.parametrize("value", [None, "absolute"])
def test_the_usual_positions_are_accepted_said_or_not(tmp_path: Path, value: str | None) -> None:
    assert read_config(written(tmp_path, position_embedding_type=value))["hidden_size"] == 32


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hidden_size", "32", "a whole number"),
        ("vocab_size", True, "a whole number"),
        ("layer_norm_eps", "1e-12", "a number"),
    ],
)
def test_numbers_that_are_none_are_named(
    tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    with pytest.raises(DataError, match=f"{key} is .*, expected {expected}"):
        read_config(written(tmp_path, **{key: value}))


def test_an_architecture_that_cannot_be_run_is_named_with_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='model_type is "t5", but only bert, distilbert, ernie'):
        read_config(written(tmp_path, model_type="t5"))


@pytest.mark.parametrize(
    ("model_type", "pad", "tokens"),
    [("bert", 0, 514), ("roberta", 1, 512), ("roberta", None, 512), ("mpnet", 0, 512)],
)
def test_positions_hold_as_many_tokens_as_hugging_face_counts(
    model_type: str, pad: int | None, tokens: int
) -> None:
    config = {"model_type": model_type, "max_position_embeddings": 514, "pad_token_id": pad}
    assert max_length(config) == tokens


def test_distilbert_calls_its_width_dim() -> None:
    assert hidden_width({"model_type": "distilbert", "dim": 48, "hidden_size": 9}) == 48
