"""Measure what a prediction costs here: latency, clips a second, memory, decoding; alone or beside transformers."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tubelet.benchmarking.rival import TransformersRival
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.models.anatomy import count_macs
from tubelet.prediction.devices import choose_precision
from tubelet.prediction.load import load_classifier
from tubelet.prediction.predict import Prediction, PredictionOptions, predict_each, read_clips
from tubelet.prediction.sources import list_sources
from tubelet.video.source import Video
from tubelet.video.synthetic import draw_clip, write_video

__all__ = ["Benchmark", "Speed", "Timing", "benchmark"]

_WARM_UP = 2


@dataclass(frozen=True)
class Timing:
    """State what scoring a batch takes, from clips in memory to logits."""

    batch: int
    """Clips scored at once."""
    p50_ms: float
    """Milliseconds that half of the batches take at most."""
    p90_ms: float
    p99_ms: float
    """With fewer than a hundred rounds this is close to the longest of them."""
    clips_per_s: float
    """Of the median batch."""
    peak_mb: float | None
    """Most memory in use: of the GPU, or of the process; None where the system does not tell."""


@dataclass(frozen=True)
class Speed:
    """State how fast one implementation is."""

    name: str
    """tubelet, or what it is measured against."""
    timings: tuple[Timing, ...]
    """One for each batch size."""
    files_per_s: float
    """Files opened, decoded and prepared by one thread."""
    frames_per_s: float
    """Frames that one thread decodes into RGB where it reads whole files."""
    predictions_per_s: float
    """Files classified from end to end: decoding beside the model where the implementation does that."""


@dataclass(frozen=True)
class Benchmark:
    """State what a model costs on this machine."""

    model: str
    parameters: int
    gmacs: float | None
    """Billions of multiply-accumulates a clip; None where they cannot be counted."""
    frames: int
    height: int
    width: int
    device: str
    """Name of the device that computed."""
    precision: str
    threads: int
    """Of PyTorch on the CPU."""
    files: int
    """Video files that were read."""
    speeds: tuple[Speed, ...]
    """Ours first."""
    max_difference: float | None = None
    """Of the logits of ours and the other's for the same clips."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


@runtime_checkable
class Implementation(Protocol):
    """Do the work of a prediction in one way; measured in turns with others."""

    name: str

    def compute(self, clips: Tensor) -> Tensor:
        """Compute logits of fitted uint8 clips."""

    def prepare(self, path: str) -> Tensor:
        """Read what the model sees of a file."""

    def decode(self, path: str) -> int:
        """Decode a whole file; return the number of its frames."""

    def predict(self, paths: Sequence[str]) -> list[str]:
        """Name the classes of files."""


class Own:
    """Predict as `tubelet.predict` does."""

    name = "tubelet"

    def __init__(self, classifier: Classifier, options: PredictionOptions) -> None:
        self.classifier = classifier
        self.options = options
        self._precision = choose_precision(options.precision, classifier.device)

    def compute(self, clips: UInt8[Tensor, "batch time height width channel"]) -> Float[Tensor, "batch classes"]:
        """Normalize and score."""
        return self.classifier.infer(clips, self._precision).logits.cpu()

    def prepare(self, path: str) -> Tensor:
        """Decode and fit the frames that the model sees."""
        return read_clips(self.classifier.input_spec, path, decoder=self.options.decoder).clips

    def decode(self, path: str) -> int:
        """Decode every frame."""
        with Video(path, decoder=self.options.decoder) as video:
            return len(video.frames().pixels)

    def predict(self, paths: Sequence[str]) -> list[str]:
        """Name the classes, batched, reading ahead."""
        outcomes = predict_each(self.classifier, paths, self.options)
        return [one.label if isinstance(one, Prediction) else one.code for one in outcomes]


