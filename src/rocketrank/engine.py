"""Two-stage search: a retriever over an index, then a re-ranker over what it found."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .data.records import Passage
from .errors import RocketRankError, UsageError
from .model_settings import Calibration
from .search_options import (
    HYBRID_WEIGHT,
    FirstStage,
    Fuse,
    Group,
    SearchOptions,
    check_first_stage,
    check_fuse,
    check_group,
    check_hybrid_weight,
    check_least,
    check_queries,
    check_rerank_ms,
    check_search_options,
)
from .stages import (
    Hit,
    Least,
    PassageIndex,
    Request,
    Reranker,
    Retriever,
    best_of_documents,
    describe,
    fitting,
    rerank,
    rerank_in_time,
    retrieve,
    retrieve_documents,
)

if TYPE_CHECKING:
    from .index import ChangeReport
    from .inference import EngineName, Precision

_log = logging.getLogger(__name__)

# How much is in memory at once while many queries are searched.
_QUERIES_PER_ENCODING = 16_384
_QUERIES_PER_STEP = 256
_HITS_PER_STEP = 65_536
_PAIRS_PER_STEP = 8192


class SearchEngine:
    """An open index with its retriever and, if wanted, a re-ranker. A context manager.

    ``fusion`` is the re-ranker's own weight for the retriever's score: what ``fuse="auto"`` means.
    ``calibration`` makes probabilities of the last stage's scores. ``hybrid_weight`` is the share
    that the scores by vectors have in a hybrid first stage, from 0 to 1.
    """

    def __init__(
        self,
        index: PassageIndex,
        retriever: Retriever,
        reranker: Reranker | None = None,
        *,
        fusion: float | None = None,
        calibration: Calibration | None = None,
        hybrid_weight: float = HYBRID_WEIGHT,
    ) -> None:
        check_hybrid_weight(hybrid_weight)
        _check_model(index.model_name, index.fingerprint, retriever)
        self.index = index
        self.retriever = retriever
        self.reranker = reranker
        self.fusion = fusion
        self.calibration = calibration
        self.hybrid_weight = hybrid_weight
        self._changing = threading.Lock()

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str | Path | None = None,
        reranker: str | Path | None = None,
        device: str = "cpu",
        index_device: str | None = None,
        index_float16: bool = False,
        precision: "Precision" = "auto",
        engine: "EngineName" = "auto",
        threads: int | None = None,
        effort: float = 1.0,
        refine: int | None = None,
        hybrid_weight: float = HYBRID_WEIGHT,
    ) -> "SearchEngine":
        """Open the index in the folder ``index`` with the model that filled it.

        ``model`` names that model where it has moved; another model is refused. ``reranker``
        names a cross-encoder for the second stage; the weight in its ``rocketrank.json`` becomes
        :attr:`fusion`, and the calibration in that of the last stage's model :attr:`calibration`.
        ``effort`` multiplies how much of an approximate structure a search visits, ``refine`` is
        how many of a lossy one's candidates are scored again from the stored vectors (see
        :class:`~rocketrank.index.Effort`). ``index_device`` (cpu, gpu, gpu:N, gpu:N,M) is where the
        index is searched, by default where the models run; ``index_float16`` halves the vectors of
        a flat index there. Raises RocketRankError, one sentence.
        """
        check_hybrid_weight(hybrid_weight)
        from .index import Effort, Index, gpu_options_of
        from .inference import choose_runtime
        from .models import open_model
        from .reranker import CrossEncoder
        from .retriever import DualEncoder

        # What this machine cannot do is refused before anything is opened.
        runtime = choose_runtime(device=device, precision=precision, engine=engine, threads=threads)
        gpus = gpu_options_of(device, index_device, float16=index_float16)
        hard = Effort(factor=effort, refine=refine)
        opened = Index.open(Path(index), threads=threads, effort=hard, gpus=gpus)
        kinds = {each.structure.kind for each in opened.manifest.segments}
        if hard != Effort() and kinds == {"flat"}:
            _log.warning("%s is flat and searched whole: effort and refine change nothing", index)
        try:
            try:
                first = open_model(model or opened.model_name, role="dual-encoder")
            except RocketRankError as error:
                if model:
                    raise
                raise RocketRankError(
                    f"the model that filled {index} cannot be opened ({error}); "
                    "if it has moved, say where with --model"
                ) from error
            second = open_model(reranker, role="cross-encoder") if reranker else None
            return cls(
                opened,
                DualEncoder(first, runtime),
                CrossEncoder(second, runtime) if second else None,
                fusion=second.settings.fusion if second else None,
                calibration=(second or first).settings.calibration,
                hybrid_weight=hybrid_weight,
            )
        except BaseException:
            opened.close()
            raise

    def without_reranker(self) -> "SearchEngine":
        """The first stage alone, over the same index."""
        return SearchEngine(self.index, self.retriever, hybrid_weight=self.hybrid_weight)

    def fusion_weight(self, fuse: Fuse | None) -> float | None:
        """The weight that ``fuse`` means here: itself, or :attr:`fusion` for "auto".

        Raises UsageError where there is no re-ranker, or "auto" and no weight kept with it.
        """
        check_fuse(fuse)
        if fuse is None:
            return None
        if self.reranker is None:
            raise UsageError(
                f"fuse ({fuse}) needs a re-ranker, whose scores it adds to: open one or leave fuse "
                "out"
            )
        if fuse != "auto":
            return float(fuse)
        if self.fusion is None:
            raise UsageError(
                "fuse is auto, but the re-ranker keeps no weight: give a number, or choose one "
                "on dev judgements with `rq eval --tune-fusion --save`"
            )
        check_fuse(self.fusion)
        return self.fusion

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        rerank_depth: int | None = None,
        fuse: Fuse | None = None,
        where: str | None = None,
        first_stage: FirstStage = "dense",
        group: Group | None = None,
        rerank_ms: float | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
    ) -> list[Hit]:
        """The best ``k`` passages for one query, best first; fewer when the index has fewer.

        With a re-ranker the first ``rerank_depth`` (default: the larger of 100 and k) of stage one
        are scored again, and the best ``k`` of those come back. Equal scores: the passage that was
        indexed first comes first.

        With ``fuse`` the second stage's score is ``reranker_score + fuse * retriever_score``; the
        retriever's score is multiplied as the index gives it (an inner product; a cosine where
        vectors are normalised), so a weight belongs to one pair of models. "auto" takes the
        weight in the re-ranker's ``rocketrank.json``, chosen when it was trained or by ``rq eval
        --tune-fusion --save``. Equal fused scores keep stage one's order.

        ``first_stage`` ``bm25`` finds passages by their words and ``hybrid`` by vectors and words,
        whose scores are added (see :func:`~rocketrank.stages.fused_by_score`); both need an index
        that was built with BM25.

        ``where`` is a condition on the fields that the index was built with, such as
        ``year >= 2020 and source = 'nyt'``: only passages that meet it are found, and ``k`` of
        them where there are so many.

        ``group`` ``document`` gives documents instead of their chunks: a hit is the best chunk of
        its document under the document's id, and ``start`` and ``end`` in its metadata say where
        the chunk lies. As many chunks are looked for as ``k`` documents take.

        ``rerank_ms`` bounds the second stage in milliseconds a query: of the ``rerank_depth`` it
        scores as many, best first, as there is time for, and ``k`` in any case. What is found then
        depends on the machine's load.

        Hits with a score below ``min_score`` or a probability below ``min_probability`` are left
        out, so that fewer than ``k`` may come back. Probabilities need a calibration of such a
        search, by ``rq eval --calibrate --save``.
        """
        return self.search_many(
            [query],
            k=k,
            rerank_depth=rerank_depth,
            fuse=fuse,
            where=where,
            first_stage=first_stage,
            group=group,
            rerank_ms=rerank_ms,
            min_score=min_score,
            min_probability=min_probability,
        )[0]

    def search_many(
        self, queries: Sequence[str], *, progress: bool = False, **options: Unpack[SearchOptions]
    ) -> list[list[Hit]]:
        """As :meth:`search` with the same options for each query, batched through both stages."""
        return list(self.search_stream(queries, progress=progress, **options))

    def search_stream(
        self,
        queries: Sequence[str],
        *,
        k: int = 10,
        rerank_depth: int | None = None,
        fuse: Fuse | None = None,
        where: str | None = None,
        first_stage: FirstStage = "dense",
        group: Group | None = None,
        rerank_ms: float | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        progress: bool = False,
    ) -> Iterator[list[Hit]]:
        """As :meth:`search_many`, with few queries' hits in memory at a time."""
        k, rerank_depth = check_search_options(k, rerank_depth)
        weight = self.fusion_weight(fuse) or 0.0
        check_group(group)
        check_rerank_ms(rerank_ms)
        if rerank_ms is not None and self.reranker is None:
            raise UsageError(
                f"rerank_ms ({rerank_ms}) needs a re-ranker, whose time it bounds: open one or "
                "leave rerank_ms out"
            )
        check_queries(queries)
        index = self.index
        index.check_where(where)
        check_first_stage(first_stage, fuse, has_words=index.has_words)
        check_least(min_score, min_probability)
        depth = min(rerank_depth if self.reranker else k, max(1, len(index)))
        request = Request(
            index, k, depth, weight, where, first_stage, self.hybrid_weight, rerank_ms, group
        )
        of = self.retriever.fingerprint
        calibration = fitting(self.calibration, request, of, reranks=self.reranker is not None)
        if min_probability is not None and calibration is None:
            raise UsageError(
                f"min_probability ({min_probability}) needs a calibration of the scores of such a "
                f"search ({describe(request, reranks=self.reranker is not None)}), and there is "
                "none: fit one on dev judgements with `rq eval --calibrate --save`"
            )
        least = Least(min_score, min_probability, calibration)
        return self._results(queries, request, least, progress)

    def _results(
        self, queries: Sequence[str], request: Request, least: Least, progress: bool
    ) -> Iterator[list[Hit]]:
        step = (_PAIRS_PER_STEP if self.reranker else _HITS_PER_STEP) // request.depth
        step = max(1, min(step, _QUERIES_PER_STEP))
        with tqdm(total=len(queries), desc="queries", disable=not progress) as bar:
            encodes = request.first_stage != "bm25"
            for texts, vectors in self._encoded(queries, step, encodes=encodes):
                search = retrieve_documents if request.group else retrieve
                found = search(request, texts, vectors)
                if self.reranker and request.rerank_ms is None:
                    found = rerank(self.reranker, texts, found, request.weight)
                elif self.reranker:
                    found = [
                        rerank_in_time(self.reranker, text, hits, request)
                        for text, hits in zip(texts, found, strict=True)
                    ]
                for hits in found:
                    units = best_of_documents(hits) if request.group else hits
                    best = least.of(units[: request.k])
                    yield [hit._replace(rank=rank) for rank, hit in enumerate(best, start=1)]
                bar.update(len(texts))

    def _encoded(
        self, queries: Sequence[str], step: int, *, encodes: bool
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32] | None]]:
        """``step`` queries and vectors at a time, encoded many at once: sorted by length pays."""
        for start in range(0, len(queries), _QUERIES_PER_ENCODING):
            part = queries[start : start + _QUERIES_PER_ENCODING]
            vectors = self.retriever.encode_queries(part) if encodes else None
            for place in range(0, len(part), step):
                chosen = slice(place, place + step)
                yield part[chosen], None if vectors is None else vectors[chosen]

    def add(self, passages: Sequence[Passage]) -> "ChangeReport":
        """Adds passages to the index, all or none, and searches them from now on.

        They are encoded as this engine computes: open it with ``precision="fp32"`` to keep an index
        exact that was filled so.

        Those that are there word for word are left as they are. Raises DataError where an id is
        another passage's, UsageError where the retriever cannot encode passages.
        """
        return self._add(passages, update=False, insert=False)

    def update(self, passages: Sequence[Passage], *, insert: bool = False) -> "ChangeReport":
        """Replaces the passages with the same ids, all or none; with ``insert`` adds the others.

        Raises DataError where an id is not in the index and ``insert`` is not given.
        """
        return self._add(passages, update=True, insert=insert)

    def delete(self, ids: Sequence[str], *, ignore_missing: bool = False) -> "ChangeReport":
        """Deletes the passages with these ids, all or none.

        Raises DataError where an id is in no passage, unless ``ignore_missing``.
        """
        from .index import ChangeOptions, delete_passages

        if isinstance(ids, str):
            raise UsageError("expected a list of ids, found one text: write [id]")
        options = ChangeOptions(missing="allowed" if ignore_missing else "error")
        with self._changing_index() as directory:
            return delete_passages(directory, ids, options)

    def _add(self, passages: Sequence[Passage], *, update: bool, insert: bool) -> "ChangeReport":
        from .index import ChangeOptions, PassageEncoder, PassageList, add_passages

        if not hasattr(self.retriever, "encode_passages"):
            raise UsageError(f"{self.retriever.name} encodes queries only: open a dual encoder")
        options = ChangeOptions(missing="allowed" if insert else "error")
        encoder, corpus = cast(PassageEncoder, self.retriever), PassageList(passages)
        with self._changing_index() as directory:
            return add_passages(directory, corpus, encoder, options, update=update)

    @contextmanager
    def _changing_index(self) -> Iterator[Path]:
        """The folder of the index; when it was changed, it is opened again.

        Searches that have begun end with the index as it was; the last of them frees it.
        """
        from .index import committed_manifest

        directory = getattr(self.index, "directory", None)
        if directory is None:
            raise UsageError("this index is not on the disk and cannot be changed")
        with self._changing:
            # Another process may have built it anew, with another model.
            model = committed_manifest(Path(directory)).model
            _check_model(model.name, model.fingerprint, self.retriever)
            yield Path(directory)
            latest = self.index.opened_again()
            _check_model(latest.model_name, latest.fingerprint, self.retriever)
            self.index = latest

    def close(self) -> None:
        """Release the index's files."""
        self.index.close()

    def __enter__(self) -> "SearchEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_model(name: str, fingerprint: str, retriever: Retriever) -> None:
    """RocketRankError unless ``retriever`` is the model that filled the index."""
    if retriever.fingerprint != fingerprint:
        raise RocketRankError(
            f"the index was built with another model ({name}, fingerprint "
            f"{fingerprint[:12]}) than {retriever.name} (fingerprint "
            f"{retriever.fingerprint[:12]}), and vectors of two models cannot be compared: "
            "search with the index's own model or build the index again"
        )
