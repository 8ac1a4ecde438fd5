"""The documentation of the running Python as a corpus."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from rocketrank.data import CorpusReader, Passage
from rocketrank.data.prose import LONGEST, passages_of
from rocketrank.data.python_docs import FEWEST_WORDS, python_documentation


@pytest.fixture(scope="module")
def passages() -> Sequence[Passage]:
    return list(python_documentation())


def one(passages: Sequence[Passage], passage_id: str) -> Passage:
    (found,) = (passage for passage in passages if passage.id == passage_id)
    return found


def test_there_are_several_thousand_distinct_passages(passages: Sequence[Passage]) -> None:
    assert 4_000 <= len(passages) <= 7_000
    assert len({passage.id for passage in passages}) == len(passages)
    assert len({passage.text for passage in passages}) == len(passages)


def test_passages_are_neither_empty_nor_long(passages: Sequence[Passage]) -> None:
    lengths = [len(passage.text.split()) for passage in passages]
    assert min(lengths) >= FEWEST_WORDS
    assert sum(length > LONGEST for length in lengths) < 20
    assert all(passage.title and passage.text.strip() == passage.text for passage in passages)


@pytest.mark.parametrize(
    ("passage_id", "documented"),
    [
        ("lib/json.dumps", json.dumps),
        ("lib/pathlib.Path.rename", pathlib.Path.rename),
        ("lib/str.upper", str.upper),
    ],
)
def test_the_library_is_found_under_its_names(
    passages: Sequence[Passage], passage_id: str, documented: object
) -> None:
    passage = one(passages, passage_id)
    assert passage.title == passage_id.removeprefix("lib/")
    documentation = (documented.__doc__ or "").replace("``", "").replace("*", "").split()
    assert passage.text.split() == documentation[: len(passage.text.split())]


@pytest.mark.parametrize("name", ["os.path.exists", "collections.deque.append", "sys.exit"])
def test_public_names_stand_for_private_modules(passages: Sequence[Passage], name: str) -> None:
    assert one(passages, f"lib/{name}").title == name


def test_the_language_is_there_by_topic(passages: Sequence[Passage]) -> None:
    passage = one(passages, "topic/with")
    assert passage.title == "The with statement"
    assert passage.text.startswith('The "with" statement is used to wrap the execution of a block')
    assert one(passages, "topic/with#2").title == "The with statement"


def test_private_and_test_modules_are_left_out(passages: Sequence[Passage]) -> None:
    names = [passage.id.removeprefix("lib/") for passage in passages if passage.id[:4] == "lib/"]
    assert not {name.split(".")[0] for name in names} & {"idlelib", "lib2to3", "test", "this"}
    assert not [name for name in names if name.startswith("_") or "._" in name or ".tests." in name]


def test_another_process_reads_the_same_and_imports_nothing_for_it(
    passages: Sequence[Passage],
) -> None:
    code = (
        "import hashlib, sys\n"
        "from rocketrank.data.python_docs import python_documentation\n"
        "lines = [repr(passage[:3]) for passage in python_documentation()]\n"
        "print(hashlib.sha256(''.join(lines).encode()).hexdigest())\n"
        "print(sorted({'tkinter', 'asyncio', 'turtle', 'email', 'unittest'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    digest = hashlib.sha256("".join(repr(passage[:3]) for passage in passages).encode()).hexdigest()
    assert (done.stdout, done.stderr) == (f"{digest}\n[]\n", "")


def test_they_survive_a_beir_file(passages: Sequence[Passage], tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    records = [
        {"_id": p.id, "title": p.title, "text": p.text, "metadata": p.metadata} for p in passages
    ]
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    assert list(CorpusReader([path])) == passages


def test_prose_is_unwrapped_and_markup_removed() -> None:
    text = "Return ``None`` when *path* is\nno :class:`~pathlib.Path`, see **PEP 1**."
    assert list(passages_of(text)) == ["Return None when path is no pathlib.Path, see PEP 1."]


def test_code_keeps_its_lines() -> None:
    text = "An example::\n\n    for *_, x in y:\n        pass"
    assert list(passages_of(text)) == ["An example:\nfor *_, x in y:\n    pass"]


def test_lists_keep_their_items_apart() -> None:
    assert list(passages_of("- one\n  more\n- two")) == ["- one more\n- two"]


def test_paragraphs_are_grouped_and_all_words_kept() -> None:
    text = "\n\n".join(" ".join([f"word{number}"] * 50) + "." for number in range(9))
    groups = list(passages_of(text))
    assert " ".join(groups).split() == text.split()
    assert [len(group.split()) for group in groups] == [100, 100, 100, 150]


def test_a_paragraph_longer_than_a_passage_is_split_at_sentences() -> None:
    text = " ".join(" ".join(["word"] * 29) + " end." for _ in range(20))
    groups = list(passages_of(text))
    assert " ".join(groups).split() == text.split()
    assert all(len(group.split()) <= LONGEST and group.endswith("end.") for group in groups)
