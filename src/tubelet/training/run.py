"""Keep a run in a folder: what it was asked, how far it is, what it reached.

    runs/NAME/
        config.yaml        the resolved recipe
        splits.csv         which clip was in which split
        model/             the best weights so far (pre-training: the last): model.safetensors, config.json
        last.ckpt          where to go on from; previous.ckpt the one before
        shards/            tensors of these, where the model is shared out over processes
        metrics.csv        one row an epoch
        log.jsonl          one object an event: start, epoch, evaluation
        bad_samples.jsonl  clips that could not be read (only where there are some)
        *.png, report.html, report.json, predictions.csv, ...

Every file is written under another name and renamed when whole; checkpoints carry their own hash.
"""

import csv
import errno
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from tubelet import files
from tubelet.config import read_config, write_config
from tubelet.data.dataset import BadSample
from tubelet.errors import CheckpointError, ConfigError, TrainingError, name_nearest
from tubelet.recipes.pretraining import AnyRecipe, PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.training.loop import Totals
from tubelet.training.shards import check_shards, remove_shards

__all__ = ["Progress", "Run", "load_checkpoint", "save_checkpoint"]

R = TypeVar("R", bound=AnyRecipe)

CHECKPOINT_FORMAT = 1
NEWEST_FORMAT = 2
"""With shards; read, but written only where there are some."""
CHECKPOINTS = ("last.ckpt", "last.ckpt.next", "previous.ckpt")
"""Newest first; `next` is whole where a run died between writing and renaming it."""
OWN_FILES = (
    *(
        "config.yaml",
        "splits.csv",
        "metrics.csv",
        "log.jsonl",
        "bad_samples.jsonl",
        "failure.ckpt",
        "tracking.json",
        *CHECKPOINTS,
    ),
    *(
        "report.html",
        "report.json",
        "evaluation.json",
        "classification_report.txt",
        "confusion.json",
        "predictions.csv",
    ),
    *("curves.png", "class_distribution.png", "confusion.png", "reconstruction.png", "augmentations.png"),
)
"""What a run may write: all that `--overwrite` may remove."""
COMMANDS: Mapping[type[AnyRecipe], str] = {Recipe: "train", PretrainingRecipe: "pretrain"}
"""Which command starts runs from which kind of recipe."""
LOCK = "run.lock"
"""Held by the process that trains, with its number."""
SHARDS = "shards"
OWN_FOLDERS = (SHARDS, "model", ".model.old", ".model.new", "tensorboard", "wandb")


@dataclass
class Progress:
    """State how far a run is; enough, with weights and optimizer, to go on bit by bit."""

    epoch: int = 0
    """The epoch to train next, or to go on with."""
    batch: int = 0
    """Batches of that epoch already trained on."""
    best: float = -1.0
    """Best validation accuracy so far; in multi-label training, best mean average precision."""
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


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write everything needed to go on, sealed with its hash, and keep the checkpoint before as `previous.ckpt`.

    Args:
        path: of the newest checkpoint.
        state: tensors and plain types: weights, optimizer, progress.

    Raises:
        DiskFull: no room; the checkpoint before is untouched.
    """
    payload = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **state}, payload)
    files.write_sealed(_name_next(path), payload.getvalue())
    _finish_save(path)


def _finish_save(path: Path) -> None:
    """Give the checkpoint that was written last its name, also where a run died before it could."""
    fresh = _name_next(path)
    if fresh.exists():
        if path.exists():
            path.replace(path.with_name("previous.ckpt"))
        fresh.replace(path)


def _name_next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint after checking its hash; only tensors and plain types are ever loaded.

    Args:
        path: `last.ckpt` or `previous.ckpt` of a run.

    Returns:
        On the CPU: the state dicts `model`, `optimizer`, `scaler` and `average` (None without one), `progress`, and the
        `contract` that a run compares before it goes on.

    Raises:
        CheckpointError: missing, damaged, in its shards too, or of a newer format.
    """
    path = Path(path)
    checkpoint = _load(path)
    check_shards(path.parent / SHARDS, checkpoint)
    return checkpoint


def _load(path: Path) -> dict[str, Any]:
    payload = files.read_sealed(path)
    try:
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot load {str(path)!r} - {error} - it is no checkpoint of tubelet.") from None
    if checkpoint.get("format", 0) > NEWEST_FORMAT:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it has format {checkpoint['format']}, this version knows up to "
            f"{NEWEST_FORMAT} - upgrade tubelet."
        )
    return checkpoint


