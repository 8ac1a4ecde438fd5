"""Reading a corpus: one test for each line of the table in ``rocketrank.data.corpus``."""

import gzip
import io
import lzma
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data import CorpusFormat, CorpusReader, Passage
from rocketrank.data.passage_formats import CORPUS_FORMATS, detect_corpus_format
from rocketrank.errors import DataError, UsageError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\t\ufeff"), min_size=1)
WORDS = TEXT.filter(lambda text: bool(text.strip()))
COMPRESSORS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip.compress,
    zstandard.ZstdCompressor().compress,
    lzma.compress,
]


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., CorpusReader]:
    def reader(content: str, **options: Any) -> CorpusReader:
        path = tmp_path / "corpus"
        path.write_text(content, encoding="utf-8", newline="")
        return CorpusReader([path], **options)

    return reader


Corpus = Callable[..., CorpusReader]


def jsonl(*records: object) -> str:
    return "".join(orjson.dumps(record).decode() + "\n" for record in records)


def failure(reader: CorpusReader) -> str:
    with pytest.raises(DataError) as caught:
        list(reader)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "format", "count"),
    [
        ("msmarco/collection.tsv", "msmarco", 22_622),
        ("scifact/corpus.jsonl.gz", "beir", 5_183),
        ("nq/passages.tsv", "dpr", 2_600),
    ],
)
def test_real_collections_are_known_and_complete(
    shared_data: Path, name: str, format: str, count: int
) -> None:
    path = shared_data / name
    reader = CorpusReader([path])
    passages = list(reader)
    assert len(passages) == len({passage.id for passage in passages}) == reader.count == count
    assert reader.formats == {str(path): format}
    assert reader.bytes_read == reader.bytes_total == path.stat().st_size


def test_msmarco_text_is_what_follows_the_tab(shared_data: Path) -> None:
    path = shared_data / "msmarco" / "collection.tsv"
    lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    assert [f"{passage.id}\t{passage.text}" for passage in CorpusReader([path])] == lines


@pytest.mark.parametrize("compress", COMPRESSORS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passages=st.lists(st.tuples(WORDS, TEXT, TEXT), max_size=20))
def test_beir_passages_come_back_as_written(
    tmp_path: Path, compress: Callable[[bytes], bytes], passages: list[tuple[str, str, str]]
) -> None:
    written = [
        Passage(passage_id, f"{text}.", title, {"year": number})
        for number, (passage_id, text, title) in enumerate(passages)
    ]
    records = [{"_id": p.id, "title": p.title, "text": p.text, **p.metadata} for p in written]
    path = tmp_path / "corpus"
    path.write_bytes(compress(jsonl(*records).encode()))
    assert list(CorpusReader([path])) == written


@pytest.mark.parametrize("compress", COMPRESSORS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(WORDS, max_size=20))
def test_msmarco_passages_come_back_as_written(
    tmp_path: Path, compress: Callable[[bytes], bytes], texts: list[str]
) -> None:
    written = [Passage(str(number), text) for number, text in enumerate(texts)]
    path = tmp_path / "corpus"
    path.write_bytes(compress("".join(f"{p.id}\t{p.text}\n" for p in written).encode()))
    assert list(CorpusReader([path])) == written


def test_rocketqa_ids_are_line_numbers_from_0_over_all_files(tmp_path: Path) -> None:
    parts = [tmp_path / "part-00", tmp_path / "part-01"]
    parts[0].write_text("Marie Curie\tShe was a physicist.\n-\tNo title here.\n")
    parts[1].write_text("Albert Einstein\tHe was one too.\n")
    assert list(CorpusReader(parts)) == [
        Passage("0", "She was a physicist.", "Marie Curie"),
        Passage("1", "No title here."),
        Passage("2", "He was one too.", "Albert Einstein"),
    ]


def test_rocketqa_inference_files_are_read(corpus: Corpus) -> None:
    reader = corpus("-\tMarie Curie\tShe was a physicist.\t0\n-\t-\tNo title.\t0\n")
    assert list(reader) == [
        Passage("0", "She was a physicist.", "Marie Curie"),
        Passage("1", "No title."),
    ]


