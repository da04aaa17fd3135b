"""Write report.html: what an evaluation found, for people to read and to show.

headline with interval, in words   figures   confusion and per class   calibration   clips by lot, best, worst
training curves   what could not be read   what the figures depend on
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from tubelet.data.manifest import Manifest
from tubelet.data.sample import SEPARATOR
from tubelet.evaluation.gallery import choose_clips, film_clips, find_right
from tubelet.evaluation.report import SEED, Report, Scored
from tubelet.metrics import (
    THRESHOLD,
    BinaryCurve,
    ClassificationMetrics,
    ClassMetrics,
    Interval,
    MultilabelClassMetrics,
    MultilabelMetrics,
)
from tubelet.report.charts import Line, draw_bar, draw_lines, draw_matrix
from tubelet.report.page import Html, Picture, write_page
from tubelet.video.spec import InputSpec

__all__ = ["write_report_page"]

MOST_CLASSES, MOST_CONFUSIONS, MOST_FAILED = 20, 8, 100


def write_report_page(
    folder: Path,
    report: Report,
    scored: Scored,
    manifest: Manifest,
    spec: InputSpec,
    explanations: Mapping[int, bytes] = MappingProxyType({}),
) -> None:
    """Write `report.html` into a folder, with the training curves where the folder is a run's.

    Args:
        folder: there already; `metrics.csv` in it is a run's.
        report: the figures.
        scored: what they were computed from.
        manifest: where the samples come from.
        spec: how the model saw them.
        explanations: for places in `scored`, GIFs with what spoke for the class that the model named.

    Cost: decodes up to 45 clips once more; the page has at most some MB.
    """
    body = [*_state_headline(report), *_warn(report), *_list_figures(report)]
    body += _show_classes(report.metrics)
    body += _show_certainty(report)
    if spec.kind == "pixels":
        body += _show_clips(report, scored, manifest, spec)
        body += _show_explanations(report, scored, explanations)
    body += _show_training(folder / "metrics.csv")
    body += _list_failed(report)
    body += _state_conditions(report)
    write_page(folder / "report.html", f"Evaluation on {Path(report.data).name or report.data}", body)


def _state_headline(report: Report) -> Iterator[Html]:
    metrics, ends = report.metrics, report.interval
    value, name = (
        (metrics.mean_ap, "mean average precision")
        if isinstance(metrics, MultilabelMetrics)
        else (metrics.top1, "top-1 accuracy")
    )
    yield Html.tag("p", f"{value:.1%}", kind="big")
    words = f"{name} over {report.n:,} clips of '{report.split}'."
    if isinstance(metrics, ClassificationMetrics):
        right = int(np.trace(metrics.confusion))
        words = f"{name}: {right:,} of {report.n:,} clips of '{report.split}' were named right."
    if ends:
        words += (
            f" With other clips of the same kind it would lie between {ends.low:.1%} and {ends.high:.1%} "
            f"(95 % interval over {report.interval_over})."
        )
    if report.n_failed:
        words += f" {report.n_failed:,} clips could not be read and are part of no figure."
    yield Html.tag("p", words, kind="lead")


def _warn(report: Report) -> Iterator[Html]:
    for remark in report.remarks:
        yield Html.tag("p", remark, kind="odd")


def _list_figures(report: Report) -> Iterator[Html]:
    metrics = report.metrics
    figures: dict[str, tuple[str, float | None]] = {"mAP": ("mean_ap", metrics.mean_ap)}
    if isinstance(metrics, MultilabelMetrics):
        figures |= {"micro F1": ("micro_f1", metrics.micro.f1), "exact match": ("exact_match", metrics.exact_match)}
    else:
        top_k = metrics.top_k if metrics.k < len(metrics.classes) else None
        figures = {
            "top-1 accuracy": ("top1", metrics.top1),
            f"top-{metrics.k} accuracy": ("top_k", top_k),
            "balanced accuracy": ("balanced_accuracy", metrics.balanced_accuracy),
            **figures,
        }
    figures |= {"macro F1": ("macro_f1", metrics.macro.f1), "mean AUC": ("mean_auc", metrics.mean_auc)}
    rows = [
        (name, f"{value:.1%}", *_describe_interval(value, report.intervals.get(key)))
        for name, (key, value) in figures.items()
        if value is not None
    ]
    yield Html.tag("h2", "Figures")
    yield Html.table(("figure", "value", "95 % interval", ""), rows, numbers=[1, 2], kind="bars")


def _describe_interval(value: float, interval: Interval | None) -> tuple[str, Html]:
    if interval is None:
        return "-", draw_bar(value)
    return f"{interval.low:.1%} to {interval.high:.1%}", draw_bar(value, interval.low, interval.high)


def _show_classes(metrics: ClassificationMetrics | MultilabelMetrics) -> Iterator[Html]:
    yield Html.tag("h2", "Classes")
    entries: Sequence[ClassMetrics | MultilabelClassMetrics] = metrics.per_class
    shown = sorted(entries, key=lambda one: (one.f1 is None, one.f1 or 0.0, one.name))
    rows = [
        (one.name, f"{one.support:,}", _percent(one.precision), _percent(one.recall), _percent(one.f1), _bar(one.f1))
        for one in shown
    ]
    table = _list_classes(rows[:MOST_CLASSES])
    if isinstance(metrics, ClassificationMetrics):
        matrix = Html.tag("div", draw_matrix(metrics.confusion, metrics.classes), _list_confusions(metrics))
        table = Html.tag("div", matrix, table, kind="pair")
    yield table
    if len(rows) > MOST_CLASSES:
        rest = f"{len(rows) - MOST_CLASSES:,} classes that do better, or have no clip"
        yield Html.tag("details", Html.tag("summary", rest), _list_classes(rows[MOST_CLASSES:]))


def _list_classes(rows: Sequence[Sequence[str]]) -> Html:
    head = ("class", "clips", "precision", "recall", "F1", "")
    return Html.table(head, rows, numbers=[1, 2, 3, 4], kind="bars classes")


def _list_confusions(metrics: ClassificationMetrics) -> Html:
    wrong = metrics.confusion - np.diag(np.diag(metrics.confusion))
    pairs = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda pair: -int(wrong[pair]))[:MOST_CONFUSIONS]
    if not pairs:
        return Html.tag("p", "No clip was confused.", kind="soft")
    names = metrics.classes
    said = "; ".join(f"{names[true]} called {names[given]} ({wrong[true, given]})" for true, given in pairs)
    return Html.tag("p", f"Most often: {said}.", kind="soft")


def _show_certainty(report: Report) -> Iterator[Html]:
    """Show whether probabilities can be taken at their word, and with two classes what each threshold gives."""
    found = report.calibration
    filled = [(one.confidence, one.accuracy) for one in found.bins if one.confidence is not None]
    diagonal = Line("ideal", (0.0, 1.0), (0.0, 1.0), dashed=True)
    measured = Line("these clips", [x for x, _ in filled], [y or 0.0 for _, y in filled], dots=True)
    shares = {one.low: one.count / max(sum(other.count for other in found.bins), 1) for one in found.bins}
    diagram = draw_lines(
        [diagonal, measured],
        x_name="said probability",
        y_name="share that is right",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        bars=shares,
    )
    words = (
        f"On average, what is said and what comes true lie {found.ece:.1%} apart (ECE; Brier score {found.brier:.3f}, "
        f"log loss {found.nll:.3f}). Below the line the model is too sure of itself. Columns: how many answers."
    )
    yield Html.tag("h2", "How sure, and how often right")
    parts = [Html.tag("div", diagram, Html.tag("p", words, kind="soft"))]
    if isinstance(report.metrics, ClassificationMetrics) and report.metrics.curve:
        parts.append(_show_thresholds(report.metrics.curve))
    yield Html.tag("div", *parts, kind="pair")


def _show_thresholds(curve: BinaryCurve) -> Html:
    chosen = np.unique(np.linspace(0, len(curve.thresholds) - 1, min(len(curve.thresholds), 200)).round().astype(int))
    places = curve.thresholds[chosen].tolist()
    lines = [
        Line(name, places, getattr(curve, name.lower())[chosen].tolist()) for name in ("precision", "recall", "F1")
    ]
    chart = draw_lines(
        lines,
        x_name=f"called '{curve.positive}' from this probability on",
        y_name="share",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )
    words = (
        f"ROC AUC {curve.auc:.3f}. F1 is highest on these clips from {curve.thresholds[curve.best]:.2f} on: "
        f"{curve.f1[curve.best]:.3f}. A threshold to work with should be chosen on validation clips."
    )
    return Html.tag("div", chart, Html.tag("p", words, kind="soft"))


def _show_clips(report: Report, scored: Scored, manifest: Manifest, spec: InputSpec) -> Iterator[Html]:
    gallery = choose_clips(scored)
    films = film_clips(scored, (*gallery.grid, *gallery.best, *gallery.worst), manifest, spec, report.decoder)
    for title, places in (
        ("Clips drawn by lot", gallery.grid),
        ("Wrong, and surest of it", gallery.worst),
        ("Right, and surest of it", gallery.best),
    ):
        figures = [
            _show_clip(films[place], place, scored, report.metrics.classes) for place in places if place in films
        ]
        if figures:
            yield Html.tag("h2", title)
            yield Html.tag("div", *figures, kind="films")


def _show_explanations(report: Report, scored: Scored, explanations: Mapping[int, bytes]) -> Iterator[Html]:
    if explanations:
        words = "The brighter, the more it speaks for the class that the model named."
        yield Html.tag("h2", "What the model looked at")
        yield Html.tag("p", words, kind="soft")
        figures = [_show_clip(film, place, scored, report.metrics.classes) for place, film in explanations.items()]
        yield Html.tag("div", *figures, kind="films")


def _show_clip(film: bytes, place: int, scored: Scored, classes: Sequence[str]) -> Html:
    scores, label, is_right = scored.scores[place], scored.samples[place].label, bool(find_right(scored)[place])
    given = classes[int(scores.argmax())]
    if scored.labels.ndim == 2:
        given = ", ".join(classes[index] for index in np.flatnonzero(scores > THRESHOLD).tolist()) or "none"
        label = label.replace(SEPARATOR, ", ") or "none"
    name = Path(scored.samples[place].name).name
    mark = Html.tag("span", "✓ " if is_right else "✗ ", kind="right" if is_right else "wrong")
    caption = Html.tag("figcaption", mark, f"T: {label} | P: {given} {scores.max():.0%}")
    return Html.tag("figure", Picture.of(film, f"{name}: true {label}, predicted {given}"), caption)


def _show_training(metrics: Path) -> Iterator[Html]:
    """Draw the curves of the training that made the model, where its folder is at hand."""
    if not metrics.exists():
        return
    with metrics.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    charts = []
    for name, keys in {
        "loss": ("train_loss", "val_loss"),
        "accuracy": ("train_top1", "val_top1"),
        "mean average precision": ("val_mean_ap",),
    }.items():
        lines = [_read_line(rows, key) for key in keys if rows and key in rows[0]]
        lines = [line for line in lines if np.isfinite(line.y).any()]
        if lines:
            top = None if name == "loss" else (0.0, 1.0)
            charts.append(Html.tag("div", draw_lines(lines, x_name="epoch", y_name=name, y_range=top)))
    if charts:
        yield Html.tag("h2", "Training")
        yield Html.tag("div", *charts, kind="pair")


def _read_line(rows: Sequence[Mapping[str, str]], key: str) -> Line:
    values = [float(row[key]) if row[key] else float("nan") for row in rows]
    name = {"train": "training clips", "val": "validation clips"}[key.split("_")[0]]
    return Line(name, [float(number) for number in range(1, len(rows) + 1)], values, dots=len(rows) <= 30)


def _list_failed(report: Report) -> Iterator[Html]:
    if report.failed:
        yield Html.tag("h2", f"Could not be read: {report.n_failed:,}")
        rows = [(bad.name, bad.message) for bad in report.failed[:MOST_FAILED]]
        yield Html.table(("clip", "why"), rows, kind="cards")


def _state_conditions(report: Report) -> Iterator[Html]:
    yield Html.tag("h2", "What the figures depend on")
    facts = {
        "clips": f"{report.data}, split '{report.split}'",
        "hash of the names and labels of these clips": report.split_digest,
        "model": report.model,
        "hash of its weights": report.weights,
        "views of each video": str(report.views),
        "cost of a video": "-" if report.macs is None else f"{report.macs * report.views.count / 1e9:,.3g} GMACs",
        "decoder": report.decoder,
        "precision": report.precision,
        "seed of the intervals": str(SEED),
        "seconds": f"{report.seconds:.1f}",
        "versions": f"tubelet {version('tubelet')}, torch {torch.__version__}",
    }
    yield Html.table(("what", "value"), list(facts.items()))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _bar(share: float | None) -> Html:
    return Html("") if share is None else draw_bar(share)
