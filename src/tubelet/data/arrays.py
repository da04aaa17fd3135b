"""Read arrays of clips, volumes or features from .npz files, without trusting them.

    x (N, ...) and y (N,)  [group (N,), split (N,), class_names (classes,), other columns (N,)]
    {train,val,test}_images (N, ...) and {train,val,test}_labels (N,) or (N, 1)

Labels (N, classes) of 0 and 1 say for each class whether the row has it: any number of classes a row.

Rows of three axes and more are pixels, rows (time, feature) are features of frames. Where these are clips of different
lengths, padded at the end, `lengths` (N,) says how many frames of each row are real (`train_lengths` and so on beside
`train_images`).

The layout with `images` is MedMNIST's. Labels are class indices, or names. Only the headers and the short columns are
read at first; pixels are read when the first row of an array is asked for. Nothing is ever unpickled, and an array
whose header promises other than what the file holds is refused before memory is taken for it.

Source: the .npy format is that of numpy.lib.format; keys as in MedMNIST/MedMNIST, medmnist/dataset.py.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped

from tubelet.data.array_labels import (
    MAX_TEXT_BYTES,
    check_labels,
    is_multilabel,
    name_classes,
    name_labels,
    to_texts,
)
from tubelet.data.class_list import CLASS_LIST, read_classes
from tubelet.data.sample import (
    SPLITS,
    FeatureShape,
    Problem,
    Reading,
    Sample,
    check_problems,
    normalize_split,
    quote_some,
)
from tubelet.errors import DataError
from tubelet.shapes import Task

__all__ = ["MAX_ARRAY_BYTES", "ArrayHeader", "load_array", "load_features", "load_row", "read_arrays", "read_headers"]

MAX_ARRAY_BYTES = 4 * 2**30
"""Largest array that is read: all of it goes to memory, in every process that reads."""
MAX_RATIO = 1000
"""Bytes in memory for each byte on disk, in an array above `FREE_BYTES`: voxels pack 100:1, bombs 1000:1 and more."""
FREE_BYTES = 64 * 2**20
"""Arrays up to this size may be packed as tightly as they like."""

_MAX_MEMBERS = 1000
_KEPT_ARRAYS = 4
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError, NotImplementedError)

Values = Shaped[np.ndarray, "..."]


class ArrayHeader(NamedTuple):
    """State what an array is, known without reading it."""

    shape: tuple[int, ...]
    """Extent along each axis."""
    dtype: np.dtype
    """Type of one value; never `object`."""


def read_headers(path: str | Path, content: bytes | None = None) -> dict[str, ArrayHeader]:
    """Read the names, shapes and types of the arrays in an .npz file, and check that the file holds that much.

    Where its content was read already, `path` is only what messages call it.

    Raises:
        DataError: no .npz file, an encrypted or damaged one, pickled objects, or an array above `MAX_ARRAY_BYTES`.

    Cost: a few kB of each array.
    """
    headers: dict[str, ArrayHeader] = {}
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            entries = archive.infolist()
            file_bytes = Path(path).stat().st_size if content is None else len(content)
            if len(entries) > _MAX_MEMBERS:
                raise DataError(f"it holds {len(entries)} files, the limit is {_MAX_MEMBERS}")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in headers:
                    raise DataError(f"it holds two arrays called '{name}'")
                headers[name] = _read_header(archive, entry, file_bytes)
    except DataError as error:
        raise DataError(f"cannot use '{path}' - {error} - write it with numpy.savez_compressed.") from None
    except _BROKEN as error:
        raise DataError(
            f"cannot read '{path}' as an .npz file - {str(error) or type(error).__name__} - "
            "download it again, or write it with numpy.savez_compressed."
        ) from None
    return headers


def _read_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file_bytes: int) -> ArrayHeader:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise DataError(f"'{entry.filename}' has version {version} of the .npy format, known are 1.0 and 2.0")
        try:
            shape, _, dtype = _READERS[version](stream)
        except Exception as error:  # numpy parses the header as Python, and lets through whatever that raises
            raise DataError(f"'{entry.filename}' has an unreadable header ({type(error).__name__})") from None
        start = stream.tell()
    header = ArrayHeader(tuple(shape), dtype)
    _check_header(entry, header, entry.file_size - start, file_bytes)
    return header


def _check_header(entry: zipfile.ZipInfo, header: ArrayHeader, held: int, file_bytes: int) -> None:
    """Refuse an array that must not be read, or that is not as long as its header says.

    Args:
        entry: what the archive's directory says of the array.
        header: what the array says of itself.
        held: bytes of its values, as the directory says.
        file_bytes: size of the whole archive on disk, because the directory may lie.
    """
    shape, dtype = header
    if dtype.hasobject:
        raise DataError(f"'{entry.filename}' holds Python objects, which are never unpickled")
    if dtype.itemsize == 0:
        raise DataError(f"'{entry.filename}' holds values of no size ({dtype})")
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise DataError(f"'{entry.filename}' states the impossible shape {shape}")
    promised = dtype.itemsize
    for length in shape:
        promised *= length
    if promised != held:
        raise DataError(f"'{entry.filename}' states {shape} {dtype}, {promised} bytes, but holds {held} bytes")
    if promised > MAX_ARRAY_BYTES:
        raise DataError(
            f"'{entry.filename}' holds {promised} bytes, the limit is {MAX_ARRAY_BYTES}: spread it over several files"
        )
    packed = min(entry.compress_size, file_bytes)
    if promised > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"'{entry.filename}' unpacks {packed} bytes to {promised}, more than {MAX_RATIO}:1, as only an array "
            "that is all alike does: leave out what is empty"
        )


def load_array(path: str | Path, member: str, content: bytes | None = None) -> Values:
    """Read one whole array whose header `read_headers` has checked.

    Raises:
        DataError: it does not unpack, or does not fit into memory.
    """
    try:
        with np.load(path if content is None else io.BytesIO(content), allow_pickle=False) as archive:
            array: np.ndarray = archive[member]
    except (*_BROKEN, MemoryError) as error:
        raise DataError(
            f"cannot read array '{member}' of '{path}' - {str(error) or type(error).__name__} - "
            "download the file again, or give this process more memory."
        ) from None
    return array


@lru_cache(maxsize=_KEPT_ARRAYS)
def _keep(path: str, member: str, changed_ns: int, size_bytes: int) -> Values:  # noqa: ARG001 - these two end a stale entry
    headers = read_headers(path)
    if member not in headers:
        raise DataError(
            f"cannot read '{path}[{member}]' - the file holds {quote_some(list(headers))} - name one of them."
        )
    array = load_array(path, member)
    array.flags.writeable = False
    return array


def _take_row(path: str | Path, member: str, row: int) -> Values:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise DataError(f"cannot read '{path}' - {error.strerror} - restore the file.") from None
    array = _keep(str(path), member, status.st_mtime_ns, status.st_size)
    if array.ndim == 0 or not 0 <= row < len(array):
        count = len(array) if array.ndim else 0
        raise DataError(f"cannot read '{path}[{member}][{row}]' - the array has {count} rows - count from 0.")
    taken: np.ndarray = array[row]
    return taken


def load_row(path: str | Path, member: str, row: int) -> Values:
    """Show one row of an array: a uint8 clip (time, height, width[, channel]), or a volume of any real numbers.

    The row is a read-only view of an array that stays in memory: whoever wants to change it copies it.

    Args:
        path: of the .npz file.
        member: name of the array in it.
        row: counted from 0.

    Raises:
        DataError: no such file, array or row, or values that are neither pixels nor a volume.

    Cost: the first row reads the whole array; the last four arrays stay in memory, in every process that reads.
    """
    values = _take_row(path, member, row)
    if values.dtype != np.uint8 and (values.dtype.kind not in "buif" or values.ndim < 3):
        raise DataError(
            f"cannot read '{path}[{member}]' as pixels - it holds {values.dtype} - "
            "store pixels as uint8 0..255, volumes as (sample, slice, row, column), features as (sample, time, dim)."
        )
    return values


def load_features(path: str | Path, member: str, row: int) -> Float32[np.ndarray, "..."]:
    """Copy one row of an array of any real numbers as float32: features (time, dim), or unscaled intensities.

    Raises:
        DataError: no such file, array or row, or values that are no real numbers.

    Cost: as `load_row`.
    """
    values = _take_row(path, member, row)
    if values.dtype.kind not in "buif":
        raise DataError(f"cannot read '{path}[{member}]' as numbers - it holds {values.dtype} - store real numbers.")
    return values.astype(np.float32)


def read_arrays(path: Path) -> Reading:
    """Read the labels, splits and groups of an .npz file; samples are in the order of its rows.

    Class names are those in `class_names`, else in `classes.txt` beside the file, else '0', '1' ... up to the largest
    label; the order of indices is kept, never sorted.

    Raises:
        DataError: other keys, shapes that disagree, labels outside the class list, or what `read_headers` refuses.

    Cost: reads the labels and other columns, not the pixels.
    """
    headers = read_headers(path)
    if {"x", "y"} <= headers.keys():
        pairs: list[tuple[str, str, str | None]] = [("x", "y", None)]
    else:
        pairs = [(f"{split}_images", f"{split}_labels", split) for split in SPLITS if f"{split}_images" in headers]
    missing = [name for pair in pairs for name in pair[:2] if name not in headers]
    if not pairs or missing:
        raise DataError(
            f"cannot use '{path}' - {quote_some(missing) or 'no array of samples'} not found among "
            f"{quote_some(list(headers), 8)} - store x and y, or train_images, train_labels, val_images, ..."
        )
    labels = {pixels: _read_labels(path, headers, pixels, answers) for pixels, answers, _ in pairs}
    if len({values.ndim for values in labels.values()}) > 1:
        raise DataError(f"cannot use '{path}' - some labels have a column for each class, others one - store one kind.")
    classes = _find_classes(path, headers, labels)
    samples: list[Sample] = []
    for pixels, _, split in pairs:
        samples += _make_samples(path, headers, pixels, split, name_labels(path, pixels, labels[pixels], classes))
    if not samples:
        raise DataError(f"cannot use '{path}' - its arrays have no rows - store at least one sample.")
    task: Task = "multilabel" if is_multilabel(headers[pairs[0][1]]) else "classification"
    return Reading(tuple(samples), (), classes, task=task)


def _read_labels(path: Path, headers: Mapping[str, ArrayHeader], pixels: str, answers: str) -> Values:
    """Read a vector of integers or texts, one for each row of pixels, or a table of 0 and 1 with a column a class."""
    shape, dtype = headers[pixels]
    if len(shape) < 3 or dtype.kind not in "buif" or 0 in shape[1:]:
        raise DataError(
            f"cannot use '{path}' - '{pixels}' is {dtype} {shape} - "
            "store numbers as (sample, time, height, width[, channel]) or (sample, time, feature)."
        )
    header = headers[answers]
    check_labels(path, answers, header, f"'{pixels}' has {shape[0]} rows", shape[0])
    values = load_array(path, answers)
    return values if is_multilabel(header) else values.reshape(-1)


def _find_classes(path: Path, headers: Mapping[str, ArrayHeader], labels: Mapping[str, Values]) -> tuple[str, ...]:
    """Return the class list: the file's own, the names used as labels, or the numbers up to the largest label."""
    if "class_names" in headers:
        shape, dtype = headers["class_names"]
        if len(shape) != 1 or dtype.kind != "U" or dtype.itemsize > MAX_TEXT_BYTES:
            raise DataError(f"cannot use '{path}' - 'class_names' is {dtype} {shape} - store a vector of texts.")
        names = tuple(to_texts(path, load_array(path, "class_names")))
        if len(set(names)) != len(names) or "" in names:
            raise DataError(f"cannot use '{path}' - 'class_names' holds a name twice, or an empty one - mend the list.")
        return names
    listed = path.with_name(CLASS_LIST)
    return name_classes(path, labels, read_classes(listed) if listed.is_file() else None)