@pytest.mark.parametrize(
    ("first_fields", "format"),
    [
        (["7", "8", "9"], "msmarco"),
        (["doc-a", "doc-b"], "msmarco"),
        (["D12", "D13", "bad id", "D15"], "msmarco"),
        (["Marie Curie", "-", "Penicillin"], "rocketqa"),
        (["居里夫人", "青霉素"], "rocketqa"),
        (["Penicillin", "World War II", "Aaron", "1984"], "rocketqa"),
        (["Aaron", "Aaron", "Penicillin"], "rocketqa"),
        (["-", "-"], "rocketqa"),
    ],
)
def test_two_columns_are_told_apart_by_the_first(first_fields: Sequence[str], format: str) -> None:
    assert detect_corpus_format([f"{field}\tSome text." for field in first_fields]) == format


def test_a_given_format_overrides_the_rule(corpus: Corpus) -> None:
    assert list(corpus("7\tSome text.\n", format="rocketqa")) == [Passage("0", "Some text.", "7")]


def test_one_bad_line_does_not_hide_the_format_it_is_bad_in(corpus: Corpus) -> None:
    message = failure(corpus("1\tone\n2\ttwo\twith a tab\n3\tthree\n"))
    assert ":2: expected 2 fields (id and text) separated by tabs, found 3: " in message


def test_an_unknown_format_lists_the_known_ones(corpus: Corpus) -> None:
    message = failure(corpus("just words\nand more words\n"))
    assert all(format in message for format in CORPUS_FORMATS)
    assert message.endswith("found 'just words'; name the format with --format")


def test_the_formats_are_those_of_the_type() -> None:
    assert get_args(CorpusFormat) == CORPUS_FORMATS


def test_duplicate_ids_are_passed_on(corpus: Corpus) -> None:
    assert [passage.text for passage in corpus("1\tone\n1\tother\n")] == ["one", "other"]


def test_an_empty_passage_is_an_error_with_its_line(corpus: Corpus) -> None:
    message = failure(corpus("1\tone\n2\t \n"))
    assert ":2: expected a text or a title, found neither in passage '2'" in message


def test_empty_passages_are_skipped_and_counted_when_asked(corpus: Corpus) -> None:
    reader = corpus("1\tone\n2\t\n3\t \n4\tfour\n", skip_empty=True)
    assert [passage.id for passage in reader] == ["1", "4"]
    assert (reader.count, reader.skipped_empty) == (2, 2)


def test_skipped_rocketqa_passages_keep_their_line_numbers(corpus: Corpus) -> None:
    reader = corpus("-\tone\n-\t\n-\tthree\n", skip_empty=True)
    assert [passage.id for passage in reader] == ["0", "2"]


def test_a_title_alone_is_a_passage(corpus: Corpus) -> None:
    reader = corpus(jsonl({"_id": "1", "title": "Title", "text": ""}))
    assert list(reader) == [Passage("1", "", "Title")]


@pytest.mark.parametrize("content", ["1\tone\n\ttwo\n", jsonl({"_id": "", "text": "one"})])
def test_an_empty_id_is_an_error(corpus: Corpus, content: str) -> None:
    message = failure(corpus(content))
    assert "expected an id" in message
    assert message.endswith("found an empty one")


@pytest.mark.parametrize(
    "header", ["pid\tpassage", "id\ttext", "_id\tcontents", '"pid"\t"passage"', "ID\tText"]
)
def test_an_msmarco_header_is_left_out(corpus: Corpus, header: str) -> None:
    reader = corpus(f"{header}\r\n7\tseven\r\n")
    assert list(reader) == [Passage("7", "seven")]
    assert reader.location.endswith("corpus:2")


def test_a_rocketqa_header_is_left_out(corpus: Corpus) -> None:
    assert list(corpus("title\tpara\nA\ttext\n")) == [Passage("0", "text", "A")]


def test_quotes_in_msmarco_text_are_kept(corpus: Corpus) -> None:
    text = '"He said ""go"" and went"'
    assert list(corpus(f"1\t{text}\n")) == [Passage("1", text)]


@pytest.mark.parametrize(
    "record",
    [
        {"id": "7", "contents": "some text"},
        {"_id": 7, "text": "some text", "title": None},
        {"docid": "7", "text": "some text", "title": ""},
        {"_id": "7", "text": "some text", "metadata": {}},
    ],
)
def test_json_of_other_tools_is_read(corpus: Corpus, record: object) -> None:
    assert list(corpus(jsonl(record))) == [Passage("7", "some text")]


