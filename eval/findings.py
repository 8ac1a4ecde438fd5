"""What an evaluation had to decide about a run, in sentences for a terminal."""

import re
from collections.abc import Collection, Iterator, Sequence

from .results import AnswerMarks, Findings, Ordering, RunResult

# Measures that no passage beyond the end of a list can raise: the name and the cutoff.
_CUT = re.compile(r"((?:R|Recall|Success)(?:\([^)]*\))?@|top-)([0-9]+)")
_JUDGED_CUTOFF = 10
_FEW_JUDGED = 0.95
# Where fewer passages of a query are judged, nobody judged what systems retrieved.
_POOLED = 10
_EQUAL = 1e-9
_SINGLE = "in single precision, as trec_eval holds them"


def describe_findings(result: RunResult) -> list[str]:
    """One sentence for each finding, with how many, an example and the cure; none for no finding.

    Equal scores are told only where they matter: where they move a mean, or where all scores of a
    query are equal. What :func:`describe_judgements` says is left out.
    """
    findings = result.findings
    return [
        *_about_queries(result),
        *_about_passages(findings),
        *_about_depth(result),
        *_about_order(findings),
        *(_moved(measure, means, findings) for measure, means in findings.orderings.items()),
        *_about_judged(findings),
        *_about_marks(findings.answers or AnswerMarks()),
    ]


def describe_judgements(results: Sequence[RunResult]) -> list[str]:
    """Sentences that are true of the judgements, or of the questions, whatever the run."""
    sentences = []
    judged = [each for each in results if each.findings.answers is None]
    if without := _without_relevant(judged):
        sentences.append(
            f"{len(without)} of the judged queries {_have(without)} no relevant passage (such as "
            f"{without[0]}) and can only count as 0; take {_them(without)} out of the judgements "
            "for means over the others"
        )
    asked = [each for each in results if each.findings.answers is not None]
    if hopeless := _without_relevant(asked):
        sentences.append(
            f"{len(hopeless)} of the {max(each.queries for each in asked)} questions "
            f"{_have(hopeless)} no answer to look for (such as {hopeless[0]}) and "
            f"{_count(hopeless)} as not found, as in DPR"
        )
    return sentences


def _without_relevant(results: Sequence[RunResult]) -> list[str]:
    return list(dict.fromkeys(one for each in results for one in each.findings.without_relevant))


def _about_queries(result: RunResult) -> Iterator[str]:
    findings = result.findings
    by_answers = findings.answers is not None
    if missing := findings.missing:
        yield (
            f"{len(missing)} of {result.queries} questions {_have(missing)} no passages (such as "
            f"{missing[0]}) and {_count(missing)} as not found, as in DPR"
            if by_answers
            else _about_missing(missing, result)
        )
    if unjudged := findings.unjudged:
        lacking = (
            f"{_are(unjudged)} none of the questions"
            if by_answers
            else f"{_have(unjudged)} no judgements"
        )
        yield (
            f"{_queries(unjudged)} of the run {lacking} (such as {unjudged[0]}) and "
            f"{_are(unjudged)} left out"
        )


def _about_missing(missing: Sequence[str], result: RunResult) -> str:
    counts_as_0 = missing[0] in next(iter(result.values.values()), {})
    judged = result.queries + (0 if counts_as_0 else len(missing))
    if len(missing) == judged:
        return (
            f"none of the {judged} judged queries, such as {missing[0]}, is in the run, so every "
            "measure is 0: check that the run and the judgements are of the same queries"
        )
    return f"{len(missing)} of {judged} judged queries {_are(missing)} not in the run (such as " + (
        f"{missing[0]}) and {_count(missing)} as 0; --missing skip leaves {_them(missing)} out"
        if counts_as_0
        else f"{missing[0]}) and {_are(missing)} left out; --missing zero counts {_them(missing)} "
        "as 0"
    )


