"""Cut a part out of a video, exact to the frame.

    source      |----------------===========----------|
                           start_s         end_s
    target                       ===========             first frame at 0, the others at their distances

Copying packets would cut at key frames, seconds off; so the part is decoded and encoded again, in H.264 of high
quality.
"""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from tubelet.errors import FrameOutOfRange
from tubelet.video.source import Video

__all__ = ["cut_clip"]

TICKS = 90_000
"""Ticks of a second: rates such as 30000/1001 are exact in them."""
CHUNK = 32
"""Frames in memory at a time."""
_ENCODER = {"preset": "fast", "crf": "16"}


def cut_clip(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    start_s: float,
    end_s: float,
    *,
    decoder: str = "pyav",
) -> int:
    """Write the frames that are first shown in [start_s, end_s) of a video as an .mp4 file of their own.

    Sound is left out. An odd last row or column is cut off, because 4:2:0 video has even sizes.

    Args:
        source: a video.
        target: the .mp4 file; it appears whole or not at all.
        start_s: in seconds from the first frame.
        end_s: in seconds from the first frame, excluded; may lie beyond the end.
        decoder: which backend reads the source.

    Returns:
        The number of frames written.

    Raises:
        FrameOutOfRange: no frame begins in that span.
        VideoError: a source that cannot be read.

    Cost: about one second for ten of 340x256 video, on one core.
    """
    with Video(source, decoder=decoder) as video:
        first, last = (int(place) for place in np.searchsorted(video.times_s, (start_s, end_s)))
        if first >= last:
            raise FrameOutOfRange(
                f"cannot cut {start_s:g} s to {end_s:g} s out of {video.name!r} - no frame begins there, the last one "
                f"begins at {video.times_s[-1]:.3f} s - correct the times."
            )
        final = Path(target)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.stem}.{os.getpid()}.mp4")
        try:
            _encode(video, temporary, first, last)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
    return last - first


def _encode(video: Video, path: Path, first: int, last: int) -> None:
    import av  # here, so that what only reads arrays needs no codec
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    info = video.info
    height, width = info.height // 2 * 2, info.width // 2 * 2
    with av.open(os.fspath(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(info.fps).limit_denominator(1001), options=_ENCODER)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, TICKS)
        codec.thread_count = 1
        codec.colorspace, codec.color_range = Colorspace.ITU601, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M
        start_s = float(video.times_s[first])
        for begin in range(first, last, CHUNK):
            clip = video.frames_at(range(begin, min(begin + CHUNK, last)))
            pixels = clip.pixels[:, :height, :width]
            if pixels.shape[-1] == 1:
                pixels = np.repeat(pixels, 3, axis=-1)
            for picture, time_s in zip(pixels, clip.times_s, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
                )
                frame.pts, frame.time_base = round((time_s - start_s) * TICKS), Fraction(1, TICKS)
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
