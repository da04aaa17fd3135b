"""Measure classification from scores and labels, with the uncertainty of every number; numpy only."""

from tubelet.metrics.binary import BinaryCurve, measure_curve
from tubelet.metrics.calibration import CalibrationBin, CalibrationMetrics, measure_calibration
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
from tubelet.metrics.headlines import FEW_CLIPS, RARE, estimate_headlines
from tubelet.metrics.intervals import Interval, estimate_bootstrap, estimate_bootstraps, estimate_share, estimate_wilson
from tubelet.metrics.multilabel import (
    THRESHOLD,
    MultilabelClassMetrics,
    MultilabelMetrics,
    format_multilabel_report,
    measure_multilabel,
)
from tubelet.metrics.ranking import Ranking
from tubelet.metrics.segments import OVERLAPS, LabeledSpan, SegmentMetrics, measure_segments

__all__ = [
    "FEW_CLIPS",
    "OVERLAPS",
    "RARE",
    "THRESHOLD",
    "Averages",
    "BinaryCurve",
    "CalibrationBin",
    "CalibrationMetrics",
    "ClassMetrics",
    "ClassificationMetrics",
    "Interval",
    "LabeledSpan",
    "McNemar",
    "MultilabelClassMetrics",
    "MultilabelMetrics",
    "PairedDifference",
    "Ranking",
    "SegmentMetrics",
    "average_f1",
    "compare_paired",
    "count_confusion",
    "estimate_bootstrap",
    "estimate_bootstraps",
    "estimate_headlines",
    "estimate_share",
    "estimate_wilson",
    "format_multilabel_report",
    "format_report",
    "mcnemar",
    "measure_calibration",
    "measure_classification",
    "measure_curve",
    "measure_multilabel",
    "measure_segments",
    "rank_labels",
]
