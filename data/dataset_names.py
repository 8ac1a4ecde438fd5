"""The public data sets that are known by name: their files, splits and pages.

A file is named as the public download names it; every name also counts with ``.gz``, ``.zst`` and
``.xz``. The first of a role's names that is there is taken.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from ..errors import UsageError
from .passage_formats import CorpusFormat
from .queries import QueryFormat

Preset = Literal["msmarco", "dl", "beir", "nq"]

BEIR_PAGE = "https://github.com/beir-cellar/beir"
MSMARCO_PAGE = "https://microsoft.github.io/msmarco/"
DPR_PAGE = "https://github.com/facebookresearch/DPR"


class Split(NamedTuple):
    """One split's files by role, and its name in ir_datasets, "" where that has it not.

    No ``qrels`` are accepted where answers in the queries' file take their place.
    """

    corpus: tuple[str, ...]
    queries: tuple[str, ...]
    qrels: tuple[str, ...]
    preset: Preset
    remote: str = ""

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Role → accepted names, relative to the set's folder."""
        return {"corpus": self.corpus, "queries": self.queries, "qrels": self.qrels}

    @property
    def usual_files(self) -> str:
        """The file of each role as a sentence names them."""
        *most, last = (names[0] for names in self.roles.values() if names)
        return f"{', '.join(most)} and {last}"


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A data set: its splits, the default one first, and how its download unpacks.

    ``folders`` are those below the user's folder that may hold the set; ``archives`` are files
    that a user may have left packed; ``siblings`` are folder names that belong to other sets.
    ``drop_self`` says that the measuring tool of the set leaves a query's own id out of its hits.
    """

    name: str
    splits: Mapping[str, Split]
    page: str
    folders: tuple[str, ...]
    archives: tuple[str, ...]
    corpus_format: CorpusFormat
    queries_format: QueryFormat
    siblings: frozenset[str] = frozenset()
    drop_self: bool = False
    regex_answers: bool = False
    is_public: bool = True

    @property
    def default_split(self) -> str:
        return next(iter(self.splits))


_BEIR_SPLITS = {
    "trec-covid": "test",
    "nfcorpus": "test dev train",
    "bioasq": "test train",
    "nq": "test train",
    "hotpotqa": "test dev train",
    "fiqa": "test dev train",
    "signal1m": "test",
    "trec-news": "test",
    "robust04": "test",
    "arguana": "test",
    "webis-touche2020": "test",
    "quora": "test dev",
    "dbpedia-entity": "test dev",
    "scidocs": "test",
    "fever": "test dev train",
    "climate-fever": "test",
    "scifact": "test train",
    "msmarco": "dev test train",
}
_FORUMS = (
    *("android", "english", "gaming", "gis", "mathematica", "physics", "programmers", "stats"),
    *("tex", "unix", "webmasters", "wordpress"),
)
# BEIR's page says how to make these from licensed collections.
_NOT_PUBLIC = {"bioasq", "signal1m", "trec-news", "robust04"}
# Names that also mean the collection's own download have "beir/" before them.
_SHARED = {"nq", "msmarco"}


_MSMARCO = "msmarco-passage"


def _beir_sets() -> Iterator[KnownSet]:
    for name, splits in _BEIR_SPLITS.items():
        yield KnownSet(
            name=f"beir/{name}" if name in _SHARED else name,
            splits=_beir_splits(name, splits.split()),
            page=BEIR_PAGE,
            folders=(name, f"beir/{name}"),
            archives=(f"{name}.zip",),
            corpus_format="beir",
            queries_format="jsonl",
            siblings=frozenset({*_BEIR_SPLITS, "cqadupstack"} - {name}),
            drop_self=True,
            is_public=name not in _NOT_PUBLIC,
        )
    for forum in _FORUMS:
        name = f"cqadupstack/{forum}"
        yield KnownSet(
            name=name,
            splits=_beir_splits(name, ["test"]),
            page=BEIR_PAGE,
            folders=(name, f"beir/{name}", forum),
            archives=("cqadupstack.zip",),
            corpus_format="beir",
            queries_format="jsonl",
            siblings=frozenset({*_BEIR_SPLITS, *_FORUMS} - {forum}),
            drop_self=True,
        )


def _beir_splits(name: str, splits: list[str]) -> Mapping[str, Split]:
    return {
        split: Split(
            ("corpus.jsonl",),
            ("queries.jsonl",),
            (f"qrels/{split}.tsv",),
            "beir",
            remote=_beir_remote(name, split, splits),
        )
        for split in splits
    }


def _beir_remote(name: str, split: str, splits: list[str]) -> str:
    """ir_datasets names the only split of a set as the set, and has no training split of nq.

    BEIR's own download of webis-touche2020 is what ir_datasets calls v2 (the same MD5 sum).
    """
    if name in _NOT_PUBLIC or (name, split) == ("nq", "train"):
        return ""
    if name == "webis-touche2020":
        return f"beir/{name}/v2"
    return f"beir/{name}" if len(splits) == 1 or name == "nq" else f"beir/{name}/{split}"


def _msmarco() -> KnownSet:
    def split(queries: str, qrels: str, name: str, preset: Preset = "msmarco") -> Split:
        return Split(
            ("collection.tsv",),
            tuple(queries.split()),
            tuple(qrels.split()),
            preset,
            remote=f"{_MSMARCO}/{name}",
        )

    return KnownSet(
        name=_MSMARCO,
        splits={
            "dev/small": split("queries.dev.small.tsv", "qrels.dev.small.tsv", "dev/small"),
            "dev": split("queries.dev.tsv", "qrels.dev.tsv", "dev"),
            "train": split("queries.train.tsv", "qrels.train.tsv", "train"),
            "trec-dl-2019": split(
                "msmarco-test2019-queries.tsv queries.dl19.tsv",
                "2019qrels-pass.txt qrels.dl19.txt",
                "trec-dl-2019/judged",
                "dl",
            ),
            "trec-dl-2020": split(
                "msmarco-test2020-queries.tsv queries.dl20.tsv",
                "2020qrels-pass.txt qrels.dl20.txt",
                "trec-dl-2020/judged",
                "dl",
            ),
        },
        page=MSMARCO_PAGE,
        folders=("msmarco-passage", "msmarco", "collectionandqueries"),
        archives=("collectionandqueries.tar.gz", "collection.tar.gz", "queries.tar.gz"),
        corpus_format="msmarco",
        queries_format="tsv",
    )


# Where DPR's download tool puts things below the folder it is given, and flat.
_WIKIPEDIA = tuple(
    f"{folder}psgs_w100.tsv"
    for folder in (
        "",
        "wikipedia_split/",
        "data/wikipedia_split/",
        "downloads/data/wikipedia_split/",
    )
)
_QUESTIONS = ("", "retriever/qas/", "data/retriever/qas/", "downloads/data/retriever/qas/")


def _dpr_sets() -> Iterator[KnownSet]:
    """The five sets that DPR is measured on; its tool calls ``webquestions-test.qa.csv`` webq."""
    yield _dpr_set("nq", ("nq",), "test dev train", "natural-questions", sample=True)
    yield _dpr_set("triviaqa", ("trivia",), "test dev train", "trivia-qa")
    yield _dpr_set("webquestions", ("webquestions", "webq"), "test")
    yield _dpr_set("curatedtrec", ("curatedtrec",), "test", regex_answers=True)
    yield _dpr_set("squad1", ("squad1",), "test")


def _dpr_set(
    name: str,
    stems: tuple[str, ...],
    splits: str,
    remote: str = "",
    *,
    sample: bool = False,
    regex_answers: bool = False,
) -> KnownSet:
    """``sample`` accepts a small collection: ``passages.tsv`` with ``questions.jsonl``."""

    def split(split: str) -> Split:
        named = [f"{stem}-{split}{end}" for stem in stems for end in (".qa.csv", ".csv")]
        found = tuple(folder + file for file in named for folder in _QUESTIONS)
        is_sample = sample and split == "test"
        return Split(
            (*_WIKIPEDIA, "passages.tsv") if is_sample else _WIKIPEDIA,
            (*found, "questions.jsonl") if is_sample else found,
            (),
            "nq",
            remote=f"dpr-w100/{remote}/{split}" if remote and split != "test" else "",
        )

    return KnownSet(
        name=name,
        splits={each: split(each) for each in splits.split()},
        page=DPR_PAGE,
        folders=(name, "dpr"),
        archives=(),
        corpus_format="dpr",
        queries_format="dpr",
        regex_answers=regex_answers,
    )


KNOWN_SETS: Mapping[str, KnownSet] = MappingProxyType(
    {each.name: each for each in (*_beir_sets(), _msmarco(), *_dpr_sets())}
)
# Other spellings of a set; those of two sets are decided by what the folder holds.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "msmarco": ("msmarco-passage", "beir/msmarco"),
    "nq": ("nq", "beir/nq"),
    "natural-questions": ("nq",),
    "dpr-w100/natural-questions": ("nq",),
    "trivia": ("triviaqa",),
    "dpr-w100/trivia-qa": ("triviaqa",),
    "webq": ("webquestions",),
}
_WITH_SPLIT = {
    "dl19": "msmarco-passage/trec-dl-2019",
    "dl20": "msmarco-passage/trec-dl-2020",
    "msmarco-passage/trec-dl-2019/judged": "msmarco-passage/trec-dl-2019",
    "msmarco-passage/trec-dl-2020/judged": "msmarco-passage/trec-dl-2020",
}


def dataset_names() -> list[str]:
    """The names that ``open_dataset`` knows; each may be followed by ``/`` and a split.

    ``beir/NAME`` is understood for every set of BEIR too, and so are msmarco, dl19 and dl20.
    """
    names = [*KNOWN_SETS]
    names.remove(_MSMARCO)
    return sorted([*names, *(f"{_MSMARCO}/{split}" for split in KNOWN_SETS[_MSMARCO].splits)])


def find_sets(name: str) -> tuple[list[KnownSet], str | None]:
    """The sets that a name may mean (two for ``nq`` and ``msmarco``) and the split it ends with.

    Upper and lower case are the same. Raises UsageError for a name that is not known.
    """
    key = name.strip().strip("/").casefold()
    key = _WITH_SPLIT.get(key, key)
    head, split = key, ""
    while head:
        if sets := _named(head):
            if not split:
                return sets, None
            return _with_split(sets, split), split
        head, _, last = head.rpartition("/")
        split = f"{last}/{split}" if split else last
    raise UsageError(_unknown(name, key))


def _with_split(sets: list[KnownSet], split: str) -> list[KnownSet]:
    if having := [each for each in sets if split in each.splits]:
        return having
    there = "; ".join(f"{each.name} has {', '.join(each.splits)}" for each in sets)
    raise UsageError(f"split ({split}) is none of the data set's: {there}")


def _named(key: str) -> list[KnownSet]:
    if key in _ALIASES:
        return [KNOWN_SETS[each] for each in _ALIASES[key]]
    if key in KNOWN_SETS:
        return [KNOWN_SETS[key]]
    prefix, _, inner = key.partition("/")
    known = KNOWN_SETS.get(inner) if prefix == "beir" else None
    return [known] if known and known.page == BEIR_PAGE else []


def _unknown(name: str, key: str) -> str:
    if key.removeprefix("beir/") == "cqadupstack":
        return (
            f"dataset ({name}) is twelve sets, each with a corpus of its own; name one: "
            + ", ".join(f"cqadupstack/{forum}" for forum in _FORUMS)
        )
    names = dataset_names()
    near = difflib.get_close_matches(key, [*names, *_ALIASES, *_WITH_SPLIT], n=3, cutoff=0.7)
    if near:
        return f"dataset ({name}) is not known; did you mean {' or '.join(dict.fromkeys(near))}?"
    return (
        f"dataset ({name}) must be one of {', '.join(names)}; a set of your own needs no name: "
        "give its files"
    )
