"""Turn uploads into answers: decoded elsewhere, scored together with others, judged as `predict` judges."""

import asyncio
import base64
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tubelet.calibration import COVERAGE
from tubelet.classifier import Classifier
from tubelet.data.dataset import check_channels
from tubelet.errors import ConfigError, DecoderCrashed, TubeletError
from tubelet.explanation.explain import Explanation, choose_method, explain_clip
from tubelet.explanation.pictures import draw_heat
from tubelet.prediction.predict import Prediction, judge
from tubelet.scorer import Inferred, Scorer
from tubelet.serving.batching import Batcher
from tubelet.serving.monitoring import Monitor
from tubelet.serving.options import ServingOptions
from tubelet.serving.refusals import Refusal
from tubelet.transforms.preparation import fit
from tubelet.video.isolation import ByteSource, DecodeLimits, DecodeWorkers, Reading, Wanted

__all__ = ["Question", "Served", "Service"]

_log = logging.getLogger("tubelet.serving")

SEGMENTS = 12
"""Parts of a video whose answers make its timeline."""
SHOWN_FRAMES = 8
"""Of an explanation."""
_CRASHES = 5
"""Decoders that died in a row, none of them having read anything between, before the server calls itself unfit."""


@dataclass(frozen=True)
class Question:
    """Say what is wanted of an upload."""

    top: int = 5
    """Classes, likeliest first."""
    views: int = 1
    """Clips spread over the video, averaged."""
    coverage: float = COVERAGE
    """Share of videos whose label set shall hold the true class."""
    timeline: bool = False
    """Whether parts of the video are classified, too."""


@dataclass(frozen=True)
class Served:
    """Hold one model that is served."""

    name: str
    classifier: Scorer
    batcher: Batcher

    def describe(self) -> dict[str, Any]:
        """Turn into JSON values what a client should know."""
        spec = self.classifier.input_spec
        return {
            "name": self.name,
            "classes": list(self.classifier.classes),
            "task": self.classifier.task,
            "frames": spec.frames,
            "height": spec.height,
            "width": spec.width,
            "is_calibrated": self.classifier.calibration is not None,
        }


