"""Evaluation: runs against judgements or answers, comparisons, and the fusion of two stages."""

from .answer_judging import (
    AnswerOptions,
    judge_answers,
    judge_run_by_answers,
    run_results,
    with_answers,
)
from .answers import AnswerMatch, AnswerMatcher, has_answer
from .comparison import compare
from .findings import describe_findings
from .fusion import (
    DepthAndFusion,
    FusionChoice,
    fused_scores,
    tune_depth_and_fusion,
    tune_fusion,
)
from .judging import JudgeOptions, judge_run, load_qrels
from .measures import evaluate, mean
from .page import CostPoint, write_page
from .presets import NQ_MEASURES, PRESETS, expand_measures
from .result_files import (
    json_document,
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
from .tables import changed_queries_text, latex_table, markdown_table, terminal_table

__all__ = [
    "NQ_MEASURES",
    "PRESETS",
    "AnswerMatch",
    "AnswerMatcher",
    "AnswerOptions",
    "Comparison",
    "CostPoint",
    "DepthAndFusion",
    "Difference",
    "Findings",
    "FusionChoice",
    "JudgeOptions",
    "Ordering",
    "RunResult",
    "TopHit",
    "bootstrap_interval",
    "changed_queries_text",
    "compare",
    "crossed_bootstrap_interval",
    "describe_findings",
    "evaluate",
    "expand_measures",
    "fused_scores",
    "has_answer",
    "holm",
    "json_document",
    "judge_answers",
    "judge_run",
    "judge_run_by_answers",
    "latex_table",
    "load_qrels",
    "markdown_table",
    "mean",
    "paired_differences",
    "paired_t_test",
    "randomisation_test",
    "read_per_query_tsv",
    "read_results",
    "result_from_json",
    "run_results",
    "terminal_table",
    "tune_depth_and_fusion",
    "tune_fusion",
    "with_answers",
    "write_json",
    "write_page",
    "write_per_query_tsv",
]
