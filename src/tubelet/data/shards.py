"""Read WebDataset shards: tar archives in which the files of one clip share a name and lie together.

    shards/                      train-000000.tar
      train-000000.tar             walk/0001.mp4    the clip      ]
      train-000001.tar             walk/0001.json   its columns   ]  one sample, its key is `walk/0001`
      val-000000.tar               0002.000.jpg     a clip may    ]
      classes.txt                  0002.001.jpg     be images     ]  another
                                   0002.cls         its class     ]

Shards lie on the disk unpacked, so a clip is a range of bytes: each archive is gone through once, from header to
header, and a sample says where its clip lies. Clips are then opened in any order, as loose files are, and nothing is
ever extracted.

- The key is the name up to the first point behind the last slash. A clip is one video, one .npz file of frames, or
  images in natural order.
- The label is `label` of the .json file, else the text of .cls or .txt; a number counts lines of `classes.txt` beside
  the shards, from 0. What else the .json file holds are columns, as in a table of JSON lines.
- The split is `split` of the .json file, else the word with which the shard's name begins: train, val, test.

Source: github.com/webdataset/webdataset, "The WebDataset Format"; webdataset/tariterators.py for keys.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tubelet.archives import ArchiveError
from tubelet.archives.tar import Member, list_members
from tubelet.data.class_list import CLASS_LIST, read_classes
from tubelet.data.folders import VIDEO_SUFFIXES
from tubelet.data.frame_arrays import load_frames
from tubelet.data.sample import Problem, Reading, Sample, check_problems, normalize_split, quote_some
from tubelet.data.tables import make_sample, to_text
from tubelet.errors import DataError
from tubelet.shapes import Task
from tubelet.video.decoders.dicom import list_slices
from tubelet.video.decoders.images import IMAGE_SUFFIXES, list_images, order_naturally
from tubelet.video.opening import FileRange
from tubelet.video.source import Video
from tubelet.video.volumes import VolumeView

__all__ = ["SHARD_SUFFIX", "list_files", "list_shards", "open_member", "read_shards"]

SHARD_SUFFIX = ".tar"

_KEY = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<ending>[^/]+)", re.DOTALL)
_LABEL_ENDINGS = ("cls", "txt")
_MAX_TEXT_BYTES = 1 << 20
_MAX_CLASSES = 100_000


class _Part(NamedTuple):
    """Hold one file of a sample."""

    key: str
    ending: str
    member: Member

    @property
    def suffix(self) -> str:
        """Its last ending, with the point: `.jpg` of `0001.007.jpg`."""
        return f".{self.ending.rpartition('.')[2]}"


def list_shards(folder: Path) -> list[Path]:
    """List the shards of a folder by name; none where it has folders of its own, which are classes then."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if any(entry.is_dir() for entry in entries):
        return []
    return sorted(entry for entry in entries if entry.suffix.lower() == SHARD_SUFFIX)


def read_shards(shards: Sequence[Path]) -> Reading:
    """Read the samples of shards that lie in one folder, in the order in which they lie there.

    A shard that is damaged is a problem with its name; the samples before the damage are read, but for the last one,
    of which a part may be missing.

    Raises:
        DataError: no sample that can be used.

    Cost: 55 us a sample of three files where the system holds the headers in memory: too little to store an index.
    """
    listed = shards[0].with_name(CLASS_LIST)
    names = read_classes(listed) if listed.is_file() else None
    reader = _Reader(names)
    for shard in shards:
        reader.read(shard)
    if not reader.samples:
        check_problems(shards[0], reader.problems)
        raise DataError(f"cannot use '{shards[0]}' - it holds no clip with a key, such as 0001.mp4 - see the docs.")
    return Reading(
        tuple(reader.samples), tuple(reader.notes), reader.list_classes(), tuple(reader.problems), reader.find_task()
    )


