"""The measures that are reported for a collection, by its name, and what they are equal to.

msmarco
    MRR@10, R@50, R@1000. MRR@10 is what MS MARCO's official script computes: the first relevant
    passage within rank 10, a mean over all judged queries, 0 for those that the run lacks. That
    script knows ranks and no scores, so ``--order rank`` gives its figure for every run whose
    ranks are 1, 2, 3 and so on; it is the default order's too where the scores have no ties and
    fall with the rank. (A rank that is left out stays an empty place there and is closed up here;
    a passage retrieved twice is refused there.) R@50 and R@1000 are trec_eval's recall, as in the
    papers on RocketQA.
dl
    What the TREC Deep Learning tracks report: nDCG@10 with the grades as gains, and the others
    with passages of grade 2 and above as relevant: ``trec_eval -c -m ndcg_cut.10`` and
    ``trec_eval -c -l 2 -m recip_rank -m map -m recall.100,1000``.
beir
    nDCG@10, R@100 and MRR@10 as ``EvaluateRetrieval`` of BEIR. It leaves out a passage with the
    query's own id: ``--drop-self`` does. Its nDCG and recall are means over the queries that the
    run has (``--missing skip``), its MRR over all judged ones; where no query is missing these are
    the same. Its MRR orders equal scores as they come, the others by passage id as trec_eval does.
nq
    top-1, top-5, top-20 and top-100: the share of questions with an answer in the first k passages
    (DPR). It takes answers and the texts of passages instead of judgements of ids, so it does not
    go together with the others.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..errors import UsageError

NQ = "nq"
NQ_MEASURES = ("top-1", "top-5", "top-20", "top-100")
PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "msmarco": ("MRR@10", "R@50", "R@1000"),
        "dl": ("nDCG@10", "RR(rel=2)", "AP(rel=2)", "R(rel=2)@100", "R(rel=2)@1000"),
        "beir": ("nDCG@10", "R@100", "MRR@10"),
    }
)
DEFAULT_PRESET = "beir"
_BETWEEN = re.compile(r"[,\s]+(?![^(]*\))")


def expand_measures(given: Sequence[str], preset: str | None) -> tuple[str, ...]:
    """The measures to compute: the preset's, then those given, each once.

    An element of ``given`` may hold several, separated by commas or blanks. Without either it is
    the preset "beir". Raises UsageError for an unknown preset, and where answer accuracy ("nq",
    "top-20") is asked for together with measures of judgements. Whether other measures exist is
    for :func:`~rocketrank.eval.measures.evaluate` to say.
    """
    if preset is not None and preset not in (*PRESETS, NQ):
        raise UsageError(
            f"unknown preset ({preset}): expected one of {', '.join((*PRESETS, NQ))}, or name the "
            "measures one by one with --measures"
        )
    asked = [each for one in given for each in _BETWEEN.split(one.strip()) if each]
    if preset is None and not asked:
        preset = DEFAULT_PRESET
    of_preset = NQ_MEASURES if preset == NQ else PRESETS[preset] if preset else ()
    names = tuple(dict.fromkeys((*of_preset, *asked)))
    by_answer = [name for name in names if name.startswith("top-")]
    if by_answer and len(by_answer) < len(names):
        other = next(name for name in names if name not in by_answer)
        raise UsageError(
            f"{by_answer[0]} goes by answers and {other} by judgements, which are not evaluated "
            "together: run the command once with --preset nq and once with the other measures"
        )
    unknown = [name for name in by_answer if name not in NQ_MEASURES]
    if unknown:
        raise UsageError(
            f'unknown measure "{unknown[0]}": expected one of {", ".join(NQ_MEASURES)}'
        )
    return names
