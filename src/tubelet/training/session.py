"""Go through the epochs of a run, save, stop, go on where it was interrupted: what every kind of training shares."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from tubelet.config import flatten
from tubelet.data.dataset import BadSample, Batch, ClipDataset
from tubelet.data.features import Features
from tubelet.data.loader import ClipLoader, EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.errors import Interrupted, TrainingError
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.models import load_weights
from tubelet.prediction.devices import choose_device
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.report.figures import draw_curves
from tubelet.shapes import Label
from tubelet.training.averaging import WeightAverage
from tubelet.training.failures import FailurePolicy
from tubelet.training.interruption import Interruption
from tubelet.training.loop import Totals, train_epoch
from tubelet.training.optimizer import Schedule, make_optimizer, make_schedule
from tubelet.training.pace import measure_pace
from tubelet.training.preview import draw_augmentations
from tubelet.training.progress import Listener, Silent
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Progress, Run, save_checkpoint
from tubelet.training.step import Stepper, Task
from tubelet.transforms.geometry import augment
from tubelet.transforms.preparation import fit_features
from tubelet.video.clip import Pixels
from tubelet.video.decoders import DECODERS
from tubelet.video.spec import InputSpec

__all__ = ["FREE_FIELDS", "Session", "describe_epoch", "list_sizes", "prepare_training"]

FREE_FIELDS = frozenset(
    [f"data.{name}" for name in ("workers", "cache_mb", "cache_folder", "timeout_s", "source", "download")]
    + [f"training.{name}" for name in ("device", "checkpointing", "auto_microbatch", "on_failure")]
)
"""Fields of the recipe that may change on resume: they decide where and how fast, not what."""

R = TypeVar("R", bound=AnyRecipe)


class Session(ABC, Generic[R]):
    """Hold the parts of one run while it goes."""

    task: Task
    """What is learned; `_make_task` gives it."""
    figures: Mapping[str, tuple[str, ...]] = MappingProxyType({"train": ("loss",), "val": ("loss",)})
    """What each row of metrics.csv says of the training clips, and of the held-out ones."""

    def __init__(self, run: Run, recipe: R, manifest: Manifest, listener: Listener, ranks: Ranks = ALONE) -> None:
        self.run = run
        self.recipe: R = recipe
        self.manifest = manifest
        self.ranks = ranks
        self.listener = listener if ranks.is_main else Silent()
        self.progress = Progress()
        self.interruption = Interruption()
        if not manifest.select("train"):
            raise TrainingError(
                f"cannot train on {manifest.origin} - it has no training clips - give some a split 'train'."
            )
        DECODERS[recipe.data.decoder]()
        self.device = choose_device(recipe.training.device, ranks.local_rank)
        torch.manual_seed(recipe.training.seed)
        self.task = self._make_task()
        self.optimizer = make_optimizer(self.model, recipe.optimizer)
        self.average = WeightAverage(self.model, recipe.optimizer.ema) if recipe.optimizer.ema else None
        remark = self.listener.on_remark
        policy = FailurePolicy(run, recipe, manifest, self.model, ranks=ranks, roll_back=self._roll_back, remark=remark)
        self.stepper = Stepper(
            self.task,
            self.optimizer,
            recipe,
            average=self.average,
            ranks=ranks,
            on_failure=policy.meet,
            on_remark=remark,
        )

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.task.model

    def execute(self, *, is_resumed: bool) -> None:
        """Train to the last epoch, or until patience ends."""
        training = self.recipe.training
        count, repeats = len(self.manifest.select("train")), self.recipe.augmentation.repeats
        self.order = EpochOrder(count, training.batch, training.seed, self.ranks.take_share, repeats)
        self.num_batches = len(self.order)
        schedule = make_schedule(self.recipe.optimizer, -(-self.num_batches // training.accumulate), training.epochs)
        self._log("start", resumed=is_resumed, clips=self.order.count, classes=len(self.manifest.classes))
        is_underway = is_resumed and self._restore()
        for remark in self._list_remarks():
            self.listener.on_remark(remark)
        self.listener.on_start(self.run.folder, self.recipe, self.manifest, self.model)
        if self.recipe.model.source and not is_underway:
            self._start_from(self.recipe.model.source)
        train_loader, val_loader = self._make_loaders()
        if self.ranks.is_main:
            self.run.write_metrics(self.progress.history)
        with self.interruption:
            try:
                while not self.progress.is_done and self.progress.epoch < training.epochs:
                    self._train_one_epoch(train_loader, schedule)
                    self._finish_epoch(val_loader, schedule)
            except Interrupted:
                self._save()
                self._log("interrupted", epoch=self.progress.epoch + 1, batch=self.progress.batch)
                raise
        if self.progress.history and self.ranks.is_main:
            draw_curves(self.progress.history, self.run.folder / "curves.png")
        self.listener.on_end(self.progress.history)

    @abstractmethod
    def _make_task(self) -> Task:
        """Make the model, with fresh weights, and say what it learns."""

    @abstractmethod
    def _list_remarks(self) -> Sequence[str]:
        """List what should be known before the first epoch."""

    @abstractmethod
    def _validate(self, batches: Iterable[Batch]) -> Totals:
        """Measure the held-out clips."""

    @abstractmethod
    def _keep(self, row: dict[str, float]) -> None:
        """Write the weights, if they are worth it, at the end of an epoch."""

    def _start_from(self, source: str) -> None:
        """Load the weights that the recipe names, and say what became of them."""
        report = load_weights(self.model, source, classes=self.manifest.classes)
        if self.average is not None:
            self.average.load_state_dict({"steps": 0, "values": self.model.state_dict()})
        self._log("weights", **asdict(report))
        self.listener.on_weights(report)

    def _make_loaders(self) -> tuple[ClipLoader, ClipLoader | None]:
        recipe = self.recipe
        train_set = ClipDataset(
            self.manifest.select("train"),
            self.manifest,
            recipe.input,
            partial(prepare_training, recipe=recipe, classes=self.manifest.classes),
            is_training=True,
            seed=recipe.training.seed,
            decoder=recipe.data.decoder,
            speed=recipe.augmentation.speed,
        )
        is_new = not (self.progress.epoch or self.progress.batch)
        if recipe.augmentation.list_active() and is_new and self.ranks.is_main:
            path = self.run.folder / "augmentations.png"
            draw_augmentations(train_set, next(iter(self.order)), recipe.augmentation, path)
        val_set = self._make_held_out("val")
        val_loader = None
        if len(val_set):
            # The order of scores over all clips is one figure: each process measures it whole.
            ranks = self.ranks if self.manifest.task == "classification" else ALONE
            order = EpochOrder(len(val_set), recipe.training.batch, None, ranks.take_share)
            val_loader = make_loader(val_set, order, self._plan_loading(val_set))
        return make_loader(train_set, self.order, self._plan_loading(train_set)), val_loader

    def _plan_loading(self, dataset: ClipDataset) -> LoaderOptions:
        """Say how clips are read; the cache is dealt out by numbers of clips."""
        data = self.recipe.data
        total = len(self.manifest.select("train")) + len(self.manifest.select("val"))
        return LoaderOptions(
            batch=self.recipe.training.batch,
            workers=data.workers,
            decoder=data.decoder,
            cache_mb=-(-data.cache_mb * len(dataset) // total),
            cache_folder=data.cache_folder,
            timeout_s=data.timeout_s,
        )

    def _make_held_out(self, split: str) -> ClipDataset:
        """Read clips as an evaluation does: nothing is varied."""
        return ClipDataset(
            self.manifest.select(split),
            self.manifest,
            self.recipe.input,
            partial(prepare_evaluation, spec=self.recipe.input),
            decoder=self.recipe.data.decoder,
        )

    def _train_one_epoch(self, loader: ClipLoader, schedule: Schedule) -> None:
        progress, training = self.progress, self.recipe.training
        self.order.start(progress.epoch, progress.batch)
        save_every = training.save_every_steps * training.accumulate

        def note(done: int, totals: Totals) -> None:
            progress.batch = done
            self.listener.on_step(progress.epoch, done, self.num_batches, totals)
            self._check_bad(totals.bad)
            if done % save_every == 0 and done < self.num_batches:
                self._save()
            self._stop_if_asked()

        if progress.batch < self.num_batches:
            train_epoch(
                self.stepper,
                loader,
                schedule,
                num_batches=self.num_batches,
                totals=progress.totals,
                epoch=progress.epoch,
                on_step=note,
            )

    def _finish_epoch(self, val_loader: ClipLoader | None, schedule: Schedule) -> None:
        progress, totals = self.progress, self.progress.totals
        totals.bad = [sample for bad in self.ranks.gather(totals.bad) for sample in bad]
        self._report_bad(totals.bad)
        with self._averaged():
            held_out = self._validate(self._watch(val_loader)) if val_loader is not None else None
        if held_out is not None:
            held_out = self._join(held_out)
            self._report_bad(held_out.bad)
            if not held_out.seen:
                raise TrainingError(
                    f"cannot choose the best epoch - none of the {len(held_out.bad)} validation clips can be read - "
                    f"the first says: {held_out.bad[0].message}"
                )
        row = {
            "epoch": float(progress.epoch + 1),
            "lr": schedule.lr_at((progress.epoch + 1) * (schedule.total_steps // self.recipe.training.epochs) - 1),
            **{f"train_{name}": getattr(totals, name) for name in self.figures["train"]},
            **{f"val_{name}": getattr(held_out, name) if held_out else float("nan") for name in self.figures["val"]},
            **measure_pace(totals, self.device),
        }
        progress.history.append(row)
        if self._is_best(held_out):
            progress.best_epoch = progress.epoch
        if self.ranks.is_main:
            with self._averaged():
                self._keep(row)
        progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, Totals()
        patience = self.recipe.training.patience
        progress.is_done = 0 < patience <= progress.epoch - 1 - progress.best_epoch
        self._save()
        if self.ranks.is_main:
            self.run.write_metrics(progress.history)
            draw_curves(progress.history, self.run.folder / "curves.png")
        self._log("epoch", **row)
        self.listener.on_epoch(row)

    def _watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass on batches until somebody asks the run to stop."""
        for batch in batches:
            if self.ranks.size == 1:
                self._stop_if_asked()
            yield batch

    def _stop_if_asked(self) -> None:
        """End the run, in all its processes, where a signal asked one of them for it."""
        if self.ranks.size > 1 and any(self.ranks.sum_values([float(self.interruption.is_asked)])):
            self.interruption.ask("SIGTERM")
        self.interruption.raise_if_asked(str(self.run.folder))

    def _averaged(self) -> AbstractContextManager[None]:
        """Put the average of the weights in their place while a block lasts, where there is one."""
        return nullcontext() if self.average is None else self.average.lent(self.model)

    def _join(self, held_out: Totals) -> Totals:
        """Add up what the processes measured on their parts of the held-out clips."""
        if self.ranks.size == 1 or self.manifest.task == "multilabel":
            return held_out
        loss_sum, correct, seen = self.ranks.sum_values([held_out.loss_sum, held_out.correct, held_out.seen])
        bad = [sample for part in self.ranks.gather(held_out.bad) for sample in part]
        return Totals(loss_sum, int(correct), int(seen), bad=bad)

    def _log(self, event: str, **values: Any) -> None:
        if self.ranks.is_main:
            self.run.log(event, **values)

    def _is_best(self, held_out: Totals | None) -> bool:
        """Compare accuracy (mAP), then loss; without held-out clips the last epoch is the best there is."""
        progress = self.progress
        if held_out is not None:
            better = (held_out.quality, -held_out.loss) > (progress.best, -progress.best_loss)
            if not better:
                return False
            progress.best, progress.best_loss = held_out.quality, held_out.loss
        return True

    def _report_bad(self, bad: Sequence[BadSample]) -> None:
        """List and name clips that could not be read."""
        if bad and self.ranks.is_main:
            self.run.write_bad_samples(bad)
            self.listener.on_bad(list({sample.name: sample for sample in bad}.values()))

    def _check_bad(self, bad: Sequence[BadSample]) -> None:
        """Stop where more than one training clip in a hundred cannot be read."""
        distinct = {sample.name: sample for sample in bad}
        if len(distinct) <= max(0.01 * self.order.count, 1):
            return
        self.run.write_bad_samples(bad)
        names = "\n  ".join(f"{sample.name}: {sample.code}" for sample in list(distinct.values())[:10])
        raise TrainingError(
            f"cannot go on - {len(distinct)} training clips (of {self.order.count}) cannot be read so far - repair or "
            f"remove them ('tubelet data check --full' decodes every frame), the first are:\n  {names}"
        )

    def _save(self) -> None:
        if not self.ranks.is_main:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": self.progress.to_plain(),
            "contract": self._make_contract(),
        }
        save_checkpoint(self.run.checkpoint_path, state)

    def _make_contract(self) -> dict[str, Any]:
        """State what must be the same when the run goes on."""
        fixed = {key: repr(value) for key, value in flatten(self.recipe).items() if key not in FREE_FIELDS}
        return {"classes": list(self.manifest.classes), "digest": self.manifest.digest, "recipe": fixed}

    def _restore(self) -> bool:
        """Go back to the last checkpoint; tell whether there was one."""
        checkpoint, remark = self.run.read_checkpoint()
        if remark:
            self.listener.on_remark(remark)
        if checkpoint is None:
            return False
        stored, present = checkpoint["contract"], self._make_contract()
        if stored["digest"] != present["digest"]:
            raise TrainingError(
                f"cannot resume {str(self.run.folder)!r} - its clips, labels or splits have changed since - "
                "restore them, or start a new run."
            )
        changed = [key for key, value in stored["recipe"].items() if present["recipe"].get(key) != value]
        if changed:
            raise TrainingError(
                f"cannot resume {str(self.run.folder)!r} - {', '.join(changed)} in its config.yaml changed since - "
                "restore the file, or start a new run."
            )
        self._put_back(checkpoint)
        self.progress = Progress.from_plain(checkpoint["progress"])
        return True

    def _put_back(self, checkpoint: Mapping[str, Any]) -> None:
        """Take weights, and all that moves them, from a checkpoint."""
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.stepper.scaler.load_state_dict(checkpoint.get("scaler", {}))
        if self.average is not None:
            self.average.load_state_dict(checkpoint["average"])

    def _roll_back(self) -> bool:
        """Put the weights of the last checkpoint back, and go on from here; tell whether there was one."""
        checkpoint, _ = self.run.read_checkpoint()
        if checkpoint is None:
            return False
        self._put_back(checkpoint)
        return True


def describe_epoch(row: dict[str, float]) -> dict[str, Any]:
    """Say, for a model's folder, after which epoch its weights were kept and what they reached."""
    figures = {key: None if value != value else value for key, value in row.items() if key.startswith("val_")}  # noqa: PLR0124
    return {"training": {"epoch": int(row["epoch"]), **figures}}


def list_sizes(spec: InputSpec) -> dict[str, int]:
    """List the hyper-parameters of a model that the contract of its input decides."""
    return {"frames": spec.frames, "height": spec.height, "width": spec.width, "channels": spec.input_channels}


def prepare_training(
    pixels: Pixels | Features,
    label: Label,
    generator: np.random.Generator,
    *,
    recipe: AnyRecipe,
    classes: tuple[str, ...],
) -> tuple[UInt8[Tensor, "time height2 width2 channel2"] | Float32[Tensor, "time 1 1 feature"], Label]:
    """Augment a clip and fit it to the contract; picklable, for loader workers. Features are only fitted."""
    if recipe.input.kind == "features":
        return fit_features(pixels, recipe.input), label
    return augment(pixels, label, recipe.augmentation, recipe.input, classes, generator)
