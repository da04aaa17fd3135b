"""Train for one epoch, validate once: the two loops, in plain PyTorch, whatever is learned."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name for it

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, Batch
from tubelet.metrics import Ranking
from tubelet.recipes.recipe import Recipe
from tubelet.training.optimizer import Schedule
from tubelet.training.step import Outcome, Stepper, autocast
from tubelet.transforms.mixing import mix_batch

__all__ = [
    "Classification",
    "MultilabelClassification",
    "Totals",
    "compute_weighted_loss",
    "train_epoch",
    "validate",
]


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
    mean_ap: float = math.nan
    """Mean average precision of held-out clips, where each class is a question of its own; else no number."""
    skipped: int = 0
    """Steps that were left out because their loss or gradient was no number."""

    @property
    def loss(self) -> float:
        """Average loss a clip."""
        return self.loss_sum / max(self.seen, 1)

    @property
    def top1(self) -> float:
        """Share of clips whose highest score was right."""
        return self.correct / max(self.seen, 1)

    @property
    def quality(self) -> float:
        """Tell what the best epoch is chosen by: the mean average precision where it was measured, else the top-1."""
        return self.top1 if math.isnan(self.mean_ap) else self.mean_ap

    def add(self, loss: float, count: int, correct: int = 0) -> None:
        """Add one batch of `count` clips: its average loss, and how many of them were scored right."""
        self.loss_sum += loss * count
        self.correct += correct
        self.seen += count

    def add_step(self, outcome: Outcome | None) -> None:
        """Add what the clips of a step showed; None where it was left out."""
        if outcome is None:
            self.skipped += 1
            return
        self.loss_sum += outcome.loss_sum
        self.correct += outcome.correct
        self.seen += outcome.count


@dataclass(frozen=True, eq=False)
class Classification:
    """Learn the labels of clips."""

    classifier: Classifier
    recipe: Recipe
    class_weights: Tensor | None = None
    """What clips of each class weigh in the loss, on average 1 over the training clips; None where all weigh alike."""
    teacher: Classifier | None = None
    """Whose answers are learned beside the labels."""

    @property
    def model(self) -> nn.Module:
        """The classifier's model."""
        return self.classifier.model

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the cross-entropy of the clips, and how many have their highest score at their label."""
        logits, labels, clips = self._compute_logits(batch)
        smoothing = self.recipe.loss.label_smoothing
        if self.class_weights is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        else:
            loss = compute_weighted_loss(logits, labels, self.class_weights.to(logits), smoothing)
        return self._follow_teacher(loss, logits, clips, batch), _count_right(logits.detach(), batch)

    def _follow_teacher(self, loss: Tensor, logits: Tensor, clips: Tensor, batch: Batch) -> Tensor:
        """Mix the loss with the distance to the teacher's answers, where there is a teacher."""
        if self.teacher is None:
            return loss
        with torch.no_grad(), autocast(self.recipe.training.precision, self.classifier.device):
            answers = self.teacher.compute_logits(clips, batch.lengths).float()
        wanted = self.recipe.loss
        distance = self._compute_distance(logits / wanted.temperature, answers / wanted.temperature)
        return (1 - wanted.teacher_share) * loss + wanted.teacher_share * wanted.temperature**2 * distance

    def _compute_distance(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Return the mean divergence of answers from the teacher's.

        Source: arXiv 1503.02531; times the square of the temperature it moves weights as far at any temperature.
        """
        return F.kl_div(logits.log_softmax(1), answers.log_softmax(1), log_target=True, reduction="batchmean")

    def _compute_logits(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return float32 logits, the labels on their device (shares of classes where mixed), and the clips."""
        device = self.classifier.device
        clips, labels = batch.clips, batch.labels.to(device, non_blocking=True)
        if self.recipe.augmentation.mixes:
            # As the seed says that was set for this step: again the same when a run goes on.
            generator = np.random.default_rng(torch.initial_seed())
            clips = clips.to(device, non_blocking=True)
            clips, labels = mix_batch(clips, labels, len(self.classifier.classes), self.recipe.augmentation, generator)
        with autocast(self.recipe.training.precision, device):
            logits = self.classifier.compute_logits(clips, batch.lengths)
        return logits.float(), labels, clips


@dataclass(frozen=True, eq=False)
class MultilabelClassification(Classification):
    """Learn for each class whether clips have it."""

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the binary cross-entropy, its mean over clips and classes; no clip is right or wrong as a whole."""
        logits, labels, clips = self._compute_logits(batch)
        smoothing = self.recipe.loss.label_smoothing
        targets = labels.float() * (1 - smoothing) + smoothing / 2
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        return self._follow_teacher(loss, logits, clips, batch), 0

    def _compute_distance(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Return the mean cross-entropy with the teacher's answers, above what it has in itself."""
        targets = answers.sigmoid()
        own = F.binary_cross_entropy_with_logits(answers, targets)
        return F.binary_cross_entropy_with_logits(logits, targets) - own


def compute_weighted_loss(
    logits: Float[Tensor, "batch classes"],
    labels: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    weights: Float[Tensor, " classes"],
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Compute the cross-entropy in which each part of a target weighs as its class does, and its mean over clips.

    Over clips and not over weights, as PyTorch takes it: the gradient of a batch is then the sum of those of its parts.
    """
    targets = F.one_hot(labels, len(weights)).to(logits) if labels.ndim == 1 else labels
    targets = targets * (1 - smoothing) + smoothing / len(weights)
    return -(targets * weights * logits.log_softmax(1)).sum(1).mean()


def _count_right(scores: Tensor, batch: Batch) -> int:
    return int((scores.argmax(1).cpu() == batch.labels).sum())


def train_epoch(
    stepper: Stepper,
    batches: Iterable[Batch],
    schedule: Schedule,
    *,
    num_batches: int | None = None,
    totals: Totals | None = None,
    epoch: int = 0,
    on_step: Callable[[int, Totals], None] = lambda _step, _totals: None,
) -> Totals:
    """Train on the batches of one epoch, or of the rest of one.

    Dropout and its kin are seeded by (seed, epoch, batch): an interrupted epoch that goes on repeats itself bit by bit.

    Args:
        stepper: moves the weights after every `recipe.training.accumulate` batches, and after the last.
        batches: clips with labels; the first one counts as batch number `num_batches - len`.
        schedule: sets the learning rate before each move.
        num_batches: batches of a whole epoch; needed only where `batches` are the rest of one.
        totals: what the epoch showed before it was interrupted.
        epoch: number of the epoch, from 0.
        on_step: called with the number of batches done after each move of the optimizer.

    Returns:
        Loss, accuracy, times and unreadable clips of the whole epoch.

    Raises:
        TrainingError: a loss or gradient that is no number, or no memory.

    Example:
        A loop of your own; docs/training.md has a whole one::

            stepper = Stepper(Classification(classifier, recipe), optimizer, recipe)
            for epoch in range(3):
                feeding.order.start(epoch)
                totals = train_epoch(stepper, loader, schedule, epoch=epoch)
    """
    totals = totals or Totals()
    if not isinstance(batches, Sized):
        batches = list(batches)
    left = len(batches)
    num_batches = left if num_batches is None else num_batches
    every = stepper.recipe.training.accumulate
    steps_per_epoch = -(-num_batches // every)
    stepper.start_epoch(epoch)
    held: list[tuple[int, Batch]] = []
    for number, batch in _timed(batches, totals, num_batches - left):
        started = time.perf_counter()
        totals.bad.extend(batch.bad)
        held.append((number, batch))
        is_step = (number + 1) % every == 0 or number + 1 == num_batches
        if is_step:
            schedule.apply(stepper.optimizer, epoch * steps_per_epoch + number // every)
            totals.add_step(stepper.take(held, epoch))
            held = []
        totals.compute_s += time.perf_counter() - started
        if is_step:
            on_step(number + 1, totals)
    return totals


def validate(classifier: Classifier, batches: Iterable[Batch], precision: torch.dtype = torch.float32) -> Totals:
    """Measure loss and accuracy over the batches, one view a clip; of a multi-label classifier, loss and mAP."""
    if classifier.task == "multilabel":
        return _validate_multilabel(classifier, batches, precision)
    totals = Totals()
    for batch in batches:
        totals.bad.extend(batch.bad)
        if len(batch.labels):
            scores = classifier.score(batch.clips, precision, lengths=batch.lengths)
            loss = F.nll_loss(scores.clamp_min(1e-12).log().cpu(), batch.labels)
            totals.add(float(loss), len(batch.labels), _count_right(scores, batch))
    return totals


def _validate_multilabel(classifier: Classifier, batches: Iterable[Batch], precision: torch.dtype) -> Totals:
    totals = Totals()
    scores, labels = [], []
    for batch in batches:
        totals.bad.extend(batch.bad)
        if len(batch.labels):
            scores.append(classifier.score(batch.clips, precision, lengths=batch.lengths).cpu())
            labels.append(batch.labels)
            totals.add(float(F.binary_cross_entropy(scores[-1], batch.labels.float())), len(batch.labels))
    if scores:
        totals.mean_ap = Ranking(torch.cat(scores).double().numpy(), torch.cat(labels).numpy()).mean_ap()
    return totals


def _timed(batches: Iterable[Batch], totals: Totals, first: int) -> Iterator[tuple[int, Batch]]:
    """Number the batches from `first` on, and add up how long each was waited for."""
    started = time.perf_counter()
    for number, batch in enumerate(batches, first):
        totals.wait_s += time.perf_counter() - started
        yield number, batch
        started = time.perf_counter()
