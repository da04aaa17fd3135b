"""`tubelet stream`: what is happening right now?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["ShowOptions", "SourceOptions", "TimeOptions", "stream_source"]


@dataclass(frozen=True)
class SourceOptions:
    """Hold how the source is opened."""

    fps: float | None = None
    """Frames per second: asked of a camera, needed with --raw, assumed where a source states none."""
    raw: tuple[int, int] | None = None
    """Height and width of bare RGB frames on standard input."""
    follow: float | None = None
    """The file is still being written: wait for more until none came for this many seconds."""
    listen: bool = False
    """Wait for somebody who sends to this rtsp:// address."""
    timeout: float = 10.0
    """Longest wait in seconds for a connection, and for the next bytes of a network stream."""


@dataclass(frozen=True)
class TimeOptions:
    """Hold how the stream is cut and kept in time."""

    window: float | None = None
    """Seconds that a window lasts; by default what the model's clips cover, where it says so."""
    hop: float | None = None
    """Seconds from one window to the next; about an eighth of a window by default."""
    latency: float = 1.0
    """Budget in seconds from a window's newest frame to its prediction; older windows are left out."""
    realtime: bool | None = None
    """Leave out what there is no time for; --no-realtime scores every window. Live sources do, files do not."""


@dataclass(frozen=True)
class ShowOptions:
    """Hold what is shown and written."""

    enter: float = 0.6
    """Score at which a class enters."""
    leave: float = 0.4
    """Score below which it leaves again."""
    top: int = 5
    """Classes shown."""
    save: Path | None = None
    """Video file (.mp4) to write: the frames with what was predicted."""
    json: bool = False
    """Print one JSON object a line for each window: start_s, end_s, label, score, scores, active, events, latency_s,
    dropped, skipped, and what predict --json prints."""


def stream_source(
    model: str,
    source: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    opening: Annotated[SourceOptions, Parameter(name="*")] = SourceOptions(),
    timing: Annotated[TimeOptions, Parameter(name="*")] = TimeOptions(),
    shown: Annotated[ShowOptions, Parameter(name="*")] = ShowOptions(),
    device: str = "auto",
) -> int:
    """Classify a camera, a network stream, a pipe or a growing file, window by window; Ctrl-C ends it.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    source: str
        A camera's number or camera:NAME, rtsp://, http(s)://, a video file, or - for standard input.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    """
    from tubelet.cli.stream_tables import show_stream
    from tubelet.files import check_apart
    from tubelet.prediction.load import load
    from tubelet.prediction.stream import Thresholds, stream
    from tubelet.shapes import Size
    from tubelet.video.live import LiveSource

    if shown.save is not None:
        check_apart(shown.save, [source])
    thresholds = Thresholds(shown.enter, shown.leave)
    classifier = load(model, device=device)
    raw = Size(*opening.raw) if opening.raw else None
    live = LiveSource(
        source, fps=opening.fps, raw=raw, follow_s=opening.follow, listen=opening.listen, timeout_s=opening.timeout
    )
    return show_stream(
        lambda on_frame: stream(
            classifier,
            live,
            window_s=timing.window,
            hop_s=timing.hop,
            latency_s=timing.latency,
            thresholds=thresholds,
            realtime=timing.realtime,
            on_frame=on_frame,
        ),
        top=shown.top,
        save=shown.save,
        as_json=shown.json,
    )
