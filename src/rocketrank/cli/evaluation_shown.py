"""Results of ``rq eval`` on the terminal and in files."""

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..durable import write_durably
from ..eval import (
    CostPoint,
    Difference,
    RunResult,
    changed_queries_text,
    json_document,
    latex_table,
    markdown_table,
    terminal_table,
    write_json,
    write_page,
    write_per_query_tsv,
)
from .evaluate import Asked
from .show import style_of_output

_MOST_WITH_TEXTS = 1000
_SUFFIXES = re.compile(r"(\.(trec|txt|tsv|run|res|json|jsonl))?(\.(gz|bz2|xz|zst))?\Z")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found, and the texts that are known, for tables and pages.

    ``depths`` is how many passages were re-ranked, by system, where an index was searched.
    """

    results: Sequence[RunResult]
    differences: Sequence[Difference] = ()
    about_judgements: Sequence[str] = ()
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    passages: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)

    @property
    def costs(self) -> list[CostPoint]:
        """Quality against time, of the stages of an index."""
        return [
            CostPoint("two stages", self.depths.get(one.name, 0), one.milliseconds, _means(one))
            for one in self.results
            if one.milliseconds is not None
        ]


def show(found: Evaluation, outputs: Sequence[Path], *, changed: int, json: bool) -> None:
    """Notes on standard error, tables on standard output, and the files that were asked for."""
    for sentence in found.about_judgements:
        _log.warning("%s", sentence)
    for name, sentences in found.notes.items():
        for sentence in sentences:
            _log.warning("%s: %s", name, sentence)
    if json:
        document = json_document(found.results, found.differences, details=found.details)
        sys.stdout.write(document.decode())
    else:
        width = style_of_output().width
        sys.stdout.write(terminal_table(found.results, found.differences, width=width))
        for difference in found.differences if changed else ():
            if difference.measure == found.differences[0].measure:
                shown = difference._replace(changed=difference.changed[:changed])
                text = changed_queries_text(
                    shown, found.results, found.queries, found.passages, width=width
                )
                sys.stdout.write(f"\n{text}")
    for path in outputs:
        _WRITERS[path.suffix.lower()](path, found)
        print(f"Wrote {path}.", file=sys.stderr)


def fits_page(results: Sequence[RunResult]) -> bool:
    """Whether a page is still opened easily with the texts of all lists."""
    return max((one.queries for one in results), default=0) <= _MOST_WITH_TEXTS


def system_names(runs: Sequence[str]) -> list[str]:
    """File names without their endings; the paths themselves where those are alike."""
    short = [_SUFFIXES.sub("", Path(path).name) or path for path in runs]
    return list(runs) if len(set(short)) < len(short) else short


def details_of(asked: Asked) -> dict[str, Any]:
    """What was measured, without the names of folders; conditions of the systems are added."""
    queries = {"queries": Path(asked.queries).name} if asked.queries else {}
    return {**queries, "measures": list(asked.measures)}


def _means(result: RunResult) -> dict[str, float]:
    return {measure: result.mean(measure) for measure in result.measures}


def _write_json(path: Path, found: Evaluation) -> None:
    write_json(path, found.results, found.differences, details=found.details)


def _write_tsv(path: Path, found: Evaluation) -> None:
    write_per_query_tsv(path, found.results)


def _write_markdown(path: Path, found: Evaluation) -> None:
    _write_text(path, markdown_table(found.results, found.differences))


def _write_latex(path: Path, found: Evaluation) -> None:
    _write_text(path, latex_table(found.results, found.differences))


def _write_text(path: Path, text: str) -> None:
    write_durably(path, [text.encode("utf-8", "replace")], cure="name another file or make room")


def _write_html(path: Path, found: Evaluation) -> None:
    # a page with the texts of thousands of lists is too large to open
    passages = found.passages if fits_page(found.results) else None
    about = found.details.get("qrels") or found.details.get("queries") or path.stem
    write_page(
        path,
        found.results,
        found.differences,
        title=f"Evaluation: {about}",
        queries=found.queries,
        passages=passages,
        notes={**found.notes, "all systems": found.about_judgements},
        costs=found.costs,
    )


_WRITERS: dict[str, Callable[[Path, Evaluation], None]] = {
    ".json": _write_json,
    ".tsv": _write_tsv,
    ".md": _write_markdown,
    ".tex": _write_latex,
    ".html": _write_html,
}
