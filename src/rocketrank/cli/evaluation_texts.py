"""Texts of passages and questions to be shown beside results: decoration, which may be missing."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..data.corpus import CorpusReader
from ..data.dpr_results import DprResult, read_dpr_results
from ..data.records import Passage
from ..errors import DataError, RocketRankError
from ..eval import Difference, RunResult
from .evaluate import Asked
from .evaluation_shown import fits_page

if TYPE_CHECKING:
    from ..two_stage import PassageTexts

_log = logging.getLogger(__name__)


class Texts(NamedTuple):
    """By id."""

    queries: dict[str, str]
    passages: dict[str, str]


def known_texts(
    asked: Asked,
    results: Sequence[RunResult],
    differences: Sequence[Difference],
    *,
    opened: "PassageTexts | None" = None,
    dpr: Sequence[str | Sequence[DprResult]] = (),
) -> Texts:
    """The texts of what is shown, as far as they are found; a note says what is not.

    They come from ``dpr``, retrieval results or their files, from ``opened``, or from the places
    that the options name. Nothing is read where nothing shows texts.
    """
    queries, wanted = _shown(asked, results, differences)
    if not wanted:
        return Texts({}, {})
    texts = _of_dpr(dpr, queries, wanted)
    lacking = sorted(wanted - texts.passages.keys())
    places = asked.passages
    if asked.searched and not places:
        places = (str(asked.searched.index),)
    if not lacking or not (places or opened):
        return texts
    try:
        found = _halved(opened, lacking) if opened else _read(places, lacking)
        texts.passages.update((passage.id, passage.full_text) for passage in found)
    except RocketRankError as error:
        _log.warning("passages are shown without texts, which cannot be read: %s", error)
        return texts
    missing = [each for each in lacking if each not in texts.passages]
    if missing:
        _log.warning(
            "%d of the %d passages that are shown have no text in %s (such as %s)",
            len(missing),
            len(wanted),
            ", ".join(places) or "the retrieval results",
            missing[0],
        )
    return texts


def _shown(
    asked: Asked, results: Sequence[RunResult], differences: Sequence[Difference]
) -> tuple[set[str], set[str]]:
    """Ids of the queries and passages whose texts a page or ``--changed`` shows."""
    if asked.shows_page and fits_page(results):
        lists = [item for one in results for item in one.top.items()]
    else:
        tops = {one.name: one.top for one in results}
        lists = [
            (query_id, tops[name].get(query_id, ()))
            for each in (differences if asked.changed else ())
            if each.measure == differences[0].measure
            for query_id, *_ in each.changed[: asked.changed]
            for name in (each.system, each.baseline)
        ]
    return {query for query, _ in lists}, {hit.passage_id for _, hits in lists for hit in hits}


def _of_dpr(dpr: Sequence[str | Sequence[DprResult]], queries: set[str], wanted: set[str]) -> Texts:
    texts = Texts({}, {})
    for of_run in dpr:
        for result in read_dpr_results(of_run) if isinstance(of_run, str) else of_run:
            if result.query_id in queries:
                texts.queries.setdefault(result.query_id, result.question)
                for hit in result.hits:
                    if hit.id in wanted and hit.text is not None:
                        text = Passage(hit.id, hit.text, hit.title).full_text
                        texts.passages.setdefault(hit.id, text)
    return texts


def _read(places: Sequence[str], ids: Sequence[str]) -> Iterator[Passage]:
    if len(places) == 1 and Path(places[0]).is_dir():
        from ..training.passages import open_passages

        yield from _halved(open_passages(places), ids)
        return
    lacking = set(ids)
    for passage in CorpusReader(places, skip_empty=True):
        if passage.id in lacking:
            lacking.remove(passage.id)
            yield passage
            if not lacking:
                return


def _halved(texts: "PassageTexts", ids: Sequence[str]) -> list[Passage]:
    """Those that are there: halves are asked for where one of all is not."""
    try:
        return texts.texts(ids)
    except DataError:
        if len(ids) < 2:
            return []
        middle = len(ids) // 2
        return _halved(texts, ids[:middle]) + _halved(texts, ids[middle:])
