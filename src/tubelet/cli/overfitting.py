"""Show whether a batch is learned by heart: a line now and then, and a verdict."""

import json
from collections.abc import Sequence

from rich.console import Console

from tubelet.cli.progress import Terminal
from tubelet.data.dataset import BadSample
from tubelet.training.loop import Totals
from tubelet.training.overfitting import OverfitResult

__all__ = ["OverfittingTerminal", "print_overfitting"]

SHOWN_STEPS = (1, 2, 5, 10, 20, 50, 100)
"""Steps that are shown, besides the last and every hundredth."""


class OverfittingTerminal(Terminal):
    """Listen to a batch that is learned by heart, and show it."""

    def on_step(self, epoch: int, done: int, num_batches: int, totals: Totals) -> None:  # noqa: ARG002 - there is one
        """Print some of the steps."""
        if done in SHOWN_STEPS or done % 100 == 0 or done == num_batches:
            self.console.print(f"step {done:>4}  loss {totals.loss:.4f}  {totals.correct} of {totals.seen} clips right")

    def on_bad(self, bad: Sequence[BadSample]) -> None:
        """Name the clips that could not be read."""
        self.console.print(f"{len(bad)} clips could not be read and are left out:", style="yellow")
        for sample in bad:
            self.console.print(f"  {sample.message}", style="yellow", markup=False)


def print_overfitting(result: OverfitResult, *, as_json: bool) -> int:
    """Print how it went and what to do; return 1 where the batch was not learned."""
    if as_json:
        print(json.dumps(result.to_dict(), allow_nan=False))  # noqa: T201
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(result.describe(), markup=False)
        if result.advice:
            console.print(result.advice, style="yellow", markup=False)
    return 0 if result.is_learned else 1
