"""Measure a classifier on labelled clips it has not seen: a clip that cannot be read is counted, never replaced.

Scores are per video: the probabilities of all its views are averaged. Every headline figure comes with its interval.
"""

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.config import read_config
from tubelet.data.assignments import apply_assignments, find_trained, read_assignments
from tubelet.data.catalogue import DATASETS, Request, open_data
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.features import Features, check_kind
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample, normalize_split
from tubelet.errors import ConfigError, DataError
from tubelet.metrics import (
    ClassificationMetrics,
    Interval,
    estimate_bootstrap,
    estimate_wilson,
    format_report,
    measure_classification,
)
from tubelet.prediction.load import find_model, find_remote, load
from tubelet.recipes.recipe import DataRecipe, Recipe
from tubelet.report.figures import draw_confusion
from tubelet.transforms.preparation import fit, fit_features
from tubelet.video.clip import Pixels
from tubelet.video.spec import InputSpec

__all__ = ["FrameOrder", "Report", "Scored", "evaluate", "score_samples"]

FrameOrder = Literal["ordered", "shuffled", "reversed"]


@dataclass(frozen=True, eq=False)
class Scored:
    """Hold what a classifier said about samples."""

    scores: Float64[np.ndarray, "sample classes"]
    labels: Int64[np.ndarray, " sample"]
    samples: tuple[Sample, ...]
    bad: tuple[BadSample, ...]


@dataclass(frozen=True)
class Report:
    """Hold the figures of one evaluation and what they depend on."""

    metrics: ClassificationMetrics
    interval: Interval
    """95 % interval of the accuracy."""
    interval_over: str
    """What was drawn anew for it: `clips` (Wilson's), or whole groups where clips come in groups (bootstrap)."""
    n: int
    """Clips that were scored."""
    n_failed: int
    """Clips that could not be read; part of no figure."""
    split: str
    views: int
    decoder: str
    data: str
    digest: str
    """Hash of the clips' names, labels and splits."""
    seconds: float
    failed: tuple[BadSample, ...] = field(default=())
    remarks: tuple[str, ...] = ()
    """What makes the figures say less than they seem to, such as clips the model was trained on."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values, headline figures first."""
        metrics = self.metrics
        return {
            "top1": metrics.top1,
            "top1_interval_95": [self.interval.low, self.interval.high],
            "interval_over": self.interval_over,
            "top_k": metrics.top_k,
            "k": metrics.k,
            "n": self.n,
            "n_failed": self.n_failed,
            "split": self.split,
            "views": self.views,
            "decoder": self.decoder,
            "data": self.data,
            "digest": self.digest,
            "seconds": round(self.seconds, 2),
            "metrics": metrics.to_dict(),
            "failed": [asdict(bad) for bad in self.failed],
            "remarks": list(self.remarks),
        }

    def headline(self) -> str:
        """State the result in one line."""
        metrics = self.metrics
        interval, over = self.interval, self.interval_over
        top_k = f"  top-{metrics.k} {metrics.top_k:.2%}" if metrics.k < len(metrics.classes) else ""
        return (
            f"top-1 {metrics.top1:.2%} (95 % interval over {over} {interval.low:.1%} to {interval.high:.1%}){top_k}"
            f"  macro F1 {metrics.macro.f1:.3f}  ({self.n} clips of '{self.split}', {self.n_failed} failed)"
        )


def prepare_evaluation(
    pixels: Pixels | Features,
    label: int,
    generator: np.random.Generator,
    *,
    spec: InputSpec,
    order: FrameOrder = "ordered",
) -> tuple[Any, int]:
    """Fit a clip to the contract, with its frames in the asked order; picklable, for loader workers."""
    if order == "reversed":
        pixels = pixels[::-1]
    elif order == "shuffled":
        pixels = pixels[generator.permutation(len(pixels))]
    return (fit_features if spec.kind == "features" else fit)(pixels, spec), label


