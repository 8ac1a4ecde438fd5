"""Data sets from ir_datasets, which downloads them, as files like those of a BEIR download."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from ..durable import make_folder, write_durably
from ..errors import MissingDependencyError, RocketRankError

T = TypeVar("T")
_LONGEST_REASON = 200


class Source(Protocol):
    """What is read of an ir_datasets data set; its records are named tuples."""

    def docs_iter(self) -> Iterable[Any]: ...
    def queries_iter(self) -> Iterable[Any]: ...
    def qrels_iter(self) -> Iterable[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Download:
    """A split to be had from ir_datasets, where it is called ``name``, for ``folder``.

    ``judged`` says whether it has judgements; ``by_hand`` is how to do without ir_datasets, as the
    end of a sentence.
    """

    name: str
    folder: Path
    split: str
    judged: bool
    by_hand: str

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus.jsonl"

    @property
    def queries(self) -> Path:
        return self.folder / f"queries.{self.split.replace('/', '.')}.jsonl"

    @property
    def qrels(self) -> Path | None:
        return (
            self.folder / "qrels" / f"{self.split.replace('/', '.')}.tsv" if self.judged else None
        )


def open_source(download: Download) -> Source:
    """The data set in ir_datasets; nothing is downloaded yet.

    Raises MissingDependencyError without ir_datasets, RocketRankError when it cannot load the set.
    """
    try:
        library: Any = importlib.import_module("ir_datasets")
    except ImportError:
        raise MissingDependencyError(
            f"{download.name} cannot be downloaded without ir_datasets: pip install "
            f"'rocketrank[datasets]', or {download.by_hand}"
        ) from None
    load: Callable[[], Iterable[Source]] = lambda: [library.load(download.name)]  # noqa: E731
    return next(_explained(load, download))


def export(download: Download, open_source: Callable[[Download], Source] = open_source) -> None:
    """Write those files of a split that are not there yet; the corpus serves all splits.

    A file appears when it is complete, so a killed export goes on with the file it was at. The
    source is opened only when a file is missing. Raises RocketRankError when the source fails, by
    a network that is not there for example, and when a file cannot be written.
    """
    lines: dict[Path | None, Callable[[Source], Iterator[bytes]]] = {
        # The small ones first: what is wrong with the network shows before hours of work.
        download.qrels: lambda source: _qrels_lines(_explained(source.qrels_iter, download)),
        download.queries: lambda source: map(
            _query_line, _explained(source.queries_iter, download)
        ),
        download.corpus: lambda source: map(_passage_line, _explained(source.docs_iter, download)),
    }
    missing = [path for path in lines if path and not path.exists()]
    if not missing:
        return
    source = open_source(download)
    for path in missing:
        make_folder(path.parent)
        write_durably(path, lines[path](source))


def _passage_line(record: Any) -> bytes:
    passage = {"_id": record.doc_id, "title": getattr(record, "title", ""), "text": record.text}
    return orjson.dumps(passage, option=orjson.OPT_APPEND_NEWLINE)


def _query_line(record: Any) -> bytes:
    query = {"_id": record.query_id, "text": record.text}
    if answers := getattr(record, "answers", None):
        query["answers"] = list(answers)
    return orjson.dumps(query, option=orjson.OPT_APPEND_NEWLINE)


def _qrels_lines(records: Iterable[Any]) -> Iterator[bytes]:
    yield b"query-id\tcorpus-id\tscore\n"
    for record in records:
        yield f"{record.query_id}\t{record.doc_id}\t{record.relevance}\n".encode()


def _explained(records: Callable[[], Iterable[T]], download: Download) -> Iterator[T]:
    """The records; whatever ir_datasets raises becomes one sentence."""
    try:
        yield from records()
    except Exception as error:
        raise RocketRankError(
            f"{download.name} could not be downloaded by ir_datasets ({_reason(error)}): try "
            f"again, or {download.by_hand}"
        ) from error


def _reason(error: Exception) -> str:
    """In a few words: the text of a failed connection is a page of nested calls."""
    if "ConnectionError" in repr(error):
        return "its servers cannot be reached"
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
