"""Queries that a language model writes, asked of a real server on this machine."""

import json
import threading
import time
from pathlib import Path

import pytest

from rocketrank.data.records import Passage
from rocketrank.errors import RocketRankError, UsageError
from rocketrank.training.endpoint import Endpoint, answers, open_endpoint, queries_of
from rocketrank.training.written_queries import written_queries

from .chat_server import Asked, Reply, chat_server, saying

TEXT = "boils water on a stove of iron until the steam lifts its heavy lid"
PASSAGES = [Passage(f"p{number}", f"Kettle {number} {TEXT}", "Kettles") for number in range(6)]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def endpoint(url: str, **options: object) -> Endpoint:
    chosen = {"model": "writer", "key": "secret-key", "pause": 0.01, "timeout": 10.0, **options}
    return Endpoint(url=url, **chosen)  # type: ignore[arg-type]


def number_of(asked: Asked) -> str:
    return asked.prompt.partition("Kettle ")[2][0]


def writes(asked: Asked, _: int) -> Reply:
    number = number_of(asked)
    return saying(f"1. how hot is kettle {number}\n2. who owns kettle {number}")


def test_every_passage_is_asked_about_as_the_api_wants_it(tmp_path: Path) -> None:
    with chat_server(writes) as (url, asked):
        found = dict(
            (passage.id, queries)
            for passage, queries in answers(endpoint(url), PASSAGES, tmp_path / "ledger")
        )
    assert found == {
        f"p{number}": [f"how hot is kettle {number}", f"who owns kettle {number}"]
        for number in range(6)
    }
    assert {each.path for each in asked} == {"/v1/chat/completions"}
    assert {each.headers["authorization"] for each in asked} == {"Bearer secret-key"}
    assert {each.body["model"] for each in asked} == {"writer"}
    assert all(f"Kettles\n\n{PASSAGES[int(number_of(each))].text}" in each.prompt for each in asked)


def test_without_a_key_none_is_sent(tmp_path: Path) -> None:
    with chat_server(writes) as (url, asked):
        list(
            answers(endpoint(f"{url}/chat/completions", key=""), PASSAGES[:1], tmp_path / "ledger")
        )
    assert [each.path for each in asked] == ["/v1/chat/completions"]
    assert "authorization" not in asked[0].headers


def test_no_more_than_four_are_asked_at_once(tmp_path: Path) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def slowly(asked: Asked, number: int) -> Reply:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return writes(asked, number)

    passages = [Passage(str(number), f"Kettle {number} {TEXT}") for number in range(24)]
    with chat_server(slowly) as (url, _):
        list(answers(endpoint(url), passages, tmp_path / "ledger"))
    assert 1 < most <= 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_is_refused_for_now_is_asked_again(tmp_path: Path, status: int) -> None:
    def at_third(asked: Asked, number: int) -> Reply:
        return writes(asked, number) if number == 2 else (status, b"busy", {"Retry-After": "0"})

    with chat_server(at_third) as (url, asked):
        ((_, queries),) = answers(endpoint(url), PASSAGES[:1], tmp_path / "ledger")
    assert len(queries) == 2
    assert len(asked) == 3


def test_an_endpoint_that_stays_busy_is_an_error_after_some_attempts(tmp_path: Path) -> None:
    with (
        chat_server(lambda *_: (503, b"overloaded", {})) as (url, asked),
        pytest.raises(RocketRankError, match=r"no answer after 3 attempts, .*503.*overloaded"),
    ):
        list(answers(endpoint(url, attempts=3), PASSAGES[:1], tmp_path / "ledger"))
    assert len(asked) == 3


def test_an_endpoint_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with chat_server(writes) as (url, _):
        pass
    with pytest.raises(RocketRankError, match=r"no answer after 2 attempts.*refused"):
        list(answers(endpoint(url, attempts=2), PASSAGES[:1], tmp_path / "ledger"))


def test_one_that_is_too_slow_is_given_up(tmp_path: Path) -> None:
    released = threading.Event()

    def never(asked: Asked, number: int) -> Reply:
        released.wait(20)
        return writes(asked, number)

    with chat_server(never) as (url, _):
        with pytest.raises(RocketRankError, match=r"no answer after 1 attempts.*timed out"):
            slow = endpoint(url, attempts=1, timeout=0.2)
            list(answers(slow, PASSAGES[:1], tmp_path / "ledger"))
        released.set()


def test_a_wrong_key_is_an_error_at_once_that_does_not_show_it(tmp_path: Path) -> None:
    with (
        chat_server(lambda *_: (401, b"bad key: secret-key", {})) as (url, asked),
        pytest.raises(RocketRankError, match=r"status 401.*RQ_ENDPOINT_KEY") as refused,
    ):
        list(answers(endpoint(url), PASSAGES[:1], tmp_path / "ledger"))
    assert len(asked) == 1
    assert "secret-key" not in str(refused.value)
    assert "secret-key" not in repr(endpoint(url))


