"""Train a classifier from labelled clips: the whole road, step by step.

recipe -> manifest -> model -> [ train_epoch -> validate -> save ] x epochs -> evaluate on the held-out clips
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.config import override
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import Batch, ClipDataset, EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.errors import TrainingError
from tubelet.evaluation.evaluate import Report, evaluate, prepare_evaluation
from tubelet.models import create_model
from tubelet.prediction.devices import choose_device, choose_precision
from tubelet.recipes.recipe import Recipe
from tubelet.report.figures import draw_class_distribution, draw_curves
from tubelet.training.loop import Totals, train_epoch, validate
from tubelet.training.optimizer import Schedule, make_optimizer, make_schedule
from tubelet.training.progress import SILENT, Listener
from tubelet.training.run import Progress, Run, save_checkpoint
from tubelet.transforms.geometry import augment
from tubelet.video.clip import Pixels

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """State where a run lies and what it reached."""

    folder: Path
    """The run folder; `tubelet.load` takes it."""
    best_epoch: int
    """The epoch whose weights were kept, from 1."""
    val_top1: float
    """Validation accuracy of that epoch; NaN where nothing was held out."""
    report: Report | None
    """The figures on the test clips, or on the validation clips where there are no test clips; None without either."""


def train(
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | None = None,
    name: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener = SILENT,
    **changes: object,
) -> TrainResult:
    """Train a classifier into the folder `runs/name`.

    Args:
        data: a folder of class folders, a table (CSV, TSV, JSONL), an .npz file, a catalogue name, or a `Manifest`,
            whose splits are taken as they are; instead of `recipe.data.source`.
        recipe: everything the run depends on; `Recipe()` suits small sets of short clips on any machine.
        name: name of the run; made of data and model where none is given.
        runs: folder of all runs.
        resume: go on with the interrupted run of that name, bit by bit; `recipe` is then the one stored with it.
        overwrite: replace a run of that name.
        listener: told of every step; the command line shows progress with one.
        **changes: leaves of the recipe with `__` for the dot, such as `training__epochs=5`.

    Raises:
        DataError: clips or labels that do not fit together, before the first epoch.
        TrainingError: a run that cannot start or go on.

    Example:
        >>> result = tubelet.train("clips/", name="mine", training__epochs=5)  # doctest: +SKIP
    """
    recipe = override(recipe or Recipe(), {key.replace("__", "."): value for key, value in changes.items()})
    if data is not None:
        source = data.origin if isinstance(data, Manifest) else os.fspath(data)
        if Path(source).exists():
            source = str(Path(source).absolute())
        recipe = replace(recipe, data=replace(recipe.data, source=source))
    if resume:
        run = Run.open(Path(runs) / _require_name(name))
        recipe = run.read_recipe()
    manifest = data if isinstance(data, Manifest) else _open(recipe, listener)
    if not resume:
        run = Run.create(_choose_folder(Path(runs), name, recipe), recipe, overwrite=overwrite)
    training = Training(run, recipe, manifest, listener)
    training.execute(is_resumed=resume)
    report = training.judge()
    progress = training.progress
    best = progress.best if progress.best >= 0 else float("nan")
    return TrainResult(run.folder, progress.best_epoch + 1, best, report)


def _open(recipe: Recipe, listener: Listener) -> Manifest:
    return open_data(
        recipe.data.source,
        group_by=recipe.data.group_by,
        val=recipe.data.val_fraction,
        test=recipe.data.test_fraction,
        seed=recipe.data.split_seed,
        on_progress=listener.on_data,
    )


def _require_name(name: str | None) -> str:
    if name is None:
        raise TrainingError("cannot resume - no run was named - say which one with --name.")
    return name


def _choose_folder(runs: Path, name: str | None, recipe: Recipe) -> Path:
    if name is not None:
        return runs / name
    source = Path(recipe.data.source)
    stem = source.parent.name if source.stem in ("split", "manifest", "train", "data") else source.stem
    base = f"{stem or 'run'}-{recipe.model.name}"
    number = 1
    while (runs / base if number == 1 else runs / f"{base}-{number}").exists():
        number += 1
    return runs / (base if number == 1 else f"{base}-{number}")


class Training:
    """Hold the parts of one run while it goes."""

    def __init__(self, run: Run, recipe: Recipe, manifest: Manifest, listener: Listener) -> None:
        self.run = run
        self.recipe = recipe
        self.manifest = manifest
        self.listener = listener
        self.progress = Progress()
        if not manifest.select("train"):
            raise TrainingError(
                f"cannot train on {manifest.origin} - it has no training clips - give some a split 'train'."
            )
        recipe.augmentation.check_classes(manifest.classes)
        if recipe.training.deterministic:
            torch.use_deterministic_algorithms(True)
        device = choose_device(recipe.training.device)
        torch.manual_seed(recipe.training.seed)
        model = create_model(
            recipe.model.name,
            num_classes=len(manifest.classes),
            **{
                "frames": recipe.input.frames,
                "height": recipe.input.height,
                "width": recipe.input.width,
                "channels": recipe.input.input_channels,
                **recipe.model.changes,
            },
        )
        self.classifier = Classifier(model.to(device), recipe.input, manifest.classes)
        self.optimizer = make_optimizer(model, recipe.optimizer)
        self.precision = choose_precision(recipe.training.precision, device)

    def execute(self, *, is_resumed: bool) -> None:
        """Train to the last epoch, or until patience ends."""
        training = self.recipe.training
        self.order = EpochOrder(len(self.manifest.select("train")), training.batch, training.seed)
        self.num_batches = len(self.order)
        schedule = make_schedule(self.recipe.optimizer, -(-self.num_batches // training.accumulate), training.epochs)
        self.run.log("start", resumed=is_resumed, clips=self.order.count, classes=len(self.manifest.classes))
        if is_resumed:
            self._restore()
        else:
            draw_class_distribution(self.manifest.counts(), self.run.folder / "class_distribution.png")
        self.listener.on_start(self.run.folder, self.recipe, self.manifest, self.classifier.model)
        train_loader, val_loader = self._make_loaders()
        while not self.progress.is_done and self.progress.epoch < training.epochs:
            self._train_one_epoch(train_loader, schedule)
            self._finish_epoch(val_loader, schedule)
        self.listener.on_end(self.progress.history)

    def judge(self) -> Report | None:
        """Evaluate the kept weights on the clips that were held out."""
        held_out = [split for split in ("test", "val") if self.manifest.select(split)]
        if not held_out:
            return None
        report = evaluate(
            self.run.folder,
            self.manifest,
            split=held_out[0],
            output=self.run.folder,
            decoder=self.recipe.data.decoder,
            workers=self.recipe.data.workers,
            device=self.recipe.training.device,
        )
        self.run.log("evaluate", split=held_out[0], top1=report.metrics.top1, n=report.n, n_failed=report.n_failed)
        return report

    def _make_loaders(self) -> tuple["torch.utils.data.DataLoader[Batch]", "torch.utils.data.DataLoader[Batch] | None"]:
        recipe = self.recipe
        options = LoaderOptions(
            recipe.training.batch, recipe.data.workers, recipe.data.decoder, recipe.data.cache_mb // 2
        )
        train_set = ClipDataset(
            self.manifest.select("train"),
            self.manifest,
            recipe.input,
            partial(prepare_training, recipe=recipe, classes=self.manifest.classes),
            is_training=True,
            seed=recipe.training.seed,
            decoder=recipe.data.decoder,
        )
        val_samples = self.manifest.select("val")
        val_loader = None
        if val_samples:
            val_set = ClipDataset(
                val_samples,
                self.manifest,
                recipe.input,
                partial(prepare_evaluation, spec=recipe.input),
                decoder=recipe.data.decoder,
            )
            val_loader = make_loader(val_set, EpochOrder(len(val_set), recipe.training.batch, None), options)
        return make_loader(train_set, self.order, options), val_loader

    def _train_one_epoch(self, loader: "torch.utils.data.DataLoader[Batch]", schedule: Schedule) -> None:
        progress, training = self.progress, self.recipe.training
        self.order.start(progress.epoch, progress.batch)
        save_every = training.save_every_steps * training.accumulate

        def note(done: int, totals: Totals) -> None:
            progress.batch = done
            self.listener.on_step(progress.epoch, done, self.num_batches, totals)
            if done % save_every == 0 and done < self.num_batches:
                self._save()

        if progress.batch < self.num_batches:
            train_epoch(
                self.classifier,
                loader,
                self.optimizer,
                schedule,
                self.recipe,
                num_batches=self.num_batches,
                totals=progress.totals,
                epoch=progress.epoch,
                on_step=note,
            )

    def _finish_epoch(self, val_loader: "torch.utils.data.DataLoader[Batch] | None", schedule: Schedule) -> None:
        progress, totals = self.progress, self.progress.totals
        self._check_bad(totals)
        held_out = validate(self.classifier, val_loader, self.precision) if val_loader is not None else None
        row = {
            "epoch": float(progress.epoch + 1),
            "lr": schedule.lr_at((progress.epoch + 1) * (schedule.total_steps // self.recipe.training.epochs) - 1),
            "train_loss": totals.loss,
            "train_top1": totals.top1,
            "val_loss": held_out.loss if held_out else float("nan"),
            "val_top1": held_out.top1 if held_out else float("nan"),
            "wait_s": totals.wait_s,
            "compute_s": totals.compute_s,
        }
        progress.history.append(row)
        if self._is_best(held_out):
            self.classifier.save(self.run.model_path, {"training": {"epoch": progress.epoch + 1, **_describe(row)}})
        progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, Totals()
        patience = self.recipe.training.patience
        progress.is_done = 0 < patience <= progress.epoch - 1 - progress.best_epoch
        self.run.write_metrics(progress.history)
        self._save()
        self.run.log("epoch", **row)
        self.listener.on_epoch(row)
        draw_curves(progress.history, self.run.folder / "curves.png")

    def _is_best(self, held_out: Totals | None) -> bool:
        """Compare accuracy, then loss; without held-out clips the last epoch is the best there is."""
        progress = self.progress
        if held_out is not None:
            better = (held_out.top1, -held_out.loss) > (progress.best, -progress.best_loss)
            if not better:
                return False
            progress.best, progress.best_loss = held_out.top1, held_out.loss
        progress.best_epoch = progress.epoch
        return True

    def _check_bad(self, totals: Totals) -> None:
        """List unreadable clips; stop where they are more than one in a hundred."""
        if not totals.bad:
            return
        self.run.write_bad_samples(totals.bad)
        distinct = {bad.name: bad for bad in totals.bad}
        self.listener.on_bad(list(distinct.values()))
        if len(distinct) > max(0.01 * self.order.count, 1):
            names = "\n  ".join(f"{bad.name}: {bad.code}" for bad in list(distinct.values())[:10])
            raise TrainingError(
                f"cannot go on - {len(distinct)} of {self.order.count} training clips cannot be read - repair or "
                f"remove them ('tubelet data check' finds all), the first are:\n  {names}"
            )

    def _save(self) -> None:
        contract = {"classes": list(self.manifest.classes), "digest": self.manifest.digest}
        save_checkpoint(self.run.checkpoint_path, self.classifier.model, self.optimizer, self.progress, contract)

    def _restore(self) -> None:
        checkpoint, remark = self.run.read_checkpoint()
        if remark:
            self.listener.on_remark(remark)
        if checkpoint is None:
            return
        if checkpoint["contract"]["digest"] != self.manifest.digest:
            raise TrainingError(
                f"cannot resume {str(self.run.folder)!r} - its clips, labels or splits have changed since - "
                "restore them, or start a new run."
            )
        self.classifier.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.progress = Progress.from_plain(checkpoint["progress"])


def _describe(row: dict[str, float]) -> dict[str, float | None]:
    return {key: None if value != value else value for key, value in row.items() if key.startswith("val_")}  # noqa: PLR0124


def prepare_training(
    pixels: Pixels, label: int, generator: np.random.Generator, *, recipe: Recipe, classes: tuple[str, ...]
) -> tuple[UInt8[Tensor, "time height width channel"], int]:
    """Augment a clip and fit it to the contract; picklable, for loader workers."""
    return augment(pixels, label, recipe.augmentation, recipe.input, classes, generator)
