"""Look at one clip: can it be read, what is it, what is odd about it, what does it show."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image

from tubelet import files
from tubelet.data.dataset import open_sample
from tubelet.data.features import read_features
from tubelet.data.fingerprints import MOMENTS, SIDE, Fingerprint, make_fingerprint
from tubelet.data.sample import Sample
from tubelet.data.shards import list_files
from tubelet.errors import TubeletError
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders import VOLUMES
from tubelet.video.opening import read_pieces
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

__all__ = ["Examination", "Examiner", "Problem"]

_CHUNK_BYTES = 128 * 2**20
"""Pixels that are held at once while many frames are decoded."""
_THUMB_PX = 96
_THUMBS = 3
_UNEVEN = 0.25
"""Share of the usual gap between frames by which some gap must differ for a clip to count as of variable rate."""

_USUAL_FPS = (4.0, 240.0)
"""Frames a second outside of which a clip was probably told the wrong rate."""

_SUFFIXES = {
    "mov": (".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".qt", ".mj2", ".f4v"),
    "matroska": (".mkv", ".webm", ".mka", ".mk3d"),
    "avi": (".avi", ".divx"),
    "mpegts": (".ts", ".m2ts", ".mts", ".m2t"),
    "mpeg": (".mpg", ".mpeg", ".vob", ".m2p"),
    "flv": (".flv",),
    "gif": (".gif",),
    "asf": (".wmv", ".asf"),
    "ogg": (".ogv", ".ogg"),
    "h264": (".h264", ".264", ".avc"),
    "hevc": (".hevc", ".h265", ".265"),
    "apng": (".png", ".apng"),
    "nifti": (".nii", ".gz"),
}
"""Endings that files of each kind usually have, the commonest first."""


@dataclass(frozen=True)
class Problem:
    """State one thing that is wrong or odd."""

    source: str
    code: str
    message: str
    is_error: bool = True
    """The clip, or the split, cannot be used as it is; otherwise worth knowing."""
    others: tuple[str, ...] = ()
    """Clips that it is compared with."""
    dropped: tuple[str, ...] = ()
    """Clips that a clean table does without; empty: the source alone."""


@dataclass(frozen=True)
class Examination:
    """Hold what was found out about one clip."""

    source: str
    problems: tuple[Problem, ...] = ()
    info: VideoInfo | None = None
    """None where it cannot be read."""
    digest: str = ""
    """Hash of the files' bytes, or of the row's pixels; and its span, where only a part is labelled."""
    fingerprint: Fingerprint | None = None
    thumbs: tuple[bytes, ...] = field(default=(), repr=False)
    """Small JPEG pictures of its beginning, middle and end."""


@dataclass(frozen=True)
class Examiner:
    """Examine clips one after another; picklable, for worker processes."""

    full: bool = False
    """Decode every frame of each clip, instead of the 32 that are compared and shown."""
    least_frames: int = 1
    """Clips of fewer frames are called short."""

    def __call__(self, sample: Sample) -> Examination:
        """Examine one clip; whatever is wrong with it becomes a problem of it."""
        try:
            if sample.features is not None:
                return self._examine_features(sample)
            empty = _find_empty(sample)
            if empty is not None:
                return Examination(sample.name, (empty,))
            with open_sample(sample) as video:
                return self._examine(sample, video)
        except TubeletError as error:
            return Examination(sample.name, (Problem(sample.name, error.code, str(error)),))

    def _examine_features(self, sample: Sample) -> Examination:
        spec = InputSpec(frames=sample.features.frames if sample.features else 1)
        (rows,) = read_features(sample, spec, generator=np.random.default_rng(0))
        return Examination(sample.name, info=VideoInfo(len(rows), 1, 1, 0.0, 0.0, "features", 0, rows.shape[1]))

    def _examine(self, sample: Sample, video: Video) -> Examination:
        info = video.info
        start_s, end_s = sample.span_s
        # The last frame's end is not always known to the frame: one more is no mistake of the table's.
        latest_s = info.duration_s + (1 / info.fps if info.fps > 0 else 0.0)
        is_part = sample.start_s is not None or sample.end_s is not None
        if is_part and (start_s >= info.duration_s or (sample.end_s is not None and end_s > latest_s)):
            lasts = f"cannot use {sample.name!r} - it lasts {info.duration_s:.3f} s - mend start_s and end_s."
            return Examination(sample.name, (Problem(sample.name, "span", lasts),))
        first, last = _find_frames(video, start_s, end_s)
        if self.full:
            _decode_all(video, first, last)
        places = np.linspace(first, last, MOMENTS).round().astype(int)
        small, thumbs = _look(video, places)
        seconds = float(video.times_s[last] - video.times_s[first]) + (1 / info.fps if info.fps > 0 else 0.0)
        return Examination(
            sample.name,
            (*self._find_odd(sample, video, last - first + 1), *_find_blank(sample, small)),
            info,
            _hash(sample, video),
            # Volumes are cut and centered to look alike: they are the same where every voxel is.
            None
            if sample.row is not None or info.codec in VOLUMES
            else make_fingerprint(small, video.times_s[places], seconds),
            thumbs,
        )

    def _find_odd(self, sample: Sample, video: Video, num_frames: int) -> Iterator[Problem]:
        """List what does not keep a clip from being read."""
        info, name = video.info, sample.name
        if num_frames == 1:
            yield Problem(name, "one_frame", f"{name!r} has one frame: nothing moves in it.", is_error=False)
        elif num_frames < self.least_frames:
            few = f"{name!r} has {num_frames} frames, a clip takes {self.least_frames}: some are shown twice."
            yield Problem(name, "short", few, is_error=False)
        if info.num_frames > 1 and not _USUAL_FPS[0] <= info.fps <= _USUAL_FPS[1]:
            rate = f"{name!r} has {info.fps:.4g} frames a second: its times are probably wrong; sample by frames."
            yield Problem(name, "odd_rate", rate, is_error=False)
        if info.rotation:
            turned = f"{name!r} is stored turned by {info.rotation} degrees; it is turned back when it is read."
            yield Problem(name, "rotated", turned, is_error=False)
        if _is_uneven(video.times_s):
            uneven = f"{name!r} has a variable frame rate, {info.fps:.2f} a second on average: sample by seconds."
            yield Problem(name, "variable_rate", uneven, is_error=False)
        path = Path(sample.source if sample.extent is None else str(sample.member))
        kind = video.container
        if kind and path.suffix.lower() not in _SUFFIXES.get(kind, (path.suffix.lower(),)):
            usual = _SUFFIXES[kind][0]
            named = (
                f"{name!r} ends in '{path.suffix}' but holds {kind}, usually '{usual}': other programs may refuse it."
            )
            yield Problem(name, "wrong_extension", named, is_error=False)


def _find_empty(sample: Sample) -> Problem | None:
    path = Path(sample.source)
    if path.is_file() and path.stat().st_size == 0:
        return Problem(sample.name, "empty", f"cannot use {sample.name!r} - the file has no bytes - fetch it again.")
    return None


def _find_frames(video: Video, start_s: float, end_s: float) -> tuple[int, int]:
    """Return the first and the last frame of a time span; at least one frame."""
    first, end = np.searchsorted(video.times_s, [start_s, end_s]).tolist()
    first = min(first, video.info.num_frames - 1)
    return first, max(end - 1, first)


def _decode_all(video: Video, first: int, last: int) -> None:
    info = video.info
    step = max(_CHUNK_BYTES // (info.height * info.width * info.channels), 1)
    for start in range(first, last + 1, step):
        video.frames_at(range(start, min(start + step, last + 1)))


def _is_uneven(times_s: Float64[np.ndarray, " frame"]) -> bool:
    """Tell whether frames are shown for different times: more often than a rounding of time stamps explains."""
    gaps = np.diff(times_s)
    if len(gaps) < 4:
        return False
    usual = float(np.median(gaps))
    uneven = np.abs(gaps - usual) > _UNEVEN * usual + 0.002
    return bool(uneven.mean() > 0.02 and uneven.sum() > 1)


def _find_blank(sample: Sample, small: UInt8[np.ndarray, "moment row column"]) -> Iterator[Problem]:
    if int(small.max()) - int(small.min()) <= 2:
        blank = f"{sample.name!r} shows one plain color from beginning to end."
        yield Problem(sample.name, "blank", blank, is_error=False)


def _hash(sample: Sample, video: Video) -> str:
    """Hash what decides the pixels: a file's bytes, the bytes of each image of a folder, or a row of an array."""
    if sample.row is not None:
        pixels = video.frames().pixels
        return f"{files.hash_bytes(pixels.tobytes())} {pixels.shape}"
    hashes = [files.hash_pieces(read_pieces(file)) for file in list_files(sample)]
    if video.info.codec == "dicom":
        hashes.sort()  # slices are put in order by what they hold, whatever their names
    content = hashes[0] if len(hashes) == 1 else files.hash_bytes(" ".join(hashes).encode("ascii"))
    return f"{content} {sample.span_s}"


