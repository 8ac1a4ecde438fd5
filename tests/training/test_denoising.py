"""Which candidates may be negatives, by hand, and what holds for any candidates."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketrank.data.records import Passage
from rocketrank.errors import UsageError
from rocketrank.training.denoising import (
    Found,
    Limits,
    confidences,
    denoise,
    draw,
    gather,
    pseudo_label,
    text_key,
)
from rocketrank.training.mining_lists import Logits, lists_of_query
from rocketrank.training.mining_options import LIST_KINDS, MiningOptions
from rocketrank.training.mining_queries import MiningQuery
from rocketrank.training.mining_report import MiningReport


def found(*texts: str) -> list[Found]:
    """Passages a, b, c, … with these texts, as the retriever's ranks 1, 2, 3, …"""
    return [
        Found(Passage("abcdefghij"[n], text), 1 - n / 10, f"retriever:{n + 1}")
        for n, text in enumerate(texts)
    ]


def logits(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array(values, dtype=np.float32)


def ids(each: object) -> list[str]:
    return [decision.found.passage.id for decision in each]  # type: ignore[attr-defined]


def test_a_confidence_is_the_sigmoid_of_the_difference() -> None:
    # sigmoid(ln 9) = 9 / 10, sigmoid(-ln 9) = 1 / 10, and 1/2 where the logits are equal
    ln9 = math.log(9)
    assert confidences(logits(5, 5 + ln9, 5 - ln9), 5.0) == pytest.approx([0.5, 0.9, 0.1], abs=1e-6)


def test_distant_logits_neither_overflow_nor_leave_the_unit_interval() -> None:
    assert confidences(logits(3e38, -3e38, 500, -500), 0.0).tolist() == [1, 0, 1, 0]


def test_labelled_positives_are_no_candidates() -> None:
    pool = gather(found("x", "y", "z"), [Passage("b", "y")])
    assert [each.passage.id for each in pool.candidates] == ["a", "c"]
    assert list(pool.labelled) == ["b"]


def test_a_passage_found_twice_keeps_its_first_place_and_both_sources() -> None:
    first, second = found("x", "y")
    again = Found(second.passage, 7.5, "bm25:1")
    pool = gather([first, second, again], [])
    assert [each.source for each in pool.candidates] == ["retriever:1", "retriever:2+bm25:1"]
    assert pool.candidates[1].score == second.score


def test_texts_that_differ_in_case_and_white_space_are_one() -> None:
    pool = gather(found("Same  text", "same text ", "other"), [])
    assert [each.passage.id for each in pool.candidates] == ["a", "c"]
    assert [each.rule for each in pool.decisions] == ["pool", "duplicate_text", "pool"]


def test_a_passage_that_reads_like_a_positive_is_no_candidate() -> None:
    pool = gather(found("the answer", "else"), [Passage("elsewhere", "The Answer")])
    assert [each.passage.id for each in pool.candidates] == ["b"]


def test_passages_with_one_text_under_two_titles_are_two() -> None:
    one = Found(Passage("a", "text", "title"), 1.0, "retriever:1")
    other = Found(Passage("b", "text", "another"), 0.9, "retriever:2")
    assert len(gather([one, other], []).candidates) == 2


def test_confident_candidates_are_kept_or_promoted_and_the_others_dropped() -> None:
    # sigmoid(-3) = 0.047, sigmoid(-1) = 0.27, sigmoid(1) = 0.73, sigmoid(3) = 0.953
    result = denoise(found(*"vwxy"), logits(7, 9, 11, 13), 10.0, Limits(0.1, 0.9))
    assert ids(result.negatives) == ["a"]
    assert ids(result.dropped) == ["b", "c"]
    assert ids(result.promoted) == ["d"]
    assert result.promoted[0].confidence == pytest.approx(0.9526, abs=1e-4)


def test_confidences_that_equal_a_limit_are_dropped() -> None:
    result = denoise(found("x", "y"), logits(0, 0), 0.0, Limits(0.5, 0.5))
    assert ids(result.dropped) == ["a", "b"]


def test_a_passage_that_a_person_judged_irrelevant_is_not_promoted() -> None:
    result = denoise(found("x", "y"), logits(9, 9), 0.0, Limits(), irrelevant={"b"})
    assert ids(result.promoted) == ["a"]
    assert [each.rule for each in result.dropped] == ["judged_irrelevant"]


def test_the_best_candidate_of_an_unlabelled_query_is_its_positive_when_confident() -> None:
    # sigmoid(3) = 0.953; against it sigmoid(-1) = 0.27 is uncertain and sigmoid(-4) = 0.018 is not
    best, others = pseudo_label(found("x", "y", "z"), logits(2, 3, -1), Limits(0.1, 0.9))
    assert (best.rule, best.found.passage.id) == ("pseudo_positive", "b")
    assert ids(others.dropped) == ["a"]
    assert ids(others.negatives) == ["c"]


def test_an_unlabelled_query_without_a_confident_candidate_has_no_positive() -> None:
    best, _ = pseudo_label(found("x", "y"), logits(2, 1), Limits(0.1, 0.9))
    assert best.rule == "not_confident"


def test_an_unlabelled_query_has_one_pseudo_positive_however_low_the_limit() -> None:
    best, others = pseudo_label(found("x", "y"), logits(2, 1.9), Limits(0.1, 0.2))
    assert best.found.passage.id == "a"
    assert others.promoted == ()
    assert [each.rule for each in others.dropped] == ["uncertain"]


@pytest.mark.parametrize("limits", [(0, 0.9), (0.9, 0.1), (0.1, 1.1), (float("nan"), 0.9)])
def test_limits_that_make_no_sense_are_refused_with_both(limits: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=rf"low \({limits[0]}\) and high \({limits[1]}\)"):
        Limits(*limits).checked()


def test_a_draw_does_not_depend_on_the_order_of_the_candidates() -> None:
    candidates = found(*"abcdefgh")
    one = draw(candidates, 3, seed=1, query_id="q", purpose="x")
    assert draw(candidates[::-1], 3, seed=1, query_id="q", purpose="x") == one


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    candidates = found(*"abcdefgh")
    longer = draw(candidates, 6, seed=1, query_id="q", purpose="x")
    assert longer[:3] == draw(candidates, 3, seed=1, query_id="q", purpose="x")


def test_seed_query_and_purpose_each_change_a_draw() -> None:
    candidates = found(*"abcdefghij")
    draws = {
        tuple(each.passage.id for each in draw(candidates, 10, seed=s, query_id=q, purpose=p))
        for s, q, p in [(1, "q", "x"), (2, "q", "x"), (1, "r", "x"), (1, "q", "y")]
    }
    assert len(draws) == 4


def test_every_candidate_is_drawn_about_equally_often() -> None:
    candidates = found(*"abcde")
    drawn = Counter(
        each.passage.id
        for query in range(5000)
        for each in draw(candidates, 2, seed=0, query_id=str(query), purpose="x")
    )
    # Each of 5 in 2 of 5 draws of 5,000: 2,000 with a standard deviation of 35.
    assert all(abs(count - 2000) < 5 * 35 for count in drawn.values())


def test_with_several_labelled_positives_the_best_scored_is_the_reference() -> None:
    # Against the logit 10 of the better positive, 9 is uncertain; against 0 it would be promoted.
    positives = [Passage("p", "one"), Passage("r", "two")]
    pool = gather(found("x", "y"), positives)
    report = MiningReport()
    lists_of_query(
        MiningQuery("q", "query", ("p", "r")),
        positives,
        pool,
        Logits(logits(0, 10), logits(9, 5)),
        MiningOptions(lists="denoised"),
        report,
    )
    assert report.counts["candidates.uncertain"] == 1
    assert report.counts["candidates.kept"] == 1
    assert report.counts["lists.denoised"] == 2


TEXTS = st.sampled_from(["alpha", "Alpha ", "beta", "gamma", "delta  one", "delta one", "epsilon"])
PASSAGES = st.lists(st.tuples(st.sampled_from("abcdefghijkl"), TEXTS), max_size=16)
SCORES = st.floats(-20, 20, width=32)


@given(
    found_passages=PASSAGES,
    positives=st.lists(st.tuples(st.sampled_from("abcdxyz"), TEXTS), max_size=3),
    kind=st.sampled_from(LIST_KINDS),
    scores=st.lists(SCORES, min_size=20, max_size=20),
    limits=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    negatives=st.integers(1, 6),
    irrelevant=st.frozensets(st.sampled_from("efgh")),
)
def test_no_positive_is_ever_a_negative_and_nothing_comes_twice(
    found_passages: list[tuple[str, str]],
    positives: list[tuple[str, str]],
    kind: str,
    scores: list[float],
    limits: list[float],
    negatives: int,
    irrelevant: frozenset[str],
) -> None:
    # An id has one text, in the index and as a positive.
    texts = dict([*found_passages, *positives])
    labelled = [Passage(each, texts[each]) for each in dict(positives)]
    search = [
        Found(Passage(each, texts[each]), -rank, f"retriever:{rank}")
        for rank, (each, _) in enumerate(found_passages, start=1)
    ]
    options = MiningOptions(
        lists=kind,  # type: ignore[arg-type]
        limits=Limits(*limits),
        negatives=negatives,
        pseudo_positives=True,
    )
    pool = gather(search, labelled)
    own = np.array(scores[: len(labelled)], dtype=np.float32)
    others = np.array(scores[4 : 4 + len(pool.candidates)], dtype=np.float32)
    reranked = Logits(own, others) if options.denoises else None
    judged_out = irrelevant if labelled else frozenset()  # a query without a judgement has none
    query = MiningQuery("q", "query", tuple(each.id for each in labelled), judged_out)
    lists = lists_of_query(query, labelled, pool, reranked, options, MiningReport())

    positive_ids = {each.id for each in labelled} | {each.candidates[0].id for each in lists}
    positive_texts = {text_key(Passage("", texts[each])) for each in positive_ids}
    assert {each.candidates[0].id for each in lists}.isdisjoint(judged_out)
    for each in lists:
        assert [candidate.label for candidate in each.candidates] == [1] + [0] * len(each.negatives)
        assert 1 <= len(each.negatives) <= negatives
        keys = [text_key(Passage("", texts[candidate.id])) for candidate in each.negatives]
        assert positive_ids.isdisjoint(candidate.id for candidate in each.negatives)
        assert positive_texts.isdisjoint(keys)
        assert len(set(keys)) == len(keys)
