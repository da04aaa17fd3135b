"""Show a training on the terminal: one moving line for the epoch, one lasting line for each that is over.

Where nothing can move, in a file or a pipe, the moving line is printed every half a minute.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import nn

from tubelet.data.dataset import BadSample
from tubelet.data.manifest import Manifest
from tubelet.evaluation.report import Report
from tubelet.models import WeightReport
from tubelet.recipes.optimization import FinetuningRecipe
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.training.loop import Totals
from tubelet.training.optimizer import scale_rate
from tubelet.training.pretraining import PretrainingResult
from tubelet.training.train import TrainResult
from tubelet.video.spec import InputSpec

__all__ = ["PretrainingTerminal", "Terminal", "describe_time", "print_pretraining_result", "print_train_result"]

T = TypeVar("T", bound="Terminal")

SLOW_DATA = 0.4
"""Share of an epoch spent waiting for data from which advice is given."""

MEGABYTE = 10**6
SAID_EVERY_S = 30.0
"""Where no line can move, seconds without a word after which one is printed."""


class Countdown:
    """Estimate how long a run will still take, by the pace of what this process did of it."""

    def __init__(self, recipe: AnyRecipe) -> None:
        self.epochs = recipe.training.epochs
        self.accumulate = recipe.training.accumulate
        self.began_s = time.monotonic()
        self.began_at: float | None = None
        self.at = 0.0
        """Epochs that are over, the share of this one included."""

    def note(self, epoch: int, done: int, num_batches: int) -> None:
        """Take in that a step was taken; the first one says where this process began."""
        self.at = epoch + done / num_batches
        if self.began_at is None:
            self.began_at = epoch + max(done - self.accumulate, 0) / num_batches

    def estimate(self) -> str:
        """Say how long is left, if all goes on at the same pace; nothing before the first step and after the last."""
        if self.began_at is None or not self.began_at < self.at < self.epochs:
            return ""
        left_s = (time.monotonic() - self.began_s) / (self.at - self.began_at) * (self.epochs - self.at)
        return f"{describe_time(left_s)} left"


def describe_time(seconds: float) -> str:
    """Write a time so that it can be read at a glance.

    Example:
        >>> [describe_time(seconds) for seconds in (7.4, 130, 4000, 200_000)]
        ['7 s', '2 min', '1 h 7 min', '2 d 8 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _list_pace(row: Mapping[str, float]) -> list[str]:
    """Say what an epoch took, leaving out what was not measured."""
    took_s = row["wait_s"] + row["compute_s"]
    figures = {
        "lr {:.1e}": row["lr"],
        "{:.3g} clips/s": row["clips_per_s"],
        "waiting {:.0%}": row["wait_s"] / took_s if took_s else math.nan,
        "{:,.0f} MB": row["memory_mb"],
    }
    return [text.format(value) for text, value in figures.items() if not math.isnan(value)]


class Terminal:
    """Listen to a run and show it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=quiet,
        )
        self.task: TaskID | None = None
        self.has_advised = False
        self.is_multilabel = False
        self.countdown: Countdown | None = None
        self.said_s = time.monotonic()

    def __enter__(self: T) -> T:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def on_data(self, done: int, total: int) -> None:
        """Show how much of the data is there."""
        if max(done, total) >= MEGABYTE:  # clips are counted in thousands, bytes in millions
            self._show("getting data (MB)", done // MEGABYTE, (total or done) // MEGABYTE, "")
        else:
            self._show("getting data", done, total or done, "")

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:
        """Print what is trained on what, with effective values."""
        self.is_multilabel = manifest.task == "multilabel"
        self.countdown = Countdown(recipe)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        spec = recipe.input
        self.console.print(f"run     {folder}")
        self.console.print(f"data    {manifest.origin}: {self._describe_data(manifest)}", markup=False)
        self.console.print(
            f"model   {recipe.model.name}, {parameters:,} parameters, from {recipe.model.source or 'scratch'}; "
            f"{spec.frames} frames of {_describe_frame(spec)}{self._describe_mask(recipe)}"
        )
        self.console.print(f"steps   {describe_steps(recipe)}, {next(model.parameters()).device}")
        if isinstance(recipe, Recipe) and recipe.finetuning != FinetuningRecipe():
            self.console.print(f"moves   {describe_finetuning(recipe.finetuning)}")

    def on_weights(self, report: WeightReport) -> None:
        """Print what was loaded, and what did not match."""
        self.console.print(f"weights {report}", markup=False)

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:
        """Move the bar."""
        if self.countdown is not None:
            self.countdown.note(epoch, done, num_batches)
        self._show(f"epoch {epoch + 1}", done, num_batches, self._describe_totals(totals))

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Print the epoch's line: what was learned, and what the time went into."""
        wait_s, compute_s = row["wait_s"], row["compute_s"]
        held_out = f"  val {self._describe_row(row, 'val')}" if row["val_loss"] == row["val_loss"] else ""
        pace = ", ".join(part for part in (*_list_pace(row), self._estimate()) if part)
        self.console.print(f"epoch {row['epoch']:>3.0f}  train {self._describe_row(row, 'train')}{held_out}  {pace}")
        self.said_s = time.monotonic()
        if not self.has_advised and row["epoch"] > 1 and wait_s > SLOW_DATA * (wait_s + compute_s) and wait_s > 2:
            self.has_advised = True
            self.console.print(
                f"  {wait_s / (wait_s + compute_s):.0%} of the time goes into waiting for clips: "
                "raise --workers or --data.cache-mb, or store the clips smaller."
            )

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Name the clips that could not be read."""
        self.console.print(
            f"  {len(bad)} clips could not be read and were left out (bad_samples.jsonl):", style="yellow"
        )
        for sample in bad[:3]:
            self.console.print(f"    {sample.message}", style="yellow", markup=False)

    def on_remark(self, text: str) -> None:
        """Print it."""
        self.console.print(f"note    {text}", style="yellow", markup=False)

    def on_end(self, history: Sequence[Mapping[str, float]]) -> None:
        """Say that the held-out clips are next."""
        self._show("evaluating", 0, 1, f"after {len(history)} epochs")

    def on_report(self, report: Report) -> None:
        """Do nothing: the result is printed when all is over."""

    def on_close(self, error: BaseException | None) -> None:
        """Do nothing: an error is printed by whoever meets it."""

    def _estimate(self) -> str:
        return "" if self.countdown is None else self.countdown.estimate()

    def _describe_data(self, manifest: Manifest) -> str:
        counts = ", ".join(f"{len(manifest.select(split))} {split}" for split in manifest.counts())
        several = ", any number of them a clip" if self.is_multilabel else ""
        return f"{len(manifest.classes)} classes{several}, {counts}"

    def _describe_mask(self, recipe: AnyRecipe) -> str:
        if isinstance(recipe, Recipe):
            return ""
        return f"; {recipe.model.mask_ratio:.0%} hidden"

    def _describe_totals(self, totals: Totals) -> str:
        top1 = "" if self.is_multilabel else f"  top-1 {totals.top1:.1%}"
        return f"loss {totals.loss:.3f}{top1}"

    def _describe_row(self, row: Mapping[str, float], side: str) -> str:
        figures = {"": row.get(f"{side}_top1"), "mAP ": row.get(f"{side}_mean_ap")}
        shares = [f" {name}{value:6.1%}" for name, value in figures.items() if value is not None]
        return f"{row[f'{side}_loss']:.3f}{''.join(shares)}"

    def _show(self, description: str, done: int, total: int, note: str) -> None:
        if self.task is None:
            self.task = self.progress.add_task(description, total=total, note=note)
        self.progress.update(self.task, description=description, completed=done, total=total, note=note)
        if not self.console.is_interactive and time.monotonic() - self.said_s >= SAID_EVERY_S:
            self.said_s = time.monotonic()
            parts = (description, f"{done}/{total}", note, self._estimate())
            self.console.print("  ".join(part for part in parts if part))


def describe_steps(recipe: AnyRecipe) -> str:
    """State what a step is, with the rate that comes out where the recipe states it for other batches."""
    optimizer, training = recipe.optimizer, recipe.training
    clips = training.batch * training.accumulate
    rate = f"lr {optimizer.lr * scale_rate(optimizer, clips):g}"
    if optimizer.base_batch:
        rate += f" (stated {optimizer.lr:g} for {optimizer.base_batch} clips a step)"
    decay = f", x {optimizer.layer_decay:g} a layer" if optimizer.layer_decay < 1 else ""
    parts = f"{training.batch} x {training.accumulate}" if training.accumulate > 1 else f"{training.batch}"
    return (
        f"{optimizer.name}, batch {parts}, {rate}{decay}, {optimizer.schedule}, {training.epochs} epochs, "
        f"seed {training.seed}"
    )


def describe_finetuning(recipe: FinetuningRecipe) -> str:
    """State which weights move."""
    parts = []
    if recipe.adapter_rank:
        parts.append(f"adapters of rank {recipe.adapter_rank} and the head")
    if recipe.frozen_layers:
        parts.append("the head" if recipe.frozen_layers < 0 else f"all but the first {recipe.frozen_layers} layers")
    if recipe.head_epochs:
        parts.append(f"in the first {recipe.head_epochs} epochs the head alone")
    return "; ".join(parts)


def _describe_frame(spec: InputSpec) -> str:
    if spec.kind == "features":
        return f"{spec.channels} features"
    return f"{spec.height}x{spec.width}, {spec.sampling}, differences {spec.differences}"


class PretrainingTerminal(Terminal):
    """Listen to a pre-training and show it: there is a loss, and no accuracy."""

    def on_end(self, history: Sequence[Mapping[str, float]]) -> None:
        """Do nothing: no evaluation follows."""

    def _describe_data(self, manifest: Manifest) -> str:
        train, val, test = (len(manifest.select(split)) for split in ("train", "val", "test"))
        spared = f"; {test} test clips are never looked at" if test else ""
        return f"{train} clips to learn from, without labels, {val} held out to measure the loss{spared}"

    def _describe_totals(self, totals: Totals) -> str:
        return f"loss {totals.loss:.4f}"

    def _describe_row(self, row: Mapping[str, float], side: str) -> str:
        return f"{row[f'{side}_loss']:.4f}"


def print_pretraining_result(result: PretrainingResult, *, as_json: bool) -> None:
    """Print what a pre-training reached, where it lies and what comes next."""
    figures = {"epochs": result.epochs, "train_loss": result.train_loss, "val_loss": result.val_loss}
    if as_json:
        plain = {name: None if value != value else value for name, value in figures.items()}  # noqa: PLR0124 - not a number
        print(json.dumps({"folder": str(result.folder), **plain}))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True)
    held_out = f", {result.val_loss:.4f} on held-out clips" if result.val_loss == result.val_loss else ""
    console.print(f"loss {result.train_loss:.4f}{held_out} after {result.epochs} epochs")
    console.print(f"{result.folder}: model/, reconstruction.png, curves.png, metrics.csv", markup=False)
    console.print(f"next: tubelet train DATA --weights {quote(str(result.folder))}", markup=False)


def print_train_result(result: TrainResult, *, as_json: bool) -> None:
    """Print what a training reached and where it lies."""
    if as_json:
        report = result.report.to_dict() if result.report else None
        print(json.dumps({"folder": str(result.folder), "best_epoch": result.best_epoch, "report": report}))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True)
    if result.report is not None:
        console.print(f"{result.report.headline()}, weights of epoch {result.best_epoch}")
    confusion = "" if result.report is not None and result.report.task == "multilabel" else " confusion.png,"
    console.print(f"{result.folder}: model/, report.json,{confusion} curves.png, predictions.csv, metrics.csv")
    following = "predict {} CLIP" if result.takes == "pixels" else "evaluate {} FEATURES.npz"
    console.print(f"next: tubelet {following.format(quote(str(result.folder)))}", markup=False)
