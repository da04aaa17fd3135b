"""Hold what configurations say about the networks of `tubelet.models.backbones`. No torch here."""

from typing import Literal

from tubelet.errors import ConfigError, name_nearest

__all__ = ["GROUPS", "TIMM", "Embedder", "check_backbone", "check_width"]

Embedder = Literal["flatten", "conv", "cnn"]

TIMM = "timm:"
"""What the name of a backbone begins with that timm makes."""

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


def check_backbone(name: str, pretrained: bool) -> None:
    """Raise `ConfigError` for a backbone that nobody knows, or published weights for one that has none.

    Args:
        name: `none`, `small` or `timm:` and a model's name; whether timm has that model shows when it is built.
        pretrained: whether published weights are asked for.
    """
    is_timm = name.startswith(TIMM) and name != TIMM
    if name not in ("none", "small") and not is_timm:
        near = name_nearest(name, ("none", "small", f"{TIMM}resnet18")) or "."
        raise ConfigError(f"backbone must be none, small or {TIMM}NAME - found '{name}'{near}")
    if pretrained and not is_timm:
        raise ConfigError(
            f"backbone_pretrained=True needs a backbone with published weights - found backbone={name} - choose one "
            f"of timm's, such as backbone={TIMM}resnet18, or leave backbone_pretrained out."
        )
