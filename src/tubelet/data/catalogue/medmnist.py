"""Offer the six sets of medical volumes of MedMNIST, in 28 and in 64 voxels a side: one .npz file each.

Sizes, class names in the order of their indices, and hashes are those of medmnist 3. OrganMNIST3D and VesselMNIST3D
once held one blank volume more, 972 for training instead of 971 and 192 for validation instead of 191: both files of
each are right, results on them differ a little.

Source: Yang et al. 2023, Scientific Data 10:41; MedMNIST/MedMNIST, medmnist/info.py; zenodo.org/records/10519652.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tubelet.data.catalogue.entry import DATASETS, Entry, Request
from tubelet.data.catalogue.shelf import Shelf
from tubelet.data.class_list import CLASS_LIST, write_classes
from tubelet.errors import DataError
from tubelet.fetching import Remote, check_file

__all__ = ["MEDMNIST", "MEDMNIST_REMOTES", "MedMnist"]

_HOST = "https://zenodo.org/records/10519652/files"


@dataclass(frozen=True)
class MedMnist:
    """State what is known of one set."""

    summary: str
    classes: tuple[str, ...]
    """In the order of their indices."""
    md5: str
    """Of the file with 28 voxels a side."""
    md5_64: str
    """Of the file with 64 voxels a side."""
    md5_old: str = ""
    """Of the file with 28 voxels a side and one blank volume more, where there was one."""


MEDMNIST = {
    "organmnist3d": MedMnist(
        "CT of 11 organs, 1,742 volumes",
        (
            *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart", "lung-right"),
            *("lung-left", "spleen", "pancreas"),
        ),
        "a0c5a1ff56af4f155c46d46fbb45a2fe",
        "58a2205adf14a9d0a189cb06dc78bf10",
        "21f0a239e7f502e6eca33c3fc453c0b6",
    ),
    "nodulemnist3d": MedMnist(
        "CT of lung nodules, 1,633 volumes",
        ("benign", "malignant"),
        "8755a7e9e05a4d9ce80a24c3e7a256f3",
        "c47c5b7d457bf6332200d2ea6d64ecd8",
    ),
    "adrenalmnist3d": MedMnist(
        "shapes of adrenal glands, 1,584 volumes",
        ("normal", "hyperplasia"),
        "bbd3c5a5576322bc4cdfea780653b1ce",
        "17721accfe9fb005146a47d33bc54b2f",
    ),
    "fracturemnist3d": MedMnist(
        "CT of rib fractures, 1,370 volumes",
        ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        "6aa7b0143a6b42da40027a9dda61302f",
        "f01d7e6316aedf4210da0da5b7437b42",
    ),
    "vesselmnist3d": MedMnist(
        "shapes of brain vessels, 1,908 volumes",
        ("vessel", "aneurysm"),
        "b41fd4f7e7e2feedddb201585ecafa1b",
        "6bb274a8846e1097066dcd64e2c4520f",
        "2ba5b80617d705141f3f85627108fce8",
    ),
    "synapsemnist3d": MedMnist(
        "electron microscopy of synapses, 1,759 volumes",
        ("inhibitory synapse", "excitatory synapse"),
        "1235b78a3cd6280881dd7850a78eadb6",
        "43bd14ebf3af9d3dd072446fedc14d5e",
    ),
}
"""The sets by name."""


def _make_remote(flag: str, size: int) -> Remote:
    known, name = MEDMNIST[flag], f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz"
    hashes = (known.md5, known.md5_old) if size == 28 else (known.md5_64,)
    return Remote(f"{_HOST}/{name}?download=1", name, tuple(("md5", digits) for digits in hashes if digits))


MEDMNIST_REMOTES = {
    flag if size == 28 else f"{flag}-{size}": _make_remote(flag, size) for flag in MEDMNIST for size in (28, 64)
}
"""The file of each data set; those of 64 voxels a side are called `organmnist3d-64` and so on."""


def _fetch(folder: Path, request: Request, *, name: str) -> Path:
    shelf = Shelf(name, folder, request)
    remote = MEDMNIST_REMOTES[name]
    if request.classes:
        raise DataError(f"cannot take single classes of '{name}' - it is one small file - leave out --classes.")
    table = shelf.find(remote.name)
    if table is None:
        table = _take(shelf, remote)
        write_classes(shelf.home / CLASS_LIST, MEDMNIST[name.removesuffix("-64")].classes)
    return table


def _take(shelf: Shelf, remote: Remote) -> Path:
    """Fetch the file, or copy the user's own: it is small, and the names of its classes must lie beside it."""
    own = shelf.request.archive
    if own is None:
        return shelf.take(remote)
    source = own / remote.name if own.is_dir() else own
    if not source.is_file():
        raise DataError(f"cannot take '{shelf.entry.name}' from {str(own)!r} - no {remote.name!r} is there.")
    check_file(source, remote)
    place = shelf.home / remote.name
    shelf.home.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{remote.name}.new")
    shutil.copyfile(source, temporary)
    temporary.replace(place)
    return place


for _name in MEDMNIST_REMOTES:
    _known = MEDMNIST[_name.removesuffix("-64")]
    DATASETS.add(
        _name,
        Entry(
            name=_name,
            summary=f"{_known.summary}, {'64' if _name.endswith('-64') else '28'} voxels a side",
            classes=len(_known.classes),
            license="CC BY 4.0",
            fetch=partial(_fetch, name=_name),
            citation="Yang et al.: MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image "
            "classification. Scientific Data, 2023",
            homepage="https://medmnist.com",
            kind="volumes",
        ),
    )
