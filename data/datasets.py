"""Public data sets by name, in the folders that their downloads unpack to.

==============================  =========================================  ==========
names                           files                                      preset
==============================  =========================================  ==========
``scifact``, … (18 of BEIR,     ``corpus.jsonl``, ``queries.jsonl``,       beir
``cqadupstack/FORUM``)          ``qrels/SPLIT.tsv``
``msmarco-passage/dev/small``,  ``collection.tsv``,                        msmarco
``…/dev``, ``…/train``          ``queries.SPLIT.tsv``, ``qrels.SPLIT.tsv``
``msmarco-passage/              ``msmarco-test2019-queries.tsv``,          dl
trec-dl-2019``, ``…-2020``      ``2019qrels-pass.txt``
``nq``, ``triviaqa``,           ``psgs_w100.tsv``, ``nq-test.qa.csv``, …,  nq
``webquestions``,               flat or where DPR's tool puts them
``curatedtrec``, ``squad1``
==============================  =========================================  ==========

Each may be compressed. ``nq`` and ``msmarco`` also name sets of BEIR: what the folder holds
decides; ``beir/nq`` and ``beir/msmarco`` are those and no others.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .dataset_downloads import Download, export
from .dataset_folders import Files, find_in_folder
from .dataset_names import KnownSet, Preset, dataset_names, find_sets
from .passage_formats import CorpusFormat
from .queries import QueryFormat

__all__ = ["Dataset", "dataset_names", "open_dataset"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set's split: files that are there, and how the field measures on it.

    ``queries`` may hold more queries than the split has: the judged ones count. ``qrels`` is None
    where ``answers``, the file with the accepted answers, takes its place; ``regex_answers`` says
    that those are regular expressions. ``drop_self`` says that a passage whose id is the query's
    own does not count, as in BEIR's tool (``ignore_identical_ids``, its default for every set):
    the queries of ArguAna and Quora are passages of their corpus, so a search must go one passage
    deeper than the measures look. ``page`` is the set's public page.
    """

    name: str
    split: str
    corpus: tuple[Path, ...]
    queries: Path
    qrels: Path | None
    answers: Path | None
    preset: Preset
    drop_self: bool
    regex_answers: bool
    corpus_format: CorpusFormat
    queries_format: QueryFormat
    page: str


def open_dataset(
    name: str, data: Path | None, *, split: str | None = None, downloads: Path | None = None
) -> Dataset:
    """The data set of this name in the folder ``data``, which is its own or the one around it.

    ``split`` may also end the name (``scifact/train``); without one it is the one that is usually
    reported on. Without ``data`` the set comes from ir_datasets into a folder below ``downloads``;
    where that is None nothing is downloaded. Raises UsageError for an unknown name or split and
    for a file that is missing, RocketRankError when a download fails.
    """
    sets, split = _with_split(name, split)
    if data is None:
        return _downloaded(sets[0], split or sets[0].default_split, downloads)
    known, split, files = find_in_folder(sets, data, split)
    return _dataset(known, split, files)


def _with_split(name: str, split: str | None) -> tuple[list[KnownSet], str | None]:
    sets, named = find_sets(name)
    if split is None or split == named:
        return sets, named
    if named is not None:
        raise UsageError(f"split ({split}) must be that of the dataset {name}, or left out")
    return find_sets(f"{name.rstrip('/')}/{split}")


def _dataset(known: KnownSet, split: str, files: Files) -> Dataset:
    corpus, queries, qrels = files
    has_answers = not known.splits[split].qrels
    return Dataset(
        name=known.name,
        split=split,
        corpus=(corpus,),
        queries=queries,
        qrels=qrels,
        answers=queries if has_answers else None,
        preset=known.splits[split].preset,
        drop_self=known.drop_self,
        regex_answers=known.regex_answers,
        corpus_format="beir" if ".jsonl" in corpus.suffixes else known.corpus_format,
        queries_format="jsonl" if ".jsonl" in queries.suffixes else known.queries_format,
        page=known.page,
    )


def _downloaded(known: KnownSet, split: str, downloads: Path | None) -> Dataset:
    wanted = known.splits[split]
    by_hand = f"put {wanted.usual_files} from {known.page} into a folder and give it with --data"
    if downloads is None or not wanted.remote:
        reason = "no folder is given" if downloads is None else "ir_datasets cannot download it"
        raise UsageError(f"dataset {known.name}/{split}: {reason}; {by_hand}")
    download = Download(
        name=wanted.remote,
        folder=downloads / known.name.replace("/", "-"),
        split=split,
        judged=bool(wanted.qrels),
        by_hand=by_hand,
    )
    export(download)
    return _dataset(known, split, Files(download.corpus, download.queries, download.qrels))