def _make_samples(
    path: Path, headers: Mapping[str, ArrayHeader], pixels: str, split: str | None, labels: list[str]
) -> list[Sample]:
    """Make one sample for each row, with whatever other vectors of that length the file holds."""
    columns = {} if split else _read_columns(path, headers, len(labels))
    splits = columns.pop("split", None)
    groups = columns.pop("group", None)
    shapes = _read_shapes(path, headers, pixels)
    if shapes:
        columns.pop("lengths", None)
    problems: list[Problem] = []
    samples = []
    for row, label in enumerate(labels):
        own_split = split
        if splits is not None and splits[row]:
            try:
                own_split = normalize_split(splits[row])
            except DataError as error:
                problems.append(Problem(f"'split' row {row}: {error}"))
        samples.append(
            Sample(
                source=str(path),
                label=label,
                split=own_split,
                group=(groups[row] or None) if groups is not None else None,
                member=pixels,
                row=row,
                features=shapes[row] if shapes else None,
                metadata={name: values[row] for name, values in columns.items()},
            )
        )
    check_problems(path, problems)
    return samples


def _read_shapes(path: Path, headers: Mapping[str, ArrayHeader], pixels: str) -> list[FeatureShape]:
    """Return the shape of each row of features, padding left out; nothing where the rows hold pixels."""
    shape, _ = headers[pixels]
    if len(shape) != 3:
        return []
    count, time, dim = shape
    name = "lengths" if pixels == "x" else pixels.replace("images", "lengths")
    if name not in headers:
        return [FeatureShape(time, dim)] * count
    shape_l, dtype_l = headers[name]
    if shape_l != (count,) or dtype_l.kind not in "iu":
        raise DataError(
            f"cannot use '{path}' - '{name}' is {dtype_l} {shape_l} - store a whole number for each of {count} rows."
        )
    lengths = load_array(path, name)
    wrong = np.flatnonzero((lengths < 1) | (lengths > time))
    if wrong.size:
        raise DataError(
            f"cannot use '{path}' - '{name}' states {lengths[wrong[0]]} real frames for row {wrong[0]} "
            f"({wrong.size} such rows), rows have {time} - state 1 to {time}, and leave out clips without a frame."
        )
    return [FeatureShape(int(length), dim) for length in lengths]


def _read_columns(path: Path, headers: Mapping[str, ArrayHeader], count: int) -> dict[str, list[str]]:
    """Read every vector that has one text or whole number for each sample."""
    columns = {}
    for name, (shape, dtype) in headers.items():
        fits = shape == (count,) and dtype.kind in "iubU" and dtype.itemsize <= MAX_TEXT_BYTES
        if name in ("group", "split") and not fits:
            raise DataError(
                f"cannot use '{path}' - '{name}' is {dtype} {shape} - "
                f"store a text or whole number for each of {count} rows."
            )
        if fits and name not in ("x", "y", "class_names"):
            columns[name] = to_texts(path, load_array(path, name))
    return columns
