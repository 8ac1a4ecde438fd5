"""docs/scale.md from the small files that scale.py leaves."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from page import write_page

from rocketrank.durable import write_durably
from rocketrank.eval.charts import Chart, Line, svg

_LOOKS = ("#1f6feb", "●"), ("#c2410c", "■"), ("#15803d", "▲"), ("#7e22ce", "◆")
"""Colour and mark of each line; the marks are those of charts.py."""

Results = Sequence[dict[str, Any]]


def write_tables(results: Path, page: Path) -> None:
    """Puts the tables into ``page``, and a picture beside it."""
    found = {
        name: sorted(
            (
                {**orjson.loads(path.read_bytes()), "name": path.stem.split("-")[1:-1]}
                for path in results.glob(f"{name}-*.json")
            ),
            key=lambda each: ("-".join(each["name"]), each["count"]),
        )
        for name in ("build", "search", "overhead", "peer")
    }
    write_page(page, "scale.py", "\n".join(_tables(found)))
    write_durably(page.with_suffix(".svg"), [_picture(found["search"]).encode()])


def _tables(found: dict[str, Results]) -> Iterator[str]:
    yield "### Building"
    yield ""
    yield "| kind | passages | minutes | memory | structure | vectors | passages file |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for each in found["build"]:
        budget = "" if each["memory_gib"] is None else f" of {each['memory_gib']:g}"
        yield (
            f"| {_name(each)} ({each['factory']}) | {each['count']:,} | {each['seconds'] / 60:.1f} "
            f"| {_gib(each['peak_bytes'])}{budget} GiB | {_gib(each['structure_bytes'])} GiB "
            f"| {_gib(each['vectors_bytes'])} GiB, {each['vectors']} "
            f"| {_gib(each['passages_bytes'])} GiB |"
        )
    yield ""
    yield "### Searching, recall of the exact 100 best"
    yield ""
    yield (
        "| kind | passages | effort | refined | recall@100 | ms, one at a time: p50 | p99 "
        "| ms a query, 32 at a time | opening | memory |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for each in found["search"]:
        opening = f"{max(each['opening_seconds']) * 1000:.0f} ms"
        memory = f"{_gib(each['peak_bytes'])} GiB"
        yield _searched(each, "as it is", each["usual"], opening, memory)
        best = cheapest(each)
        if best is not None:
            yield _searched(each, f"cheapest of {each['goal']:g}", best, opening, memory)
    yield ""
    yield "### The store beside the structure alone"
    yield ""
    yield "| kind | passages | one at a time | 32 at a time | the structure alone |"
    yield "|---|---:|---:|---:|---:|"
    for each in found["overhead"]:
        one, many = (_spread(each["ratio"][size], ".3f") for size in ("1", "32"))
        alone = ", ".join(
            f"{statistics.median(each['plain_ms'][size]):.2f}" for size in ("1", "32")
        )
        yield f"| {_name(each)} | {each['count']:,} | {one} | {many} | {alone} ms a query |"
    if found["peer"]:
        yield ""
        yield "### Another library over the same vectors"
        yield ""
        yield "| library | passages | minutes to build | breadth | recall | p50 | p99 | memory |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        for each in found["peer"]:
            for tried in each["tried"]:
                yield (
                    f"| {_name(each)} | {each['count']:,} | {each['seconds'] / 60:.1f} "
                    f"| {tried['breadth']} | {tried['recall']:.4f} | {tried['ms_p50']:.2f} "
                    f"| {tried['ms_p99']:.2f} | {_gib(each['peak_bytes'])} GiB |"
                )


def cheapest(result: dict[str, Any]) -> dict[str, Any] | None:
    """What reaches the goal in the least time, if anything does."""
    enough = [each for each in result["tried"] if each["recall"] >= result["goal"]]
    return min(enough, key=lambda each: float(each["ms_p50"])) if enough else None


def _searched(
    result: dict[str, Any], effort: str, measured: dict[str, Any], opening: str, memory: str
) -> str:
    refined = measured.get("refine", "")
    factor = f"{measured['effort']:g}" if "effort" in measured else effort
    return (
        f"| {_name(result)} | {result['count']:,} | {factor} | {refined} "
        f"| {measured['recall']:.4f} | {measured['ms_p50']:.2f} | {measured['ms_p99']:.2f} "
        f"| {measured['ms_of_32']:.2f} | {opening} | {memory} |"
    )


def _picture(results: Results) -> str:
    """Milliseconds a query against the number of passages, as it is and at the goal."""
    names = sorted({_name(each) for each in results})
    lines = []
    for style, name in enumerate(names):
        own = [each for each in results if _name(each) == name]
        usual = [(float(each["count"]), each["usual"]["ms_p50"]) for each in own]
        lines.append(Line(name=f"{name}, as it is", points=usual, style=style, marks=True))
    counts = [float(each["count"]) for each in results]
    chart = Chart(
        title="A query's time against the size of the index",
        unit="ms a query, median",
        lines=lines,
        first=min(counts),
        last=max(counts),
        from_zero=True,
        across="passages",
        logarithmic=True,
    )
    head, _, rest = svg(chart, 0).partition(">")
    names_of_lines = "".join(
        f'<text class="name{style}" x="{170 + 90 * style}" y="14">{_LOOKS[style][1]} {name}</text>'
        for style, name in enumerate(names)
    )
    body = rest.removesuffix("</svg>") + names_of_lines
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_style()}{body}</svg>\n'


def _style() -> str:
    rules = [
        "text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}.axis{stroke:#777}",
        "path,polyline{fill:none;stroke-width:2}.mark{stroke:none}svg{background:#fff}",
    ]
    rules += [
        f".line{style}{{stroke:{colour}}}.mark.line{style},.name{style}{{fill:{colour}}}"
        for style, (colour, _) in enumerate(_LOOKS)
    ]
    return f"<style>{''.join(rules)}</style>"


def _name(result: dict[str, Any]) -> str:
    return "-".join(result["name"])


def _gib(count: float) -> str:
    return f"{count / (1 << 30):.2f}"


def _spread(values: Sequence[float], form: str) -> str:
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"
