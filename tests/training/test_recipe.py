"""Recipes: what is read, written and compared; the bundled ones; ranges of values."""

import math
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.training.recipe import (
    STAGE_DEFAULTS,
    STAGES,
    DataSection,
    MiningSection,
    ModelsSection,
    Recipe,
    Stage,
    bundled_recipes,
    differences,
    read_recipe,
    recipe_fingerprint,
    recipe_toml,
)
from rocketrank.training.recipe_values import RANGES, Range, toml_value

Read = Callable[..., Recipe]
SECTIONS = (DataSection, ModelsSection, MiningSection, Stage)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(content: str, overrides: Mapping[str, str] = {}) -> Recipe:
        path = tmp_path / "mine.toml"
        path.write_text(content, encoding="utf-8")
        return read_recipe(path, overrides)

    return reader


def test_an_empty_recipe_has_the_defaults_and_the_name_of_its_file(
    read: Read, tmp_path: Path
) -> None:
    assert read("") == Recipe(
        name="mine",
        path=tmp_path / "mine.toml",
        seed=42,
        data=DataSection(),
        models=ModelsSection(),
        mining=MiningSection(),
        retriever=Stage(supervised=0.0, distillation=0.0, contrastive=1.0),
        reranker=Stage(supervised=1.0, distillation=0.0),
        joint=Stage(),
    )


def test_what_is_written_is_what_is_read(read: Read) -> None:
    recipe = read(
        """
        name = "a name"
        seed = 7
        joint.epochs = 2
        [data]
        corpus = ["one.tsv", "two.tsv.gz"]
        [models]
        dropout = 0
        """
    )
    assert (recipe.name, recipe.seed, recipe.joint.epochs) == ("a name", 7, 2.0)
    assert recipe.data.corpus == ("one.tsv", "two.tsv.gz")
    assert type(recipe.models.dropout) is float


def test_one_file_needs_no_list(read: Read) -> None:
    assert read('[data]\ncorpus = "collection.tsv"').data.corpus == ("collection.tsv",)


def test_a_byte_order_mark_is_no_part_of_the_first_key(read: Read) -> None:
    assert read("\ufeffseed = 3").seed == 3


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_bundled_recipe_is_found_by_its_name(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.path.name == f"{name}.toml"


def test_the_bundled_recipes_are_those_of_the_documentation() -> None:
    assert bundled_recipes() == [
        "demo",
        "msmarco-sample-cpu",
        "no-labels-cpu",
        "rocketqav2-msmarco",
        "rocketqav2-nq",
        "scifact-cpu",
    ]


@pytest.mark.parametrize(
    ("name", "list_length", "epochs"), [("rocketqav2-msmarco", 128, 2), ("rocketqav2-nq", 32, 3)]
)
def test_the_joint_stage_of_rocketqav2_has_the_settings_of_the_paper(
    name: str, list_length: int, epochs: int
) -> None:
    """arXiv 2110.07367, and the code that its authors released with it."""
    recipe = read_recipe(name)
    assert recipe.joint == replace(
        recipe.joint,
        list_length=list_length,
        epochs=epochs,
        lists_per_step=96,
        learning_rate=1e-5,
        reranker_learning_rate=0.0,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.01,
        clip=1.0,
        supervised=1.0,
        distillation=1.0,
        contrastive=0.0,
        partial_ranking=0.0,
        direction="student_teacher",
        teacher_gradient=True,
        reduction="query",
    )
    assert (recipe.models.query_length, recipe.models.passage_length) == (32, 128)
    assert recipe.mining.lists == "hybrid"


@pytest.mark.parametrize(
    ("name", "folder"), [("scifact-cpu", "scifact"), ("msmarco-sample-cpu", "msmarco")]
)
def test_the_files_of_a_recipe_for_a_processor_are_those_of_its_collection(
    shared_data: Path, name: str, folder: str
) -> None:
    data = read_recipe(name).data
    named = [*data.corpus, *(getattr(data, one.name) for one in fields(data) if one.type is str)]
    missing = [file for file in named if not (shared_data / folder / file).exists()]
    assert not missing


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_recipe_that_is_written_and_read_again_is_equal(read: Read, name: str) -> None:
    recipe = read_recipe(name, {"joint.learning_rate": "1e-7", "models.scale": "0.1"})
    again = read(recipe_toml(recipe))
    assert again == recipe
    assert recipe_fingerprint(again) == recipe_fingerprint(recipe)


def test_the_written_recipe_has_every_field(read: Read) -> None:
    written = tomllib.loads(recipe_toml(read("")))
    assert set(written) == {one.name for one in fields(Recipe)} - {"path"}
    for section, kind in zip(("data", "models", "mining", "joint"), SECTIONS, strict=True):
        assert set(written[section]) == {one.name for one in fields(kind)}


@given(st.text())
def test_any_text_is_written_so_that_toml_reads_it_back(text: str) -> None:
    assert tomllib.loads(f"value = {toml_value((text, 'x'))}")["value"] == [text, "x"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_written_so_that_toml_reads_it_back(number: float) -> None:
    assert tomllib.loads(f"value = {toml_value(number)}")["value"] == number


def test_every_number_has_a_range_that_holds_its_default() -> None:
    numbers = {
        one.name: getattr(kind(), one.name)
        for kind in SECTIONS
        for one in fields(kind)
        if one.type in (int, float)
    }
    assert numbers.keys() | {"seed"} == RANGES.keys()
    assert all(RANGES[key].holds(value) for key, value in numbers.items())
    for stage in STAGES:
        assert all(RANGES[key].holds(value) for key, value in STAGE_DEFAULTS[stage].items())


def test_a_choice_has_a_default_among_its_values() -> None:
    choices = [one for kind in SECTIONS for one in fields(kind) if get_args(one.type)]
    for one in choices:
        assert get_origin(one.type) is tuple or one.default in get_args(one.type)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_a_range_without_an_end_holds_finite_numbers_only(value: float) -> None:
    assert not Range(0).holds(value)


def test_an_override_wins_over_the_file(read: Read) -> None:
    recipe = read(
        "[joint]\nepochs = 1\neasy = true",
        {"joint.epochs": "2", "joint.easy": "false", "seed": "1_000"},
    )
    assert (recipe.joint.epochs, recipe.joint.easy, recipe.seed) == (2.0, False, 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.tsv", "train.tsv"),
        ('"train.tsv"', "train.tsv"),
        ("7", "7"),
        ("true", "true"),
        ("", ""),
        ("a # b", "a # b"),
        ("1\nseed = 3", "1\nseed = 3"),
    ],
)
def test_an_override_of_text_needs_no_quotes(read: Read, text: str, expected: str) -> None:
    recipe = read("", {"data.queries": text})
    assert (recipe.data.queries, recipe.seed) == (expected, 42)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.tsv", ("a.tsv",)), ('["a.tsv", "b.tsv"]', ("a.tsv", "b.tsv")), ("", ()), ("7", ("7",))],
)
def test_an_override_of_files_is_one_or_a_list(
    read: Read, text: str, expected: tuple[str, ...]
) -> None:
    assert read("", {"data.corpus": text}).data.corpus == expected


