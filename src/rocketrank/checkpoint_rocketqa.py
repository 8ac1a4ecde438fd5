"""RocketQA 1.x's checkpoint folders: what they hold and how RocketQA runs them.

Learnt from PaddlePaddle/RocketQA, commit 1746b93 (names in :mod:`rocketrank.checkpoint_names`):

* ``config.json`` (``rocketqa/encoder/dual_encoder.py``, ``cross_encoder.py``: ``_parse_args``)
  names, relative to its folder, the ERNIE config (``model_conf_path``), the vocabulary
  (``model_vocab_path``) and the folder of variables (``model_checkpoint_path``), and holds
  ``model_type`` (``dual_encoder`` | ``cross_encoder``; the published archives may lack it),
  ``q_max_seq_len`` and ``p_max_seq_len`` or ``max_seq_len``, ``for_cn`` and ``share_parameter``
  or ``joint_training``.
* One file per variable (``utils/init.py``: ``load_vars`` without a file name).
* Dual encoder (``rocketqa/model/dual_encoder_predict.py``): the queries' variables start with
  ``query_``, the passages' with ``titlepara_``; with ``share_parameter`` both sides are
  ``titlepara_``. A vector is the last state of [CLS], without pooler or projection, and a score
  the dot product. A passage is ``[CLS] title [SEP] text [SEP]`` with token types 0 and 1, with an
  empty title where there is none (``rocketqa/reader/reader_de_predict.py``).
* Cross-encoder (``rocketqa/model/cross_encoder_predict.py``, ``ernie.py: get_pooled_output``):
  v1 has no prefix, ``pooled_fc`` with tanh and ``<task>_cls_out_w``/``_b`` with two classes
  (the task's name is empty in RocketQA's own models), scored by the softmax of class 1, which
  orders as logit1 - logit0. v2 (``joint_training`` 1) starts with ``qtp_`` and has
  ``qtp__cls_out_w``/``_b`` with one logit on the bare [CLS] state. Title and text are one segment.
* The feed-forward layer is 4 times the hidden size whatever the config says, the LayerNorm epsilon
  1e-5 (the default of ``fluid.layers.layer_norm``), task id 0, and the
  activation the config's: ``relu`` for the Chinese models, ``gelu`` (by erf) for the English ones.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .checkpoint_names import (
    ROCKETQA,
    Checkpoint,
    Sizes,
    TowerSource,
    Weight,
    classifier_weights,
    encoder_sizes,
    encoder_weights,
    hugging_face_config,
    pooler_weights,
    positive_integer,
    sort_left_out,
    with_classifier,
)
from .checkpoint_tokenizer import read_vocabulary
from .errors import DataError, UsageError
from .lod_tensor import read_lod_tensor
from .model_config import read_json_object
from .model_settings import ModelSettings, Role

EPSILON = 1e-5
_ROLES: Mapping[str, Role] = {"dual_encoder": "dual-encoder", "cross_encoder": "cross-encoder"}


def open_rocketqa(config_path: Path, role: Role | None) -> Checkpoint:
    """Open the checkpoint that RocketQA's ``config.json`` describes."""
    config = read_json_object(config_path)
    role = role or _role(config, config_path)
    ernie_path = _beside(config_path, config, "model_conf_path")
    folder, names = _variables(config_path, config)
    ernie = read_json_object(ernie_path)
    sizes = _sizes(ernie, ernie_path)
    vocabulary = read_vocabulary(
        _beside(config_path, config, "model_vocab_path"),
        lower_case=True,
        remove_spaces=bool(config.get("for_cn", False)),
    )
    bare = hugging_face_config(
        ernie, sizes, architecture="ernie", epsilon=EPSILON, pad_id=vocabulary.ids["[PAD]"]
    )

    def tower(weights: Iterator[Weight], written: Mapping[str, Any]) -> TowerSource:
        return TowerSource(
            origin=str(folder),
            config_origin=str(ernie_path),
            names=names,
            weights=tuple(weights),
            read=lambda name: read_lod_tensor(folder / name),
            config=written,
            vocabulary=vocabulary,
        )

    if role == "cross-encoder":
        towers = {"": tower(*_cross_encoder(config, bare, sizes, names, folder))}
    else:
        prefixes = _dual_encoder_prefixes(config, names, config_path)
        towers = {
            subfolder: tower(encoder_weights(sizes, ROCKETQA, source=prefix), bare)
            for subfolder, prefix in prefixes.items()
        }
    used = [weight.source for source in towers.values() for weight in source.weights]
    return Checkpoint(
        settings=_settings(config, config_path, role, sizes, shared=len(towers) == 1),
        towers=towers,
        left_out=sort_left_out(names, used),
    )


def _role(config: Mapping[str, Any], place: Path) -> Role:
    if config.get("model_type") in _ROLES:
        return _ROLES[config["model_type"]]
    if "model_type" in config:
        raise DataError(
            f"{place}: expected 'dual_encoder' or 'cross_encoder' as 'model_type', "
            f"found {config['model_type']!r}"
        )
    if "q_max_seq_len" in config:
        return "dual-encoder"
    if "max_seq_len" in config:
        return "cross-encoder"
    raise UsageError(
        f"{place} does not say whether it is a dual encoder or a cross-encoder; "
        "pass the role (dual-encoder or cross-encoder)"
    )


