"""The two models in training: opened from a start, fed with tokens, saved as model folders.

The retriever may share one tower between queries and passages or have two. A re-ranker may start
from any encoder, a retriever too: it then gets a new head, one logit over the first token's state
(RocketQAv2), with weights drawn from the seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ..backbone import (
    CLS_LINEAR_HEAD,
    Scorer,
    Tower,
    load_scorer,
    load_tower,
    paddle_module,
    save_weights,
)
from ..data.records import Passage, join_title
from ..errors import UsageError
from ..model_config import max_length
from ..model_settings import ModelSettings, save_settings
from ..models import Model, open_model
from ..models import Tower as TowerName
from ..tokenizing import Tokenizer, Tokens, copy_tokenizer
from .layers import Noise, prepare
from .recipe import ModelsSection

paddle = paddle_module()

_HEAD_DEVIATION = 0.02
"""Of the normal distribution that a new head is drawn from, as BERT's weights were."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A transformer with what belongs to it on the disk. ``folder`` is where it started."""

    layer: Any
    tokenizer: Tokenizer
    config: Mapping[str, Any]
    folder: Path

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        copy_tokenizer(self.folder, folder)
        (folder / "config.json").write_bytes(
            orjson.dumps(dict(self.config), option=orjson.OPT_INDENT_2) + b"\n"
        )
        save_weights(self.layer, folder, self.config)


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """A dual encoder in training; with shared towers, ``passage.layer`` is ``query.layer``."""

    settings: ModelSettings
    query: Part
    passage: Part

    @property
    def layers(self) -> dict[str, Any]:
        """The layers that have parameters of their own, by the name of their subfolder."""
        if self.settings.towers == "shared":
            return {"": self.query.layer}
        return {"query": self.query.layer, "passage": self.passage.layer}

    def query_tokens(self, queries: Sequence[str]) -> list[Tokens]:
        return self.query.tokenizer.encode([self.settings.query_prefix + text for text in queries])

    def passage_tokens(self, passages: Sequence[Passage]) -> list[Tokens]:
        prefix, tokenizer = self.settings.passage_prefix, self.passage.tokenizer
        if self.settings.title == "pair":
            return tokenizer.encode_pairs([(prefix + each.title, each.text) for each in passages])
        return tokenizer.encode([prefix + join_title(each.title, each.text) for each in passages])

    def save(self, folder: Path) -> None:
        """Write the model folder, which ``rq index --model`` takes as it is."""
        for name in self.layers:
            (self.passage if name == "passage" else self.query).save(folder / name)
        save_settings(folder, self.settings)


@dataclass(frozen=True, kw_only=True)
class Reranker:
    """A cross-encoder in training."""

    settings: ModelSettings
    pair: Part

    @property
    def layers(self) -> dict[str, Any]:
        return {"": self.pair.layer}

    def pair_tokens(self, queries: Sequence[str], passages: Sequence[Passage]) -> list[Tokens]:
        before, prefix = self.settings.query_prefix, self.settings.passage_prefix
        pairs = [
            (before + query, prefix + passage.full_text)
            for query, passage in zip(queries, passages, strict=True)
        ]
        return self.pair.tokenizer.encode_pairs(pairs)

    def save(self, folder: Path) -> None:
        """Write the model folder, which ``rq search --reranker`` takes as it is."""
        self.pair.save(folder)
        save_settings(folder, self.settings)


def open_retriever(section: ModelsSection, noise: Noise) -> Retriever:
    """The dual encoder that ``section.retriever`` names, ready for training."""
    model = open_model(section.retriever, role="dual-encoder")
    settings = _with_lengths(model, section, ("query_length", "passage_length"))
    if section.scale:
        settings = replace(settings, scale=section.scale)
    query = _open_tower(model, "query", settings, section, noise)
    if settings.towers == "separate":
        passage = _open_tower(model, "passage", settings, section, noise)
    else:
        length = settings.passage_length
        tokenizer = Tokenizer.load(model.tower_path("passage"), length=length)
        passage = replace(query, tokenizer=tokenizer)
    return Retriever(settings=settings, query=query, passage=passage)


