"""Queries that a language model writes for passages: any endpoint that speaks OpenAI's chat API.

Every answer goes into a file beside the output as soon as it is there, by a hash of what was asked:
a run that was killed, and the next one that asks the same, ask nothing twice.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import orjson

from ..data.lines import shown
from ..data.records import Passage
from ..durable import explained_write
from ..errors import RocketRankError, UsageError

KEY = "RQ_ENDPOINT_KEY"
"""The variable with the key; without it none is sent."""
PLACE = "{passage}"
PROMPT = f"""\
Below is a passage from a collection of documents. Write three different questions or search queries
that a person who has not seen the passage might type, and that it answers. Do not copy its
sentences, and do not speak of "the passage" or "the text". Use the passage's language. Give one
query a line and nothing else.

{PLACE}
"""

_PATH = "/chat/completions"
_LONGEST_ANSWER = 1 << 20
_LONGEST_PAUSE = 60.0
_POINT = re.compile(r"(?:[-*•]|\(?\d+[.):])\s+")
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where and how to ask. ``url`` is the API's base, such as ``http://localhost:8000/v1``.

    A request that is refused for now (429, 5xx, no answer) is repeated up to ``attempts`` times,
    after ``pause`` seconds, then twice as many.
    """

    url: str
    model: str
    prompt: str = PROMPT
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    attempts: int = 6
    pause: float = 1.0
    at_once: int = 4


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that the user named, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def open_endpoint(
    url: str,
    model: str,
    prompt: Path | None,
    *,
    named: tuple[str, str] = ("--endpoint", "--endpoint-prompt"),
) -> Endpoint:
    """The endpoint of these options, its key from the environment.

    Raises UsageError; ``named`` are the user's names for the address and the prompt.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{named[0]} ({url}) must be an address such as http://localhost:8000/v1")
    text = PROMPT
    if prompt is not None:
        try:
            text = prompt.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{named[1]} {prompt} cannot be read: {error}") from None
        if PLACE not in text:
            raise UsageError(
                f"{named[1]} {prompt} must have {PLACE} where the passage goes, found none"
            )
    return Endpoint(url=url, model=model, prompt=text, key=os.environ.get(KEY, ""))


def answers(
    endpoint: Endpoint, passages: Sequence[Passage], ledger: Path
) -> Iterator[tuple[Passage, list[str]]]:
    """Each passage with the queries that the model wrote for it, those in ``ledger`` not asked.

    In the order of ``passages``. Raises RocketRankError when the endpoint does not answer; what
    came until then is kept.
    """
    bodies = {each.id: _body(endpoint, each) for each in passages}
    with closing(_Ledger(ledger)) as kept:
        missing = [body for body in bodies.values() if _name(body) not in kept.answers]
        with ThreadPoolExecutor(endpoint.at_once) as pool:
            waiting = [pool.submit(_asked, endpoint, body) for body in dict.fromkeys(missing)]
            try:
                for done in as_completed(waiting):
                    kept.add(*done.result())
            except BaseException:
                _cancel(waiting)
                raise
        for passage in passages:
            yield passage, queries_of(kept.answers[_name(bodies[passage.id])])


def queries_of(answer: str) -> list[str]:
    """The queries on the lines of an answer, without numbers, points, quotes and introductions."""
    found = []
    for line in _THOUGHTS.sub("", answer).splitlines():
        query = _POINT.sub("", line.strip(), count=1).strip().strip('"“”').strip()
        if query and not query.endswith(":"):
            found.append(query)
    return found


def _cancel(waiting: Sequence[Future[Any]]) -> None:
    for each in waiting:
        each.cancel()


def _body(endpoint: Endpoint, passage: Passage) -> bytes:
    text = f"{passage.title}\n\n{passage.text}".strip()
    message = {"role": "user", "content": endpoint.prompt.replace(PLACE, text)}
    return orjson.dumps({"model": endpoint.model, "messages": [message]})


def _name(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


def _asked(endpoint: Endpoint, body: bytes) -> tuple[str, str]:
    """The name of what was asked and the answer, after as many attempts as are allowed."""
    pause = endpoint.pause
    for attempt in range(1, endpoint.attempts + 1):
        try:
            return _name(body), _answer(endpoint, body)
        except urllib.error.HTTPError as error:
            reason = f"status {error.code}, {shown(error.read(300).decode(errors='replace'))}"
            wanted = _seconds(error.headers.get("Retry-After"))
            if error.code != 429 and error.code < 500:
                cure = f"check the address, the model's name and the key ({KEY})"
                raise RocketRankError(
                    f"{endpoint.url}: {_safe(reason, endpoint)}: {cure}"
                ) from None
        except (OSError, http.client.HTTPException) as error:
            reason, wanted = str(getattr(error, "reason", error)) or type(error).__name__, 0.0
        if attempt < endpoint.attempts:
            time.sleep(min(max(pause, wanted), _LONGEST_PAUSE))
            pause *= 2
    raise RocketRankError(
        f"{endpoint.url}: no answer after {endpoint.attempts} attempts, at last "
        f"{_safe(reason, endpoint)}: run the same command again when it answers; nothing that was "
        "answered is asked again"
    )


def _answer(endpoint: Endpoint, body: bytes) -> str:
    base = endpoint.url.rstrip("/")
    url = base if base.endswith(_PATH) else base + _PATH
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(url, body, headers)
    with _OPENER.open(request, timeout=endpoint.timeout) as response:
        content = response.read(_LONGEST_ANSWER)
    try:
        text = orjson.loads(content)["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        found = _safe(shown(content[:200].decode(errors="replace")), endpoint)
        raise RocketRankError(
            f"{endpoint.url}: expected an answer with choices[0].message.content, found {found}: "
            "name the base of an OpenAI-compatible API, which often ends in /v1"
        ) from None
    return text if isinstance(text, str) else ""


def _safe(reason: str, endpoint: Endpoint) -> str:
    """Servers repeat a wrong key in their errors; it is not shown."""
    return reason.replace(endpoint.key, "…") if endpoint.key else reason


def _seconds(header: str | None) -> float:
    return float(header) if header and re.fullmatch(r"\d{1,6}", header) else 0.0


class _Ledger:
    """Answers by the names of what was asked, in JSON lines; a torn last line is cut off."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, str] = {}
        self._path = path
        with explained_write(path):
            self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115
        try:
            self._recover()
        except BaseException:
            self._file.close()
            raise

    def add(self, name: str, answer: str) -> None:
        with explained_write(self._path):
            self._file.write(
                orjson.dumps({"asked": name, "answer": answer}, option=orjson.OPT_APPEND_NEWLINE)
            )
            self._file.flush()
            os.fsync(self._file.fileno())
        self.answers[name] = answer

    def close(self) -> None:
        self._file.close()

    def _recover(self) -> None:
        end = 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self._take(line)
        with explained_write(self._path):
            self._file.truncate(end)

    def _take(self, line: bytes) -> None:
        try:
            record = orjson.loads(line)
            self.answers[record["asked"]] = record["answer"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise UsageError(
                f"{self._path}: expected answers of an endpoint, found "
                f"{shown(line[:60].decode(errors='replace'))}: move the file away"
            ) from None
