"""Let clips of several requests go through a model together.

    requests  ->  a queue with an end  ->  one thread: up to `batch` clips, or what came within `wait_ms`  ->  model

One thread is the only one that runs a model, so that two requests never take memory for twice the work, and a job that
needs gradients cannot meet one that does not.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from tubelet.scorer import Inferred, Scorer
from tubelet.serving.refusals import Refusal

__all__ = ["Batcher"]


@dataclass
class _Job:
    """Hold clips to infer, or something else to do."""

    future: "Future[Any]"
    clips: Tensor | None = None
    call: Callable[[], Any] | None = None

    @property
    def size(self) -> int:
        return 0 if self.clips is None else len(self.clips)


_NOTHING = _Job(Future())
"""Stands for no job, where None stands for the end."""


class Batcher:
    """Run one model for many who ask.

    Args:
        classifier: the model, on its device, in evaluation mode.
        batch: clips in one forward pass at most, unless one request has more.
        wait_ms: how long the first clip waits for others.
        places: requests that may wait.
        on_batch: told the number of clips of every forward pass, and its seconds.
    """

    def __init__(
        self,
        classifier: Scorer,
        *,
        batch: int,
        wait_ms: float,
        places: int,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._classifier = classifier
        self._batch = batch
        self._wait_s = wait_ms / 1000
        self._on_batch = on_batch
        self._jobs: queue.Queue[_Job | None] = queue.Queue(places)
        self._thread = threading.Thread(target=self._work, name="tubelet-model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Say whether the thread runs."""
        return self._thread.is_alive()

    def infer(self, clips: UInt8[Tensor, "batch time height width channel"]) -> "Future[Inferred]":
        """Have clips inferred, together with those of others.

        Raises:
            Refusal: `busy`, where too many wait.
        """
        return self._add(_Job(Future(), clips=clips))

    def run(self, call: Callable[[], Any]) -> "Future[Any]":
        """Have something else done with the model, alone.

        Raises:
            Refusal: as `infer`.
        """
        return self._add(_Job(Future(), call=call))

    def close(self) -> None:
        """Finish what waits, and end."""
        self._jobs.put(None)
        self._thread.join()

    def _add(self, job: _Job) -> "Future[Any]":
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Refusal("busy", 1) from None
        return job.future

    def _work(self) -> None:
        job = self._jobs.get()
        while job is not None:
            jobs, job = self._collect(job)
            # One whose asker has gone is not done at all; from here on none can be called off.
            wanted = [one for one in jobs if one.future.set_running_or_notify_cancel()]
            if wanted:
                _settle(wanted, partial(self._do, wanted))
            del jobs, wanted
            if job is _NOTHING:
                job = self._jobs.get()

    def _collect(self, first: _Job) -> tuple[list[_Job], _Job | None]:
        """Take clips that go with the first; return them, and what came and does not go with them."""
        jobs, size, end = [first], first.size, time.monotonic() + self._wait_s
        while first.clips is not None and size < self._batch:
            try:
                job = self._jobs.get(timeout=max(end - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if job is None or job.clips is None or size + job.size > self._batch:
                return jobs, job
            jobs.append(job)
            size += job.size
        return jobs, _NOTHING

    def _do(self, jobs: list[_Job]) -> list[Any]:
        call = jobs[0].call
        return self._infer(jobs) if call is None else [call()]

    def _infer(self, jobs: list[_Job]) -> list[Inferred]:
        start = time.perf_counter()
        clips = torch.cat([job.clips for job in jobs if job.clips is not None])
        # Requests of more clips than a batch go through in parts.
        parts = [self._classifier.infer(part) for part in torch.split(clips, self._batch)]
        logits = torch.cat([part.logits.cpu() for part in parts])
        features = torch.cat([part.features.cpu() for part in parts])
        self._on_batch(len(clips), time.perf_counter() - start)
        sizes = [job.size for job in jobs]
        return [Inferred(*both) for both in zip(torch.split(logits, sizes), torch.split(features, sizes), strict=True)]


def _settle(jobs: list[_Job], work: Callable[[], list[Any]]) -> None:
    """Do the work, and give each job its result, or all of them the reason why there is none."""
    try:
        results = work()
    except BaseException as error:
        for job in jobs:
            job.future.set_exception(error)
        return
    for job, result in zip(jobs, results, strict=True):
        job.future.set_result(result)
