"""Evaluation: measures, significance, and the weight with which the two stages are fused."""

from .fusion import (
    DepthAndFusion,
    FusionChoice,
    fused_scores,
    tune_depth_and_fusion,
    tune_fusion,
)
from .measures import evaluate, mean
from .significance import (
    Comparison,
    bootstrap_interval,
    crossed_bootstrap_interval,
    holm,
    paired_differences,
    paired_t_test,
    randomisation_test,
)

__all__ = [
    "Comparison",
    "DepthAndFusion",
    "FusionChoice",
    "bootstrap_interval",
    "crossed_bootstrap_interval",
    "evaluate",
    "fused_scores",
    "holm",
    "mean",
    "paired_differences",
    "paired_t_test",
    "randomisation_test",
    "tune_depth_and_fusion",
    "tune_fusion",
]
