"""`tubelet tune`: search for a better recipe, on validation clips alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tubelet.cli.run_options import RunOptions
from tubelet.cli.train import RecipeOptions
from tubelet.config import collect
from tubelet.recipes.search import Search, read_space

__all__ = ["TuneOptions", "tune_recipe"]


@dataclass(frozen=True)
class TuneOptions(RunOptions):
    """Hold the options of the command; a field of the recipe that is typed is the same in all trials."""

    trials: int | None = None
    """Trainings in all, those before an interruption included; 20 where nothing is said."""
    timeout: float | None = None
    """Minutes after which no further trial begins; nothing is cut off."""
    search: Path | None = None
    """YAML file with what is varied, such as 'optimizer.lr: {low: 1e-5, high: 1e-2, log: true}'."""
    search_seed: int = 42
    """Seed of what is tried."""
    prune: bool = True
    """End trials early that are below the median of the others at the same epoch."""
    keep_all: bool = False
    """Keep the weights of all trials, not of the best alone."""

    def make_search(self) -> Search:
        """State what is searched, and how long."""
        space = read_space(self.search) if self.search else None
        return Search(space, self.trials, self.timeout, self.search_seed, self.prune, self.keep_all)


def tune_recipe(
    data: str | None = None,
    *,
    options: Annotated[TuneOptions, Parameter(name="*")] = TuneOptions(),
    fields: Annotated[RecipeOptions | None, Parameter(name="*")] = None,
) -> None:
    """Search for a better recipe, on validation clips alone, and write it as runs/NAME/best.yaml.

    Parameters
    ----------
    data: str
        What 'tubelet train' takes; test clips are not looked at.
    """
    from tubelet.cli.tuning_progress import TuningTerminal, print_tune_result
    from tubelet.training.tuning import tune

    changes = options.list_changes() | collect(fields)
    places = options.list_places() | {"name": options.name or "tuning", "search": options.make_search()} | changes
    with TuningTerminal(quiet=options.json) as terminal:
        result = tune(data, listener=options.add_trackers(terminal), on_trial=terminal.on_trial, **places)
    print_tune_result(result, as_json=options.json)
