"""Classify videos one after another; one that cannot be read is reported and never stops the others."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubelet.calibration import COVERAGE, check_coverage
from tubelet.data.dataset import check_channels, read_views
from tubelet.data.features import choose_rows
from tubelet.data.folders import find_clip
from tubelet.errors import ConfigError, DataError, TubeletError
from tubelet.metrics import THRESHOLD
from tubelet.scorer import Inferred, Scorer
from tubelet.shapes import Task
from tubelet.transforms.preparation import fit, fit_features
from tubelet.video.decoders import DECODERS
from tubelet.video.decoders.images import IMAGE_SUFFIXES
from tubelet.video.opening import sniff_demuxer
from tubelet.video.sampling import plan
from tubelet.video.source import Source, Video

__all__ = ["Prediction", "PredictionError", "expand_sources", "predict", "predict_one"]


@dataclass(frozen=True)
class Prediction:
    """State what a classifier says of one source."""

    source: str
    label: str
    """The class with the highest score."""
    score: float
    """Its probability."""
    scores: dict[str, float]
    """The probability of every class, highest first."""
    labels: tuple[str, ...]
    """The classes that the source has: `label` alone, or in multi-label tasks those above 0.5, which may be none."""
    task: Task
    """Whether each class is a question of its own (`multilabel`)."""
    label_set: tuple[str, ...] | None = None
    """Classes, likeliest first, that hold the true one as often as `coverage` asked; all where the model was calibrated
    on too few clips for it; None without a calibration, and in multi-label tasks."""
    distance: float | None = None
    """How far the source is from what the model knows, as a multiple of how far clips of its classes stray; None where
    the model cannot tell."""
    is_unknown: bool | None = None
    """Whether it is farther than these (`distance` above 1), and so perhaps of none of the classes; None where the
    model cannot tell."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        label_set = None if self.label_set is None else list(self.label_set)
        return {**asdict(self), "labels": list(self.labels), "label_set": label_set}


@dataclass(frozen=True)
class PredictionError:
    """State why a source could not be classified."""

    source: str
    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {"source": self.source, "error": {"code": self.code, "message": self.message}}


def predict_one(
    classifier: Scorer, source: Source, *, views: int = 1, decoder: str = "pyav", coverage: float = COVERAGE
) -> Prediction:
    """Classify one source: the mean probability over its views.

    Raises:
        ConfigError: a coverage that is no share.
        VideoError: where it cannot be read.
        DataError: another number of features than the model takes, or a file where it takes features.
    """
    if classifier.input_spec.kind == "features":
        return _predict_features(classifier, source, views, coverage)
    with Video(source, decoder=decoder, volume=classifier.input_spec.volume) as video:
        check_channels(video, classifier.input_spec)
        rows = plan(video.info, classifier.input_spec, views=views)
        clips = torch.stack([fit(pixels, classifier.input_spec) for pixels in read_views(video, rows)])
        name = video.name
    return _judge(classifier, name, classifier.infer(clips), coverage)


def _predict_features(classifier: Scorer, source: Source, views: int, coverage: float) -> Prediction:
    if not isinstance(source, np.ndarray) or source.ndim != 2 or source.dtype.kind not in "iuf":
        what = f"an array {source.dtype} {source.shape}" if isinstance(source, np.ndarray) else repr(source)[:80]
        raise DataError(
            f"cannot predict from {what} - the model takes features, an array (time, {classifier.input_spec.channels}) "
            "- compute them first; 'tubelet evaluate' scores every row of an .npz file."
        )
    chosen = choose_rows(source.astype(np.float32), classifier.input_spec, views=views)
    clips = torch.stack([fit_features(rows, classifier.input_spec) for rows in chosen])
    lengths = torch.full((len(clips),), clips.shape[1])
    name = f"<features {'x'.join(map(str, source.shape))}>"
    return _judge(classifier, name, classifier.infer(clips, lengths=lengths), coverage)


