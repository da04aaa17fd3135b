"""`tubelet predict --timeline`: what happens when in these long videos?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from tubelet.scorer import Scorer

__all__ = ["WHOLE", "TimelineOptions", "predict_timelines"]


@dataclass(frozen=True)
class TimelineOptions:
    """Hold how a long video is taken apart; all but `timeline` need it."""

    timeline: bool = False
    """Say what happens when in long videos, instead of what each is as a whole."""
    window: float | None = None
    """Seconds that are looked at together; by default what the model's clips cover, where it says so."""
    hop: float | None = None
    """Seconds from one window to the next; a quarter of a window by default."""
    smoothing: float | None = None
    """Seconds of scores that are smoothed together; one and a half windows by default, 0 for none."""
    threshold: float = 0.5
    """Probability below which no class holds: unknown."""
    truth: Path | None = None
    """Table of what really happens (path, start_s, end_s, label), to measure timelines by; names the videos, too."""
    cut: Path | None = None
    """Folder to cut the segments into, as clips, one folder for each class."""

    def is_asked(self, is_whole: bool) -> bool:
        """Say whether timelines are asked for.

        Args:
            is_whole: whether something is asked for that only an answer for whole videos can give.

        Raises:
            ConfigError: options of both.
        """
        if not self.timeline and self != WHOLE:
            raise ConfigError("--window, --hop, --smoothing, --threshold, --truth and --cut need --timeline - add it.")
        if self.timeline and is_whole:
            raise ConfigError(
                "--top, --clips and --coverage are about whole videos - found --timeline, which scores each moment - "
                "leave them out."
            )
        return self.timeline


WHOLE = TimelineOptions()
"""No timeline: each video is asked about as a whole."""


def predict_timelines(
    classifier: "Scorer",
    sources: Sequence[str],
    options: TimelineOptions,
    output: Path | None,
    *,
    decoder: str,
    as_json: bool,
) -> int:
    """Make, print and write the timeline of each source; return 1 where some could not be read, else 0."""
    from tubelet.cli.tables import track
    from tubelet.cli.timeline_tables import print_timeline, print_timeline_error, print_timeline_metrics
    from tubelet.evaluation.timelines import evaluate_timelines, read_truth
    from tubelet.prediction.predict import expand_sources
    from tubelet.prediction.timeline import predict_timeline
    from tubelet.prediction.timeline_files import cut_segments, plan_files, write_csv, write_timeline

    true = read_truth(options.truth) if options.truth else []
    names = expand_sources(sources) or list(dict.fromkeys(span.video for span in true))
    if not names:
        raise ConfigError("cannot predict - no source was named - give files, folders or patterns.")
    places = plan_files(names, output)
    timelines = []
    for name in names:
        try:
            with track(name, quiet=as_json) as on_step:
                found = predict_timeline(
                    classifier, name, window_s=options.window, hop_s=options.hop, smoothing_s=options.smoothing,
                    threshold=options.threshold, decoder=decoder, on_step=on_step,
                )  # fmt: skip
            written = [write_timeline(found, path) for path in places[name]]
            cut = [] if options.cut is None else cut_segments(found, options.cut, decoder=decoder)
        except VideoError as error:
            print_timeline_error(name, error, as_json=as_json)
            continue
        timelines.append(found)
        print_timeline(found, [*written, *cut], as_json=as_json)
    if output is not None and not any(places.values()):
        write_csv(timelines, output)
    if true and timelines:
        print_timeline_metrics(evaluate_timelines(timelines, true), as_json=as_json)
    return 1 if len(timelines) < len(names) else 0