class Service:
    """Answer questions about videos.

    Args:
        classifiers: by the names that clients use.
        options: how much is taken on.

    Raises:
        ConfigError: no model, or one that takes features.
        DecoderCrashed: decode workers cannot start here.
    """

    def __init__(self, classifiers: Mapping[str, Scorer], options: ServingOptions) -> None:
        if not classifiers:
            raise ConfigError("cannot serve - no model was named - give a run or a model folder.")
        for name, classifier in classifiers.items():
            if classifier.input_spec.kind == "features":
                raise ConfigError(
                    f"cannot serve {name!r} - it takes features that another network computed, which no page can send "
                    "- serve a model of pixels."
                )
        self.options = options
        self.monitor = Monitor()
        self.is_stopping = False
        self._crashes = 0
        self._taken = 0
        self._workers = DecodeWorkers(options.decoders, DecodeLimits(seconds=options.decode_s))
        missing = {"files", "network"}.difference(self._workers.given_up)
        if missing:
            _log.warning(
                "decoders run without a sandbox: this system does not let them give up %s", ", ".join(sorted(missing))
            )
        self._readers = ThreadPoolExecutor(options.decoders, "tubelet-decode")
        self.models = {
            name: Served(name, classifier, self._make_batcher(classifier)) for name, classifier in classifiers.items()
        }

    def _make_batcher(self, classifier: Scorer) -> Batcher:
        options = self.options
        return Batcher(
            classifier,
            batch=options.batch,
            wait_ms=options.wait_ms,
            places=options.places + options.sockets,
            on_batch=self.monitor.note_batch,
        )

    @property
    def is_ready(self) -> bool:
        """Say whether new requests are welcome."""
        return (
            not self.is_stopping
            and self._crashes < _CRASHES
            and all(one.batcher.is_alive for one in self.models.values())
        )

    @property
    def decoder_pids(self) -> list[int]:
        """List the processes that decode."""
        return self._workers.pids

    def stop(self) -> None:
        """Say that this server is about to end; what is in work goes on."""
        self.is_stopping = True

    def close(self) -> None:
        """End all workers."""
        self._workers.close()
        self._readers.shutdown(cancel_futures=True)
        for one in self.models.values():
            one.batcher.close()

    def find_model(self, name: str | None) -> Served:
        """Return a model by name, the first one without.

        Raises:
            Refusal: `unknown_model`.
        """
        found = next(iter(self.models.values())) if name is None else self.models.get(name)
        if found is None:
            raise Refusal("unknown_model")
        return found

    @contextmanager
    def take_place(self) -> Iterator[None]:
        """Hold one of the places for requests in work while a block lasts.

        Raises:
            Refusal: `stopping`; `busy`, where none is free.
        """
        if self.is_stopping:
            raise Refusal("stopping", 5)
        if self._taken >= self.options.places:
            raise Refusal("busy", 1)
        self._taken += 1
        self.monitor.in_work.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self.monitor.in_work.set(self._taken)

    async def classify(self, served: Served, upload: ByteSource, question: Question) -> dict[str, Any]:
        """Classify a video.

        Raises:
            Refusal: it cannot be read, or too many wait.
        """
        classifier = served.classifier
        wanted = Wanted(classifier.input_spec, question.views, SEGMENTS if question.timeline else 0)
        reading, clips = await self._prepare(upload, wanted)
        inferred: Inferred = await asyncio.wrap_future(served.batcher.infer(clips))
        return await asyncio.to_thread(_answer, classifier, reading, inferred, question)

    async def explain(self, served: Served, upload: ByteSource, label: str | None) -> dict[str, Any]:
        """Say which parts of a video speak for a class.

        Raises:
            Refusal: as `classify`; `cannot_explain`, `unknown_class`.
        """
        classifier = served.classifier
        if label is not None and label not in classifier.classes:
            raise Refusal("unknown_class")
        if not isinstance(classifier, Classifier):
            raise Refusal("cannot_explain")  # a file that was exported has no inside to look at
        method = choose_method(classifier, label=label)
        reading, clips = await self._prepare(upload, Wanted(classifier.input_spec))
        times_s = reading.times_s[reading.rows[0]]

        def explain() -> Explanation:
            return explain_clip(
                classifier, clips[0], name=reading.name, times_s=times_s, method=method, label=label, random_maps=0
            )

        explanation: Explanation = await asyncio.wrap_future(served.batcher.run(explain))
        return await asyncio.to_thread(_show, explanation)

    async def fit_picture(self, served: Served, jpeg: bytes) -> UInt8[Tensor, "height width channel"]:
        """Read one picture of a live stream, as the model takes it.

        Raises:
            Refusal: it is no JPEG picture.
        """
        wanted = Wanted(served.classifier.input_spec, is_picture=True)
        _, clips = await self._prepare(BytesIO(jpeg), wanted)
        picture: Tensor = clips[0, 0]
        return picture

    async def score_window(self, served: Served, window: list[Tensor], top: int) -> dict[str, Any]:
        """Classify the latest pictures of a live stream.

        Raises:
            Refusal: too many wait.
        """
        inferred: Inferred = await asyncio.wrap_future(served.batcher.infer(torch.stack(window)[None]))
        return _state(judge(served.classifier, "<stream>", inferred, COVERAGE), top)

    async def _prepare(
        self, upload: ByteSource, wanted: Wanted
    ) -> tuple[Reading, UInt8[Tensor, "clip time height width channel"]]:
        def work() -> tuple[Reading, Tensor]:
            start = time.monotonic()
            reading = self._workers.read(upload, wanted)
            check_channels(reading, wanted.spec)
            clips = torch.stack([fit(reading.pixels[row], wanted.spec) for row in reading.rows])
            self.monitor.decoding.observe(time.monotonic() - start)
            return reading, clips

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except TubeletError as error:
            self._crashes = self._crashes + 1 if isinstance(error, DecoderCrashed) else 0
            self.monitor.restarts.set(self._workers.restarts)
            raise Refusal.of(error) from None
        self._crashes = 0
        return result


def _answer(classifier: Scorer, reading: Reading, inferred: Inferred, question: Question) -> dict[str, Any]:
    """Say what the views are of, and each segment."""
    views = question.views
    whole = Inferred(inferred.logits[:views], inferred.features[:views])
    answer = _state(judge(classifier, reading.name, whole, question.coverage), question.top)
    answer["duration_s"] = reading.info.duration_s
    if question.timeline:
        parts = [
            judge(classifier, reading.name, Inferred(logits[None], features[None]), question.coverage)
            for logits, features in zip(inferred.logits[views:], inferred.features[views:], strict=True)
        ]
        spans = reading.spans_s[views:].tolist()
        answer["timeline"] = [
            {"start_s": start, "end_s": end, "label": part.label, "score": part.score}
            for part, (start, end) in zip(parts, spans, strict=True)
        ]
    return answer


def _state(prediction: Prediction, top: int) -> dict[str, Any]:
    """Turn a prediction into JSON values, with as many classes as were asked for."""
    values = prediction.to_dict()
    del values["source"]
    scores = list(values.pop("scores").items())[:top]
    return {"top": [{"label": label, "score": score} for label, score in scores], **values}


def _show(explanation: Explanation) -> dict[str, Any]:
    """Turn an explanation into JSON values, with pictures of some of its frames."""
    values = explanation.to_dict()
    kept = {name: values[name] for name in ("label", "score", "method", "times_s", "curve")}
    count = len(explanation.pixels)
    chosen = np.linspace(0, count - 1, min(count, SHOWN_FRAMES)).round().astype(int)
    frames = draw_heat(explanation.pixels[chosen], explanation.heat[chosen])
    pictures = [
        {"time_s": float(explanation.times_s[index]), "image": _encode(frame)}
        for index, frame in zip(chosen, frames, strict=True)
    ]
    return {**kept, "frames": pictures}


def _encode(frame: UInt8[np.ndarray, "height width 3"]) -> str:
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
