"""`tubelet train`: from labelled clips to a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tubelet.config import collect, overrides_type
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.shipped import resolve_recipe

__all__ = ["TrainOptions", "train_model"]

RecipeOptions: Any = overrides_type(Recipe)

SHORTCUTS = {
    "model": "model.name",
    "weights": "model.weights",
    "epochs": "training.epochs",
    "batch": "training.batch",
    "lr": "optimizer.lr",
    "device": "training.device",
    "workers": "data.workers",
    "seed": "training.seed",
    "patience": "training.patience",
    "decoder": "data.decoder",
    "group_by": "data.group_by",
    "deterministic": "training.deterministic",
}
"""Short options and the fields of the recipe that they stand for."""


@dataclass(frozen=True)
class TrainOptions:
    """Hold the options of the command; those that stand for a field of the recipe are None where not typed."""

    name: str | None = None
    """Name of the run; made of data and model where none is given."""
    config: Path | None = None
    """YAML file with a recipe; options on the command line win over it."""
    model: str | None = None
    """A name that 'tubelet models' lists; brings its own frames and size. Short for --model.name."""
    weights: str | None = None
    """A run, a file, a folder, hf://owner/repo or 'default' to start from; brings its own model where none is named.
    Short for --model.weights."""
    epochs: int | None = None
    """Passes over the training clips. Short for --training.epochs."""
    batch: int | None = None
    """Clips in one step. Short for --training.batch."""
    lr: float | None = None
    """Peak learning rate. Short for --optimizer.lr."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1 or mps. Short for --training.device."""
    workers: int | None = None
    """Processes that decode. Short for --data.workers."""
    seed: int | None = None
    """Seed of weights, order and augmentation, 42 by default. Short for --training.seed."""
    patience: int | None = None
    """Stop after so many epochs without a better validation result. Short for --training.patience."""
    decoder: str | None = None
    """pyav, torchcodec or decord. Short for --data.decoder."""
    group_by: str | None = None
    """Column whose values stay together in one split. Short for --data.group-by."""
    deterministic: bool | None = None
    """Refuse operations whose result may change between runs. Short for --training.deterministic."""
    resume: bool = False
    """Go on with the interrupted run of that name."""
    overwrite: bool = False
    """Replace a run of that name."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    json: bool = False
    """Print one JSON object at the end instead of progress."""

    def list_changes(self) -> dict[str, Any]:
        """List the fields of the recipe that short options were typed for."""
        return {key: getattr(self, name) for name, key in SHORTCUTS.items() if getattr(self, name) is not None}


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
    places: dict[str, Any] = {key: getattr(options, key) for key in ("name", "runs", "resume", "overwrite")}
    if options.resume:
        places |= changes  # compared with the recipe of the run, which stays
    else:
        places["recipe"] = resolve_recipe(data, options.config, changes)
    with Terminal(quiet=options.json) as terminal:
        result = train(data, listener=terminal, **places)
    print_train_result(result, as_json=options.json)
