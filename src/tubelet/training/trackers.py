"""Tell an experiment tracker what a run shows: TensorBoard, Weights & Biases or MLflow.

    train(..., listener=Listeners([TensorBoardTracker(), MlflowTracker()]))
    tubelet train clips/ --track tensorboard --track mlflow

A tracker is told the recipe, each row of metrics.csv at its epoch, the figures of the final evaluation and the
pictures. It changes nothing in the run, and a run does not fail with it: once it is open, what goes wrong is a warning.
What it knows of a run is in `tracking.json`: a run that goes on is one run for the tracker, too, with each epoch once.
"""

import json
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from tubelet import __version__, files
from tubelet.config import flatten, write_config
from tubelet.data.manifest import Manifest
from tubelet.errors import Interrupted, MissingExtra, TrainingError, UnknownName, name_nearest
from tubelet.evaluation.report import Report
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.progress import Silent
from tubelet.training.run import Run

__all__ = ["TRACKERS", "MlflowTracker", "TensorBoardTracker", "Tracker", "WandbTracker", "make_trackers"]

PICTURES = ("augmentations", "class_distribution", "reconstruction", "curves", "confusion")
"""Pictures of a run folder that trackers are given when it ends."""
PROJECT = "tubelet"
"""Where runs are filed unless the environment names a project or an experiment."""
MLFLOW_BATCH = 100
"""Parameters that MLflow takes at once."""


class Tracker(Silent, ABC):
    """Listen to runs, one after the other, and pass on what they show."""

    name: ClassVar[str]
    """What `--track`, and the extra that installs it, call it."""
    module: ClassVar[str]
    """What is imported of it."""

    def __init__(self) -> None:
        try:
            self.library: Any = import_module(self.module)
        except ImportError as error:
            raise MissingExtra(
                f"cannot track with {self.name} - {error} - pip install 'tubelet[{self.name}]'."
            ) from None
        self.run: Run | None = None
        self.told = 0
        """The last epoch that was passed on."""

    def on_start(self, folder: Path, recipe: AnyRecipe, manifest: Manifest, model: nn.Module) -> None:  # noqa: ARG002
        """Open the tracker's run, anew or where it was left.

        Raises:
            TrainingError: it cannot be opened; the training has not begun.
        """
        known = _read_known(folder).get(self.name, {})
        self.told = int(known.get("epoch", 0))
        try:
            identity = self._open(folder, recipe, known)
        except Exception as error:
            raise TrainingError(
                f"cannot track {str(folder)!r} with {self.name} - {error} - train without '--track {self.name}', or "
                "correct its settings."
            ) from error
        self.run = Run(folder)
        self._remember(identity)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Pass on the row of an epoch, and those before it that were not passed on yet."""
        with self._warned(f"epoch {row['epoch']:.0f}") as run:
            for one in run.read_metrics():
                epoch = int(one["epoch"])
                if epoch > self.told:
                    figures = {_name(key): value for key, value in one.items() if key != "epoch"}
                    self._log({key: value for key, value in figures.items() if not math.isnan(value)}, epoch)
                    self.told = epoch
            self._remember({"epoch": self.told})

    def on_report(self, report: Report) -> None:
        """Pass on the figures of the final evaluation."""
        figures = {key: value for key, value in report.headline_figures().items() if isinstance(value, float)}
        with self._warned("the final figures"):
            self._conclude({f"final/{report.split}_{key}": value for key, value in figures.items()})

    def on_close(self, error: BaseException | None) -> None:
        """Pass on the pictures of a run that came to its end, and close the tracker's run."""
        if self.run is None:
            return
        with self._warned("the end of the run") as run:
            try:
                paths = [run.folder / f"{name}.png" for name in PICTURES]
                self._add_pictures([path for path in paths if path.exists() and error is None])
            finally:
                self._close(error)
        self.run = None

    @abstractmethod
    def _open(self, folder: Path, recipe: AnyRecipe, known: Mapping[str, Any]) -> dict[str, Any]:
        """Open a run, or the one that is known; say by what it will be known."""

    @abstractmethod
    def _log(self, figures: Mapping[str, float], epoch: int) -> None:
        """Pass on the figures of an epoch."""

    @abstractmethod
    def _conclude(self, figures: Mapping[str, float]) -> None:
        """Pass on figures of the run as a whole."""

    @abstractmethod
    def _add_pictures(self, paths: Sequence[Path]) -> None:
        """Pass on pictures."""

    @abstractmethod
    def _close(self, error: BaseException | None) -> None:
        """Send what is not sent yet, and leave."""

    @contextmanager
    def _warned(self, what: str) -> Iterator[Run]:
        """Warn of what goes wrong in the tracker: days of training are worth more than its record."""
        assert self.run is not None
        try:
            yield self.run
        except Exception as error:
            text = (
                f"{self.name} was not told of {what} - {error} - metrics.csv has all rows; the next epoch tries again."
            )
            warnings.warn(text, stacklevel=3)

    def _remember(self, entry: Mapping[str, Any]) -> None:
        assert self.run is not None
        known = _read_known(self.run.folder)
        known[self.name] = {**known.get(self.name, {}), **entry}
        files.write_json(self.run.folder / "tracking.json", known)


