"""Hold the options that `train` and `pretrain` share: where a run goes, and short names for fields of its recipe."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cyclopts import Parameter

if TYPE_CHECKING:
    from tubelet.training.progress import Listener

from tubelet.errors import ConfigError

__all__ = ["SHORTCUTS", "RunOptions", "is_main"]

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
    "fold": "data.fold",
    "download": "data.download",
    "deterministic": "training.deterministic",
}
"""Short options and the fields of the recipe that they stand for."""


def is_main() -> bool:
    """Tell whether this process speaks for its run: of several, the first does."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class RunOptions:
    """Hold the options of a command that makes a run; those that stand for a field of the recipe are None untyped."""

    shortcuts: ClassVar[Mapping[str, str]] = SHORTCUTS

    name: str | None = None
    """Name of the run; made of data and model where none is given."""
    recipe: str | None = None
    """A name that 'tubelet recipe list' shows; options on the command line win over it."""
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
    fold: int | None = None
    """Official split of a known data set, such as 2 of ucf101. Short for --data.fold."""
    download: bool | None = None
    """Fetch a known data set that is not on this machine, as is the default. Short for --data.download."""
    deterministic: bool | None = None
    """Refuse operations whose result may change between runs. Short for --training.deterministic."""
    devices: int = 1
    """Processes, one for each GPU of this machine; they share each batch. Taken off before a command begins."""
    resume: bool = False
    """Go on with the interrupted run of that name."""
    overwrite: bool = False
    """Replace a run of that name."""
    track: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Tell an experiment tracker, too: tensorboard, wandb or mlflow; as often as needed, again with --resume."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    json: bool = False
    """Print one JSON object at the end instead of progress."""

    def list_changes(self) -> dict[str, Any]:
        """List the fields of the recipe that short options were typed for."""
        return {key: getattr(self, name) for name, key in self.shortcuts.items() if getattr(self, name) is not None}

    def list_places(self) -> dict[str, Any]:
        """List where the run goes, what is done with one that stands there, and the recipe that was named.

        Raises:
            ConfigError: a file and a name; or one of them for a run that goes on with its own recipe.
        """
        stated = self.config or self.recipe
        if self.resume and stated is not None:
            raise ConfigError(
                f"--resume goes on with the recipe that the run was started with - found {stated} too - leave one out."
            )
        if self.config is not None and self.recipe is not None:
            raise ConfigError(
                f"one recipe was asked for - found --config {self.config} and --recipe {self.recipe} - give one."
            )
        places = {name: getattr(self, name) for name in ("name", "runs", "resume", "overwrite")}
        return places if self.resume else {**places, "recipe": stated}

    def add_trackers(self, listener: "Listener") -> "Listener":
        """Have the trackers that were asked for listen, too."""
        from tubelet.training.progress import Listeners
        from tubelet.training.trackers import make_trackers

        return Listeners([listener, *make_trackers(self.track)]) if self.track and is_main() else listener
