"""The arithmetic of the comparison with peers, which needs none of them."""

import importlib
from types import ModuleType

import pytest

from rocketrank.tokenizing import Tokens


@pytest.fixture(scope="module")
def table(scripts: None) -> ModuleType:
    return importlib.import_module("peers_table")


@pytest.mark.parametrize(
    ("measure", "ratio"), [("per_second", 0.5), ("p50", 2.0), ("seconds", 2.0)]
)
def test_a_ratio_says_how_many_times_faster_ours_was(
    table: ModuleType, measure: str, ratio: float
) -> None:
    sides = {"ours": {measure: [3.0, 5.0]}, "theirs": {measure: [6.0, 10.0]}}
    assert table.ratios(sides, "theirs", measure) == [ratio, ratio]


def test_a_table_has_the_columns_that_any_side_has(table: ModuleType) -> None:
    sides = {"ours": {"seconds": [1.0, 2.0, 4.0]}, "theirs": {"seconds": [4.0, 4.0, 4.0]}}
    assert list(table._table("help", "s", sides)) == [
        "| help | s | ours is faster by |",
        "|---|---:|---:|",
        "| ours | 2 (1 to 4) |  |",
        "| theirs | 4 (4 to 4) | 2 (1 to 4) |",
    ]


def test_operations_of_a_layer_are_those_of_its_products(scripts: None) -> None:
    """Three tokens, width 4, inner width 8: per token 4·4·4 + 2·4·8 = 128, per pair 2·4; twice."""
    roofline = importlib.import_module("peers.roofline")
    config = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1}
    tokens = [Tokens([1, 2, 3], [0, 0, 0], False)]
    assert roofline.operations(tokens, config) == 2 * (3 * 128 + 9 * 8)
