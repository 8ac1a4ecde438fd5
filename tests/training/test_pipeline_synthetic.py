"""A pipeline from a corpus alone: what it makes, holds out, and never reads."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from rocketrank.data.corpus import CorpusReader
from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.data.records import Passage
from rocketrank.errors import DataError, UsageError
from rocketrank.index import Index
from rocketrank.training.cuts import Cut
from rocketrank.training.lists import Candidate, RankingList, read_lists
from rocketrank.training.passages import open_passages
from rocketrank.training.pipeline import run_pipeline
from rocketrank.training.pipeline_data import read_part
from rocketrank.training.pipeline_synthetic import make_queries, read_made, replaced, with_cuts
from rocketrank.training.recipe import Recipe, read_recipe
from rocketrank.training.synthesis import SyntheticQuery

from .chat_server import Asked, Reply, chat_server, saying
from .small_mining import TableEncoder
from .small_pipeline import write_corpus, write_data, write_recipe

SYNTHETIC = {
    "data.corpus": "pages.jsonl",
    "data.queries": "",
    "data.qrels": "",
    "data.synthesize": "40",
    "data.test_queries": "",
    "data.test_qrels": "",
}


@pytest.fixture(scope="module")
def recipe_file(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), shared_reference)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    write_corpus(folder)
    (folder / "notes").mkdir()
    for passage in CorpusReader([folder / "pages.jsonl"]):
        file = folder / "notes" / f"page {passage.id}.md"
        file.write_text(f"# {passage.title}\n\n{passage.text}\n", encoding="utf-8")
    return folder


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return read_recipe(recipe_file, SYNTHETIC)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data.queries": "queries.tsv"}, r"data\.synthesize is 40 and data\.queries is .* either"),
        ({"data.candidates": "lists.jsonl"}, r"data\.candidates is .* either given or made"),
        ({"data.synthesize": "-1"}, r"expected a whole number of at least 0 \(0 makes no queries"),
        ({"data.synthesize_kinds": '["titles"]'}, r'expected a list of some of "title", "heading"'),
        ({"data.synthesize_kinds": "[]"}, r'expected a list of some of "title"'),
        (
            {"data.endpoint": "http://x/v1", "data.endpoint_model": "m", "data.synthesize": "0"},
            r"data\.endpoint is .* and data\.synthesize is 0, but no queries are made",
        ),
        ({"data.endpoint": "http://x/v1"}, r"data\.endpoint_model is .*name a model"),
        ({"data.endpoint_model": "m"}, r"data\.endpoint is \"\" by default, but there is no add"),
        ({"data.synthesize_kinds": '["endpoint"]'}, r"data\.endpoint is .*there is no address"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    recipe_file: Path, changed: Mapping[str, str], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        read_recipe(recipe_file, {**SYNTHETIC, **changed})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data.endpoint": "x"}, r"data\.endpoint \(x\) must be an address"),
        ({"data.endpoint_prompt": "pages.jsonl"}, r"data\.endpoint_prompt .* must have {passage}"),
        ({"data.endpoint_prompt": "none"}, r"data\.endpoint_prompt: .*none"),
    ],
)
def test_an_endpoint_that_cannot_be_meant_is_refused_before_any_work(
    recipe_file: Path, data: Path, tmp_path: Path, changed: Mapping[str, str], named: str
) -> None:
    endpoint = {"data.endpoint": "http://127.0.0.1:9/v1", "data.endpoint_model": "m"}
    recipe = read_recipe(recipe_file, {**SYNTHETIC, **endpoint, **changed})
    with pytest.raises(UsageError, match=named):
        run_pipeline(recipe, data=data, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def writes(asked: Asked, number: int) -> Reply:
    return saying("\n".join(f"who has seen number {number} by {time}" for time in "ABC"))


def test_an_endpoint_writes_its_share_and_is_asked_once(
    recipe_file: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    endpoint = {"data.endpoint_model": "m", "data.synthesize_kinds": '["title", "sentence"]'}
    with chat_server(writes) as (url, asked):
        recipe = read_recipe(recipe_file, {**SYNTHETIC, **endpoint, "data.endpoint": url})
        made = []
        for _ in range(2):
            make_queries(recipe, data, tmp_path)
            made.append({**read_made(tmp_path, "train"), **read_made(tmp_path, "dev")})
    assert made[0] == made[1]
    kinds = Counter(each.kind for each in made[0].values())
    assert kinds == {"title": 13, "sentence": 14, "endpoint": 13}
    assert len(asked) == len({each.prompt for each in asked}) == 5


def test_no_passage_is_asked_for_in_training_and_on_dev(
    recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    make_queries(recipe, data, tmp_path)
    train, dev = (read_part(tmp_path, part) for part in ("train", "dev"))
    assert len(train.queries) + len(dev.queries) == 40
    sources = {
        each.passage_id for part in ("train", "dev") for each in read_made(tmp_path, part).values()
    }
    assert len(dev.positives) == round(0.25 * len(sources))
    assert not train.positives & dev.positives
    corpus = {passage.id for passage in CorpusReader([data / "pages.jsonl"])}
    assert train.positives | dev.positives == sources <= corpus


def test_the_queries_are_the_same_again_and_say_what_they_were_made_of(
    recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_queries(recipe, data, tmp_path / name)
    files = [sorted(each.name for each in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]
    for name in files[0]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    made = read_made(tmp_path / "one", "train")
    queries = {
        each.id: each.text for each in read_queries(tmp_path / "one" / "train.queries.jsonl")
    }
    assert {each.id: each.text for each in made.values()} == queries
    judged = {
        (each.query_id, each.passage_id) for each in read_qrels(tmp_path / "one" / "train.qrels")
    }
    assert judged == {(each.id, each.passage_id) for each in made.values()}
    assert {each.cut for each in made.values()} <= {
        None,
        *(Cut(kind, recipe.seed) for kind in ("title", "sentence", "cloze")),
    }


PAGES = [Passage(each, f"It comes first. Page {each} is next.", f"Of {each}") for each in "abc"]
MADE = {
    "s/b": SyntheticQuery("s/b", "is first", "sentence", "b", Cut("sentence", 0)),
    "c/b": SyntheticQuery("c/b", "is second", "cloze", "b", None),
}


def pages(folder: Path) -> Path:
    lines = [json.dumps({"_id": each.id, "title": each.title, "text": each.text}) for each in PAGES]
    (folder / "abc.jsonl").write_text("\n".join(lines))
    return folder / "abc.jsonl"


@pytest.mark.parametrize(
    ("score", "ranked"),
    [(0.85, ["a", "b"]), (0.95, ["b", "a"]), (0.1, ["a", "c"]), (0.75, ["a", "c"])],
)
def test_the_own_passage_of_a_dev_query_is_ranked_by_what_is_left_of_it(
    tmp_path: Path, score: float, ranked: list[str]
) -> None:
    found = {"s/b": {"b": 1.0, "a": 0.9, "c": 0.75}, "c/b": {"b": 1.0, "a": 0.9, "c": 0.75}}
    encoder = TableEncoder({"Of b Page b is next.": score})
    new = replaced(found, MADE, encoder, open_passages([pages(tmp_path)]), 2)
    assert list(new["s/b"]) == ranked
    assert new["s/b"].get("b", score) == pytest.approx(score)
    assert new["c/b"] == {"b": 1.0, "a": 0.9}


def test_candidates_of_dev_queries_are_cut_as_those_of_training(tmp_path: Path) -> None:
    candidates = (Candidate("a", 0), Candidate("b", 1))
    lists = [RankingList(query_id, "text", candidates) for query_id in ("s/b", "c/b")]
    cut, whole = with_cuts(iter(lists), MADE, open_passages([pages(tmp_path)]))
    assert [(each.title, each.text) for each in cut.candidates] == [
        ("Of a", "Page a is next."),
        ("Of b", "Page b is next."),
    ]
    assert whole == lists[1]


@pytest.mark.slow
def test_test_files_are_read_by_the_measuring_step_alone(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    """Until then nobody notices that they are no such files; after it, that they were others."""
    tests = {"data.test_queries": "asked.tsv", "data.test_qrels": "judged.txt"}
    recipe = read_recipe(recipe_file, {**SYNTHETIC, **tests})
    output = tmp_path / "out"
    for name in tests.values():
        (data / name).write_bytes(b"\xff\x00 no text at all")
    with pytest.raises(DataError, match=r"asked\.tsv|judged\.txt"):
        run_pipeline(recipe, data=data, output=output, threads=1)
    made = {each.name for each in output.iterdir()}
    assert {"retriever", "reranker", "index", "synthesis.json", "lists-joint.jsonl"} <= made
    assert "results.json" not in made
    weights = (output / "retriever" / "model.safetensors").read_bytes()

    (data / "asked.tsv").write_text("t1\twhat does the fox eat by night\n")
    (data / "judged.txt").write_text("t1 0 fox-night 1\n")
    outcome = run_pipeline(recipe, data=data, output=output, threads=1)
    assert outcome.finished
    assert outcome.results["test"]["queries"] == 1
    assert outcome.results["dev"]["queries"] == len(read_part(output, "dev").queries)
    assert (output / "retriever" / "model.safetensors").read_bytes() == weights
    asked = {each.query_id for each in read_lists(output / "lists-joint.jsonl")}
    assert asked <= read_made(output, "train").keys()
    report = json.loads((output / "synthesis.json").read_bytes())
    assert sum(kind["drawn"] for kind in report["synthesis"].values()) == 40


@pytest.mark.slow
def test_the_bundled_recipe_runs_from_a_folder_of_text(data: Path, tmp_path: Path) -> None:
    """With a single layer and few queries: its lengths and stages are what is tried."""
    settings = {"data.corpus": "notes", "data.synthesize": "24", "mining.depth": "12"}
    settings |= {"models.layers": "1", "reranker.epochs": "1"}
    words = [f"--set={key}={value}" for key, value in settings.items()]
    output = tmp_path / "out"
    command = [sys.executable, "-m", "rocketrank", "train", "no-labels-cpu", "--pipeline"]
    done = subprocess.run(
        [*command, "--data", data, "--output", output, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "24 queries were made" in done.stderr
    assert (output / "results.json").exists()
    with Index.open(output / "index") as index:
        found = {each.metadata["document"] for each in index.live_passages()}
        assert index.has_words
    assert found == {str(each) for each in (data / "notes").iterdir()}
