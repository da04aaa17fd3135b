"""One trial of a search: what it chose, how it goes, what came of it."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tubelet.config import write_value
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.search import Choices, Range
from tubelet.training.progress import Silent
from tubelet.training.run import Run

if TYPE_CHECKING:
    import optuna
else:  # the test suite checks signatures at run time, where optuna is not loaded yet
    optuna = type("optuna", (), {"Trial": Any})

__all__ = ["Pruned", "Reporter", "State", "Trial", "decode", "describe_trial", "encode", "make_table", "suggest"]

FIGURES = ("val_mean_ap", "val_top1")
"""What trials are compared by: the first of them that is measured."""

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """State what was tried and what came of it."""

    number: int
    """Number of its folder, from 0."""
    state: State
    """Whether it came to its end, was below the others, or failed."""
    value: float
    """Validation accuracy (multi-label: mean average precision) of the epoch that a training would keep; if it was
    pruned, so far. NaN if it failed."""
    loss: float
    """Validation loss of that epoch."""
    epochs: int
    """Epochs trained."""
    seconds: float
    """Spent on training, without validation."""
    choice: Mapping[str, Any]
    """What was tried, by dotted name."""

    @property
    def rank(self) -> tuple[float, float]:
        """Tell what the best trial is chosen by: the figure, then the loss."""
        return self.value, -self.loss


class Pruned(Exception):
    """End a trial: it is below the others."""


class Reporter(Silent):
    """Report each epoch of a trial, and end it where it is below the others."""

    def __init__(self, trial: "optuna.Trial", run: Run) -> None:
        self.trial = trial
        self.run = run

    def on_epoch(self, row: Mapping[str, float]) -> None:  # noqa: ARG002 - the run's table has it
        """Report it."""
        self.report()

    def report(self) -> None:
        """Report what the run's table has and the store has not: a process may have died between the two.

        Raises:
            Pruned: the trial is below the others.
        """
        with suppress(FileNotFoundError):
            known = self.trial.storage.get_trial(self.trial._trial_id).intermediate_values
            for row in self.run.read_metrics():
                epoch = int(row["epoch"])
                if epoch not in known:
                    self.trial.report(_read_figure(row), epoch)
                if self.trial.should_prune():
                    raise Pruned


def describe_trial(number: int, state: State, run: Run, recipe: Recipe, choice: Mapping[str, Any]) -> Trial:
    """Read from a run folder what came of a trial."""
    rows: list[dict[str, float]] = []
    with suppress(FileNotFoundError):
        rows = run.read_metrics()
    seconds = sum(row["wait_s"] + row["compute_s"] for row in rows)
    if state == "failed" or not rows:
        return Trial(number, "failed", math.nan, math.nan, len(rows), seconds, choice)
    is_last = recipe.training.keep == "last"
    kept = rows[-1] if is_last else max(rows, key=lambda row: (_read_figure(row), -row["val_loss"]))
    return Trial(number, state, _read_figure(kept), kept["val_loss"], len(rows), seconds, choice)


def _read_figure(row: Mapping[str, float]) -> float:
    return next(row[name] for name in FIGURES if name in row)


def suggest(trial: "optuna.Trial", name: str, one: Range | Choices) -> Any:
    """Have a trial choose a value, or say what it chose before."""
    if isinstance(one, Choices):
        return decode(one, trial.suggest_categorical(name, [encode(value) for value in one.values]))
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(name, one.low, one.high, log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def encode(value: Any) -> Any:
    """Turn a choice into what the store can hold: lists become text."""
    return value if value is None or isinstance(value, bool | int | float | str) else write_value(value)


def decode(one: Range | Choices, stored: Any) -> Any:
    """Turn back what `encode` made of a choice."""
    return stored if isinstance(one, Range) else next(value for value in one.values if encode(value) == stored)


def make_table(trials: Sequence[Trial]) -> str:
    """Write trials as CSV, one a row."""
    table = io.StringIO()
    names = list(trials[0].choice)
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "state", "value", "loss", "epochs", "seconds", *names])
    for one in trials:
        values = [write_value(one.choice[name]) for name in names]
        writer.writerow([one.number, one.state, one.value, one.loss, one.epochs, round(one.seconds, 2), *values])
    return table.getvalue()
