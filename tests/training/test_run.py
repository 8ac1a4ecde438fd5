"""A stage from lists to model folders: what it writes, what it keeps, and what it refuses."""

import gzip
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.eval.measures import evaluate, mean
from rocketrank.models import Model, Tower, open_model
from rocketrank.reranker import CrossEncoder
from rocketrank.retriever import DualEncoder
from rocketrank.training.checkpoints import checkpoint_steps, load_checkpoint
from rocketrank.training.curves import summary
from rocketrank.training.dev import drawn_queries
from rocketrank.training.layers import Noise
from rocketrank.training.lists import Candidate, ListsHeader, RankingList, read_lists, write_lists
from rocketrank.training.models import named_parameters, open_reranker, open_retriever
from rocketrank.training.recipe_values import ModelsSection
from rocketrank.training.run import Outcome

from ..tiny_models import export_here
from .small_run import Place, lists, logged, place, start_model, weights, without_texts

NO_TEXT = RankingList("q", "why", (Candidate("a", 1, text="x"), Candidate("b", 0)))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, shared_reference: Path) -> Path:
    return start_model(shared_reference, tmp_path_factory.mktemp("start") / "start")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, start: Path) -> tuple[Path, Outcome]:
    """A run of both models that nothing interrupted, and its folder."""
    there = place(tmp_path_factory.mktemp("whole"), start)
    outcome = there.train()
    return there.folder / "run", outcome


@pytest.fixture
def here(tmp_path: Path, start: Path) -> Place:
    return place(tmp_path / "place", start)


@pytest.fixture
def unloadable(tmp_path: Path, start: Path) -> Place:
    """A place whose start cannot be loaded, so that every other complaint came before that."""
    shutil.copytree(start, tmp_path / "unloadable")
    (tmp_path / "unloadable/model.safetensors").write_bytes(b"damaged")
    return place(tmp_path / "place", tmp_path / "unloadable")


def one_sentence(error: BaseException) -> str:
    said = str(error)
    assert said and "\n" not in said and len(said) < 500
    return said


def exported(folder: Path, *towers: Tower) -> Model:
    model = open_model(str(folder))
    for tower in towers:
        export_here(model, tower, "openvino")
    return model


