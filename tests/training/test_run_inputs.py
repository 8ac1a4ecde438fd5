"""What a stage is trained on: lists of every kind, and those that are refused before training."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.training.lists import Candidate, ListsHeader, RankingList, read_lists, write_lists
from rocketrank.training.run import Outcome

from .small_run import (
    Place,
    as_candidates,
    as_ids,
    lists,
    one_sentence,
    place,
    start_model,
    weights,
)

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


def test_dev_candidates_without_text_are_looked_up_too(here: Place) -> None:
    given = as_ids(lists(4, first=20), here.folder)
    with_texts = here.folder / "dev.jsonl"
    write_lists(with_texts, lists(4, first=20))
    one = here.train("one", dev=with_texts, joint__epochs=0.5)
    other = here.train("other", dev=given["lists"], passages=given["passages"], joint__epochs=0.5)
    assert one.metrics["validations"] == other.metrics["validations"]


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
