"""A validation measures what the saved models would do in a search over its candidates."""

import itertools
import math
import random
import shutil
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rocketrank.data.records import Passage
from rocketrank.errors import RocketRankError, UsageError
from rocketrank.eval.measures import evaluate, mean
from rocketrank.model_settings import ModelSettings, save_settings
from rocketrank.models import open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder
from rocketrank.training.layers import Noise
from rocketrank.training.models import Reranker, Retriever, open_reranker, open_retriever
from rocketrank.training.recipe_values import ModelsSection
from rocketrank.training.validation import MEASURES, DevSet, validate

from ..tiny_models import export_here
from .small_run import start_model, text

Scores = dict[str, dict[str, float]]


class Pair(NamedTuple):
    """Both models in training, and the folders that they come from."""

    retriever: Retriever
    reranker: Reranker
    folder: Path
    scorer: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path) -> Pair:
    """Prefixes, a title and two lengths, so that each of them counts."""
    where = tmp_path_factory.mktemp("pair")
    prefixes = {"query_prefix": "query ", "passage_prefix": "passage "}
    folder = start_model(shared_reference, where / "retriever", passage_length=20, **prefixes)
    shutil.copytree(shared_reference / "tiny-bert-cross-encoder", where / "reranker")
    save_settings(where / "reranker", ModelSettings(role="cross-encoder", pair_length=28))
    section = ModelsSection(retriever=str(folder), reranker=str(where / "reranker"))
    noise = Noise()
    return Pair(
        open_retriever(section, noise),
        open_reranker(section, noise, seed=0),
        folder,
        where / "reranker",
    )


def passages(number: int, count: int) -> list[Passage]:
    """Some longer than the models read, every other with a title."""
    return [
        Passage(
            f"p{number}.{each}",
            text(50 * number + each, 3 + 4 * each),
            f"title {each}" if each % 2 else "",
        )
        for each in range(count)
    ]


@pytest.fixture(scope="module")
def dev() -> DevSet:
    """Queries with 3 to 8 candidates, of which one or two are relevant."""
    queries = {f"q{number}": text(1000 + number, 4 + number) for number in range(6)}
    candidates = {f"q{number}": passages(number, 3 + number) for number in range(6)}
    qrels = {f"q{number}": {f"p{number}.{number % 3}": 1} for number in range(6)}
    qrels["q5"] |= {"p5.6": 2, "not a candidate": 1}
    return DevSet(queries, qrels, candidates)


def by_inference(pair: Pair, dev: DevSet) -> tuple[Scores, Scores]:
    """The scores of the exported models."""
    model, scorer = open_model(str(pair.folder)), open_model(str(pair.scorer))
    export_here(model, "query", "openvino")
    export_here(model, "passage", "openvino")
    export_here(scorer, "query", "openvino")
    encoder = DualEncoder.load(model, engine="openvino", precision="fp32")
    cross = CrossEncoder.load(scorer, engine="openvino", precision="fp32")
    first, second = {}, {}
    for query_id, query in dev.queries.items():
        found = dev.candidates[query_id]
        titles = [each.title for each in found]
        vectors = encoder.encode_passages([each.text for each in found], titles)
        scores = vectors @ encoder.encode_queries([query])[0]
        logits = cross.score([(query, each.full_text) for each in found])
        first[query_id] = {each.id: float(one) for each, one in zip(found, scores, strict=True)}
        second[query_id] = {each.id: float(one) for each, one in zip(found, logits, strict=True)}
    return first, second


def largest_difference(one: Scores, other: Scores) -> float:
    assert {query: set(found) for query, found in one.items()} == {
        query: set(found) for query, found in other.items()
    }
    return max(abs(one[query][each] - other[query][each]) for query in one for each in one[query])


