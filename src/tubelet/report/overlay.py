"""Write the frames of a stream as video, with what was predicted burned in."""

import os
import threading
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from tubelet.errors import ConfigError
from tubelet.video.encoding import TICKS
from tubelet.video.live import LiveFrame

if TYPE_CHECKING:
    import av

__all__ = ["Overlay"]


class Overlay:
    """Write an .mp4 file (H.264) whose frames carry the newest label and a bar as long as its score.

    The file is in fragments of about two seconds: what has been written plays, even where the program is killed.

    Args:
        path: where the file goes, from the first frame on; an existing one is replaced.

    Raises:
        ConfigError: another kind of file, or no such folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if Path(path).suffix.lower() != ".mp4":
            raise ConfigError(f"cannot save a stream as {os.fspath(path)!r} - it becomes an .mp4 file - name it so.")
        if not Path(path).absolute().parent.is_dir():
            raise ConfigError(f"cannot save a stream as {os.fspath(path)!r} - there is no such folder - make it first.")
        self._path = Path(path)
        self._file: IO[bytes] | None = None
        self._is_closed = False
        self._container: av.container.OutputContainer | None = None
        self._track: av.VideoStream | None = None
        self._said: tuple[str, float] | None = None
        self._last = -1
        self._lock = threading.Lock()

    def say(self, label: str, score: float) -> None:
        """Write this on the frames that follow."""
        self._said = label, score

    @property
    def has_frames(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def add(self, frame: LiveFrame) -> None:
        """Write one frame, from any thread; none once this is closed."""
        picture = frame.show()
        with self._lock:
            if not self._is_closed:
                self._write(picture, frame.time_s)

    def _write(self, picture: UInt8[np.ndarray, "height width channel"], time_s: float) -> None:
        import av

        if self._track is None:
            self._open(picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2)
        assert self._track is not None
        assert self._container is not None
        image = Image.fromarray(np.ascontiguousarray(picture)).resize((self._track.width, self._track.height))
        if self._said is not None:
            _draw(image, *self._said)
        encoded = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        # Frames of a restarted source may share a tick, which no file can hold.
        self._last = max(round(time_s * TICKS), self._last + 1)
        encoded.pts, encoded.time_base = self._last, Fraction(1, TICKS)
        self._container.mux(self._track.encode(encoded))

    def _open(self, height: int, width: int) -> None:
        import av

        self._file = self._path.open("wb")
        movflags = "frag_keyframe+empty_moov+default_base_moof"
        self._container = av.open(self._file, "w", format="mp4", options={"movflags": movflags})
        track = self._container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23", "g": "50"})
        track.height, track.width, track.pix_fmt = height, width, "yuv420p"
        track.codec_context.time_base = Fraction(1, TICKS)
        self._track = track

    def close(self) -> None:
        """Finish the file."""
        with self._lock:
            if self._container is not None and self._track is not None:
                self._container.mux(self._track.encode(None))
                self._container.close()
            self._container = self._track = None
            self._is_closed = True
            if self._file is not None:
                self._file.close()

    def __enter__(self) -> "Overlay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _draw(image: Image.Image, label: str, score: float) -> None:
    """Write a label over a dark band at the bottom, and a bar below it."""
    width, height = image.size
    size = max(height // 16, 9)
    band = size * 2
    drawing = ImageDraw.Draw(image, "RGBA")
    drawing.rectangle((0, height - band, width, height), fill=(0, 0, 0, 160))
    font = ImageFont.load_default(size)
    drawing.text((size // 2, height - band + size // 8), f"{label}  {score:.0%}", fill="white", font=font)
    drawing.rectangle((0, height - max(size // 4, 2), round(width * score), height), fill=(80, 200, 120, 255))
