"""PaddleNLP's model folders (``rocketqa*``, ``ernie*`` and BERT): what they hold.

Learnt from PaddlePaddle/PaddleNLP (release 3.0.0b4):

* ``config.json``, or ``model_config.json`` of releases before 2.5, whose values lie in
  ``init_args`` (``paddlenlp/transformers/configuration_utils.py``); ``vocab.txt``; weights in
  ``model_state.pdparams`` or, in Paddle's orientation all the same, ``model.safetensors``.
* Names are ``ernie.*`` and ``classifier.*`` (``ernie/modeling.py``); one more ``ernie.`` when an
  ``ErnieCrossEncoder`` was saved, and ``query_ernie.ernie.*`` beside ``title_ernie.ernie.*`` when
  an ``ErnieDualEncoder`` was (``semantic_search/modeling.py``). The published ``…-query-encoder``
  and ``…-para-encoder`` are two folders of one tower each.
* Its dual encoder takes the last state of [CLS] and reads a passage as the second segment after an
  empty first (``taskflow/text_feature_extraction.py``), as RocketQA. A cross-encoder's classifier
  stands on the pooler, except for ``rocketqav2-*``, where it stands on the bare [CLS] state
  (``taskflow/text_similarity.py``: ``matching_v2``).
* ERNIE was trained with a LayerNorm epsilon of 1e-5. PaddleNLP computes with 1e-12 whatever its
  config says, except where it sets ``reinitialize`` for RocketQA; here it is 1e-5 for every ERNIE.

A ``.pdparams`` file is a pickle: convert only files whose origin you trust.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checkpoint_names import (
    PADDLENLP,
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
from .checkpoint_tokenizer import Vocabulary, read_vocabulary
from .errors import DataError, MissingDependencyError, UsageError
from .lod_tensor import bfloat16_to_float32
from .model_config import read_json_object
from .model_settings import ModelSettings, Role

WEIGHT_FILES = ("model_state.pdparams", "model.safetensors", "model_state.safetensors")
CONFIG_FILES = ("config.json", "model_config.json")

_log = logging.getLogger(__name__)

_WORD_EMBEDDING = PADDLENLP.embeddings["word_embeddings"]
_CLASS = re.compile(r"^(Ernie|Bert)(Model|Pretrained|For|Encoder|CrossEncoder|DualEncoder)")


class _Folder(NamedTuple):
    """One folder that was read; ``encoders`` are the name prefixes of the encoders in it."""

    path: Path
    weights_path: Path
    config_path: Path
    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    encoders: list[str]


def open_paddlenlp(source: Path, role: Role | None, passage: Path | None) -> Checkpoint:
    """Open a PaddleNLP folder, and for separate towers in two folders ``passage`` as well."""
    folder = _read_folder(source)
    role = role or ("dual-encoder" if passage else _role(folder))
    if role == "cross-encoder":
        if passage is not None:
            raise UsageError("a passage folder goes with a dual encoder, not with a cross-encoder")
        towers = {"": _cross_encoder(folder, _one_encoder(folder))}
    elif passage is not None:
        second = _read_folder(passage)
        towers = {
            "query": _dual_encoder(folder, _one_encoder(folder)),
            "passage": _dual_encoder(second, _one_encoder(second)),
        }
        _check_same_width(towers)
    elif len(folder.encoders) == 2:
        query, title = sorted(folder.encoders)
        towers = {"query": _dual_encoder(folder, query), "passage": _dual_encoder(folder, title)}
    else:
        towers = {"": _dual_encoder(folder, folder.encoders[0])}
        _warn_of_half(folder)
    used = [weight.source for tower in towers.values() for weight in tower.weights]
    names = {name for tower in towers.values() for name in tower.names}
    return Checkpoint(
        settings=_settings(role, towers), towers=towers, left_out=sort_left_out(names, used)
    )


def _read_folder(path: Path) -> _Folder:
    config_path = _first_file(path, CONFIG_FILES, "config")
    weights_path = _first_file(path, WEIGHT_FILES, "weights")
    tensors = _read_tensors(weights_path)
    if any(".attention.self.query." in name for name in tensors):
        raise DataError(
            f"{weights_path} already has Hugging Face's names (attention.self.query): "
            "use the folder as a model without converting it"
        )
    projections = [name for name in tensors if "emb_reduce_linear" in name]
    if projections:
        raise DataError(
            f"{weights_path} projects its vectors ({projections[0]}), "
            "for which a model directory has no place: it cannot be converted"
        )
    encoders = [name.removesuffix(_WORD_EMBEDDING) for name in tensors]
    encoders = [prefix for prefix, name in zip(encoders, tensors, strict=True) if prefix != name]
    pair = len(encoders) == 2 and [name[:6] for name in sorted(encoders)] == ["query_", "title_"]
    if len(encoders) != 1 and not pair:
        raise DataError(
            f"{weights_path}: expected the variables of one encoder, or of query_* and title_*, "
            f"found {len(encoders)} with a name that ends in {_WORD_EMBEDDING!r}"
        )
    if pair and _same_weights(tensors, *sorted(encoders)):
        tensors = {name: value for name, value in tensors.items() if name[:6] != "title_"}
        encoders = [name for name in encoders if name[:6] != "title_"]
    config = _flat_config(read_json_object(config_path))
    return _Folder(path, weights_path, config_path, config, tensors, encoders)


def _first_file(folder: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {what}: expected {' or '.join(names)}")


def _flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The old layout nests the encoder's values as ``{"init_args": [{…}], "init_class": …}``."""
    flat: dict[str, Any] = {}
    for nested in config.get("init_args") or ():
        if isinstance(nested, Mapping):
            flat.update(_flat_config(nested))
    flat.update({key: value for key, value in config.items() if key != "init_args"})
    return flat