def test_its_scores_are_those_of_the_inference_classes(pair: Pair, dev: DevSet) -> None:
    found = validate(dev, pair.retriever, pair.reranker)
    first, second = by_inference(pair, dev)
    assert largest_difference(found.retriever_scores, first) < 1e-4
    assert largest_difference(found.reranker_scores, second) < 1e-4
    for system, scores in (("retriever", first), ("reranker", second)):
        expected = {
            name: mean(each) for name, each in evaluate(scores, dev.qrels, MEASURES).items()
        }
        assert found.measures[system] == pytest.approx(expected, abs=1e-4)


def test_the_chunks_change_nothing(pair: Pair, dev: DevSet) -> None:
    one = validate(dev, pair.retriever, pair.reranker, tokens_per_chunk=1)
    other = validate(dev, pair.retriever, pair.reranker)
    assert largest_difference(one.retriever_scores, other.retriever_scores) < 1e-5
    assert largest_difference(one.reranker_scores, other.reranker_scores) < 1e-4


def test_models_in_training_are_left_in_training(pair: Pair, dev: DevSet) -> None:
    layers = [pair.retriever.query.layer, pair.reranker.pair.layer]
    for layer in layers:
        layer.train()
    assert validate(dev, pair.retriever, pair.reranker) == validate(
        dev, pair.retriever, pair.reranker
    )
    assert all(layer.training for layer in layers)
    for layer in layers:  # a teacher that stands still
        layer.eval()
    validate(dev, pair.retriever, pair.reranker)
    assert not any(layer.training for layer in layers)


def test_the_two_stages_are_measured_at_the_weight_that_was_tuned(pair: Pair, dev: DevSet) -> None:
    found = validate(dev, pair.retriever, pair.reranker, select_by="RR@10")
    assert found.fusion is not None
    assert found.measures["two_stages"]["RR@10"] == pytest.approx(found.fusion.value)
    assert found.value("RR@10") == found.measures["two_stages"]["RR@10"]
    assert found.fusion.value >= found.measures["reranker"]["RR@10"] - 1e-9
    depth, weight = found.fusion.depth, found.fusion.weight
    fused = {}
    for query_id, scores in found.retriever_scores.items():
        kept = sorted(scores, key=lambda each: (-scores[each], each))[:depth]
        fused[query_id] = {
            each: found.reranker_scores[query_id][each] + weight * scores[each] for each in kept
        }
    for name, values in evaluate(fused, dev.qrels, MEASURES).items():
        assert found.measures["two_stages"][name] == pytest.approx(mean(values), abs=1e-9)


def test_one_model_alone_is_measured_alone(pair: Pair, dev: DevSet) -> None:
    both = validate(dev, pair.retriever, pair.reranker)
    first = validate(dev, pair.retriever, None)
    second = validate(dev, None, pair.reranker)
    assert first.measures == {"retriever": both.measures["retriever"]}
    assert second.measures == {"reranker": both.measures["reranker"]}
    assert (first.agreement, first.fusion, second.agreement, second.fusion) == (None,) * 4
    assert first.value("R@10") == both.measures["retriever"]["R@10"]
    assert second.value("R@10") == both.measures["reranker"]["R@10"]


def test_the_measure_that_selects_is_measured_too(pair: Pair, dev: DevSet) -> None:
    found = validate(dev, pair.retriever, None, select_by="AP")
    value = mean(evaluate(found.retriever_scores, dev.qrels, ["AP"])["AP"])
    assert found.value("AP") == pytest.approx(value)
    assert [*found.measures["retriever"]] == ["AP", *MEASURES]


def test_the_agreement_is_the_mean_of_kendalls_tau(pair: Pair, dev: DevSet) -> None:
    """Concordant minus discordant pairs over all pairs, where there are no ties."""
    found = validate(dev, pair.retriever, pair.reranker)
    taus = []
    for query_id, first in found.retriever_scores.items():
        second = found.reranker_scores[query_id]
        signs = [
            math.copysign(1, (first[a] - first[b]) * (second[a] - second[b]))
            for a, b in itertools.combinations(first, 2)
        ]
        taus.append(sum(signs) / len(signs))
    assert found.agreement == pytest.approx(sum(taus) / 6, abs=1e-9)
    assert len(set(taus)) > 1