def test_the_key_follows_no_redirection(tmp_path: Path) -> None:
    with chat_server(writes) as (other, led_there):
        elsewhere = {"Location": f"{other}/chat/completions"}
        with (
            chat_server(lambda *_: (302, b"", elsewhere)) as (url, _),
            pytest.raises(RocketRankError, match="status 302"),
        ):
            list(answers(endpoint(url), PASSAGES[:1], tmp_path / "ledger"))
    assert led_there == []


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[1]"])
def test_an_answer_of_another_kind_is_told_with_what_was_found(tmp_path: Path, body: bytes) -> None:
    with (
        chat_server(lambda *_: (200, body, {})) as (url, _),
        pytest.raises(RocketRankError, match=r"expected an answer with choices\[0\]") as refused,
    ):
        list(answers(endpoint(url), PASSAGES[:1], tmp_path / "ledger"))
    assert body.decode()[:4] in str(refused.value)


def test_a_run_that_was_stopped_asks_nothing_twice(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    one_by_one = {"at_once": 1, "attempts": 1}
    with (
        chat_server(lambda asked, n: writes(asked, n) if n < 3 else (500, b"", {})) as (url, _),
        pytest.raises(RocketRankError, match="nothing that was answered is asked again"),
    ):
        list(answers(endpoint(url, **one_by_one), PASSAGES, ledger))
    with ledger.open("ab") as file:
        file.write(b'{"asked": "torn')
    with chat_server(writes) as (url, asked):
        again = list(answers(endpoint(url), PASSAGES, ledger))
        assert sorted(map(number_of, asked)) == ["3", "4", "5"]
        assert list(answers(endpoint(url), PASSAGES, ledger)) == again
        assert len(asked) == 3
        list(answers(endpoint(url, model="another"), PASSAGES[:1], ledger))
        assert len(asked) == 4
    assert [len(queries) for _, queries in again] == [2] * 6
    assert all(json.loads(line) for line in ledger.read_bytes().splitlines())


def test_a_ledger_that_is_another_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("precious\n")
    with pytest.raises(UsageError, match=r"answers of an endpoint, found .*precious"):
        list(answers(endpoint("http://127.0.0.1:9/v1"), PASSAGES, tmp_path / "ledger"))
    assert (tmp_path / "ledger").read_text() == "precious\n"


@pytest.mark.parametrize(
    ("answer", "queries"),
    [
        ("one query\nanother query", ["one query", "another query"]),
        (
            "Here are three:\n\n1. first one\n2) second one\n- third",
            ["first one", "second one", "third"],
        ),
        ('"quoted one"\n* “curly one”', ["quoted one", "curly one"]),
        ("<think>1. what to ask\n2. hm</think>\nthe query", ["the query"]),
        ("3.5 percent of what", ["3.5 percent of what"]),
        ("", []),
    ],
)
def test_the_lines_of_an_answer_are_its_queries(answer: str, queries: list[str]) -> None:
    assert queries_of(answer) == queries


def test_written_queries_are_for_whole_passages_and_checked_like_others(tmp_path: Path) -> None:
    def reply(asked: Asked, _: int) -> Reply:
        number = number_of(asked)
        if number == "0":
            return saying("two words\nlifts its heavy lid\nhow is the lid of kettle 0 lifted")
        if number == "1":
            return saying(None)
        return saying(
            f"why does water boil\nwhere is kettle {number}\n"
            f"the third query {number}\na fourth of all"
        )

    passages = [*PASSAGES[:4], Passage("short", "Kettle 9 is short")]
    with chat_server(reply) as (url, _):
        made = written_queries(
            lambda: iter(passages), endpoint(url), 30, seed=1, ledger=tmp_path / "ledger"
        )
    assert {each.id: (each.text, each.passage_id, each.cut) for each in made.queries} == {
        "endpoint/p0/2": ("how is the lid of kettle 0 lifted", "p0", None),
        "endpoint/p2/1": ("where is kettle 2", "p2", None),
        "endpoint/p2/2": ("the third query 2", "p2", None),
        "endpoint/p3/1": ("where is kettle 3", "p3", None),
        "endpoint/p3/2": ("the third query 3", "p3", None),
    }
    counted = {
        name.removeprefix("endpoint."): number
        for name, number in made.report.counts.items()
        if number
    }
    assert counted == {
        "passages": 4, "absent": 1, "length": 1, "repeated": 1, "elsewhere": 2, "drawn": 5
    }  # fmt: skip


def test_no_more_passages_are_asked_than_the_queries_need(tmp_path: Path) -> None:
    with chat_server(writes) as (url, asked):
        made = written_queries(
            lambda: iter(PASSAGES), endpoint(url), 4, seed=1, ledger=tmp_path / "ledger"
        )
    assert len(asked) == 2
    assert len(made.queries) == 4


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", "chat"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(UsageError, match=r"--endpoint \(.*must be an address"):
        open_endpoint(url, "writer", None)


def test_a_prompt_has_a_place_for_the_passage(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Ask about {passage} now.")
    with chat_server(lambda *_: saying("a query of words")) as (url, asked):
        own = open_endpoint(url, "writer", prompt)
        list(answers(own, [Passage("p", "the text")], tmp_path / "ledger"))
    assert asked[0].prompt == "Ask about the text now."
    prompt.write_text("Ask.")
    with pytest.raises(UsageError, match=r"must have \{passage\} where the passage goes"):
        open_endpoint("http://localhost", "writer", prompt)
    with pytest.raises(UsageError, match="cannot be read"):
        open_endpoint("http://localhost", "writer", tmp_path / "none.txt")


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQ_ENDPOINT_KEY", "from-there")
    assert open_endpoint("https://example.org/v1", "writer", None).key == "from-there"
