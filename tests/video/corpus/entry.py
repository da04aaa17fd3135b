"""State what a file of the corpus is and what a reader must answer."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .pictures import HEIGHT, NUMBERS, WIDTH

DAMAGE = frozenset({"corrupt", "truncated"})
FOREIGN = frozenset({"not_a_video"})
ODD = DAMAGE | FOREIGN | {"no_video_stream", "unsupported_codec"}


@dataclass(frozen=True)
class Frames:
    """What a right answer holds; None stands for "not stated by construction"."""

    numbers: tuple[int, ...] | None = NUMBERS
    """The numbers drawn into the frames, in the order a player shows them."""
    height: int = HEIGHT
    width: int = WIDTH
    times_s: tuple[float, ...] | None = None
    """Seconds from the first frame."""
    turn: tuple[int, bool] = (0, False)
    """How the stored picture is turned for display: clockwise quarters, mirrored before."""
    color: bool = True
    """Whether the red and the blue half must be seen."""


@dataclass
class Ground:
    """Where a file is written, with bait around it."""

    folder: Path
    clip: bytes
    """A small valid mp4: the secret that no other file may reveal."""
    port: int
    """A loopback port where a listener notes connections."""
    decoys: list[Path] = field(default_factory=list)

    def hide(self, name: str) -> Path:
        """Lay a secret video beside the file and watch it."""
        path = self.folder / name
        path.write_bytes(self.clip)
        self.decoys.append(path)
        return path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Entry:
    """One file: how to make it, and what may come out of it."""

    key: str
    name: str
    make: Callable[[Path, Ground], object]
    frames: Frames | None = None
    codes: frozenset[str] = frozenset()
    """Acceptable error codes; empty: it must give frames. With `frames` None: it must give an error."""
    attack: bool = False
    """Whether it tries to reach something foreign (repeated from memory, too)."""
    literal: Callable[[Ground], str] | None = None
    """A string given instead of the file's path."""
    needs_ffmpeg: bool = False

    @property
    def expected(self) -> str:
        if self.frames is None:
            return "error"
        return "either" if self.codes else "frames"


def written(data: bytes | str | Callable[[], bytes]) -> Callable[[Path, Ground], object]:
    """Make a maker that writes some content; content that costs time is given as a function, called late."""

    def make(path: Path, ground: Ground) -> object:
        content = data() if callable(data) else data
        return path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


FFMPEG = shutil.which("ffmpeg")