def _read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        return _load_pdparams(path)
    except MissingDependencyError:
        raise
    # Paddle and safetensors raise their own and the pickle's many errors for a damaged file.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}); copy the checkpoint again") from error


def _load_pdparams(path: Path) -> dict[str, NDArray[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import paddle
        except ImportError as error:
            raise MissingDependencyError(
                f"{path.name} needs PaddlePaddle, which cannot be imported ({error}); "
                'install it with: pip install "rocketrank[cpu]"'
            ) from error
        loaded = paddle.load(str(path), return_numpy=True)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"expected a dictionary of variables, found {type(loaded).__name__}")
    return {name: value for name, value in loaded.items() if isinstance(value, np.ndarray)}


def _role(folder: _Folder) -> Role:
    """By the classes and the name of the folder; what neither says has to be passed."""
    classes = " ".join(_class_names(folder.config))
    if folder.encoders[0][:6] in ("query_", "title_") or "DualEncoder" in classes:
        return "dual-encoder"
    if "SequenceClassification" in classes or "CrossEncoder" in classes:
        return "cross-encoder"
    if "cross-encoder" in folder.path.name:
        return "cross-encoder"
    head = _head_prefix(folder.encoders[0])
    named = "query-encoder" in folder.path.name or "para-encoder" in folder.path.name
    if named or f"{head}classifier.weight" not in folder.tensors:
        return "dual-encoder"
    raise UsageError(
        f"{folder.path} has a classifier but does not say that it is a cross-encoder; "
        "pass the role (dual-encoder or cross-encoder)"
    )


def _class_names(config: Mapping[str, Any]) -> list[str]:
    architectures = config.get("architectures") or ()
    names = [*architectures, config.get("init_class")]
    return [name for name in names if isinstance(name, str)]


def _head_prefix(encoder: str) -> str:
    """``ernie.ernie.`` → ``ernie.``: a head lies beside the encoder."""
    outer, dot, _ = encoder.removesuffix(".").rpartition(".")
    return outer + dot


def _one_encoder(folder: _Folder) -> str:
    if len(folder.encoders) != 1:
        raise UsageError(
            f"{folder.weights_path} has two encoders ({', '.join(sorted(folder.encoders))}), "
            "expected one"
        )
    return folder.encoders[0]


def _same_weights(tensors: Mapping[str, NDArray[Any]], query: str, title: str) -> bool:
    """An ErnieDualEncoder that shares its parameters saves them under both names."""
    ours, theirs = (
        {name.removeprefix(encoder): name for name in tensors if name.startswith(encoder)}
        for encoder in (query, title)
    )
    return ours.keys() == theirs.keys() and all(
        np.array_equal(tensors[name], tensors[theirs[part]]) for part, name in ours.items()
    )


def _warn_of_half(folder: _Folder) -> None:
    half = re.search("query-encoder|para-encoder", folder.path.name)
    if half:
        _log.warning(
            "%s is one of two towers by its name (%s) but now serves queries and passages both; "
            "convert it together with the other folder if there is one",
            folder.path,
            half[0],
        )


def _architecture(folder: _Folder, encoder: str) -> str:
    model_type = folder.config.get("model_type")
    if model_type is None:
        classes = [_CLASS.match(name) for name in _class_names(folder.config)]
        found = [match[1].lower() for match in classes if match]
        model_type = found[0] if found else re.split(r"[._]", f"_ernie.{encoder}")[-2]
    if model_type not in ("ernie", "bert"):
        raise DataError(
            f"{folder.config_path}: expected the model type 'ernie' or 'bert', found {model_type!r}"
        )
    return str(model_type)


def _parts(folder: _Folder, encoder: str) -> tuple[Sizes, Vocabulary, dict[str, Any]]:
    """Sizes, vocabulary and Hugging Face's config of one encoder."""
    architecture = _architecture(folder, encoder)
    place = folder.config_path
    config = {"intermediate_size": 3072, "task_type_vocab_size": 3, **folder.config}
    width = positive_integer(config, "intermediate_size", place)
    sizes = encoder_sizes(config, place, types="type_vocab_size", intermediate=width)
    options_path = folder.path / "tokenizer_config.json"
    options = read_json_object(options_path) if options_path.exists() else {}
    vocabulary = read_vocabulary(
        folder.path / "vocab.txt",
        lower_case=bool(options.get("do_lower_case", True)),
        remove_spaces=False,
    )
    epsilon = 1e-5 if architecture == "ernie" else float(config.get("layer_norm_eps", 1e-12))
    written = hugging_face_config(
        config,
        sizes,
        architecture=architecture,
        epsilon=epsilon,
        pad_id=vocabulary.ids["[PAD]"],
    )
    return sizes, vocabulary, written


def _tower(
    folder: _Folder,
    weights: Iterator[Weight],
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
) -> TowerSource:
    def read(name: str) -> NDArray[Any]:
        value = folder.tensors[name]
        # numpy has no bfloat16: safetensors gives a type of its own, Paddle the bits as uint16.
        if value.dtype.name == "bfloat16":
            return value.astype(np.float32)
        return bfloat16_to_float32(value) if value.dtype == np.uint16 else value

    return TowerSource(
        origin=str(folder.weights_path),
        config_origin=str(folder.config_path),
        names=frozenset(folder.tensors),
        weights=tuple(weights),
        read=read,
        config=config,
        vocabulary=vocabulary,
    )


def _dual_encoder(folder: _Folder, encoder: str) -> TowerSource:
    sizes, vocabulary, config = _parts(folder, encoder)
    weights = encoder_weights(sizes, PADDLENLP, source=encoder)
    return _tower(folder, weights, vocabulary, config)


def _cross_encoder(folder: _Folder, encoder: str) -> TowerSource:
    sizes, vocabulary, bare = _parts(folder, encoder)
    head = _head_prefix(encoder)
    classifier = folder.tensors.get(f"{head}classifier.weight")
    if classifier is None:
        raise DataError(
            f"{folder.weights_path} has no {head}classifier.weight, which a cross-encoder needs"
        )
    classes = classifier.shape[-1]
    if classes not in (1, 2):
        raise DataError(
            f"{folder.weights_path}: expected one logit or two classes in {head}classifier.weight, "
            f"found shape {classifier.shape}"
        )
    pooled = f"{encoder}pooler.dense.weight" in folder.tensors
    pooled = pooled and not folder.path.name.startswith("rocketqav2")
    config = with_classifier(bare, classes=classes, pooled=pooled)
    target = f"{config['model_type']}."

    def weights() -> Iterator[Weight]:
        yield from encoder_weights(sizes, PADDLENLP, source=encoder, target=target)
        if pooled:
            yield from pooler_weights(sizes, PADDLENLP, source=encoder, target=target)
        names = f"{head}classifier.weight", f"{head}classifier.bias"
        yield from classifier_weights(*names, sizes.hidden, classes)

    return _tower(folder, weights(), vocabulary, config)


def _check_same_width(towers: Mapping[str, TowerSource]) -> None:
    query, passage = (int(towers[name].config["hidden_size"]) for name in ("query", "passage"))
    if query != passage:
        raise DataError(
            f"hidden_size is {query} in {towers['query'].config_origin} but {passage} in "
            f"{towers['passage'].config_origin}: their vectors cannot be compared"
        )


def _settings(role: Role, towers: Mapping[str, TowerSource]) -> ModelSettings:
    """RocketQA's lengths, cut where the model has fewer positions: the folder does not say any."""
    positions = min(int(tower.config["max_position_embeddings"]) for tower in towers.values())
    if role == "cross-encoder":
        return ModelSettings(role=role, pair_length=min(160, positions))
    return ModelSettings(
        role=role,
        towers="shared" if len(towers) == 1 else "separate",
        pooling="cls",
        title="pair",
        query_length=min(32, positions),
        passage_length=min(128, positions),
    )
