"""Classify videos one after another; one that cannot be read is reported and never stops the others."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.data.dataset import check_channels, read_views
from tubelet.data.features import choose_rows
from tubelet.data.folders import find_clip
from tubelet.errors import ConfigError, DataError, TubeletError
from tubelet.metrics import THRESHOLD
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

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {**asdict(self), "labels": list(self.labels)}


@dataclass(frozen=True)
class PredictionError:
    """State why a source could not be classified."""

    source: str
    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {"source": self.source, "error": {"code": self.code, "message": self.message}}


def predict_one(classifier: Classifier, source: Source, *, views: int = 1, decoder: str = "pyav") -> Prediction:
    """Classify one source: the mean probability over its views.

    Raises:
        VideoError: where it cannot be read.
        DataError: another number of features than the model takes, or a file where it takes features.
    """
    if classifier.input_spec.kind == "features":
        return _predict_features(classifier, source, views)
    with Video(source, decoder=decoder, volume=classifier.input_spec.volume) as video:
        check_channels(video, classifier.input_spec)
        rows = plan(video.info, classifier.input_spec, views=views)
        clips = torch.stack([fit(pixels, classifier.input_spec) for pixels in read_views(video, rows)])
        name = video.name
    return _rank(classifier, name, classifier.score(clips))


def _predict_features(classifier: Classifier, source: Source, views: int) -> Prediction:
    if not isinstance(source, np.ndarray) or source.ndim != 2 or source.dtype.kind not in "iuf":
        what = f"an array {source.dtype} {source.shape}" if isinstance(source, np.ndarray) else repr(source)[:80]
        raise DataError(
            f"cannot predict from {what} - the model takes features, an array (time, {classifier.input_spec.channels}) "
            "- compute them first; 'tubelet evaluate' scores every row of an .npz file."
        )
    chosen = choose_rows(source.astype(np.float32), classifier.input_spec, views=views)
    clips = torch.stack([fit_features(rows, classifier.input_spec) for rows in chosen])
    lengths = torch.full((len(clips),), clips.shape[1])
    return _rank(classifier, f"<features {'x'.join(map(str, source.shape))}>", classifier.score(clips, lengths=lengths))


def _rank(classifier: Classifier, name: str, rows: Float[Tensor, "views classes"]) -> Prediction:
    scores = rows.mean(dim=0).cpu().tolist()
    ranked = sorted(zip(classifier.classes, scores, strict=True), key=lambda pair: -pair[1])
    best, score = ranked[0]
    labels: tuple[str, ...] = (best,)
    if classifier.task == "multilabel":
        labels = tuple(label for label, probability in ranked if probability > THRESHOLD)
    return Prediction(name, best, score, dict(ranked), labels, classifier.task)


def predict(
    classifier: Classifier,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    views: int = 1,
    decoder: str = "pyav",
) -> Iterator[Prediction | PredictionError]:
    """Classify many sources, in order, each as soon as it is done.

    Args:
        classifier: what `tubelet.load` gives.
        sources: files, folders of images or of DICOM slices, folders of clips (searched through), or glob patterns; one
            of them or many.
        views: clips spread over each video, averaged.
        decoder: which backend reads them.

    Returns:
        An iterator of `Prediction`, or `PredictionError` that names the source and says why.

    Raises:
        ConfigError: at the call: no source, or fewer than one view.
        UnknownName: at the call: no such decoder.
    """
    named = [sources] if isinstance(sources, str | os.PathLike) else sources
    if not named:
        raise ConfigError("cannot predict - no source was named - give files, folders or patterns.")
    if views < 1:
        raise ConfigError(f"cannot predict - views must be at least 1, found {views} - give a positive whole number.")
    DECODERS[decoder]()
    return _predict_each(classifier, expand_sources([os.fspath(source) for source in named]), views, decoder)


def _predict_each(
    classifier: Classifier, sources: Sequence[str], views: int, decoder: str
) -> Iterator[Prediction | PredictionError]:
    for source in sources:
        try:
            yield predict_one(classifier, source, views=views, decoder=decoder)
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
