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
from tubelet.metrics.comparison import McNemar, PairedDifference, compare_paired, mcnemar
from tubelet.metrics.intervals import Interval, estimate_bootstrap, estimate_wilson
from tubelet.metrics.multilabel import (
    THRESHOLD,
    MultilabelClassMetrics,
    MultilabelMetrics,
    Ranking,
    format_multilabel_report,
    measure_multilabel,
)

__all__ = [
    "THRESHOLD",
    "Averages",
    "ClassMetrics",
    "ClassificationMetrics",
    "Interval",
    "McNemar",
    "MultilabelClassMetrics",
    "MultilabelMetrics",
    "PairedDifference",
    "Ranking",
    "average_f1",
    "compare_paired",
    "count_confusion",
    "estimate_bootstrap",
    "estimate_wilson",
    "format_multilabel_report",
    "format_report",
    "mcnemar",
    "measure_classification",
    "measure_multilabel",
    "rank_labels",
]
