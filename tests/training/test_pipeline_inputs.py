"""What a pipeline reads before any work: its recipe, its files, and its own earlier output."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rocketrank.data.qrels import read_qrels
from rocketrank.data.queries import read_queries
from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.training.pipeline import run_pipeline
from rocketrank.training.pipeline_begin import begun
from rocketrank.training.pipeline_data import read_part, split
from rocketrank.training.pipeline_steps import Work
from rocketrank.training.recipe import Recipe, read_recipe

from .small_pipeline import write_data, write_recipe


@pytest.fixture(scope="module")
def recipe_file(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), shared_reference)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture
def small_recipe(recipe_file: Path) -> Recipe:
    return read_recipe(recipe_file)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data.qrels": "none.txt"}, r"data\.qrels: .*none\.txt: cannot be read: .*--data"),
        ({"data.corpus": "none.jsonl"}, r"data\.corpus: .*none\.jsonl: cannot be read"),
        ({"data.test_run": "none.trec"}, r"data\.test_run: .*none\.trec: cannot be read"),
        ({"data.corpus": "[]"}, r"data\.corpus is empty"),
        ({"data.qrels": ""}, r"data\.qrels is empty, .*data\.candidates"),
        (
            {"retriever.epochs": "0", "reranker.epochs": "0", "joint.epochs": "0"},
            r"epochs is 0 in \[retriever\], \[reranker\] and \[joint\]",
        ),
        ({"models.retriever": "no/model/here"}, r'no model "no/model/here"'),
        ({"models.query_length": "500"}, r"models\.query_length is 500"),
        ({"joint.select_by": "nDCG@ten"}, r'unknown measure "nDCG@ten"'),
        ({"joint.precision": "bf16"}, r"precision is bf16"),
        ({"mining.low": "0"}, r"the limits low \(0\.0\)"),
    ],
)
def test_what_cannot_go_well_is_refused_before_any_work(
    recipe_file: Path, data: Path, tmp_path: Path, changed: Mapping[str, str], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        run_pipeline(read_recipe(recipe_file, changed), data=data, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def begun_output(small_recipe: Recipe, data: Path, tmp_path: Path) -> Iterator[Work]:
    """An output that was begun, and is held as by a running process."""
    work = Work(recipe=small_recipe, data=data, output=tmp_path / "out")
    with begun(work):
        yield work


def test_another_recipe_is_refused_with_the_difference(
    begun_output: Work, recipe_file: Path
) -> None:
    other = read_recipe(recipe_file, {"joint.epochs": "9"})
    with pytest.raises(UsageError, match=r"another recipe \(joint\.epochs: 4\.0 / 9\.0, there"):
        run_pipeline(other, data=begun_output.data, output=begun_output.output)


def test_other_data_are_refused_by_the_names_of_their_keys(
    begun_output: Work, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(begun_output.data, other)
    content = (other / "train.txt").read_text()
    (other / "train.txt").write_text(content.replace("fox-food 1", "fox-food 2"))
    with pytest.raises(UsageError, match=r"on other files \(data\.qrels differ"):
        run_pipeline(begun_output.recipe, data=other, output=begun_output.output)


def test_two_processes_do_not_run_one_pipeline(begun_output: Work) -> None:
    with pytest.raises(RocketRankError, match="another process is running this pipeline"):
        run_pipeline(
            begun_output.recipe, data=begun_output.data, output=begun_output.output, threads=1
        )


def test_a_folder_of_other_files_is_left_alone(
    small_recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"holds other files \(thesis\.tex\) and no pipeline"):
        run_pipeline(small_recipe, data=data, output=tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_dev_queries_are_a_share_of_the_judged_ones_with_all_their_judgements(
    small_recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    split(small_recipe, data, tmp_path, mines=True)
    parts = {
        part: sorted(map(tuple, read_qrels(tmp_path / f"{part}.qrels")))
        for part in ("train", "dev")
    }
    assert sorted(parts["train"] + parts["dev"]) == sorted(
        map(tuple, read_qrels(data / "train.txt"))
    )
    ids = {part: {query_id for query_id, *_ in judged} for part, judged in parts.items()}
    assert (len(ids["train"]), len(ids["dev"])) == (18, 6)
    assert not ids["train"] & ids["dev"]
    for part, asked in ids.items():
        assert {each.id for each in read_queries(tmp_path / f"{part}.queries.jsonl")} == asked


def test_without_a_share_nothing_is_held_out(
    small_recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(small_recipe.path, {"data.dev_share": "0"})
    split(recipe, data, tmp_path, mines=True)
    assert read_part(tmp_path, "dev") == ({}, {}, None)
    assert len(read_part(tmp_path, "train").queries) == 24


def test_a_positive_that_the_corpus_lacks_is_named_before_it_is_indexed(
    small_recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    with (folder / "train.txt").open("a") as file:
        file.write("owl.food 0 unicorn-food 1\n")
    sentence = r"data\.qrels: .*found 'unicorn-food' \(1 of 25 are missing\)"
    recipe = read_recipe(small_recipe.path, {"data.dev_share": "0"})
    with pytest.raises(DataError, match=sentence):
        split(recipe, folder, tmp_path, mines=True)
    assert not list(tmp_path.glob("*.qrels"))


def test_lists_alone_say_what_is_asked_and_what_is_relevant(
    small_recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    lists = [
        {
            "query_id": f"q{number}",
            "query": f"who eats {number}",
            "candidates": [{"id": "fox-food", "label": 1}, {"id": "owl-food", "label": 0}],
        }
        for number in range(8)
    ]
    (folder / "lists.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lists))
    changed = {"data.queries": "", "data.qrels": "", "data.candidates": "lists.jsonl"}
    split(read_recipe(small_recipe.path, changed), folder, tmp_path, mines=True)
    judged = [*read_qrels(tmp_path / "train.qrels"), *read_qrels(tmp_path / "dev.qrels")]
    assert sorted(judged) == [(f"q{number}", "fox-food", 1) for number in range(8)]
    texts = [each.text for each in read_queries(tmp_path / "dev.queries.jsonl")]
    assert len(texts) == 2
    assert all(re.fullmatch(r"who eats \d", text) for text in texts)
