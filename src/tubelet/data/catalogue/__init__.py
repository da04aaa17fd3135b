"""Know data sets by name: make or fetch them once, then read them like anybody's own clips.

One file a family of data sets; each registers entries here.
"""

import os
from dataclasses import replace
from pathlib import Path

# These register their entries.
from tubelet.data.catalogue import hmdb51 as hmdb51
from tubelet.data.catalogue import jester as jester
from tubelet.data.catalogue import kinetics as kinetics
from tubelet.data.catalogue import medmnist as medmnist
from tubelet.data.catalogue import something_v2 as something_v2
from tubelet.data.catalogue import ucf101 as ucf101
from tubelet.data.catalogue import worlds as worlds
from tubelet.data.catalogue.entry import DATASETS, DEFAULT_REQUEST, Entry, Request, data_home, register_dataset
from tubelet.data.catalogue.shelf import MISSING, describe_missing
from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.splits import split_manifest
from tubelet.errors import ConfigError, DataError, name_nearest

__all__ = [
    "DATASETS",
    "Entry",
    "Request",
    "data_home",
    "fetch_dataset",
    "find_data",
    "find_on_disk",
    "open_data",
    "register_dataset",
]


def open_data(
    source: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 42,
    split_if_missing: bool = True,
    request: Request = DEFAULT_REQUEST,
) -> Manifest:
    """Open labelled clips, from a path or by name, checked, and split where they state no split.

    Args:
        source: a folder of class folders, a manifest, an .npz file, a published list, or a name of the catalogue.
        group_by: column whose values stay together in one split.
        val: share of the clips for validation.
        test: share of the clips for the final figure.
        seed: seed of the split.
        split_if_missing: leave clips without a split as they are if False.
        request: what is wanted of a data set of the catalogue, and how it may be got.

    Raises:
        DataError: no such source, or one that contradicts itself; with file and line.
        ConfigError: an official split that the source does not have.
    """
    path, lacking = _find(source, request)
    manifest = read_manifest(path, group_by=group_by)
    manifest = replace(manifest, notes=(*manifest.notes, *lacking))
    notes = check_manifest(manifest)
    if split_if_missing:
        manifest = split_manifest(manifest, val=val, test=test, seed=seed)
        # What looked wrong before the split may be mended by it, and the other way round: ask about what is used.
        notes = check_manifest(manifest)
    return replace(manifest, notes=tuple(dict.fromkeys(notes)))


def find_data(source: str | os.PathLike[str], request: Request = DEFAULT_REQUEST) -> str:
    """Return the path of labelled clips that are given by path or by name; what is known by name is made or fetched.

    Raises:
        DataError: no such path, and no such name.
        ConfigError: an official split that the source does not have.
    """
    return _find(source, request)[0]


def _find(source: str | os.PathLike[str], request: Request) -> tuple[str, list[str]]:
    """Return the path of labelled clips, and what a set of the catalogue lacks."""
    name = os.fspath(source)
    if not name:
        raise DataError("cannot open data - none was named - give a folder of class folders, a manifest, or a name.")
    if Path(name).exists():
        if request.fold != 1:
            raise ConfigError(
                f"split {request.fold} of {name!r} was asked for - only data sets of the catalogue have numbered "
                "splits - leave out --fold, and state splits in the data."
            )
        return name, []
    if name not in DATASETS:
        near = name_nearest(name, DATASETS) or "."
        raise DataError(
            f"cannot open data {name!r} - neither a path nor a known name{near} Known names: {', '.join(DATASETS)}."
        )
    table = fetch_dataset(name, request)
    return os.fspath(table), describe_missing(table) if table.is_relative_to(data_home()) else []


def fetch_dataset(name: str, request: Request = DEFAULT_REQUEST) -> Path:
    """Get a data set of the catalogue, unless it is there, and return what `read_manifest` takes.

    Raises:
        UnknownName: no such data set.
        ConfigError: an official split that it does not have.
        DataError: it is not there and cannot, or may not, be fetched; says what to put where.
    """
    entry = DATASETS[name]
    entry.check_request(request)
    return Path(entry.fetch(data_home(), request))


def find_on_disk(name: str) -> str:
    """Say how much of a data set is on this machine: `yes`, `partly` (fetching was cut), or `no`."""
    home = data_home() / name
    tables = [path for path in home.glob("*") if path.suffix in (".csv", ".npz") and path.name != MISSING]
    if tables or home.with_name(f"{name}.npz").is_file():
        return "yes"
    return "partly" if home.is_dir() else "no"
