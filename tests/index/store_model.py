"""What an index must hold, as dictionaries: the commits that are kept and their passages."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocketrank.data.records import Passage
from rocketrank.index.vectors import VectorType

from .small_index import HashingEncoder

Contents = Mapping[str, Passage]
"""A commit's passages by id, in the index's order."""

ENCODER = HashingEncoder()
FIELDS = ("year", "source")
PASSAGES = 48
CONTENTS = 4
_YEARS = (None, 1999, 2010, 2020, 2021)
_SOURCES = (None, "nyt", "NYT", "o'neill", "zürich")


def passage(number: int, content: int) -> Passage:
    """The passage with id ``p<number>`` in one of four forms.

    The last two have the text of the first two; many passages have the same vector.
    """
    random = np.random.default_rng(2 * number + content % 2)
    words = random.integers(6, size=random.integers(1, 4))
    random = np.random.default_rng(CONTENTS * number + content)
    values = {"year": _YEARS[random.integers(5)], "source": _SOURCES[random.integers(5)]}
    metadata = {name: value for name, value in values.items() if value is not None}
    title = f"title {content}" if random.integers(3) == 0 else ""
    return Passage(f"p{number}", " ".join(f"w{word}" for word in words), title, metadata)


class Filter(NamedTuple):
    """A condition on year and source, and which passages meet it."""

    where: str
    keeps: Callable[[int | None, str | None], bool]


FILTERS = (
    Filter("year >= 2020 and source = 'nyt'", lambda y, s: y in (2020, 2021) and s == "nyt"),
    Filter("year is null or source = 'o''neill'", lambda y, s: y is None or s == "o'neill"),
    # A missing year meets no comparison, and no negated one either.
    Filter("not (year = 1999)", lambda y, s: y in (2010, 2020, 2021)),
    Filter("source in ('zürich', 'NYT')", lambda y, s: s in ("zürich", "NYT")),
    Filter("year between 2000 and 2015", lambda y, s: y == 2010),
    Filter("source is not null and year != 2021", lambda y, s: bool(s and y and y != 2021)),
    Filter("year > 3000", lambda y, s: False),
)


def as_stored(vectors: NDArray[np.float32], vector_type: VectorType) -> NDArray[np.float32]:
    """What is left of ``vectors`` (n, dim) when they are stored in this type."""
    if vector_type == "float32":
        return vectors
    if vector_type == "float16":
        return vectors.astype(np.float16).astype(np.float32)
    rounded = np.zeros_like(vectors)
    for place, vector in enumerate(vectors):
        largest = max(abs(float(number)) for number in vector)
        if largest:
            # A 127th of it, rounded up to 16 binary digits.
            mantissa, exponent = math.frexp(largest / 127)
            scale = math.ldexp(math.ceil(math.ldexp(mantissa, 16)), exponent - 16)
            rounded[place] = [round(float(number) / scale) * scale for number in vector]
    return rounded


def exact_search(
    contents: Contents,
    vector_type: VectorType,
    query: NDArray[np.float32],
    k: int,
    chosen: Filter | None = None,
) -> list[tuple[str, np.float32]]:
    """The ``k`` best passages by falling score and then in the index's order, with their scores."""
    kept = [
        each
        for each in contents.values()
        if chosen is None or chosen.keeps(*(each.metadata.get(name) for name in FIELDS))
    ]
    if not kept:
        return []
    vectors = ENCODER.encode_passages([p.text for p in kept], [p.title for p in kept])
    vectors = as_stored(vectors, vector_type)
    # Products of float32 are exact in this type, and their sums nearly so.
    scores = (vectors.astype(np.longdouble) @ query.astype(np.longdouble)).astype(np.float32)
    order = sorted(range(len(kept)), key=lambda place: -scores[place])
    return [(kept[place].id, scores[place]) for place in order[:k]]


@dataclass
class Model:
    """The commits of an index, ``kept`` of them before the one in force."""

    kept: int
    current: int = 0
    history_from: int = 0
    commits: dict[int, Contents] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    @property
    def now(self) -> Contents:
        return self.commits[self.current]

    def commit(self, contents: Contents, *, new_history: bool = False) -> None:
        self.current += 1
        self.commits[self.current] = contents
        if new_history:
            self.history_from = self.current

    def forget(self, held: Collection[int]) -> None:
        """What every change ends with: commits that need not be kept are no longer there."""
        oldest = max(self.history_from, self.current - self.kept)
        needed = {*held, *self.names.values(), self.current}
        self.commits = {
            number: contents
            for number, contents in self.commits.items()
            if number >= oldest or number in needed
        }

    def with_passages(self, passages: Sequence[Passage]) -> dict[str, Passage]:
        """New and changed ones come last, in the order in which they are given."""
        contents = dict(self.now)
        for each in passages:
            if contents.get(each.id) != each:
                contents.pop(each.id, None)
                contents[each.id] = each
        return contents
