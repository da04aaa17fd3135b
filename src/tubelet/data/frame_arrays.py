"""Read a clip whose frames are stored as an array in an .npz file of its own."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tubelet.data.arrays import load_array, read_headers
from tubelet.data.sample import quote_some
from tubelet.errors import DataError
from tubelet.video.opening import FileRange, read_pieces

__all__ = ["load_frames"]

_FRAMES = "frames"


def load_frames(source: str | FileRange) -> UInt8[np.ndarray, "..."]:
    """Read the frames of a clip, uint8 (time, height, width[, channel]): the array `frames`, or the only one.

    Args:
        source: path of an .npz file, or its place within a larger file.

    Raises:
        DataError: no .npz file, one that promises other than it holds, or no array of pixels in it.
        VideoError: no such file.
    """
    name = source.name if isinstance(source, FileRange) else source
    content = b"".join(read_pieces(source))
    headers = read_headers(Path(name), content)
    member = _FRAMES if _FRAMES in headers or len(headers) != 1 else next(iter(headers))
    if member not in headers or headers[member].dtype != np.uint8 or len(headers[member].shape) not in (3, 4):
        raise DataError(
            f"cannot read '{name}' as a clip - it holds {quote_some(list(headers)) or 'nothing'} - store '{_FRAMES}' "
            "as uint8 (time, height, width[, channel])."
        )
    return load_array(name, member, content)
