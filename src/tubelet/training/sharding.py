"""Share a model out over the processes of a run, so that one fits that fits into no single GPU.

    rank 0:  first half of every weight  |  of its gradient  |  of its average and of what the optimizer keeps
    rank 1:  second half ...

    block by block, forward and backward:  collect its weights -> compute -> forget them again; add the gradients up

Each process computes with its own clips, as without sharding, and the sums over processes are the same. But all of them
go through the model as often as each other: whoever has no clip takes made-up ones, whose gradient is zero.

Source: PyTorch's FSDP2 (`torch.distributed.fsdp.fully_shard`).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tubelet.data.dataset import Batch
from tubelet.models.blocks import Stack
from tubelet.training.ranks import Ranks
from tubelet.video.spec import InputSpec

__all__ = ["Sharding", "gather_weights", "make_filler"]

FILLERS = 2
"""Made-up clips in a batch; batch norm refuses to measure the spread of one."""


class Sharding:
    """Hold a model of which each process has a part.

    Args:
        model: whole, with the same weights in all processes; shared out in place, block by block of every `Stack`, and
            the rest as one. Parameters keep their names.
        filler: clips of the right size, for processes without any.
        device: where the processes compute.
        ranks: the processes.

    Cost: at the start each device holds the whole weights once; afterwards its part of weights, gradients and
    optimizer state, and the weights of about two blocks. Rank 0 keeps a copy of the weights in main memory.
    """

    def __init__(self, model: nn.Module, filler: Batch, device: torch.device, ranks: Ranks) -> None:
        # Takes 0.6 s to import: longer than some runs that share nothing out.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.model = model
        self.filler = filler
        self._whole = copy.deepcopy(model).cpu() if ranks.is_main else None
        mesh = init_device_mesh(device.type, (ranks.size,))
        blocks = [block for stack in model.modules() if isinstance(stack, Stack) for block in stack]
        self._units = [
            fully_shard(module, mesh=mesh)
            for module in (*reversed(blocks), model)
            if any(True for _ in module.parameters())
        ]
        for unit in self._units:
            # Gradients are sums over clips: those of all processes are added up, not averaged.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
            # A run may begin by scoring: what is made in inference mode could not be trained with later.
            unit.unshard()
            unit.reshard()

    @contextmanager
    def filling(self) -> Iterator[Batch]:
        """Lend clips to a process that has none while the others go through the model: they would wait for it.

        Running statistics, such as batch norm's, do not see them.
        """
        before = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        yield self.filler
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)

    def gather(self) -> nn.Module | None:
        """Collect the whole model: on rank 0, in main memory; None elsewhere. All processes call it."""
        weights = gather_weights(self.model, keep=self._whole is not None)
        if self._whole is not None:
            self._whole.load_state_dict(weights)
        return self._whole

    def release(self) -> None:
        """Forget weights that were collected for scoring, as a backward pass does by itself."""
        for unit in self._units:
            unit.reshard()


@torch.no_grad()
def gather_weights(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """Give the state of a model, whole and in main memory where its parts lie in several processes.

    Args:
        model: where it is shared out, all processes must call this.
        keep: give an empty result otherwise: the process only helps the others.
    """
    weights: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        collect = getattr(value, "full_tensor", None)  # of a DTensor
        whole = value if collect is None else collect().cpu()
        if keep:
            weights[name] = whole
    return weights


def make_filler(spec: InputSpec, num_labels: int = 0) -> Batch:
    """Make up clips that fit a contract.

    Args:
        spec: the contract.
        num_labels: classes, each of which a clip may have; 0 where it has one class.
    """
    kind = torch.uint8 if spec.kind == "pixels" else torch.float32
    lengths = torch.full((FILLERS,), spec.frames) if spec.kind == "features" else None
    labels = (
        torch.zeros((FILLERS, num_labels), dtype=torch.bool) if num_labels else torch.zeros(FILLERS, dtype=torch.int64)
    )
    clips = torch.zeros((FILLERS, spec.frames, spec.height, spec.width, spec.channels), dtype=kind)
    return Batch(clips=clips, labels=labels, indices=torch.arange(FILLERS), bad=(), lengths=lengths)
