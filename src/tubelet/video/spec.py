"""State the input contract of a model: everything between a decoded clip and the tensor it scores.

The contract is stored inside every checkpoint, so that training, evaluation and prediction cannot disagree about it.
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from tubelet.errors import ConfigError, name_nearest

__all__ = ["InputSpec"]


@dataclass(frozen=True)
class InputSpec:
    """State which frames a model sees, at which size, and in which numeric range.

    A clip of `frames` frames is chosen by `sampling`, fitted to (`height`, `width`), scaled to 0..1, normalized by
    `mean` and `std`, and handed over as float (batch, channel, time, height, width).
    """

    frames: int = 16
    """Frames (or slices of a volume) in one clip."""
    height: int = 224
    """Height of the model's input in pixels."""
    width: int = 224
    """Width of the model's input in pixels."""
    channels: int = 3
    """Channels of the source: 3 for RGB, 1 for gray volumes, any number for arrays."""
    sampling: Literal["uniform", "linspace", "dense", "random", "first"] = "uniform"
    """How frames are chosen: over the whole video (uniform, linspace, random) or from one stretch (dense, first)."""
    stride: int = 1
    """Frames from one sampled frame to the next; for dense sampling."""
    rate_fps: float | None = None
    """Sample dense clips at this many frames per second instead of by `stride`, so that seconds count, not frames."""
    convention: Literal["mmaction2", "slowfast", "videomae", "dmvr"] = "mmaction2"
    """Whose exact rounding and offset formulas to follow; differs by up to three frames at the clip's end."""
    short: Literal["repeat_last", "loop"] = "repeat_last"
    """What fills a clip when the video is too short for it."""
    fit: Literal["crop", "stretch"] = "crop"
    """Reach the size by scaling the short side and cropping the middle, or by stretching both sides."""
    short_side: int | None = None
    """Scale the short side to this many pixels before the middle is cropped; without it just far enough to cover."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from values in 0..1; one number, or one per channel."""
    std: tuple[float, ...] = (0.5,)
    """Divides after the mean is subtracted; one number, or one per channel."""
    differences: Literal["none", "append", "only"] = "none"
    """Give the model frame-to-frame differences beside the pixels (append) or instead of them (only)."""

    def __post_init__(self) -> None:
        self._check_choices()
        for name in ("frames", "height", "width", "channels", "stride"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"input.{name} must be at least 1 - found {value} - give a positive whole number.")
        self._check_short_side()
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            if count not in (1, self.channels):
                raise ConfigError(
                    f"input.{name} needs 1 or {self.channels} numbers - found {count} - give one, or one per channel."
                )
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"input.std divides, so it must be positive - found {self.std} - 0.5 is usual.")
        if self.rate_fps is not None and self.rate_fps <= 0:
            raise ConfigError(f"input.rate_fps must be positive - found {self.rate_fps} - give frames per second.")

    def _check_choices(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                near = name_nearest(str(getattr(self, name)), get_args(hint)) or "."
                raise ConfigError(
                    f"input.{name} must be one of {', '.join(get_args(hint))} - found '{getattr(self, name)}'{near}"
                )

    def _check_short_side(self) -> None:
        if self.short_side is None:
            return
        if self.fit == "stretch":
            raise ConfigError(
                f"input.short_side belongs to fit 'crop' - found {self.short_side} with fit 'stretch' - leave it out."
            )
        if self.short_side < max(self.height, self.width):
            raise ConfigError(
                f"input.short_side must cover the crop of {self.height} x {self.width} - found {self.short_side} - "
                f"give at least {max(self.height, self.width)}."
            )

    @property
    def input_channels(self) -> int:
        """Count the channels the model receives, differences included."""
        return self.channels * (2 if self.differences == "append" else 1)