def score_samples(
    classifier: Classifier,
    samples: Sequence[Sample],
    manifest: Manifest,
    *,
    views: int = 1,
    order: FrameOrder = "ordered",
    options: LoaderOptions | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scored:
    """Score samples: the mean probability over each one's views.

    Args:
        classifier: what is measured.
        samples: what it is measured on.
        manifest: where they come from; its class list must be the classifier's.
        views: clips spread over each video.
        order: frames as they are, shuffled, or reversed after sampling: the loss tells what order gave.
        options: batch, workers, decoder.
        on_step: called with samples done and samples in all.
    """
    options = options or LoaderOptions()
    prepare = partial(prepare_evaluation, spec=classifier.input_spec, order=order)
    dataset = ClipDataset(samples, manifest, classifier.input_spec, prepare, views=views, decoder=options.decoder)
    loader = make_loader(dataset, EpochOrder(len(samples), options.batch, None), options)
    scores, labels, indices = [], [], []
    bad: list[BadSample] = []
    done = 0
    for batch in loader:
        bad.extend(batch.bad)
        if len(batch.labels):
            rows = classifier.score(batch.clips, lengths=batch.lengths).cpu().numpy().astype(np.float64)
            scores.append(rows.reshape(len(batch.labels), -1, rows.shape[1]).mean(axis=1))
            labels.append(batch.labels.numpy())
            indices.extend(batch.indices.tolist())
        done += len(batch.labels) + len(batch.bad)
        on_step(done, len(samples))
    return Scored(
        np.concatenate(scores) if scores else np.zeros((0, len(classifier.classes))),
        np.concatenate(labels) if labels else np.zeros(0, np.int64),
        tuple(samples[index] for index in indices),
        tuple(bad),
    )


def evaluate(
    model: Classifier | str | os.PathLike[str],
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    views: int = 1,
    output: str | os.PathLike[str] | None = None,
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Report:
    """Evaluate a model on one split of labelled clips.

    Args:
        model: a classifier, or anything that `tubelet.load` takes.
        data: a manifest or a source of clips; None takes the data the model was trained on, split in the same way.
        split: `test`, `val` or `train`; where the data states no split, all clips count as `test`.
        views: clips spread over each video, averaged.
        output: folder for report.json, classification_report.txt, confusion.png, confusion.json and predictions.csv.
        decoder: which backend reads the videos.
        workers: processes that decode.
        device: where the model runs.
        on_step: called with samples done and samples in all.

    Raises:
        DataError: no clips in the split, or other classes than the model's.
    """
    started = time.perf_counter()
    classifier = model if isinstance(model, Classifier) else load(model, device=device)
    if views < 1:
        raise ConfigError(f"cannot evaluate with {views} views - a video has at least one - give 1 or more.")
    manifest, remarks = (data, ()) if isinstance(data, Manifest) else _open(model, data, split)
    samples = manifest.select(split)
    if not samples:
        raise DataError(
            f"cannot evaluate on split '{split}' of {manifest.origin} - it has no clips there - "
            f"choose one of {', '.join(manifest.counts())}."
        )
    check_kind(manifest, classifier.input_spec)
    manifest = manifest.with_classes(classifier.classes)
    scored = score_samples(
        classifier,
        samples,
        manifest,
        views=views,
        options=LoaderOptions(batch=16, workers=workers, decoder=decoder),
        on_step=on_step,
    )
    if not len(scored.labels):
        raise DataError(
            f"cannot evaluate on split '{split}' of {manifest.origin} - none of its {len(samples)} clips can be read - "
            f"the first says: {scored.bad[0].message}"
        )
    metrics = measure_classification(scored.scores, scored.labels, classifier.classes)
    interval, over = _measure_interval(scored)
    report = Report(
        metrics=metrics,
        interval=interval,
        interval_over=over,
        n=len(scored.labels),
        n_failed=len(scored.bad),
        split=split,
        views=views,
        decoder=decoder,
        data=manifest.origin,
        digest=manifest.digest,
        seconds=time.perf_counter() - started,
        failed=scored.bad,
        remarks=remarks,
    )
    if output is not None:
        write_report(Path(output), report, scored, classifier.classes)
    return report


def write_report(folder: Path, report: Report, scored: Scored, classes: tuple[str, ...]) -> None:
    """Write report.json, classification_report.txt, confusion.png, confusion.json and predictions.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "report.json", report.to_dict())
    files.write_text(folder / "classification_report.txt", format_report(report.metrics))
    matrix = report.metrics.confusion
    files.write_json(
        folder / "confusion.json", {"classes": list(classes), "rows_true_columns_predicted": matrix.tolist()}
    )
    draw_confusion(matrix, classes, folder / "confusion.png")
    with files.write_whole(folder / "predictions.csv", "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["source", "label", "predicted", "score", *(f"score:{name}" for name in classes)])
        for sample, row in zip(scored.samples, scored.scores, strict=True):
            best = int(row.argmax())
            writer.writerow([sample.name, sample.label, classes[best], f"{row[best]:.6f}", *(f"{s:.6f}" for s in row)])
        for bad in scored.bad:
            writer.writerow([bad.name, "", f"error:{bad.code}", ""])


def _open(model: object, data: str | os.PathLike[str] | None, split: str) -> tuple[Manifest, tuple[str, ...]]:
    """Open the clips to test on, and say which of them the model has seen already."""
    run = _find_run(model)
    assigned = read_assignments(run / "splits.csv") if run and (run / "splits.csv").exists() else {}
    is_known = data is None or os.fspath(data) in DATASETS
    recipe = read_config(run / "config.yaml", Recipe).data if run and is_known else None
    if data is not None:
        manifest = open_data(os.fspath(data), split_if_missing=False, request=_choose_split(recipe, data))
        if not any(sample.split for sample in manifest.samples):
            known = apply_assignments(manifest, assigned)
            samples = tuple(replace(sample, split=sample.split or normalize_split(split)) for sample in known.samples)
            manifest = replace(manifest, samples=samples)
        return manifest, _remark(manifest, assigned, split)
    if recipe is None:
        raise DataError(
            "cannot evaluate - no data was named, and the model has no run folder that names some - name some."
        )
    wanted = _choose_split(recipe, recipe.source)
    manifest = open_data(recipe.source, group_by=recipe.group_by, split_if_missing=False, request=wanted)
    if assigned:
        manifest = apply_assignments(manifest, assigned)
    return manifest, _remark(manifest, assigned, split)


def _choose_split(recipe: DataRecipe | None, data: str | os.PathLike[str]) -> Request:
    """Test on the official split that the model was trained on, where the data is the same; never fetch any."""
    if recipe is None or recipe.source != os.fspath(data):
        return Request(offline=True)
    return Request(fold=recipe.fold, offline=True)


def _find_run(model: object) -> Path | None:
    if isinstance(model, Classifier) or find_remote(str(model)) is not None:
        return None
    folder = find_model(str(model)).parent
    return folder if (folder / "config.yaml").exists() else None


def _remark(manifest: Manifest, assigned: Mapping[str, str], split: str) -> tuple[str, ...]:
    """Say what makes the figures say less than they seem to."""
    remarks = []
    seen = find_trained(manifest, assigned, split) if normalize_split(split) == "test" else []
    if seen:
        remarks.append(f"{len(seen)} of the clips tested were trained or validated on, such as {seen[0]}.")
    present = {sample.name for sample in manifest.samples}
    lost = [name for name, own in assigned.items() if own == normalize_split(split) and name not in present]
    if lost and len(lost) < sum(own == normalize_split(split) for own in assigned.values()):
        remarks.append(f"{len(lost)} clips of the run's '{split}' split are gone, such as {lost[0]}.")
    return tuple(remarks)


def _measure_interval(scored: Scored) -> tuple[Interval, str]:
    """Estimate how far the accuracy may be from the truth: whole groups are drawn anew where clips come in groups."""
    right = scored.scores.argmax(1) == scored.labels
    groups = [sample.group for sample in scored.samples]
    names = {group for group in groups if group is not None}
    if None not in groups and 1 < len(names) < len(groups):
        members = np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)
        values = right.astype(np.float64)
        interval = estimate_bootstrap(
            lambda rows: float(values[rows].mean()), len(values), np.random.default_rng(0), groups=members
        )
        if interval is not None:
            return interval, f"{len(names)} groups"
    return estimate_wilson(int(right.sum()), len(right)), "clips"
