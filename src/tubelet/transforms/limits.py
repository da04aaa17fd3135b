"""State between which limits the numbers of an augmentation lie."""

from typing import Literal, get_args, get_origin, get_type_hints

from tubelet.errors import ConfigError, name_nearest

__all__ = ["check_amounts"]

SHARES = ("color_chance", "grayscale", "blur", "erasing", "mixing", "cutmix_share", "policy_chance")
AMOUNTS = {
    "hue": (0, 0.5, "0 is off, 0.1 is usual"),
    "rotation": (0, 180, "0 is off, 15 is usual"),
    "fill": (0, 255, "0 is black"),
    "policy_ops": (1, 16, "2 is usual"),
    "policy_magnitude": (0, 30, "9 is usual; timm counts to 10, so its m7 is 21"),
    "policy_std": (0, 30, "0 keeps the magnitude; timm's mstd0.5 is 1.5"),
    "mixup": (0, float("inf"), "0 is off, 0.8 is usual"),
    "cutmix": (0, float("inf"), "0 is off, 1.0 is usual"),
    "repeats": (1, 64, "1 is off, 2 is usual"),
}
"""Least and greatest value, and what to choose."""
RANGES = {
    "blur_sigma": ("(0.1, 2.0)", float("inf")),
    "erasing_scale": ("(0.02, 0.33)", 1.0),
    "erasing_ratio": ("(0.3, 3.3)", float("inf")),
    "speed": ("(0.8, 1.25)", float("inf")),
}
"""A usual pair, and what the greater one may reach."""


def check_amounts(augmentation: object) -> None:
    """Make sure that every number of an `Augmentation` lies where it makes sense, and that every choice exists.

    Raises:
        ConfigError: one does not.
    """
    for name, (least, most, advice) in (AMOUNTS | dict.fromkeys(SHARES, (0, 1, "it is a share of the clips"))).items():
        value = getattr(augmentation, name)
        if not least <= value <= most or value == float("inf"):
            bounds = f"must lie in {least}..{most}" if most < float("inf") else f"must be {least} or more"
            raise ConfigError(f"augmentation.{name} {bounds} - found {value} - {advice}.")
    for name, (usual, most) in RANGES.items():
        low, high = getattr(augmentation, name)
        if not 0 < low <= high <= most or high == float("inf"):
            bound = f" <= {most:g}" if most < float("inf") else ""
            raise ConfigError(
                f"augmentation.{name} needs 0 < least <= greatest{bound} - found {(low, high)} - {usual} is usual."
            )
    for name, hint in get_type_hints(type(augmentation)).items():
        if get_origin(hint) is Literal and getattr(augmentation, name) not in get_args(hint):
            near = name_nearest(str(getattr(augmentation, name)), get_args(hint)) or "."
            raise ConfigError(
                f"augmentation.{name} must be one of {', '.join(get_args(hint))} - found "
                f"'{getattr(augmentation, name)}'{near}"
            )
