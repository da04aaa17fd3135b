"""Serve frames from a folder of images, one file a frame, in natural order (frame2 before frame10)."""

import re
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from tubelet.errors import Corrupt, NotAVideo, TooLarge
from tubelet.video.clip import Pixels, VideoInfo

__all__ = ["IMAGE_SUFFIXES", "FolderReader", "list_images"]

IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"])
MAX_PIXELS = 8192 * 4320


def list_images(folder: Path) -> list[Path]:
    """List the images directly inside a folder, in natural order; hidden files do not count."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    return sorted(images, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


class FolderReader:
    """Serve the images of a folder as the frames of a video; all must have one size.

    Raises:
        NotAVideo: no image in the folder.
        Corrupt: an image that cannot be read or has another size.
        TooLarge: an image beyond 8192x4320 pixels.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        try:
            self._paths = list_images(folder)
        except OSError as error:
            raise NotAVideo(f"cannot open {str(folder)!r} - {error.strerror} - check its permissions.") from None
        if not self._paths:
            raise NotAVideo(
                f"cannot read {str(folder)!r} as a video - it is a folder without images - "
                f"give a video file, or a folder of {', '.join(sorted(IMAGE_SUFFIXES))} files."
            )
        with self._open(self._paths[0]) as first:
            width, height = first.size
        count = len(self._paths)
        self.info = VideoInfo(count, height, width, fps, count / fps, "images", 0)

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return [index / self.info.fps for index in indices]

    def frames_at(self, indices: list[int]) -> Pixels:
        """Read these images as RGB."""
        return np.stack([self._read(self._paths[index]) for index in indices])

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _open(self, path: Path) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(path)
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise Corrupt(f"cannot read {str(path)!r} as an image - {error} - replace or remove it.") from None
        if image.width * image.height > MAX_PIXELS:
            image.close()
            raise TooLarge(
                f"cannot read {str(path)!r} - it has {image.width}x{image.height} pixels, the limit is {MAX_PIXELS} - "
                "scale it down."
            )
        return image

    def _read(self, path: Path) -> UInt8[np.ndarray, "height width 3"]:
        with self._open(path) as image:
            if image.size != (self.info.width, self.info.height):
                raise Corrupt(
                    f"cannot read {str(path)!r} - it has {image.width}x{image.height} pixels, the first frame has "
                    f"{self.info.width}x{self.info.height} - give images of one size."
                )
            try:
                return np.asarray(image.convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                raise Corrupt(f"cannot read {str(path)!r} as an image - {error} - replace or remove it.") from None
