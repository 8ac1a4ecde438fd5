"""Mining lists from an index: hard negatives for labelled queries, undenoised and denoised.

The retriever fetches the top ``depth`` passages of every query, BM25 some more if wanted. An
*undenoised* list is a labelled positive with negatives drawn from them; with a re-ranker there are
*denoised* lists, whose negatives it is confident about, and promoted positives with lists of their
own (RocketQA and RocketQAv2; ``denoising.py`` has the rules). No positive of a query, labelled or
promoted, is a negative in any of its lists.

Queries go in batches, and a ledger beside the output keeps each batch that is finished: a killed
run goes on where it was and writes the same bytes as one that was not interrupted.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.records import Passage
from ..durable import write_durably
from ..errors import DataError, RocketRankError, UsageError
from ..index import Index
from ..models import Model
from ..tokenizing import tokenizer_source
from .bm25 import Bm25
from .denoising import Found, Pool, gather
from .lists import Candidate, ListsHeader, RankingList, write_lists
from .mining_ledger import MiningLedger, ledger_path
from .mining_lists import Logits, lists_of_query
from .mining_options import MiningOptions, check_mining
from .mining_queries import MiningQueries, MiningQuery
from .mining_report import MiningReport
from .mining_synthetic import as_cut, is_lost, own_scores, write_made

# A batch is what a killed run loses, an encoding what is in memory as vectors.
_QUERIES_PER_BATCH = 256
_PAIRS_PER_BATCH = 4096
_QUERIES_PER_ENCODING = 16_384


class Retriever(Protocol):
    """What mining needs of a dual encoder."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
    def encode_passages(
        self, texts: Sequence[str], titles: Sequence[str]
    ) -> NDArray[np.float32]: ...


class Reranker(Protocol):
    """What denoising needs of a cross-encoder."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class MiningSources:
    """What lists are mined with. ``tokenizer`` is the retriever's ``tokenizer_fingerprint``."""

    index: Index
    retriever: Retriever
    reranker: Reranker | None = None
    tokenizer: str = ""


class MiningResult(NamedTuple):
    """``resumed`` queries had been mined by an earlier run of the same command."""

    lists: int
    resumed: int
    report: MiningReport
    report_path: Path


