"""Choosing the weight of the retriever's score, on cases small enough for pencil and paper."""

import math
import random
from typing import Any

import pytest

from rocketrank.errors import UsageError
from rocketrank.eval.fusion import (
    Scores,
    fused_scores,
    tune_depth_and_fusion,
    tune_fusion,
)

SECOND = 1 / math.log2(3)  # nDCG of one relevant passage at rank 2
THIRD = 1 / math.log2(4)

# Fused, a is 1 + 0.9 w, b is 2 + 0.8 w, c is 3 + 0.1 w: b is first where 10/7 < w < 10.
RETRIEVER = {"q": {"a": 0.9, "b": 0.8, "c": 0.1}}
RERANKER = {"q": {"a": 1.0, "b": 2.0, "c": 3.0}}


def random_scores(seed: int, queries: int = 12, passages: int = 9) -> tuple[Scores, Scores, Any]:
    """Whole numbers, so that sums with whole numbers are exact; a third of them relevant."""
    generator = random.Random(seed)

    def drawn(smallest: int, largest: int) -> dict[str, dict[str, int]]:
        return {
            f"q{query}": {f"p{p}": generator.randint(smallest, largest) for p in range(passages)}
            for query in range(queries)
        }

    judged = {
        query_id: {passage_id: int(drawn_number == 2) for passage_id, drawn_number in row.items()}
        for query_id, row in drawn(0, 2).items()
    }
    return drawn(-20, 20), drawn(-20, 20), judged


def ndcg_by_hand(order: list[str], judged: dict[str, int], cutoff: int) -> float:
    def gain(grades: list[int]) -> float:
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:cutoff]))

    ideal = gain(sorted(judged.values(), reverse=True))
    return gain([judged[passage_id] for passage_id in order]) / ideal if ideal else 0.0


def test_a_fused_score_is_the_rerankers_plus_the_weighted_retrievers() -> None:
    assert fused_scores([0.5, 0.25], [3.0, -1.0], 4.0).tolist() == [5.0, 0.0]


def test_the_weight_is_the_smallest_tried_that_puts_the_relevant_passage_first() -> None:
    choice = tune_fusion(RETRIEVER, RERANKER, {"q": {"b": 1}})
    # The grid's 2 is right and its 1 is wrong; of 2 · 2^(-3/4), 2 · 2^(-2/4), 2 · 2^(-1/4) only
    # the last, 1.682, is above 10/7.
    assert choice.weight == 1.682
    assert choice.value == 1.0
    tried = dict(choice.tried)
    assert tried[1.414] == pytest.approx(SECOND)
    assert tried[0.0] == pytest.approx(SECOND)
    assert tried[16.0] == pytest.approx(SECOND)


def test_where_the_reranker_alone_is_best_the_weight_is_zero() -> None:
    choice = tune_fusion(RETRIEVER, RERANKER, {"q": {"c": 1}})
    assert (choice.weight, choice.value) == (0.0, 1.0)


def test_where_the_retriever_alone_is_best_the_weight_is_past_every_logit() -> None:
    choice = tune_fusion(RETRIEVER, RERANKER, {"q": {"a": 1}})
    assert choice.value == 1.0
    # From 10 on a is first: of the grid 16, and around it 16 · 2^(-1/2) and 16 · 2^(-1/4).
    assert choice.weight == 11.31


def test_equal_fused_scores_stay_in_the_order_of_stage_one() -> None:
    scores = {"q": {"first": 1.0, "second": 1.0}}
    for relevant, value in (("first", 1.0), ("second", SECOND)):
        choice = tune_fusion(scores, {"q": {"second": 2.0, "first": 2.0}}, {"q": {relevant: 1}})
        assert choice.weight == 0.0
        assert choice.value == pytest.approx(value)


def test_a_judged_query_without_candidates_counts_zero() -> None:
    choice = tune_fusion(RETRIEVER, RERANKER, {"q": {"c": 1}, "not searched": {"x": 1}})
    assert choice.value == 0.5


def test_queries_that_nobody_judged_change_nothing() -> None:
    retriever = {**RETRIEVER, "unjudged": {"a": 2.0, "b": 1.0}}
    choice = tune_fusion(retriever, RERANKER, {"q": {"b": 1}})
    assert choice == tune_fusion(RETRIEVER, RERANKER, {"q": {"b": 1}})


