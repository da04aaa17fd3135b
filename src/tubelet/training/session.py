"""Go through the epochs of a run, save, stop, go on where it was interrupted: what every kind of training shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from tubelet.data.dataset import BadSample, Batch
from tubelet.data.loader import ClipLoader
from tubelet.data.manifest import Manifest
from tubelet.errors import Interrupted, TrainingError
from tubelet.models import load_weights
from tubelet.prediction.devices import choose_device
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.report.figures import draw_curves
from tubelet.training.averaging import WeightAverage
from tubelet.training.checkpoints import Checkpoints, Moving
from tubelet.training.failures import FailurePolicy
from tubelet.training.feeding import Feeding
from tubelet.training.interruption import Interruption
from tubelet.training.loop import Totals, train_epoch
from tubelet.training.optimizer import Schedule, make_optimizer, make_schedule
from tubelet.training.pace import measure_pace
from tubelet.training.preview import draw_augmentations
from tubelet.training.progress import Listener, Silent
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Progress, Run
from tubelet.training.sharding import Sharding, make_filler
from tubelet.training.step import Stepper, Task
from tubelet.training.symptoms import Stillness, find_guessing
from tubelet.video.decoders import DECODERS
from tubelet.video.spec import InputSpec

__all__ = ["Session", "describe_epoch", "list_sizes"]

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
        if recipe.optimizer.schedule == "plateau" and not manifest.select("val"):
            raise TrainingError(
                f"cannot lower the rate by validation clips - {manifest.origin} has none - choose another "
                "optimizer.schedule, or raise data.val_fraction."
            )
        DECODERS[recipe.data.decoder]()
        self.device = choose_device(recipe.training.device, ranks.local_rank)
        torch.manual_seed(recipe.training.seed)
        self.task = self._make_task()
        self.feeding = self._make_feeding()
        self.checkpoints = Checkpoints(run, recipe, manifest, ranks)
        self.sharding: Sharding | None = None

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.task.model

    def execute(self, *, is_resumed: bool) -> None:
        """Train to the last epoch, or until patience ends."""
        training, feeding = self.recipe.training, self.feeding
        self._log("start", resumed=is_resumed, clips=feeding.order.count, classes=len(self.manifest.classes))
        steps = -(-feeding.num_batches // training.accumulate)
        schedule = make_schedule(self.recipe.optimizer, steps, training.epochs, training.batch * training.accumulate)
        for remark in self._list_remarks():
            self.listener.on_remark(remark)
        self.listener.on_start(self.run.folder, self.recipe, self.manifest, self.model)
        self._assemble(is_resumed=is_resumed)
        train_loader, val_loader = self._make_loaders()
        stillness = Stillness(self.model, self.stepper.optimizer, self.recipe, steps, self.ranks)
        if self.ranks.is_main:
            self.run.write_metrics(self.progress.history)
        with self.interruption:
            try:
                while not self.progress.is_done and self.progress.epoch < training.epochs:
                    if self.progress.batch < feeding.num_batches:
                        stillness.start_epoch(self.progress.epoch)
                    self._train_one_epoch(train_loader, schedule)
                    self._finish_epoch(val_loader, schedule)
                    self._remark(stillness.describe())
                    self._remark(find_guessing(self.recipe, self.manifest, self.progress.history))
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
    def _keep(self, row: dict[str, float], model: nn.Module) -> None:
        """Write the weights, if they are worth it, at the end of an epoch; `model` has them whole."""

    def _assemble(self, *, is_resumed: bool) -> None:
        """Put together all that moves: as fresh or given weights begin, or as the last checkpoint left it."""
        checkpoint, remark = self.checkpoints.read() if is_resumed else (None, "")
        if remark:
            self.listener.on_remark(remark)
        if self.recipe.model.source and checkpoint is None:
            report = load_weights(self.model, self.recipe.model.source, classes=self.manifest.classes)
            self._log("weights", **asdict(report))
            self.listener.on_weights(report)
        make_ready = self._choose_moving()
        self._shard()
        recipe, remark_on = self.recipe, self.listener.on_remark
        optimizer = make_optimizer(self.model, recipe.optimizer)
        average = WeightAverage(self.model, recipe.optimizer.ema) if recipe.optimizer.ema else None
        policy = FailurePolicy(
            self.run,
            recipe,
            self.manifest,
            self.model,
            ranks=self.ranks,
            roll_back=self._roll_back,
            remark=remark_on,
        )
        self.stepper = Stepper(
            self.task,
            optimizer,
            recipe,
            average=average,
            ranks=self.ranks,
            on_failure=policy.meet,
            on_remark=remark_on,
            make_ready=make_ready,
            sharding=self.sharding,
        )
        shards = self.run.shards_path if recipe.training.sharded else None
        self.moving = Moving(self.model, optimizer, self.stepper.scaler, average, shards)
        if checkpoint is not None:
            self.moving.load_state_dict(checkpoint)
            self.progress = Progress.from_plain(checkpoint["progress"])

    def _shard(self) -> None:
        """Share the model out over the processes, where the recipe wants it and there are some."""
        if self.recipe.training.sharded and self.ranks.size > 1:
            labels = len(self.manifest.classes) if self.manifest.task == "multilabel" else 0
            self.sharding = Sharding(self.model, make_filler(self.recipe.input, labels), self.device, self.ranks)

    def _choose_moving(self) -> Callable[[int], None] | None:
        """Say which weights move in an epoch; None for all of them, always."""
        return None

    def _make_feeding(self) -> Feeding:
        """Say in what order clips come."""
        return Feeding(self.recipe, self.manifest, self.ranks)

    def _make_loaders(self) -> tuple[ClipLoader, ClipLoader | None]:
        clips = self.feeding.make_training_set()
        augmentation, is_new = self.recipe.augmentation, not (self.progress.epoch or self.progress.batch)
        if augmentation.list_active() and is_new and self.ranks.is_main:
            path = self.run.folder / "augmentations.png"
            draw_augmentations(clips, next(iter(self.feeding.order)), augmentation, path)
        return self.feeding.make_loaders(clips)

    def _train_one_epoch(self, loader: ClipLoader, schedule: Schedule) -> None:
        progress, training = self.progress, self.recipe.training
        schedule.follow([row["val_loss"] for row in progress.history])
        self.feeding.order.start(progress.epoch, progress.batch)
        save_every = training.save_every_steps * training.accumulate

        def note(done: int, totals: Totals) -> None:
            progress.batch = done
            self.listener.on_step(progress.epoch, done, self.feeding.num_batches, totals)
            self._check_bad(totals.bad)
            if done % save_every == 0 and done < self.feeding.num_batches:
                self._save()
            self._stop_if_asked()

        if progress.batch < self.feeding.num_batches:
            train_epoch(
                self.stepper,
                loader,
                schedule,
                num_batches=self.feeding.num_batches,
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
        if self.sharding is not None:
            self.sharding.release()
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
            "lr": schedule.lr_at((progress.epoch + 1) * schedule.steps_per_epoch - 1),
            **{f"train_{name}": getattr(totals, name) for name in self.figures["train"]},
            **{f"val_{name}": getattr(held_out, name) if held_out else float("nan") for name in self.figures["val"]},
            **measure_pace(totals, self.device),
        }
        progress.history.append(row)
        if self._is_best(held_out):
            progress.best_epoch = progress.epoch
        with self._averaged():
            model = self.model if self.sharding is None else self.sharding.gather()
            if self.ranks.is_main and model is not None:
                self._keep(row, model)
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
            if self.sharding is not None and not len(batch.labels):
                with self.sharding.filling() as filler, torch.no_grad():
                    self.task.compute_loss(filler)
            yield batch

    def _stop_if_asked(self) -> None:
        """End the run, in all its processes, where a signal asked one of them for it."""
        if self.ranks.size > 1 and any(self.ranks.sum_values([float(self.interruption.is_asked)])):
            self.interruption.ask("SIGTERM")
        self.interruption.raise_if_asked(str(self.run.folder))

    def _averaged(self) -> AbstractContextManager[None]:
        """Put the average of the weights in their place while a block lasts, where there is one."""
        return nullcontext() if self.moving.average is None else self.moving.average.lent(self.model)

    def _join(self, held_out: Totals) -> Totals:
        """Add up what the processes measured on their parts of the held-out clips."""
        if self.ranks.size == 1 or self.manifest.task == "multilabel":
            return held_out
        loss_sum, correct, seen = self.ranks.sum_values([held_out.loss_sum, held_out.correct, held_out.seen])
        bad = [sample for part in self.ranks.gather(held_out.bad) for sample in part]
        return Totals(loss_sum, int(correct), int(seen), bad=bad)

    def _remark(self, text: str) -> None:
        """Say what the user should know, and write it down; nothing where there is no text."""
        if text:
            self._log("remark", text=text)
            self.listener.on_remark(text)

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
        if len(distinct) <= max(0.01 * self.feeding.order.count, 1):
            return
        self.run.write_bad_samples(bad)
        names = "\n  ".join(f"{sample.name}: {sample.code}" for sample in list(distinct.values())[:10])
        raise TrainingError(
            f"cannot go on - {len(distinct)} training clips (of {self.feeding.order.count}) cannot be read so far - "
            f"repair or remove them ('tubelet data check --full' decodes every frame), the first are:\n  {names}"
        )

    def _save(self) -> None:
        self.checkpoints.write(self.moving, self.progress)

    def _roll_back(self) -> bool:
        """Put the weights of the last checkpoint back, and go on from here; tell whether there was one."""
        checkpoint, _ = self.checkpoints.read()
        if checkpoint is None:
            return False
        self.moving.load_state_dict(checkpoint)
        return True


def describe_epoch(row: dict[str, float]) -> dict[str, Any]:
    """Say, for a model's folder, after which epoch its weights were kept and what they reached."""
    figures = {key: None if value != value else value for key, value in row.items() if key.startswith("val_")}  # noqa: PLR0124
    return {"training": {"epoch": int(row["epoch"]), **figures}}


def list_sizes(spec: InputSpec) -> dict[str, int]:
    """List the hyper-parameters of a model that the contract of its input decides."""
    return {"frames": spec.frames, "height": spec.height, "width": spec.width, "channels": spec.input_channels}
