"""``rq demo``: index the documentation of the Python that is running and ask it three questions.

Its second act, ``rq demo --train``, is in ``demo_train.py``.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RocketRankError
from .show import in_words, print_hits, style_of_output

if TYPE_CHECKING:
    from ..data.records import Passage

QUESTIONS = (
    "how do I read a file line by line",
    "run two coroutines at the same time",
    "what happens to a finally block when return is used",
)
HITS = 3


def demo(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where corpus and index are kept.")
    ] = Path("demo"),
    train: Annotated[
        bool,
        typer.Option("--train", help="The second act: train both models on the documentation."),
    ] = False,
) -> None:
    """Try it out.

    Indexes Python's own documentation with minilm and asks it three questions.

    With --train it trains a retriever and a re-ranker instead, about three minutes long, on the
    docstrings' first sentences, and measures on held-out ones what that has changed.

    The first run takes a few minutes; a second one opens what is there.
    """
    corpus = directory / "corpus.jsonl"
    directory.mkdir(parents=True, exist_ok=True)
    if not corpus.exists():
        started = time.perf_counter()
        count = _write_corpus(corpus)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        say(
            f"Wrote {corpus}: {in_words(count, 'passage')} of Python {version}'s documentation",
            started,
        )
    if train:
        from .demo_train import Extent, train_demo

        train_demo(corpus, directory / "train", Extent())
    else:
        _search(corpus, directory / "index")


def _search(corpus: Path, index: Path) -> None:
    from ..engine import SearchEngine

    if not (index / "manifest.json").exists():
        started = time.perf_counter()
        say(f"Indexing {corpus} with minilm; this takes a few minutes")
        count = build(corpus, index)
        say(f"Indexed {in_words(count, 'passage')} into {index}", started)
    started = time.perf_counter()
    try:
        opened = SearchEngine.open(index)
    except RocketRankError as error:
        raise RocketRankError(
            f"{error} (here: remove {index}, and rq demo makes it anew)"
        ) from error
    with opened as engine:
        say(f"Opened {index}", started)
        for question in QUESTIONS:
            started = time.perf_counter()
            hits = engine.search(question, k=HITS)
            say(f"\n{question}?", started)
            print_hits(hits, question, style_of_output())
    command = own_command()
    print(
        f'\nNow ask your own:      {command} search "how do I sort a list by key" --index {index}'
    )
    print(f"Or line after line:    {command} search --index {index}")
    print(f"Or index your corpus:  {command} index FILE… --index my.index")


def say(sentence: str, since: float | None = None) -> None:
    """Print a sentence, with the seconds ``since`` that reading of the clock."""
    took = "" if since is None else f" ({time.perf_counter() - since:.1f} s)"
    print(f"{sentence}{took}{':' if sentence.endswith('?') else '.'}", flush=True)


def own_command() -> str:
    """``rq`` as one would type it here."""
    return "rq" if sys.prefix == sys.base_prefix else f"{_shown(Path(sys.prefix))}/bin/rq"


def _shown(path: Path) -> Path:
    """A path as one would type it here: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _write_corpus(path: Path) -> int:
    """Write the documentation as JSON lines, complete or not at all; returns how many passages."""
    from ..data.python_docs import python_documentation

    return write_passages(path, python_documentation())


def write_passages(path: Path, passages: "Iterable[Passage]") -> int:
    """Write a corpus that ``rq index`` reads; returns how many passages."""
    import orjson

    from ..durable import write_durably

    lines = []
    for passage in passages:
        record = {**passage._asdict(), "metadata": dict(passage.metadata)}
        lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    write_durably(path, lines, alone=True)
    return len(lines)


def build(corpus: Path, index: Path, model: str | Path = "minilm") -> int:
    """Index a corpus, or go on with it; returns how many passages."""
    from ..data.corpus import CorpusReader
    from ..index import BuildOptions, build_index
    from ..retriever import DualEncoder

    encoder = DualEncoder.load(model)
    progress = sys.stderr.isatty()
    report = build_index(index, CorpusReader([corpus]), encoder, BuildOptions(), progress=progress)
    return report.passages
