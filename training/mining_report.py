"""What each rule of mining did: counts, and a few examples for a person to judge the rules by."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from ..data.records import Passage
from .cuts import QUERY_KINDS, QueryKind
from .denoising import Decision, Found, Rule

EXAMPLES_KEPT = 10
"""How many examples of each rule a report holds."""
_PASSAGE_START = 300

QUERIES: Final[Mapping[str, str]] = {
    "labelled": "with a labelled positive: mined",
    "synthetic": "made from passages: mined",
    "pseudo": "without a judgement: mined for a pseudo-positive",
    "unjudged": "without a judgement: left out",
    "without_positive": "judged, but without a positive: left out",
    "unknown": "of the judgements are not among the queries",
    "positives": "labelled positives",
    "same_positive": "labelled positives that read like another of their query: no list",
}
CANDIDATES: Final[Mapping[str, str]] = {
    "retriever": "found by the retriever",
    "bm25": "found by BM25",
    "labelled_positive": "left out: labelled positives",
    "duplicate_id": "left out: found twice (same id)",
    "text_of_positive": "left out: same text as a labelled positive",
    "duplicate_text": "left out: same text as one found before",
    "pool": "left: negatives to draw from, and to denoise",
    "kept": "denoising kept as negatives: confidence below the lower limit",
    "promoted": "denoising promoted to positives: confidence above the upper limit",
    "uncertain": "denoising dropped: confidence between the limits",
    "judged_irrelevant": "denoising dropped: above the upper limit, but judged not relevant",
    "pseudo_positive": "became the pseudo-positive of a query without a judgement",
    "not_confident": "best of a query without a judgement, but not confident: query left out",
}
LISTS: Final[Mapping[str, str]] = {
    "undenoised": "undenoised",
    "denoised": "denoised, for labelled positives",
    "promoted": "denoised, for promoted positives",
    "pseudo": "denoised, for pseudo-positives",
    "short": "of all these with fewer negatives than were asked for",
    "without_negatives": "not written: no negative was left",
}
SYNTHETIC: Final[Mapping[str, str]] = {
    "passages": "passages read",
    "absent": "dropped: the passage has none, or nothing else",
    "later_part": "dropped: of a document's later parts",
    "length": "dropped: fewer than 3 or more than 40 words",
    "short_rest": "dropped: next to nothing is left of the passage",
    "repeated": "dropped: the rest of the passage says it too",
    "masked": "dropped: next to nothing is left of it without its names",
    "elsewhere": "dropped: other documents have it too",
    "not_drawn": "left out: more than were asked for",
    "drawn": "queries",
    "not_found": "dropped: the retriever does not find the rest of the passage by it",
    "not_confident": "dropped: the re-ranker is confident of another passage",
    "kept": "kept",
}
_SECTIONS: Final = {"queries": QUERIES, "candidates": CANDIDATES, "lists": LISTS}


class Example(NamedTuple):
    """A candidate that a rule decided on. ``score`` is that of the search named by ``source``.

    ``reranker_score`` and ``positive_reranker_score`` are logits, None where nothing was re-ranked.
    """

    query_id: str
    query: str
    id: str
    title: str
    passage: str
    source: str
    score: float | None
    reranker_score: float | None
    positive_reranker_score: float | None
    confidence: float | None


class MiningReport:
    """Counts by section and name, and up to ``EXAMPLES_KEPT`` examples of each rule.

    A rule gives one example a query, its best-ranked candidate, so that the few are not all of one
    query.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Example]] = {}

    def count(self, section: str, name: str, number: int = 1) -> None:
        self.counts[f"{section}.{name}"] += number

    def count_all(self, section: str, numbers: Mapping[str, int]) -> None:
        for name, number in numbers.items():
            self.count(section, name, number)

    def record(self, query_id: str, query: str, decisions: Iterable[Decision]) -> None:
        """Counts one query's decisions, and keeps examples of them while there is room."""
        seen: set[Rule] = set()
        for decision in decisions:
            self.count("candidates", decision.rule)
            examples = self.examples.setdefault(decision.rule, [])
            if decision.rule not in seen and len(examples) < EXAMPLES_KEPT:
                examples.append(_example(query_id, query, decision))
            seen.add(decision.rule)

    def count_synthetic(self, kind: QueryKind, rule: str, query: str, passage: Passage) -> None:
        """Counts what a rule did with a synthetic query, and keeps it while there is room."""
        self.count(kind, rule)
        examples = self.examples.setdefault(f"{kind}.{rule}", [])
        if query and len(examples) < EXAMPLES_KEPT:
            found = Found(passage, None, f"synthetic:{kind}")
            examples.append(_example(f"{kind}/{passage.id}", query, Decision("kept", found)))

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds what ``as_record`` gave for a batch of later queries."""
        self.counts.update(record["counts"])
        for rule, examples in record["examples"].items():
            kept = self.examples.setdefault(rule, [])
            kept.extend(Example(**each) for each in examples[: EXAMPLES_KEPT - len(kept)])

    def as_record(self) -> dict[str, Any]:
        """For JSON, and for ``add``."""
        examples = {
            rule: [each._asdict() for each in kept] for rule, kept in self.examples.items() if kept
        }
        return {"counts": dict(self.counts), "examples": examples}

    def as_json(self, made_with: Mapping[str, object]) -> bytes:
        """The report as a file: ``made_with`` (the options), all counts, and the examples."""
        made = {"synthesis": self._numbers(self._synthetic())} if self._synthetic() else {}
        content = {
            "made_with": dict(made_with),
            **made,
            **self._numbers(_SECTIONS),
            "examples": self._examples_in_order(),
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def table(self) -> Iterator[str]:
        """Lines for a terminal: each section's counts that are not zero, right-aligned."""
        width = max((len(f"{number:,}") for number in self.counts.values()), default=1)
        for section, names in {**self._synthetic(), **_SECTIONS}.items():
            yield f"synthetic: {section}" if section in QUERY_KINDS else section
            for name, words in names.items():
                number = self.counts[f"{section}.{name}"]
                if number:
                    yield f"  {number:>{width},}  {words}"

    def example_lines(self, number: int) -> Iterator[str]:
        """Lines for a terminal: up to ``number`` examples of each rule, their texts uncut."""
        for rule, examples in self._examples_in_order().items():
            kind, _, name = rule.rpartition(".")
            yield f"{rule}: {SYNTHETIC[name] if kind else CANDIDATES[rule]}"
            for each in examples[:number]:
                yield f"  query {each['query_id']}: {each['query']}"
                yield f"    {_scores(each)}"
                passage = (
                    f"{each['title']}: {each['passage']}" if each["title"] else each["passage"]
                )
                yield f"    {each['id']}: {passage}"

    def _examples_in_order(self) -> dict[str, list[dict[str, Any]]]:
        made = [f"{kind}.{rule}" for kind in QUERY_KINDS for rule in SYNTHETIC]
        return {
            rule: [each._asdict() for each in self.examples[rule]]
            for rule in (*made, *CANDIDATES)
            if self.examples.get(rule)
        }

    def _synthetic(self) -> Mapping[str, Mapping[str, str]]:
        """The kinds of synthetic queries that there were, with what can be counted of them."""
        asked = [
            kind for kind in QUERY_KINDS if any(self.counts[f"{kind}.{rule}"] for rule in SYNTHETIC)
        ]
        return dict.fromkeys(asked, SYNTHETIC)

    def _numbers(self, sections: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, int]]:
        return {
            section: {name: self.counts[f"{section}.{name}"] for name in names}
            for section, names in sections.items()
        }


def _example(query_id: str, query: str, decision: Decision) -> Example:
    found = decision.found
    return Example(
        query_id=query_id,
        query=query,
        id=found.passage.id,
        title=found.passage.title,
        passage=found.passage.text[:_PASSAGE_START],
        source=found.source,
        score=found.score,
        reranker_score=decision.logit,
        positive_reranker_score=decision.positive_logit,
        confidence=decision.confidence,
    )


def _scores(example: Mapping[str, Any]) -> str:
    shown = (
        (example["source"], example["score"], ".4f"),
        ("re-ranker", example["reranker_score"], ".3f"),
        ("its positive", example["positive_reranker_score"], ".3f"),
        ("confidence", example["confidence"], ".4g"),
    )
    return ", ".join(f"{name} {value:{form}}" for name, value, form in shown if value is not None)
