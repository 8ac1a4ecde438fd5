"""JSON values of a file one after another, compared with reading the whole file at once."""

import gzip
import io
import itertools
import json
import os
import random
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketrank.data.json_stream import JsonStream, begins_with_array
from rocketrank.errors import DataError, UsageError

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)


def values(path: Path) -> list[Any]:
    return list(JsonStream(path).parsed(json.loads))


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    objects=st.lists(OBJECT, max_size=4), indent=st.none() | st.integers(0, 2), raw=st.booleans()
)
def test_the_elements_of_an_array_are_those_of_the_whole_file(
    tmp_path: Path, objects: list[Any], indent: int | None, raw: bool
) -> None:
    path = written(tmp_path / "a.json", json.dumps(objects, indent=indent, ensure_ascii=raw))
    assert values(path) == objects


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(objects=st.lists(OBJECT, max_size=4), indent=st.none() | st.integers(0, 2))
def test_objects_one_after_another_are_read_like_an_array(
    tmp_path: Path, objects: list[Any], indent: int | None
) -> None:
    content = "\n".join(json.dumps(each, indent=indent) for each in objects)
    assert values(written(tmp_path / "a.jsonl", content)) == objects


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    objects=st.dictionaries(TEXT, OBJECT, min_size=1, max_size=4),
    indent=st.none() | st.integers(0, 2),
    raw=st.booleans(),
)
def test_the_members_of_an_object_of_objects_are_those_of_the_whole_file(
    tmp_path: Path, objects: dict[str, Any], indent: int | None, raw: bool
) -> None:
    path = written(tmp_path / "a.json", json.dumps(objects, indent=indent, ensure_ascii=raw))
    stream = JsonStream(path, members=True)
    assert [(stream.key, each) for each in stream.parsed(json.loads)] == [*objects.items()]


@pytest.mark.parametrize("content", ['{"a": 1}\n{"b": {}}', '{"a": [{}]}', "{}", '[{"a": {}}]'])
def test_other_files_are_read_the_same_with_and_without_members(
    tmp_path: Path, content: str
) -> None:
    path = written(tmp_path / "a.json", content)
    stream = JsonStream(path, members=True)
    assert [(stream.key, each) for each in stream.parsed(json.loads)] == [
        (None, each) for each in values(path)
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a": {},\n', r"a:2: expected another key after the comma, found ''"),
        ('{"a": {},\n}', r"a:2: expected another key after the comma, found '}'"),
        ('{"a": {}\n', r"a:2: expected the end of the object, '}', found the end of the file"),
        ('{"a": {}\n"b": {}}', r"a:2: expected ',' or '}' after a value, found '\"b"),
        ('{"a": {},\n"b" {}}', r"a:2: expected ':' after a key, found '\{}}'"),
        ('{"a": {"b": [', r"a:1: expected the end of this value, found the end of the file"),
        ('{"a": {}, "b":', r"a:1: expected the end of this value, found the end of the file"),
        ('{"a": {}}\n{"b": {}}', r"a:2: expected nothing after the last value, found '\{"),
    ],
)
def test_an_unsound_object_of_objects_is_named_with_its_line(
    tmp_path: Path, content: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        list(JsonStream(written(tmp_path / "a", content), members=True).parsed(str))


def test_memory_holds_a_member_and_not_the_file(tmp_path: Path) -> None:
    objects = {str(number): {"text": "x" * 100_000} for number in range(300)}
    path = written(tmp_path / "a.json", json.dumps(objects))
    del objects
    tracemalloc.start()
    count = sum(1 for _ in JsonStream(path, members=True).parsed(len))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < path.stat().st_size / 5


@pytest.mark.parametrize("indent", [None, 1])
def test_values_larger_than_a_block_are_joined(tmp_path: Path, indent: int | None) -> None:
    letters = random.Random(7).choices('a"\\\n\u00e9\U0001f680{}[],:', k=2_000_000)
    cuts = [0, 3, 700_000, 700_001, 950_000, 2_000_000]
    objects = [
        {"number": 1.5e-7, "text": "".join(letters[start:end]), "list": [None, True]}
        for start, end in itertools.pairwise(cuts)
    ]
    content = json.dumps(objects, indent=indent, ensure_ascii=False)
    assert values(written(tmp_path / "a.json", content)) == objects


def test_what_comes_byte_by_byte_is_read_as_soon_as_it_is_there() -> None:
    objects = [{"a": 12.5, "b": "\U0001f680\u00e9", "c": [True, None]}, {"d": -1}]
    content = json.dumps(objects, ensure_ascii=False).encode() + b"\n"
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb", buffering=0) as file:
            for place in range(len(content)):
                file.write(content[place : place + 1])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert values(Path(f"/dev/fd/{reader}")) == objects
    finally:
        thread.join()
        os.close(reader)


def test_a_compressed_array_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b'\xef\xbb\xbf [{"a": 1}]'))
    assert begins_with_array(tmp_path / "a")
    assert values(tmp_path / "a") == [{"a": 1}]