def _judge(classifier: Scorer, name: str, views: Inferred, coverage: float) -> Prediction:
    """Average over the views, and say what the calibration makes of it."""
    scores = classifier.compute_probabilities(views.logits).mean(dim=0).cpu().tolist()
    ranked = dict(sorted(zip(classifier.classes, scores, strict=True), key=lambda pair: -pair[1]))
    best = next(iter(ranked))
    labels: tuple[str, ...] = (best,)
    if classifier.task == "multilabel":
        labels = tuple(label for label, probability in ranked.items() if probability > THRESHOLD)
    calibration = classifier.calibration
    label_set = calibration.choose_labels(ranked, coverage) if calibration else None
    distance = None
    if calibration is not None and calibration.novelty is not None:
        distance = float(calibration.novelty.measure(views.features.mean(dim=0, keepdim=True).cpu().numpy())[0])
    is_unknown = None if distance is None else distance > 1
    return Prediction(name, best, ranked[best], ranked, labels, classifier.task, label_set, distance, is_unknown)


def predict(
    classifier: Scorer,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    views: int = 1,
    decoder: str = "pyav",
    coverage: float = COVERAGE,
) -> Iterator[Prediction | PredictionError]:
    """Classify many sources, in order, each as soon as it is done.

    Args:
        classifier: what `tubelet.load` gives.
        sources: files, folders of images or of DICOM slices, folders of clips (searched through), or glob patterns; one
            of them or many.
        views: clips spread over each video, averaged.
        decoder: which backend reads them.
        coverage: share of sources whose `label_set` shall hold the true class, where the model is calibrated.

    Returns:
        An iterator of `Prediction`, or `PredictionError` that names the source and says why.

    Raises:
        ConfigError: at the call: no source, fewer than one view, or a coverage that is no share.
        UnknownName: at the call: no such decoder.
    """
    named = [sources] if isinstance(sources, str | os.PathLike) else sources
    if not named:
        raise ConfigError("cannot predict - no source was named - give files, folders or patterns.")
    if views < 1:
        raise ConfigError(f"cannot predict - views must be at least 1, found {views} - give a positive whole number.")
    check_coverage(coverage)
    DECODERS[decoder]()
    one = partial(predict_one, classifier, views=views, decoder=decoder, coverage=coverage)
    return _predict_each(one, expand_sources([os.fspath(source) for source in named]))


def _predict_each(
    predict_source: Callable[[str], Prediction], sources: Sequence[str]
) -> Iterator[Prediction | PredictionError]:
    for source in sources:
        try:
            yield predict_source(source)
        except TubeletError as error:
            yield PredictionError(source, error.code, str(error))


def expand_sources(sources: Sequence[str]) -> list[str]:
    """List every single source that files, folders and patterns stand for; what is not there stays, to be reported."""
    expanded: list[str] = []
    for source in sources:
        # Not pathlib's: it raises at names that the system refuses, which are to be reported like missing ones.
        if os.path.isdir(source):  # noqa: PTH112
            # A folder without videos is one clip of images, or will be reported.
            found = {_find_source(inner) for inner in Path(source).rglob("*")}
            expanded += sorted(str(inner) for inner in found if inner is not None) or [source]
        elif glob.has_magic(source) and not os.path.exists(source):  # noqa: PTH110
            expanded += sorted(glob.glob(source, recursive=True)) or [source]  # noqa: PTH207 - absolute patterns too
        else:
            expanded.append(source)
    return expanded


def _find_source(path: Path) -> Path | None:
    """Say which source a file met in a folder belongs to: by its ending, else by its first bytes."""
    clip = find_clip(path)
    if clip is not None or path.name.startswith(".") or path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file():
        return clip
    try:
        with path.open("rb") as file:
            return path if sniff_demuxer(file.read(1024)) not in (None, "dicom") else None
    except OSError:
        return None