def tokenizer_fingerprint(model: Model) -> str:
    """SHA-256 in hex over all that changes a text's token ids, the same for towers that share it.

    Models whose tokenizers lie in files of other bytes or names differ, even where their ids agree.
    """
    towers = {model.tower_path("query"), model.tower_path("passage")}
    found = set()
    for tower in towers:
        source = tokenizer_source(tower)
        try:
            with source.path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{source.path} cannot be read: {error.strerror}") from error
        identity = [source.path.name, content, source.options]
        found.add(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS))
    return hashlib.sha256(b"\n".join(sorted(found))).hexdigest()


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raises UsageError for a file that cannot be written, or must not be without ``overwrite``."""
    if str(output) == "-":
        raise UsageError("output (-) must be a file, beside which an unfinished run is kept")
    if output.is_dir():
        raise UsageError(f"output ({output}) is a folder: name a file in it")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"output ({output}) is in a folder that does not exist: make it first")
    if output.exists() and not overwrite and not ledger_path(output).exists():
        raise UsageError(f"{output} is there already: name another file, or use --overwrite")


def mine(
    output: Path,
    queries: MiningQueries,
    sources: MiningSources,
    options: MiningOptions,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> MiningResult:
    """Writes the lists of ``queries`` to ``output``, and a report beside it, or goes on doing so.

    A query's lists follow one another, undenoised ones first; column 0 is the positive. Raises
    UsageError for options, for an output that is there (unless ``overwrite``) and for an unfinished
    run with other options; DataError for positives that are not in the index.
    """
    check_mining(options, reranker=sources.reranker is not None)
    _check_model(sources)
    check_output(output, overwrite=overwrite)
    step = max(1, min(_QUERIES_PER_BATCH, _PAIRS_PER_BATCH // (options.depth + options.bm25_depth)))
    identity = _identity(queries.queries, sources, options, step)
    with MiningLedger(ledger_path(output), identity, restart=overwrite) as ledger:
        resumed = min(ledger.finished * step, len(queries.queries))
        if resumed < len(queries.queries):
            # A positive that is not in the index is met now, not after hours of mining.
            sources.index.check_ids([each for query in queries.queries for each in query.positives])
            miner = _Miner(sources, options, progress=progress)
            with tqdm(
                total=len(queries.queries), initial=resumed, desc="mining", disable=not progress
            ) as bar:
                for batch, vectors in _encoded(queries.queries, sources.retriever, step, resumed):
                    ledger.append(miner.mine(batch, vectors))
                    bar.update(len(batch))
        report = MiningReport()
        report.count_all("queries", queries.counts)
        if queries.made is not None:
            report.add(queries.made.as_record())
        for record in ledger.records():
            report.add(record)
        report_path = output.with_name(f"{output.stem}.report.json")
        write_durably(report_path, [report.as_json(_made_with(sources, identity))])
        count = write_lists(output, _stored_lists(ledger), _header(sources))
        synthetic = {query.id: query for query in queries.queries if query.kind}
        if synthetic:
            kept = dict.fromkeys(each.query_id for each in _stored_lists(ledger))
            write_made(output, [synthetic[each] for each in kept if each in synthetic])
        ledger.remove()
    return MiningResult(count, resumed, report, report_path)


class _Miner:
    """Mines one batch after the other; holds BM25's index of the corpus, which is made once."""

    def __init__(self, sources: MiningSources, options: MiningOptions, *, progress: bool) -> None:
        self._sources = sources
        self._options = options
        self._bm25 = _bm25_of(sources.index, progress=progress) if options.bm25_depth else None

    def mine(self, batch: Sequence[MiningQuery], vectors: NDArray[np.float32]) -> dict[str, object]:
        """The batch's lists and report, as the ledger keeps them."""
        positives = self._positives(batch)
        report = MiningReport()
        found = self._search(batch, positives, vectors, report)
        if self._options.round_trip:
            batch, positives, found = _round_trip(batch, positives, found, report)
        pools = [gather(*both) for both in zip(found, positives, strict=True)]
        lists = []
        for query, own, pool, scored in zip(
            batch, positives, pools, self._score(batch, positives, pools), strict=True
        ):
            lists += lists_of_query(query, own, pool, scored, self._options, report)
        stored = [[each.query_id, each.query, list(map(list, each.candidates))] for each in lists]
        return {"lists": stored, **report.as_record()}

    def _positives(self, batch: Sequence[MiningQuery]) -> list[list[Passage]]:
        ids = list({each: None for query in batch for each in query.positives})
        found = dict(zip(ids, self._sources.index.passages_by_id(ids), strict=True))
        return [
            [query.cut.of(found[each]) if query.cut else found[each] for each in query.positives]
            for query in batch
        ]

    def _search(
        self,
        batch: Sequence[MiningQuery],
        positives: list[list[Passage]],
        vectors: NDArray[np.float32],
        report: MiningReport,
    ) -> list[list[Found]]:
        """What the retriever found for each query, best first, and then what BM25 found."""
        index, options = self._sources.index, self._options
        own_score = own_scores(batch, positives, vectors, self._sources.retriever)
        deeper = options.depth + bool(own_score)
        result = index.search(vectors, min(deeper, len(index)))
        by_vector = [
            [(row, score) for row, score in zip(*both, strict=True) if row >= 0]
            for both in zip(result.rows.tolist(), result.scores.tolist(), strict=True)
        ]
        by_word: Sequence[Sequence[tuple[int, float]]] = [()] * len(batch)
        if self._bm25 is not None:
            by_word = self._bm25.search([query.text for query in batch], options.bm25_depth)
        rows = sorted({row for hits in (*by_vector, *by_word) for row, _ in hits})
        passages = dict(zip(rows, index.passages(rows), strict=True))
        found: list[list[Found]] = [[] for _ in batch]
        searches = (("retriever", by_vector, options.depth), ("bm25", by_word, options.bm25_depth))
        for name, searched, depth in searches:
            for own, query, labelled, rows_scores in zip(
                found, batch, positives, searched, strict=True
            ):
                hits = [(passages[row], score) for row, score in rows_scores]
                placed = None
                if name == "retriever" and query.id in own_score:
                    placed = labelled[0], own_score[query.id]
                kept = as_cut(query, hits, placed, depth)
                report.count("candidates", name, len(kept))
                for rank, (passage, score) in enumerate(kept, start=1):
                    own.append(Found(passage, score, f"{name}:{rank}"))
        return found

    def _score(
        self, batch: Sequence[MiningQuery], positives: list[list[Passage]], pools: list[Pool]
    ) -> list[Logits | None]:
        reranker = self._sources.reranker
        if reranker is None or not batch:
            return [None] * len(batch)
        read = [
            [*own, *(each.passage for each in pool.candidates)]
            for own, pool in zip(positives, pools, strict=True)
        ]
        pairs = [
            (query.text, passage.full_text)
            for query, passages in zip(batch, read, strict=True)
            for passage in passages
        ]
        logits = reranker.score(pairs)
        if not np.isfinite(logits).all():
            bad = pairs[int(np.flatnonzero(~np.isfinite(logits))[0])]
            raise RocketRankError(
                f"{reranker.name}: expected finite scores, found another for the query "
                f"{bad[0]!r}: try --precision fp32, or another re-ranker"
            )
        ends = np.cumsum([len(passages) for passages in read])[:-1]
        return [
            Logits(part[: len(own)], part[len(own) :])
            for own, part in zip(positives, np.split(logits, ends), strict=True)
        ]


