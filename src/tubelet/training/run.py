"""Keep a run in a folder: what it was asked, how far it is, what it reached.

    runs/NAME/
        config.yaml        the resolved recipe
        model/             the best weights so far: model.safetensors, config.json
        last.ckpt          where to go on from; previous.ckpt the one before
        metrics.csv        one row an epoch
        log.jsonl          one object an event
        bad_samples.jsonl  clips that could not be read (only where there are some)
        *.png, report.json, predictions.csv, ...

Every file is written under another name and renamed when whole; checkpoints carry their own hash.
"""

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tubelet import files
from tubelet.config import read_config, write_config
from tubelet.data.dataset import BadSample
from tubelet.errors import CheckpointError, TrainingError, name_nearest
from tubelet.recipes.recipe import Recipe
from tubelet.training.loop import Totals

__all__ = ["Progress", "Run", "load_checkpoint", "save_checkpoint"]

CHECKPOINT_FORMAT = 1


@dataclass
class Progress:
    """State how far a run is; enough, with weights and optimizer, to go on bit by bit."""

    epoch: int = 0
    """The epoch to train next, or to go on with."""
    batch: int = 0
    """Batches of that epoch already trained on."""
    best: float = -1.0
    """Best validation accuracy so far."""
    best_loss: float = float("inf")
    best_epoch: int = -1
    totals: Totals = field(default_factory=Totals)
    """What the interrupted epoch showed so far."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row an epoch, as in metrics.csv."""
    is_done: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Turn into plain types, as a checkpoint holds them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Progress":
        """Rebuild from what `to_plain` gave."""
        values = dict(plain)
        totals = dict(values["totals"])
        totals["bad"] = [BadSample(**bad) for bad in totals["bad"]]
        values["totals"] = Totals(**totals)
        return cls(**values)


def save_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    contract: Mapping[str, Any],
) -> None:
    """Write everything needed to go on, sealed with its hash, and keep the checkpoint before as `previous.ckpt`."""
    payload = io.BytesIO()
    torch.save(
        {
            "format": CHECKPOINT_FORMAT,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": progress.to_plain(),
            "contract": dict(contract),
        },
        payload,
    )
    fresh = path.with_name(f"{path.name}.next")
    files.write_sealed(fresh, payload.getvalue())
    if path.exists():
        path.replace(path.with_name("previous.ckpt"))
    fresh.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint after checking its hash; only tensors and plain types are ever loaded.

    Raises:
        CheckpointError: missing, damaged, or of a newer format.
    """
    payload = files.read_sealed(path)
    try:
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot load {str(path)!r} - {error} - it is no checkpoint of tubelet.") from None
    if checkpoint.get("format", 0) > CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it has format {checkpoint['format']}, this version knows up to "
            f"{CHECKPOINT_FORMAT} - upgrade tubelet."
        )
    return checkpoint


class Run:
    """Read and write the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, *, overwrite: bool = False) -> "Run":
        """Make the folder of a new run.

        Raises:
            TrainingError: there is a run of that name already.
        """
        run = cls(folder)
        if run.config_path.exists() and not overwrite:
            raise TrainingError(
                f"cannot start run {str(folder)!r} - it exists already - continue it with --resume, "
                "replace it with --overwrite, or choose another --name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.ckpt*"), *folder.glob("*.csv"), *folder.glob("*.json*"), *folder.glob("*.png")):
            old.unlink()
        files.write_text(run.config_path, write_config(recipe))
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open the folder of an interrupted run.

        Raises:
            TrainingError: there is no such run; the nearest names are given.
        """
        run = cls(folder)
        if not run.config_path.exists():
            known = [path.parent.name for path in folder.parent.glob("*/config.yaml")]
            near = name_nearest(folder.name, known) or "."
            raise TrainingError(
                f"cannot resume run {str(folder)!r} - there is no such run{near} Start it without --resume."
            )
        files.remove_leftovers(folder)
        return run

    @property
    def config_path(self) -> Path:
        """The resolved recipe."""
        return self.folder / "config.yaml"

    @property
    def model_path(self) -> Path:
        """The folder of the best weights."""
        return self.folder / "model"

    @property
    def checkpoint_path(self) -> Path:
        """Where to go on from."""
        return self.folder / "last.ckpt"

    def read_recipe(self) -> Recipe:
        """Read the recipe the run was started with."""
        return read_config(self.config_path, Recipe)

    def read_checkpoint(self) -> tuple[dict[str, Any] | None, str]:
        """Read the last intact checkpoint.

        Returns:
            The checkpoint, or None where the run died before its first one; and a remark where an older one had to do.
        """
        remark = ""
        for path in (self.checkpoint_path, self.checkpoint_path.with_name("previous.ckpt")):
            if not path.exists():
                continue
            try:
                return load_checkpoint(path), remark
            except CheckpointError as error:
                remark = f"{error} Going on from {path.with_name('previous.ckpt').name} instead."
        if remark:
            raise CheckpointError(f"cannot resume {str(self.folder)!r} - no intact checkpoint is left - start it anew.")
        return None, remark

    def write_metrics(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv, one row an epoch."""
        with files.write_whole(self.folder / "metrics.csv", "w") as table:
            if history:
                writer = csv.DictWriter(table, list(history[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(history)

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def write_bad_samples(self, bad: Sequence[BadSample]) -> None:
        """List the clips that could not be read, once each."""
        distinct = {sample.name: sample for sample in bad}
        if distinct:
            rows = [json.dumps(asdict(sample)) for _, sample in sorted(distinct.items())]
            files.write_text(self.folder / "bad_samples.jsonl", "\n".join(rows) + "\n")