def _about_passages(findings: Findings) -> Iterator[str]:
    if duplicates := findings.duplicates:
        more = sum(duplicates.values())
        yield (
            f"{_queries(duplicates)} {_have(duplicates)} passages that were retrieved more than "
            f"once (such as {next(iter(duplicates))}); each counts once, at its best place, and "
            f"{_number(more, 'further occurrence')} {'is' if more == 1 else 'are'} left out"
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


def _about_depth(result: RunResult) -> Iterator[str]:
    longest = result.findings.longest
    cut = [found for each in result.measures if (found := _CUT.fullmatch(each))]
    alike = [f"{found[0]} is {found[1]}{longest}" for found in cut if int(found[2]) > longest]
    if longest and alike:
        *others, last = alike
        yield (
            f"no list has more than {_number(longest, 'passage')}, so "
            f"{', '.join(others)}{' and ' if others else ''}{last}; search deeper for "
            f"{_them(alike)}"
        )


def _about_order(findings: Findings) -> Iterator[str]:
    by_rank = findings.order == "rank"
    if all_tied := findings.all_tied:
        yield (
            f"{_queries(all_tied)} {_have(all_tied)} scores that are all equal {_SINGLE} (such as "
            f"{all_tied[0]}), so that only the "
            + (
                "ranks order the passages"
                if by_rank
                else "ids order the passages; --order rank goes by the ranks"
            )
        )
    if disordered := findings.disordered:
        yield (
            f"{_queries(disordered)} {_have(disordered)} ranks that contradict the scores (such as "
            f"{disordered[0]}); "
            + (
                "the ranks count, and --order score goes by the scores, as trec_eval does"
                if by_rank
                else "the scores count, as in trec_eval, and --order rank goes by the ranks"
            )
        )


def _moved(measure: str, means: Ordering, findings: Findings) -> str:
    by_ties = means.best - means.worst > _EQUAL
    by_rank = findings.order == "rank"
    here = " (in the table)"
    figures = [
        f"{means.trec_eval:.4f}{'' if by_rank else here} by score"
        + (", equal ones by id, as in trec_eval" if by_ties else ", as in trec_eval"),
        f"{means.own:.4f}{here if by_rank else ''} by the run's ranks",
    ]
    if by_rank:
        figures.reverse()
    if by_ties:
        figures.append(
            f"from {means.worst:.4f} to {means.best:.4f} with the relevant passages of a tie last "
            "or first"
        )
    cures = ["that differ in single precision"] if by_ties else []
    if findings.disordered or not by_ties:
        cures.append("that fall with the rank")
    return (
        f"{measure} depends on the order: {'; '.join(figures)}; scores {' and '.join(cures)} make "
        "it one figure"
    )


def _about_judged(findings: Findings) -> Iterator[str]:
    share = findings.judged.get(_JUDGED_CUTOFF, 1.0)
    if share < _FEW_JUDGED and findings.judged_per_query >= _POOLED:
        yield (
            f"{share:.1%} of the first {_JUDGED_CUTOFF} passages of a query are judged; the others "
            "count as not relevant"
        )


def _about_marks(marks: AnswerMarks) -> Iterator[str]:
    if unlike := marks.unlike:
        yield (
            f"{unlike} of {_number(marks.marked, 'mark')} (has_answer) in the file "
            f"{'is' if unlike == 1 else 'are'} not what is found in the text; the figures go by "
            "what is found"
        )
    if textless := marks.textless:
        yield (
            f"{_number(textless, 'passage')} {'has' if textless == 1 else 'have'} no text; what "
            "the file says (has_answer) is taken"
        )


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _queries(ids: Collection[str]) -> str:
    return f"{len(ids)} quer{'y' if len(ids) == 1 else 'ies'}"


def _are(ids: Collection[str]) -> str:
    return "is" if len(ids) == 1 else "are"


def _have(ids: Collection[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _count(ids: Collection[str]) -> str:
    return "counts" if len(ids) == 1 else "count"


def _them(ids: Collection[str]) -> str:
    return "it" if len(ids) == 1 else "them"
