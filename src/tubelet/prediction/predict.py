"""Classify videos, many at a time; one that cannot be read is reported and never stops the others.

    sources --threads: open, choose frames, decode, fit--> clips --a batch at a time--> scores --> answers, in order

While the model computes, the next videos are read: decoders let go of Python's lock. In company a video has the
probabilities that it has alone, up to rounding: at most 1e-5 in float32.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tubelet.calibration import COVERAGE, check_coverage
from tubelet.data.dataset import check_channels, read_views
from tubelet.data.features import choose_rows
from tubelet.errors import CheckpointError, ConfigError, DataError, TubeletError, name_nearest
from tubelet.metrics import THRESHOLD
from tubelet.prediction.devices import choose_precision
from tubelet.prediction.sources import list_sources
from tubelet.scorer import Inferred, Scorer
from tubelet.shapes import Task
from tubelet.transforms.preparation import fit, fit_features
from tubelet.video.decoders import DECODERS
from tubelet.video.sampling import plan
from tubelet.video.source import Source, Video
from tubelet.video.spec import InputSpec

__all__ = [
    "Clips",
    "Outcome",
    "Prediction",
    "PredictionError",
    "PredictionOptions",
    "judge",
    "predict",
    "predict_each",
    "predict_one",
    "read_clips",
]


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


Outcome = Prediction | PredictionError
_PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class PredictionOptions:
    """Hold how many sources are predicted; all but `batch` and `readers` may change what is answered."""

    views: int = 1
    """Clips spread over each video, averaged."""
    decoder: str = "pyav"
    """Which backend reads videos."""
    coverage: float = COVERAGE
    """Share of sources whose label set shall hold the true class, where the model is calibrated."""
    precision: str = "fp32"
    """Number format of forward passes: fp32, bf16, fp16, or auto: bf16 where it is native, which is faster and may tip
    close decisions."""
    batch: int = 8
    """Clips that the model is given at once, at most."""
    readers: int = 0
    """Threads that read videos while the model computes; 0 takes as many as there are processors, at most eight."""

    def __post_init__(self) -> None:
        for name in ("views", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"cannot predict - {name} must be at least 1, found {getattr(self, name)} - give a positive whole "
                    "number."
                )
        if self.readers < 0:
            raise ConfigError(f"cannot predict with {self.readers} readers - give 1 or more, or 0 to have it chosen.")
        check_coverage(self.coverage)
        if self.precision not in _PRECISIONS:
            near = name_nearest(self.precision, _PRECISIONS) or "."
            raise ConfigError(
                f"precision must be one of {', '.join(_PRECISIONS)} - found {self.precision!r}{near} Choose one."
            )
        DECODERS[self.decoder]()


class Clips(NamedTuple):
    """Hold what a model is to see of one source."""

    source: str
    """What messages call it."""
    clips: Tensor
    """The views, fitted to the contract: (view, time, height, width, channel)."""
    lengths: Tensor | None = None
    """Frames of each clip of features that are real; None for pixels."""


def read_clips(spec: InputSpec, source: Source, *, views: int = 1, decoder: str = "pyav") -> Clips:
    """Open a source and read the clips that a model of this contract sees of it.

    Raises:
        VideoError: where it cannot be read.
        DataError: another number of features than the model takes, or a file where it takes features.
    """
    if spec.kind == "features":
        return _read_features(spec, source, views)
    with Video(source, decoder=decoder, volume=spec.volume) as video:
        check_channels(video, spec)
        rows = plan(video.info, spec, views=views)
        return Clips(video.name, torch.stack([fit(pixels, spec) for pixels in read_views(video, rows)]))


def _read_features(spec: InputSpec, source: Source, views: int) -> Clips:
    if not isinstance(source, np.ndarray) or source.ndim != 2 or source.dtype.kind not in "iuf":
        what = f"an array {source.dtype} {source.shape}" if isinstance(source, np.ndarray) else repr(source)[:80]
        raise DataError(
            f"cannot predict from {what} - the model takes features, an array (time, {spec.channels}) - compute them "
            "first; 'tubelet evaluate' scores every row of an .npz file."
        )
    chosen = choose_rows(source.astype(np.float32), spec, views=views)
    clips = torch.stack([fit_features(rows, spec) for rows in chosen])
    name = f"<features {'x'.join(map(str, source.shape))}>"
    return Clips(name, clips, torch.full((len(clips),), clips.shape[1]))


def predict_one(
    classifier: Scorer, source: Source, *, views: int = 1, decoder: str = "pyav", coverage: float = COVERAGE
) -> Prediction:
    """Classify one source: the mean probability over its views.

    Raises:
        ConfigError: a coverage that is no share.
        VideoError: where it cannot be read.
        DataError: another number of features than the model takes, or a file where it takes features.
    """
    name, clips, lengths = read_clips(classifier.input_spec, source, views=views, decoder=decoder)
    return judge(classifier, name, classifier.infer(clips, lengths=lengths), coverage)


def judge(classifier: Scorer, name: str, views: Inferred, coverage: float = COVERAGE) -> Prediction:
    """Say what a classifier makes of a source: the average over its views, and what the calibration adds.

    Args:
        name: what the answer calls the source.
        views: what the model made of each of its clips.

    Raises:
        CheckpointError: the scores are no numbers.
    """
    if not bool(views.logits.isfinite().all()):
        raise CheckpointError(
            f"cannot say what {name!r} is - the model's scores are no numbers - its file is damaged, or its training "
            "failed: take an intact copy."
        )
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
    precision: str = "fp32",
    batch: int = 8,
    readers: int = 0,
) -> Iterator[Outcome]:
    """Classify many sources, in order, each as soon as it is done.

    Args:
        classifier: what `tubelet.load` gives.
        sources: files, folders of images or of DICOM slices, folders of clips (searched through), glob patterns, or
            lists of any number of paths (.txt, .csv, .tsv, .jsonl); one of them or many.
        views: clips spread over each video, averaged.
        decoder: which backend reads them.
        coverage: share of sources whose `label_set` shall hold the true class, where the model is calibrated.
        precision: number format of forward passes: fp32, bf16, fp16, or auto, which is bf16 where it is native; half
            the digits are faster and may tip close decisions.
        batch: clips that the model is given at once, at most; batches too large for the memory are divided.
        readers: threads that read videos while the model computes; 0 takes one a processor, at most eight.

    Returns:
        An iterator of `Prediction`, or `PredictionError` that names the source and says why.

    Raises:
        ConfigError: at the call: no source, fewer than one view, or a coverage that is no share.
        UnknownName: at the call: no such decoder.

    Cost: memory for `batch` + `readers` sources, however many there are.
    """
    named = [sources] if isinstance(sources, str | os.PathLike) else sources
    if not named:
        raise ConfigError("cannot predict - no source was named - give files, folders or patterns.")
    options = PredictionOptions(views, decoder, coverage, precision, batch, readers)
    return predict_each(classifier, list_sources([os.fspath(source) for source in named]), options)


def predict_each(classifier: Scorer, sources: Iterable[str], options: PredictionOptions) -> Iterator[Outcome]:
    """Classify single sources, in order; the names may come from a generator of any length."""
    read = partial(_try_to_read, classifier.input_spec, options)
    num_readers = options.readers or min(_count_processors(), 8)
    # Always as many as there is room for: small batches are slower, and equal ones give equal answers at every run.
    at_once = max(options.batch // options.views, 1)
    names = iter(sources)
    pool = ThreadPoolExecutor(num_readers, "reader", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Clips | PredictionError]] = deque()

    def read_ahead() -> None:
        waiting.extend(pool.submit(read, name) for name in islice(names, at_once + num_readers - len(waiting)))

    try:
        read_ahead()
        while waiting:
            batch = [waiting.popleft().result() for _ in range(min(at_once, len(waiting)))]
            read_ahead()
            yield from _answer(classifier, batch, options)
    finally:
        # Who stops in the middle does not wait for what was asked for and not begun.
        pool.shutdown(wait=False, cancel_futures=True)


def _try_to_read(spec: InputSpec, options: PredictionOptions, source: str) -> Clips | PredictionError:
    try:
        # An answer names its source as it was asked for.
        return read_clips(spec, source, views=options.views, decoder=options.decoder)._replace(source=source)
    except TubeletError as error:
        return PredictionError(source, error.code, str(error))


def _answer(
    classifier: Scorer, batch: Sequence[Clips | PredictionError], options: PredictionOptions
) -> Iterator[Outcome]:
    """Score what could be read in one go, and answer in order; where memory does not suffice, in two halves."""
    good = [one for one in batch if isinstance(one, Clips)]
    views: Iterator[Inferred] = iter(())
    if good:
        precision = choose_precision(options.precision, classifier.device)
        try:
            found = classifier.infer(torch.cat([one.clips for one in good]), precision)
        except torch.OutOfMemoryError:
            if len(good) == 1:
                raise
            middle = len(batch) // 2
            yield from _answer(classifier, batch[:middle], options)
            yield from _answer(classifier, batch[middle:], options)
            return
        sizes = [len(one.clips) for one in good]
        views = map(Inferred, torch.split(found.logits.cpu(), sizes), torch.split(found.features.cpu(), sizes))
    for one in batch:
        try:
            yield (
                one
                if isinstance(one, PredictionError)
                else judge(classifier, one.source, next(views), options.coverage)
            )
        except CheckpointError as error:
            yield PredictionError(one.source, error.code, str(error))


def _count_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
