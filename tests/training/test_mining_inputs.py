"""Which queries are mined for, and what tells one tokenizer from another."""

from pathlib import Path

import pytest

from rocketrank.data.records import Judgement, Query
from rocketrank.errors import DataError
from rocketrank.models import Model, ModelSettings
from rocketrank.training.mining import tokenizer_fingerprint
from rocketrank.training.mining_queries import select_queries

from ..model_folders import BERT, DUAL, write_model, write_tower


def test_queries_are_chosen_by_their_judgements() -> None:
    queries = [Query(each, each) for each in ("good", "bad", "none")]
    judgements = [Judgement("good", "p", 2), Judgement("good", "n", 0), Judgement("bad", "n", -1)]
    chosen, counts, _ = select_queries(queries, judgements)
    assert [(each.id, each.positives, each.irrelevant) for each in chosen] == [
        ("good", ("p",), frozenset({"n"}))
    ]
    assert (counts["labelled"], counts["without_positive"], counts["unjudged"]) == (1, 1, 1)
    unjudged = select_queries(queries, judgements, unjudged=True)
    assert [each.id for each in unjudged.queries] == ["good", "none"]


def test_judgements_of_other_queries_are_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="found none among 1 queries"):
        select_queries([Query("1", "text")], [Judgement("2", "p", 1)])


def test_judged_queries_that_are_missing_are_counted_with_a_note(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queries = select_queries([Query("1", "x")], [Judgement("1", "p", 1), Judgement("2", "p", 1)])
    assert queries.counts["unknown"] == 1
    assert "1 of 2 judged queries are not among the queries" in caplog.text


def model_at(folder: Path, towers: str = "shared") -> Model:
    return Model("m", folder, ModelSettings(role="dual-encoder", towers=towers))  # type: ignore[arg-type]


def test_the_tokenizers_fingerprint_ignores_everything_else(tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "a", DUAL), write_model(tmp_path / "b", DUAL)
    (other / "model.safetensors").write_bytes(b"others")
    assert tokenizer_fingerprint(model_at(one)) == tokenizer_fingerprint(model_at(other))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nb\n"),
        ("tokenizer_config.json", '{"do_lower_case": false}'),
    ],
)
def test_the_tokenizers_fingerprint_sees_words_and_options(
    tmp_path: Path, file: str, content: str
) -> None:
    folder = write_model(tmp_path / "a", DUAL)
    before = tokenizer_fingerprint(model_at(folder))
    (folder / file).write_text(content)
    assert tokenizer_fingerprint(model_at(folder)) != before


def test_two_towers_with_one_tokenizer_have_the_fingerprint_of_one(tmp_path: Path) -> None:
    shared = write_model(tmp_path / "shared", DUAL)
    for tower in ("query", "passage"):
        write_tower(tmp_path / "two" / tower, BERT)
    two = model_at(tmp_path / "two", "separate")
    assert tokenizer_fingerprint(two) == tokenizer_fingerprint(model_at(shared))
