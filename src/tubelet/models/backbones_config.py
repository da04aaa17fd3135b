"""Hold what configurations say about the networks of `tubelet.models.backbones`. No torch here."""

from typing import Literal

from tubelet.errors import ConfigError

__all__ = ["GROUPS", "Embedder", "check_width"]

Embedder = Literal["flatten", "conv", "cnn"]

GROUPS = 4
"""Groups of channels that the normalization after a convolution counts together."""


def check_width(name: str, width: int) -> None:
    """Raise `ConfigError` where three convolutions cannot end `width` channels wide: the first has a quarter of them.

    Args:
        name: the hyper-parameter that is checked.
        width: channels of the last convolution.
    """
    step = 4 * GROUPS
    if width < step or width % step:
        nearest = max(round(width / step), 1) * step
        raise ConfigError(
            f"{name} is the width of the last convolution, a multiple of {step} - found {name}={width} - "
            f"the nearest good one is {name}={nearest}."
        )
