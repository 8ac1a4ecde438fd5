"""``rq demo``: index the documentation of the Python that is running and ask it three questions."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import RocketRankError
from .show import in_words, print_hits, style_of_output

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
) -> None:
    """Try it out.

    Indexes Python's own documentation with minilm and asks it three questions.

    The first run takes a few minutes; a second one opens the index that is there.
    """
    from ..engine import SearchEngine

    corpus, index = directory / "corpus.jsonl", directory / "index"
    directory.mkdir(parents=True, exist_ok=True)
    if not corpus.exists():
        started = time.perf_counter()
        count = _write_corpus(corpus)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        _say(
            f"Wrote {corpus}: {in_words(count, 'passage')} of Python {version}'s documentation",
            started,
        )
    if not (index / "manifest.json").exists():
        started = time.perf_counter()
        _say(f"Indexing {corpus} with minilm; this takes a few minutes")
        count = _build(corpus, index)
        _say(f"Indexed {in_words(count, 'passage')} into {index}", started)
    started = time.perf_counter()
    try:
        opened = SearchEngine.open(index)
    except RocketRankError as error:
        raise RocketRankError(
            f"{error} (here: remove {index}, and rq demo makes it anew)"
        ) from error
    with opened as engine:
        _say(f"Opened {index}", started)
        for question in QUESTIONS:
            started = time.perf_counter()
            hits = engine.search(question, k=HITS)
            _say(f"\n{question}?", started)
            print_hits(hits, question, style_of_output())
    command = "rq" if sys.prefix == sys.base_prefix else f"{_shown(Path(sys.prefix))}/bin/rq"
    print(
        f'\nNow ask your own:      {command} search "how do I sort a list by key" --index {index}'
    )
    print(f"Or line after line:    {command} search --index {index}")
    print(f"Or index your corpus:  {command} index FILE… --index my.index")


def _say(sentence: str, since: float | None = None) -> None:
    took = "" if since is None else f" ({time.perf_counter() - since:.1f} s)"
    print(f"{sentence}{took}{':' if sentence.endswith('?') else '.'}", flush=True)


def _shown(path: Path) -> Path:
    """A path as one would type it here: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _write_corpus(path: Path) -> int:
    """Write the documentation as JSON lines, complete or not at all; returns how many passages."""
    import orjson

    from ..data.python_docs import python_documentation
    from ..durable import write_durably

    lines = []
    for passage in python_documentation():
        record = {**passage._asdict(), "metadata": dict(passage.metadata)}
        lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    write_durably(path, lines, alone=True)
    return len(lines)


def _build(corpus: Path, index: Path) -> int:
    from ..data.corpus import CorpusReader
    from ..index import BuildOptions, build_index
    from ..retriever import DualEncoder

    encoder = DualEncoder.load("minilm")
    progress = sys.stderr.isatty()
    report = build_index(index, CorpusReader([corpus]), encoder, BuildOptions(), progress=progress)
    return report.passages
