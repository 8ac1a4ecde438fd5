"""Evaluation: runs against judgements or answers, comparisons, and the fusion of two stages."""

from .answer_judging import (
    AnswerOptions,
    judge_answers,
    judge_run_by_answers,
    run_results,
    with_answers,
)
from .answers import AnswerMatch, AnswerMatcher, has_answer
from .calibration import (
    CalibrationFigures,
    Candidates,
    PlattScaling,
    cross_validated,
    fit_platt,
    judged_candidates,
    probabilities,
)
from .changed_queries import changed_queries_text
from .comparison import compare
from .conditions import (
    Conditions,
    check_alike,
    conditions_of,
    difference_between,
    judgements_digest,
    unlike_sentence,
    with_conditions,
)
from .findings import describe_findings, describe_judgements
from .fusion import (
    DepthAndFusion,
    FusionChoice,
    fused_scores,
    tune_depth_and_fusion,
    tune_fusion,
)
from .judging import JudgeOptions, judge_run, load_qrels
from .measures import canonical_name, evaluate, mean
from .page import CostPoint, write_page
from .presets import NQ_MEASURES, PRESETS, expand_measures
from .result_files import (
    Document,
    json_document,
    read_document,
    read_per_query_tsv,
    read_results,
    result_from_json,
    write_json,
    write_per_query_tsv,
)
from .results import Difference, Findings, Ordering, RunResult, TopHit
from .significance import (
    Comparison,
    bootstrap_interval,
    crossed_bootstrap_interval,
    holm,
    paired_differences,
    paired_t_test,
    randomisation_test,
)
from .tables import latex_table, markdown_table, terminal_table

__all__ = [
    "NQ_MEASURES",
    "PRESETS",
    "AnswerMatch",
    "AnswerMatcher",
    "AnswerOptions",
    "CalibrationFigures",
    "Candidates",
    "Comparison",
    "Conditions",
    "CostPoint",
    "DepthAndFusion",
    "Difference",
    "Document",
    "Findings",
    "FusionChoice",
    "JudgeOptions",
    "Ordering",
    "PlattScaling",
    "RunResult",
    "TopHit",
    "bootstrap_interval",
    "canonical_name",
    "changed_queries_text",
    "check_alike",
    "compare",
    "conditions_of",
    "cross_validated",
    "crossed_bootstrap_interval",
    "describe_findings",
    "describe_judgements",
    "difference_between",
    "evaluate",
    "expand_measures",
    "fit_platt",
    "fused_scores",
    "has_answer",
    "holm",
    "json_document",
    "judge_answers",
    "judge_run",
    "judge_run_by_answers",
    "judged_candidates",
    "judgements_digest",
    "latex_table",
    "load_qrels",
    "markdown_table",
    "mean",
    "paired_differences",
    "paired_t_test",
    "probabilities",
    "randomisation_test",
    "read_document",
    "read_per_query_tsv",
    "read_results",
    "result_from_json",
    "run_results",
    "terminal_table",
    "tune_depth_and_fusion",
    "tune_fusion",
    "unlike_sentence",
    "with_answers",
    "with_conditions",
    "write_json",
    "write_page",
    "write_per_query_tsv",
]
