"""Models in 8-bit integers: how near they are, what tells them apart, and what is refused."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rocketrank import exporting, inference, quantize
from rocketrank.data.corpus import CorpusReader
from rocketrank.data.records import Passage, Query
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.inference import cpu_has_vnni
from rocketrank.integer_products import read_limits, save_limits
from rocketrank.model_settings import Calibration, ModelSettings, save_settings
from rocketrank.models import LIMITS_FILE, Model, open_model
from rocketrank.quantize import QuantizationReport, quantize_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder

needs_vnni = pytest.mark.skipif(not cpu_has_vnni(), reason="this CPU has no 8-bit products")

SETTINGS = ModelSettings(role="dual-encoder", query_length=16, passage_length=64)


@pytest.fixture(autouse=True, scope="module")
def here() -> Iterator[None]:
    """Exports happen in this process: a child imports Paddle anew, which takes five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_export_in_child", exporting.export_into_cache)
        yield


def dual(folder: Path) -> Model:
    """A reference encoder as a dual encoder, exported here."""
    return Model(str(folder), folder, SETTINGS)


@pytest.fixture(scope="module")
def passages(shared_data: Path) -> list[Passage]:
    reader = CorpusReader([shared_data / "scifact" / "corpus.jsonl.gz"])
    return [passage for passage, _ in zip(reader, range(60), strict=False)]


@pytest.fixture(scope="module")
def tiny(
    shared_reference: Path, passages: list[Passage], tmp_path_factory: pytest.TempPathFactory
) -> QuantizationReport:
    """tiny-bert, with a calibration of its scores, in 8-bit integers."""
    target = tmp_path_factory.mktemp("int8") / "tiny"
    settings = replace(SETTINGS, calibration=Calibration(slope=2.0, intercept=-1.0))
    source = replace(dual(shared_reference / "tiny-bert"), settings=settings)
    return quantize_model(source, passages, target)


@needs_vnni
@pytest.mark.parametrize("name", ["distilbert", "roberta", "mpnet", "ernie"])
def test_vectors_of_every_architecture_hardly_turn(
    shared_reference: Path, passages: list[Passage], tmp_path: Path, name: str
) -> None:
    model = dual(shared_reference / f"tiny-{name}")
    report = quantize_model(model, passages, tmp_path / "made")
    assert (report.measured, report.compared) == (30, 30)
    assert report.mean > 0.995
    texts = [each.text for each in passages[:8]]
    before, after = (
        DualEncoder.load(each, engine="openvino").encode_passages(texts)
        for each in (model, open_model(tmp_path / "made"))
    )
    assert not np.array_equal(before, after), "nothing was computed in integers"


@needs_vnni
@pytest.mark.parametrize("name", ["tiny-bert-cross-encoder", "tiny-xlm-roberta-cross-encoder"])
def test_scores_of_a_cross_encoder_keep_their_order(
    shared_reference: Path, passages: list[Passage], tmp_path: Path, name: str
) -> None:
    model = open_model(shared_reference / name)
    quantize_model(model, passages, tmp_path / "made")
    pairs = [(passages[0].title, each.full_text) for each in passages]
    first, second = (CrossEncoder.load(each).score(pairs) for each in (model, tmp_path / "made"))
    assert np.corrcoef(first, second)[0, 1] > 0.98


@needs_vnni
def test_a_model_keeps_its_settings_but_a_calibration_and_gets_another_fingerprint(
    shared_reference: Path, tiny: QuantizationReport
) -> None:
    made = open_model(tiny.target)
    assert made.settings == SETTINGS
    assert made.fingerprint != dual(shared_reference / "tiny-bert").fingerprint
    (made.path / LIMITS_FILE).rename(made.path / "away")
    assert open_model(tiny.target).fingerprint == dual(shared_reference / "tiny-bert").fingerprint
    (made.path / "away").rename(made.path / LIMITS_FILE)


@needs_vnni
def test_made_twice_it_is_the_same_bytes(
    shared_reference: Path, passages: list[Passage], tmp_path: Path, tiny: QuantizationReport
) -> None:
    quantize_model(dual(shared_reference / "tiny-bert"), passages, tmp_path / "again")
    names = sorted(file.name for file in tiny.target.iterdir())
    assert names == sorted(file.name for file in (tmp_path / "again").iterdir())
    for name in names:
        assert (tiny.target / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@needs_vnni
def test_a_vector_does_not_depend_on_its_batch(
    passages: list[Passage], tiny: QuantizationReport
) -> None:
    encoder = DualEncoder.load(tiny.target, precision="fp32")
    together = encoder.encode_passages([each.text for each in passages])
    alone = np.concatenate([encoder.encode_passages([each.text]) for each in passages])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@needs_vnni
def test_each_of_two_towers_has_limits_of_its_own(
    shared_reference: Path, passages: list[Passage], tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for tower in ("query", "passage"):
        shutil.copytree(shared_reference / "tiny-bert", folder / tower)
    save_settings(folder, replace(SETTINGS, towers="separate"))
    model = open_model(folder)
    queries = [Query(str(number), f"what is {number}") for number in range(9)]
    quantize_model(model, passages, tmp_path / "made", queries=queries)
    limits = [(tmp_path / "made" / t / LIMITS_FILE).read_bytes() for t in ("query", "passage")]
    assert limits[0] != limits[1]
    assert len(DualEncoder.load(tmp_path / "made").encode_queries(["a question"])) == 1


@needs_vnni
def test_a_model_that_loses_too_much_is_not_written(
    shared_reference: Path,
    passages: list[Passage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantize, "_LEAST_AGREEMENT", 0.99999)
    with pytest.raises(DataError, match=r"agreement 0\.9\d* on other passages, and 0\.99999"):
        quantize_model(dual(shared_reference / "tiny-bert"), passages, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


@needs_vnni
def test_a_model_of_integers_is_not_made_of_another_one(
    passages: list[Passage], tmp_path: Path, tiny: QuantizationReport
) -> None:
    with pytest.raises(UsageError, match="is of 8-bit integers already"):
        quantize_model(tiny.target, passages, tmp_path / "made")


@needs_vnni
def test_too_few_passages_are_refused(
    shared_reference: Path, passages: list[Passage], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="the corpus has 3 passages"):
        quantize_model(dual(shared_reference / "tiny-bert"), passages[:3], tmp_path / "made")


@needs_vnni
def test_paddle_does_not_run_a_model_of_integers(tiny: QuantizationReport) -> None:
    with pytest.raises(UsageError, match="computes in 8-bit integers, which Paddle does not do"):
        DualEncoder.load(tiny.target, engine="paddle")


def test_a_processor_without_such_products_is_told(
    shared_reference: Path,
    passages: list[Passage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    with pytest.raises(UsageError, match="this CPU lacks avx512_vnni and avx_vnni"):
        quantize_model(dual(shared_reference / "tiny-bert"), passages, tmp_path / "made")


@needs_vnni
def test_limits_of_another_model_are_refused_when_it_is_exported(
    tmp_path: Path, tiny: QuantizationReport
) -> None:
    shutil.copytree(tiny.target, tmp_path / "wrong")
    limits = tmp_path / "wrong" / LIMITS_FILE
    save_limits(limits, read_limits(limits)[:-1])
    with pytest.raises(RocketRankError, match=r"int8\.safetensors has limits of .* activations"):
        DualEncoder.load(tmp_path / "wrong").encode_queries(["a question"])
