"""Offer Something-Something v2: 220,847 clips of people who do one of 174 things with something.

The labels of the test clips are not public, so the official validation clips are `test` here, as in publications, and
`val` is taken out of the training clips. Left and right matter: no horizontal flip.

Source: Goyal et al. 2017, arXiv 1706.04261; something-something-v2-{train,validation,labels}.json: each clip's
template is its label, without the brackets around what is held.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tubelet.data.catalogue.entry import Request, register_dataset
from tubelet.data.catalogue.shelf import CONTENT, Missing, Shelf, index_files
from tubelet.data.sample import Sample
from tubelet.errors import DataError

__all__ = ["read_templates"]

TABLE = "manifest.csv"
_PARTS = (("train", "train"), ("validation", "test"))
_ADVICE = (
    "download the videos and the labels there, join and unpack the parts ('cat 20bn-something-something-v2-?? | tar "
    "-xz'), put the .json files beside them, and name the folder: "
    "'tubelet data download something-v2 --archive FOLDER'."
)


def read_templates(path: Path) -> tuple[str, ...]:
    """Read the class names in the order of their indices.

    Raises:
        DataError: other JSON, or indices that do not count from 0 without a gap.
    """
    content = _read_json(path, dict)
    names: Mapping[int, str] = {int(index): name for name, index in content.items() if str(index).isdigit()}
    if sorted(names) != list(range(len(content))):
        raise DataError(f"cannot use '{path}' - its indices do not count from 0 without a gap - take an intact copy.")
    return tuple(names[index] for index in sorted(names))


@register_dataset(
    "something-v2",
    summary="174 things done with something, 220,847 clips of 4 s; motion decides",
    classes=174,
    license="research use, by agreement",
    size_bytes=19_400_000_000,
    citation="Goyal et al.: The 'Something Something' Video Database for Learning and Evaluating Visual Common Sense. "
    "2017",
    homepage="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
)
def _fetch(folder: Path, request: Request) -> Path:
    shelf = Shelf("something-v2", folder, request)
    return shelf.find(TABLE) or _make_table(shelf)


def _make_table(shelf: Shelf) -> Path:
    root = shelf.open(advice=_ADVICE)
    classes = read_templates(_find(root, "labels"))
    known = set(classes)
    found = index_files(root, (".webm", ".mp4", ".mkv", ".avi"))
    samples: list[Sample] = []
    missing: list[Missing] = []
    for part, split in _PARTS:
        path = _find(root, part)
        for clip in _read_json(path, list):
            name = str(clip.get("id", ""))
            label = str(clip.get("template", "")).replace("[", "").replace("]", "")
            if label not in known:
                raise DataError(
                    f"cannot use '{path}' - clip '{name}' has the template '{label}', which is no class - take labels "
                    "and lists of the same version."
                )
            place = found.get(name)
            if place is not None and place.stat().st_size > 0:
                samples.append(Sample(os.path.abspath(place), label, split))  # noqa: PTH100 - links stay links
            else:
                missing.append(Missing(name, label, split, "empty" if place else "absent"))
    shelf.publish({TABLE: samples}, classes, missing)
    return shelf.home / TABLE


def _find(root: Path, part: str) -> Path:
    """Find a list by its long official name, or by the short one of later downloads."""
    for name in (f"something-something-v2-{part}.json", f"{part}.json"):
        places = sorted(root.rglob(name))
        if places:
            return places[0]
    raise DataError(
        f"cannot use '{root}' as Something-Something v2 - no 'something-something-v2-{part}.json' is there - put the "
        f"labels beside the videos; without --archive they are looked for in '{CONTENT}' of the data set."
    )


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read '{path}' - {error} - take an intact copy of it.") from None
    if not isinstance(content, kind) or (isinstance(content, list) and not all(isinstance(x, dict) for x in content)):
        raise DataError(f"cannot use '{path}' - it does not hold what the official file does - take an intact copy.")
    return content