def list_files(sample: Sample) -> list[str | FileRange]:
    """Name the file that a sample is or is a part of, or its images in their order; in a shard or loose.

    Raises:
        DataError: the shard is not what it was when it was read.

    Cost: in a shard, the headers of these files are read again.
    """
    if sample.extent is not None:
        return [*_list_members(sample, *sample.extent)]
    path = Path(sample.source)
    return [str(file) for file in list_slices(path) or list_images(path)] if path.is_dir() else [sample.source]


def _list_members(sample: Sample, begin: int, end: int) -> list[FileRange]:
    try:
        members = list(list_members(Path(sample.source), begin, end))
    except (OSError, ArchiveError):
        members = []
    parts = _split_names(members)
    chosen = [part for part in parts if sample.member in (part.member.name, part.key) and _is_clip(part)]
    if not chosen or members[-1].end != end:
        raise DataError(
            f"cannot read '{sample.name}' - the shard is not what it was when it was listed - leave it as it is while "
            "it is used, or begin again."
        )
    return [
        FileRange(sample.source, part.member.offset, part.member.size_bytes, f"{sample.source}[{part.member.name}]")
        for part in sorted(chosen, key=lambda part: order_naturally(part.ending))
    ]


def open_member(sample: Sample, decoder: str = "pyav", volume: VolumeView | None = None) -> Video:
    """Open the clip of a sample within its shard.

    Raises:
        DataError: the shard is not what it was when it was read, or an .npz file that holds no frames.
        VideoError: as `Video`.
    """
    found = _list_members(sample, *(sample.extent or (0, 0)))
    suffix = Path(found[0].name.rstrip("]")).suffix.lower()
    if suffix == ".npz":
        return Video(load_frames(found[0]), name=sample.video, volume=volume)
    if suffix in IMAGE_SUFFIXES:
        return Video(found, name=sample.video, volume=volume)
    return Video(found[0], decoder=decoder, name=sample.video, volume=volume)