def open_reranker(section: ModelsSection, noise: Noise, *, seed: int) -> Reranker:
    """The cross-encoder that ``section.reranker`` names, or a new head on that encoder."""
    model = open_model(section.reranker or section.retriever)
    folder = model.tower_path("passage")
    config: Mapping[str, Any] = model.config("passage")
    if model.settings.role == "cross-encoder":
        settings = _with_lengths(model, section, ("pair_length",))
        scorer = load_scorer(folder, config)
    else:
        settings = _cross_encoder_settings(model, section)
        config = _with_new_head(config)
        tower = load_tower(folder, config, pooling="cls", normalize=False)
        scorer = Scorer(config)
        scorer.encoder.set_state_dict(tower.encoder.state_dict())
        _draw_head(scorer, seed)
    scorer, config = _first_layers(scorer, Scorer, config, section.layers)
    _make_ready(scorer, section, noise)
    tokenizer = Tokenizer.load(folder, length=settings.pair_length)
    part = Part(layer=scorer, tokenizer=tokenizer, config=config, folder=folder)
    return Reranker(settings=settings, pair=part)


def named_parameters(layers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every parameter once, with a name that is the same in every run."""
    for name, layer in layers.items():
        for inner, parameter in layer.named_parameters():
            yield f"{name}.{inner}" if name else inner, parameter


def _open_tower(
    model: Model, side: TowerName, settings: ModelSettings, section: ModelsSection, noise: Noise
) -> Part:
    def build(config: Mapping[str, Any]) -> Tower:
        return Tower(config, pooling=settings.pooling, normalize=settings.normalize)

    folder, whole = model.tower_path(side), model.config(side)
    tower = load_tower(folder, whole, pooling=settings.pooling, normalize=settings.normalize)
    layer, config = _first_layers(tower, build, whole, section.layers)
    _make_ready(layer, section, noise)
    length = settings.query_length if side == "query" else settings.passage_length
    tokenizer = Tokenizer.load(folder, length=length)
    return Part(layer=layer, tokenizer=tokenizer, config=config, folder=folder)


def _make_ready(layer: Any, section: ModelsSection, noise: Noise) -> None:
    prepare(layer, noise, dropout=section.dropout if section.dropout >= 0 else None)
    layer.train()


def _with_lengths(model: Model, section: ModelsSection, keys: Sequence[str]) -> ModelSettings:
    """The model's settings with the recipe's lengths, where it gives any.

    A calibration belongs to the scores as they were before the training.
    """
    usable = min(max_length(model.config(side)) for side in ("query", "passage"))
    given: dict[str, Any] = {key: getattr(section, key) for key in keys if getattr(section, key)}
    for key, length in given.items():
        if length > usable:
            raise UsageError(
                f"models.{key} is {length}, but {model.name} has positions for {usable} tokens: "
                f"write {usable} or less"
            )
    return replace(model.settings, calibration=None, **given)


def _cross_encoder_settings(model: Model, section: ModelsSection) -> ModelSettings:
    start = model.settings
    both = min(start.query_length + start.passage_length, max_length(model.config("passage")))
    settings = ModelSettings(role="cross-encoder", pair_length=both)
    lengths = _with_lengths(model, section, ("pair_length",))
    return replace(settings, pair_length=lengths.pair_length if section.pair_length else both)


def _with_new_head(config: Mapping[str, Any]) -> dict[str, Any]:
    labels = {"num_labels": 1, "id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}
    return {**config, **labels, "rocketrank_head": CLS_LINEAR_HEAD}


def _draw_head(scorer: Scorer, seed: int) -> None:
    numbers = np.random.default_rng([seed, int.from_bytes(b"head")])
    weight = scorer.head.output.weight
    drawn = numbers.normal(0, _HEAD_DEVIATION, weight.shape)
    weight.set_value(drawn.astype(np.float32))
    bias = scorer.head.output.bias
    bias.set_value(np.zeros(bias.shape, dtype=np.float32))


def _first_layers(
    layer: Any, build: Any, config: Mapping[str, Any], count: int
) -> tuple[Any, Mapping[str, Any]]:
    """``layer`` with only the first ``count`` of its transformer's layers; 0 keeps all."""
    key = "n_layers" if config["model_type"] == "distilbert" else "num_hidden_layers"
    there = int(config.get(key) or 12)
    if count in (0, there):
        return layer, config
    if count > there:
        raise UsageError(f"models.layers is {count}, but the model has {there}: write {there}")
    config = {**config, key: count}
    short = build(config)
    state = layer.state_dict()
    short.set_state_dict({name: state[name] for name in short.state_dict()})
    return short, config
