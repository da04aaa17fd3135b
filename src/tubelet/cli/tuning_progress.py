"""Show a search for a recipe on the terminal: one moving line for the epoch, one lasting line for each trial."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from rich.console import Console
from torch import nn

from tubelet.cli.progress import Terminal, describe_time
from tubelet.config import write_value
from tubelet.data.manifest import Manifest
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.loop import Totals
from tubelet.training.trials import Trial
from tubelet.training.tuning import TuneResult

__all__ = ["TuningTerminal", "print_tune_result"]


class TuningTerminal(Terminal):
    """Listen to the trials of a search and show them."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self.trial = ""
        self.done = 0
        self.began_s = time.monotonic()
        self.remarks: set[str] = set()

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:
        """Print, before the first trial alone, what is trained on what."""
        self.trial = folder.name.replace("-", " ")
        if not self.done:
            super().on_start(folder, recipe, manifest, model)
        self.countdown = None  # pruning decides how long a trial takes

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:
        """Move the bar."""
        self._show(f"{self.trial}, epoch {epoch + 1}", done, num_batches, self._describe_totals(totals))

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Do nothing: the trial has one line, at its end."""

    def on_remark(self, text: str) -> None:
        """Print it, once for all trials."""
        if text not in self.remarks:
            self.remarks.add(text)
            super().on_remark(text)

    def on_trial(self, trial: Trial, best: Trial | None, left: int) -> None:
        """Print what a trial tried and reached, and what is the best so far."""
        self.done += 1
        leading = f"best {best.value:6.1%} ({best.number})" if best else "best   none"
        remaining_s = (time.monotonic() - self.began_s) / self.done * left
        remaining = f", {describe_time(remaining_s)} left" if left else ""
        self.console.print(
            f"trial {trial.number:>3}  {_describe_outcome(trial)}  {leading}  {_describe_choice(trial)}{remaining}",
            markup=False,
        )
        self.said_s = time.monotonic()


def _describe_outcome(trial: Trial) -> str:
    if trial.state == "failed":
        return "failed            "
    ending = "" if trial.state == "complete" else f" pruned at {trial.epochs}"
    return f"val {trial.value:6.1%}{ending:<13}"


def _describe_choice(trial: Trial) -> str:
    """List what was chosen, by the last part of each name."""
    values = {name.rpartition(".")[2]: value for name, value in trial.choice.items()}
    return ", ".join(f"{name} {_shorten(value)}" for name, value in values.items())


def _shorten(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else write_value(value)


def print_tune_result(result: TuneResult, *, as_json: bool) -> None:
    """Print the best trial, where its recipe lies and what comes next."""
    best = result.best
    if as_json:
        found = None
        if best is not None:
            found = {"trial": best.number, "value": best.value, "loss": best.loss, "choice": dict(best.choice)}
        counts = {state: sum(one.state == state for one in result.trials) for state in ("complete", "pruned", "failed")}
        recipe = str(result.recipe) if result.recipe else None
        print(json.dumps({"folder": str(result.folder), "trials": counts, "best": found, "recipe": recipe}))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True)
    if best is None or result.recipe is None:
        console.print(
            f"no trial came to its end; --resume --name {result.folder.name} --trials N goes on", markup=False
        )
        return
    console.print(f"val {best.value:.1%}, loss {best.loss:.3f} in trial {best.number}", markup=False)
    console.print("the best of many is partly luck: judge it on clips that no trial has seen")
    console.print(f"{result.folder}: best.yaml, trials.csv, tuning.png, trial-{best.number:04d}/", markup=False)
    console.print(f"next: tubelet train --config {quote(str(result.recipe))}", markup=False)
