"""Learn one batch by heart: can this model learn these labels from this input at all, before hours go into it?

recipe -> at most 16 clips, as an evaluation sees them -> the same step again and again -> `OverfitResult`
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelet.data.dataset import BadSample, Batch, collate
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError, TrainingError
from tubelet.models import find_card, load_weights
from tubelet.prediction.devices import choose_device
from tubelet.recipes.optimization import LossRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import resolve_recipe
from tubelet.training.feeding import Feeding
from tubelet.training.finetuning import Freezing
from tubelet.training.loop import Classification, Totals
from tubelet.training.optimizer import Schedule, make_optimizer, scale_rate
from tubelet.training.progress import QUIET, Listener
from tubelet.training.step import Stepper
from tubelet.training.symptoms import Stillness
from tubelet.training.train import open_clips, settle_input
from tubelet.training.trainer import make_classification
from tubelet.transforms.policy import Augmentation
from tubelet.video.decoders import DECODERS

__all__ = ["OverfitResult", "overfit_batch"]

MAX_CLIPS = 16
LEARNED_LOSS = 0.01
"""Loss at which there is nothing left to learn: each clip gets 99 % for its label."""
PASSING_LOSS = 0.1
"""Loss that will do after the last step, where every clip is right."""
STUCK = 0.9
"""Share of a guess's loss from which nothing was learned of the clips themselves."""
WARMUP_STEPS = 10


@dataclass(frozen=True)
class OverfitResult:
    """State whether one batch was learned by heart, and what to do where it was not."""

    clips: tuple[str, ...]
    """Names of the clips that were to be learned."""
    steps: int
    """Steps taken."""
    right: int
    """Clips that the last step had right; in multi-label sets, with each of their labels."""
    first_loss: float
    """Loss of the first step."""
    loss: float
    """Loss of the last step; NaN where it became none."""
    guess_loss: float
    """What a model reaches that knows how frequent each class is among these clips, and does not look at them."""
    bad: tuple[BadSample, ...] = ()
    """Clips that could not be read and were left out."""
    advice: str = ""
    """What to do; nothing where the batch was learned."""

    @property
    def is_learned(self) -> bool:
        """Tell whether every clip is right, and clearly so."""
        return self.right == len(self.clips) and self.loss <= PASSING_LOSS

    def describe(self) -> str:
        """Say in one sentence how it went."""
        count = f"{self.right} of {len(self.clips)} clips"
        if self.is_learned:
            return (
                f"learned {count} by heart in {self.steps} steps (loss {self.loss:.3f}): model, labels and input fit "
                "together."
            )
        if math.isnan(self.loss):
            return f"loss or gradient is no number in step {self.steps} (loss was {self.first_loss:.3f} at first)."
        verb = "stays at" if self.loss >= STUCK * self.guess_loss else "only comes down to"
        return (
            f"loss {verb} {self.loss:.3f}, a guess has {self.guess_loss:.3f}, and {count} are right after "
            f"{self.steps} steps."
        )

    def to_dict(self) -> dict[str, Any]:
        """Turn into what JSON can hold, verdict included."""
        values = {key: None if value != value else value for key, value in asdict(self).items()}  # noqa: PLR0124 - not a number
        return {"is_learned": self.is_learned, "verdict": self.describe(), **values}