def parameters(run: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The saved models as training opens them, by model and parameter."""
    retriever = ModelsSection(retriever=str(run / "retriever"))
    reranker = ModelsSection(reranker=str(run / "reranker"))
    opened = {
        "retriever": open_retriever(retriever, Noise()).layers,
        "reranker": open_reranker(reranker, Noise(), seed=0).layers,
    }
    return {
        name: {each: value.numpy() for each, value in named_parameters(layers)}
        for name, layers in opened.items()
    }


def changed(one: Path, other: Path) -> dict[str, float]:
    """The largest change of every tensor between two model files."""
    before, after = load_file(one), load_file(other)
    return {name: float(np.abs(before[name] - after[name]).max()) for name in before.keys() & after}


# What a run gives


def test_two_runs_with_one_seed_give_the_same_bytes(
    here: Place, whole: tuple[Path, Outcome]
) -> None:
    here.train()
    assert len(weights(whole[0])) == 2
    assert weights(here.folder / "run") == weights(whole[0])
    assert logged(here.folder / "run") == logged(whole[0])


def test_another_seed_gives_other_models(here: Place, whole: tuple[Path, Outcome]) -> None:
    here.train(seed=8)
    other = weights(here.folder / "run")
    assert other.keys() == weights(whole[0]).keys()
    assert all(weights(whole[0])[name] != found for name, found in other.items())


def test_every_step_and_validation_is_logged_once(whole: tuple[Path, Outcome]) -> None:
    entries = logged(whole[0])
    assert [each["step"] for each in entries if "losses" in each] == list(range(1, 13))
    assert [each["step"] for each in entries if "validation" in each] == [0, 3, 6, 9, 12]


def test_the_saved_models_are_those_of_the_best_step(whole: tuple[Path, Outcome]) -> None:
    run, outcome = whole
    values = {
        each["step"]: each["measures"]["two_stages"]["nDCG@10"]
        for each in outcome.metrics["validations"]
    }
    best = max(values, key=lambda step: (values[step], -step))
    assert outcome.metrics["best_step"] == best
    kept = load_checkpoint(run / "checkpoints", best).arrays
    for name, found in parameters(run).items():
        assert len(found) == len(kept[name]) > 20
        assert all(np.array_equal(found[each], array) for each, array in kept[name].items())


def test_the_last_checkpoints_and_the_best_are_kept(whole: tuple[Path, Outcome]) -> None:
    assert set(checkpoint_steps(whole[0] / "checkpoints")) == {
        10,
        12,
        whole[1].metrics["best_step"],
    }


def test_the_saved_models_give_the_scores_that_the_validation_measured(
    whole: tuple[Path, Outcome],
) -> None:
    run, outcome = whole
    retriever = DualEncoder.load(
        exported(run / "retriever", "query", "passage"), engine="openvino", precision="fp32"
    )
    reranker = CrossEncoder.load(
        exported(run / "reranker", "query"), engine="openvino", precision="fp32"
    )
    dev = drawn_queries({each.query_id for each in lists()}, 0.25, 7)
    first: dict[str, dict[str, float]] = {}
    second: dict[str, dict[str, float]] = {}
    qrels = {}
    for each in lists():
        if each.query_id in dev:
            texts = [one.text or "" for one in each.candidates]
            ids = [one.id for one in each.candidates]
            query = retriever.encode_queries([each.query])[0]
            scores = retriever.encode_passages(texts) @ query
            logits = reranker.score([(each.query, passage) for passage in texts])
            first[each.query_id] = dict(zip(ids, scores.tolist(), strict=True))
            second[each.query_id] = dict(zip(ids, logits.tolist(), strict=True))
            qrels[each.query_id] = {ids[0]: 1}
    best = next(
        each
        for each in outcome.metrics["validations"]
        if each["step"] == outcome.metrics["best_step"]
    )
    for system, found in (("retriever", first), ("reranker", second)):
        recomputed = evaluate(found, qrels, ["nDCG@10", "RR@10"])
        for name, values in recomputed.items():
            assert mean(values) == pytest.approx(best["measures"][system][name], abs=1e-4)
    settings = json.loads((run / "reranker/rocketrank.json").read_bytes())
    assert settings["fusion"] == best["weight"]
    fused = {
        query: {each: score + best["weight"] * first[query][each] for each, score in scores.items()}
        for query, scores in second.items()
    }
    value = mean(evaluate(fused, qrels, ["nDCG@10"])["nDCG@10"])
    assert best["depth"] == 5  # all candidates of a dev query
    assert value == pytest.approx(best["measures"]["two_stages"]["nDCG@10"], abs=1e-4)


def test_figures_and_curves_are_there_at_the_end(whole: tuple[Path, Outcome]) -> None:
    run, outcome = whole
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics == outcome.metrics
    assert (metrics["steps"], metrics["last_step"], metrics["examples"]) == (12, 12, 12)
    assert metrics["dropped"]["held_out"] == 4
    assert metrics["models"] == ["retriever", "reranker"]
    page = (run / "curves.html").read_text()
    assert "small: joint" in page and "nDCG@10" in page
    assert summary(run / "metrics.jsonl")["steps"] == 12
    assert not list(run.rglob("*.partial"))


def test_a_finished_run_is_not_run_again(
    whole: tuple[Path, Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    run, outcome = whole
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    there = Place(run.parent, Path())
    with caplog.at_level(logging.INFO, "rocketrank"):
        again = there.train()
    assert again == outcome
    assert f"{run} holds a finished run of this recipe; nothing was trained" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("stage", "loss"), [("retriever", "contrastive"), ("reranker", "supervised")]
)
def test_a_stage_for_one_model_writes_that_model(here: Place, stage: Any, loss: str) -> None:
    outcome = here.train(stage=stage)
    assert list(weights(here.folder / "run")) == [stage]
    assert outcome.metrics["models"] == [stage]
    assert (outcome.retriever is None) == (stage == "reranker")
    losses = [each["losses"] for each in logged(here.folder / "run") if "losses" in each]
    assert all(each.keys() == {"total", loss} for each in losses)
    settings = json.loads((here.folder / "run" / stage / "rocketrank.json").read_bytes())
    assert settings.get("fusion") is None


def test_a_frozen_reranker_is_saved_as_it_was(here: Place, shared_reference: Path) -> None:
    teacher = shared_reference / "tiny-bert-cross-encoder"
    here.train(
        joint__freeze_reranker="true",
        joint__supervised=0,
        joint__epochs=1,
        models__reranker=teacher,
        models__pair_length=64,
    )
    run = here.folder / "run"
    there, saved = teacher / "model.safetensors", run / "reranker/model.safetensors"
    assert load_file(saved).keys() <= load_file(there).keys()
    assert set(changed(there, saved).values()) == {0.0}
    moved = changed(here.start / "model.safetensors", run / "retriever/model.safetensors")
    assert sum(change > 0 for change in moved.values()) > 20


def test_the_average_of_the_weights_is_what_is_validated_and_saved(here: Place) -> None:
    """The average is computed again from the checkpoints, one of which every step has."""
    ema = 0.6
    here.train(joint__ema=ema, joint__epochs=2, joint__keep=9, joint__checkpoint_every=1)
    run = here.folder / "run"
    metrics = json.loads((run / "metrics.json").read_bytes())
    kept = [load_checkpoint(run / "checkpoints", step).arrays for step in range(7)]
    for model in ("retriever", "reranker"):
        average = {name: array.astype(np.float64) for name, array in kept[0][model].items()}
        for arrays in kept[1 : metrics["best_step"] + 1]:
            average = {
                name: ema * value + (1 - ema) * arrays[model][name]
                for name, value in average.items()
            }
        found = parameters(run)[model]
        assert all(np.allclose(found[name], each, atol=1e-6) for name, each in average.items())


def test_an_average_leaves_the_training_as_it_is(here: Place, whole: tuple[Path, Outcome]) -> None:
    here.train(joint__ema=0.9)
    found = load_checkpoint(here.folder / "run/checkpoints", 12).arrays
    expected = load_checkpoint(whole[0] / "checkpoints", 12).arrays
    for model in ("retriever", "reranker"):
        for name, array in expected[model].items():
            assert np.array_equal(found[model][name], array)


def test_it_stops_early_when_patience_is_at_its_end(here: Place) -> None:
    outcome = here.train(
        joint__patience=2, joint__validate_every=1, joint__epochs=8, joint__learning_rate=1e-9
    )
    assert (outcome.step, outcome.steps) == (2, 24)
    assert outcome.metrics["stopped_early"]
    assert outcome.metrics["best_step"] == 0
    steps = [each["step"] for each in logged(here.folder / "run") if "losses" in each]
    assert steps == [1, 2]


def test_without_dev_queries_the_last_step_gives_the_models(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = here.train(data__dev_share=0.01)
    assert outcome.metrics["best_step"] == outcome.steps == 16
    assert outcome.metrics["validations"] == []
    assert "too few queries to hold out a share of 0.01: nothing is validated" in caplog.text


# Lists of every kind


def dropped_lists() -> list[RankingList]:
    bare = RankingList("q90", "nothing relevant", (Candidate("p90.1", 0, text="one"),))
    alone = RankingList("q91", "nothing else", (Candidate("p91.0", 1, text="two"),))
    return [*lists(), bare, alone, alone._replace(query_id="q92")]


def test_lists_that_are_dropped_are_counted(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    write_lists(here.lists, dropped_lists())
    outcome = here.train(joint__epochs=0.5, data__dev_share=0)
    assert (
        "3 lists were dropped (1 have no positive and 2 no other candidate)" in caplog.messages[0]
    )
    assert outcome.metrics["dropped"] == {
        "held_out": 0,
        "without_positive": 1,
        "without_negative": 2,
    }


def test_dev_queries_that_are_trained_on_are_counted(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    write_lists(here.folder / "dev.jsonl", lists(5, first=13))
    outcome = here.train(dev=here.folder / "dev.jsonl", joint__epochs=0.5)
    assert "3 of the 5 dev queries are training queries too" in caplog.text
    assert outcome.metrics["examples"] == 16


def as_candidates(some: list[RankingList], folder: Path) -> dict[str, Any]:
    """MS MARCO's: query id, passage id, rank, label; queries and passages beside them."""
    lines = [
        f"{each.query_id}\t{one.id}\t{rank}\t{one.label}"
        for each in some
        for rank, one in enumerate(each.candidates, start=1)
    ]
    (folder / "lists.tsv").write_text("\n".join(lines) + "\n")
    queries = [f"{each.query_id}\t{each.query}" for each in some]
    (folder / "queries.tsv").write_text("\n".join(queries) + "\n")
    texts = [f"{one.id}\t{one.text}" for each in some for one in each.candidates]
    (folder / "corpus.tsv").write_text("\n".join(texts) + "\n")
    files = {"lists": folder / "lists.tsv", "queries": folder / "queries.tsv"}
    return {**files, "passages": (folder / "corpus.tsv",)}


def as_tevatron(some: list[RankingList], folder: Path) -> dict[str, Any]:
    records = [
        {
            "query_id": each.query_id,
            "query": each.query,
            "positive_passages": [
                {"docid": one.id, "title": "", "text": one.text} for one in each.positives
            ],
            "negative_passages": [
                {"docid": one.id, "title": "", "text": one.text} for one in each.negatives
            ],
        }
        for each in some
    ]
    (folder / "lists.json").write_text("".join(json.dumps(each) + "\n" for each in records))
    return {"lists": folder / "lists.json"}


def as_compressed(some: list[RankingList], folder: Path) -> dict[str, Any]:
    write_lists(folder / "plain.jsonl", some)
    (folder / "lists.jsonl.gz").write_bytes(gzip.compress((folder / "plain.jsonl").read_bytes()))
    return {"lists": folder / "lists.jsonl.gz"}


def as_ids(some: list[RankingList], folder: Path) -> dict[str, Any]:
    """Our own, with the texts in a corpus."""
    write_lists(folder / "ids.jsonl", without_texts(some))
    return {**as_candidates(some, folder), "lists": folder / "ids.jsonl"}


@pytest.mark.parametrize("written", [as_candidates, as_tevatron, as_compressed, as_ids])
def test_lists_of_another_kind_train_the_same_models(
    here: Place,
    whole: tuple[Path, Outcome],
    written: Callable[[list[RankingList], Path], dict[str, Any]],
) -> None:
    here.train(**written(lists(), here.folder))
    assert weights(here.folder / "run") == weights(whole[0])


def test_dev_lists_may_come_in_another_format(here: Place) -> None:
    write_lists(here.folder / "dev.jsonl", lists(4, first=20))
    (here.folder / "dev").mkdir()
    own = here.train("own", dev=here.folder / "dev.jsonl", joint__epochs=1)
    other = as_tevatron(lists(4, first=20), here.folder / "dev")["lists"]
    converted = here.train("converted", dev=other, joint__epochs=1)
    assert own.metrics["validations"] == converted.metrics["validations"]


def test_other_lists_are_converted_anew_where_nothing_was_trained_yet(
    here: Place, caplog: pytest.LogCaptureFixture
) -> None:
    given = as_tevatron(lists(), here.folder)
    with pytest.raises(UsageError):
        here.train(**given, joint__select_by="nDCG@ten")
    with pytest.raises(DataError, match="--strict"):
        here.train(**as_tevatron(dropped_lists(), here.folder), strict=True)
    found = list(read_lists(here.folder / "run/lists.jsonl"))
    assert len(found) == 19
    here.train(**as_tevatron(lists(), here.folder), joint__epochs=0.5)
    assert len(list(read_lists(here.folder / "run/lists.jsonl"))) == 16
    assert "16 lists were written to" in caplog.text


# Runs that go wrong


def poison(model: Path) -> None:
    arrays = load_file(model / "model.safetensors")
    name = next(name for name in arrays if name.endswith("word_embeddings.weight"))
    poisoned = arrays[name].copy()
    poisoned[:] = np.nan
    save_file({**arrays, name: poisoned}, model / "model.safetensors")


def test_a_loss_that_is_not_finite_stops_at_once_and_shows_its_lists(
    tmp_path: Path, start: Path
) -> None:
    shutil.copytree(start, tmp_path / "poisoned")
    poison(tmp_path / "poisoned")
    here = place(tmp_path / "place", tmp_path / "poisoned")
    given = as_ids(lists(), here.folder)
    with pytest.raises(RocketRankError, match="step 1 gave a loss of nan") as caught:
        here.train(**given, data__dev_share=0)
    said = one_sentence(caught.value)
    written = here.folder / "run/not-finite-step-1.json"
    assert f"its lists are in {written}" in said and "(0.01 now)" in said
    found = json.loads(written.read_bytes())
    assert found["losses"]["total"] == "nan"
    assert len(found["examples"]) == 4
    by_query = {each.query_id: each for each in lists()}
    for example in found["examples"]:
        own = {one.id: one.text for one in by_query[example["query_id"]].candidates}
        assert example["query"] == by_query[example["query_id"]].query
        assert len(example["candidates"]) == 3
        assert all(own[one["id"]] == one["text"] for one in example["candidates"])
    assert [each for each in logged(here.folder / "run") if "losses" in each] == []
    assert checkpoint_steps(here.folder / "run/checkpoints") == [0]


def test_a_validation_that_is_not_finite_is_a_sentence(tmp_path: Path, start: Path) -> None:
    shutil.copytree(start, tmp_path / "poisoned")
    poison(tmp_path / "poisoned")
    here = place(tmp_path / "place", tmp_path / "poisoned")
    with pytest.raises(RocketRankError, match=r"the retriever scores passage p.* as nan") as caught:
        here.train()
    assert "its weights are damaged" in one_sentence(caught.value)


# What is refused before any model is loaded

BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("a file of lists that is missing", {"lists": Path("none")}, "--lists none is no file"),
    ("dev lists that are missing", {"dev": Path("none")}, "--dev none is no file"),
    ("judgements that are missing", {"dev_qrels": Path("none")}, "--dev-qrels none is no file"),
    ("queries that are missing", {"queries": Path("none")}, "--queries none is no file"),
    ("passages that are missing", {"passages": (Path("none"),)}, "--passages none is not there"),
    ("a precision that a CPU lacks", {"joint__precision": "bf16"}, "precision is bf16, but"),
    (
        "a length beyond the model's",
        {"models__query_length": 131},
        "models.query_length is 131, but .* has positions for 130 tokens: write 130 or less",
    ),
    ("a model that is not there", {"models__retriever": "no/such/model"}, "no/such/model"),
    ("a re-ranker that is not there", {"models__reranker": "no/such/model"}, "no/such/model"),
    ("an unknown measure", {"joint__select_by": "nDGC@10"}, 'unknown measure "nDGC@10"'),
    (
        "a stage without epochs",
        {"joint__epochs": 0},
        "joint.epochs is 0, which skips this stage: --set joint.epochs=1",
    ),
]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [each[1:] for each in BAD_OPTIONS],
    ids=[each[0] for each in BAD_OPTIONS],
)
def test_before_a_model_is_loaded_it_refuses(
    unloadable: Place, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        unloadable.train(**options)
    one_sentence(caught.value)
    assert not (unloadable.folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentence"), [each[1:] for each in BAD_OPTIONS[4:] if "length" not in each[0]]
)
def test_what_needs_no_reading_is_told_before_the_lists_are_read(
    unloadable: Place, options: dict[str, Any], sentence: str
) -> None:
    unloadable.lists.write_text('{"damaged')
    with pytest.raises(UsageError, match=sentence):
        unloadable.train(**options)


def refused(
    there: Place, some: list[RankingList], header: ListsHeader | None = None, **options: Any
) -> str:
    write_lists(there.lists, some, header)
    with pytest.raises(RocketRankError) as caught:
        there.train(**options)
    assert not (there.folder / "run").exists()
    return one_sentence(caught.value)


def test_lists_without_any_positive_are_refused(unloadable: Place) -> None:
    said = refused(unloadable, [dropped_lists()[16]] * 3)
    assert said == (
        f"{unloadable.lists} has no list to train on: 3 have no positive and 0 no other candidate, "
        "0 are held out for validation; give lists with a positive and a negative"
    )


def test_strict_refuses_lists_that_would_be_dropped(unloadable: Place) -> None:
    said = refused(unloadable, dropped_lists(), strict=True)
    assert said == (
        f"{unloadable.lists}: 3 lists cannot be trained on (1 have no positive and 2 no other "
        "candidate): remove them, or leave out --strict to drop them"
    )


def test_candidates_without_text_are_refused_without_passages(unloadable: Place) -> None:
    said = refused(unloadable, [*lists(), NO_TEXT])
    assert said == (
        f'{unloadable.lists}: candidate "b" of query "q" has no text: say with --passages which '
        "index or corpus holds it"
    )


def test_candidates_without_text_are_told_of_before_other_damage_below(unloadable: Place) -> None:
    write_lists(unloadable.lists, [NO_TEXT])
    with unloadable.lists.open("a") as file:
        file.write('{"damaged\n')
    with pytest.raises(UsageError, match="has no text"):
        unloadable.train()


def test_ids_that_the_passages_lack_are_refused(unloadable: Place) -> None:
    corpus = unloadable.folder / "corpus.tsv"
    corpus.write_text("a\tsomething\nc\tsomething else\n")
    said = refused(unloadable, [*lists(), NO_TEXT], passages=(corpus,))
    assert said.startswith(f"{corpus}: ") and "the id 'b' (1 of 1 are missing)" in said


def test_a_bad_line_is_named(unloadable: Place) -> None:
    write_lists(unloadable.lists, lists(2))
    with unloadable.lists.open("a") as file:
        file.write('{"query_id": "q"}\n')
    with pytest.raises(DataError, match=rf"{unloadable.lists}:3: expected the keys"):
        unloadable.train()


def test_dev_lists_without_any_judged_passage_are_refused(unloadable: Place) -> None:
    dev = unloadable.folder / "dev.jsonl"
    write_lists(dev, [dropped_lists()[16]])
    said = refused(unloadable, lists(), dev=dev)
    assert said.startswith(f"{dev} has no dev query with a relevant passage: ")


def test_judgements_of_other_queries_are_refused(unloadable: Place) -> None:
    qrels = unloadable.folder / "qrels"
    qrels.write_text("elsewhere 0 p1 1\n")
    said = refused(unloadable, lists(), dev_qrels=qrels)
    assert f"has no dev query with a relevant passage in {qrels}" in said


def test_lists_of_another_tokenizer_are_refused(unloadable: Place) -> None:
    header = ListsHeader(tokenizer="ab" * 32, retriever="another model")
    said = refused(unloadable, lists(), header)
    assert "was mined by another model with the tokenizer abababababab, but " in said
    assert said.endswith("or train on these lists all the same with --any-tokenizer")
    compressed = unloadable.folder / "lists.gz"
    compressed.write_bytes(gzip.compress(unloadable.lists.read_bytes()))
    with pytest.raises(UsageError, match="was mined by another model"):
        unloadable.train(lists=compressed)


def test_lists_of_another_tokenizer_are_taken_where_they_are_wanted(here: Place) -> None:
    write_lists(here.lists, lists(), ListsHeader(tokenizer="ab" * 32))
    assert here.train(any_tokenizer=True, joint__epochs=0.5).finished


# Another run in the same folder


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused_with_the_keys_that_differ(
    tmp_path: Path, whole: tuple[Path, Outcome], finished: bool
) -> None:
    there = copied(whole[0], tmp_path, finished=finished)
    with pytest.raises(UsageError) as caught:
        there.train(joint__epochs=5, seed=8)
    assert one_sentence(caught.value) == (
        f"{there.folder / 'run'} holds a run with another recipe (seed: 7 / 8; joint.epochs: 4.0 / "
        "5.0, there / now): go on with the recipe of then, or name another --output"
    )


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("other", ["lists", "dev", "stage"])
def test_another_run_is_refused(
    tmp_path: Path, whole: tuple[Path, Outcome], other: str, finished: bool
) -> None:
    there = copied(whole[0], tmp_path, finished=finished)
    options: dict[str, Any] = {}
    if other == "lists":
        write_lists(there.lists, lists(15))
    elif other == "dev":
        write_lists(there.folder / "dev.jsonl", lists(3, first=20))
        options["dev"] = there.folder / "dev.jsonl"
    else:
        options["stage"] = "retriever"
    before = weights(there.folder / "run")
    with pytest.raises(UsageError) as caught:
        there.train(**options)
    said = one_sentence(caught.value)
    expected = {
        "lists": "holds a run with other lists (SHA-256 ",
        "dev": "holds a run with other dev lists (SHA-256 none then, ",
        "stage": "holds a run of the stage joint, not retriever: name another --output",
    }
    assert expected[other] in said
    assert weights(there.folder / "run") == before


def test_a_run_that_ended_before_its_first_checkpoint_may_begin_with_another_recipe(
    here: Place, whole: tuple[Path, Outcome]
) -> None:
    here.train(joint__epochs=1)
    run = here.folder / "run"
    for path in run.iterdir():  # all that a kill in the first validation leaves
        if path.name not in ("recipe.toml", "metrics.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    here.train()
    assert weights(run) == weights(whole[0])
    assert logged(run) == logged(whole[0])


def copied(run: Path, folder: Path, *, finished: bool) -> Place:
    """A copy of a run, also as it was before its models were written."""
    shutil.copytree(run.parent, folder / "copy")
    if not finished:
        (folder / "copy/run/metrics.json").unlink()
    return Place(folder / "copy", Path())


def test_a_run_killed_before_its_models_were_written_writes_them(
    tmp_path: Path, whole: tuple[Path, Outcome]
) -> None:
    there = copied(whole[0], tmp_path, finished=False)
    run = there.folder / "run"
    shutil.rmtree(run / "reranker")
    (run / "retriever/model.safetensors").write_bytes(b"half")
    (run / "reranker.partial").mkdir()
    (run / "reranker.partial/stale").write_bytes(b"")
    outcome = there.train()
    assert weights(run) == weights(whole[0])
    assert not list(run.rglob("*.partial")) and not (run / "reranker/stale").exists()
    assert outcome.metrics["validations"] == whole[1].metrics["validations"]


def test_dev_candidates_without_text_are_looked_up_too(here: Place) -> None:
    given = as_ids(lists(4, first=20), here.folder)
    with_texts = here.folder / "dev.jsonl"
    write_lists(with_texts, lists(4, first=20))
    one = here.train("one", dev=with_texts, joint__epochs=0.5)
    other = here.train("other", dev=given["lists"], passages=given["passages"], joint__epochs=0.5)
    assert one.metrics["validations"] == other.metrics["validations"]
