"""docs/performance.md from the files that against_peers.py leaves."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from page import write_page

TITLES = {
    "encode": "Encoding passages",
    "query": "Encoding one query",
    "rerank": "Re-ranking",
    "search": "Search",
    "roofline": "Beside what the cores can multiply",
    "start": "From a cold process",
    "train": "A step of joint training",
}
MEASURES = ("p50", "per_second", "seconds")
"""What a ratio is made of: the first that a side has."""
LESS_IS_BETTER = ("p50", "seconds")
QUALITIES = {
    "nDCG@10": "nDCG@10",
    "cosine": "least cosine to fp32",
    "correlation": "least correlation with fp32",
    "loss": "first loss, no dropout",
    "overlap": "of the 10 best, as fp32",
}

Sides = Mapping[str, Mapping[str, Any]]


def write_tables(results: Path, page: Path) -> None:
    """Puts a table for each question that was asked into ``page``."""
    found = {
        name: orjson.loads((results / f"{name}.json").read_bytes())
        for name in TITLES
        if (results / f"{name}.json").exists()
    }
    write_page(page, "against_peers.py", "\n".join(_tables(found)))


def _tables(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, result in found.items():
        yield f"### {TITLES[name]}"
        yield ""
        machine = result["machine"]
        yield f"{machine['cores']} cores ({machine['processor']}), Python {machine['python']}."
        for work, sides in result["works"].items():
            yield ""
            yield from _table(work, result["unit"], sides)
        yield ""


def _table(work: str, unit: str, sides: Sides) -> Iterator[str]:
    ours = next(iter(sides))
    measure = next(each for each in MEASURES if each in sides[ours])
    qualities = [each for each in QUALITIES if each in sides[ours]]
    late, batched, sized = (
        any(key in side for side in sides.values()) for key in ("p99", "batch_size", "peak_bytes")
    )
    heads = [work, unit, *(["p99"] if late else []), f"{ours} is faster by"]
    heads += [QUALITIES[each] for each in qualities]
    heads += [*(["batch"] if batched else []), *(["memory"] if sized else [])]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" + "|---:" * (len(heads) - 1) + "|"
    for name, side in sides.items():
        cells = [name, spread(side[measure])]
        if late:
            cells.append(spread(side["p99"]))
        cells.append("" if name == ours else spread(ratios(sides, name, measure)))
        cells += [f"{side[each]:.4f}" if each in side else "" for each in qualities]
        if batched:
            cells.append(str(side["batch_size"] or ""))
        if sized:
            cells.append(f"{side['peak_bytes'] / (1 << 30):.2f} GiB")
        yield "| " + " | ".join(cells) + " |"


def ratios(sides: Sides, name: str, measure: str) -> list[float]:
    """How many times faster the first side was, a ratio for each round."""
    ours = next(iter(sides.values()))[measure]
    theirs = sides[name][measure]
    pairs = zip(ours, theirs, strict=True)
    if measure in LESS_IS_BETTER:
        return [their / our for our, their in pairs]
    return [our / their for our, their in pairs]


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return (
        f"{_number(statistics.median(values))} ({_number(min(values))} to {_number(max(values))})"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
