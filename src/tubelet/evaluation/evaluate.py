"""Measure a classifier on labelled clips it has not seen: a clip that cannot be read is counted, never replaced.

Scores are per video: what its views say is averaged. Every headline figure comes with its interval.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.features import Features
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import ConfigError
from tubelet.evaluation.gallery import choose_clips, explain_clips
from tubelet.evaluation.opening import open_split
from tubelet.evaluation.page import write_report_page
from tubelet.evaluation.report import SEED, Report, Scored, write_report
from tubelet.evaluation.views import CroppedDataset, Views, as_views, average_views
from tubelet.metrics import (
    FEW_CLIPS,
    RARE,
    ClassificationMetrics,
    MultilabelMetrics,
    estimate_headlines,
    measure_calibration,
    measure_classification,
    measure_multilabel,
)
from tubelet.model_folder import hash_weights
from tubelet.models.anatomy import count_macs
from tubelet.prediction.load import load_classifier
from tubelet.shapes import Label
from tubelet.transforms.preparation import fit, fit_features
from tubelet.video.clip import Pixels
from tubelet.video.spec import InputSpec

__all__ = [
    "Output",
    "Report",
    "Scored",
    "Views",
    "evaluate",
    "number_groups",
    "prepare_evaluation",
    "score_samples",
]


@dataclass(frozen=True)
class Output:
    """State what is written of an evaluation."""

    folder: str | os.PathLike[str]
    """Where; made if need be."""
    explained: int = 0
    """Clips in whose pictures report.html shows what the model looked at: the worst and the best. Each costs some ten
    forward passes, and some hundred with occlusion."""

    def __post_init__(self) -> None:
        files.check_folder(self.folder)
        if self.explained < 0:
            raise ConfigError(f"cannot explain {self.explained} clips - give 0 or more.")


def prepare_evaluation(
    pixels: Pixels | Features,
    label: Label,
    generator: np.random.Generator,  # noqa: ARG001 - evaluation draws nothing
    *,
    spec: InputSpec,
    crops: int = 1,
) -> tuple[Any, Label]:
    """Fit a clip to the contract; picklable, for loader workers. Several crops come stacked in front of time."""
    if crops > 1:
        return torch.stack([fit(pixels, spec, crop=crop) for crop in range(crops)]), label
    return (fit_features if spec.kind == "features" else fit)(pixels, spec), label


def score_samples(
    classifier: Classifier,
    samples: Sequence[Sample],
    manifest: Manifest,
    *,
    views: int | Views = 1,
    options: LoaderOptions | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scored:
    """Score samples: one row of probabilities for each, whatever the number of its views.

    Args:
        classifier: what is measured.
        samples: what it is measured on.
        manifest: where they come from; its class list must be the classifier's.
        views: clips spread over each video, or clips, crops, and what is averaged over them.
        options: batch, workers, decoder.
        on_step: called with samples done and samples in all.
    """
    options, views = options or LoaderOptions(), as_views(views)
    spec = classifier.input_spec
    views.check(spec)
    prepare = partial(prepare_evaluation, spec=spec, crops=views.crops)
    make = CroppedDataset if views.crops > 1 else ClipDataset
    dataset = make(samples, manifest, spec, prepare, views=views.clips, decoder=options.decoder)
    loader = make_loader(dataset, EpochOrder(len(samples), options.batch, None), options)
    scores, labels, indices = [], [], []
    bad: list[BadSample] = []
    done = 0
    for batch in loader:
        bad.extend(batch.bad)
        if len(batch.labels):
            as_logits = views.aggregation == "logits"
            rows = classifier.score(batch.clips, lengths=batch.lengths, as_logits=as_logits).cpu().double().numpy()
            scores.append(average_views(rows, views.count, views.aggregation, classifier.task))
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
    views: int | Views = 1,
    output: str | os.PathLike[str] | Output | None = None,
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
        views: clips spread over each video, averaged; or `Views(clips=5, crops=3, aggregation="logits")`.
        output: folder for report.html, report.json, classification_report.txt, predictions.csv and, where a clip is of
            one class, confusion.png and confusion.json; or `Output(folder, explained=6)`.
        decoder: which backend reads the videos.
        workers: processes that decode.
        device: where the model runs.
        on_step: called with samples done and samples in all.

    Raises:
        DataError: no clips in the split, or other classes than the model's.
    """
    started = time.perf_counter()
    views, output = as_views(views), output if output is None or isinstance(output, Output) else Output(output)
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device=device)
    opened = open_split(model, classifier, data, split, "evaluate")
    manifest, samples = opened.manifest, opened.samples
    options = LoaderOptions(batch=max(1, 16 // views.count), workers=workers, decoder=decoder)
    scored = score_samples(classifier, samples, manifest, views=views, options=options, on_step=on_step)
    opened.check_read(len(scored.labels), scored.bad, "evaluate")
    groups, over = number_groups(scored.samples)
    report = Report(
        metrics=_measure(scored, classifier),
        intervals=estimate_headlines(scored.scores, scored.labels, groups, seed=SEED),
        interval_over=over,
        calibration=measure_calibration(scored.scores, scored.labels),
        n=len(scored.labels),
        n_failed=len(scored.bad),
        split=split,
        views=views,
        macs=count_macs(classifier.model.config),
        decoder=decoder,
        precision=str(classifier.dtype).removeprefix("torch."),
        model=classifier.model.config.name,
        weights=hash_weights(classifier.model),
        data=manifest.origin,
        digest=manifest.digest,
        split_digest=replace(manifest, samples=tuple(samples)).digest,
        seconds=time.perf_counter() - started,
        failed=scored.bad,
        remarks=(*opened.remarks, *_remark_on_size(scored, groups)),
    )
    if output is not None:
        _write(output, report, scored, manifest, classifier)
    return report


def _write(output: Output, report: Report, scored: Scored, manifest: Manifest, classifier: Classifier) -> None:
    folder = Path(output.folder)
    write_report(folder, report, scored, classifier.classes)
    explanations = {}
    if output.explained and classifier.input_spec.kind == "pixels":
        places = choose_clips(scored).list_extremes(output.explained)
        explanations = explain_clips(classifier, scored, places, manifest, report.decoder)
    write_report_page(folder, report, scored, manifest, classifier.input_spec, explanations)


def _measure(scored: Scored, classifier: Classifier) -> ClassificationMetrics | MultilabelMetrics:
    measure = measure_multilabel if classifier.task == "multilabel" else measure_classification
    return measure(scored.scores, scored.labels, classifier.classes)


def _remark_on_size(scored: Scored, groups: Int64[np.ndarray, " sample"] | None) -> list[str]:
    """Say where there are too few clips for what the intervals say."""
    remarks = []
    units, name = (len(scored.labels), "clips") if groups is None else (int(groups.max()) + 1, "groups of clips")
    if units < FEW_CLIPS:
        remarks.append(f"The figures rest on {units} {name}: with fewer than {FEW_CLIPS}, intervals are a rough guess.")
    table = scored.labels if scored.labels.ndim == 2 else scored.labels[:, None] == np.arange(scored.scores.shape[1])
    support = table.sum(0)
    rare, present = int(((support > 0) & (support < RARE)).sum()), int((support > 0).sum())
    if rare:
        remarks.append(
            f"{rare} of {present} classes have fewer than {RARE} clips: averages over classes (balanced accuracy, "
            "macro F1, mAP, AUC) are less sure than their intervals say."
        )
    return remarks


def number_groups(samples: Sequence[Sample]) -> tuple[Int64[np.ndarray, " sample"] | None, str]:
    """Give each sample the number of its group, and say how many there are; None where clips do not come in groups.

    A clip of no group is one of its own.
    """
    groups = [sample.group or f"\0{number}" for number, sample in enumerate(samples)]
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    if len(names) == len(groups):
        return None, "clips"
    return numbers.astype(np.int64), f"{len(names)} group{'s' if len(names) > 1 else ''}"
