"""Searching an index by words: scores are those of a new index of the same passages."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketrank.data.records import Passage
from rocketrank.errors import UsageError
from rocketrank.index import (
    ChangeOptions,
    Index,
    committed_manifest,
    compact,
    delete_passages,
    roll_back,
    take_snapshot,
)
from rocketrank.index.manifest import read_manifest_file

from .small_index import build
from .word_texts import OPTIONS, QUERIES, add, by_formula, found_in, texts


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "index"
    build(path, texts(80), fields=("number",), bm25=True)
    return path


def test_scores_are_those_of_the_formula(fresh: Path) -> None:
    for query, found in zip(QUERIES, found_in(fresh), strict=True):
        expected = by_formula(texts(80), query)
        assert dict(found) == pytest.approx(expected, rel=1e-6)


def test_scores_are_those_of_bm25s(fresh: Path) -> None:
    pytest.importorskip("bm25s", reason="needs the package bm25s")
    from rocketrank.training.bm25 import Bm25

    passages = texts(80)
    other = Bm25(passages).search(QUERIES, 80)
    for found, theirs in zip(found_in(fresh), other, strict=True):
        expected = {passages[hit.row].id: hit.score for hit in theirs}
        assert dict(found) == pytest.approx(expected, rel=1e-5)


def test_a_word_counts_as_often_as_the_query_has_it(fresh: Path) -> None:
    [once, twice] = found_in(fresh, ["word5", "word5 word5"])
    assert dict(twice) == pytest.approx({each: 2 * score for each, score in once}, rel=1e-6)


def test_the_order_of_a_querys_words_changes_nothing(fresh: Path) -> None:
    [one, other] = found_in(fresh, ["word1 word2 word3 word4", "word4 word2 word1 word3"])
    assert one == other


def test_equal_scores_come_by_row_also_at_the_cut(tmp_path: Path) -> None:
    passages = [Passage("other", "something else"), *(Passage(f"p{n}", "equal") for n in range(9))]
    build(tmp_path / "i", passages, bm25=True)
    add(tmp_path / "i", [Passage("late", "equal")])
    [few] = found_in(tmp_path / "i", ["equal"], k=4)
    assert [each for each, _ in few] == ["p0", "p1", "p2", "p3"]
    [every] = found_in(tmp_path / "i", ["equal"])
    assert [each for each, _ in every][-1] == "late"


def test_the_best_are_the_first_of_all(fresh: Path) -> None:
    every = found_in(fresh)
    for k in (1, 2, 7, 79):
        assert found_in(fresh, k=k) == [found[:k] for found in every]


def test_queries_without_a_known_word_find_nothing(fresh: Path) -> None:
    assert found_in(fresh, ["absent", "the", "", "?", "\ud800"]) == [[]] * 5


def test_no_queries_have_no_results(fresh: Path) -> None:
    with Index.open(fresh) as index:
        result = index.search_words([], 3)
    assert (result.rows.shape, result.scores.shape) == ((0, 3), (0, 3))
    assert result.rows.dtype == np.int64
    assert result.scores.dtype == np.float32


def test_a_filter_leaves_out_and_changes_no_score(fresh: Path) -> None:
    kept = {passage.id for passage in texts(80) if passage.metadata["number"] >= 60}
    every = found_in(fresh)
    filtered = found_in(fresh, where="number >= 60")
    assert filtered == [[hit for hit in found if hit[0] in kept] for found in every]
    assert any(filtered)
    assert found_in(fresh, k=2, where="number >= 60") == [found[:2] for found in filtered]


def test_passages_of_stop_words_alone_are_never_found(tmp_path: Path) -> None:
    build(tmp_path / "i", [Passage("a", "the"), Passage("b", "?")], bm25=True)
    assert found_in(tmp_path / "i", ["the", "word"]) == [[], []]


def test_a_passage_of_many_words_among_many_is_found(tmp_path: Path) -> None:
    passages = [*texts(70), Passage("long", "often " * 1000 + "rare")]
    build(tmp_path / "i", passages, bm25=True)
    [found] = found_in(tmp_path / "i", ["often rare"])
    assert dict(found) == pytest.approx(by_formula(passages, "often rare"), rel=1e-6)


def test_an_index_of_many_segments_gives_the_scores_of_a_new_one(tmp_path: Path) -> None:
    old, new = texts(60), [each._replace(id=f"n{each.id}") for each in texts(25, seed=8)]
    changed = [each._replace(text=f"word9 {each.text}") for each in old[3:9]]
    index = tmp_path / "many"
    build(index, old, fields=("number",), bm25=True)
    for start in range(0, 25, 6):
        add(index, new[start : start + 6])
    add(index, changed, update=True)
    delete_passages(index, ["p0", "p30", "np7", "np24"], ChangeOptions())
    left = [each for each in [*old[:3], *old[9:], *new, *changed] if each.id not in GONE]
    assert len(committed_manifest(index).segments) > 1
    build(tmp_path / "fresh", left, fields=("number",), bm25=True)
    assert found_in(index) == found_in(tmp_path / "fresh")
    where = "number < 20"
    assert found_in(index, where=where) == found_in(tmp_path / "fresh", where=where)
    compact(index, OPTIONS)
    assert found_in(index) == found_in(tmp_path / "fresh")


GONE = {"p0", "p30", "np7", "np24"}
_NUMBERS = st.sets(st.integers(0, 19), min_size=1)
_ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "update", "delete"]), _NUMBERS), max_size=6)


@settings(max_examples=6, deadline=None)
@given(actions=_ACTIONS)
def test_after_any_changes_scores_are_those_of_a_new_index(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, set[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("changes")
    first, second = texts(20, most=6), texts(20, seed=9, most=6)
    holds = {each.id: each for each in first[:5]}
    build(folder / "changed", first[:5], bm25=True)
    for action, numbers in actions:
        chosen = [f"p{number}" for number in sorted(numbers)]
        if action == "delete":
            delete_passages(folder / "changed", chosen, ChangeOptions(missing="allowed"))
            holds = {each: passage for each, passage in holds.items() if each not in chosen}
            continue
        source = {each.id: each for each in (second if action == "update" else first)}
        there = action == "update"
        wanted = [source[each] for each in chosen if (each in holds) == there]
        if not wanted:
            continue
        add(folder / "changed", wanted, update=there)
        for each in wanted:
            if holds.get(each.id) != each:
                holds.pop(each.id, None)
                holds[each.id] = each
    found = found_in(folder / "changed")
    if not holds:
        assert found == [[]] * len(QUERIES)
        return
    build(folder / "new", list(holds.values()), bm25=True)
    assert found == found_in(folder / "new")


def test_an_index_without_postings_says_how_to_get_them(tmp_path: Path) -> None:
    build(tmp_path / "i", texts(3))
    with Index.open(tmp_path / "i") as index:
        assert not index.has_words
        with pytest.raises(UsageError, match=r"`rq index --bm25`, or run `rq compact --bm25`"):
            index.search_words(["word1"], 3)


def test_k_below_1_a_single_text_and_an_unknown_field_are_refused(fresh: Path) -> None:
    with Index.open(fresh) as index:
        assert index.has_words
        with pytest.raises(UsageError, match=r"k \(0\) must be at least 1"):
            index.search_words(["word1"], 0)
        with pytest.raises(UsageError, match=r"found one text: pass \[query\]"):
            index.search_words("word1", 3)
        with pytest.raises(UsageError, match="year"):
            index.search_words(["word1"], 3, "year > 3")


@pytest.mark.parametrize("deleted", [[], ["p3"]])
def test_compacting_gives_an_index_postings_and_takes_them(
    tmp_path: Path, fresh: Path, deleted: list[str]
) -> None:
    index = tmp_path / "i"
    build(index, texts(80), fields=("number",))
    build(tmp_path / "other", [p for p in texts(80) if p.id not in deleted], bm25=True)
    if deleted:
        delete_passages(index, deleted, ChangeOptions())
    compact(index, OPTIONS, bm25=True)
    assert found_in(index) == found_in(tmp_path / "other")
    assert (
        compact(index, OPTIONS, bm25=True).commit
        == committed_manifest(index).commit
        == 2 + len(deleted)
    )
    compact(index, OPTIONS, bm25=False)
    assert not committed_manifest(index).bm25
    assert list(index.rglob("*.bm25*")) == []


def test_postings_given_to_a_clean_segment_leave_its_other_files_alone(tmp_path: Path) -> None:
    index = tmp_path / "i"
    build(index, texts(20))
    take_snapshot(index, "before")
    before = {path: path.stat().st_mtime_ns for path in (index / "segments").rglob("*.*")}
    compact(index, OPTIONS, bm25=True)
    after = {path: path.stat().st_mtime_ns for path in (index / "segments").rglob("*.*")}
    assert after.items() >= before.items()
    assert {path.name for path in after.keys() - before.keys()} == {"postings-000002.bm25"}
    roll_back(index, "before")
    assert not committed_manifest(index).bm25
    roll_back(index, "2")
    assert found_in(index)[0]


def test_an_index_of_which_nothing_is_left_remembers_its_postings(tmp_path: Path) -> None:
    index = tmp_path / "i"
    build(index, texts(3), bm25=True)
    delete_passages(index, ["p0", "p1", "p2"], ChangeOptions())
    assert found_in(index) == [[]] * len(QUERIES)
    add(index, texts(9)[3:])
    build(tmp_path / "new", texts(9)[3:], bm25=True)
    assert found_in(index) == found_in(tmp_path / "new")


def test_an_older_rocketrank_is_told_of_postings_by_the_format(tmp_path: Path) -> None:
    for name, bm25, version in (("with", True, 3), ("without", False, 2)):
        build(tmp_path / name, texts(3), bm25=bm25)
        path = tmp_path / name / "manifest.json"
        assert f'"format_version": {version},' in path.read_text()
        assert ("postings" in path.read_text()) == bm25
        manifest = read_manifest_file(path)
        assert manifest is not None
        assert manifest.bm25 == bm25
