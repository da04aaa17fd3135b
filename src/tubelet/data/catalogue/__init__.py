"""Know data sets by name: make or fetch them once, then read them like anybody's own clips.

One file a family of data sets; each registers entries here.
"""

import os
from dataclasses import replace
from pathlib import Path

from tubelet.data.catalogue import worlds as worlds  # registers its entries
from tubelet.data.catalogue.entry import DATASETS, Entry, OnProgress, data_home
from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.splits import split_manifest
from tubelet.errors import DataError, name_nearest

__all__ = ["DATASETS", "Entry", "data_home", "find_data", "open_data"]


def open_data(
    source: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 42,
    split_if_missing: bool = True,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Manifest:
    """Open labelled clips, from a path or by name, checked, and split where they state no split.

    Args:
        source: a folder of class folders, a manifest, an .npz file, or a name of the catalogue.
        group_by: column whose values stay together in one split.
        val: share of the clips for validation.
        test: share of the clips for the final figure.
        seed: seed of the split.
        split_if_missing: leave clips without a split as they are if False.
        on_progress: called with (done, total) while data is made or fetched.

    Raises:
        DataError: no such source, or one that contradicts itself; with file and line.
    """
    manifest = read_manifest(find_data(source, on_progress), group_by=group_by)
    notes = check_manifest(manifest)
    if split_if_missing:
        manifest = split_manifest(manifest, val=val, test=test, seed=seed)
        # What looked wrong before the split may be mended by it, and the other way round: ask about what is used.
        notes = check_manifest(manifest)
    return replace(manifest, notes=tuple(dict.fromkeys(notes)))


def find_data(source: str | os.PathLike[str], on_progress: OnProgress = lambda _done, _total: None) -> str:
    """Return the path of labelled clips that are given by path or by name; what is known by name is made or fetched.

    Raises:
        DataError: no such path, and no such name.
    """
    name = os.fspath(source)
    if not name:
        raise DataError("cannot open data - none was named - give a folder of class folders, a manifest, or a name.")
    if not Path(name).exists():
        if name not in DATASETS:
            near = name_nearest(name, DATASETS) or "."
            raise DataError(
                f"cannot open data {name!r} - neither a path nor a known name{near} Known names: {', '.join(DATASETS)}."
            )
        name = os.fspath(DATASETS[name].fetch(data_home(), on_progress))
    return name
