"""The names of data sets: what is known, and what is said of what is not."""

import re

import pytest

from rocketrank.data.datasets import dataset_names, open_dataset
from rocketrank.errors import UsageError


def refusal(name: str, *, split: str | None = None) -> str:
    """The message without a folder, which must be one sentence on one line."""
    with pytest.raises(UsageError) as caught:
        open_dataset(name, None, split=split)
    message = str(caught.value)
    assert not re.search(r"[.?!]\s|\n|\.$", message)
    return message


def test_cqadupstack_alone_lists_its_forums() -> None:
    message = refusal("cqadupstack")
    assert "cqadupstack/android" in message
    assert "cqadupstack/wordpress" in message


def test_a_split_that_the_set_has_not_is_said_with_those_that_it_has() -> None:
    assert refusal("scifact", split="dev") == (
        "split (dev) is none of the data set's: scifact has test, train"
    )


def test_two_splits_that_contradict_each_other_are_refused() -> None:
    assert refusal("scifact/test", split="train") == (
        "split (train) must be that of the dataset scifact/test, or left out"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("scifat", "scifact"), ("trec_covid", "trec-covid"), ("MSMARCO-pasage", "msmarco")],
)
def test_a_near_miss_is_answered_with_the_name_that_may_be_meant(name: str, meant: str) -> None:
    message = refusal(name)
    assert message.startswith(f"dataset ({name}) is not known; did you mean ")
    assert meant in message


@pytest.mark.parametrize("name", ["", "/", "imagenet"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    message = refusal(name)
    assert message.startswith(f"dataset ({name}) must be one of ")
    assert all(known in message for known in dataset_names())


def test_all_eighteen_names_of_beir_are_known() -> None:
    names = (
        "scifact nfcorpus trec-covid fiqa arguana webis-touche2020 quora dbpedia-entity scidocs "
        "fever climate-fever hotpotqa beir/nq beir/msmarco bioasq signal1m trec-news robust04"
    )
    assert {*names.split(), "cqadupstack/android"} <= set(dataset_names())


def test_every_listed_name_says_which_files_it_wants_when_no_folder_is_given() -> None:
    for name in dataset_names():
        assert "into a folder and give it with --data" in refusal(name)
