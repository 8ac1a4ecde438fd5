"""Lists from the training files of other tools, each compared with the list written by hand."""

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocketrank.data import read_qrels, read_run
from rocketrank.errors import DataError
from rocketrank.training.list_formats import open_lists, read_any_lists
from rocketrank.training.lists import Candidate, RankingList, text_id, write_lists
from rocketrank.training.passages import open_passages

Read = Callable[..., list[RankingList]]
QUERIES = "1\thow do whales breathe\n2\twho baked bread first\n"
BLOWHOLE = Candidate(text_id("Through a blowhole."), 1, text="Through a blowhole.")
GILLS = Candidate(text_id("Fish have gills."), 0, text="Fish have gills.")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "queries").write_text(QUERIES, encoding="utf-8")

    def reader(content: str, **options: Any) -> list[RankingList]:
        (tmp_path / "file").write_text(content, encoding="utf-8")
        names = {"queries", "qrels"} & options.keys()
        places = {name: tmp_path / options.pop(name) for name in names}
        return list(read_any_lists(tmp_path / "file", **places, **options))

    return reader


def ids(each: RankingList) -> tuple[list[str], list[str]]:
    return [one.id for one in each.positives], [one.id for one in each.negatives]


def test_rocketqa_rows_of_one_query_make_one_list(read: Read) -> None:
    [whales, bread] = read(
        "how do whales breathe\t-\tFish have gills.\t0\n"
        "how do whales breathe\tWhale\tThrough a blowhole.\t1\n"
        "who baked bread first\t\tNobody knows.\t1\n"
    )
    assert whales == RankingList(
        text_id("how do whales breathe"),
        "how do whales breathe",
        (
            Candidate(
                text_id("Through a blowhole.", "Whale"),
                1,
                None,
                "rocketqa",
                "Through a blowhole.",
                "Whale",
            ),
            GILLS._replace(source="rocketqa"),
        ),
    )
    assert bread.query == "who baked bread first"


@pytest.mark.parametrize("end", ["\t0", "\tnull", ""])
def test_rocketqa_rows_of_a_dual_encoder_hold_a_positive_and_a_negative(
    read: Read, end: str
) -> None:
    row = "how do whales breathe\t\tThrough a blowhole.\tnull\t{}" + end + "\n"
    [each] = read(row.format("Fish have gills.") + row.format("Whales sing."))
    assert each.candidates[:2] == (
        BLOWHOLE._replace(source="rocketqa"),
        GILLS._replace(source="rocketqa"),
    )
    assert each.candidates[2:] == (
        Candidate(text_id("Whales sing."), 0, None, "rocketqa", "Whales sing."),
    )


def test_a_row_of_column_names_is_no_data(read: Read) -> None:
    assert len(read("query\ttitle\tpara\tlabel\nwhy\t\tso\t1\n")) == 1
    assert (
        len(read("query\ttitle_pos\tpara_pos\ttitle_neg\tpara_neg\tlabel\nq\t\ta\t\tb\t0\n")) == 1
    )


def test_triples_of_texts_make_a_list_for_each_run_of_a_query(read: Read) -> None:
    row = "how do whales breathe\tThrough a blowhole.\t{}\n"
    [each] = read(row.format("Fish have gills.") + row.format("Whales sing."))
    assert each.candidates[:2] == (
        BLOWHOLE._replace(source="msmarco-triples"),
        GILLS._replace(source="msmarco-triples"),
    )
    assert [one.text for one in each.negatives] == ["Fish have gills.", "Whales sing."]


def test_triples_of_ids_take_their_queries_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "queries").write_text(QUERIES, encoding="utf-8")
    (tmp_path / "ids").write_bytes(gzip.compress(b"2\t500\t900\n2\t500\t901\n2\t502\t900\n"))
    [each] = read_any_lists(tmp_path / "ids", queries=tmp_path / "queries")
    assert each == RankingList(
        "2",
        "who baked bread first",
        tuple(
            Candidate(passage_id, label, source="msmarco-ids")
            for passage_id, label in (("500", 1), ("502", 1), ("900", 0), ("901", 0))
        ),
    )


