"""Public data sets by name: the folders of their downloads, and what is said when files lack."""

import gzip
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from rocketrank.data import CorpusReader, Judgement, Passage, Query, read_qrels, read_queries
from rocketrank.data.datasets import Dataset, open_dataset
from rocketrank.errors import UsageError

Layout = Callable[..., Path]

CORPUS = '{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "title": "", "text": "two"}\n'
QUERIES = '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "second"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td2\t1\n"
BEIR = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
COLLECTION = "7\tpassage seven\n8\tpassage eight\n"
MSMARCO_QUERIES = "100\twhat is seven\n"
MSMARCO_QRELS = "100\t0\t7\t1\n"
WIKIPEDIA = 'id\ttext\ttitle\n1\t"Aaron said ""no"" twice."\tAaron\n'
QUESTIONS = "who said no\t['Aaron']\n"


@pytest.fixture
def unpack(tmp_path: Path) -> Layout:
    """Writes files (name below the folder → text) and gives the folder; ``.gz`` is compressed."""

    def write(files: dict[str, str], below: str = "") -> Path:
        for name, text in files.items():
            path = tmp_path / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = text.encode()
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path

    return write


def read(dataset: Dataset) -> tuple[list[Passage], list[Query], list[Judgement]]:
    """All records, read in the formats that the data set says."""
    return (
        list(CorpusReader(dataset.corpus, format=dataset.corpus_format)),
        list(read_queries(dataset.queries, format=dataset.queries_format)),
        list(read_qrels(dataset.qrels)) if dataset.qrels else [],
    )


def refusal(name: str, data: Path | None, *, split: str | None = None) -> str:
    """The message, which must be one sentence on one line."""
    with pytest.raises(UsageError) as caught:
        open_dataset(name, data, split=split)
    message = str(caught.value)
    assert not re.search(r"[.?!]\s|\n|\.$", message)
    return message


# BEIR


@pytest.mark.parametrize("below", ["", "scifact", "beir/scifact"])
def test_a_beir_folder_is_the_sets_own_or_the_one_around_it(unpack: Layout, below: str) -> None:
    dataset = open_dataset("scifact", unpack(BEIR, below))
    passages, queries, judgements = read(dataset)
    assert passages == [Passage("d1", "one", "T"), Passage("d2", "two")]
    assert queries == [Query("q1", "first"), Query("q2", "second")]
    assert judgements == [Judgement("q1", "d2", 1)]
    assert (dataset.name, dataset.split, dataset.preset) == ("scifact", "test", "beir")
    assert dataset.answers is None


def test_compressed_files_of_beir_read_the_same(unpack: Layout) -> None:
    plain = read(open_dataset("scifact", unpack(BEIR, "plain") / "plain"))
    packed = {f"{name}.gz": text for name, text in BEIR.items()}
    assert read(open_dataset("scifact", unpack(packed, "packed") / "packed")) == plain


def test_an_unpacked_file_goes_before_the_packed_one_beside_it(unpack: Layout) -> None:
    folder = unpack(BEIR | {"corpus.jsonl.gz": CORPUS})
    assert open_dataset("scifact", folder).corpus == (folder / "corpus.jsonl",)


def test_the_folder_with_the_sets_name_goes_before_files_beside_it(unpack: Layout) -> None:
    unpack(BEIR)
    folder = unpack(BEIR, "scifact")
    dataset = open_dataset("scifact", folder)
    assert dataset.corpus == (folder / "scifact" / "corpus.jsonl",)
    assert dataset.qrels == folder / "scifact" / "qrels" / "test.tsv"


def test_an_empty_folder_with_the_sets_name_does_not_hide_the_files_beside_it(
    unpack: Layout,
) -> None:
    folder = unpack(BEIR)
    (folder / "scifact").mkdir()
    assert open_dataset("scifact", folder).queries == folder / "queries.jsonl"


def test_no_set_is_put_together_from_two_folders(unpack: Layout) -> None:
    unpack(BEIR)
    folder = unpack({"corpus.jsonl": CORPUS}, "scifact")
    assert f"{folder / 'scifact'}: expected scifact's queries" in refusal("scifact", folder)


def test_a_forum_of_cqadupstack_is_found_from_each_folder_around_it(unpack: Layout) -> None:
    folder = unpack(BEIR, "cqadupstack/android")
    for data in (folder, folder / "cqadupstack", folder / "cqadupstack" / "android"):
        assert open_dataset("cqadupstack/android", data).name == "cqadupstack/android"


def test_the_split_is_named_or_ends_the_name(unpack: Layout) -> None:
    folder = unpack(BEIR | {"qrels/dev.tsv": QRELS}, "fiqa")
    for dataset in (
        open_dataset("fiqa", folder, split="dev"),
        open_dataset("fiqa/dev", folder),
        open_dataset("beir/fiqa/dev", folder, split="dev"),
    ):
        assert dataset.split == "dev"
        assert dataset.qrels == folder / "fiqa" / "qrels" / "dev.tsv"


