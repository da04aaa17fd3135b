"""Offer Kinetics-400, 600 and 700: clips of 10 s from YouTube, 400 to 700 actions.

    all classes       the archives of the CVDF host, hundreds of them            (or of a mirror)
    some classes      each clip from YouTube with yt-dlp, cut out with `cut_clip` (or all archives, from a mirror)
    --archive DIR     clips, or whole videos to cut them out of, that you have

Clips are called {youtube_id}_{start:06d}_{end:06d}.mp4, whole videos {youtube_id}.mp4. Some have left YouTube and some
archives lack a few: what is not there is listed in `missing.csv` and never replaced. Every copy of Kinetics differs a
little, so do its results. The labels of the test clips are not public: the official validation clips are `test` here,
as in publications, and `val` is taken out of the training clips. Clips of one version are in other splits of another:
never train on one and test on another.

Source: Kay et al. 2017, arXiv 1705.06950; Carreira et al. 2018, arXiv 1808.01340; Smaira et al. 2020, arXiv
2010.10864;
github.com/cvdfoundation/kinetics-dataset.
"""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tubelet.archives import unpack
from tubelet.data.catalogue.entry import DATASETS, Entry, Request
from tubelet.data.catalogue.shelf import CONTENT, Forbidden, Missing, Shelf, index_files, read_rows
from tubelet.data.sample import Sample
from tubelet.errors import DataError, MissingExtra, TubeletError
from tubelet.fetching import Remote
from tubelet.files import DiskFull
from tubelet.video.cutting import cut_clip
from tubelet.video.source import Video

__all__ = ["KINETICS", "KineticsClip", "KineticsVersion", "read_annotations"]

HOST = "https://s3.amazonaws.com/kinetics/"
TABLE = "manifest.csv"
CUT = "cut"
"""Folder of the clips that were cut out of whole videos."""
WHOLE = "whole"
"""Folder of whole videos from YouTube, until the clip is cut out."""
_WATCH = "https://www.youtube.com/watch?v="
_SPLITS = {"train": "train", "val": "test"}
_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
_LONGER_S = 1.0
"""A video this much longer than its clip is a whole one, out of which the clip must be cut."""
# Names that somebody else wrote become names of files here.
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_ARCHIVE = re.compile(r"\w[\w.-]*\.(tar|tar\.gz|tgz)", re.ASCII)


@dataclass(frozen=True)
class KineticsVersion:
    """State where one version lies."""

    classes: int
    citation: str
    folder: str
    """On the CVDF host."""
    prefix: str
    """Of the lists of archives."""
    annotations: str = "annotations/{split}.csv"
    """On the CVDF host; empty where only the official archive is complete."""
    replacement: str = ""
    """Archive of clips that are damaged in the others."""


KINETICS = {
    "kinetics400": KineticsVersion(
        400,
        "Kay et al.: The Kinetics Human Action Video Dataset. 2017",
        "400",
        "k400",
        replacement="replacement_for_corrupted_k400.tgz",
    ),
    "kinetics600": KineticsVersion(
        600, "Carreira et al.: A Short Note about Kinetics-600. 2018", "600", "k600", annotations=""
    ),
    "kinetics700": KineticsVersion(
        700,
        "Smaira et al.: A Short Note on the Kinetics-700-2020 Human Action Dataset. 2020",
        "700_2020",
        "k700_2020",
    ),
}
"""The versions by name; 700 is that of 2020."""

_OFFICIAL = "https://storage.googleapis.com/deepmind-media/Datasets/kinetics600.tar.gz"


class KineticsClip(NamedTuple):
    """Name one clip of the official lists."""

    label: str
    youtube_id: str
    start_s: int
    end_s: int
    split: str

    @property
    def stem(self) -> str:
        """Give the official name of the clip's file, without the ending."""
        return f"{self.youtube_id}_{self.start_s:06d}_{self.end_s:06d}"


