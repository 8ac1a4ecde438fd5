"""What an evaluation had to decide about a run, in sentences for a terminal."""

from collections.abc import Collection, Iterator

from .results import Findings, Ordering, RunResult


def describe_findings(result: RunResult) -> list[str]:
    """One sentence for each finding, with how many, an example and the cure; none for no finding.

    Equal scores are told only where they matter: where they move a mean, or where all scores of a
    query are equal.
    """
    findings = result.findings
    return [
        *_about_queries(result),
        *_about_passages(findings),
        *_about_order(findings),
        *(_moved(measure, means) for measure, means in findings.orderings.items()),
        *_about_judged(findings),
    ]


def _about_queries(result: RunResult) -> Iterator[str]:
    findings = result.findings
    if missing := findings.missing:
        counts_as_0 = missing[0] in next(iter(result.values.values()), {})
        judged = result.queries + (0 if counts_as_0 else len(missing))
        if len(missing) == judged:
            yield (
                f"none of the {judged} judged queries, such as {missing[0]}, is in the run, so "
                "every measure is 0: check that the run and the judgements are of the same queries"
            )
        else:
            yield (
                f"{len(missing)} of {judged} judged queries {_are(missing)} not in the run (such "
                f"as {missing[0]}) and "
                + (
                    f"{_count(missing)} as 0; --missing skip leaves them out"
                    if counts_as_0
                    else f"{_are(missing)} left out; --missing zero counts them as 0"
                )
            )
    if unjudged := findings.unjudged:
        yield (
            f"{_queries(unjudged)} of the run {_have(unjudged)} no judgements (such as "
            f"{unjudged[0]}) and {_are(unjudged)} left out"
        )
    if without := findings.without_relevant:
        yield (
            f"{len(without)} of the judged queries {_have(without)} no relevant passage (such as "
            f"{without[0]}) and can only count as 0; take them out of the judgements for means "
            "over the others"
        )


def _about_passages(findings: Findings) -> Iterator[str]:
    if duplicates := findings.duplicates:
        yield (
            f"{_queries(duplicates)} {_have(duplicates)} passages that were retrieved more than "
            f"once (such as {next(iter(duplicates))}), {sum(duplicates.values())} times too often; "
            "each counts once, at its best place"
        )
    if self_hits := findings.self_hits:
        yield (
            f"{_queries(self_hits)} {_have(self_hits)} a passage with the query's own id (such as "
            f"{self_hits[0]}), which "
            + (
                "was left out"
                if findings.drops_self
                else "counts as any other; where queries are passages of the collection, as in "
                "ArguAna, --drop-self leaves it out"
            )
        )


def _about_order(findings: Findings) -> Iterator[str]:
    if all_tied := findings.all_tied:
        yield (
            f"{_queries(all_tied)} {_have(all_tied)} one score for all passages (such as "
            f"{all_tied[0]}), so that only their ids order them; --order rank goes by the ranks"
        )
    if disordered := findings.disordered:
        yield (
            f"{_queries(disordered)} {_have(disordered)} ranks that contradict the scores (such as "
            f"{disordered[0]}); --order score or --order rank says which count"
        )


def _moved(measure: str, means: Ordering) -> str:
    return (
        f"{measure} depends on the order: {means.trec_eval:.4f} as trec_eval orders equal scores, "
        f"{means.own:.4f} by the run's ranks, from {means.worst:.4f} to {means.best:.4f} with the "
        "relevant passages of a tie last or first; scores without ties make it one figure"
    )


def _about_judged(findings: Findings) -> Iterator[str]:
    for cutoff, share in findings.judged.items():
        if share < 1:
            yield (
                f"{share:.1%} of the first {cutoff} passages of a query are judged; the others "
                "count as not relevant"
            )
            return


def _queries(ids: Collection[str]) -> str:
    return f"{len(ids)} quer{'y' if len(ids) == 1 else 'ies'}"


def _are(ids: Collection[str]) -> str:
    return "is" if len(ids) == 1 else "are"


def _have(ids: Collection[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _count(ids: Collection[str]) -> str:
    return "counts" if len(ids) == 1 else "count"
