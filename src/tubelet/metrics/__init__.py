"""Measure classification from scores and labels, with the uncertainty of every number; numpy only."""

from tubelet.metrics.classification import (
    Averages,
    ClassificationMetrics,
    ClassMetrics,
    average_f1,
    count_confusion,
    format_report,
    measure_classification,
    rank_labels,
)
from tubelet.metrics.intervals import Interval, estimate_bootstrap, estimate_wilson

__all__ = [
    "Averages",
    "ClassMetrics",
    "ClassificationMetrics",
    "Interval",
    "average_f1",
    "count_confusion",
    "estimate_bootstrap",
    "estimate_wilson",
    "format_report",
    "measure_classification",
    "rank_labels",
]
