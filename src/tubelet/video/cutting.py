"""Cut a part out of a video, exact to the frame.

    source      |----------------===========----------|
                           start_s         end_s
    target                       ===========             first frame at 0, the others at their distances

Copying packets would cut at key frames, seconds off; so the part is decoded and encoded again, in H.264 of high
quality.
"""

import os

import numpy as np

from tubelet import files
from tubelet.errors import FrameOutOfRange
from tubelet.video.encoding import Encoding, encode_frames
from tubelet.video.source import Video

__all__ = ["cut_clip"]


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
        with files.write_whole(target) as stream:
            encode_frames(video, stream, first, last, Encoding())
    return last - first