def overfit_batch(
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    steps: int = 200,
    listener: Listener = QUIET,
    **changes: object,
) -> OverfitResult:
    """Try to learn the first batch of training clips by heart; nothing is written.

    A model that cannot learn 16 clips by heart will learn nothing from 16,000: the check finds labels that say nothing
    about the clips, input in which the difference is lost, and rates that are far off. Model, input and optimizer are
    the recipe's. What is there to prevent learning by heart is left out: augmentation, mixing, label smoothing, class
    balance, a teacher, weight decay, dropout and drop path, and the epochs in which only the head moves. The rate rises
    over 10 steps, if the recipe has a warm-up, to that of the recipe's own batches, and stays there.

    Args:
        data: as `tubelet.train` takes it; instead of `recipe.data.source`.
        recipe: that of the training to come. A smaller `training.batch` than 16 is kept to.
        steps: at most; it ends when every clip is right and the loss at 0.01.
        listener: told of every step.
        **changes: leaves of the recipe with `__` for the dot.

    Raises:
        DataError: clips or labels that do not fit together.
        TrainingError: fewer than two classes among the training clips that can be read.

    Example:
        >>> result = overfit_batch("clips/", optimizer__lr=3e-4)  # doctest: +SKIP
        >>> result.is_learned, result.advice  # doctest: +SKIP
    """
    if steps < 1:
        raise ConfigError(f"cannot learn a batch in {steps} steps - give 1 or more.")
    wishes = {key.replace("__", "."): value for key, value in changes.items()}
    source = data.origin if isinstance(data, Manifest) else None if data is None else os.fspath(data)
    wishes |= {} if source is None else {"data.source": source}
    recipe = resolve_recipe(source, recipe, wishes, listener.on_remark)
    manifest = data if isinstance(data, Manifest) else open_clips(recipe, listener)
    recipe = settle_input(recipe, manifest)
    manifest = manifest if recipe.model.task == "auto" else manifest.with_task(recipe.model.task)
    DECODERS[recipe.data.decoder]()
    batch, names, labels = _read_batch(recipe, manifest)
    if batch.bad:
        listener.on_bad(batch.bad)
    torch.manual_seed(recipe.training.seed)
    result, still = _learn(_simplify(recipe), manifest, batch, steps, listener)
    result = replace(result, clips=names)
    return replace(result, advice=_advise(recipe, result, _find_twins(batch, names, labels), still))


def _simplify(recipe: Recipe) -> Recipe:
    """Leave out what is there to prevent learning by heart; the rate is stated as a step of the recipe has it."""
    training, optimizer = recipe.training, recipe.optimizer
    rate = optimizer.lr * scale_rate(optimizer, training.batch * training.accumulate)
    regularizers = {field.name: 0.0 for field in fields(find_card(recipe.model.name).config) if "drop" in field.name}
    return replace(
        recipe,
        model=replace(recipe.model, changes={**recipe.model.changes, **regularizers}),
        augmentation=Augmentation(horizontal_flip=0.0),
        optimizer=replace(optimizer, lr=rate, weight_decay=0.0, ema=0.0, schedule="constant", milestones=()),
        loss=LossRecipe(),
        finetuning=replace(recipe.finetuning, head_epochs=0),
        training=replace(training, accumulate=1),
    )


def _read_batch(recipe: Recipe, manifest: Manifest) -> tuple[Batch, tuple[str, ...], list[str]]:
    """Read the first clips of the first epoch as an evaluation sees them, with their names and labels.

    Raises:
        TrainingError: fewer than two classes among them.
    """
    feeding = Feeding(recipe, manifest)
    clips = feeding.make_held_out("train")
    order = [key[1] for keys in feeding.order for key in keys]
    chosen = order[: min(MAX_CLIPS, max(recipe.training.batch, 2))]
    others = (index for index in order if clips.samples[index].label != clips.samples[chosen[0]].label)
    other = next(others, None)
    if other is not None and other not in chosen:
        chosen[-1] = other
    batch = collate([clips[0, index] for index in chosen], recipe.input)
    read = [clips.samples[index] for index in batch.indices.tolist()]
    labels = [sample.label for sample in read]
    if len(set(labels)) < 2:
        found = f"all {len(labels)} are '{labels[0]}'" if labels else "there is none"
        unread = f", {len(batch.bad)} could not be read; the first says: {batch.bad[0].message}" if batch.bad else ""
        raise TrainingError(
            f"cannot learn a batch of {manifest.origin} by heart - of the training clips tried {found}{unread} - it "
            "takes clips of two classes."
        )
    return batch, tuple(manifest.short_name(sample) for sample in read), labels


