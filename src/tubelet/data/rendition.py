"""Store a clip anew, cheaper to read: as short video with many key frames, or as the frames that a model will take.

sample  ->  open  ->  labelled part  ->  Encoding: every frame, smaller       ->  a.mp4
                                     ->  FrameStore: some frames, smaller     ->  a/000.jpg ...  |  a.npz
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tubelet import files
from tubelet.data.arrays import load_row
from tubelet.data.dataset import find_span, open_sample
from tubelet.data.sample import Sample
from tubelet.errors import ConfigError, DataError
from tubelet.shapes import Size
from tubelet.video.clip import Pixels
from tubelet.video.decoders import VOLUMES
from tubelet.video.encoding import Encoding, encode_frames, shrink_size
from tubelet.video.sampling import plan
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

__all__ = ["FrameStore", "Mode", "Rendition", "name_ending", "render"]

Mode = Literal["uniform", "linspace", "dense", "random", "first"]
"""How frames are chosen; as `InputSpec.sampling`."""


@dataclass(frozen=True)
class FrameStore:
    """State which frames of a clip are stored, and how; their times are not."""

    frames: int
    """Frames of each clip; a shorter one is filled up as `InputSpec.short` says."""
    mode: Mode = "uniform"
    """How they are chosen; `random` draws once, by the clip's name and `seed`."""
    store: Literal["jpeg", "npz"] = "jpeg"
    """A folder of JPEG images a clip, or an exact array in an .npz file."""
    quality: int = 90
    """Of JPEG, 1 to 100."""
    short_side: int | None = None
    """Scale the short side down to this many pixels; smaller frames and None stay as they are."""
    seed: int = 0
    """Another one draws other frames."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1 - found {self.frames} - 32 is usual.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100 - found {self.quality} - 90 is usual.")
        if self.short_side is not None and self.short_side < 1:
            raise ConfigError(f"short_side must be at least 1 - found {self.short_side} - 256 is usual.")


Rendition = Encoding | FrameStore


def name_ending(rendition: Rendition) -> str:
    """Give the ending of what `render` writes; none for a folder."""
    if isinstance(rendition, Encoding):
        return ".mp4"
    return ".npz" if rendition.store == "npz" else ""


def render(sample: Sample, target: Path, rendition: Rendition) -> None:
    """Write the labelled part of a clip as a file or folder of its own, whole or not at all.

    Args:
        sample: a video, frames, or a row of pixels.
        target: the file or folder; its name decides what `random` draws.
        rendition: what to write.

    Raises:
        VideoError: a clip that cannot be read.
        DataError: pixels that cannot be stored so, or a volume of measured numbers.
        DiskFull: no room.

    Cost: of UCF101 clips (7 s of 320x240, to 170x128) on one core, 0.43 s to encode, 0.05 s for 32 JPEG images.
    """
    with open_sample(sample) as video:
        _refuse_volume(sample, video)
        first, last = find_span(sample, video.times_s)
        if isinstance(rendition, Encoding):
            with files.write_whole(target) as stream:
                encode_frames(video, stream, first, last, rendition)
            return
        pixels = _shrink(sample, _choose_frames(video, first, last, rendition, target.name), rendition.short_side)
    if rendition.store == "npz":
        with files.write_whole(target) as stream:
            np.savez_compressed(stream, frames=pixels)
    else:
        _write_images(sample, pixels, target, rendition.quality)


def _refuse_volume(sample: Sample, video: Video) -> None:
    """Refuse numbers whose unit and spacing would be lost: no window could be chosen for them any more."""
    numbers = load_row(sample.source, sample.member or "", sample.row) if sample.row is not None else None
    if video.info.codec in VOLUMES or (numbers is not None and numbers.dtype != np.uint8):
        raise DataError(
            f"cannot store '{sample.name}' anew - it is a volume, whose numbers and spacing would be lost - use it as "
            "it is."
        )


def _choose_frames(video: Video, first: int, last: int, rendition: FrameStore, name: str) -> Pixels:
    info = video.info
    part = replace(info, num_frames=last - first, duration_s=info.duration_s * (last - first) / info.num_frames)
    spec = InputSpec(frames=rendition.frames, sampling=rendition.mode)
    # The same draw on every machine, whatever the order of the clips.
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.default_rng([rendition.seed, drawn])
    (indices,) = plan(part, spec, training=rendition.mode == "random", generator=generator) + first
    return video.frames_at(indices.tolist()).pixels


def _shrink(sample: Sample, pixels: Pixels, short_side: int | None) -> UInt8[np.ndarray, "time row column channel"]:
    whole = Size(*pixels.shape[1:3])
    size = shrink_size(whole, short_side)
    if size == whole:
        return pixels
    if pixels.shape[-1] not in (1, 3):
        raise _refuse_channels(sample, pixels, "leave out --short-side")
    scaled = (
        _to_image(frame).resize((size.width, size.height), Image.Resampling.BICUBIC, reducing_gap=None)
        for frame in pixels
    )
    return np.stack([np.asarray(image).reshape(*size, -1) for image in scaled])


def _write_images(sample: Sample, pixels: Pixels, target: Path, quality: int) -> None:
    if pixels.shape[-1] not in (1, 3):
        raise _refuse_channels(sample, pixels, "store such frames with --store npz")
    digits = max(len(str(len(pixels) - 1)), 3)
    with files.replace_folder(target) as folder:
        for number, frame in enumerate(pixels):
            _to_image(frame).save(folder / f"{number:0{digits}d}.jpg", "JPEG", quality=quality)


def _to_image(frame: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))


def _refuse_channels(sample: Sample, pixels: Pixels, remedy: str) -> DataError:
    return DataError(f"cannot store '{sample.name}' as pictures - it has {pixels.shape[-1]} channels - {remedy}.")
