"""Serve frames from images, one file a frame: a folder of them in natural order (frame2 before frame10), or a list."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from tubelet.errors import Corrupt, NotAVideo, TooLarge, UnsupportedCodec, VideoError
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders.silence import muted_warnings
from tubelet.video.opening import MAX_PIXELS, FileRange, open_file

__all__ = ["IMAGE_SUFFIXES", "MAX_IMAGE_BYTES", "ImageReader", "list_images", "open_folder", "order_naturally"]

IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"])
MAX_IMAGE_BYTES = 256 << 20

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""What the endings promise; Pillow knows many more, and one of them (EPS) starts another program."""

_MODES = frozenset(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
_MODES_16_BIT = frozenset(["I;16", "I;16L", "I;16B", "I;16N"])


def list_images(folder: Path) -> list[Path]:
    """List the images directly inside a folder, in natural order; hidden files do not count."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    return sorted(images, key=lambda path: order_naturally(path.name))


def order_naturally(name: str) -> list[tuple[int, str]]:
    """Give the key by which names are sorted so that numbers in them count as such.

    Example:
        >>> sorted(["frame10.png", "frame2.png"], key=order_naturally)
        ['frame2.png', 'frame10.png']
    """
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def open_folder(folder: Path, fps: float) -> "ImageReader":
    """Open a folder of images as a video.

    Raises:
        NotAVideo: a folder without images, or one that may not be listed.
        VideoError: what `ImageReader` raises.
    """
    try:
        images = list_images(folder)
    except OSError as error:
        raise NotAVideo(f"cannot open {str(folder)!r} - {error.strerror} - check its permissions.") from None
    if not images:
        raise NotAVideo(
            f"cannot read {str(folder)!r} as a video - it is a folder without images - "
            f"give a video file, or a folder of {', '.join(sorted(IMAGE_SUFFIXES))} files."
        )
    return ImageReader(images, fps)


class ImageReader:
    """Serve images as the frames of a video; all must have one size.

    Pictures are shown upright, as their EXIF orientation says; transparency is dropped; 16-bit gray is scaled to 8 bit.

    Raises:
        NotAVideo: something that is no regular file under an image's name.
        Corrupt: an image that cannot be read or has another size.
        UnsupportedCodec: an image of floats or 32-bit integers, whose range nobody knows.
        TooLarge: an image beyond 8192x4320 pixels or 256 MB.
    """

    def __init__(self, images: Sequence[Path | FileRange], fps: float) -> None:
        self._images = images
        with _open(images[0]) as first:
            width, height = _measure_upright(first)
        count = len(images)
        self.info = VideoInfo(count, height, width, fps, count / fps, "images", 0)

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return [index / self.info.fps for index in indices]

    def frames_at(self, indices: list[int]) -> Pixels:
        """Read these images as RGB."""
        return np.stack([self._read(self._images[index]) for index in indices])

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read(self, image: Path | FileRange) -> UInt8[np.ndarray, "height width 3"]:
        name = _name(image)
        with _open(image) as opened:
            pixels = _to_rgb(ImageOps.exif_transpose(opened), name)
        height, width = pixels.shape[:2]
        if (height, width) != (self.info.height, self.info.width):
            raise Corrupt(
                f"cannot read {name!r} - it has {width}x{height} pixels, the first frame has "
                f"{self.info.width}x{self.info.height} - give images of one size."
            )
        return pixels


def _name(image: Path | FileRange) -> str:
    return image.name if isinstance(image, FileRange) else str(image)


@contextmanager
def _open(source: Path | FileRange) -> Iterator[Image.Image]:
    """Open an image from its bytes alone; whatever goes wrong with it inside the block names the file."""
    data, name = _read_bytes(source), _name(source)
    try:
        with muted_warnings(), Image.open(BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TooLarge(
                    f"cannot read {name!r} - it has {image.width}x{image.height} pixels, the limit is "
                    f"{MAX_PIXELS} - scale it down."
                )
            yield image
    except (VideoError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise TooLarge(f"cannot read {name!r} - it has over {MAX_PIXELS} pixels - scale it down.") from None
    except Exception as error:
        # Pillow states no list of what its readers raise: KeyError, struct.error and others have been seen.
        reason = "it is damaged or of another format" if "<_io.BytesIO" in str(error) else str(error) or repr(error)
        raise Corrupt(f"cannot read {name!r} as an image - {reason} - replace or remove it.") from None


def _read_bytes(image: Path | FileRange) -> bytes:
    name = _name(image)
    store = open_file(image if isinstance(image, FileRange) else name)
    try:
        if store.size_bytes > MAX_IMAGE_BYTES:
            raise TooLarge(
                f"cannot read {name!r} - found {store.size_bytes} bytes, the limit is {MAX_IMAGE_BYTES} - "
                "scale it down."
            )
        return store.read_at(0, store.size_bytes)
    except OSError as error:
        raise Corrupt(f"cannot read {name!r} - {error.strerror} - copy it again.") from None
    finally:
        store.close()


def _measure_upright(image: Image.Image) -> tuple[int, int]:
    """Return width and height as they will be shown, without decoding; Pillow turns the size of TIFF by itself."""
    is_lying = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)
    return (image.height, image.width) if is_lying else image.size


def _to_rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode in _MODES_16_BIT:
        gray = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode not in _MODES:
        raise UnsupportedCodec(
            f"cannot read {name!r} - its pixels are of mode {image.mode}, whose range is not known - "
            "convert it to 8 or 16 bits a channel."
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))
