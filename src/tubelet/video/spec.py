"""State the input contract of a model: everything between a decoded clip and the tensor it scores.

The contract is stored inside every checkpoint, so that training, evaluation and prediction cannot disagree about it.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from tubelet.errors import ConfigError, name_nearest
from tubelet.video.volumes import VolumeView

__all__ = ["InputSpec"]


@dataclass(frozen=True)
class InputSpec:
    """State which frames a model sees, at which size, and in which numeric range.

    A clip of `frames` frames is chosen by `sampling`, fitted to (`height`, `width`), scaled to 0..1, normalized by
    `mean` and `std`, and handed over as float (batch, channel, time, height, width).

    Features that another network made of each frame go the same way as clips of height and width 1, their numbers as
    channels: they are standardized by `mean` and `std` in their own unit, and a clip of fewer frames stays shorter.
    """

    kind: Literal["pixels", "features"] = "pixels"
    """What the model takes: pixels, or features of frames that another network computed before."""
    frames: int = 16
    """Frames (or slices of a volume) in one clip."""
    height: int = 224
    """Height of the model's input in pixels."""
    width: int = 224
    """Width of the model's input in pixels."""
    channels: int = 3
    """Channels of the source: 3 for RGB, 1 for gray volumes, any number for arrays; numbers in a frame's features."""
    sampling: Literal["uniform", "linspace", "dense", "random", "first"] = "uniform"
    """How frames are chosen: over the whole video (uniform, linspace, random) or from one stretch (dense, first)."""
    stride: int = 1
    """Frames from one sampled frame to the next; for dense sampling."""
    rate_fps: float | None = None
    """Sample dense clips at this many frames per second instead of by `stride`, so that seconds count, not frames."""
    convention: Literal["mmaction2", "slowfast", "videomae", "dmvr"] = "mmaction2"
    """Whose exact rounding and offset formulas to follow; differs by up to three frames at the clip's end."""
    short: Literal["repeat_last", "loop"] = "repeat_last"
    """What fills a clip when the video is too short for it; features are not filled up."""
    fit: Literal["crop", "stretch"] = "crop"
    """Reach the size by scaling the short side and cropping the middle, or by stretching both sides."""
    short_side: int | None = None
    """Scale the short side to this many pixels before the middle is cropped; without it just far enough to cover."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from values in 0..1, or from features; one number, or one per channel. None at all for features that
    were not measured: training measures them on its clips, and until then they pass as they are."""
    std: tuple[float, ...] = (0.5,)
    """Divides after the mean is subtracted; one number, or one per channel; none for features, as with the mean."""
    window: tuple[float, float] | None = None
    """Numbers of a volume (HU of CT, ...) that become black and white, such as -1000 400; None: the 0.5 and 99.5
    percentiles of each volume."""
    spacing_mm: tuple[float, float, float] | None = None
    """Distance of slices, rows and columns in mm that volumes are brought to; None leaves them as they are."""
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
            if count not in (1, self.channels) and (count or self.kind == "pixels"):
                raise ConfigError(
                    f"input.{name} needs 1 or {self.channels} numbers - found {count} - give one, or one per channel."
                )
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"input.std divides, so it must be positive - found {self.std} - 0.5 is usual.")
        if self.rate_fps is not None and self.rate_fps <= 0:
            raise ConfigError(f"input.rate_fps must be positive - found {self.rate_fps} - give frames per second.")
        self._check_volume()
        if self.kind == "features":
            self._check_features()

    def _check_features(self) -> None:
        absent = ("rate_fps", "window", "spacing_mm")
        wanted = {"height": 1, "width": 1, "differences": "none", **dict.fromkeys(absent)}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"input.{name} is for pixels - found {getattr(self, name)} with input.kind features - "
                    f"leave it at {'none' if value is None else value}."
                )
        if bool(self.mean) != bool(self.std):
            raise ConfigError(
                f"input.mean and input.std are measured together - found {len(self.mean)} and {len(self.std)} numbers "
                "- give both, or neither."
            )

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

    def _check_volume(self) -> None:
        window, spacing = self.window, self.spacing_mm
        if window is not None and not (all(map(math.isfinite, window)) and window[0] < window[1]):
            raise ConfigError(f"input.window must rise - found {window} - give black, then white, such as -1000 400.")
        if spacing is not None and not all(math.isfinite(side) and side > 0 for side in spacing):
            raise ConfigError(f"input.spacing_mm must be positive - found {spacing} - give mm, such as 2 1 1.")

    @property
    def volume(self) -> VolumeView:
        """Say how the numbers of a volume become pixels, for whoever opens it."""
        return VolumeView(self.window, self.spacing_mm)

    @property
    def input_channels(self) -> int:
        """Count the channels the model receives, differences included."""
        return self.channels * (2 if self.differences == "append" else 1)