def _round_trip(
    batch: Sequence[MiningQuery],
    positives: list[list[Passage]],
    found: list[list[Found]],
    report: MiningReport,
) -> tuple[list[MiningQuery], list[list[Passage]], list[list[Found]]]:
    """Without synthetic queries whose passage the retriever does not find; they are counted."""
    kept = []
    for each in zip(batch, positives, found, strict=True):
        query, own, hits = each
        if query.kind is not None and is_lost(query, hits):
            report.count_synthetic(query.kind, "not_found", query.text, own[0])
        else:
            kept.append(each)
    return [each[0] for each in kept], [each[1] for each in kept], [each[2] for each in kept]


def _check_model(sources: MiningSources) -> None:
    index, retriever = sources.index, sources.retriever
    if retriever.fingerprint != index.fingerprint:
        raise RocketRankError(
            f"the index was built with another model ({index.model_name}, fingerprint "
            f"{index.fingerprint[:12]}) than {retriever.name} (fingerprint "
            f"{retriever.fingerprint[:12]}), and vectors of two models cannot be compared: mine "
            "with the index's own model, or build the index again"
        )


def _identity(
    queries: Sequence[MiningQuery], sources: MiningSources, options: MiningOptions, step: int
) -> dict[str, object]:
    """All that the lists depend on, under names for a sentence; long hashes by their beginning."""
    asked = hashlib.sha256()
    for query in queries:
        content: list[object] = [query.id, query.text, query.positives, sorted(query.irrelevant)]
        if query.kind is not None:
            content += [query.kind, query.cut and [*query.cut]]
        asked.update(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
    indexed = hashlib.sha256("".join(f.sha256 for f in sources.index.manifest.files()).encode())
    return {
        "lists": options.lists,
        "depth": options.depth,
        "negatives": options.negatives,
        "bm25": options.bm25_depth,
        "low": options.limits.low,
        "high": options.limits.high,
        "pseudo_positives": options.pseudo_positives,
        "seed": options.seed,
        "with_text": options.with_text,
        "precision": options.precision,
        "round_trip": options.round_trip,
        "queries_and_judgements": asked.hexdigest()[:16],
        "index": indexed.hexdigest()[:16],
        "retriever": sources.retriever.fingerprint[:16],
        "reranker": sources.reranker.fingerprint[:16] if sources.reranker else "",
        "queries_a_batch": step,
    }


def _encoded(
    queries: Sequence[MiningQuery], retriever: Retriever, step: int, done: int
) -> Iterator[tuple[Sequence[MiningQuery], NDArray[np.float32]]]:
    """Batches of ``step`` queries with their vectors, from query ``done`` on.

    Many batches are encoded at once, because sorting by length pays, and always the same ones
    together: in bf16 a vector depends on the others of its batch.
    """
    portion = step * (_QUERIES_PER_ENCODING // step)
    for start in range(done // portion * portion, len(queries), portion):
        part = queries[start : start + portion]
        vectors = retriever.encode_queries([query.text for query in part])
        for place in range(max(0, done - start), len(part), step):
            yield part[place : place + step], vectors[place : place + step]


def _bm25_of(index: Index, *, progress: bool) -> Bm25:
    passages = index.live_passages()
    return Bm25(tqdm(passages, total=len(index), desc="BM25", disable=not progress))


def _made_with(sources: MiningSources, identity: dict[str, object]) -> dict[str, object]:
    """For the report: what it was made with, models and index by their names too."""
    models = {
        "retriever": _named(sources.retriever),
        "reranker": _named(sources.reranker) if sources.reranker else "",
    }
    return {**identity, **models, "index_folder": str(sources.index.directory.absolute())}


def _named(model: Retriever | Reranker) -> str:
    return f"{model.name} (fingerprint {model.fingerprint[:12]})"


def _stored_lists(ledger: MiningLedger) -> Iterator[RankingList]:
    for record in ledger.records():
        for query_id, query, candidates in record["lists"]:
            yield RankingList(query_id, query, tuple(Candidate(*each) for each in candidates))


def _header(sources: MiningSources) -> ListsHeader:
    return ListsHeader(
        tokenizer=sources.tokenizer,
        index=str(sources.index.directory.absolute()),
        retriever=_named(sources.retriever),
        reranker=_named(sources.reranker) if sources.reranker else "",
    )