def test_a_model_agrees_with_itself_and_one_candidate_says_nothing(pair: Pair, dev: DevSet) -> None:
    alone = DevSet(
        {"q": "why", "r": "who"},
        {"q": {"a": 1}, "r": {"a": 1}},
        {"q": [Passage("a", "one")], "r": [Passage("a", "same"), Passage("b", "same")]},
    )
    assert validate(alone, pair.retriever, pair.reranker).agreement is None
    both = DevSet(
        {**dev.queries, "q": "why"},
        {**dev.qrels, "q": {"a": 1}},
        {**dev.candidates, "q": [Passage("a", "one")]},
    )
    expected = validate(dev, pair.retriever, pair.reranker).agreement
    found = validate(both, pair.retriever, pair.reranker).agreement
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_order_of_queries_and_candidates_does_not_matter(pair: Pair, dev: DevSet) -> None:
    numbers = random.Random(3)
    mixed = DevSet(
        dict(numbers.sample([*dev.queries.items()], len(dev.queries))),
        dict(numbers.sample([*dev.qrels.items()], len(dev.qrels))),
        {query: numbers.sample(found, len(found)) for query, found in dev.candidates.items()},
    )
    one = validate(dev, pair.retriever, pair.reranker)
    other = validate(mixed, pair.retriever, pair.reranker)
    assert one.agreement == pytest.approx(other.agreement, abs=1e-6)
    for system, measures in one.measures.items():
        assert other.measures[system] == pytest.approx(measures, abs=1e-6)


def test_ties_do_not_favour_the_positive(pair: Pair) -> None:
    """Four equal passages, each the relevant one once: its rank is 1, 2, 3 and 4 in some order."""
    same = [Passage(name, "all of it the same") for name in "abcd"]
    dev = DevSet(
        {name: "which one" for name in "abcd"},
        {name: {name: 1} for name in "abcd"},
        {name: same for name in "abcd"},
    )
    found = validate(dev, pair.retriever, pair.reranker)
    expected = float(sum(Fraction(1, rank) for rank in range(1, 5)) / 4)
    for system in ("retriever", "reranker", "two_stages"):
        assert found.measures[system]["RR@10"] == pytest.approx(expected)


def test_the_two_stages_are_measured_with_the_ties_of_the_tuning(pair: Pair) -> None:
    """In the order of the candidates; by id a measure alone would put the last first."""
    same = [Passage(name, "all of it the same") for name in "abcd"]
    dev = DevSet({"q": "which one"}, {"q": {"a": 1}}, {"q": same})
    found = validate(dev, pair.retriever, pair.reranker)
    assert found.fusion is not None
    assert found.measures["two_stages"]["nDCG@10"] == found.fusion.value == 1.0
    assert found.measures["retriever"]["nDCG@10"] < 1.0


def test_an_unknown_measure_is_a_sentence(pair: Pair, dev: DevSet) -> None:
    with pytest.raises(UsageError, match='unknown measure "nDGC@10"'):
        validate(dev, pair.retriever, None, select_by="nDGC@10")


def test_scores_that_are_not_finite_are_told(pair: Pair, dev: DevSet, tmp_path: Path) -> None:
    shutil.copytree(pair.scorer, tmp_path / "poisoned")
    file = tmp_path / "poisoned/model.safetensors"
    arrays = load_file(file)
    save_file({name: np.full_like(each, np.nan) for name, each in arrays.items()}, file)
    section = ModelsSection(reranker=str(tmp_path / "poisoned"))
    with pytest.raises(RocketRankError) as caught:
        validate(dev, None, open_reranker(section, Noise(), seed=0))
    assert str(caught.value) == (
        "the re-ranker scores passage p0.0 for dev query q0 as nan: its weights are damaged, so "
        "start from others, or train with a smaller learning rate or in fp32"
    )
