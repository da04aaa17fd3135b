"""`tubelet train`: from labelled clips to a run folder."""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from tubelet.cli.run_options import RunOptions, is_main
from tubelet.config import collect, overrides_type
from tubelet.errors import ConfigError
from tubelet.recipes.recipe import Recipe

__all__ = ["TrainOptions", "train_model"]

RecipeOptions: Any = overrides_type(Recipe)


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Hold the options of the command; those that stand for a field of the recipe are None where not typed."""

    overfit_batch: bool = False
    """Only try to learn the first 16 training clips by heart, in this process, and say whether model, labels and input
    fit together: exit status 1 where not. Writes nothing."""
    overfit_steps: int = 200
    """Steps that this may take."""


def train_model(
    data: str | None = None,
    *,
    options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(),
    fields: Annotated[RecipeOptions | None, Parameter(name="*")] = None,
) -> int:
    """Train a classifier into runs/NAME.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file, or a name that 'tubelet data list' shows.
    """
    from tubelet.cli.progress import Terminal, print_train_result
    from tubelet.training.train import train

    changes = options.list_changes() | collect(fields)
    if options.overfit_batch:
        return _overfit(data, options, changes)
    places = options.list_places() | changes
    with Terminal(quiet=options.json or not is_main()) as terminal:
        result = train(data, listener=options.add_trackers(terminal), **places)
    if is_main():
        print_train_result(result, as_json=options.json)
    return 0


def _overfit(data: str | None, options: TrainOptions, changes: dict[str, Any]) -> int:
    """Try to learn a batch by heart; of several processes the first does it."""
    from tubelet.cli.overfitting import OverfittingTerminal, print_overfitting
    from tubelet.training.overfitting import overfit_batch

    if options.resume:
        raise ConfigError(
            "--overfit-batch learns one batch from the start - found --resume too - leave one out; the recipe of a run "
            "is read with --config RUN/config.yaml."
        )
    if not is_main():
        return 0
    with OverfittingTerminal(quiet=options.json) as terminal:
        recipe = options.list_places()["recipe"]
        result = overfit_batch(data, recipe=recipe, steps=options.overfit_steps, listener=terminal, **changes)
    return print_overfitting(result, as_json=options.json)
