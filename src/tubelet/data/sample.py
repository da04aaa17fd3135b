"""Describe one labelled source, and what a reader of sources hands over."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tubelet.errors import DataError, name_nearest
from tubelet.shapes import Task

__all__ = [
    "SEPARATOR",
    "SPLITS",
    "FeatureShape",
    "Problem",
    "Reading",
    "Sample",
    "check_problems",
    "join_labels",
    "normalize_split",
    "quote_some",
]

SEPARATOR = "|"
"""What stands between the names of several classes, and in the name of none."""

SPLITS = ("train", "val", "test")
"""The splits there are, in the order in which messages and tables show them."""

_ALIASES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
_MAX_LISTED = 10


class FeatureShape(NamedTuple):
    """State the size of a clip whose frames another network has turned into vectors."""

    frames: int
    """Vectors in the clip, those that only fill its row not counted."""
    dim: int
    """Numbers in each vector."""


@dataclass(frozen=True)
class Sample:
    """Name one source of pixels, or of features computed before, and its label."""

    source: str
    """Absolute path of a video file, a folder of frames, an .npz file or a .tar file."""
    label: str
    """Name of the class; of several, as `join_labels` writes them; empty: the clip is of none."""
    split: str | None = None
    """`train`, `val` or `test`; None where nobody has decided yet."""
    group: str | None = None
    """What must stay in one split: clips cut from one recording, one patient, one shape."""
    start_s: float | None = None
    """Where the labelled part begins, in seconds from the first frame; None: at the beginning."""
    end_s: float | None = None
    """Where the labelled part ends (excluded), in seconds; None: at the end."""
    member: str | None = None
    """Name of the array inside an .npz file, or of the clip inside a .tar file, that holds the pixels."""
    row: int | None = None
    """Row of that array."""
    extent: tuple[int, int] | None = None
    """Bytes [begin, end) of the .tar file in which the clip lies, headers included."""
    features: FeatureShape | None = None
    """What the row holds where it holds features, (time, feature); None: pixels."""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Columns that mean nothing to the reader, kept as they were."""
    line: int | None = None
    """Line of the manifest that states the sample, counted from 1."""

    @property
    def name(self) -> str:
        """Say how messages and tables call the sample; no two samples of a manifest share a name.

        Parts of a video are named as in W3C Media Fragments: `clip.mp4#t=1.5,3`.

        Example:
            >>> Sample("/data/organs.npz", "liver", member="train_images", row=17).name
            '/data/organs.npz[train_images][17]'
            >>> Sample("/data/match.mp4", "goal", start_s=1.5, end_s=3.0).name
            '/data/match.mp4#t=1.5,3'
        """
        name = self.video
        if self.start_s is not None or self.end_s is not None:
            end = "" if self.end_s is None else f",{self.end_s:.15g}"
            name = f"{name}#t={self.start_s or 0.0:.15g}{end}"
        return name

    @property
    def labels(self) -> tuple[str, ...]:
        """Name all classes of the clip, sorted.

        Example:
            >>> Sample("/data/street.mp4", "car|person").labels
            ('car', 'person')
        """
        return tuple(self.label.split(SEPARATOR)) if self.label else ()

    @property
    def video(self) -> str:
        """Name what the sample is the whole or a part of: parts of one video share it.

        Example:
            >>> Sample("/data/train-000000.tar", "goal", member="match.mp4", end_s=3.0).video
            '/data/train-000000.tar[match.mp4]'
        """
        member = "" if self.member is None else f"[{self.member}]"
        return f"{self.source}{member}" if self.row is None else f"{self.source}{member}[{self.row}]"

    def measure_s(self, duration_s: float) -> float:
        """Say how long the labelled part is, in seconds, of a video that lasts `duration_s`."""
        start_s, end_s = self.span_s
        return max(min(end_s, duration_s) - start_s, 0.0)

    @property
    def span_s(self) -> tuple[float, float]:
        """Give the labelled part as (start, end) in seconds; the end is infinite where it is not stated."""
        return (0.0 if self.start_s is None else self.start_s, math.inf if self.end_s is None else self.end_s)


class Reading(NamedTuple):
    """Hold what a reader found in one source of samples."""

    samples: tuple[Sample, ...]
    """In the order in which they were found."""
    notes: tuple[str, ...] = ()
    """What was passed over, and why: for people."""
    classes: tuple[str, ...] | None = None
    """The class list where the source fixes its order; None: sorted labels."""
    problems: "tuple[Problem, ...]" = ()
    """Lines that cannot be used; the samples are those of the others."""
    task: Task = "classification"
    """Whether a sample may have several labels, or none."""


class Problem(NamedTuple):
    """State one thing that is wrong, and where."""

    text: str
    """What is wrong and what to do."""
    line: int | None = None
    """Line of the manifest, counted from 1."""
    code: str = "bad_line"
    """What kind of thing it is, for programs."""
    names: tuple[str, ...] = ()
    """The samples that it is about."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


def check_problems(origin: str | Path, problems: Sequence[Problem]) -> None:
    """Raise one error that names all problems of a source; do nothing where there are none.

    Raises:
        DataError: with the first ten problems, each with its line, and the number of the others.
    """
    if not problems:
        return
    lines = [str(problem) for problem in problems]
    if len(lines) == 1:
        raise DataError(f"cannot use '{origin}' - {lines[0]}")
    listed = "\n  ".join(lines[:_MAX_LISTED])
    rest = f"\n  and {len(lines) - _MAX_LISTED} more" if len(lines) > _MAX_LISTED else ""
    raise DataError(f"cannot use '{origin}' - {len(lines)} problems:\n  {listed}{rest}")


def join_labels(names: Iterable[str]) -> str:
    """Write the classes of one clip as one text: sorted, each once, so that equal sets are equal texts.

    Raises:
        DataError: an empty name, or one that holds the separator.

    Example:
        >>> join_labels(["run", "jump", "run"])
        'jump|run'
    """
    plain = {unicodedata.normalize("NFC", name.strip()) for name in names}
    wrong = sorted(name for name in plain if not name or SEPARATOR in name)
    if wrong:
        raise DataError(
            f"'{wrong[0]}' is no name of a class - names are not empty and hold no '{SEPARATOR}', which stands between "
            "them - mend the labels."
        )
    return SEPARATOR.join(sorted(plain))


def normalize_split(text: str) -> str:
    """Give a split its one name: `validation`, `valid` and `dev` are `val`; case does not count.

    Raises:
        DataError: a name that is none of these.

    Example:
        >>> normalize_split("Validation")
        'val'
    """
    name = text.strip().lower()
    name = _ALIASES.get(name, name)
    if name not in SPLITS:
        near = name_nearest(name, [*SPLITS, *_ALIASES]) or "."
        raise DataError(f"unknown split '{text}'{near} Write train, val or test.")
    return name


def quote_some(names: Sequence[str], most: int = 5) -> str:
    """Quote the first few of many names, for messages.

    Example:
        >>> quote_some(["a", "b", "c"], most=2)
        "'a', 'b' and 1 more"
    """
    quoted = ", ".join(f"'{name}'" for name in names[:most])
    return f"{quoted} and {len(names) - most} more" if len(names) > most else quoted
