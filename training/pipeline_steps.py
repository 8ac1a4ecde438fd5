"""The steps of a pipeline: indexing, mining, dev lists, stages, and the models at the end.

Each leaves one file or folder that appears when the step is finished, by which the next run knows.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.chunks import DOCUMENT
from ..data.qrels import read_qrels
from ..data.queries import read_queries
from ..durable import explained_write, fsync, replacing
from ..index import BuildOptions, Index, build_index
from ..inference import RuntimeChoice, choose_runtime
from ..models import open_model
from ..reranker import CrossEncoder
from ..retriever import DualEncoder
from ..two_stage import Scores, retrieve
from .denoising import Limits
from .lists import Candidate, ListsHeader, RankingList, write_lists
from .mining import MiningSources, mine, tokenizer_fingerprint
from .mining_options import ListKinds, MiningOptions
from .mining_queries import select_queries
from .passages import open_passages
from .pipeline_corpus import open_corpus
from .pipeline_data import (
    DEV,
    TRAIN,
    Judged,
    files_of,
    read_candidates,
    read_first,
    read_part,
)
from .pipeline_synthetic import made_to_mine, read_made, replaced, with_cuts
from .recipe import ModelsSection, Recipe, StageName
from .run import Outcome, TrainOptions, train

_log = logging.getLogger(__name__)

INDEX_START, INDEX_WARM, INDEX = "index-start", "index-warm", "index"
LISTS_WARMUP, LISTS_JOINT = "lists-warmup.jsonl", "lists-joint.jsonl"
DEV_LISTS, DEV_LISTS_JOINT = "dev.jsonl", "dev-joint.jsonl"
RETRIEVER, RERANKER = "retriever", "reranker"
MANIFEST = "manifest.json"
RETRIEVER_WARMUP, RERANKER_WARMUP, JOINT = "retriever-warmup", "reranker-warmup", "joint"

# Weights in other formats, which can be many times a model and are never read.
_NEEDLESS = ("*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx", "openvino", ".*")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A pipeline: its recipe, the folder of its data, and the folder of all that it makes."""

    recipe: Recipe
    data: Path
    output: Path
    device: str = "cpu"
    threads: int | None = None
    strict: bool = False
    progress: bool = False

    @property
    def runtime(self) -> RuntimeChoice:
        """How models compute wherever they are not trained."""
        return choose_runtime(device=self.device, threads=self.threads)

    @property
    def corpus(self) -> list[Path]:
        return files_of(self.recipe.data, self.data)["data.corpus"]

    def file(self, key: str) -> Path | None:
        """The one file of a key of ``[data]``, where the recipe names one."""
        return next(iter(files_of(self.recipe.data, self.data).get(f"data.{key}", [])), None)

    def retriever(self, model: str | Path) -> DualEncoder:
        return DualEncoder(open_model(model, role="dual-encoder"), self.runtime)

    def reranker(self, model: str | Path) -> CrossEncoder:
        return CrossEncoder(open_model(model, role="cross-encoder"), self.runtime)


def mining_options(work: Work, kinds: ListKinds) -> MiningOptions:
    """The recipe's ``[mining]`` for lists of these kinds."""
    mining, runtime = work.recipe.mining, work.runtime
    place = "cpu" if runtime.gpu is None else "gpu"
    return MiningOptions(
        lists=kinds,
        depth=mining.depth,
        negatives=mining.negatives,
        bm25_depth=mining.bm25,
        limits=Limits(mining.low, mining.high) if kinds != "undenoised" else Limits(),
        seed=work.recipe.seed,
        precision=f"{runtime.precision} by {runtime.engine} on {place}",
    )


def index_corpus(work: Work, name: str, model: str | Path) -> None:
    """Build the index ``name`` of the corpus, with its words, or go on with it."""
    corpus, chunking = open_corpus(work.recipe, work.corpus)
    options = BuildOptions(
        threads=work.threads,
        precision=work.runtime.precision,
        fields=(DOCUMENT,) if chunking else (),
        bm25=True,
        chunking=chunking,
    )
    encoder = work.retriever(model)
    build_index(work.output / name, corpus, encoder, options, progress=work.progress)


def convert_candidates(work: Work) -> None:
    """The recipe's own lists as the warm-up's, without those of the dev queries held out."""
    data = work.recipe.data
    # ids of dev queries from a file of their own may be those of other training queries
    held_out = set() if data.dev_queries else set(read_part(work.output, DEV).queries)
    lists = (each for each in read_candidates(data, work.data) if each.query_id not in held_out)
    write_lists(work.output / LISTS_WARMUP, lists)