def test_beirs_msmarco_is_judged_by_its_dev_split(unpack: Layout) -> None:
    folder = unpack(
        {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/dev.tsv": QRELS}, "msmarco"
    )
    for name in ("beir/msmarco", "msmarco"):
        dataset = open_dataset(name, folder)
        assert (dataset.name, dataset.split) == ("beir/msmarco", "dev")


def test_queries_that_are_passages_are_dropped_in_beir_alone(
    unpack: Layout, shared_data: Path
) -> None:
    assert open_dataset("arguana", unpack(BEIR, "arguana")).drop_self
    assert not open_dataset("dl19", shared_data).drop_self
    assert not open_dataset("nq", shared_data).drop_self


def test_the_folder_of_another_set_is_refused(unpack: Layout) -> None:
    folder = unpack(BEIR, "nfcorpus") / "nfcorpus"
    assert refusal("scifact", folder).startswith(
        f"{folder}: expected the folder of scifact, found that of nfcorpus"
    )


def test_a_folder_with_a_name_of_its_own_is_taken(unpack: Layout) -> None:
    assert open_dataset("scifact", unpack(BEIR, "my-data") / "my-data").name == "scifact"


# MS MARCO


@pytest.mark.parametrize(
    ("name", "split", "queries", "qrels", "preset"),
    [
        (
            "msmarco-passage/dev/small",
            "dev/small",
            "queries.dev.small.tsv",
            "qrels.dev.small.tsv",
            "msmarco",
        ),
        ("msmarco", "dev/small", "queries.dev.small.tsv", "qrels.dev.small.tsv", "msmarco"),
        ("msmarco/dev", "dev", "queries.dev.tsv", "qrels.dev.tsv", "msmarco"),
        ("msmarco-passage/train", "train", "queries.train.tsv", "qrels.train.tsv", "msmarco"),
        (
            "MSMARCO-Passage/TREC-DL-2019",
            "trec-dl-2019",
            "msmarco-test2019-queries.tsv",
            "2019qrels-pass.txt",
            "dl",
        ),
        ("dl20", "trec-dl-2020", "msmarco-test2020-queries.tsv", "2020qrels-pass.txt", "dl"),
        (
            "msmarco-passage/trec-dl-2020/judged",
            "trec-dl-2020",
            "msmarco-test2020-queries.tsv",
            "2020qrels-pass.txt",
            "dl",
        ),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "collectionandqueries", "msmarco"])
def test_the_files_of_ms_marco_are_found_by_their_own_names(
    unpack: Layout,
    name: str,
    split: str,
    queries: str,
    qrels: str,
    preset: str,
    end: str,
    below: str,
) -> None:
    files = {"collection.tsv": COLLECTION, queries: MSMARCO_QUERIES, qrels: MSMARCO_QRELS}
    dataset = open_dataset(name, unpack({key + end: text for key, text in files.items()}, below))
    assert read(dataset) == (
        [Passage("7", "passage seven"), Passage("8", "passage eight")],
        [Query("100", "what is seven")],
        [Judgement("100", "7", 1)],
    )
    assert (dataset.name, dataset.split, dataset.preset) == ("msmarco-passage", split, preset)


def test_an_archive_that_is_still_packed_is_to_be_unpacked(unpack: Layout) -> None:
    folder = unpack({"collectionandqueries.tar.gz": ""})
    message = refusal("msmarco", folder)
    assert message.endswith(f"unpack {folder / 'collectionandqueries.tar.gz'}")


# Natural Questions and DPR's other sets


@pytest.mark.parametrize("root", ["", "data/", "downloads/data/"])
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("nq", "test", "nq-test.qa.csv"),
        ("nq/dev", "dev", "nq-dev.csv"),
        ("dpr-w100/natural-questions/train", "train", "nq-train.csv"),
        ("TriviaQA", "test", "trivia-test.qa.csv"),
        ("webquestions", "test", "webquestions-test.qa.csv"),
        ("webq", "test", "webq-test.csv"),
        ("curatedtrec", "test", "curatedtrec-test.csv"),
        ("squad1", "test", "squad1-test.qa.csv"),
    ],
)
def test_dprs_files_are_found_where_its_tool_puts_them_and_flat(
    unpack: Layout, root: str, end: str, name: str, split: str, file: str
) -> None:
    wikipedia, questions = ("wikipedia_split/", "retriever/qas/") if root else ("", "")
    dataset = open_dataset(
        name,
        unpack(
            {
                f"{root}{wikipedia}psgs_w100.tsv{end}": WIKIPEDIA,
                f"{root}{questions}{file}{end}": QUESTIONS,
            }
        ),
    )
    assert read(dataset) == (
        [Passage("1", 'Aaron said "no" twice.', "Aaron")],
        [Query("0", "who said no", ("Aaron",))],
        [],
    )
    assert (dataset.split, dataset.preset) == (split, "nq")
    assert dataset.answers == dataset.queries


