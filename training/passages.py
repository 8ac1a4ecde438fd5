"""The texts of passages by id, for lists that refer to an index or to a corpus."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..data.corpus import CorpusReader
from ..data.lines import shown
from ..data.records import Passage
from ..errors import DataError, UsageError
from ..index import Index
from ..two_stage import PassageTexts
from .lists import RankingList

_LISTS_AT_ONCE = 64


def open_passages(
    places: Sequence[str | Path], wanted: Collection[str] | None = None
) -> PassageTexts:
    """The passages of one index folder, or of corpus files (of any known format, ``-`` is stdin).

    An index is read when texts are asked for. Corpus files are read once, now, and their passages
    stay in memory, only those with ids in ``wanted`` if that is given. Raises UsageError for places
    that cannot be read; DataError for ``wanted`` ids that are nowhere, so that a long run does not
    meet them late, and for a passage whose id another text has too.
    """
    if isinstance(places, str | Path):
        raise UsageError(f"places must be a sequence; write [{str(places)!r}]")
    if not places:
        raise UsageError("places is empty; name an index folder or corpus files")
    folders = [place for place in places if Path(place).is_dir()]
    if not folders:
        return _CorpusPassages(places, wanted)
    if len(places) > 1:
        raise UsageError(
            f"passages come from one index folder or from corpus files, found {folders[0]} among "
            f"{len(places)} places; name one of both"
        )
    return _IndexPassages(Path(folders[0]), wanted)


def with_texts(lists: Iterable[RankingList], passages: PassageTexts) -> Iterator[RankingList]:
    """The lists with the text and title of every candidate that has no text, as a stream.

    Raises DataError for an id that ``passages`` does not know.
    """
    remaining = iter(lists)
    while batch := list(itertools.islice(remaining, _LISTS_AT_ONCE)):
        ids = {
            candidate.id: None
            for each in batch
            for candidate in each.candidates
            if candidate.text is None
        }
        found = dict(zip(ids, passages.texts(list(ids)), strict=True)) if ids else {}
        for each in batch:
            yield each._replace(
                candidates=tuple(
                    candidate
                    if candidate.text is not None
                    else candidate._replace(
                        text=found[candidate.id].text, title=found[candidate.id].title
                    )
                    for candidate in each.candidates
                )
            )


class _IndexPassages:
    def __init__(self, directory: Path, wanted: Collection[str] | None) -> None:
        self._index = Index.open(directory)
        if wanted is not None:
            self._index.check_ids(wanted)

    def texts(self, ids: Sequence[str]) -> list[Passage]:
        return self._index.passages_by_id(ids)


class _CorpusPassages:
    def __init__(self, places: Sequence[str | Path], wanted: Collection[str] | None) -> None:
        self._name = ", ".join(map(str, places))
        self._found = _read(places, None if wanted is None else frozenset(wanted))
        if wanted is not None:
            self._check(wanted)

    def texts(self, ids: Sequence[str]) -> list[Passage]:
        self._check(ids)
        return [self._found[passage_id] for passage_id in ids]

    def _check(self, ids: Collection[str]) -> None:
        distinct = dict.fromkeys(ids)
        missing = [passage_id for passage_id in distinct if passage_id not in self._found]
        if missing:
            raise DataError(
                f"{self._name}: expected passages with the ids of the lists, found none with the "
                f"id {shown(missing[0])} ({len(missing):,} of {len(distinct):,} are missing); name "
                "the corpus that the ids come from"
            )


def _read(places: Sequence[str | Path], wanted: Collection[str] | None) -> Mapping[str, Passage]:
    found: dict[str, Passage] = {}
    reader = CorpusReader(places, skip_empty=True)
    for passage in reader:
        if wanted is not None and passage.id not in wanted:
            continue
        kept = Passage(passage.id, passage.text, passage.title)
        if found.setdefault(kept.id, kept) != kept:
            raise DataError(
                f"{reader.location}: expected one text for each id, found another passage with the "
                f"id {shown(kept.id)}; give one of them a new id"
            )
    return found
