"""`tubelet train`: from labelled clips to a run folder."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tubelet.config import collect, override, overrides_type, read_config
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.shipped import recipe_for

__all__ = ["train_model"]

RecipeOptions: Any = overrides_type(Recipe)


def train_model(  # noqa: PLR0913 - options of a command
    data: str | None = None,
    *,
    name: str | None = None,
    config: Path | None = None,
    model: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    device: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    patience: int | None = None,
    decoder: str | None = None,
    group_by: str | None = None,
    deterministic: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    runs: Path = Path("runs"),
    json: bool = False,
    options: Annotated[RecipeOptions | None, Parameter(name="*")] = None,
) -> None:
    """Train a classifier into runs/NAME.

    Parameters
    ----------
    data: str
        Folder of class folders, CSV/TSV/JSONL manifest, .npz file, or a name that 'tubelet data list' shows.
    name: str
        Name of the run; made of data and model where none is given.
    config: Path
        YAML file with a recipe; options on the command line win over it.
    model: str
        A name that 'tubelet models' lists; brings its own input size. Same as --model.name.
    epochs: int
        Passes over the training clips. Same as --training.epochs.
    batch: int
        Clips in one step. Same as --training.batch.
    lr: float
        Peak learning rate. Same as --optimizer.lr.
    device: str
        auto, cpu, cuda, cuda:1 or mps. Same as --training.device.
    workers: int
        Processes that decode. Same as --data.workers.
    seed: int
        Seed of weights, order and augmentation (default 42). Same as --training.seed.
    patience: int
        Stop after so many epochs without a better validation result. Same as --training.patience.
    decoder: str
        pyav, torchcodec or decord. Same as --data.decoder.
    group_by: str
        Column whose values stay together in one split. Same as --data.group-by.
    deterministic: bool
        Refuse operations whose result may change between runs. Same as --training.deterministic.
    resume: bool
        Go on with the interrupted run of that name.
    overwrite: bool
        Replace a run of that name.
    runs: Path
        Folder of all runs.
    json: bool
        Print one JSON object instead of progress.
    """
    from tubelet.cli.progress import Terminal, print_train_result
    from tubelet.training.progress import SILENT
    from tubelet.training.train import train

    typed = {
        "training.epochs": epochs,
        "training.batch": batch,
        "optimizer.lr": lr,
        "training.device": device,
        "data.workers": workers,
        "training.seed": seed,
        "training.patience": patience,
        "data.decoder": decoder,
        "data.group_by": group_by,
        "training.deterministic": deterministic or None,
    }
    changes = {key: value for key, value in typed.items() if value is not None} | collect(options)
    base = read_config(config, Recipe) if config else recipe_for(data, model or changes.get("model.name"), changes)
    recipe = override(base, changes, "command line")
    if model is not None:
        recipe = replace(recipe, model=replace(recipe.model, name=model))
    with Terminal(quiet=json) as terminal:
        result = train(
            data,
            recipe=recipe,
            name=name,
            runs=runs,
            resume=resume,
            overwrite=overwrite,
            listener=SILENT if json else terminal,
        )
    print_train_result(result, as_json=json)