def test_only_the_answers_of_curatedtrec_are_regular_expressions(unpack: Layout) -> None:
    files = {
        "psgs_w100.tsv": WIKIPEDIA,
        "nq-test.csv": QUESTIONS,
        "curatedtrec-test.csv": QUESTIONS,
    }
    folder = unpack(files)
    assert open_dataset("curatedtrec", folder).regex_answers
    assert not open_dataset("nq", folder).regex_answers


def test_nq_is_beirs_where_the_folder_holds_beirs(unpack: Layout) -> None:
    dataset = open_dataset("nq", unpack(BEIR, "nq"))
    assert (dataset.name, dataset.preset, dataset.answers) == ("beir/nq", "beir", None)


def test_nq_is_to_be_named_in_full_where_the_folder_holds_both(unpack: Layout) -> None:
    unpack({"psgs_w100.tsv": WIKIPEDIA, "nq-test.csv": QUESTIONS})
    folder = unpack(BEIR, "nq")
    message = refusal("nq", folder)
    assert f"found nq in {folder} and beir/nq in {folder / 'nq'}" in message
    assert open_dataset("beir/nq", folder).preset == "beir"
    assert open_dataset("natural-questions", folder).preset == "nq"


# Real files


@pytest.mark.parametrize(
    ("name", "folder", "passages", "queries", "judgements"),
    [
        ("SciFact", "", 5_183, 1_109, 339),
        ("scifact/train", "scifact", 5_183, 1_109, 919),
        ("dl19", "", 22_622, 43, 9_260),
        ("msmarco-passage/train", "msmarco", 22_622, 600, None),
        ("nq", "", 2_600, 2_655, 0),
        ("nq", "nq", 2_600, 2_655, 0),
    ],
)
def test_what_is_opened_in_the_real_folders_reads_completely(
    shared_data: Path,
    name: str,
    folder: str,
    passages: int,
    queries: int,
    judgements: int | None,
) -> None:
    found = read(open_dataset(name, shared_data / folder))
    assert [len(found[0]), len(found[1])] == [passages, queries]
    assert judgements is None or len(found[2]) == judgements


def test_real_questions_come_with_their_answers(shared_data: Path) -> None:
    dataset = open_dataset("nq", shared_data)
    assert dataset.answers
    (first,) = islice(read_queries(dataset.answers, format=dataset.queries_format), 1)
    assert first.answers == ("Wilhelm Conrad Röntgen",)


# What is wrong is said in one sentence


def test_a_missing_file_is_named_with_what_is_there_and_the_page(unpack: Layout) -> None:
    folder = unpack({"corpus.jsonl": CORPUS, "notes.txt": ""}, "scifact")
    assert refusal("scifact", folder) == (
        f"{folder / 'scifact'}: expected scifact's queries (queries.jsonl) and qrels "
        "(qrels/test.tsv), plain or with .gz, .zst, .xz, found only corpus.jsonl, notes.txt; get "
        "the files from https://github.com/beir-cellar/beir, or give another folder with --data"
    )


def test_all_accepted_names_of_a_missing_file_are_said_once(unpack: Layout) -> None:
    message = refusal("webquestions", unpack({"psgs_w100.tsv": WIKIPEDIA}))
    for name in ("qa.csv", "csv"):
        for stem in ("webquestions", "webq"):
            assert message.count(f"{stem}-test.{name}") == 1


def test_a_split_that_is_not_there_is_said_with_those_that_are(unpack: Layout) -> None:
    files = {"collection.tsv": COLLECTION}
    for split in ("train", "dev"):
        files |= {f"queries.{split}.tsv": MSMARCO_QUERIES, f"qrels.{split}.tsv": MSMARCO_QRELS}
    message = refusal("dl20", unpack(files))
    assert "expected the split trec-dl-2020 of msmarco-passage" in message
    assert "2020qrels-pass.txt" in message
    assert "found the splits dev, train;" in message


def test_files_that_are_not_public_come_with_the_page_that_says_how_to_make_them(
    unpack: Layout,
) -> None:
    assert "says how to make the files, which are not public" in refusal("robust04", unpack({}))


def test_an_empty_folder_is_said_to_be_empty(unpack: Layout) -> None:
    assert "found an empty folder" in refusal("nfcorpus", unpack({}))


def test_many_other_files_are_shortened(unpack: Layout) -> None:
    folder = unpack({f"{number}.txt": "" for number in range(8)})
    assert "found 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more" in refusal("nfcorpus", folder)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert f"{missing}: expected the folder of quora, found nothing" in refusal("quora", missing)


def test_a_file_in_the_place_of_the_folder_is_said_so(unpack: Layout) -> None:
    file = unpack({"corpus.jsonl": CORPUS}) / "corpus.jsonl"
    assert "found a file" in refusal("quora", file)


def test_a_folder_that_may_not_be_read_is_said_so(unpack: Layout) -> None:
    folder = unpack(BEIR, "scifact") / "scifact"
    folder.chmod(0)
    try:
        next(folder.iterdir(), None)
    except PermissionError:
        message = refusal("scifact", folder)
        assert "cannot be read: Permission denied; change its permissions" in message
    else:
        pytest.skip("this user may read every folder")
    finally:
        folder.chmod(0o700)