def _look(
    video: Video, places: Int64[np.ndarray, " moment"]
) -> tuple[UInt8[np.ndarray, "moment 16 16"], tuple[bytes, ...]]:
    """Decode some frames, a few at a time; return small gray pictures of all and thumbnails of a few."""
    info = video.info
    unique, inverse = np.unique(places, return_inverse=True)
    step = max(_CHUNK_BYTES // (info.height * info.width * info.channels), 1)
    shown = set(unique[np.linspace(0, len(unique) - 1, _THUMBS).round().astype(int)].tolist())
    small, thumbs = [], []
    for start in range(0, len(unique), step):
        part = unique[start : start + step].tolist()
        pixels = video.frames_at(part).pixels
        small.append(_shrink(pixels))
        thumbs += [_draw_thumb(frame) for place, frame in zip(part, pixels, strict=True) if place in shown]
    return np.concatenate(small)[inverse], tuple(thumbs)


def _shrink(pixels: Pixels) -> UInt8[np.ndarray, "time 16 16"]:
    """Make small gray pictures of frames, each pixel the mean of what it covers."""
    small = [np.asarray(_to_gray(frame).resize((SIDE, SIDE), Image.Resampling.BOX)) for frame in pixels]
    return np.stack(small)


def _to_gray(frame: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    if frame.shape[2] == 3:
        return Image.fromarray(frame).convert("L")
    return Image.fromarray(np.ascontiguousarray(frame[..., 0]))


def _draw_thumb(frame: UInt8[np.ndarray, "height width channel"]) -> bytes:
    picture = Image.fromarray(frame) if frame.shape[2] == 3 else _to_gray(frame)
    picture.thumbnail((_THUMB_PX, _THUMB_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
