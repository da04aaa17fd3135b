"""Take one step: gradients of some batches in the memory there is, checked, then the weights move, or nothing does.

batch, batch, ...  ->  loss  ->  gradients added up  ->  finite?  ->  clipped  ->  the weights move, and their average
                    \\_ out of memory: the same clips in smaller parts        \\_ no number: `on_failure` decides
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from tubelet.data.dataset import Batch
from tubelet.errors import TrainingError
from tubelet.prediction.devices import choose_precision
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.averaging import WeightAverage
from tubelet.training.compilation import compile_model
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.sharding import Sharding

__all__ = ["Failure", "Outcome", "Stepper", "Task", "autocast", "seed_step"]


@runtime_checkable
class Task(Protocol):
    """State what is learned from a batch of clips."""

    @property
    def model(self) -> nn.Module:
        """What moves."""

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the average loss of the clips, from which gradients flow, and how many were scored right."""


class Failure(TrainingError):
    """Report a step whose loss or gradient is no number; the weights have not moved."""

    def __init__(self, what: str, value: float, epoch: int, number: int, *, is_own: bool = True) -> None:
        super().__init__(
            f"cannot go on with epoch {epoch + 1}, batch {number + 1} - the {what} is {value} - lower optimizer.lr, or "
            "set training.precision to fp32; the last checkpoint is intact."
        )
        self.what = what
        self.value = value
        self.epoch = epoch
        self.number = number
        self.is_own = is_own
        """The loss is of this process's clips, not of another's."""


@dataclass(frozen=True)
class Outcome:
    """Hold what clips showed while a step was taken."""

    loss_sum: float
    """Of the losses of all clips."""
    count: int
    correct: int


def raise_failure(failure: Failure, _held: Sequence[tuple[int, Batch]]) -> None:
    """End the training: what happens unless somebody decides otherwise."""
    raise failure