def test_memory_holds_a_value_and_not_the_file(tmp_path: Path) -> None:
    element = json.dumps({"text": "x" * 100_000})
    path = written(tmp_path / "a.json", "[" + ",".join([element] * 300) + "]")
    tracemalloc.start()
    count = sum(1 for _ in JsonStream(path).parsed(len))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < path.stat().st_size / 5


def test_the_place_is_the_line_on_which_a_value_begins(tmp_path: Path) -> None:
    stream = JsonStream(written(tmp_path / "a", '[\n{"a":\n1},\n\n{"b": 2}]'))
    assert [stream.place.rpartition(":")[2] for _ in stream.parsed(str)] == ["2", "5"]


def test_the_first_value_is_shown_and_given_again(tmp_path: Path) -> None:
    stream = JsonStream(written(tmp_path / "a", '[ {"a": 1}, {}]'))
    assert stream.peek() == '{"a": 1}'
    assert list(stream.parsed(str)) == ['{"a": 1}', "{}"]
    assert JsonStream(written(tmp_path / "b", " \n")).peek() is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"a": 1},\n', r"a:2: expected the end of the array, '\]', found the end of the file"),
        ('[\n{"a": 1', r"a:2: expected the end of this value, found the end of the file"),
        ('[{"a": "b', r"a:1: expected the end of this value, found the end of the file"),
        ('[{"a": 1},]', r"a:1: expected another element after the comma, found '\]'"),
        ('[{"a": 1}\n{"b": 2}]', r"a:2: expected ',' or '\]' after an element, found '\{"),
        ('[{"a": 1}]\n7', r"a:2: expected nothing after the last value, found '7'"),
        ('[{"a": 1},\n{"a": one, "b": 2}]', r"a:2: expected sound JSON, found 'one, .*Expecting"),
        ("question\n", r"a:1: expected sound JSON, found 'question"),
        ("[" * 100_000 + " " * 100, r"a:1: expected an object, found thousands of brackets"),
    ],
)
def test_what_is_no_sound_json_is_named_with_its_line(
    tmp_path: Path, content: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        values(written(tmp_path / "a", content))


def test_elements_before_a_truncation_come_first(tmp_path: Path) -> None:
    found = []
    with pytest.raises(DataError, match="is it truncated"):
        for each in JsonStream(written(tmp_path / "a", '[{"a": 1}, {"b": ')).parsed(json.loads):
            found.append(each)
    assert found == [{"a": 1}]


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'[{"a": 1},\n{"b": "\xe4"}]')
    stream = JsonStream(tmp_path / "a").parsed(json.loads)
    assert next(stream) == {"a": 1}
    with pytest.raises(DataError, match=r"a:2: expected UTF-8 text, found the byte 0xe4"):
        next(stream)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b'[{"a": 1}]' + b" " * 10_000)[:-9])
    with pytest.raises(DataError, match=r"a:1: expected the end of the gzip data"):
        values(tmp_path / "a")


def test_a_missing_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: cannot be read"):
        JsonStream(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("\n [ {", True),
        ("[\n]", True),
        ("[", True),
        ("{", False),
        ("", False),
        ("[citation needed]\tWikipedia", False),
        ("[1, 2, 3]", False),
        ("a\t[", False),
    ],
)
def test_the_first_characters_tell_an_array(tmp_path: Path, content: str, answer: bool) -> None:
    assert begins_with_array(written(tmp_path / "a", content)) is answer


def test_standard_input_is_looked_at_without_being_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binary = io.BufferedReader(io.BytesIO(b'[{"a": 1}]'))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(binary))
    assert begins_with_array("-")
    assert list(JsonStream("-").parsed(json.loads)) == [{"a": 1}]
