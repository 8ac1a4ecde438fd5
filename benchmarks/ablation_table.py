"""The results of the ablation: a small file for each run, and the table made of all of them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from rocketrank.durable import write_durably
from rocketrank.errors import DataError
from rocketrank.eval.measures import mean
from rocketrank.eval.significance import crossed_bootstrap_interval, paired_differences

PRIMARY = "nDCG@10"
"""The measure that decisions are made by; the other is only shown."""
MEASURES = (PRIMARY, "RR@10")
SYSTEMS = ("retriever", "reranker")
START = "start"
"""Not a variant: both models as the warm-up left them."""

_LEVEL = 0.05
_ROUNDS = 20_000
_LEAST_SEEDS = 3


class Result(NamedTuple):
    """One run. ``values``: system → measure → a value for each dev query, in the order of ids.

    ``settings`` is all that the runs of one table must share, ``recipe`` what the variant changes.
    ``lists`` counts what denoising did, for a variant that has denoised lists.
    """

    variant: str
    seed: int
    settings: dict[str, Any]
    recipe: dict[str, str]
    steps: int
    train_queries: int
    dev_queries: int
    dev_sha256: str
    lists: dict[str, int]
    agreement: float | None
    values: dict[str, dict[str, list[float]]]


class Row(NamedTuple):
    """A variant in one system and measure; ``deviation`` is that of the means of its seeds.

    ``difference`` and ``interval`` are those from the baseline, None for itself and where no seed
    is common. ``significant``: the interval that allows for all comparisons leaves out 0.
    """

    variant: str
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    significant: bool = False


def result_path(folder: Path, variant: str, seed: int) -> Path:
    return folder / f"{variant}-seed{seed}.json"


def write_result(folder: Path, result: Result) -> None:
    """One key a line, so that a change of a result is read as one."""
    lines = [
        orjson.dumps(key) + b": " + orjson.dumps(value) for key, value in result._asdict().items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    content = b"{\n" + b",\n".join(lines) + b"\n}\n"
    write_durably(result_path(folder, result.variant, result.seed), [content])


def read_result(path: Path) -> Result:
    try:
        return Result(**orjson.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: expected a result of the ablation, found an error ({error}): remove it and "
            "run the ablation again"
        ) from error


def read_results(folder: Path) -> list[Result]:
    """All results, which must be of the same settings and dev queries, or DataError."""
    paths = sorted(folder.glob("*-seed*.json"))
    results = [read_result(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        changed = {
            key: (results[0].settings.get(key), result.settings.get(key))
            for key in results[0].settings.keys() | result.settings.keys()
            if results[0].settings.get(key) != result.settings.get(key)
        }
        if changed or result.dev_sha256 != results[0].dev_sha256:
            shown = "; ".join(f"{key}: {one} / {other}" for key, (one, other) in changed.items())
            raise DataError(
                f"{paths[0]} and {path} are of different experiments "
                f"({shown or 'other dev queries'}): keep the results of one of them in the folder"
            )
    return results


def summarise(
    results: Sequence[Result],
    variants: Iterable[str],
    system: str,
    measure: str,
    *,
    baseline: str,
    comparisons: int,
) -> list[Row]:
    """A row for each of ``variants`` that has results, in that order.

    Differences are seed by seed and query by query over the common seeds; the 95 % interval is over
    queries and seeds. ``comparisons`` is how many are made in all, for Bonferroni's correction.
    """
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for result in results:
        numbered = dict(enumerate(result.values[system][measure]))
        runs.setdefault(result.variant, {})[result.seed] = {
            str(query): value for query, value in numbered.items()
        }
    rows = []
    for variant in variants:
        seeds = runs.get(variant)
        if not seeds:
            continue
        means = [mean(seeds[seed]) for seed in sorted(seeds)]
        deviation = statistics.stdev(means) if len(means) > 1 else None
        row = Row(variant, tuple(sorted(seeds)), statistics.fmean(means), deviation)
        common = sorted(seeds.keys() & runs.get(baseline, {}).keys())
        if variant != baseline and common:
            paired = [paired_differences(seeds[seed], runs[baseline][seed]) for seed in common]
            row = _compared(row, paired, comparisons)
        rows.append(row)
    return rows


def _compared(row: Row, paired: Sequence[Mapping[str, float]], comparisons: int) -> Row:
    low, high = crossed_bootstrap_interval(paired, confidence=1 - _LEVEL, rounds=_ROUNDS)
    least, most = crossed_bootstrap_interval(
        paired, confidence=1 - _LEVEL / max(1, comparisons), rounds=_ROUNDS
    )
    return row._replace(
        difference=statistics.fmean(mean(each) for each in paired),
        interval=(low, high),
        significant=row.variant != START and (least > 0 or most < 0),
    )


def page_text(results: Sequence[Result], labels: Mapping[str, str], baseline: str) -> str:
    """What stands between the markers: settings, a table for each system, what is significant.

    ``labels`` is variant → what a reader is told, in the order of the rows.
    """
    if not results:
        return "No run has finished yet."
    found = {result.variant for result in results}
    variants = [each for each in (START, *labels) if each in found]
    compared = [each for each in variants if each not in (START, baseline)]
    comparisons = len(compared) * len(SYSTEMS) if baseline in found else 0
    parts = [_settings_text(results)]
    notable = []
    for system in SYSTEMS:
        columns = [
            summarise(
                results, variants, system, measure, baseline=baseline, comparisons=comparisons
            )
            for measure in MEASURES
        ]
        names = {START: "after the warm-up, before joint training", **labels}
        title = {"retriever": "The retriever", "reranker": "The re-ranker"}[system]
        parts.append(f"**{title}** over all candidates of a dev query:\n\n{_table(columns, names)}")
        notable += [
            f"{labels[row.variant]}: {title.lower()} {_signed(row.difference)}"
            for row in columns[0]
            if row.significant and row.difference is not None
        ]
    parts.append(_verdict(notable, comparisons))
    parts += _notes(results, labels, found)
    return "\n\n".join(parts)


def _settings_text(results: Sequence[Result]) -> str:
    first = next((each for each in results if each.variant != START), results[0])
    settings = first.settings
    seeds = sorted({result.seed for result in results})
    return (
        f"{first.train_queries} training queries and {first.dev_queries} dev queries; "
        f"{settings['layers'] or 'all'} layers of MiniLM; lists of {settings['list_length']}, "
        f"{settings['lists_per_step']} lists a step, {first.steps} steps; learning rates "
        f"{settings['learning_rate']:g} (retriever) and {settings['reranker_learning_rate']:g} "
        f"(re-ranker); seeds {', '.join(map(str, seeds))}."
    )


def _table(columns: Sequence[Sequence[Row]], names: Mapping[str, str]) -> str:
    heads = [f"{measure} | from eq. 4 (95 % interval)" for measure in MEASURES]
    lines = [f"| variant | seeds | {' | '.join(heads)} |", "|---|---|" + "---|---|" * len(heads)]
    for rows in zip(*columns, strict=True):
        cells = [names[rows[0].variant], str(len(rows[0].seeds))]
        for number, row in enumerate(rows):
            spread = "" if row.deviation is None else f" ± {row.deviation:.4f}"
            marked = " *" if row.significant and number == 0 else ""
            cells += [f"{row.mean:.4f}{spread}", _difference(row) + marked]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(row: Row) -> str:
    if row.difference is None or row.interval is None:
        return ""
    low, high = map(_signed, row.interval)
    return f"{_signed(row.difference)} ({low} to {high})"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def _verdict(notable: Sequence[str], comparisons: int) -> str:
    if not comparisons:
        return "There is nothing to compare with eq. 4 yet."
    scope = f"at {_LEVEL:g} after Bonferroni's correction for {comparisons} comparisons"
    if not notable:
        return f"No variant differs significantly from eq. 4 in {PRIMARY}, {scope}."
    return f"Significant differences from eq. 4 in {PRIMARY} (*), {scope}: {'; '.join(notable)}."


def _notes(results: Sequence[Result], labels: Mapping[str, str], found: set[str]) -> list[str]:
    notes = []
    agreements = []
    for variant in (START, *labels):
        taus = [r.agreement for r in results if r.variant == variant and r.agreement is not None]
        if taus:
            name = labels.get(variant, "after the warm-up")
            agreements.append(f"{name} {statistics.fmean(taus):.3f}")
    if agreements:
        notes.append(f"Agreement of both models' orders (Kendall's τ): {'; '.join(agreements)}.")
    for result in results:
        if result.lists:
            counts = ", ".join(f"{count} {name}" for name, count in result.lists.items())
            notes.append(f"Denoising with seed {result.seed}: {counts}.")
    missing = [label for variant, label in labels.items() if variant not in found]
    if missing:
        notes.append(f"Not run yet: {'; '.join(missing)}.")
    counts_of_seeds = [
        len({r.seed for r in results if r.variant == variant}) for variant in found - {START}
    ]
    if counts_of_seeds and min(counts_of_seeds) < _LEAST_SEEDS:
        notes.append(f"Preliminary: some variant has fewer than {_LEAST_SEEDS} seeds.")
    return notes
