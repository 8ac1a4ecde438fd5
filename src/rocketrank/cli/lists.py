"""``rq lists``: training lists out of the training files of other tools."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import DataError, UsageError
from . import options
from .show import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..training.lists import ListsHeader, RankingList


@dataclass
class _Tally:
    """What has been written and what not."""

    lists: int = 0
    positives: int = 0
    negatives: int = 0
    queries: set[str] = field(default_factory=set)
    sources: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


def lists(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files to read, also .gz, .zst and .xz; - is stdin."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where the lists are written.")
    ],
    format: Annotated[
        Literal[
            "auto",
            "rocketrank",
            "rocketqa",
            "msmarco-triples",
            "msmarco-ids",
            "candidates",
            "dpr",
            "tevatron",
            "flagembedding",
            "qrels",
            "run",
        ],
        typer.Option("--format", help="How to read the files; auto looks at their first lines."),
    ] = "auto",
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries", metavar="FILE", help="Texts of the queries, for files that have their ids."
        ),
    ] = None,
    qrels: Annotated[
        str | None,
        typer.Option(
            "--qrels",
            metavar="FILE",
            help="Judgements: the positives of a run; in other lists never negatives.",
        ),
    ] = None,
) -> None:
    """Make training lists.

    Files of RocketQA, MS MARCO, DPR, Tevatron, FlagEmbedding, judgements or runs become lists of a
    query's positives and negatives, in the format that rq mine and rq train read.

    Lists without a positive are left out, and so are lists of a single candidate, unless they come
    from judgements alone: such lists wait for negatives.
    """
    import sys

    from tqdm import tqdm

    from ..training.list_formats import open_lists
    from ..training.lists import write_lists

    options.refuse_empty("--queries", queries)
    options.refuse_empty("--qrels", qrels)
    _check(files, output)
    opened = [open_lists(file, format=format, queries=queries, qrels=qrels) for file in files]
    tally = _Tally()
    kept = (each for one in opened for each in _kept(one.lists, one.format == "qrels", tally))
    bar = tqdm(kept, unit=" lists", unit_scale=True, disable=not sys.stderr.isatty())
    own = [file for file, one in zip(files, opened, strict=True) if one.format == "rocketrank"]
    header = _common_header(own) if len(own) == len(files) else None
    write_lists(output, _some(bar, files, tally), header)
    for line in _summary(output, tally):
        print(line)


def _check(files: list[str], output: Path) -> None:
    """Refuse what cannot be written, before anything is read."""
    if str(output) == "-":
        raise UsageError("--output (-) must be a file; standard output tells what was written")
    if output.is_dir():
        raise UsageError(f"--output ({output}) is a folder; name a file in it")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output ({output}) is in a folder that does not exist; make it first")
    if files.count("-") > 1:
        raise UsageError("standard input (-) can be read only once; name it once")


def _kept(
    lists: "Iterable[RankingList]", may_be_single: bool, tally: _Tally
) -> "Iterator[RankingList]":
    from ..training.lists import defect

    for each in lists:
        reason = defect(each)
        if reason == "without a positive" or (reason and not may_be_single):
            tally.dropped[reason] += 1
            continue
        tally.lists += 1
        tally.queries.add(each.query_id)
        tally.positives += len(each.positives)
        tally.negatives += len(each.negatives)
        for candidate in each.candidates:
            # "bm25:7" is the seventh of bm25, "dpr:negative_ctxs" a source of its own.
            name, _, rank = candidate.source.rpartition(":")
            tally.sources[name if rank.isdecimal() else candidate.source] += 1
        yield each


def _some(
    lists: "Iterable[RankingList]", files: list[str], tally: _Tally
) -> "Iterator[RankingList]":
    """The lists; an error after them when there was none, so that no empty file is left."""
    yield from lists
    if not tally.lists:
        dropped = "; ".join(f"{in_words(n, 'list')} {why}" for why, n in tally.dropped.items())
        raise DataError(
            f"{', '.join(files)}: expected lists with a positive and another candidate, found "
            f"{dropped or 'no list at all'}"
        )


def _common_header(files: list[str]) -> "ListsHeader | None":
    """What the headers of all files say alike; a header cannot be read twice from a pipe."""
    from ..training.lists import ListsHeader, read_header

    if not all(Path(file).is_file() for file in files):
        return None
    headers = [read_header(file) or ListsHeader() for file in files]
    common = [values[0] if len(set(values)) == 1 else "" for values in zip(*headers, strict=True)]
    return ListsHeader(*common) if any(common) else None


def _summary(output: Path, tally: _Tally) -> list[str]:
    queries = len(tally.queries)
    made = (
        f"{in_words(tally.lists, 'list')} of "
        f"{'1 query' if queries == 1 else f'{queries:,} queries'}, "
        f"{in_words(tally.positives, 'positive')}, {in_words(tally.negatives, 'negative')}"
    )
    named = (f"{name or 'unknown'} {count:,}" for name, count in tally.sources.most_common())
    dropped = (f"Left out {in_words(n, 'list')} {why}." for why, n in tally.dropped.most_common())
    return [f"Wrote {output}: {made}.", *dropped, f"Sources: {', '.join(named)}."]
