"""Write a world as a folder of real videos with a manifest.

my-world/
  world.json               what was asked for, and what is known about the answers
  manifest.csv             path,label,split
  train/up/000000.mp4
  ...
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import numpy as np

from tubelet.errors import ConfigError, DataError
from tubelet.video.synthetic.scenes import Pixels
from tubelet.video.synthetic.worlds import WORLDS, World, draw_clip

__all__ = ["SPLITS", "VERSION", "make_world", "seed_clip", "write_video"]

SPLITS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.15, "test": 0.15})
"""Shares of the clips when only their total is given."""

VERSION = 1
"""Raised whenever the same request gives other pixels."""

_ENCODER = {
    "preset": "veryfast",
    "crf": "12",
    "g": "8",
    "bf": "0",
    # Without it x264 decides a little differently on processors with other vector instructions.
    "x264-params": "cpu-independent=1",
}


@dataclass(frozen=True)
class _Request:
    """Hold everything that decides the bytes of a world."""

    world: str
    version: int
    seed: int
    clips: Mapping[str, int]
    frames: int
    height: int
    width: int
    fps: int


def make_world(
    name: str,
    folder: str | os.PathLike[str],
    *,
    clips: int | Mapping[str, int] = 1200,
    frames: int = 16,
    height: int = 48,
    width: int = 48,
    fps: int = 16,
    seed: int = 42,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the clips of a world as .mp4 files with a manifest, or find them there already.

    The folder appears whole or not at all. Each clip depends on the seed, its split and its number alone: more clips
    of a split begin with the same ones. In each split the classes take turns, so that their counts differ by one at
    most.

    Args:
        name: a world in `WORLDS`.
        folder: where the world goes; must be absent, empty, or hold exactly this world.
        clips: how many in each split, or in all (shared out as 70 % train, 15 % val, 15 % test).
        frames: of every clip; at least 8.
        height: in pixels; even.
        width: in pixels; even.
        fps: frames per second of the videos; the motion is stated per frame and does not depend on it.
        seed: start of everything random.
        progress: called with (clips written, clips in all) after each clip.

    Returns:
        The path of `manifest.csv`, whose paths are relative to its folder.

    Raises:
        UnknownName: no such world.
        ConfigError: an odd or too small size, a rate or number of clips below 1.
        DataError: the folder holds something else, or only a part of this world.

    Cost: about 6 ms a clip of 16 frames of 48x48 on one core, and about 13 kB.
    """
    world = WORLDS[name]
    counts = _share_out(clips) if isinstance(clips, int) else dict(clips)
    request = _Request(world.name, VERSION, seed, counts, frames, height, width, fps)
    _check_request(request)
    target = Path(folder)
    if not _holds(target, request):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Its own name for each process: two that start together may make the same world, and the first one wins.
        partial = target.parent / f".{target.name}.{os.getpid()}.partial"
        try:
            _write_world(partial, request, progress)
            _publish(partial, target, request)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target / "manifest.csv"


def seed_clip(world: str, split: str, index: int, seed: int) -> np.random.Generator:
    """Return the generator of one clip, so that any clip can be drawn again without its predecessors."""
    return np.random.default_rng([seed, crc32(world.encode()), crc32(split.encode()), index])


def write_video(path: str | os.PathLike[str], pixels: Pixels, *, fps: int = 16) -> None:
    """Encode a clip as H.264 (4:2:0, BT.601, a key frame every 8 frames) nearly without loss.

    The same pixels give the same bytes with the same build of the codec, whatever the processor.

    Args:
        path: of the .mp4 file.
        pixels: uint8 RGB (time, height, width, 3), height and width even.
        fps: frames per second.

    Cost: about 4 ms for 16 frames of 48x48 on one core.
    """
    import av  # here, so that drawing needs no codec
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

    exact = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP
    convert = VideoReformatter()
    with av.open(os.fspath(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=fps, options=_ENCODER)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.colorspace, codec.color_range = Colorspace.ITU601, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame = convert.reformat(frame, format="yuv420p", interpolation=exact, threads=1)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


@dataclass(frozen=True)
class _Item:
    """Name one clip of a world."""

    path: str
    label: str
    split: str
    index: int


def _share_out(total: int) -> dict[str, int]:
    counts = {split: int(share * total) for split, share in SPLITS.items()}
    counts["train"] += total - sum(counts.values())
    return counts


def _check_request(request: _Request) -> None:
    height, width, counts = request.height, request.width, request.clips
    if height % 2 or width % 2:
        raise ConfigError(
            f"videos of {height}x{width} pixels were asked for - 4:2:0 video stores one color for 2x2 pixels - "
            f"ask for {height + height % 2}x{width + width % 2}."
        )
    if request.fps < 1:
        raise ConfigError(f"fps must be at least 1 - found {request.fps} - give whole frames per second.")
    if not counts or min(counts.values()) < 0 or sum(counts.values()) < 1:
        raise ConfigError(f"clips must be positive - found {dict(counts)} - give a number, or one for each split.")
    for split in counts:
        if not split.replace("-", "_").isidentifier():
            raise ConfigError(f"a split cannot be called '{split}' - it names a folder - use a plain word.")


def _list_items(request: _Request) -> Iterator[_Item]:
    classes = WORLDS[request.world].classes
    for split, count in request.clips.items():
        for index in range(count):
            label = classes[index % len(classes)]
            yield _Item(f"{split}/{label}/{index:06d}.mp4", label, split, index)


def _holds(target: Path, request: _Request) -> bool:
    """Say whether the world is there already; raise where something else is in its place."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    wish = f"world '{request.world}' was to go to '{target}'"
    remedy = "choose another folder, or remove this one"
    try:
        found = dict(json.loads((target / "world.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{wish} - something that is no world is there - {remedy}.") from error
    other = [
        f"{key} {found.get(key)} instead of {value}"
        for key, value in asdict(request).items()
        if found.get(key) != value
    ]
    if other:
        raise DataError(f"{wish} - a world with {', '.join(other)} is there - {remedy}.")
    missing = [item.path for item in _list_items(request) if not (target / item.path).is_file()]
    if missing or not (target / "manifest.csv").is_file():
        first = missing[0] if missing else "manifest.csv"
        raise DataError(f"{wish} - it is there, but '{first}' and {max(len(missing) - 1, 0)} more are gone - {remedy}.")
    return True


def _write_world(partial: Path, request: _Request, progress: Callable[[int, int], None] | None) -> None:
    items = list(_list_items(request))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for number, item in enumerate(items, start=1):
        path = partial / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw_clip(
            request.world,
            item.label,
            frames=request.frames,
            height=request.height,
            width=request.width,
            generator=seed_clip(request.world, item.split, item.index, request.seed),
            split=item.split,
        )
        write_video(path, pixels, fps=request.fps)
        if progress is not None:
            progress(number, len(items))
    with (partial / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "split"])
        table.writerows([item.path, item.label, item.split] for item in items)
    facts = asdict(request) | _describe(WORLDS[request.world])
    (partial / "world.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _describe(world: World) -> dict[str, object]:
    return {
        "classes": list(world.classes),
        "partners": dict(world.partners),
        "mirrors_horizontal": dict(world.mirrors_horizontal),
        "mirrors_vertical": dict(world.mirrors_vertical),
        "expected": dict(world.expected),
    }


def _publish(partial: Path, target: Path, request: _Request) -> None:
    """Give the finished folder its name; where somebody else was faster with the same world, keep theirs."""
    try:
        partial.replace(target)
    except OSError:
        if not _holds(target, request):
            raise