def test_the_fingerprint_is_that_of_the_settings_alone(read: Read, tmp_path: Path) -> None:
    one = recipe_fingerprint(read("seed = 1\n[joint]\nepochs = 2"))
    (tmp_path / "other.toml").write_text('name = "x"\njoint = { epochs = 2.0 } # a comment\nseed=1')
    assert recipe_fingerprint(read_recipe(tmp_path / "other.toml")) == one
    assert len(one) == 64


def test_a_change_of_any_setting_changes_the_fingerprint_and_is_a_difference(read: Read) -> None:
    one = read("")
    changes = {
        "seed": ("43", "seed: 42 / 43"),
        "data.corpus": ("a.tsv", 'data.corpus: [] / ["a.tsv"]'),
        "models.layers": ("3", "models.layers: 0 / 3"),
        "mining.lists": ("denoised", 'mining.lists: "hybrid" / "denoised"'),
        "retriever.clip": ("0", "retriever.clip: 1.0 / 0.0"),
        "reranker.recompute": ("true", "reranker.recompute: false / true"),
        "joint.epochs": ("3", "joint.epochs: 1.0 / 3.0"),
    }
    prints = {recipe_fingerprint(one)}
    for key, (text, difference) in changes.items():
        other = read("", {key: text})
        assert differences(one, other) == [difference]
        prints.add(recipe_fingerprint(other))
    assert len(prints) == 1 + len(changes)


def test_a_name_and_a_negative_zero_are_no_difference(read: Read) -> None:
    one, other = read("[joint]\nmargin = 0.0"), read('name = "x"\n[joint]\nmargin = -0.0')
    assert differences(one, other) == []
    assert recipe_fingerprint(one) == recipe_fingerprint(other)


def test_reading_a_recipe_loads_neither_paddle_nor_numpy() -> None:
    program = (
        "import sys; from rocketrank.training.recipe import read_recipe; read_recipe('scifact-cpu')"
        "; print([name for name in ('paddle', 'paddlenlp', 'numpy') if name in sys.modules])"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=source, check=True
    )
    assert done.stdout.strip() == "[]"
