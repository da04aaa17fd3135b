"""Draw pictures that carry their own number, and encode them.

A frame that says which frame it is makes a decoder's answer checkable without a second decoder: the top third holds
eight black or white blocks (the number's bits), the rest is red on the left and blue on the right (orientation and
color order).
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH, RATE = 48, 64, 10
NUMBERS = tuple(range(20))


def draw(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Draw one RGB picture; pictures too small for eight blocks are one flat color."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : (width + 1) // 2] = (200, 40, 40)
    picture[:, (width + 1) // 2 :] = (40, 40, 200)
    if readable(height, width):
        for bit in range(8):
            block = slice(bit * width // 8, (bit + 1) * width // 8)
            picture[: height // 3, block] = 230 if number >> bit & 1 else 25
    return picture


def readable(height: int, width: int) -> bool:
    return height >= 24 and width >= 32


def read_number(picture: np.ndarray) -> int:
    """Read the number back from a decoded picture."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(8):
        block = picture[height // 12 : height // 4, (8 * bit + 2) * width // 64 : (8 * bit + 6) * width // 64]
        number |= int(block.mean() > 128) << bit
    return number


def read_colors(picture: np.ndarray) -> list[list[float]]:
    """Measure the mean color of the red half and of the blue half."""
    height, width = picture.shape[:2]
    rows = slice(height // 2, height)
    left, right = picture[rows, : max(width // 3, 1)], picture[rows, -max(width // 3, 1) :]
    return [left.reshape(-1, left.shape[-1]).mean(0).tolist(), right.reshape(-1, right.shape[-1]).mean(0).tolist()]


def turn(picture: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    """Mirror left-right if asked, then turn clockwise by quarters."""
    return np.rot90(picture[:, ::-1] if mirrored else picture, -quarters)


def turn_back(picture: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    picture = np.rot90(picture, quarters)
    return picture[:, ::-1] if mirrored else picture


def encode(
    target: Path | BytesIO,
    codec: str = "libx264",
    *,
    numbers: Sequence[int] = NUMBERS,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE),
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    form: str | None = None,
    prepare: Callable[[Any], None] = lambda context: None,
) -> None:
    """Encode numbered pictures into a file or a buffer."""
    rate = Fraction(RATE)
    where = str(target) if isinstance(target, Path) else target
    with av.open(where, "w", format=form, options=mux or {}) as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        context: Any = stream.codec_context
        context.height, context.width, context.pix_fmt = size[0], size[1], pix_fmt
        context.time_base = time_base
        prepare(context)
        for position, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts = position if pts is None else pts[position]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encoded(codec: str = "libx264", form: str = "mp4", **settings: Any) -> bytes:
    """Encode numbered pictures and return the file's bytes."""
    buffer = BytesIO()
    encode(buffer, codec, form=form, **settings)
    return buffer.getvalue()


def remux(
    data: bytes, target: Path | BytesIO, form: str, keep: Callable[[int, Any], bool], mux: dict[str, str] | None = None
) -> None:
    """Copy the packets that `keep` accepts into another container, undecoded."""
    where = str(target) if isinstance(target, Path) else target
    with av.open(BytesIO(data)) as source, av.open(where, "w", format=form, options=mux or {}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is not None and keep(index, packet):
                packet.stream = stream
                container.mux(packet)
