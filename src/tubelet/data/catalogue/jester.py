"""Offer Jester: 148,092 clips of 27 hand gestures before a webcam, each a folder of images.

The labels of the test clips are not public, so the official validation clips are `test` here, as in publications, and
`val` is taken out of the training clips. Left and right matter: no horizontal flip.

Source: Materzynska et al. 2019, ICCV workshops; jester-v1-{train,validation}.csv: `id;label`, frames in
20bn-jester-v1/{id}/00001.jpg; the order of jester-v1-labels.csv.
"""

import os
from pathlib import Path

from tubelet.data.catalogue.entry import Request, register_dataset
from tubelet.data.catalogue.shelf import Missing, Shelf, read_rows
from tubelet.data.class_list import read_classes
from tubelet.data.sample import Sample
from tubelet.errors import DataError

__all__ = ["JESTER_CLASSES"]

JESTER_CLASSES = (
    *("Swiping Left", "Swiping Right", "Swiping Down", "Swiping Up", "Pushing Hand Away", "Pulling Hand In"),
    *("Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Down", "Sliding Two Fingers Up"),
    *("Pushing Two Fingers Away", "Pulling Two Fingers In", "Rolling Hand Forward", "Rolling Hand Backward"),
    *("Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand"),
    *("Zooming Out With Full Hand", "Zooming In With Two Fingers", "Zooming Out With Two Fingers", "Thumb Up"),
    *("Thumb Down", "Shaking Hand", "Stop Sign", "Drumming Fingers", "No gesture", "Doing other things"),
)
"""Class names in the order of their indices, where `jester-v1-labels.csv` does not state it."""

TABLE = "manifest.csv"
_PARTS = (("train", "train"), ("validation", "test"))
_ADVICE = (
    "download the frames and the labels there, join and unpack the parts ('cat 20bn-jester-v1-?? | tar -xz'), put the "
    ".csv files beside the folder '20bn-jester-v1', and name the folder that holds both: 'tubelet data download jester "
    "--archive FOLDER'."
)


@register_dataset(
    "jester",
    summary="27 hand gestures, 148,092 clips of 3 s as folders of images; motion decides",
    classes=len(JESTER_CLASSES),
    license="research use, by agreement",
    size_bytes=22_800_000_000,
    citation="Materzynska, Berger, Bax, Memisevic: The Jester Dataset: A Large-Scale Video Dataset of Human Gestures. "
    "2019",
    homepage="https://www.qualcomm.com/developer/software/jester-dataset",
)
def _fetch(folder: Path, request: Request) -> Path:
    shelf = Shelf("jester", folder, request)
    return shelf.find(TABLE) or _make_table(shelf)


def _make_table(shelf: Shelf) -> Path:
    root = shelf.open(advice=_ADVICE)
    lists = {part: _find(root, f"jester-v1-{part}.csv") for part, _ in _PARTS}
    order = next(iter(sorted(root.rglob("jester-v1-labels.csv"))), None)
    classes = read_classes(order) if order else JESTER_CLASSES
    found = _index_folders(root)
    samples: list[Sample] = []
    missing: list[Missing] = []
    for part, split in _PARTS:
        for row in read_rows(lists[part], delimiter=";", columns=("id", "label")):
            name, label = row["id"].strip(), row["label"].strip()
            if label not in classes:
                raise DataError(
                    f"cannot use '{lists[part]}' - clip '{name}' has the label '{label}', which is no class."
                )
            place = found.get(name)
            if place is None or not _has_files(place):
                missing.append(Missing(name, label, split, "absent" if place is None else "empty"))
            else:
                samples.append(Sample(os.path.abspath(place), label, split))  # noqa: PTH100 - links stay links
    shelf.publish({TABLE: samples}, classes, missing)
    return shelf.home / TABLE


def _find(root: Path, name: str) -> Path:
    places = sorted(root.rglob(name)) if root.is_dir() else []
    if not places:
        raise DataError(f"cannot use '{root}' as Jester - no {name!r} is there - put the labels beside the frames.")
    return places[0]


def _index_folders(root: Path) -> dict[str, str]:
    """Find the folders of frames by name: those in `20bn-jester-v1`, or in the folder itself."""
    places = [place for place in (root / "20bn-jester-v1", *sorted(root.glob("*/20bn-jester-v1"))) if place.is_dir()]
    with os.scandir(places[0] if places else root) as scan:
        return {entry.name: entry.path for entry in scan if entry.is_dir()}


def _has_files(folder: str) -> bool:
    with os.scandir(folder) as scan:
        return next(scan, None) is not None
