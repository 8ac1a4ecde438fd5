"""What must be alike where figures are compared: told apart, kept in details, read back."""

import hashlib

import pytest

from rocketrank.errors import UsageError
from rocketrank.eval.conditions import (
    check_alike,
    conditions_of,
    judgements_digest,
    with_conditions,
)

OWN = {
    "qrels": "dev.tsv",
    "judgements": "0123456789ab",
    "order": "score",
    "missing": "zero",
    "drop_self": False,
}


def test_judgements_in_another_order_have_the_same_digest() -> None:
    one = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}
    assert judgements_digest(one) == judgements_digest({"q2": {"c": 2}, "q1": {"b": 0, "a": 1}})


def test_the_digest_is_that_of_the_sorted_lines() -> None:
    lines = b"q1\ta\t1\nq1\tb\t0\nq2\tc\t2\n"
    expected = hashlib.sha256(lines).hexdigest()
    assert expected.startswith(judgements_digest({"q2": {"c": 2}, "q1": {"b": 0, "a": 1}}))


@pytest.mark.parametrize("other", [{"q": {"a": 2}}, {"q": {"b": 1}}, {"p": {"a": 1}}])
def test_other_judgements_have_another_digest(other: dict[str, dict[str, int]]) -> None:
    assert judgements_digest(other) != judgements_digest({"q": {"a": 1}})


@pytest.mark.parametrize("of_b", [OWN, {**OWN, "order": "rank"}])
def test_conditions_come_back_from_details(of_b: dict[str, object]) -> None:
    details = with_conditions({"measures": ["AP"]}, {"a": OWN, "b": of_b})
    assert details["measures"] == ["AP"]
    assert [conditions_of(details, name) for name in "ab"] == [OWN, of_b]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"judgements": "ba9876543210"}, "dev.tsv (sha256 ba9876543210)"),
        ({"order": "rank"}, 'order rank and "base" with order score'),
        ({"missing": "skip"}, "evaluate both runs with one --missing"),
        ({"drop_self": True}, "drop-self on"),
    ],
)
def test_what_is_not_alike_is_refused_with_both_values(
    changed: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_alike({"base": OWN, "other": {**OWN, **changed}}, "base")
    assert said in str(caught.value)


def test_what_is_not_known_is_not_refused() -> None:
    check_alike({"base": OWN, "other": {}}, "base")