def read_annotations(path: Path, split: str) -> list[KineticsClip]:
    """Read the clips of an official table; those without a label are left out.

    Raises:
        DataError: another table, or times that are no numbers.
    """
    clips = []
    for number, row in enumerate(read_rows(path), start=2):
        try:
            clip = KineticsClip(
                row.get("label", "").strip(),
                row["youtube_id"].strip(),
                round(float(row["time_start"])),
                round(float(row["time_end"])),
                split,
            )
        except (KeyError, ValueError) as error:
            raise DataError(
                f"cannot read '{path}' - line {number}: {type(error).__name__} {error} - it needs the columns label, "
                "youtube_id, time_start and time_end."
            ) from None
        if not _ID.fullmatch(clip.youtube_id):
            raise DataError(f"cannot read '{path}' - line {number}: {clip.youtube_id!r} is no YouTube id.")
        if clip.label:
            clips.append(clip)
    return clips


def _fetch(folder: Path, request: Request, *, name: str) -> Path:
    shelf = Shelf(name, folder, request)
    return shelf.find(TABLE) or _make_table(shelf, KINETICS[name])


def _make_table(shelf: Shelf, version: KineticsVersion) -> Path:
    """Bring the clips to this disk, and write the table of those that are there."""
    own = shelf.request.archive
    root = shelf.open() if own is not None else None
    listed = _list_clips(shelf, version, root)
    classes = sorted({clip.label for clip in listed})
    chosen = set(shelf.choose_classes(classes))
    clips = [clip for clip in listed if clip.label in chosen]
    is_picked = root is None and bool(shelf.request.classes) and shelf.request.mirror is None
    if root is None and not is_picked:
        _unpack_archives(shelf, version)
    found: dict[str, Path] = {}
    # Of two files for one clip the one in the later folder is taken: replacements are better than what they replace.
    folders = [shelf.home / name for name in (CUT, WHOLE, CONTENT, "replacement")]
    for folder in folders if root is None else [shelf.home / CUT, root]:
        found |= index_files(folder, _SUFFIXES)
    samples, missing = _take_clips(shelf, found, clips, is_picked=is_picked)
    shelf.publish({TABLE: samples}, classes, missing)
    return shelf.home / TABLE


def _take_clips(
    shelf: Shelf, found: dict[str, Path], clips: list[KineticsClip], *, is_picked: bool
) -> tuple[list[Sample], list[Missing]]:
    """Take each clip; a failure costs that clip alone, unless all would fail alike."""
    samples: list[Sample] = []
    missing: list[Missing] = []
    for number, clip in enumerate(clips, start=1):
        try:
            place = _take_clip(shelf, found, clip, is_picked=is_picked)
        except (MissingExtra, Forbidden, DiskFull):
            raise
        except (TubeletError, OSError) as error:
            missing.append(Missing(clip.stem, clip.label, clip.split, str(error)))
        else:
            samples.append(Sample(os.path.abspath(place), clip.label, clip.split, clip.youtube_id))  # noqa: PTH100
        shelf.request.on_progress(number, len(clips))
    return samples, missing


def _list_clips(shelf: Shelf, version: KineticsVersion, own: Path | None) -> list[KineticsClip]:
    """Read the official tables: the user's, or fetched ones."""
    clips: list[KineticsClip] = []
    for split, ours in _SPLITS.items():
        names = [
            f"{split}.csv",
            f"kinetics-{version.classes}_{split}.csv",
            *(["validate.csv"] if split == "val" else []),
        ]
        places = [place for name in names for place in sorted(own.rglob(name))] if own else []
        path = places[0] if places else _fetch_annotations(shelf, version, split)
        clips += read_annotations(path, ours)
    return clips


def _fetch_annotations(shelf: Shelf, version: KineticsVersion, split: str) -> Path:
    if version.annotations:
        below, _, name = f"{version.folder}/{version.annotations.format(split=split)}".rpartition("/")
        return shelf.take(Remote(f"{HOST}{below}/{name}", name), below=f"{below}/")
    folder = shelf.home / "annotations"
    if not folder.is_dir():
        unpack(shelf.take(Remote(_OFFICIAL, _OFFICIAL.rpartition("/")[2])), folder)
    places = sorted(folder.rglob("validate.csv" if split == "val" else f"{split}.csv"))
    if not places:
        raise DataError(f"cannot find the table of '{split}' in '{folder}' - remove it, and it is fetched again.")
    return places[0]


