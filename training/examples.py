"""The lists a stage trains on: kept on the disk, sampled anew in every epoch.

A list has one positive, in column 0. A line with several positives gives a list for each of them
with the same negatives, and no positive of a query is a negative in any of its lists (algorithm
of RocketQAv2's hybrid lists, our reading). Of the file, only where its lines begin and which
passages are positives stays in memory.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.lines import MalformedError
from ..errors import DataError
from .lists import Candidate, ListsHeader, RankingList, parse_line

_ORDER = 1 << 31
"""Tells the seed of an epoch's order from those of its lists, which end in their numbers."""


class Example(NamedTuple):
    """A query with its candidates, the positive in column 0."""

    query_id: str
    query: str
    candidates: list[Candidate]


class Dropped(NamedTuple):
    """How many lines of a file gave no example, by reason."""

    held_out: int
    without_positive: int
    without_negative: int


class Examples:
    """The examples of a file in our format; ``held_out`` queries (of the dev set) are left out."""

    def __init__(self, path: Path, *, held_out: Collection[str] = ()) -> None:
        self.path = path
        positives: dict[str, set[str]] = defaultdict(set)
        queries: list[tuple[int, str, tuple[str, ...], bool]] = []
        for offset, each in self._scan():
            found = tuple(candidate.id for candidate in each.positives)
            positives[each.query_id].update(found)
            queries.append((offset, each.query_id, found, bool(each.negatives)))
        self.positives = {query_id: frozenset(ids) for query_id, ids in positives.items()}
        self._file = path.open("rb")
        places: list[tuple[int, int]] = []
        counts = dict.fromkeys(Dropped._fields, 0)
        for offset, query_id, found, has_negatives in queries:
            if query_id in held_out:
                counts["held_out"] += 1
            elif not found:
                counts["without_positive"] += 1
            elif not has_negatives or not self._has_negative(offset, query_id, found):
                counts["without_negative"] += 1
            else:
                places.extend((offset, number) for number in range(len(found)))
        self.dropped = Dropped(**counts)
        self._places: NDArray[np.int64] = np.array(places, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def sample(self, number: int, length: int, seed: tuple[int, ...]) -> Example:
        """Example ``number`` with at most ``length`` - 1 negatives, drawn without replacement."""
        offset, which = self._places[number].tolist()
        each = self._read(offset)
        pool = self._pool(each)
        numbers = np.random.default_rng([*seed, number]).permutation(len(pool))[: length - 1]
        negatives = [pool[place] for place in numbers]
        return Example(each.query_id, each.query, [each.positives[which], *negatives])

    def close(self) -> None:
        self._file.close()

    def _pool(self, each: RankingList) -> list[Candidate]:
        """The negatives of a line that no line of the query has as a positive."""
        known = self.positives[each.query_id]
        return [candidate for candidate in each.negatives if candidate.id not in known]

    def _has_negative(self, offset: int, query_id: str, found: Collection[str]) -> bool:
        """Whether positives of the query's other lines leave a line with negatives any of them."""
        return len(self.positives[query_id]) == len(found) or bool(self._pool(self._read(offset)))

    def _read(self, offset: int) -> RankingList:
        self._file.seek(offset)
        each: RankingList | ListsHeader | None = None
        with suppress(MalformedError, UnicodeDecodeError):
            each = parse_line(self._file.readline().decode())
        if not isinstance(each, RankingList) or each.query_id not in self.positives:
            raise DataError(f"{self.path} has changed since it was opened: train again")
        return each

    def _scan(self) -> Iterator[tuple[int, RankingList]]:
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        parsed = parse_line(line.decode())
                    except (MalformedError, UnicodeDecodeError) as error:
                        raise DataError(f"{self.path}:{number}: {error}") from error
                    if isinstance(parsed, RankingList):
                        yield offset, parsed
                offset += len(line)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 … ``count`` - 1 that depends on ``seed`` and ``epoch`` alone."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(count)
