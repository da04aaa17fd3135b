"""Train for one epoch, validate once: the two loops, in plain PyTorch, whatever is learned."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name for it

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, Batch
from tubelet.errors import TrainingError
from tubelet.prediction.devices import choose_precision
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.training.optimizer import Schedule
from tubelet.transforms.mixing import mix_batch

__all__ = ["Classification", "Task", "Totals", "autocast", "train_epoch", "validate"]


@dataclass
class Totals:
    """Add up what an epoch showed; part of a checkpoint, so that an interrupted epoch reports its whole self."""

    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    wait_s: float = 0.0
    """Seconds the model waited for data."""
    compute_s: float = 0.0
    bad: list[BadSample] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Average loss a clip."""
        return self.loss_sum / max(self.seen, 1)

    @property
    def top1(self) -> float:
        """Share of clips whose highest score was right."""
        return self.correct / max(self.seen, 1)

    def add(self, loss: float, count: int, correct: int = 0) -> None:
        """Add one batch of `count` clips: its average loss, and how many of them were scored right."""
        self.loss_sum += loss * count
        self.correct += correct
        self.seen += count


@runtime_checkable
class Task(Protocol):
    """State what is learned from a batch of clips."""

    @property
    def model(self) -> nn.Module:
        """What moves."""

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the average loss of the clips, from which gradients flow, and how many were scored right."""


@dataclass(frozen=True, eq=False)
class Classification:
    """Learn the labels of clips."""

    classifier: Classifier
    recipe: Recipe

    @property
    def model(self) -> nn.Module:
        """The classifier's model."""
        return self.classifier.model

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the cross-entropy of the clips, and how many have their highest score at their label."""
        device = self.classifier.device
        with autocast(self.recipe.training.precision, device):
            clips, labels = batch.clips, batch.labels.to(device, non_blocking=True)
            if self.recipe.augmentation.mixes:
                clips, labels = self._mix(clips.to(device, non_blocking=True), labels)
            logits = self.classifier.compute_logits(clips, batch.lengths)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.optimizer.label_smoothing)
        return loss, _count_right(logits.detach(), batch)

    def _mix(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the batch as the seed says that `train_epoch` has set for it: again the same when a run goes on."""
        generator = np.random.default_rng(torch.initial_seed())
        return mix_batch(clips, labels, len(self.classifier.classes), self.recipe.augmentation, generator)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Make the context in which forward passes run in the number format that the recipe wishes for."""
    chosen = choose_precision(precision, device)
    return torch.autocast(device.type, chosen, enabled=chosen != torch.float32)


def _count_right(scores: Tensor, batch: Batch) -> int:
    return int((scores.argmax(1).cpu() == batch.labels).sum())


def train_epoch(
    task: Task,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    recipe: AnyRecipe,
    *,
    num_batches: int,
    totals: Totals | None = None,
    epoch: int = 0,
    on_step: Callable[[int, Totals], None] = lambda _step, _totals: None,
) -> Totals:
    """Train on the batches of one epoch, or of the rest of one.

    Dropout and its kin are seeded by (seed, epoch, batch): an interrupted epoch that goes on repeats itself bit by bit.

    Args:
        task: what is learned, such as `Classification`; its model is trained in place.
        batches: clips with labels; the first one counts as batch number `num_batches - len`.
        optimizer: moves after every `recipe.training.accumulate` batches, and after the last.
        schedule: sets the learning rate before each move.
        recipe: seed, accumulation and clipping.
        num_batches: batches of a whole epoch.
        totals: what the epoch showed before it was interrupted.
        epoch: number of the epoch, from 0.
        on_step: called with the number of batches done after each move of the optimizer.

    Returns:
        Loss, accuracy, times and unreadable clips of the whole epoch.

    Raises:
        TrainingError: a loss that is no number.
    """
    totals = totals or Totals()
    every = recipe.training.accumulate
    steps_per_epoch = -(-num_batches // every)
    task.model.train()
    optimizer.zero_grad(set_to_none=True)
    pending = 0
    for number, batch in _timed(batches, totals, num_batches):
        started = time.perf_counter()
        if len(batch.labels):
            _seed(recipe.training.seed, epoch, number)
            loss, correct = task.compute_loss(batch)
            value = _check_finite(loss, epoch, number)
            (loss * len(batch.labels)).backward()  # type: ignore[no-untyped-call]
            pending += len(batch.labels)
            totals.add(value, len(batch.labels), correct)
        totals.bad.extend(batch.bad)
        if (number + 1) % every == 0 or number + 1 == num_batches:
            schedule.apply(optimizer, epoch * steps_per_epoch + number // every)
            if pending:
                _finish_gradient(task.model, pending, recipe.optimizer.clip_norm, f"epoch {epoch + 1}")
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                pending = 0
            totals.compute_s += time.perf_counter() - started
            on_step(number + 1, totals)
        else:
            totals.compute_s += time.perf_counter() - started
    return totals


def validate(classifier: Classifier, batches: Iterable[Batch], precision: torch.dtype = torch.float32) -> Totals:
    """Measure loss and accuracy over the batches, one view a clip."""
    totals = Totals()
    for batch in batches:
        totals.bad.extend(batch.bad)
        if len(batch.labels):
            scores = classifier.score(batch.clips, precision, lengths=batch.lengths)
            loss = F.nll_loss(scores.clamp_min(1e-12).log().cpu(), batch.labels)
            totals.add(float(loss), len(batch.labels), _count_right(scores, batch))
    return totals


def _timed(batches: Iterable[Batch], totals: Totals, num_batches: int) -> Iterator[tuple[int, Batch]]:
    """Number the batches from the end of the epoch backward, and add up how long each was waited for."""
    known = list(batches) if not hasattr(batches, "__len__") else batches
    first = num_batches - len(known)  # type: ignore[arg-type]
    started = time.perf_counter()
    for number, batch in enumerate(known, first):
        totals.wait_s += time.perf_counter() - started
        yield number, batch
        started = time.perf_counter()


def _seed(seed: int, epoch: int, number: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)[0] >> 1))


def _finish_gradient(model: nn.Module, count: int, clip_norm: float, where: str) -> None:
    """Turn the sum of gradients over `count` clips into their mean, and clip its norm.

    Raises:
        TrainingError: a norm that is no number; the weights have not moved.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    for parameter in parameters:
        parameter.grad.div_(count)  # type: ignore[union-attr]
    norm = float(nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm > 0 else float("inf")))
    if not np.isfinite(norm):
        raise TrainingError(
            f"cannot go on with {where} - the norm of the gradient is {norm} - lower optimizer.lr, or set "
            "training.precision to fp32; the last checkpoint is intact."
        )


def _check_finite(loss: Tensor, epoch: int, number: int) -> float:
    value = float(loss.detach())
    if not np.isfinite(value):
        raise TrainingError(
            f"cannot go on with epoch {epoch + 1}, batch {number + 1} - the loss is {value} - "
            "lower optimizer.lr, or set training.precision to fp32; the last checkpoint is intact."
        )
    return value
