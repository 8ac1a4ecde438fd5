"""The sentences for what a recipe may not say."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.training.recipe import Recipe, read_recipe

Read = Callable[..., Recipe]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(content: str, overrides: Mapping[str, str] = {}) -> Recipe:
        path = tmp_path / "mine.toml"
        path.write_text(content, encoding="utf-8")
        return read_recipe(path, overrides)

    return reader


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[joint]\nepochs = "two"', r'joint.epochs is "two", expected a number of at least 0 .*'),
        ("[joint]\nepochs = nan", "joint.epochs is nan, expected a number of at least 0"),
        ("[joint]\nepochs = -1", "joint.epochs is -1, .* write epochs = 1.0 in .joint., its def"),
        ("[joint]\nlist_length = 8.0", "list_length is 8.0, expected a whole number of at least 2"),
        ("[joint]\nlist_length = 1", "list_length is 1, expected a whole number of at least 2"),
        ("[joint]\nkeep = true", "joint.keep is true, expected a whole number of at least 1"),
        ("[joint]\nclip = false", "joint.clip is false, expected a number of at least 0"),
        ("[joint]\nlearning_rate = 0", "expected a number above 0 and at most 1"),
        ("[joint]\nwarmup = 1", "warmup is 1, expected a number of at least 0 and below 1"),
        ("[joint]\nema = 1.0", "ema is 1.0, expected a number of at least 0 and below 1"),
        ("[joint]\neasy = 1", "joint.easy is 1, expected true or false: write easy = true"),
        ('[joint]\nschedule = "step"', 'is "step", expected "constant", "linear" or "cosine": '),
        ("[joint]\nprecision = [16]", r'is \[16\], expected "auto", "fp32", "bf16" or "fp16": '),
        ('[joint]\nselect_by = " "', 'select_by is " ", expected text that is not empty'),
        ("[models]\nquery_length = 2", "query_length is 2, expected 0 or a whole number of at lea"),
        ("[models]\ndropout = 1", "dropout is 1, expected -1 or a number of at least 0 and below"),
        ("[data]\ndev_share = 0.6", "data.dev_share is 0.6, expected a number from 0 to 0.5: wri"),
        ("[data]\nqueries = 3", "data.queries is 3, expected text in quotes: correct it or leave"),
        ("[data]\ncorpus = [3]", r"data.corpus is \[3\], expected a list of file names in quotes"),
        ("[data]\nqrels = {a = 1}", r'data.qrels is \{"a" = 1\}, expected text in quotes'),
        ("[data]\nqrels = 2020-01-01", "data.qrels is 2020-01-01, expected text in quotes"),
        ("seed = -1", "seed is -1, expected a whole number from 0 to 4294967295: write seed = 42"),
        (f"seed = {10**30}", "seed is a whole number of more than 64 bits, expected a whole numb"),
        ('name = ""', 'name is "", expected text that is not empty'),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_was_expected(
    read: Read, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=rf"mine\.toml: .*{message}"):
        read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[joint]\nepoch = 1", 'unknown key "joint.epoch": write "joint.epochs"'),
        ("[joint]\nlist-length = 8", 'unknown key "joint.list-length": write "joint.list_length"'),
        ("[models]\ndepth = 9", 'unknown key "models.depth": write "mining.depth"'),
        ("sead = 1", 'unknown key "sead": write "seed"'),
        ("negatives = 9", 'unknown key "negatives": write "mining.negatives"'),
        (
            "[mining]\nzzz = 9",
            r'unknown key "mining.zzz", expected one of the keys of \[mining\]: depth, ',
        ),
        ("zzz = 9", 'unknown key "zzz", expected one of name, seed, data, models, mining, retr'),
        ("[jiont]\nepochs = 1", r"unknown section \[jiont\]: write \[joint\]"),
        ("[zzz]\nepochs = 1", r"unknown section \[zzz\]: expected one of \[data\], \[models\], "),
        ("[joint.more]\nepochs = 1", 'unknown key "joint.more"'),
        ('"joint.epochs" = 1', 'unknown key "joint.epochs" in quotes'),
        ("joint = 3", r"joint is 3, expected a section: write \[joint\] on a line of its own"),
        ("[[joint]]\nepochs = 1", r"joint is \[\{.*\}\], expected a section"),
        ("path = 'x'", 'unknown key "path"'),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(
    read: Read, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=rf"mine\.toml: {message}"):
        read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "[mining]\nlow = 0.95",
            "mining.low is 0.95 and mining.high is 0.9 by default, expected low below high",
        ),
        (
            "[mining]\nnegatives = 51",
            "mining.negatives is 51 and .* but only 50 candidates would be mined for a query",
        ),
        (
            "[joint]\nlist_length = 22",
            "joint.list_length is 22 and mining.negatives is 20 by default, .* = 21 or more",
        ),
        (
            "[reranker]\naccumulate = 3",
            "reranker.accumulate is 3 and reranker.lists_per_step is 8 by default, expected a step",
        ),
        (
            "[joint]\npartial_ranking = 1\nlist_length = 6",
            "joint.hardest is 6 by default and joint.list_length is 6, .* hardest = 5 or less",
        ),
        (
            "[joint]\nsupervised = 0\ndistillation = 0",
            "joint.supervised is 0.0 and joint.distillation is 0.0 and joint.contrastive is 0.0 by "
            "default and joint.partial_ranking is 0.0 by default, so nothing would be learnt",
        ),
        (
            "[retriever]\ncontrastive = 0",
            "retriever.contrastive is 0.0, so nothing would be learnt: write contrastive = 1.0, or",
        ),
        (
            "[retriever]\nsupervised = 1",
            "retriever.supervised is 1.0, but this stage trains the retriever alone",
        ),
        (
            "[reranker]\ncontrastive = 1",
            "reranker.contrastive is 1.0, but this stage trains the reranker alone",
        ),
        (
            "[joint]\nfreeze_reranker = true",
            "joint.freeze_reranker is true and joint.supervised is 1.0 by default, but supervised",
        ),
        (
            "[joint]\nfreeze_reranker = true\nsupervised = 0\nreranker_learning_rate = 1e-5",
            "joint.freeze_reranker is true and joint.reranker_learning_rate is 1e-05, but rer",
        ),
        ("[reranker]\nfreeze_reranker = true", r"reranker.freeze_reranker is true, but only \[jo"),
        (
            "[joint]\npatience = 2\n[data]\ndev_share = 0",
            'joint.patience is 2 and data.dev_queries is "" by default and data.dev_share is 0.0, ',
        ),
        (
            '[data]\ndev_queries = "q.tsv"',
            'data.dev_queries is "q.tsv" and data.dev_qrels is "" by default, but queries are',
        ),
        (
            '[data]\ntest_qrels = "q.txt"',
            'data.test_queries is "" by default and data.test_qrels is "q.txt", but queries are',
        ),
        ('[data]\ntest_run = "r.trec"', 'data.test_run is "r.trec" and data.test_queries is ""'),
    ],
)
def test_values_that_do_not_go_together_are_named_with_both(
    read: Read, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=rf"mine\.toml: {message}"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        "[joint]\nepochs = 0\nsupervised = 0\ndistillation = 0",
        '[data]\ncandidates = "lists.jsonl"\n[joint]\nlist_length = 128',
        "[joint]\nhardest = 100",
        "[joint]\nfreeze_reranker = true\nsupervised = 0",
        "[joint]\nsupervised = 0\ndistillation = 0\npartial_ranking = 1",
        "[mining]\ndepth = 10\nbm25 = 10",
    ],
)
def test_what_is_not_used_is_not_refused(read: Read, content: str) -> None:
    read(content)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("joint.epochs", "two", 'is "two", expected a number .*: write --set joint.epochs=1.0'),
        ("joint.epochs", "", 'is "", expected a number of at least 0'),
        ("joint.easy", "True", 'is "True", expected true or false: write --set joint.easy=true'),
        ("joint.schedule", "step", 'is "step", expected .*: write --set joint.schedule=linear'),
        ("joint.accumulate", "3", "is 3 and joint.lists_per_step is 8 by default, expected a st"),
        ("data.queries", "caf\udce9", r'is "caf\\udce9", expected text in UTF-8'),
    ],
)
def test_an_override_that_cannot_be_used_is_named_as_it_was_typed(
    read: Read, key: str, text: str, message: str
) -> None:
    typed = text.replace("\udce9", r"\\udce9")
    with pytest.raises(UsageError, match=rf"^--set {key}={typed}: {key} {message}"):
        read("", {key: text})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("joint.epoch", 'unknown key "joint.epoch": write "joint.epochs"'),
        ("jont.epochs", 'unknown key "jont.epochs", expected one of .*: write "joint.epochs"'),
        ("joint", 'unknown key "joint": joint is a section, expected a key in it such as "joint'),
        ("", 'unknown key "", expected one of name, seed, data'),
    ],
)
def test_an_override_of_an_unknown_key_is_refused(read: Read, key: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^--set {key}=2: {message}"):
        read("", {key: "2"})


def test_a_value_in_the_file_that_is_overridden_may_be_wrong(read: Read) -> None:
    assert read("[joint]\nepochs = 'two'", {"joint.epochs": "2"}).joint.epochs == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nname = x\n", r":2: expected TOML .*: Invalid value"),
        (b"seed = 1\nseed = 2\n", r"expected TOML .*: Cannot overwrite a value"),
        (b"seed = 1\n# caf\xe9\n", ":2: expected UTF-8, found the byte 0xe9: save the recipe as"),
        (b"seed = " + b"9" * 5000, "expected TOML"),
        (b"seed = " + b"[" * 100_000, "expected TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"mine\.toml{message}" if message[0] == ":" else message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scifact-cp", 'no recipe "scifact-cp": .* the bundled recipes are demo, msmarco-sample-'),
        ("scifact-cp", r"\(did you mean scifact-cpu\?\)"),
        ("scifact-cpu.toml", r"\(did you mean scifact-cpu\?\)"),
        ("", 'no recipe ""'),
        (".", "is a folder, but a recipe is a TOML file"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        read_recipe(name)


def test_a_number_of_thousands_of_digits_is_refused_in_a_sentence(read: Read) -> None:
    with pytest.raises(DataError, match=r"data.corpus is \[0xfff.*…, expected a list of file"):
        read(f"[data]\ncorpus = [0x{'f' * 9000}]")
