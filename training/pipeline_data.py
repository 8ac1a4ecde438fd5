"""The files that a pipeline starts from: checked, identified, and split into training and dev.

The queries that are held out are written down with their judgements, so that every stage holds out
the same ones: ``train.queries.jsonl``, ``train.qrels``, ``dev.queries.jsonl`` and ``dev.qrels``.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..data.corpus import CorpusReader, check_corpus_paths
from ..data.lines import check_paths, shown
from ..data.qrels import read_qrels
from ..data.queries import read_queries
from ..data.records import Judgement, Query
from ..data.runs import read_run
from ..durable import sha256_of, write_durably
from ..errors import DataError, UsageError
from ..eval.fusion import DEPTHS
from ..two_stage import Scores
from .dev import drawn_queries
from .list_formats import read_any_lists
from .lists import RankingList
from .mining_queries import select_queries
from .recipe import DataSection, Recipe

_log = logging.getLogger(__name__)

DEPTH = max(DEPTHS)
"""How many passages of stage one are measured, and re-ranked to choose a depth."""
TRAIN, DEV, TEST = "train", "dev", "test"
_FILES = (
    "corpus",
    "queries",
    "qrels",
    "candidates",
    "endpoint_prompt",
    "dev_queries",
    "dev_qrels",
    "dev_run",
    "test_queries",
    "test_qrels",
    "test_run",
)
_NO_COLUMN = re.compile(r"[\t\r\n]")


class Judged(NamedTuple):
    """Texts of queries by id, their judgements (passage id → grade), and a run to re-rank."""

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    run: Scores | None = None

    @property
    def positives(self) -> set[str]:
        return {each for own in self.qrels.values() for each, grade in own.items() if grade > 0}


def files_of(data: DataSection, folder: Path) -> dict[str, list[Path]]:
    """The files that the recipe names, by their keys."""
    found: dict[str, list[Path]] = {}
    for key in _FILES:
        names: str | tuple[str, ...] = getattr(data, key)
        if names:
            each = [names] if isinstance(names, str) else names
            found[f"data.{key}"] = [folder / name for name in each]
    return found


def check_files(data: DataSection, folder: Path) -> None:
    """Raises UsageError where the recipe names too little for a pipeline, or a file is missing."""
    if not data.corpus:
        raise UsageError(
            "data.corpus is empty, but a pipeline indexes a corpus: name its files, such as "
            "--set data.corpus=corpus.jsonl"
        )
    if not data.candidates and not data.synthesize and not (data.queries and data.qrels):
        key = "data.qrels" if data.queries else "data.queries"
        raise UsageError(
            f"{key} is empty, so there is nothing to train on: name training queries "
            "(data.queries) with their judgements (data.qrels), or ready lists (data.candidates), "
            "or have queries made from the corpus (data.synthesize)"
        )
    for key, paths in files_of(data, folder).items():
        try:
            (check_corpus_paths if key == "data.corpus" else check_paths)(paths)
        except UsageError as error:
            raise UsageError(f"{key}: {error}, or give its folder with --data") from None


def identity_of(data: DataSection, folder: Path) -> dict[str, Any]:
    """What tells the files from others: sizes, and hashes except of the corpus.

    A corpus may be large, and an unfinished index compares it, passage by passage, by itself.
    Where queries are made, test files give figures and nothing else: they are left out.
    """
    return {
        key: [
            {"bytes": None if path.is_dir() else path.stat().st_size}
            | ({} if key == "data.corpus" else {"sha256": sha256_of(path)})
            for path in paths
        ]
        for key, paths in files_of(data, folder).items()
        if not (data.synthesize and key.startswith(f"data.{TEST}_"))
    }


def read_candidates(data: DataSection, folder: Path) -> Iterator[RankingList]:
    """The lists of ``data.candidates``, without judged positives among their negatives."""
    return read_any_lists(
        folder / data.candidates,
        queries=folder / data.queries if data.queries else None,
        qrels=folder / data.qrels if data.qrels else None,
    )


def split(recipe: Recipe, folder: Path, output: Path, *, mines: bool) -> None:
    """Write the judged queries to train on and those held out; ``dev.qrels`` is written last.

    All that later steps look up is looked for here, once: texts of queries, the passages of runs,
    of candidates and, where lists are mined, the labelled positives. Raises DataError.
    """
    data = recipe.data
    queries, judgements, listed = _training(data, folder)
    known = select_queries(queries, judgements).queries
    held_out: frozenset[str] = frozenset()
    if data.dev_queries:
        dev_queries, dev_judgements = _judged_queries(data, folder, DEV)
    else:
        held_out = drawn_queries([each.id for each in known], data.dev_share, recipe.seed)
        dev_queries = {each.id: each.text for each in known if each.id in held_out}
        dev_judgements = judgements
    train = [each for each in known if each.id not in held_out]
    if not train:
        raise DataError(
            f"expected judged queries to train on, found {len(known)}, all of which are held out: "
            "give more, or hold out a smaller share (data.dev_share)"
        )
    if data.test_queries:
        _judged_queries(data, folder, TEST)
    positives = [each for query in train for each in query.positives] if mines else []
    wanted = {"data.qrels" if data.qrels else "data.candidates": positives}
    wanted.setdefault("data.candidates", []).extend(listed)
    if data.dev_run:
        wanted["data.dev_run"] = _passages_of(folder / data.dev_run, dev_queries, data)
    if data.test_run:
        asked = read_test(data, folder).queries
        wanted["data.test_run"] = _passages_of(folder / data.test_run, asked, data)
    _check_passages(data, folder, wanted)
    train_queries = {each.id: each.text for each in train}
    write_part(output, TRAIN, train_queries, judgements)
    write_part(output, DEV, dev_queries, dev_judgements)
    _log.info("%d training queries, %d dev queries", len(train_queries), len(dev_queries))


def read_part(output: Path, part: str) -> Judged:
    """The queries of ``split``, ``train`` or ``dev``."""
    queries = {each.id: each.text for each in read_queries(output / f"{part}.queries.jsonl")}
    return Judged(queries, _by_query(read_qrels(output / f"{part}.qrels"), queries))


def read_test(data: DataSection, folder: Path) -> Judged:
    """The judged test queries, those without a text left out (``split`` has told of them)."""
    queries = {each.id: each.text for each in read_queries(folder / data.test_queries)}
    qrels = _by_query(read_qrels(folder / data.test_qrels), queries)
    return Judged({each: queries[each] for each in qrels}, qrels)


def read_first(path: Path, queries: Collection[str], depth: int) -> Scores:
    """The best ``depth`` passages of a run for each of ``queries``; none for one it lacks."""
    found: Scores = {query_id: {} for query_id in queries}
    for entry in read_run(path):
        if entry.query_id in found:
            found[entry.query_id][entry.passage_id] = entry.score
    # sorted is stable: equal scores stay in the order of the file
    return {
        query_id: dict(sorted(scores.items(), key=lambda each: -each[1])[:depth])
        for query_id, scores in found.items()
    }


def _training(data: DataSection, folder: Path) -> tuple[list[Query], list[Judgement], list[str]]:
    """Queries, judgements, and the ids of candidates that have no text of their own."""
    texts: dict[str, str] = {}
    labels: dict[Judgement, None] = {}
    listed: dict[str, None] = {}
    for each in read_candidates(data, folder) if data.candidates else ():
        texts.setdefault(each.query_id, each.query)
        for candidate in each.candidates:
            if candidate.text is None:
                listed[candidate.id] = None
            if candidate.label:
                labels[Judgement(each.query_id, candidate.id, 1)] = None
    if data.queries:
        queries = list(read_queries(folder / data.queries))
    else:
        queries = [Query(query_id, text) for query_id, text in texts.items()]
    judgements = list(read_qrels(folder / data.qrels)) if data.qrels else list(labels)
    return queries, judgements, list(listed)


def _judged_queries(
    data: DataSection, folder: Path, part: str
) -> tuple[dict[str, str], list[Judgement]]:
    """The queries of dev or test files that have a positive, and all the judgements."""
    judgements = list(read_qrels(folder / getattr(data, f"{part}_qrels")))
    queries = read_queries(folder / getattr(data, f"{part}_queries"))
    try:
        known = select_queries(queries, judgements).queries
    except DataError as error:
        raise DataError(f"data.{part}_qrels: {error}") from None
    return {each.id: each.text for each in known}, judgements


def _passages_of(run: Path, queries: Collection[str], data: DataSection) -> list[str]:
    found = read_first(run, queries, max(DEPTH, data.dev_depth))
    return [each for scores in found.values() for each in scores]


def _check_passages(data: DataSection, folder: Path, wanted: Mapping[str, list[str]]) -> None:
    """Raises DataError where the corpus lacks a passage that the files of a key speak of."""
    sought = {each for ids in wanted.values() for each in ids}
    corpus = CorpusReader([folder / name for name in data.corpus])
    found = {passage.id for passage in corpus if passage.id in sought}
    for key, ids in wanted.items():
        distinct = dict.fromkeys(ids)
        missing = [each for each in distinct if each not in found]
        if missing:
            raise DataError(
                f"{key}: expected ids of passages that are in the corpus "
                f"({', '.join(data.corpus)}), found {shown(missing[0])} ({len(missing):,} of "
                f"{len(distinct):,} are missing): name the corpus that the ids come from"
            )


def write_part(
    output: Path, part: str, queries: Mapping[str, str], judgements: Iterable[Judgement]
) -> None:
    """Write queries and those of ``judgements`` that are about them. Raises DataError."""

    def qrels() -> Iterator[bytes]:
        yield b"query-id\tcorpus-id\tscore\n"  # BEIR's: paths of documents may have blanks
        for query_id, passage_id, relevance in judgements:
            if query_id not in queries:
                continue
            for each in (query_id, passage_id):
                if _NO_COLUMN.search(each):
                    raise DataError(
                        f"{output / f'{part}.qrels'}: expected ids without tabs and line ends, "
                        f"which part its columns, found {shown(each)}: give it another id"
                    )
            yield f"{query_id}\t{passage_id}\t{relevance}\n".encode()

    records = ({"_id": query_id, "text": text} for query_id, text in queries.items())
    lines = (orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in records)
    write_durably(output / f"{part}.queries.jsonl", lines)
    write_durably(output / f"{part}.qrels", qrels())


def _by_query(
    judgements: Iterable[Judgement], queries: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for query_id, passage_id, relevance in judgements:
        if query_id in queries:
            found[query_id][passage_id] = relevance
    return dict(found)
