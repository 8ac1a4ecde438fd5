"""A pipeline without judgements: its queries are made from the corpus, and some are held out.

What is held out are passages, with all queries that were made from them: a model that had learnt
one query of a passage would know its others. ``train.made.jsonl`` and ``dev.made.jsonl`` say of
each query what it was made of, ``synthesis.json`` what became of all others.

A dev query's own passage is ranked as if it had never had what is asked, and the re-ranker reads
every candidate cut alike; an index would find the query's very words.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from ..data.records import Judgement, Passage
from ..durable import write_durably
from ..two_stage import PassageTexts, Scores
from .cuts import Cut
from .dev import drawn_queries
from .endpoint import open_endpoint
from .lists import RankingList
from .making import Making, make
from .mining import Retriever
from .mining_queries import MiningQueries, with_synthetic
from .mining_report import MiningReport
from .pipeline_corpus import open_corpus
from .pipeline_data import DEV, TRAIN, files_of, write_part
from .recipe import Recipe
from .synthesis import Synthesis, SyntheticQuery, check_kinds

_log = logging.getLogger(__name__)

REPORT, ANSWERS = "synthesis.json", "endpoint.jsonl"


def making_of(recipe: Recipe, folder: Path) -> Making:
    """What ``data.synthesize`` asks for. Raises UsageError where the endpoint cannot be meant."""
    data = recipe.data
    prompts = files_of(data, folder).get("data.endpoint_prompt", [None])
    named = ("data.endpoint", "data.endpoint_prompt")
    writer = (
        open_endpoint(data.endpoint, data.endpoint_model, prompts[0], named=named)
        if data.endpoint
        else None
    )
    cut = [each for each in data.synthesize_kinds if each != "endpoint"]
    kinds = check_kinds(cut) if cut else ()
    return Making(count=data.synthesize, kinds=kinds, endpoint=writer, seed=recipe.seed)


def make_queries(recipe: Recipe, folder: Path, output: Path) -> None:
    """Make the queries of ``recipe`` and write those to train on and those held out.

    ``dev.qrels`` is written last. Raises DataError.
    """
    data = recipe.data
    paths = files_of(data, folder)["data.corpus"]
    making = making_of(recipe, folder)
    made = make(lambda: open_corpus(recipe, paths)[0], making, ledger=output / ANSWERS)
    sources = {each.passage_id for each in made.queries}
    held_out = drawn_queries(sources, data.dev_share, recipe.seed)
    train = [each for each in made.queries if each.passage_id not in held_out]
    dev = [each for each in made.queries if each.passage_id in held_out]
    report = made.report.as_json({"queries": data.synthesize, "seed": recipe.seed})
    write_durably(output / REPORT, [report])
    for part, queries in ((TRAIN, train), (DEV, dev)):
        lines = [
            orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in map(_record, queries)
        ]
        write_durably(output / f"{part}.made.jsonl", lines)
        judgements = [Judgement(each.id, each.passage_id, 1) for each in queries]
        write_part(output, part, {each.id: each.text for each in queries}, judgements)
    kinds = Counter(each.kind for each in made.queries)
    _log.info(
        "%d queries were made (%s), %d of them held out; %s has examples",
        len(made.queries),
        ", ".join(f"{number} {kind}" for kind, number in kinds.items()),
        len(dev),
        output / REPORT,
    )


def read_made(output: Path, part: str) -> dict[str, SyntheticQuery]:
    """The made queries of ``train`` or ``dev`` by their ids; none of a pipeline with judgements."""
    path = output / f"{part}.made.jsonl"
    if not path.exists():
        return {}
    found = {}
    for line in path.read_bytes().splitlines():
        query_id, text, kind, passage_id, cut = orjson.loads(line)
        query = SyntheticQuery(query_id, text, kind, passage_id, Cut(*cut) if cut else None)
        found[query_id] = query
    return found


def _record(query: SyntheticQuery) -> list[object]:
    return [*query[:-1], query.cut and [*query.cut]]


def made_to_mine(output: Path) -> MiningQueries | None:
    """The made queries to train on, None for a pipeline with judgements."""
    queries = list(read_made(output, TRAIN).values())
    return with_synthetic(None, Synthesis(queries, MiningReport())) if queries else None


def replaced(
    found: Scores,
    made: dict[str, SyntheticQuery],
    retriever: Retriever,
    texts: PassageTexts,
    depth: int,
) -> Scores:
    """The first ``depth`` of what was found, each query's own passage where the rest of it belongs.

    ``found`` has one passage more where there are as many.
    """
    cuts = [each for each in made.values() if each.cut and each.id in found]
    own = _rests(cuts, texts)
    vectors = retriever.encode_passages([each.text for each in own], [each.title for each in own])
    asked = retriever.encode_queries([each.text for each in cuts])
    placed = dict(found)
    for query, vector, query_vector in zip(cuts, vectors, asked, strict=True):
        score = float(vector @ query_vector)
        others = {each: one for each, one in found[query.id].items() if each != query.passage_id}
        ids = [each for each, one in others.items() if one >= score]
        ahead = dict.fromkeys(ids)
        behind = [each for each in others if each not in ahead]
        every = {**others, query.passage_id: score}
        placed[query.id] = {each: every[each] for each in [*ids, query.passage_id, *behind]}
    return {query_id: dict(list(scores.items())[:depth]) for query_id, scores in placed.items()}


def _rests(queries: Sequence[SyntheticQuery], texts: PassageTexts) -> list[Passage]:
    passages = texts.texts([each.passage_id for each in queries]) if queries else []
    return [as_read(query, each) for query, each in zip(queries, passages, strict=True)]


def as_read(query: SyntheticQuery | None, passage: Passage) -> Passage:
    """What is read of a candidate of ``query``, None for one that nobody made."""
    return passage if query is None or query.cut is None else query.cut.of(passage)


def with_cuts(
    lists: Iterator[RankingList], made: dict[str, SyntheticQuery], texts: PassageTexts
) -> Iterator[RankingList]:
    """The lists, of made queries with the texts of their candidates, cut as the queries are."""
    for each in lists:
        query = made.get(each.query_id)
        if query is None or query.cut is None:
            yield each
            continue
        passages = texts.texts([candidate.id for candidate in each.candidates])
        read = [query.cut.of(passage) for passage in passages]
        yield each._replace(
            candidates=tuple(
                candidate._replace(text=passage.text, title=passage.title)
                for candidate, passage in zip(each.candidates, read, strict=True)
            )
        )
