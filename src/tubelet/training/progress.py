"""Tell whoever listens how a run goes."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn

from tubelet.data.dataset import BadSample
from tubelet.data.manifest import Manifest
from tubelet.evaluation.report import Report
from tubelet.models import WeightReport
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.loop import Totals

__all__ = ["QUIET", "Listener", "Listeners", "Quiet", "Silent"]


@runtime_checkable
class Listener(Protocol):
    """Receive the events of a run; the run waits for each call to return."""

    def on_data(self, done: int, total: int) -> None:
        """Some of the data was made or fetched."""

    def on_weights(self, report: WeightReport) -> None:
        """The model was started from weights."""

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:
        """Everything is ready; the first epoch begins."""

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:
        """The optimizer moved."""

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch ended, with its row of metrics."""

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Some clips of the epoch could not be read."""

    def on_remark(self, text: str) -> None:
        """Something the user should know."""

    def on_end(self, history: Sequence[Mapping[str, float]]) -> None:
        """The last epoch is over."""

    def on_report(self, report: Report) -> None:
        """The kept weights were judged on clips that were held out."""

    def on_close(self, error: BaseException | None) -> None:
        """The run is over: by itself, or by an error, which goes on; a signal is one, too."""


class Quiet:
    """Listen and say nothing, but for what the user should know: that becomes a warning."""

    def on_data(self, done: int, total: int) -> None:
        """Ignore it."""

    def on_weights(self, report: WeightReport) -> None:
        """Ignore it."""

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:
        """Ignore it."""

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:
        """Ignore it."""

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Ignore it."""

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Warn."""
        warnings.warn(f"{len(bad)} clips could not be read and were left out, first: {bad[0].message}", stacklevel=2)

    def on_remark(self, text: str) -> None:
        """Warn."""
        warnings.warn(text, stacklevel=2)

    def on_end(self, history: Sequence[Mapping[str, float]]) -> None:
        """Ignore it."""

    def on_report(self, report: Report) -> None:
        """Ignore it."""

    def on_close(self, error: BaseException | None) -> None:
        """Ignore it."""


class Silent(Quiet):
    """Listen and say nothing: another process of the same run says it."""

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Ignore it."""

    def on_remark(self, text: str) -> None:
        """Ignore it."""


class Listeners:
    """Pass every event on to several listeners, in their order."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = tuple(listeners)

    def on_data(self, done: int, total: int) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_data(done, total)

    def on_weights(self, report: WeightReport) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_weights(report)

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_start(folder, recipe, manifest, model)

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_step(epoch, done, num_batches, totals)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_epoch(row)

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_bad(bad)

    def on_remark(self, text: str) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_remark(text)

    def on_end(self, history: Sequence[Mapping[str, float]]) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_end(history)

    def on_report(self, report: Report) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_report(report)

    def on_close(self, error: BaseException | None) -> None:
        """Pass it on."""
        for one in self._listeners:
            one.on_close(error)


QUIET: Listener = Quiet()
"""The listener of those who look at the run folder instead."""