class Stepper:
    """Move the weights of a model, step by step.

    Args:
        task: what is learned; its model is trained in place.
        optimizer: moves its weights.
        recipe: seed, clipping, precision, and what may be done about a lack of memory.
        average: follows the weights, where there is one.
        ranks: the other processes of the run; each holds the same weights and its own clips.
        on_failure: called with a loss or gradient that is no number and the batches of the step; raises, or returns to
            leave the step out.
        on_remark: told when clips are taken in smaller parts from now on.
        make_ready: called at the start of an epoch, such as to say which weights move in it.
        sharding: how the model is shared out, where each process holds a part of it only.
    """

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        recipe: AnyRecipe,
        *,
        average: WeightAverage | None = None,
        ranks: Ranks = ALONE,
        on_failure: Callable[[Failure, Sequence[tuple[int, Batch]]], None] = raise_failure,
        on_remark: Callable[[str], None] = lambda _text: None,
        make_ready: Callable[[int], None] | None = None,
        sharding: Sharding | None = None,
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.recipe = recipe
        self.average = average
        self.ranks = ranks
        self.on_failure = on_failure
        self.on_remark = on_remark
        self.make_ready = make_ready
        self.sharding = sharding
        self.device = next(task.model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.training.precision == "fp16")
        self._part = 0
        """Clips in one forward pass; 0 takes all of a batch."""
        if recipe.training.compile:
            compile_model(task.model, recipe.input.kind)

    def start_epoch(self, epoch: int = 0) -> None:
        """Make the model ready to be trained in an epoch, counted from 0."""
        self.task.model.train()
        if self.make_ready is not None:
            self.make_ready(epoch)
        self.optimizer.zero_grad(set_to_none=True)

    def take(self, held: Sequence[tuple[int, Batch]], epoch: int) -> Outcome | None:
        """Add up the gradients of batches, of all processes, and move the weights once.

        Args:
            held: (number in the epoch, batch).
            epoch: counted from 0; with the number, what dropout depends on.

        Returns:
            What the clips of all processes showed; None where the step was left out.

        Raises:
            TrainingError: no memory, or what `on_failure` raises.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self.task.model.buffers()]
        try:
            total = self._add_gradients(held, epoch, buffers)
            if not total.count:
                return total
            self._finish_gradient(total.count, epoch, held[-1][0])
        except Failure as failure:
            self._forget(buffers)
            self.on_failure(failure, held)
            return None
        self._move(len(held[0][1].labels))
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.follow(self.task.model)
        return total

    def _add_gradients(
        self, held: Sequence[tuple[int, Batch]], epoch: int, buffers: Sequence[tuple[Tensor, Tensor]]
    ) -> Outcome:
        """Add up gradients here, then agree with the other processes on what came out.

        Raises:
            Failure: some loss is no number, here or in another process.
        """
        own: list[Outcome] = []
        failure: Failure | None = None
        while True:
            try:
                with _explain_memory():
                    own = [self._backward(number, batch, epoch) for number, batch in held]
                break
            except _OutOfMemory as error:
                self._forget(buffers)
                self._shrink(held, error)
            except Failure as error:
                own, failure = [], error
                break
        loss_sum = sum(outcome.loss_sum for outcome in own)
        count, correct = (sum(getattr(outcome, name) for outcome in own) for name in ("count", "correct"))
        loss_sum, count, correct, failed = self.ranks.sum_values([loss_sum, count, correct, failure is not None])
        if failed:
            raise failure or Failure("loss in another process", float("nan"), epoch, held[-1][0], is_own=False)
        return Outcome(loss_sum, int(count), int(correct))

    def _move(self, count: int) -> None:
        """Move the weights; a lack of memory here ends the training, because some of them may have moved already."""
        try:
            with _explain_memory():
                self.scaler.step(self.optimizer)
        except _OutOfMemory as error:
            raise TrainingError(_advise(self.recipe, self._part or count, str(error))) from None
        self.scaler.update()

    def _forget(self, buffers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Undo what a step that was not taken has left behind: gradients, and the running statistics of norms."""
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)

    def _backward(self, number: int, batch: Batch, epoch: int) -> Outcome:
        """Add the gradient of a batch, the sum over its clips, in as many parts as memory asks for."""
        seed_step(self.recipe.training.seed, epoch, number, self.ranks.rank)
        if not len(batch.labels):
            if self.sharding is not None:
                with self.sharding.filling() as filler:
                    self._learn(filler, 0, epoch, number)
            return Outcome(0.0, 0, 0)
        total, right = 0.0, 0
        for part in split_batch(batch, self._part):
            value, correct = self._learn(part, len(part.labels), epoch, number)
            total, right = total + value * len(part.labels), right + correct
        return Outcome(total, len(batch.labels), right)

    def _learn(self, batch: Batch, weight: int, epoch: int, number: int) -> tuple[float, int]:
        """Add the gradient of the average loss of clips, times a weight; return the loss and how many were right."""
        loss, correct = self.task.compute_loss(batch)
        value = float(loss.detach())
        failed = not np.isfinite(value)
        # Where the model is shared out all processes leave the step at once: none may wait for one that has left.
        if self.sharding is not None and any(self.ranks.sum_values([failed])) and not failed:
            raise Failure("loss in another process", float("nan"), epoch, number, is_own=False)
        if failed:
            raise Failure("loss", value, epoch, number)
        self.scaler.scale(loss * weight).backward()  # type: ignore[no-untyped-call]
        return value, correct

    def _finish_gradient(self, count: int, epoch: int, number: int) -> None:
        """Turn the sum of gradients over `count` clips into their mean, and clip its norm."""
        if self.sharding is None:  # which adds them up by itself
            self.ranks.sum_gradients(self.task.model)
        parameters = [parameter for parameter in self.task.model.parameters() if parameter.grad is not None]
        self.scaler.unscale_(self.optimizer)
        for parameter in parameters:
            parameter.grad.div_(count)  # type: ignore[union-attr]
        limit = self.recipe.optimizer.clip_norm
        norm = float(nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf")))
        if not np.isfinite(norm) and not self.scaler.is_enabled():  # a scaler leaves such steps out, and scales less
            raise Failure("norm of the gradient", norm, epoch, number)

    def _shrink(self, held: Sequence[tuple[int, Batch]], error: "_OutOfMemory") -> None:
        """Take half as many clips at a time from now on, if the recipe lets us."""
        largest = max(len(batch.labels) for _, batch in held)
        part = min(self._part or largest, largest)
        if not self.recipe.training.auto_microbatch or part == 1:
            raise TrainingError(_advise(self.recipe, part, str(error))) from None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._part = -(-part // 2)
        self.on_remark(
            f"out of memory with {part} clips at a time: from now on {self._part}; steps stay the same, but for "
            "dropout and batch norm"
        )


def split_batch(batch: Batch, part: int) -> list[Batch]:
    """Cut a batch into parts of at most that many clips; 0 leaves it whole."""
    count = len(batch.labels)
    if not 0 < part < count:
        return [batch]
    return [
        replace(
            batch,
            clips=batch.clips[first : first + part],
            labels=batch.labels[first : first + part],
            indices=batch.indices[first : first + part],
            lengths=None if batch.lengths is None else batch.lengths[first : first + part],
            bad=(),
        )
        for first in range(0, count, part)
    ]


def seed_step(seed: int, epoch: int, number: int, rank: int = 0) -> None:
    """Seed what is drawn in a forward pass by its place in the run, so that it can be done again."""
    place = [seed, epoch, number, rank] if rank else [seed, epoch, number]
    torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Make the context in which forward passes run in the number format that the recipe wishes for."""
    chosen = choose_precision(precision, device)
    return torch.autocast(device.type, chosen, enabled=chosen != torch.float32)


class _OutOfMemory(Exception):
    """Carry PyTorch's words about a lack of memory."""


@contextmanager
def _explain_memory():  # type: ignore[no-untyped-def]  # noqa: ANN202 - a context
    """Tell a lack of memory from other errors: on a GPU it has a class of its own, on a CPU only a text."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _OutOfMemory(str(error).partition("\n")[0]) from None
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise _OutOfMemory(str(error).partition("\n")[0]) from None
        raise


def _advise(recipe: AnyRecipe, part: int, reason: str) -> str:
    spec, training = recipe.input, recipe.training
    smaller = max(part // 2, 1)
    advice = (
        f"--training.batch {smaller} --training.accumulate {training.accumulate * -(-part // smaller)} gives the same "
        "steps, --training.auto-microbatch finds the size by itself"
        if part > 1
        else "lower input.frames, input.height and input.width"
    )
    checkpointing = "" if training.checkpointing else ", --training.checkpointing halves what is kept"
    return (
        f"cannot take a step with {part} clips of {spec.frames} frames of {spec.height}x{spec.width} - memory is out: "
        f"{reason} - {advice}{checkpointing}."
    )
