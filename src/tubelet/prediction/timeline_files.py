"""Write timelines for people and for other programs, and cut the clips that they speak of.

    .json     everything, with the scores of each window
    .csv      path, start_s, end_s, label, score: a table of clips as `tubelet train` and `data check` read it
    .vtt      WebVTT: subtitles that say what happens, for players and browsers
    .edl      CMX3600 edit decision list: the segments as cuts, for programs that edit video
    .png ...  a picture

What is unknown stands in the JSON and in the picture only.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tubelet import files
from tubelet.errors import ConfigError
from tubelet.prediction.timeline import Timeline
from tubelet.report.figures import FORMATS
from tubelet.report.timelines import draw_timeline
from tubelet.video.cutting import cut_clip

__all__ = [
    "WHOLE",
    "check_timeline_path",
    "cut_segments",
    "format_edl",
    "format_vtt",
    "plan_files",
    "write_csv",
    "write_timeline",
]

WHOLE = (".json", ".csv", ".vtt", ".edl", ".png")
"""What is written where a folder is named."""
MAX_EVENTS = 999
"""Events that the three digits of an edit decision list can count."""


def check_timeline_path(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose ending stands for nothing that a timeline can be written as.

    Raises:
        ConfigError: with the endings there are.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS and suffix.lstrip(".") not in FORMATS:
        known = ", ".join([*_WRITERS, *(f".{name}" for name in FORMATS)])
        raise ConfigError(
            f"cannot write a timeline as {str(path)!r} - it would end in one of {known} - choose such a name, or a "
            "folder for all of them."
        )


def plan_files(sources: Sequence[str], output: str | os.PathLike[str] | None) -> dict[str, list[Path]]:
    """Choose which files the timeline of each source is written to.

    Args:
        sources: videos.
        output: a file for one source, or a folder, where each gets a file of every kind in `WHOLE`. One .csv file can
            hold several sources: then there is nothing to write for each, and `write_csv` is for all of them.

    Raises:
        ConfigError: an ending that stands for no format, or one file for several sources.
    """
    if output is None:
        return {source: [] for source in sources}
    path = Path(output)
    if path.is_dir() or not path.suffix:
        stems: dict[str, str] = {}
        for source in sources:
            stem = Path(source).stem
            number = sum(name == stem or name.startswith(f"{stem}~") for name in stems.values())
            stems[source] = f"{stem}~{number + 1}" if number else stem
        return {source: [path / f"{stem}{suffix}" for suffix in WHOLE] for source, stem in stems.items()}
    check_timeline_path(path)
    if len(sources) == 1:
        return {sources[0]: [path]}
    if path.suffix.lower() != ".csv":
        raise ConfigError(
            f"cannot write {len(sources)} timelines as {str(path)!r} - such a file holds one - give a folder, or a "
            ".csv file for all of them."
        )
    return {source: [] for source in sources}


def write_timeline(timeline: Timeline, path: str | os.PathLike[str]) -> Path:
    """Write a timeline in the format that the ending of the path stands for, whole or not at all.

    Raises:
        ConfigError: an ending that stands for none.
    """
    check_timeline_path(path)
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower(), _draw)
    writer(timeline, path)
    return path


def write_csv(timelines: Sequence[Timeline], path: str | os.PathLike[str]) -> None:
    """Write what was found in any number of videos as a table of clips; paths below its folder are relative to it."""
    folder = os.path.join(os.path.abspath(Path(path).parent), "")  # noqa: PTH100, PTH118 - with the separator
    rows = [["path", "start_s", "end_s", "label", "score"]]
    for timeline in timelines:
        place = os.path.abspath(timeline.source).removeprefix(folder).replace(os.sep, "/")  # noqa: PTH100
        rows += [
            [place, f"{one.start_s:.3f}", f"{one.end_s:.3f}", one.name, f"{one.score:.4f}"] for one in timeline.known
        ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())


def format_vtt(timeline: Timeline) -> str:
    """Write WebVTT: one cue for each segment.

    Source: https://www.w3.org/TR/webvtt1/.
    """
    cues = [
        f"{_write_clock(one.start_s)} --> {_write_clock(one.end_s)}\n{_escape(one.name)} ({one.score:.0%})\n"
        for one in timeline.known
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _write_clock(time_s: float) -> str:
    """Write a time as WebVTT does: hours, minutes, seconds, milliseconds."""
    total = round(time_s * 1000)
    seconds, rest = divmod(total, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _escape(text: str) -> str:
    """Keep a label on one line, and from being read as markup."""
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def format_edl(timeline: Timeline) -> str:
    """Write a CMX3600 edit decision list: the segments, one after the other, as cuts of one reel, without drop frames.

    Times are counted in frames at the nearest whole rate, as the format has no other. Its list numbers 999 events;
    where there are more, the longest ones are kept.
    """
    rate = max(round(timeline.fps), 1)
    longest = sorted(timeline.known, key=lambda one: one.start_s - one.end_s)[:MAX_EVENTS]
    lines = [f"TITLE: {_write_plain(Path(timeline.source).stem)}", "FCM: NON-DROP FRAME", ""]
    record = 0
    for number, one in enumerate(sorted(longest, key=lambda one: one.start_s), 1):
        start, end = (round(time_s * timeline.fps) for time_s in (one.start_s, one.end_s))
        codes = [_write_timecode(frame, rate) for frame in (start, end, record, record + end - start)]
        record += end - start
        lines += [f"{number:03d}  AX       V     C        {' '.join(codes)}"]
        lines += [f"* FROM CLIP NAME: {_write_plain(Path(timeline.source).name)}"]
        lines += [f"* COMMENT: {_write_plain(one.name)} {one.score:.0%}"]
    return "\n".join(lines) + "\n"


def _write_timecode(frame: int, rate: int) -> str:
    seconds, rest = divmod(frame, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"


def _write_plain(text: str) -> str:
    """Keep a text to one line of ASCII, as old programs read it."""
    return " ".join(text.split()).encode("ascii", "replace").decode()


def cut_segments(timeline: Timeline, folder: str | os.PathLike[str], *, decoder: str = "pyav") -> list[Path]:
    """Cut the clip of each segment out of the video, into a folder of clips with one folder for each class.

    Returns:
        The files, named after the video and the seconds: `jumping/match_12.25-17.50.mp4`.

    Raises:
        VideoError: a source that cannot be read.
    """
    written = []
    for one in timeline.known:
        name = f"{Path(timeline.source).stem}_{one.start_s:.2f}-{one.end_s:.2f}.mp4"
        path = Path(folder) / _name_folder(one.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_clip(timeline.source, path, one.start_s, one.end_s, decoder=decoder)
        written.append(path)
    return written


def _name_folder(label: str) -> str:
    """Make a class into the name of a folder: whatever it is, it stays one below."""
    name = "".join("_" if letter in '/\\:*?"<>|\0' else letter for letter in label).strip(" .")
    return name or "_"


def _draw(timeline: Timeline, path: Path) -> None:
    middles_s = (timeline.edges_s[:-1] + timeline.edges_s[1:]) / 2
    spans = [(one.label, one.start_s, one.end_s) for one in timeline.segments]
    draw_timeline(
        path, spans, middles_s, dict(zip(timeline.classes, timeline.scores.T, strict=True)), timeline.duration_s
    )


_WRITERS: Mapping[str, Callable[[Timeline, Path], None]] = MappingProxyType(
    {
        ".json": lambda timeline, path: files.write_json(path, timeline.to_dict()),
        ".csv": lambda timeline, path: write_csv([timeline], path),
        ".vtt": lambda timeline, path: files.write_text(path, format_vtt(timeline)),
        ".edl": lambda timeline, path: files.write_text(path, format_edl(timeline)),
    }
)