def test_every_tried_value_is_the_mean_ndcg_of_the_fused_order() -> None:
    retriever, reranker, judged = random_scores(seed=1)
    choice = tune_fusion(retriever, reranker, judged, measure="nDCG@3")
    for weight, value in choice.tried:
        by_hand = 0.0
        for query_id, logits in reranker.items():
            fused = {p: logits[p] + weight * retriever[query_id][p] for p in logits}
            order = sorted(fused, key=lambda p: (-fused[p], -retriever[query_id][p]))
            by_hand += ndcg_by_hand(order, judged[query_id], 3) / len(reranker)
        assert value == pytest.approx(by_hand)
    assert choice.value == max(value for _, value in choice.tried)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_constant_added_to_one_querys_scores_changes_nothing(stage: int) -> None:
    stages = random_scores(seed=2)
    retriever, reranker, judged = stages
    moved = {**stages[stage]}
    moved["q3"] = {passage_id: score + 1024 for passage_id, score in moved["q3"].items()}
    expected = tune_depth_and_fusion(retriever, reranker, judged, depths=(4, 9))
    if stage == 0:
        assert tune_depth_and_fusion(moved, reranker, judged, depths=(4, 9)) == expected
    else:
        assert tune_depth_and_fusion(retriever, moved, judged, depths=(4, 9)) == expected


def test_retriever_scores_four_times_as_large_want_a_quarter_of_the_weight() -> None:
    retriever, reranker, judged = random_scores(seed=3)
    larger = {q: {p: 4 * score for p, score in row.items()} for q, row in retriever.items()}
    choice, scaled = (tune_fusion(each, reranker, judged) for each in (retriever, larger))
    assert choice.weight > 0
    assert scaled.weight == pytest.approx(choice.weight / 4, rel=1e-3)
    assert scaled.value == pytest.approx(choice.value)


def test_the_depth_is_where_the_relevant_passage_comes_into_reach() -> None:
    retriever = {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}}
    reranker = {"q": {"a": 0.0, "b": 3.0, "c": 5.0, "d": 1.0}}
    choice = tune_depth_and_fusion(retriever, reranker, {"q": {"c": 1}}, depths=(1, 2, 3, 4))
    assert (choice.depth, choice.weight, choice.value) == (3, 0.0, 1.0)  # 4 is as good and dearer
    assert choice.retriever_only == pytest.approx(THIRD)
    assert {depth: each.value for depth, each in choice.by_depth.items()} == {
        1: 0,
        2: 0,
        3: 1,
        4: 1,
    }


def test_a_depth_beyond_every_list_is_the_whole_list() -> None:
    choice = tune_depth_and_fusion(RETRIEVER, RERANKER, {"q": {"b": 1}}, depths=(3, 100))
    assert (
        choice.by_depth[3]
        == choice.by_depth[100]
        == tune_fusion(RETRIEVER, RERANKER, {"q": {"b": 1}})
    )


def test_the_reranker_need_not_have_read_beyond_the_depth() -> None:
    reranker = {"q": {"a": 1.0, "b": 2.0}}
    choice = tune_fusion(RETRIEVER, reranker, {"q": {"b": 1}}, depth=2)
    assert (choice.weight, choice.value) == (0.0, 1.0)
    with pytest.raises(UsageError, match=r"2 finite scores for stage one's first 3 .* passage c:"):
        tune_fusion(RETRIEVER, reranker, {"q": {"b": 1}})


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("nDCG@10", 0.0),
        ("nDCG@12", 1 / math.log2(13)),
        ("nDCG", 1 / math.log2(13)),
        ("RR", 1 / 12),
        ("nDCG(judged_only=True)@2", 1.0),
    ],
)
def test_the_order_is_read_as_deep_as_the_measure_reads(measure: str, value: float) -> None:
    retriever = {"q": {str(n): float(-n) for n in range(12)}}
    reranker = {"q": {str(n): 0.0 for n in range(12)}}
    choice = tune_fusion(retriever, reranker, {"q": {"11": 1}}, measure=measure)
    assert choice.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrels": {}}, "no judged query"),
        ({"depths": ()}, "no depth to try"),
        ({"depths": (10, 0)}, "a depth to try is 0"),
        ({"depths": (2.5,)}, r"a depth to try is 2\.5"),
        ({"retriever_scores": {"q": {"a": math.nan}}}, "query q and passage a is nan"),
        ({"reranker_scores": {"q": {**RERANKER["q"], "b": math.inf}}}, "none for passage b"),
        ({"reranker_scores": {}}, "gave 0 finite scores"),
    ],
)
def test_what_no_weight_can_be_chosen_from_is_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    given = {"retriever_scores": RETRIEVER, "reranker_scores": RERANKER, "qrels": {"q": {"b": 1}}}
    with pytest.raises(UsageError, match=message):
        tune_depth_and_fusion(**{**given, **changes})
