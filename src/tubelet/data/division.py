"""Write samples down again: as a table that is read as any other, or as array files with another column."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tubelet import files
from tubelet.data.arrays import read_headers
from tubelet.data.manifest import Manifest
from tubelet.data.sample import SPLITS, Sample
from tubelet.errors import ConfigError, DataError

__all__ = [
    "check_ending",
    "check_free",
    "check_output",
    "write_division",
    "write_manifest",
    "write_parts",
    "write_selection",
]


def check_output(manifest: Manifest, path: str | Path, *, is_folder: bool = False) -> None:
    """Check before any work that samples can be written to such a path.

    Raises:
        ConfigError: another ending than .csv, or than .npz where the samples are rows of arrays; clips in shards.
        DataError: rows of arrays whose names state the splits.
    """
    suffix = Path(path).suffix.lower()
    _refuse_shards(manifest.samples)
    if not _are_rows(manifest.samples):
        if not is_folder and suffix != ".csv":
            raise ConfigError(f"cannot write a table to {str(path)!r} - tables are .csv files - choose such a name.")
        return
    if is_folder or suffix != ".npz":
        raise ConfigError(
            f"cannot write rows of '{manifest.origin}' to {str(path)!r} - no table can name them - give one output "
            "that ends in .npz: the same arrays with a column more."
        )
    if any(sample.member != "x" for sample in manifest.samples):
        raise DataError(
            f"cannot divide '{manifest.origin}' - the names of its arrays state the splits - store x and y."
        )


def _refuse_shards(samples: Sequence[Sample]) -> None:
    inside = next((sample for sample in samples if sample.extent is not None), None)
    if inside is not None:
        raise ConfigError(
            f"cannot write '{inside.name}' into a table - no table can name what lies in a shard - state splits by the "
            "names of shards, as in train-000000.tar, or in their .json files."
        )


def _are_rows(samples: Sequence[Sample]) -> bool:
    return any(sample.row is not None for sample in samples)


def write_division(manifest: Manifest, path: str | Path, extra: Mapping[str, Sequence[str]] | None = None) -> None:
    """Write all samples of a manifest with their splits, and further columns: a .csv table, or an .npz file of arrays.

    Raises:
        ConfigError: a path that does not fit; see `check_output`.
        DataError: arrays that state their splits otherwise.
    """
    check_output(manifest, path)
    if not _are_rows(manifest.samples):
        write_manifest(manifest, path, extra)
        return
    arrays: dict[str, Any] = {}
    with np.load(manifest.origin, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in read_headers(manifest.origin)}
    if any(sample.split for sample in manifest.samples):
        arrays["split"] = np.array([sample.split or "" for sample in manifest.samples])
    arrays |= {name: np.array(values) for name, values in (extra or {}).items()}
    with files.write_whole(path) as stream:
        np.savez_compressed(stream, **arrays)


def write_selection(manifest: Manifest, samples: Sequence[Sample], path: str | Path) -> None:
    """Write some samples of a manifest as they are: a .csv table, or an .npz file with their rows of every array.

    Raises:
        ConfigError: a path that does not fit; see `check_ending`.
    """
    check_ending(manifest.origin, path)
    if not _are_rows(manifest.samples):
        write_manifest(replace(manifest, samples=tuple(samples)), path)
        return
    rows: dict[str, list[int]] = {sample.member: [] for sample in manifest.samples if sample.member is not None}
    for sample in samples:
        if sample.member is not None and sample.row is not None:
            rows[sample.member].append(sample.row)
    arrays: dict[str, Any] = {}
    with np.load(manifest.origin, allow_pickle=False) as archive:
        headers = read_headers(manifest.origin)
        for name, header in headers.items():
            # x goes with all that is as long; train_images with train_labels, whatever the lengths of the others.
            member = "x" if "x" in rows else f"{name.partition('_')[0]}_images"
            goes = name != "class_names" and member in rows and header.shape[:1] == headers[member].shape[:1]
            arrays[name] = archive[name][rows[member]] if goes else archive[name]
    with files.write_whole(path) as stream:
        np.savez_compressed(stream, **arrays)


def check_ending(origin: str | Path, path: str | Path) -> None:
    """Check before any work that some samples of `origin` can be written to such a path.

    Raises:
        ConfigError: another ending than .csv, or than .npz where the samples are rows of arrays.
    """
    wanted = ".npz" if Path(origin).suffix.lower() == ".npz" else ".csv"
    if Path(path).suffix.lower() != wanted:
        kind = "rows of arrays" if wanted == ".npz" else "files"
        raise ConfigError(
            f"cannot write clips of '{origin}' to {str(path)!r} - they are {kind} - give a {wanted} file."
        )


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Check that nothing is lost by writing there: the input may be what stands there.

    Raises:
        ConfigError: a file stands there, or a folder that is not empty.
    """
    place = Path(path)
    if not overwrite and place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ConfigError(
            f"cannot write to {str(path)!r} - it exists already - choose another name, or add --overwrite."
        )


def write_parts(manifest: Manifest, folder: str | Path) -> list[Path]:
    """Write each split of a manifest into a table of its own: train.csv, val.csv, test.csv.

    Raises:
        ConfigError: rows of arrays, which no table can name.
    """
    check_output(manifest, folder, is_folder=True)
    written = []
    for split in SPLITS:
        samples = manifest.select(split)
        if samples:
            written.append(Path(folder) / f"{split}.csv")
            write_manifest(replace(manifest, samples=samples), written[-1])
    return written


def write_manifest(manifest: Manifest, path: str | Path, extra: Mapping[str, Sequence[str]] | None = None) -> None:
    """Write samples as a table that `read_manifest` reads: path, label(s), split, group, span, and their other columns.

    Clips at or below the table's folder are named from there, so that both can be moved; others by absolute paths.

    Args:
        manifest: of videos or folders of frames, whole or in part.
        path: a .csv file.
        extra: further columns, a value for each sample.

    Raises:
        ConfigError: clips that lie in shards.
    """
    samples = manifest.samples
    _refuse_shards(samples)
    folder = os.path.abspath(Path(path).parent)  # noqa: PTH100 - as the samples' own paths are made
    columns = {
        "path": [_name_from(folder, sample.source) for sample in samples],
        "labels" if manifest.task == "multilabel" else "label": [sample.label for sample in samples],
    }
    optional = {
        "split": [sample.split or "" for sample in samples],
        "group": [sample.group or "" for sample in samples],
        "start_s": ["" if sample.start_s is None else repr(sample.start_s) for sample in samples],
        "end_s": ["" if sample.end_s is None else repr(sample.end_s) for sample in samples],
    }
    columns |= {name: values for name, values in optional.items() if any(values)}
    columns |= {name: list(values) for name, values in (extra or {}).items()}
    for name in sorted({name for sample in samples for name in sample.metadata} - columns.keys()):
        columns[name] = [sample.metadata.get(name, "") for sample in samples]
    with files.write_whole(path, "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _name_from(folder: str, source: str) -> str:
    below = os.path.join(folder, "")  # noqa: PTH118 - with the separator
    return source.removeprefix(below) if source.startswith(below) else source