class Run:
    """Read and write the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, recipe: AnyRecipe, *, overwrite: bool = False) -> "Run":
        """Make the folder of a new run.

        Raises:
            TrainingError: there is a run of that name already, or a file in the way.
        """
        run = cls(folder)
        if folder.name in ("", "..") or folder == folder.parent:
            raise TrainingError(f"cannot start run {str(folder)!r} - it names no folder of its own - choose a --name.")
        file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
        if file is not None:
            raise TrainingError(
                f"cannot start run {str(folder)!r} - {str(file)!r} is a file - choose another --name, or --runs."
            )
        if run.config_path.exists() and not overwrite:
            raise TrainingError(
                f"cannot start run {str(folder)!r} - it exists already - continue it with --resume, "
                "replace it with --overwrite, or choose another --name."
            )
        if run.config_path.exists():
            with run.lock():
                pass  # nobody trains it at this moment
        if folder.exists():
            files.remove_leftovers(folder)  # of a run that was killed while it wrote its first file
        if folder.exists() and not run.config_path.exists() and any(folder.iterdir()):
            raise TrainingError(
                f"cannot start run {str(folder)!r} - the folder holds something that is no run - choose another --name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        run.clear()
        files.write_text(run.config_path, write_config(recipe))
        return run

    @property
    def has_begun(self) -> bool:
        """Tell whether there is anything to go on from, or to keep."""
        kept = ("bad_samples.jsonl", *CHECKPOINTS)
        return self.model_path.exists() or any((self.folder / name).exists() for name in kept)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while the block lasts, so that no other process of this machine trains it, too.

        The system lets go of it when this process ends, however it ends. Windows has no such lock.

        Raises:
            TrainingError: another process holds it.
        """
        if sys.platform == "win32":
            yield
            return
        import fcntl

        path = self.folder / LOCK
        with path.open("a+") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    holder = path.read_text().strip() or "of another machine"
                    raise TrainingError(
                        f"cannot train {str(self.folder)!r} - process {holder} trains it at this moment - wait for its "
                        "end, or stop it."
                    ) from None  # other errors: a disk that knows no locks
            lock.truncate(0)
            lock.write(f"{os.getpid()}")
            lock.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the run, and its folder where nothing else lies in it."""
        self.clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def clear(self) -> None:
        """Remove what an earlier run of that name wrote, and nothing else."""
        for name in OWN_FILES:
            (self.folder / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        files.remove_leftovers(self.folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open the folder of a run that there is, and leave it as it is.

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
        return run

    def recover(self) -> None:
        """Finish or clear what a killed run left half done; call it only where nobody else writes."""
        files.remove_leftovers(self.folder)
        _finish_save(self.checkpoint_path)

    @property
    def config_path(self) -> Path:
        """The resolved recipe."""
        return self.folder / "config.yaml"

    @property
    def model_path(self) -> Path:
        """The folder of the weights that are kept."""
        return self.folder / "model"

    @property
    def splits_path(self) -> Path:
        """Which clip was in which split."""
        return self.folder / "splits.csv"

    @property
    def shards_path(self) -> Path:
        """The folder of what checkpoints of several processes hold."""
        return self.folder / SHARDS

    @property
    def checkpoint_path(self) -> Path:
        """Where to go on from."""
        return self.folder / "last.ckpt"

    def read_recipe(self, kind: type[R]) -> R:
        """Read the recipe the run was started with.

        Raises:
            ConfigError: the file was changed into something that is no recipe.
            TrainingError: it is a run of the other command.
        """
        try:
            return read_config(self.config_path, kind)
        except ConfigError:
            for other, command in COMMANDS.items():
                if other is not kind and self._holds(other):
                    raise TrainingError(
                        f"cannot resume {str(self.folder)!r} with this command - 'tubelet {command}' started it - "
                        f"resume it with: tubelet {command} --resume --name {self.folder.name}"
                    ) from None
            raise

    def _holds(self, kind: type[AnyRecipe]) -> bool:
        with suppress(ConfigError):
            read_config(self.config_path, kind)
            return True
        return False

    def read_checkpoint(self) -> tuple[dict[str, Any] | None, str]:
        """Read the last intact checkpoint.

        Returns:
            The checkpoint, or None where the run died before its first one; and a remark where an older one had to do.
        """
        remark = ""
        for path in (self.folder / name for name in CHECKPOINTS):
            if not path.exists():
                continue
            try:
                return load_checkpoint(path), remark and f"{remark} Going on from {path.name} instead."
            except CheckpointError as error:
                remark = str(error)
        if remark:
            raise CheckpointError(f"cannot resume {str(self.folder)!r} - no intact checkpoint is left - start it anew.")
        return None, remark

    def remove_unused_shards(self) -> None:
        """Remove shards that no checkpoint names: of older ones, and of some that were never finished."""
        kept: set[str] = set()
        for path in (self.folder / name for name in CHECKPOINTS):
            with suppress(CheckpointError):
                kept.add(_load(path)["shards"]["folder"])
        remove_shards(self.shards_path, kept)

    def write_metrics(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv, one row an epoch."""
        with files.write_whole(self.folder / "metrics.csv", "w") as table:
            if history:
                columns = dict.fromkeys(name for row in history for name in row)  # an older version wrote fewer
                writer = csv.DictWriter(table, list(columns), lineterminator="\n")
                writer.writeheader()
                writer.writerows(history)

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the rows of metrics.csv; what an epoch did not measure is NaN."""
        with (self.folder / "metrics.csv").open(encoding="utf-8", newline="") as table:
            return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(table)]

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl, on a line of its own even where the line before was cut off by a crash."""
        plain = {key: None if value != value else value for key, value in values.items()}  # noqa: PLR0124 - not a number
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **plain}, allow_nan=False)
        with (self.folder / "log.jsonl").open("ab+") as log:
            if log.tell() > 0:
                log.seek(-1, 2)
                line = line if log.read(1) == b"\n" else f"\n{line}"
            log.write(line.encode() + b"\n")

    def write_bad_samples(self, bad: Sequence[BadSample]) -> None:
        """Add the clips that could not be read to the list, once each."""
        path = self.folder / "bad_samples.jsonl"
        known = [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []
        distinct = {row["name"]: row for row in (*known, *map(asdict, bad))}
        if distinct:
            files.write_text(path, "".join(f"{json.dumps(distinct[name])}\n" for name in sorted(distinct)))