def _unpack_archives(shelf: Shelf, version: KineticsVersion) -> None:
    """Fetch and unpack the archives of the host, each once."""
    for split in _SPLITS:
        below = f"{version.folder}/{split}/"
        name = f"{version.prefix}_{split}_path.txt"
        path = shelf.take(Remote(f"{HOST}{below}{name}", name), below=below)
        for address in path.read_text(encoding="utf-8").split():
            part = address.rpartition("/")[2]
            if not _ARCHIVE.fullmatch(part):
                raise DataError(
                    f"cannot use '{path}' - {address!r} is no archive - remove it, and it is fetched again."
                )
            _unpack_archive(shelf, below, part, shelf.home / CONTENT / split / part.partition(".")[0])
    if version.replacement:
        _unpack_archive(shelf, f"{version.folder}/", version.replacement, shelf.home / "replacement")


def _unpack_archive(shelf: Shelf, below: str, part: str, target: Path) -> None:
    """Fetch and unpack one archive, and remove it then: there are hundreds."""
    if target.is_dir():
        return
    archive = shelf.take(Remote(f"{HOST}{below}{part}", part), below=below)
    unpack(archive, target, on_progress=shelf.request.on_progress)
    archive.unlink()


def _take_clip(shelf: Shelf, found: dict[str, Path], clip: KineticsClip, *, is_picked: bool) -> Path:
    """Return the file of a clip: as it is, cut out of a whole video, or fetched from YouTube and cut.

    Raises:
        DataError: absent or empty.
        VideoError: it cannot be cut.
    """
    place = found.get(clip.stem) or found.get(clip.youtube_id)
    if place is None and is_picked:
        place = _download(shelf, clip)
    if place is None:
        raise DataError("absent")
    if place.stat().st_size == 0:
        raise DataError("empty")
    if place.stem == clip.stem or _is_cut(place, clip):
        return place
    target = shelf.home / CUT / f"{clip.stem}.mp4"
    cut_clip(place, target, float(clip.start_s), float(clip.end_s))
    if place.parent == shelf.home / WHOLE:
        place.unlink()  # it was fetched for this clip, and is many times as long
    return target


def _is_cut(place: Path, clip: KineticsClip) -> bool:
    """Tell whether a video that is called like a whole one holds the clip alone: some copies are named so."""
    with Video(place) as video:
        return video.info.duration_s <= clip.end_s - clip.start_s + _LONGER_S


def _download(shelf: Shelf, clip: KineticsClip) -> Path:
    """Fetch a video from YouTube.

    Raises:
        MissingExtra: yt-dlp is not installed.
        DataError: it is gone, private, or YouTube refuses.
    """
    folder = shelf.home / WHOLE
    shelf.check_permission(folder / f"{clip.youtube_id}.mp4", _WATCH + clip.youtube_id)
    try:
        import yt_dlp
    except ImportError:
        raise MissingExtra(
            f"single classes of '{shelf.entry.name}' were asked for - yt-dlp, which gets clips from YouTube, is not "
            "installed - pip install 'tubelet[kinetics]', or name a folder of clips with --archive."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "format": "best[ext=mp4][height<=480]/best[ext=mp4]/best",
        "outtmpl": os.fspath(folder / "%(id)s.%(ext)s"),
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "retries": 3,
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([_WATCH + clip.youtube_id])
    except yt_dlp.utils.DownloadError as error:
        raise DataError(f"failed: {error}") from None
    places = sorted(folder.glob(f"{clip.youtube_id}.*"))
    if not places:
        raise DataError("failed: nothing was written")
    return places[0]


for _name, _version in KINETICS.items():
    DATASETS.add(
        _name,
        Entry(
            name=_name,
            summary=f"{_version.classes} actions, clips of 10 s from YouTube",
            classes=_version.classes,
            license="CC BY 4.0 (lists)",
            fetch=partial(_fetch, name=_name),
            citation=_version.citation,
            homepage="https://github.com/cvdfoundation/kinetics-dataset",
        ),
    )