def _beside(config_path: Path, config: Mapping[str, Any], key: str) -> Path:
    value = config.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{config_path}: expected a path as {key!r}, found {value!r}")
    path = config_path.parent / value
    if not path.exists():
        raise DataError(f"{config_path}: {key} is {value!r}, but {path} does not exist")
    return path


def _variables(config_path: Path, config: Mapping[str, Any]) -> tuple[Path, frozenset[str]]:
    """The folder of variables, and their names: those of the files in it."""
    folder = _beside(config_path, config, "model_checkpoint_path")
    if not folder.is_dir():
        raise DataError(
            f"{config_path}: model_checkpoint_path names {folder}, "
            "expected a folder with one file per variable, found a file"
        )
    return folder, frozenset(
        path.name for path in folder.iterdir() if not path.name.startswith(".")
    )


def _sizes(ernie: Mapping[str, Any], place: Path) -> Sizes:
    types = "sent_type_vocab_size" if ernie.get("sent_type_vocab_size") else "type_vocab_size"
    return encoder_sizes(
        ernie, place, types=types, intermediate=4 * positive_integer(ernie, "hidden_size", place)
    )


def _dual_encoder_prefixes(
    config: Mapping[str, Any], names: frozenset[str], config_path: Path
) -> dict[str, str]:
    """Subfolder of the model directory → prefix of the variables that go into it."""
    if config.get("share_parameter", 0):
        return {"": "titlepara_"}
    word_embedding = ROCKETQA.embeddings["word_embeddings"]
    present = [prefix for prefix in ("query_", "titlepara_") if prefix + word_embedding in names]
    if present == ["titlepara_"]:
        raise DataError(
            f"{config_path}: share_parameter is {config.get('share_parameter', 0)!r} but there are "
            "variables of one encoder only (titlepara_*, no query_*); "
            "write 1 if queries and passages share it"
        )
    return {"query": "query_", "passage": "titlepara_"}


def _cross_encoder(
    config: Mapping[str, Any],
    bare: Mapping[str, Any],
    sizes: Sizes,
    names: frozenset[str],
    folder: Path,
) -> tuple[Iterator[Weight], Mapping[str, Any]]:
    """A cross-encoder's weights under Hugging Face's names, and its config.json."""
    joint = bool(config.get("joint_training", _only_joint(names)))
    stem = "qtp__cls_out" if joint else _head_stem(names, folder)
    if f"{stem}_w" not in names:
        raise DataError(f"{folder} has no {stem}_w, the classifier that a cross-encoder needs")
    shape = read_lod_tensor(folder / f"{stem}_w").shape
    classes = shape[-1] if shape else 0
    if classes not in (1, 2):
        raise DataError(
            f"{folder / f'{stem}_w'}: expected one logit or two classes, found shape {shape}"
        )

    def weights() -> Iterator[Weight]:
        prefix = "qtp_" if joint else ""
        yield from encoder_weights(sizes, ROCKETQA, source=prefix, target="ernie.")
        if not joint:
            yield from pooler_weights(sizes, ROCKETQA, target="ernie.")
        yield from classifier_weights(f"{stem}_w", f"{stem}_b", sizes.hidden, classes)

    return weights(), with_classifier(bare, classes=classes, pooled=not joint)


def _only_joint(names: frozenset[str]) -> bool:
    word_embedding = ROCKETQA.embeddings["word_embeddings"]
    return f"qtp_{word_embedding}" in names and word_embedding not in names


def _head_stem(names: frozenset[str], folder: Path) -> str:
    """``_cls_out``, or the like with the task's name before it."""
    stems = sorted(
        name.removesuffix("_w")
        for name in names
        if name.endswith("cls_out_w") and not name.startswith("qtp_")
    )
    if len(stems) > 1:
        raise DataError(
            f"{folder} has {len(stems)} classifiers ({', '.join(stems)}), expected one; "
            "move the others' files away"
        )
    return stems[0] if stems else "_cls_out"


def _settings(
    config: Mapping[str, Any], place: Path, role: Role, sizes: Sizes, *, shared: bool
) -> ModelSettings:
    def length(key: str, default: int) -> int:
        value = positive_integer(config, key, place) if key in config else default
        if value > sizes.positions:
            raise DataError(
                f"{place}: {key} ({value}) must be at most max_position_embeddings "
                f"({sizes.positions}) of the ERNIE config"
            )
        return value

    if role == "cross-encoder":
        return ModelSettings(
            role=role, pair_length=length("max_seq_len", min(160, sizes.positions))
        )
    return ModelSettings(
        role=role,
        towers="shared" if shared else "separate",
        pooling="cls",
        title="pair",
        query_length=length("q_max_seq_len", min(32, sizes.positions)),
        passage_length=length("p_max_seq_len", min(128, sizes.positions)),
    )