def mine_lists(
    work: Work,
    name: str,
    kinds: ListKinds,
    *,
    index: str,
    retriever: str | Path,
    reranker: str | Path | None = None,
) -> None:
    """Mine lists of the training queries from the index ``index``, or go on with that."""
    queries = made_to_mine(work.output) or select_queries(
        read_queries(work.output / f"{TRAIN}.queries.jsonl"),
        read_qrels(work.output / f"{TRAIN}.qrels"),
    )
    encoder = work.retriever(retriever)
    with Index.open(work.output / index, threads=work.threads) as opened:
        sources = MiningSources(
            index=opened,
            retriever=encoder,
            reranker=work.reranker(reranker) if reranker else None,
            tokenizer=tokenizer_fingerprint(encoder.model),
        )
        options = mining_options(work, kinds)
        result = mine(work.output / name, queries, sources, options, progress=work.progress)
    counts = result.report.counts
    decided = [
        f"{counts[f'candidates.{rule}']} {rule}" for rule in ("kept", "uncertain", "promoted")
    ]
    denoised = f" (denoising: {', '.join(decided)})" if reranker else ""
    _log.info("%d lists%s; the report is %s", result.lists, denoised, result.report_path)


def write_dev_lists(work: Work, name: str, *, index: str, retriever: str | Path) -> None:
    """What the retriever finds for the dev queries, or the recipe's run has, with its labels.

    No positive is put in that was not found: a validation is not to be better than a search.
    """
    dev, run = read_part(work.output, DEV), work.file("dev_run")
    depth = work.recipe.data.dev_depth
    if run is not None:
        write_lists(work.output / name, _labelled(dev, read_first(run, dev.queries, depth), "run"))
        return
    encoder = work.retriever(retriever)
    made, texts = read_made(work.output, DEV), open_passages([work.output / index])
    with Index.open(work.output / index, threads=work.threads) as opened:
        found = retrieve(opened, encoder, dev.queries, depth + bool(made))
    if made:
        found = replaced(found, made, encoder, texts, depth)
    header = ListsHeader(
        tokenizer=tokenizer_fingerprint(encoder.model),
        index=str(work.output / index),
        retriever=f"{encoder.name} (fingerprint {encoder.fingerprint[:12]})",
    )
    lists = with_cuts(_labelled(dev, found, "retriever"), made, texts)
    write_lists(work.output / name, lists, header)


def _labelled(dev: Judged, found: Scores, source: str) -> Iterator[RankingList]:
    for query_id, scores in found.items():
        grades: Mapping[str, int] = dev.qrels.get(query_id, {})
        candidates = tuple(
            Candidate(each, int(grades.get(each, 0) > 0), score, f"{source}:{rank}")
            for rank, (each, score) in enumerate(scores.items(), start=1)
        )
        yield RankingList(query_id, dev.queries[query_id], candidates)


def train_stage(
    work: Work,
    stage: StageName,
    name: str,
    *,
    lists: str,
    dev: str | None,
    index: str | None,
    models: ModelsSection,
) -> Outcome:
    """Train a stage from ``models`` in the folder ``name``, or go on with it."""
    output = work.output
    return train(
        TrainOptions(
            recipe=replace(work.recipe, models=models),
            stage=stage,
            lists=output / lists,
            output=output / name,
            passages=(output / index,) if index else tuple(work.corpus),
            dev=output / dev if dev else None,
            dev_qrels=output / f"{DEV}.qrels" if dev else None,
            device=work.device,
            strict=work.strict,
            # the lists hold ids alone, which every model's tokenizer makes its own tokens of
            any_tokenizer=True,
            progress=work.progress,
        )
    )


def keep_model(work: Work, name: str, model: str | Path) -> None:
    """Copy a model folder to ``name`` in the output, where it appears when it is whole."""
    target = work.output / name
    with explained_write(target), replacing(target, alone=True) as beside:
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
        _copy_folder(open_model(model).path, beside)


def _copy_folder(source: Path, target: Path) -> None:
    """Contents alone, in new folders and files: those of a package may be read-only."""
    target.mkdir()
    for each in sorted(source.iterdir()):
        if any(each.match(pattern) for pattern in _NEEDLESS):
            continue
        if each.is_dir():
            _copy_folder(each, target / each.name)
        else:
            shutil.copyfile(each, target / each.name)


def remove_needless(work: Work, final_index: str) -> None:
    """Give the final index its name, and remove the others and what kills left behind."""
    output = work.output
    with explained_write(output):
        if final_index != INDEX and not (output / INDEX).exists():
            (output / final_index).rename(output / INDEX)
        for name in (INDEX_START, INDEX_WARM):
            if (output / name).is_dir():
                shutil.rmtree(output / name)
        for path in [*output.glob(".*.partial"), *output.glob("*.partial")]:
            if path.is_file():
                path.unlink()
        fsync(output)
