"""`tubelet data prepare`: store clips anew, cheaper to read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tubelet.cli.parts import parse_part

if TYPE_CHECKING:
    from tubelet.data.rendition import Rendition

__all__ = ["PrepareOptions", "prepare_data"]

_MEGABYTE = 10**6


@dataclass(frozen=True)
class PrepareOptions:
    """Hold the options of `tubelet data prepare`."""

    short_side: int | None = None
    """Scale the short side down to this many pixels, never up."""
    gop: int | None = None
    """Re-encode with a key frame every so many frames; 12 where --short-side alone is given."""
    crf: int | None = None
    """Quality of the video, 0 (lossless) to 51; 20 unless told otherwise."""
    frames: int | None = None
    """Store this many frames of each clip instead of video; their times are not kept."""
    mode: Literal["uniform", "linspace", "dense", "random", "first"] | None = None
    """How frames are chosen, as input.sampling; uniform unless told otherwise."""
    store: Literal["jpeg", "npz"] | None = None
    """Frames as a folder of JPEG images a clip, or as an exact array; jpeg unless told otherwise."""
    quality: int | None = None
    """Of JPEG, 1 to 100; 90 unless told otherwise."""
    seed: int | None = None
    """Another one makes --mode random draw other frames; 0 unless told otherwise."""
    tar: bool = False
    """Write WebDataset shards; alone, files go into them byte for byte."""
    tar_mb: int = 1000
    """Size of a shard in megabytes."""
    shard: str | None = None
    """Do part i of n only, as in 2/8; after all parts a run without --shard puts them together."""
    workers: int = 2
    """Processes that read and write clips."""

    def to_arguments(self) -> dict[str, Any]:
        """Give what `make_edition` takes.

        Raises:
            ConfigError: options that mean nothing beside the others.
        """
        return {
            "rendition": self._choose_rendition(),
            "shard_bytes": self.tar_mb * _MEGABYTE if self.tar else None,
            "part": parse_part(self.shard),
            "workers": self.workers,
        }

    def _choose_rendition(self) -> "Rendition | None":
        from tubelet.data.rendition import FrameStore
        from tubelet.errors import ConfigError
        from tubelet.video.encoding import Encoding

        of_video = {name: getattr(self, name) for name in ("gop", "crf") if getattr(self, name) is not None}
        of_frames = ("mode", "store", "quality", "seed")
        of_frames_given = {name: getattr(self, name) for name in of_frames if getattr(self, name) is not None}
        if self.frames is None:
            if of_frames_given:
                raise ConfigError(f"--{next(iter(of_frames_given))} is for stored frames - add --frames 32, say.")
            if not of_video and self.short_side is None:
                return None
            return Encoding(**{"short_side": self.short_side, "gop": 12, "crf": 20, **of_video})
        if of_video:
            raise ConfigError(
                f"--{next(iter(of_video))} is for video, --frames {self.frames} stores none - leave one out."
            )
        return FrameStore(self.frames, short_side=self.short_side, **of_frames_given)


def prepare_data(
    data: str,
    output: Path,
    *,
    options: Annotated[PrepareOptions, Parameter(name="*")] = PrepareOptions(),
    json: bool = False,
) -> int:
    """Store clips anew so that they are cheaper to read; labels, splits, groups and other columns are kept.

    Run it again to go on where it was cut. Exit status 1 where clips could not be read: they are left out.

    Parameters
    ----------
    data: str
        Folder of class folders or of shards, CSV/TSV/JSONL manifest, .npz file or known name.
    output: Path
        A new folder, or the one of a run that was cut.
    json: bool
        Print one JSON object.
    """
    import time

    from tubelet.cli.data_tables import print_edition
    from tubelet.cli.tables import track
    from tubelet.data.edition import make_edition

    start_s = time.monotonic()
    with track("preparing", quiet=json) as on_step:
        edition = make_edition(data, output, on_step=on_step, **options.to_arguments())
    return print_edition(edition, time.monotonic() - start_s, as_json=json)
