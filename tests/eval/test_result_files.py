"""Evaluations in files: what is written comes back, and what is damaged is named with its place."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.errors import DataError, RocketRankError, UsageError
from rocketrank.eval.comparison import compare
from rocketrank.eval.result_files import (
    read_document,
    read_per_query_tsv,
    read_results,
    result_from_json,
    write_json,
    write_per_query_tsv,
)
from rocketrank.eval.results import AnswerMarks, Findings, Ordering, RunResult, TopHit

K = TypeVar("K")
V = TypeVar("V")

ODD = RunResult(
    name="odd",
    values={"nDCG@10": {"q2": 0.1 + 0.2, "q10": 1e-17, "q1": 1.0}},
    findings=Findings(
        missing=("q1",),
        unjudged=("x", "y"),
        without_relevant=("q2",),
        duplicates={"q10": 2},
        self_hits=("q2",),
        drops_self=True,
        tied=("q1", "q2"),
        all_tied=("q1",),
        disordered=("q2",),
        judged={10: 0.5, 2: 0.75},
        judged_per_query=2.5,
        orderings={"nDCG@10": Ordering(0.1, 0.2, 0.05, 0.3)},
        order="rank",
        longest=100,
        answers=AnswerMarks(marked=5, unlike=2, textless=1),
    ),
    recall={100: 0.5, 5: 0.25},
    recall_grade=2,
    top={"q2": (TopHit("pé", -3.5, None), TopHit("p1", -4.0, 3)), "q1": ()},
)
PLAIN = RunResult(name="plain", values={"nDCG@10": {"q1": 0.5, "q2": 0.5, "q10": 0.5}})


def turned(result: RunResult) -> RunResult:
    """The same with every mapping and every list of ids the other way round, and another time."""
    found = result.findings
    lists: dict[str, Any] = {
        name: value[::-1] for name, value in vars(found).items() if isinstance(value, tuple)
    }
    return replace(
        result,
        values={measure: backwards(of) for measure, of in result.values.items()},
        findings=replace(
            found,
            **lists,
            duplicates=backwards(found.duplicates),
            judged=backwards(found.judged),
        ),
        recall=backwards(result.recall),
        top=backwards(result.top),
        milliseconds=12.5,
    )


def backwards(mapping: Mapping[K, V]) -> dict[K, V]:
    return dict(reversed([*mapping.items()]))


def test_an_evaluation_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    write_json(tmp_path / "e.json", [ODD, PLAIN])
    assert read_results(tmp_path / "e.json") == [ODD, PLAIN]


def test_the_evaluation_that_comes_back_has_something_of_everything() -> None:
    for whole, empty in ((ODD.findings, Findings()), (ODD, RunResult(name="", values={}))):
        left_out = {name for name, value in vars(whole).items() if value == vars(empty)[name]}
        assert left_out <= {"milliseconds"}


def test_equal_evaluations_give_equal_bytes_whatever_their_order_and_time(tmp_path: Path) -> None:
    for name, results in {"a": [ODD, PLAIN], "b": [turned(ODD), turned(PLAIN)]}.items():
        differences = compare(results, "plain", rounds=50)
        details = {"qrels": "q", "options": {"x": 1, "y": 2}}
        if name == "b":
            details = {"options": {"y": 2, "x": 1}, "qrels": "q"}
        write_json(tmp_path / f"{name}.json", results, differences, details=details)
        write_per_query_tsv(tmp_path / f"{name}.tsv", results)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_the_document_has_means_versions_details_and_differences(tmp_path: Path) -> None:
    (difference,) = compare([ODD, PLAIN], "plain", rounds=50)
    write_json(tmp_path / "e.json", [ODD, PLAIN], [difference], details={"count": np.int64(3)})
    document = orjson.loads((tmp_path / "e.json").read_bytes())
    assert document["systems"][1]["means"] == {"nDCG@10": 0.5}
    assert document["systems"][1]["queries"] == 3
    assert document["details"] == {"count": 3}
    assert document["software"]["numpy"] == np.__version__
    assert set(document["software"]) == {
        *("ir-measures", "pytrec-eval-terrier", "scipy", "numpy", "rocketrank"),
    }
    (written,) = document["differences"]
    assert written["changed"] == [["q1", 1.0, 0.5], ["q10", 1e-17, 0.5], ["q2", 0.1 + 0.2, 0.5]]
    assert {key: written[key] for key in ("system", "wins", "low", "t_test")} == {
        "system": "odd",
        "wins": 1,
        "low": difference.low,
        "t_test": difference.t_test,
    }


def test_an_earlier_evaluation_is_a_system_of_a_later_comparison(tmp_path: Path) -> None:
    write_json(tmp_path / "e.json", [PLAIN])
    write_per_query_tsv(tmp_path / "e.tsv", [PLAIN])
    expected = compare([ODD, PLAIN], "plain")
    assert compare([ODD, *read_results(tmp_path / "e.json")], "plain") == expected
    assert compare([ODD, *read_per_query_tsv(tmp_path / "e.tsv")], "plain") == expected


def test_the_values_of_single_queries_are_as_written_here(tmp_path: Path) -> None:
    write_per_query_tsv(tmp_path / "e.tsv", [PLAIN, ODD])
    assert (tmp_path / "e.tsv").read_text() == (
        "query_id\tsystem\tmeasure\tvalue\n"
        "q1\tplain\tnDCG@10\t0.5\n"
        "q10\tplain\tnDCG@10\t0.5\n"
        "q2\tplain\tnDCG@10\t0.5\n"
        "q1\todd\tnDCG@10\t1.0\n"
        "q10\todd\tnDCG@10\t1e-17\n"
        "q2\todd\tnDCG@10\t0.30000000000000004\n"
    )


FIELD = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=6)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.dictionaries(
    FIELD, st.dictionaries(FIELD, FINITE, min_size=1, max_size=4), min_size=1, max_size=3
)
SYSTEMS = st.dictionaries(FIELD, VALUES, max_size=3)
QUICK = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fits(systems: dict[str, dict[str, dict[str, float]]]) -> bool:
    texts = [*systems, *(m for of in systems.values() for m in of)]
    texts += [query_id for of in systems.values() for one in of.values() for query_id in one]
    return not any(set(text) & set("\t\n\r\0") for text in texts)


@QUICK
@given(SYSTEMS)
def test_any_values_come_back_or_are_refused_and_leave_nothing(
    tmp_path: Path, systems: dict[str, dict[str, dict[str, float]]]
) -> None:
    results = [RunResult(name=name, values=values) for name, values in systems.items()]
    write_json(tmp_path / "e.json", results)
    assert read_results(tmp_path / "e.json") == results
    path = tmp_path / "e.tsv"
    path.unlink(missing_ok=True)
    if fits(systems):
        write_per_query_tsv(path, results)
        assert read_per_query_tsv(path) == results
        assert [each.measures for each in read_per_query_tsv(path)] == [
            each.measures for each in results
        ]
    else:
        with pytest.raises(UsageError, match="a TSV file cannot hold"):
            write_per_query_tsv(path, results)
        assert {each.name for each in tmp_path.iterdir()} == {"e.json"}


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\rb", "a\0b", "", "a\udc80"])
def test_names_and_ids_that_a_tsv_cannot_hold_are_refused(tmp_path: Path, bad: str) -> None:
    for place, result in {
        "name": RunResult(name=bad, values={"AP": {"q": 1.0}}),
        "measure": RunResult(name="s", values={bad: {"q": 1.0}}),
        "query id": RunResult(name="s", values={"AP": {bad: 1.0}}),
    }.items():
        with pytest.raises(UsageError) as caught:
            write_per_query_tsv(tmp_path / "e.tsv", [result])
        assert str(caught.value).startswith(f"the {place} {bad!r} ")
    assert not list(tmp_path.iterdir())


def test_two_systems_of_one_name_are_not_mixed_in_a_tsv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='the results 1 and 2 have one name, "plain"'):
        write_per_query_tsv(tmp_path / "e.tsv", [PLAIN, PLAIN])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused_by_both(tmp_path: Path, value: float) -> None:
    result = RunResult(name="s", values={"AP": {"q7": value}})
    scored = RunResult(name="s", values={"AP": {"q7": 1}}, top={"q7": (TopHit("p", value, 1),)})
    for write in (write_json, write_per_query_tsv):
        with pytest.raises(UsageError, match=f'AP of "s" for the query q7 is {value}'):
            write(tmp_path / "e", [result])
    with pytest.raises(UsageError, match='the score that "s" gives p for the query q7'):
        write_json(tmp_path / "e", [scored])
    assert not list(tmp_path.iterdir())


def test_what_json_cannot_hold_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the evaluation cannot be written as JSON"):
        write_json(tmp_path / "e.json", [], details={"folder": tmp_path})
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        write_json(tmp_path / "e.json", [RunResult(name="\udc80", values={"AP": {"q": 1.0}})])


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RocketRankError, match="cannot be written"):
        write_json(tmp_path / "none" / "e.json", [PLAIN])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("q2\ts\tAP", r"e.tsv:3: expected 4 columns \(query_id, system, measure, value\)"),
        ("q2 s AP 1", "e.tsv:3: expected 4 columns"),
        ("\ts\tAP\t1", "e.tsv:3: expected 4 columns"),
        ("q2\ts\tAP\tmuch", "e.tsv:3: expected a finite number as value, found 'much'"),
        ("q2\ts\tAP\tnan", "e.tsv:3: expected a finite number as value, found 'nan'"),
        ("q1\ts\tAP\t0.25", "e.tsv:3: expected each value once, found .* which line 2 has too"),
    ],
)
def test_a_line_that_is_no_value_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "e.tsv"
    path.write_text(f"query_id\tsystem\tmeasure\tvalue\nq1\ts\tAP\t0.5\n{line}\n")
    with pytest.raises(DataError, match=expected):
        read_per_query_tsv(path)


def test_a_tsv_may_lack_its_heading(tmp_path: Path) -> None:
    path = tmp_path / "e.tsv"
    path.write_text("q1\ts\tAP\t0.5\n")
    assert read_per_query_tsv(path) == [RunResult(name="s", values={"AP": {"q1": 0.5}})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{\n  "a": ,\n}', "e.json:2: expected JSON, found"),
        ("", "e.json:1: expected JSON, found"),
        ("[1]", "e.json:1: expected an evaluation as JSON, with the key 'rocketrank_evaluation'"),
        ('{"rocketrank_evaluation": 2}', "expected an evaluation of format version 1, found 2"),
        ('{"rocketrank_evaluation": 1}', "expected a list of systems, found None"),
        ('{"rocketrank_evaluation": 1, "systems": [3]}', "e.json: system 1: expected a text as"),
    ],
)
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match=expected):
        read_results(tmp_path / "e.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (read_results, read_per_query_tsv):
        with pytest.raises(UsageError, match="none: cannot be read"):
            read(tmp_path / "none")


def damage(path: tuple[str, ...], value: object) -> dict[str, object]:
    """A whole record but for one part; ``value`` is None to leave it out."""
    record: dict[str, object] = {
        "name": "s",
        "values": {"AP": {"q": 1.0}},
        "findings": {
            **{name: [] for name in ("missing", "unjudged", "without_relevant", "self_hits")},
            **{name: [] for name in ("tied", "all_tied", "disordered")},
            **{name: {} for name in ("duplicates", "judged", "orderings")},
            **{"drops_self": False, "order": "score", "longest": 3, "judged_per_query": 1.0},
            "answers": None,
        },
        "recall": {},
        "recall_grade": 1,
        "top": {},
    }
    part: Any = record
    for key in path[:-1]:
        part = part[key]
    part.pop(path[-1], None)
    if value is not None:
        part[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("name",), 3, "expected a text as 'name', found 3"),
        (("values",), None, "expected an object as 'values', found None"),
        (("values", "AP"), [1], r"expected an object of numbers as values by AP, found \[1\]"),
        (("values", "AP", "q"), "1", "expected numbers as values by AP, found '1' for 'q'"),
        (("values", "AP", "q"), True, "expected numbers as values by AP, found True"),
        (("recall",), {"x": 1}, "expected whole numbers from 1 as keys of 'recall', found 'x'"),
        (("findings", "missing"), [1], "expected a list of ids as 'missing'"),
        (("findings", "drops_self"), 1, "expected true or false as 'drops_self'"),
        (("findings", "order"), "id", "expected score or rank as 'order', found 'id'"),
        (("findings", "longest"), "9", "expected numbers as findings, found '9' for 'longest'"),
        (("findings", "answers"), {"marked": 1}, "expected marked, unlike, textless as 'answers'"),
        (("recall_grade",), "2", "expected numbers as findings, found '2' for 'recall_grade'"),
        (("findings", "orderings"), {"AP": {"own": 1}}, "expected trec_eval, own, worst, best"),
        (("top",), {"q": [["p", 1.0]]}, "expected lists of passage id, score and grade"),
        (("top",), {"q": [["p", 1.0, "1"]]}, "expected lists of passage id, score and grade"),
        (("top",), {"q": 5}, "expected lists of passage id, score and grade as 'top' of 'q'"),
    ],
)
def test_a_damaged_record_is_a_sentence_with_its_place(
    path: tuple[str, ...], value: object, expected: str
) -> None:
    assert result_from_json(damage(("none",), None)).values == {"AP": {"q": 1.0}}
    with pytest.raises(DataError, match=f"^here: {expected}"):
        result_from_json(damage(path, value), "here")


def test_details_come_back_with_the_systems(tmp_path: Path) -> None:
    write_json(tmp_path / "e.json", [PLAIN], details={"qrels": "q", "order": "score"})
    assert read_document(tmp_path / "e.json") == ([PLAIN], {"qrels": "q", "order": "score"})