def _learn(
    recipe: Recipe, manifest: Manifest, batch: Batch, steps: int, listener: Listener
) -> tuple[OverfitResult, str]:
    """Take the same step again and again; return how it went, and which weights did not move."""
    counts = manifest.counts()["train"]
    device = choose_device(recipe.training.device)
    task = make_classification(recipe, counts, len(manifest.select("train")), manifest.task, device)
    if recipe.model.source:
        listener.on_weights(load_weights(task.model, recipe.model.source, classes=manifest.classes))
    freezing = Freezing(task.model, recipe.finetuning)
    optimizer = make_optimizer(task.model, recipe.optimizer)
    schedule = Schedule(recipe.optimizer, WARMUP_STEPS if recipe.optimizer.warmup_epochs else 0, steps)
    failed: list[object] = []
    stepper = Stepper(
        task,
        optimizer,
        recipe,
        on_failure=lambda failure, _held: failed.append(failure),
        on_remark=listener.on_remark,
        make_ready=freezing.start_epoch,
    )
    stillness = Stillness(task.model, optimizer, recipe, steps)
    stepper.start_epoch()
    stillness.start_epoch(0)
    losses: list[float] = []
    right = 0
    for step in range(steps):
        schedule.apply(optimizer, step)
        totals = Totals()
        totals.add_step(stepper.take([(0, batch)], 0))
        losses.append(math.nan if failed else totals.loss)
        right = 0 if failed else _count_right(task, batch, totals)
        listener.on_step(0, step + 1, steps, replace(totals, correct=right))
        if failed or (right == len(batch.labels) and totals.loss <= LEARNED_LOSS):
            break
    result = OverfitResult((), len(losses), right, losses[0], losses[-1], _guess(batch.labels), batch.bad)
    return result, stillness.describe()


def _count_right(task: Classification, batch: Batch, totals: Totals) -> int:
    """Count the clips that are right, as a whole where they have several labels."""
    if task.classifier.task == "classification":
        return totals.correct
    scores = task.classifier.score(batch.clips, lengths=batch.lengths).cpu()
    return int(((scores > 0.5) == batch.labels).all(dim=1).sum())


def _guess(labels: Tensor) -> float:
    """Compute the least loss of one answer to all clips: the entropy of their labels."""
    if labels.ndim == 1:
        shares = labels.bincount() / len(labels)
        return float(torch.special.entr(shares).sum())
    shares = labels.double().mean(dim=0)
    return float((torch.special.entr(shares) + torch.special.entr(1 - shares)).mean())


def _find_twins(batch: Batch, names: Sequence[str], labels: Sequence[str]) -> tuple[str, str] | None:
    """Find two clips that are the same to the model and have different labels: no model can learn both."""
    seen: dict[bytes, int] = {}
    for row, clip in enumerate(batch.clips):
        first = seen.setdefault(clip.numpy().tobytes(), row)
        if labels[first] != labels[row]:
            return names[first], names[row]
    return None


def _advise(recipe: Recipe, result: OverfitResult, twins: tuple[str, str] | None, still: str) -> str:
    """Say what to do, the most certain cause first."""
    rate = f"optimizer.lr, now {recipe.optimizer.lr:g}"
    if result.is_learned:
        return ""
    if math.isnan(result.loss):
        return f"lower {rate}, or set training.precision to fp32."
    if twins:
        return (
            f"'{twins[0]}' and '{twins[1]}' are the same to the model and have different labels - correct the labels, "
            "or show more of the clips: input.frames, input.height, input.width, input.sampling."
        )
    if still:
        return still
    if result.loss < STUCK * result.guess_loss:
        return f"raise {rate}, or take more steps (--overfit-steps, {result.steps} now)."
    usual = "1e-4 to 1e-3" if recipe.optimizer.name == "adamw" else "0.005 to 0.5"
    motion = ", and set input.differences to append where motion does" if recipe.input.differences == "none" else ""
    return (
        f"check the labels ('tubelet data check'); try another {rate} (usual: {usual}); raise input.height and "
        f"input.width where something small tells the classes apart{motion}."
    )