def test_triples_get_their_texts_from_passages(read: Read, tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("500\tfive hundred\n900\tnine hundred\n", encoding="utf-8")
    passages = open_passages([tmp_path / "corpus"])
    [each] = read("2\t500\t900\n", queries="queries", passages=passages)
    assert [one.text for one in each.candidates] == ["five hundred", "nine hundred"]


def test_candidates_keep_their_rank_as_source(read: Read) -> None:
    [each] = read("1\t70\t1\t0\n1\t80\t2\t1\n1\t90\t3\t0\n", queries="queries")
    assert each.candidates == (
        Candidate("80", 1, source="bm25:2"),
        Candidate("70", 0, source="bm25:1"),
        Candidate("90", 0, source="bm25:3"),
    )


DPR = {
    "question": "how do whales breathe",
    "answers": ["a blowhole"],
    "positive_ctxs": [
        {"title": "Whale", "text": "Through a blowhole.", "passage_id": "7", "score": 1000}
    ],
    "negative_ctxs": [{"title": None, "text": "Bread.", "psg_id": 8}, "Fish have gills."],
    "hard_negative_ctxs": [{"title": "", "text": "Whales sing.", "passage_id": "", "score": "9.5"}],
}


@pytest.mark.parametrize("indent", [None, 4])
def test_dpr_lists_keep_which_kind_of_negative_each_is(read: Read, indent: int | None) -> None:
    [each, other] = read(json.dumps([DPR, {**DPR, "question": "why"}], indent=indent))
    assert each == RankingList(
        text_id("how do whales breathe"),
        "how do whales breathe",
        (
            Candidate("7", 1, 1000.0, "dpr:positive_ctxs", "Through a blowhole.", "Whale"),
            Candidate(text_id("Whales sing."), 0, 9.5, "dpr:hard_negative_ctxs", "Whales sing."),
            Candidate("8", 0, None, "dpr:negative_ctxs", "Bread."),
            GILLS._replace(source="dpr:negative_ctxs"),
        ),
    )
    assert other.query == "why"


def test_dpr_records_may_stand_on_lines(read: Read) -> None:
    assert [each.query for each in read(json.dumps(DPR) + "\n" + json.dumps(DPR) + "\n")] == [
        "how do whales breathe"
    ] * 2


def test_a_positive_is_no_negative_under_another_id(read: Read) -> None:
    again = {"title": "Whale", "text": "Through a blowhole."}
    [each] = read(json.dumps([{**DPR, "hard_negative_ctxs": [again]}]))
    assert "Through a blowhole." not in [one.text for one in each.negatives]


TEVATRON = {
    "query_id": 12,
    "query": "how do whales breathe",
    "positive_passages": [{"docid": "7", "title": "Whale", "text": "Through a blowhole."}],
    "negative_passages": [{"docid": "8", "text": "Fish have gills."}, {"docid": "9"}],
}


def test_tevatron_lists_keep_ids_of_queries_and_passages(read: Read) -> None:
    positive, negative = "tevatron:positive_passages", "tevatron:negative_passages"
    assert read(json.dumps(TEVATRON)) == [
        RankingList(
            "12",
            "how do whales breathe",
            (
                Candidate("7", 1, None, positive, "Through a blowhole.", "Whale"),
                Candidate("8", 0, None, negative, "Fish have gills."),
                Candidate("9", 0, None, negative),
            ),
        )
    ]


def test_flagembedding_lists_keep_scores_and_ids(read: Read) -> None:
    record = {
        "query": "how do whales breathe",
        "pos": ["Through a blowhole."],
        "neg": ["Fish have gills.", "Whales sing."],
        "pos_scores": [12],
        "neg_scores": [0.5, -1],
        "neg_id": ["", "w"],
        "prompt": "Represent this",
        "type": "normal",
    }
    [each] = read(json.dumps(record))
    assert each.query == "how do whales breathe"
    assert each.candidates == (
        BLOWHOLE._replace(score=12.0, source="flagembedding:pos"),
        GILLS._replace(score=0.5, source="flagembedding:neg"),
        Candidate("w", 0, -1.0, "flagembedding:neg", "Whales sing."),
    )


def test_flagembedding_records_may_have_no_negatives(read: Read) -> None:
    [each] = read('{"query": "why", "pos": ["so"], "neg": null}')
    assert len(each.candidates) == 1


def test_judgements_alone_give_positives(read: Read) -> None:
    header = "query-id\tcorpus-id\tscore\n"
    [bread, whales] = read(header + "2\tb\t1\n1\ta\t2\n2\tc\t1\n1\td\t0\n", queries="queries")
    assert bread.candidates == tuple(Candidate(one, 1, 1.0, "qrels") for one in "bc")
    assert whales == RankingList("1", "how do whales breathe", (Candidate("a", 1, 2.0, "qrels"),))


RUN = "1 Q0 a 1 9.5 bm25\n1 Q0 b 2 8.5 bm25\n1 Q0 c 3 7.5 bm25\n2 Q0 a 1 3.5 bm25\n"


def test_a_run_gives_negatives_and_judgements_positives(read: Read, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 b 1\n1 0 z 2\n1 0 c 0\n")
    [whales, bread] = read(RUN, queries="queries", qrels="qrels")
    assert whales.candidates == (
        Candidate("b", 1, 1.0, "qrels"),
        Candidate("z", 1, 2.0, "qrels"),
        Candidate("a", 0, 9.5, "run:1"),
        Candidate("c", 0, 7.5, "run:3"),
    )
    assert ids(bread) == ([], ["a"])


def test_judged_queries_without_a_run_are_counted_in_a_note(
    read: Read, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "qrels").write_text("1 0 b 1\n3 0 b 1\n4 0 b 1\n")
    with caplog.at_level(logging.INFO, logger="rocketrank"):
        read(RUN, queries="queries", qrels="qrels")
    [note] = caplog.messages
    assert note.endswith("2 judged queries are not in it and get no list")


def test_judgements_take_their_passages_from_the_negatives(read: Read, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 90 1\n2 0 70 1\n")
    [each] = read("1\t70\t1\t0\n1\t80\t2\t1\n1\t90\t3\t0\n", queries="queries", qrels="qrels")
    assert ids(each) == (["80"], ["70"])


def test_lists_of_our_own_come_as_they_are(tmp_path: Path) -> None:
    own = RankingList("1", "why", (Candidate("b", 0), Candidate("a", 1, 2.0, "mined:3")))
    write_lists(tmp_path / "own", [own])
    assert list(read_any_lists(tmp_path / "own")) == [own]


def test_duplicates_are_removed_and_the_first_stays(read: Read) -> None:
    rows = "1\t70\t1\t0\n1\t80\t2\t1\n1\t70\t3\t0\n1\t80\t4\t0\n1\t80\t5\t1\n"
    [each] = read(rows, queries="queries")
    assert [one.source for one in each.candidates] == ["bm25:2", "bm25:1"]


def test_rows_of_a_query_that_lie_apart_are_a_note(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="rocketrank"):
        assert len(read("1\t70\t80\n2\t70\t80\n1\t70\t90\n", queries="queries")) == 3
    [note] = caplog.messages
    assert "2 queries have 3 lists; sort the file" in note


def test_the_sample_of_msmarco_has_60_queries_without_a_positive(shared_data: Path) -> None:
    folder = shared_data / "msmarco"
    lists = list(
        read_any_lists(folder / "candidates.train.tsv", queries=folder / "queries.train.tsv")
    )
    judged = {(one.query_id, one.passage_id) for one in read_qrels(folder / "qrels.train.tsv")}
    positives = {(each.query_id, one.id) for each in lists for one in each.positives}
    assert len(lists) == 600
    assert sum(len(each.candidates) for each in lists) == 12_000
    assert sum(1 for each in lists if not each.positives) == 60
    assert positives == judged


def test_the_judgements_of_scifact_give_809_lists(shared_data: Path) -> None:
    folder = shared_data / "scifact"
    lists = list(read_any_lists(folder / "qrels" / "train.tsv", queries=folder / "queries.jsonl"))
    assert len(lists) == 809
    assert sum(len(each.positives) for each in lists) == 919


def test_a_real_run_and_its_judgements_share_out_every_passage(shared_data: Path) -> None:
    folder = shared_data / "msmarco"
    run, qrels = folder / "runs" / "dl19.bm25.trec", folder / "qrels.dl19.txt"
    opened = open_lists(run, queries=folder / "queries.dl19.tsv", qrels=qrels)
    assert opened.format == "run"
    relevant = {(one.query_id, one.passage_id) for one in read_qrels(qrels) if one.relevance > 0}
    found = {(one.query_id, one.passage_id) for one in read_run(run)}
    lists = list(opened.lists)
    negatives = {(each.query_id, one.id) for each in lists for one in each.negatives}
    assert negatives == found - relevant
    assert {(each.query_id, one.id) for each in lists for one in each.positives} == relevant


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "why\t\tso\t1\n" * 2 + "why\t\tso\t2\n",
            r"file:3: expected 1 \(positive\) or 0 .*, found '2'",
        ),
        ("why\t\tso\t1\n" * 2 + "why\tso\t1\n", r"file:3: expected 4 fields .* or 6 .*, found 3"),
        ("why\t\tso\t1\n\t\tso\t1\n", r"file:2: expected a query, found an empty field"),
        ("why\t\tso\t1\nwhy\t\t\t1\n", r"file:2: expected a passage, found an empty one"),
        ("a b\tc d\te f\n" * 2 + "a b\tc d\n", r"file:3: expected 3 fields .*, found 2"),
        ("a b\tc d\te f\na b\t\te\n", r"file:2: expected 3 fields .*, found an empty one"),
        ('{"query": "a", "pos": "b"}', r"file:1: expected a list in 'pos', found 'b'"),
        ('{"query": "a", "pos": [1]}', r"file:1: expected a string in 'pos', found 1"),
        ('{"query": " ", "pos": ["b"]}', r"file:1: expected a query, found an empty text"),
        (
            '{"query": "a", "pos": ["b"], "pos_scores": [1, 2]}',
            r"file:1: expected as many values in 'pos_scores' as in 'pos' \(1\), found 2",
        ),
        (
            '{"query": "a", "pos": ["b"], "pos_scores": [true]}',
            r"file:1: expected a finite number in 'pos_scores', found True",
        ),
        (
            '{"query": "a", "positive_passages": []}\n{"positive_passages": []}',
            r"file:2: expected the key 'query', found the keys",
        ),
        (
            '[{"question": "a", "positive_ctxs": []},\n{"question": "a"}]',
            r"file:2: expected the key 'positive_ctxs', found the keys",
        ),
        (
            '[{"question": "a", "positive_ctxs": [{"title": "b"}]}]',
            r"file:1: expected passages with an id or a text in 'positive_ctxs', found the keys",
        ),
        ('[{"question": "a", "positive_ctxs": [7]}]', r"expected passages in 'positive_ctxs'"),
        (
            '[{"question": "a", "positive_ctxs": [{"text": "b", "score": "high"}]}]',
            r"file:1: expected a finite number in 'score', found 'high'",
        ),
    ],
)
def test_a_bad_record_is_named_with_its_line(read: Read, content: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1\t70\t80\n3\t70\t80\n", r"file:2: expected a query id that is in .*queries, found '3'"),
        ("1\t70\t1\t0\n3\t70\t1\t0\n", r"file:2: expected a query id that is in .*, found '3'"),
        ("1\t70\t1\t0\n1\t70\tx\t0\n1\t7\t2\t0\n", r"file:2: expected a whole number as rank"),
        ("1 0 70 1\n3 0 70 1\n", r"file: expected ids of queries .*, found '3' \(1 of 2 are"),
    ],
)
def test_a_query_or_rank_that_is_none_is_named(read: Read, content: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(content, queries="queries")


def test_a_run_of_unknown_queries_is_refused(read: Read, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 b 1\n")
    with pytest.raises(DataError, match=r"file: expected ids of queries that are in .*found '3'"):
        read(RUN + "3 Q0 a 1 1.5 bm25\n", queries="queries", qrels="qrels")