def test_further_scalars_and_the_metadata_object_become_metadata(corpus: Corpus) -> None:
    record = {
        "_id": "7",
        "text": "some text",
        "metadata": {"tags": ["a"], "year": 1901},
        "url": "u",
        "year": 1902,
        "empty": None,
        "links": [1],
    }
    (passage,) = corpus(jsonl(record))
    assert passage.metadata == {"tags": ["a"], "year": 1902, "url": "u"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], ":1: expected a JSON object, found [1]"),
        ({"_id": True, "text": "x"}, "expected a string or an integer in '_id', found True"),
        ({"_id": None, "text": "x"}, "expected a string or an integer in '_id', found None"),
        ({"_id": 1.0, "text": "x"}, "expected a string or an integer in '_id', found 1.0"),
        ({"_id": "1", "text": ["x"]}, "expected a string in 'text', found ['x']"),
        ({"_id": "1", "text": "x", "title": 3}, "expected a string in 'title', found 3"),
        ({"_id": "1", "body": "x"}, "expected the key 'text' or 'contents' or 'passage', found "),
        ({"name": "1", "text": "x"}, "found the keys ['name', 'text']"),
    ],
)
def test_a_bad_json_line_says_what_is_wrong(corpus: Corpus, record: object, message: str) -> None:
    assert message in failure(corpus(jsonl(record), format="beir"))


def test_a_line_that_is_no_json_is_an_error_with_its_line(corpus: Corpus) -> None:
    message = failure(corpus('{"_id": "1", "text": "x"}\n{"_id": "2", "text": \n'))
    assert ":2: expected a JSON object, found '{" in message


def test_found_values_are_shortened(corpus: Corpus) -> None:
    message = failure(corpus(jsonl({"_id": "1", "text": ["x" * 1000]})))
    assert len(message.partition("found ")[2]) <= 60


def test_an_empty_corpus_gives_nothing_and_says_so(corpus: Corpus) -> None:
    reader = corpus("")
    assert list(reader) == []
    assert (reader.count, dict(reader.formats)) == (0, {})


def test_location_follows_the_passages(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_text("1\tone\n2\ttwo\n")
    paths[1].write_text('{"_id": "3", "text": "three"}\n')
    reader = CorpusReader(paths)
    assert reader.location == ""
    assert [reader.location for _ in reader] == [f"{paths[0]}:1", f"{paths[0]}:2", f"{paths[1]}:1"]
    assert list(reader.formats.values()) == ["msmarco", "beir"]


def test_sizes_are_unknown_for_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"1\tone\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    reader = CorpusReader(["-"])
    assert list(reader) == [Passage("1", "one")]
    assert (reader.bytes_total, reader.location) == (None, "<stdin>:1")


def test_every_file_is_checked_before_the_first_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("1\tone\n")
    with pytest.raises(UsageError, match="missing: cannot be read"):
        CorpusReader([tmp_path / "there", tmp_path / "missing"])


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format \(csv\) must be one of auto, msmarco, beir"):
        CorpusReader([tmp_path], format="csv")  # type: ignore[arg-type]


def test_a_single_path_is_refused() -> None:
    with pytest.raises(UsageError, match=r"write \['corpus\.tsv'\]"):
        CorpusReader("corpus.tsv")


@pytest.mark.parametrize(("format", "lines"), [("auto", 64), ("msmarco", 1)])
def test_a_pipe_gives_passages_after_the_lines_that_show_its_format(
    tmp_path: Path, format: Any, lines: int
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    passage_read = threading.Event()

    def feed() -> None:
        with open(path, "wb", buffering=0) as pipe:
            pipe.write(b"".join(b"%d\ttext\n" % number for number in range(lines)))
            passage_read.wait(timeout=10)
            pipe.write(b"last\ttext\n")

    feeder = threading.Thread(target=feed)
    feeder.start()
    passages = iter(CorpusReader([path], format=format))
    assert next(passages) == Passage("0", "text")
    assert not passage_read.is_set()
    passage_read.set()
    assert [passage.id for passage in passages][-1] == "last"
    feeder.join()
