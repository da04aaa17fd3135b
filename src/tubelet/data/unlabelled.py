"""Open clips that nobody has labelled, or whose labels do not matter: folders of videos, lists of files, and all else.

    videos/            list.txt              what `open_data` opens
      a.mp4              videos/a.mp4          its labels and splits are kept, so that a training
      day2/b.mkv         /other/b.mkv          that follows holds out the same clips

Clips without labels all get the label `unlabelled`; they are divided into `train` and `val`, never into `test`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tubelet.data.catalogue import open_data
from tubelet.data.catalogue.entry import DEFAULT_REQUEST, Request
from tubelet.data.folders import find_clip
from tubelet.data.groups import group_samples
from tubelet.data.lists import has_labels
from tubelet.data.manifest import Manifest, check_manifest
from tubelet.data.sample import Sample
from tubelet.data.splits import split_manifest
from tubelet.errors import DataError

__all__ = ["UNLABELLED", "list_clips", "open_unlabelled"]

UNLABELLED = "unlabelled"
"""The label of clips that have none."""


def open_unlabelled(
    source: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 42,
    request: Request = DEFAULT_REQUEST,
) -> Manifest:
    """Open clips from a folder of videos, from a list of files, or from anything that `open_data` opens.

    A folder is one of unlabelled videos where a video lies right in it, not in a folder below; then those below count,
    too, and `group_by="folder"` keeps each of them together.

    Args:
        source: the folder, a .txt file with one path a line (relative ones start at its folder), or labelled clips.
        group_by: column whose values stay together in one split.
        val: share of the clips for measuring the loss.
        test: share of labelled clips to leave alone; of the others none are.
        seed: seed of the split.
        request: what is wanted of a data set of the catalogue, and how it may be got.

    Raises:
        DataError: no such source, files that are not there, or a list that names a file twice.
    """
    path = Path(source)
    if path.is_dir() and any(_is_video(entry) for entry in path.iterdir()):
        manifest = list_clips(sorted(_find_videos(path)), path, group_by=group_by)
    elif path.suffix.lower() == ".txt" and path.is_file() and not has_labels(path):
        manifest = list_clips(_read_list(path), path, group_by=group_by)
    else:
        return open_data(source, group_by=group_by, val=val, test=test, seed=seed, request=request)
    return split_manifest(manifest, val=val, test=0.0, seed=seed)


def list_clips(
    paths: Sequence[str | os.PathLike[str]], origin: str | os.PathLike[str], *, group_by: str | None = None
) -> Manifest:
    """Make a manifest of clips without labels and without splits.

    Args:
        paths: videos, or folders of images.
        origin: the folder or file that they come from; names are told from there.
        group_by: `folder` keeps together what lies in one folder.

    Raises:
        DataError: no path at all, or some that are not there, empty, or named twice.
    """
    if not paths:
        raise DataError(f"cannot find a clip in '{origin}' - it names none - give at least one video.")
    places = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - resolve() would replace links by what they name
    samples = [Sample(place, UNLABELLED, metadata={"folder": os.path.dirname(place)}) for place in places]  # noqa: PTH120
    start = Path(os.path.abspath(origin))  # noqa: PTH100
    manifest = Manifest(tuple(group_samples(start, samples, group_by)), (UNLABELLED,), str(start))
    check_manifest(manifest)
    return replace(manifest, notes=())  # what it finds odd is about classes


def _is_video(path: Path) -> bool:
    return find_clip(path) == path


def _find_videos(root: Path) -> list[Path]:
    found = set()
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found |= {find_clip(Path(folder) / name) for name in names}
    return [path for path in found if path is not None]


def _read_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"cannot read '{path}' - {error.strerror} - check the path and its permissions.") from None
    return [path.parent / line.strip() for line in lines if line.strip()]