class TensorBoardTracker(Tracker):
    """Write event files into `tensorboard/` of the run folder: `tensorboard --logdir runs` shows all runs."""

    name = "tensorboard"
    module = "torch.utils.tensorboard"

    def _open(self, folder: Path, recipe: AnyRecipe, known: Mapping[str, Any]) -> dict[str, Any]:
        # All is told again, from metrics.csv, in place of what an interrupted process wrote: its end may be torn.
        self.told = 0
        purge_step = 0 if known else None
        self._writer = self.library.SummaryWriter(os.fspath(folder / "tensorboard"), purge_step=purge_step)
        if not known:  # texts are not replaced as numbers are
            self._writer.add_text("recipe", f"```yaml\n{write_config(recipe)}```", 0)
        return {"folder": "tensorboard"}

    def _log(self, figures: Mapping[str, float], epoch: int) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(key, value, epoch)
        self._writer.flush()

    def _conclude(self, figures: Mapping[str, float]) -> None:
        self._log(figures, self.told)

    def _add_pictures(self, paths: Sequence[Path]) -> None:
        import numpy as np
        from PIL import Image

        for path in paths:
            with Image.open(path) as picture:
                self._writer.add_image(path.stem, np.asarray(picture.convert("RGB")), self.told, dataformats="HWC")

    def _close(self, error: BaseException | None) -> None:  # noqa: ARG002 - it has no word for it
        self._writer.close()


class WandbTracker(Tracker):
    """Send a run to Weights & Biases; its own variables (WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY) say how and where.

    Offline (WANDB_MODE=offline) each process of a run that goes on leaves a folder of its own below `wandb/` of the run
    folder, all of one identity: `wandb sync runs/NAME/wandb/offline-run-*` joins them, in order.
    """

    name = "wandb"
    module = "wandb"

    def _open(self, folder: Path, recipe: AnyRecipe, known: Mapping[str, Any]) -> dict[str, Any]:
        self._run = self.library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=known.get("id"),
            resume="allow" if known else None,
            dir=os.fspath(folder),
            config=_list_plain(recipe),
            allow_val_change=True,
            settings=self.library.Settings(console="off"),
        )
        return {"id": self._run.id, "project": self._run.project}

    def _log(self, figures: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(figures), step=epoch, commit=True)

    def _conclude(self, figures: Mapping[str, float]) -> None:
        self._run.summary.update(dict(figures))

    def _add_pictures(self, paths: Sequence[Path]) -> None:
        pictures = {path.stem: self.library.Image(os.fspath(path)) for path in paths}
        if pictures:
            self._run.log(pictures)

    def _close(self, error: BaseException | None) -> None:
        self._run.finish(exit_code=0 if error is None else 1)


class MlflowTracker(Tracker):
    """Send a run to MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where.

    Without the first MLflow keeps `mlflow.db` in the folder that the program is started in.
    """

    name = "mlflow"
    module = "mlflow"

    def _open(self, folder: Path, recipe: AnyRecipe, known: Mapping[str, Any]) -> dict[str, Any]:
        self._client = self.library.MlflowClient()
        if known:
            self._id = str(known["run_id"])
            self._client.update_run(self._id, "RUNNING")
            # The store itself knows best what has reached it.
            self.told = max((one.step for one in self._client.get_metric_history(self._id, "lr")), default=0)
            return {}
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(place, run_name=folder.name, tags={"tubelet": __version__})
        self._id = str(run.info.run_id)
        values = [(key, str(value)) for key, value in flatten(recipe).items()]
        for first in range(0, len(values), MLFLOW_BATCH):
            part = [self.library.entities.Param(*pair) for pair in values[first : first + MLFLOW_BATCH]]
            self._client.log_batch(self._id, params=part)
        return {"run_id": self._id}

    def _log(self, figures: Mapping[str, float], epoch: int) -> None:
        for key, value in figures.items():
            self._client.log_metric(self._id, key, value, step=epoch)

    def _conclude(self, figures: Mapping[str, float]) -> None:
        self._log(figures, self.told)

    def _add_pictures(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._client.log_artifact(self._id, os.fspath(path))

    def _close(self, error: BaseException | None) -> None:
        how = "KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED"
        self._client.set_terminated(self._id, "FINISHED" if error is None else how)


TRACKERS: Mapping[str, Callable[[], Tracker]] = MappingProxyType(
    {"tensorboard": TensorBoardTracker, "wandb": WandbTracker, "mlflow": MlflowTracker}
)
"""What `--track` knows, by name."""


def make_trackers(names: Sequence[str]) -> list[Tracker]:
    """Make the trackers of these names, each once.

    Raises:
        UnknownName: there is no such tracker.
        MissingExtra: its package is not installed; the text says what to install.
    """
    for name in names:
        if name not in TRACKERS:
            near = name_nearest(name, TRACKERS) or "."
            raise UnknownName(f"unknown tracker '{name}'{near} There are {', '.join(TRACKERS)}.")
    return [TRACKERS[name]() for name in dict.fromkeys(names)]


def _name(column: str) -> str:
    """Name a column of metrics.csv as trackers group figures: `train_loss` is `train/loss`."""
    side, _, rest = column.partition("_")
    return f"{side}/{rest}" if side in ("train", "val") else column


def _list_plain(recipe: AnyRecipe) -> dict[str, Any]:
    """List the leaves of a recipe as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(flatten(recipe), default=dict))
    return values


def _read_known(folder: Path) -> dict[str, Any]:
    """Read what trackers know of a run."""
    with suppress(FileNotFoundError):
        known: dict[str, Any] = json.loads((folder / "tracking.json").read_text(encoding="utf-8"))
        return known
    return {}