class _Reader:
    """Collect the samples of several shards."""

    def __init__(self, classes: tuple[str, ...] | None) -> None:
        self._classes = classes
        self._numbers: set[int] = set()
        self._has_names = False
        self._tasks: set[Task] = set()
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self.problems: list[Problem] = []

    def list_classes(self) -> tuple[str, ...] | None:
        """Give the class list that is fixed: the one beside the shards, or all numbers up to the largest."""
        if self._classes is not None or self._has_names or not self._numbers:
            return self._classes
        return tuple(str(number) for number in range(max(self._numbers) + 1))

    def find_task(self) -> Task:
        """Say whether clips may have several labels.

        Raises:
            DataError: some may and others not.
        """
        if len(self._tasks) > 1:
            raise DataError(
                f"cannot use '{self.samples[0].source}' and its like - some clips have 'label', others 'labels' - keep "
                "'label' where each clip is of one class, else 'labels'."
            )
        return next(iter(self._tasks))

    def read(self, shard: Path) -> None:
        members: list[Member] = []
        damage = ""
        try:
            members.extend(list_members(shard))
        except ArchiveError as error:
            damage = str(error)
        except OSError as error:
            damage = f"cannot read '{shard}' - {error.strerror} - check the path and its permissions."
        parts = _split_names(members)
        groups = [list(group) for _, group in groupby(parts, key=lambda part: part.key)]
        if damage:
            groups = groups[:-1]
            self.problems.append(Problem(f"{damage} {len(groups)} clips before that place are whole."))
        seen: set[str] = set()
        for group in groups:
            try:
                if group[0].key in seen:
                    raise DataError("its files do not lie together, or its key stands twice - write the shard again.")
                seen.add(group[0].key)
                self._read_group(shard, group)
            except DataError as error:
                self.problems.append(Problem(f"'{shard}[{group[0].key}]': {error}"))
        strangers = len(members) - len(parts)
        if strangers:
            self.notes.append(
                f"passed over in '{shard}': {strangers} files without a key, which is a name with an ending"
            )

    def _read_group(self, shard: Path, group: list[_Part]) -> None:
        """Add the sample of a key; a key without any clip is passed over."""
        clips = [part for part in group if _is_clip(part)]
        videos = [part for part in clips if part.suffix not in IMAGE_SUFFIXES]
        chosen = videos or clips
        if not chosen:
            self.notes.append(f"'{shard}[{group[0].key}]' holds no clip, only {quote_some([p.ending for p in group])}")
            return
        if len(videos) > 1:
            raise DataError(f"holds {len(videos)} clips: {quote_some([p.ending for p in videos])} - give each a key.")
        if any(part.member.size_bytes == 0 for part in chosen):
            raise DataError(f"'{chosen[0].member.name}' has no bytes - write the shard again.")
        row = self._read_row(shard, group)
        sample = make_sample("/", None, {"path": "-", **row})
        self.samples.append(
            replace(
                sample,
                source=str(shard),
                member=videos[0].member.name if videos else group[0].key,
                extent=(chosen[0].member.begin, chosen[-1].member.end),
                split=sample.split or _find_split(shard),
            )
        )

    def _read_row(self, shard: Path, group: list[_Part]) -> dict[str, str]:
        """Read the columns of a sample, its label among them."""
        texts = {part.ending: part.member for part in group if part.ending in ("json", *_LABEL_ENDINGS)}
        row = _parse_columns(_read_text(shard, texts["json"])) if "json" in texts else {}
        if "labels" in row and "label" not in row:
            self._tasks.add("multilabel")
            return row
        self._tasks.add("classification")
        if "label" not in row:
            ending = next((ending for ending in _LABEL_ENDINGS if ending in texts), None)
            if ending is None:
                raise DataError("has no label - add a .cls file, or a .json file with a label.")
            row["label"] = _read_text(shard, texts[ending]).strip()
        row["label"] = self._name_class(row["label"])
        return row

    def _name_class(self, label: str) -> str:
        """Turn the number of a class into its name, where there is a list of names."""
        if self._classes is not None and label in self._classes:
            return label
        if not (label.isascii() and label.isdigit() and len(label) < 10):
            self._has_names = True
            if self._classes is not None:
                raise DataError(f"the label '{label}' is not in '{CLASS_LIST}' beside the shards - add or mend it.")
            return label
        number = int(label)
        most = _MAX_CLASSES if self._classes is None else len(self._classes)
        if number >= most:
            raise DataError(f"its class is {number}, there are {most} - count classes from 0, or mend '{CLASS_LIST}'.")
        self._numbers.add(number)
        return str(number) if self._classes is None else self._classes[number]


def _split_names(members: Sequence[Member]) -> list[_Part]:
    """Split names into keys and endings; names that have none are left out."""
    matches = ((_KEY.fullmatch(member.name), member) for member in members)
    return [_Part(match["key"], match["ending"].lower(), member) for match, member in matches if match]


def _is_clip(part: _Part) -> bool:
    return part.suffix in VIDEO_SUFFIXES or part.suffix in IMAGE_SUFFIXES or part.suffix == ".npz"


def _find_split(shard: Path) -> str | None:
    word = re.match(r"[A-Za-z]*", shard.name)
    try:
        return normalize_split(word.group() if word else "")
    except DataError:
        return None


def _read_text(shard: Path, member: Member) -> str:
    if member.size_bytes > _MAX_TEXT_BYTES:
        raise DataError(f"'{member.name}' has {member.size_bytes} bytes - labels and columns are short texts.")
    try:
        with shard.open("rb") as stream:
            stream.seek(member.offset)
            return stream.read(member.size_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"'{member.name}' is no UTF-8 text - write it again.") from None


def _parse_columns(text: str) -> dict[str, str]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its .json file is none: {error} - write it again.") from None
    if not isinstance(entries, dict):
        raise DataError(f"its .json file holds a {type(entries).__name__} - write an object with a label.")
    return {name: to_text(name, value) for name, value in entries.items() if value is not None and name != "path"}
