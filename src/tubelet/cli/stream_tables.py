"""Show a stream of predictions: a live table in a terminal, lines elsewhere, JSON for programs, a video for later."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tubelet.prediction.stream import PredictionStream, StreamPrediction
from tubelet.report.overlay import Overlay
from tubelet.video.live import LiveFrame

__all__ = ["show_stream"]

KEPT_EVENTS = 6
"""Events that the table remembers."""
_BAR = 30


def show_stream(
    start: Callable[[Callable[[LiveFrame], None] | None], PredictionStream],
    *,
    top: int,
    save: Path | None,
    as_json: bool,
) -> int:
    """Show predictions until the stream ends or Ctrl-C is pressed, which is no failure; return the exit status.

    Args:
        start: begins the stream; what it is given is called with every frame.
        top: classes shown.
        save: video file to write.
        as_json: print one JSON object a line instead.
    """
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    count = 0
    with ExitStack() as stack:
        overlay = stack.enter_context(Overlay(save)) if save else None
        running = stack.enter_context(start(overlay.add if overlay else None))
        errors.print(_introduce(running), markup=False, style="dim")
        view = stack.enter_context(_TableView(console)) if console.is_terminal and not as_json else None
        try:
            for found in running:
                count += 1
                if overlay:
                    overlay.say(found.prediction.label, found.prediction.score)
                if as_json:
                    print(json.dumps(found.to_dict()), flush=True)  # noqa: T201 - what the command is for
                elif view:
                    view.show(found, top)
                else:
                    console.print(_describe(found, top), markup=False)
        except KeyboardInterrupt:
            pass
    errors.print(_conclude(running, count), style="dim")
    if overlay and overlay.has_frames:
        errors.print(f"written: {save}", markup=False, style="dim")
    return 0


def _introduce(running: PredictionStream) -> str:
    rate = f"{running.source.fps:.4g} fps" if running.source.fps else "no stated rate"
    return (
        f"{running.source.name}: {rate}; windows of {running.window_s:.3g} s, one every {running.hop_s:.3g} s; "
        f"{running.explanation}."
    )


def _conclude(running: PredictionStream, count: int) -> str:
    if not count and not running.skipped:
        text = f"no window of {running.window_s:.3g} s was full before the source ended"
    else:
        text = f"{count} windows; {running.skipped} left out and {running.dropped} frames dropped for lack of time"
    damaged = running.source.num_damaged
    return text + (f"; {damaged} packets did not decode" if damaged else "")


def _describe(found: StreamPrediction, top: int) -> str:
    best = "  ".join(f"{name} {score:.1%}" for name, score in list(found.prediction.scores.items())[:top])
    events = "".join(f"  [{event.kind} {event.label}]" for event in found.events)
    return f"{found.start_s:.2f}-{found.end_s:.2f} s: {best}{events}"


class _TableView:
    """Draw the newest prediction over the last one."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._events: list[str] = []

    def __enter__(self) -> "_TableView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, found: StreamPrediction, top: int) -> None:
        """Draw one prediction."""
        self._events += [f"{event.time_s:8.2f} s  {event.kind} {event.label}" for event in found.events]
        del self._events[:-KEPT_EVENTS]
        table = Table(box=None, show_header=False, padding=(0, 1))
        for label, score in list(found.prediction.scores.items())[:top]:
            style = "bold green" if label in found.active else ""
            table.add_row(Text(label, style), ProgressBar(1.0, score, width=_BAR), f"{score:.1%}")
        unknown = "  perhaps none of these" if found.prediction.is_unknown else ""
        head = f"{found.start_s:.2f}-{found.end_s:.2f} s   latency {found.latency_s * 1000:.0f} ms"
        tail = f"left out: {found.skipped} windows, {found.dropped} frames   Ctrl-C ends"
        events = Text("\n".join(self._events))
        self._live.update(Group(Text(head + unknown), table, events, Text(tail, "dim")), refresh=True)
