"""`tubelet train`: from labelled clips to a run folder."""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from tubelet.cli.run_options import RunOptions, is_main
from tubelet.config import collect, overrides_type
from tubelet.recipes.recipe import Recipe

__all__ = ["TrainOptions", "train_model"]

RecipeOptions: Any = overrides_type(Recipe)


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Hold the options of the command; those that stand for a field of the recipe are None where not typed."""


def train_model(
    data: str | None = None,
    *,
    options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(),
    fields: Annotated[RecipeOptions | None, Parameter(name="*")] = None,
) -> None:
    """Train a classifier into runs/NAME.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file, or a name that 'tubelet data list' shows.
    """
    from tubelet.cli.progress import Terminal, print_train_result
    from tubelet.training.train import train

    changes = options.list_changes() | collect(fields)
    places = options.list_places() | changes
    with Terminal(quiet=options.json or not is_main()) as terminal:
        result = train(data, listener=options.add_trackers(terminal), **places)
    if is_main():
        print_train_result(result, as_json=options.json)
