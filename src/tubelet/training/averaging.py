"""Follow the weights with a moving average, which is often the better model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keep an exponential moving average of a model's weights; buffers, such as running statistics, are copied.

    In its first steps the average forgets faster: after n steps it keeps at most (1 + n) / (10 + n) of itself, so that
    it does not stay near the weights that training began with.

    Args:
        model: what is followed.
        decay: share of itself that the average keeps at each step, below 1; 0.999 averages about the last 1000.

    Source: tf.train.ExponentialMovingAverage (`num_updates`).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        moving = {name for name, _ in model.named_parameters()}
        for name, value in model.state_dict().items():
            if name in moving and value.is_floating_point():
                self.values[name].lerp_(value, 1 - keep)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def lent(self, model: nn.Module) -> Iterator[None]:
        """Put the average into the model while the block lasts; its own weights come back whatever happens."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """Give what a checkpoint holds."""
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: Mapping[str, int | dict[str, Tensor]]) -> None:
        """Take what `state_dict` gave."""
        steps, values = state["steps"], state["values"]
        if isinstance(steps, int) and isinstance(values, dict):
            self.steps = steps
            for name, value in values.items():
                self.values[name].copy_(value)