def benchmark(
    model: str | os.PathLike[str] | Classifier,
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    against: Literal["transformers"] | None = None,
    batches: Sequence[int] = (1, 8),
    rounds: int = 20,
    options: PredictionOptions | None = None,
    device: str = "auto",
) -> Benchmark:
    """Measure a model on this machine; implementations take turns, so that what disturbs one disturbs all.

    Args:
        model: what `tubelet.load` takes, or gives.
        sources: videos to read, as `predict` takes them; without any a clip of 75 frames of 240 x 320 is drawn.
        against: `transformers` also measures the same weights in its model class, with PyAV decoding whole files and
            its own image processor, one file after the other.
        batches: numbers of clips that are scored at once.
        rounds: how often each batch is scored, and the files are predicted at most; two more warm up.
        options: how to predict.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ConfigError: no round or no clip in a batch; an exported file; the model takes features; transformers has no
            such model.
        MissingExtra: transformers is not installed.

    Cost: `rounds` times the clips of all batches, and a few passes over the files.
    """
    options = options or PredictionOptions()
    if rounds < 1 or not batches or min(batches) < 1:
        raise ConfigError(f"cannot measure {rounds} rounds of batches {list(batches)} - give numbers of at least 1.")
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device=device)
    spec = classifier.input_spec
    if spec.kind == "features":
        raise ConfigError("cannot measure a model of features - there is no file to decode - 'tubelet compare' does.")
    own = Own(classifier, options)
    with tempfile.TemporaryDirectory() as place:
        sides: list[Implementation] = [own]
        if against is not None:
            sides.append(TransformersRival(classifier, Path(place) / "model"))
        paths = list(list_sources([os.fspath(source) for source in sources])) or [_draw(Path(place) / "drawn.mp4")]
        clips = own.prepare(paths[0])
        difference = None
        if len(sides) > 1:
            difference = float((sides[0].compute(clips) - sides[1].compute(clips)).abs().max())
        timings = [_time_batch(sides, clips, batch, rounds, classifier.device) for batch in batches]
        rates = _time_files(sides, paths, rounds)
    speeds = tuple(
        Speed(side.name, tuple(row[index] for row in timings), *rates[index]) for index, side in enumerate(sides)
    )
    macs = count_macs(classifier.model.config)
    return Benchmark(
        model=classifier.model.config.name,
        parameters=sum(parameter.numel() for parameter in classifier.model.parameters()),
        gmacs=None if macs is None else macs / 1e9,
        frames=spec.frames,
        height=spec.height,
        width=spec.width,
        device=_name_device(classifier.device),
        precision=str(choose_precision(options.precision, classifier.device)).removeprefix("torch."),
        threads=torch.get_num_threads(),
        files=len(paths),
        speeds=speeds,
        max_difference=difference,
    )


def _draw(path: Path) -> str:
    generator = np.random.default_rng(0)
    write_video(path, draw_clip("moving-shapes", "up", frames=75, height=240, width=320, generator=generator), fps=25)
    return str(path)


def _time_batch(
    sides: Sequence[Implementation], clips: Tensor, batch: int, rounds: int, device: torch.device
) -> list[Timing]:
    repeated = clips[:1].repeat(batch, 1, 1, 1, 1)
    times_ms: list[list[float]] = [[] for _ in sides]
    peaks: list[float | None] = [None for _ in sides]
    for _ in range(_WARM_UP + rounds):
        for index, side in enumerate(sides):
            with _watching_memory(device) as read_peak:
                times_ms[index].append(1e3 * _time(lambda side=side: side.compute(repeated)))  # type: ignore[misc]
                peak = read_peak()
            peaks[index] = peak if peak is None else max(peak, peaks[index] or 0.0)
    timings = []
    for own, peak in zip(times_ms, peaks, strict=True):
        p50, p90, p99 = (float(value) for value in np.percentile(own[_WARM_UP:], (50, 90, 99)))
        timings.append(Timing(batch, p50, p90, p99, 1e3 * batch / p50, peak))
    return timings


def _time_files(sides: Sequence[Implementation], paths: Sequence[str], rounds: int) -> list[tuple[float, float, float]]:
    """Return files prepared, frames decoded and files predicted a second, for each side."""
    prepare_s: list[list[float]] = [[] for _ in sides]
    decode_s: list[list[float]] = [[] for _ in sides]
    predict_s: list[list[float]] = [[] for _ in sides]
    enough = (list(paths) * rounds)[: max(rounds, len(paths))]
    for number, path in enumerate(enough):
        for index, side in enumerate(sides):
            prepare_s[index].append(_time(lambda side=side, path=path: side.prepare(path)))  # type: ignore[misc]
            if number < len(paths):
                start = time.perf_counter()
                frames = side.decode(path)
                decode_s[index].append((time.perf_counter() - start) / max(frames, 1))
    for _ in range(3):
        for index, side in enumerate(sides):
            predict_s[index].append(_time(lambda side=side: side.predict(enough)) / len(enough))  # type: ignore[misc]
    return [
        (1 / statistics.median(prepare_s[index]), 1 / statistics.median(decode_s[index]), 1 / min(predict_s[index]))
        for index in range(len(sides))
    ]


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _watching_memory(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Give a function that tells the most memory in use since the block began, in MB."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) / 1e6
        return
    with suppress(OSError):
        reset.write_text("5")  # Linux: forget the highest mark

    def read() -> float | None:
        if not status.exists():
            return None
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(found[0]) * 1024 / 1e6 if found else None

    yield read


def _name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()})"
