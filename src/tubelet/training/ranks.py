"""Train in several processes at once, one for each device: the same batches, shared out, and the same weights in all.

    batch of 16 clips  ->  rank 0: clips 0..7   ->  gradient (sum)  \\
                       ->  rank 1: clips 8..15  ->  gradient (sum)  -> summed over ranks, divided by 16  ->  one step

torchrun starts the processes and says to each which one it is (RANK, WORLD_SIZE, LOCAL_RANK). Gradients are summed when
a step is complete, in pieces: so a rank may have fewer clips than the others, none included, and a batch in smaller
parts costs no further exchange. Only rank 0 writes.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tubelet.errors import ConfigError, TubeletError

__all__ = ["ALONE", "Ranks", "join_ranks"]

T = TypeVar("T")

TIMEOUT_S = 600
"""Seconds that one rank waits for the others before the run ends."""
PATIENCE_S = 7 * 24 * 3600
"""Seconds that they wait for what rank 0 does alone: it may fetch a data set, or evaluate hours of video."""
_PIECE_NUMEL = 16_000_000


@dataclass(frozen=True)
class Ranks:
    """State which of how many processes this is, and exchange with the others."""

    rank: int = 0
    """This process, from 0."""
    size: int = 1
    """Processes in all."""
    local_rank: int = 0
    """This process among those of its machine: the number of its device."""
    patient: Any = None
    """The same processes as a group that waits for `PATIENCE_S`."""

    @property
    def is_main(self) -> bool:
        """Tell whether this is the process that writes."""
        return self.rank == 0

    def take_share(self, items: Sequence[T]) -> Sequence[T]:
        """Take the part of a batch that is this process's: parts lie one after the other and differ by one at most.

        Example:
            >>> [list(Ranks(rank, 2).take_share([5, 6, 7])) for rank in (0, 1)]
            [[5, 6], [7]]
        """
        whole, more = divmod(len(items), self.size)
        first = self.rank * whole + min(self.rank, more)
        return items[first : first + whole + (self.rank < more)]

    def sum_values(self, values: Iterable[float | int]) -> list[float]:
        """Add numbers up over all processes, each place apart; float64."""
        own = [float(value) for value in values]
        if self.size == 1:
            return own
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(own, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    @torch.no_grad()
    def sum_gradients(self, model: nn.Module) -> None:
        """Add the gradients of all processes up; a process without one counts as zero."""
        if self.size == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for piece in _cut(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in piece])
            dist.all_reduce(flat)
            first = 0
            for gradient in piece:
                gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
                first += gradient.numel()

    def gather(self, value: T) -> list[T]:
        """Collect a picklable value of every process, in the order of ranks, in every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, make: Callable[[], T]) -> T:
        """Let rank 0 make something and give it to all; what goes wrong there goes wrong everywhere.

        Raises:
            TubeletError: what `make` raised on rank 0.
        """
        if self.size == 1:
            return make()
        parcel: list[Any] = [None, None]
        if self.is_main:
            try:
                parcel[0] = make()
            except TubeletError as error:
                parcel[1] = error
        dist.broadcast_object_list(parcel, src=0, group=self.patient)
        if parcel[1] is not None:
            raise parcel[1]
        made: T = parcel[0]
        return made


ALONE = Ranks()
"""The one process of a plain run."""


def join_ranks(device: str = "auto") -> Ranks:
    """Join the processes that torchrun has started, or say that this one is alone.

    Args:
        device: what the recipe wants; processes on GPUs talk by NCCL, others by gloo.

    Raises:
        ConfigError: more processes on a machine than it has GPUs.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    uses_gpu = torch.cuda.is_available() and not device.startswith("cpu")
    if uses_gpu and ranks.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"cannot train in process {ranks.local_rank} of this machine - it has {torch.cuda.device_count()} GPUs - "
            "start as many processes, or add --device cpu."
        )
    if uses_gpu:
        torch.cuda.set_device(ranks.local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if uses_gpu else "gloo", timeout=timedelta(seconds=TIMEOUT_S))
    return replace(ranks, patient=dist.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE_S)))


def _cut(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Cut a list of gradients into pieces of one type and bounded size."""
    pieces: list[list[Tensor]] = []
    held = 0
    for gradient in gradients:
        if not pieces or held + gradient.numel() > _PIECE_NUMEL or pieces[-1][0].dtype != gradient.dtype:
            pieces.append([])
            held = 0
        pieces[-1].append(gradient)
        held += gradient.numel()
    return pieces
