"""A model whose products with weights are of 8-bit integers, out of one in floats: ``rq quantize``.

The limits between which activations are rounded are measured on texts of the corpus. They are
written beside the weights, in a folder of its own with a fingerprint of its own: an index that the
one model filled is not searched with the other. Before the folder is put in its place, both models
read other texts of the corpus, and where their results differ by too much nothing is written.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .data.records import Passage, Query
from .data.sampling import Reservoir
from .durable import check_new_folder, replacing
from .errors import DataError, UsageError
from .exporting import exported_program
from .inference import Program, RuntimeChoice, choose_runtime
from .integer_products import Measuring, save_limits
from .model_settings import Role, save_settings
from .models import LIMITS_FILE, Model, Tower, open_model, weight_files
from .reranker import CrossEncoder
from .retriever import DualEncoder
from .runtime import check_integers
from .tokenizing import copy_tokenizer

TEXTS = 128
"""Passages to measure by; as many others are for the comparison."""

_LEAST_AGREEMENT = 0.99
_ASKED_WORDS = 12
"""Words that stand for a question where no queries are given and a passage has no title."""


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """What was made, and how it agrees with the model that it was made of.

    Of a dual encoder, ``mean`` and ``least`` are cosines between both models' vectors of the same
    texts; of a cross-encoder both are the correlation between its scores.
    """

    target: Path
    role: Role
    measured: int
    compared: int
    mean: float
    least: float


class _Texts(NamedTuple):
    passages: list[Passage]
    queries: list[str]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each query with its own passage, and with the next one, which is about something else."""
        turned = [*self.passages[1:], *self.passages[:1]]
        return [
            (query, passage.full_text)
            for query, both in zip(
                self.queries, zip(self.passages, turned, strict=True), strict=True
            )
            for passage in both
        ]


def quantize_model(
    source: str | Path | Model,
    corpus: Iterable[Passage],
    target: Path,
    *,
    queries: Iterable[Query] = (),
    threads: int | None = None,
) -> QuantizationReport:
    """Make the model folder ``target`` out of ``source``, measured on passages of ``corpus``.

    ``queries`` are texts that are asked; without them titles, or first words, stand for them.
    Raises UsageError for a target that is used and a machine without 8-bit integers, DataError for
    a corpus of too few passages and for a model that loses too much.
    """
    check_new_folder(target)
    model = open_model(source)
    runtime = choose_runtime(precision="fp32", engine="openvino", threads=threads)
    check_integers(runtime, "rq quantize makes models of 8-bit integers", instead=model.name)
    if model.limits():
        raise UsageError(f"{model.name} is of 8-bit integers already: give the model it is made of")
    measured, compared = _draw(corpus, list(queries))
    measuring = _run_measuring(model, runtime, measured)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            beside.mkdir()
            _write(model, measuring, beside)
            made = Model(str(target), beside, model.settings)
            agreement = _agreement(model, made, runtime, compared)
            mean, least = float(agreement.mean()), float(agreement.min())
            if mean < _LEAST_AGREEMENT:
                raise DataError(
                    f"in 8-bit integers {model.name} gives other results (agreement {mean:.4f} "
                    f"on other passages, and {_LEAST_AGREEMENT} is asked): nothing was written; "
                    "stay with the model as it is"
                )
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    return QuantizationReport(
        target=target,
        role=model.settings.role,
        measured=len(measured.passages),
        compared=len(compared.passages),
        mean=mean,
        least=least,
    )


def _draw(corpus: Iterable[Passage], queries: Sequence[Query]) -> tuple[_Texts, _Texts]:
    """Texts to measure by and texts to compare with, which have none in common."""
    reservoir: Reservoir[Passage] = Reservoir(2 * TEXTS)
    for passage in corpus:
        reservoir.offer(passage)
    drawn = [passage for _, passage in reservoir.drawn()]
    if len(drawn) < 4:
        raise DataError(
            f"the corpus has {len(drawn)} passages, and half of them are measured, half compared: "
            "give at least 4"
        )
    asked = [
        queries[number % len(queries)].text if queries else _stands_for(passage)
        for number, passage in enumerate(drawn)
    ]
    return _Texts(drawn[::2], asked[::2]), _Texts(drawn[1::2], asked[1::2])


def _stands_for(passage: Passage) -> str:
    return passage.title or " ".join(passage.text.split()[:_ASKED_WORDS])


def _run_measuring(model: Model, runtime: RuntimeChoice, texts: _Texts) -> dict[Tower, Measuring]:
    """The measuring program of each tower (of one, where they are shared), with ``texts`` read."""
    programs: dict[Tower, Measuring] = {}

    def load(model: Model, tower: Tower, runtime: RuntimeChoice) -> Program:
        file = exported_program(model, tower, "openvino")
        programs[tower] = Measuring(file, runtime)
        return programs[tower]

    if model.settings.role == "cross-encoder":
        CrossEncoder(model, runtime, load=load).score(texts.pairs)
    else:
        encoder = DualEncoder(model, runtime, load=load)
        encoder.encode_queries(texts.queries)
        encoder.encode_passages(*_columns(texts.passages))
    return programs


def _columns(passages: Sequence[Passage]) -> tuple[list[str], list[str]]:
    return [each.text for each in passages], [each.title for each in passages]


def _write(model: Model, measuring: dict[Tower, Measuring], target: Path) -> None:
    """The model folder, towers first; raises OSError."""
    for tower, program in measuring.items():
        folder = model.tower_path(tower)
        place = target / folder.relative_to(model.path)
        place.mkdir(exist_ok=True)
        index = folder / "model.safetensors.index.json"
        files = [folder / "config.json", *weight_files(folder)]
        for file in [*files, *([index] if index.exists() else [])]:
            shutil.copyfile(file, place / file.name)
        copy_tokenizer(folder, place)
        save_limits(place / LIMITS_FILE, program.limits())
    # its scores differ a little from those that a calibration was fitted to
    save_settings(target, replace(model.settings, calibration=None))


def _agreement(
    model: Model, made: Model, runtime: RuntimeChoice, texts: _Texts
) -> NDArray[np.float64]:
    """Cosines between both models' vectors of each text; of a cross-encoder one correlation."""
    usual = choose_runtime(engine="openvino", threads=runtime.threads)
    both = ((model, runtime), (made, usual))
    if model.settings.role == "cross-encoder":
        first, second = (CrossEncoder(each, how).score(texts.pairs) for each, how in both)
        return np.corrcoef(first, second)[0, 1:]
    before, after = (_directions(DualEncoder(each, how), texts) for each, how in both)
    cosines: NDArray[np.float64] = (before * after).sum(axis=1)
    return cosines


def _directions(encoder: DualEncoder, texts: _Texts) -> NDArray[np.float64]:
    """The vectors of queries and passages, of length 1."""
    queries = encoder.encode_queries(texts.queries)
    vectors = np.concatenate([queries, encoder.encode_passages(*_columns(texts.passages))])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: NDArray[np.float64] = vectors.astype(np.float64) / lengths
    return directions
