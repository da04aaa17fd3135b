"""Turn the labels of an .npz file into names: indices, names, or for each class 0 or 1."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from tubelet.data.sample import join_labels
from tubelet.errors import DataError

__all__ = ["MAX_TEXT_BYTES", "check_labels", "is_multilabel", "name_classes", "name_labels", "to_texts"]

MAX_TEXT_BYTES = 4096
"""Largest text that is taken out of an array."""
_MAX_CLASSES = 100_000

Values = Shaped[np.ndarray, "..."]
Header = tuple[tuple[int, ...], np.dtype]


def is_multilabel(header: Header) -> bool:
    """Tell labels with a column for each class from those with one number or name for each row."""
    shape, _ = header
    return len(shape) == 2 and shape[1] > 1


def check_labels(path: Path, name: str, header: Header, rows: str, count: int) -> None:
    """Check before reading that labels fit the rows they are of.

    Args:
        path: of the file.
        name: of the labels.
        header: what the file says of them.
        rows: how many there are, in words.
        count: how many there are.

    Raises:
        DataError: another shape or type.
    """
    shape, dtype = header
    if shape not in ((count,), (count, 1)) and not (is_multilabel(header) and shape[0] == count):
        raise DataError(
            f"cannot use '{path}' - '{name}' has shape {shape}, {rows} - store one label for each row, or a row of 0 "
            "and 1, one for each class."
        )
    kinds, advice = ("iub", "0 and 1") if is_multilabel(header) else ("iubU", "class indices (int64), or names")
    if dtype.kind not in kinds or dtype.itemsize > MAX_TEXT_BYTES:
        raise DataError(f"cannot use '{path}' - '{name}' holds {dtype} - store {advice}.")


def name_classes(path: Path, labels: Mapping[str, Values], listed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Name the classes of labels that come without a list of names: by themselves, by a list beside, or by numbers."""
    if any(values.dtype.kind == "U" for values in labels.values()):
        if any(values.dtype.kind != "U" for values in labels.values()):
            raise DataError(f"cannot use '{path}' - labels are names here, indices there - store one kind.")
        return tuple(sorted({name for values in labels.values() for name in to_texts(path, values)}))
    filled = [values for values in labels.values() if values.size]
    count = max((values.shape[1] if values.ndim == 2 else int(values.max()) + 1 for values in filled), default=0)
    if count > _MAX_CLASSES:
        raise DataError(f"cannot use '{path}' - the largest label is {count - 1} - number the classes from 0.")
    return listed or tuple(str(index) for index in range(count))


def name_labels(path: Path, pixels: str, values: Values, classes: tuple[str, ...]) -> list[str]:
    """Return the class name of each row; of several classes, their names joined."""
    if values.ndim == 2:
        return _join_names(path, pixels, values, classes)
    if values.dtype.kind == "U":
        names, known = to_texts(path, values), set(classes)
        wrong = [f"row {row}: '{name}'" for row, name in enumerate(names) if name not in known or not name]
    else:
        indices = values.astype(np.int64)
        wrong = [f"row {row}: {indices[row]}" for row in np.flatnonzero((indices < 0) | (indices >= len(classes)))]
        names = [] if wrong else [classes[index] for index in indices]
    if wrong:
        raise DataError(
            f"cannot use '{path}' - {len(wrong)} labels of '{pixels}' are none of the {len(classes)} classes "
            f"({'; '.join(wrong[:5])}) - mend the labels, or class_names."
        )
    return names


def _join_names(path: Path, pixels: str, values: Values, classes: tuple[str, ...]) -> list[str]:
    if values.shape[1] != len(classes):
        raise DataError(
            f"cannot use '{path}' - the labels of '{pixels}' have {values.shape[1]} columns, there are {len(classes)} "
            "classes - store a column for each class, the same in all splits, and name them all."
        )
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        row, column = divmod(int(wrong[0]), len(classes))
        raise DataError(
            f"cannot use '{path}' - the labels of '{pixels}' hold {values[row, column]} in row {row} - store 1 where a "
            "row has the class, else 0."
        )
    try:
        join_labels(classes)
    except DataError as error:
        raise DataError(f"cannot use '{path}' - {error}") from None
    return [join_labels(classes[index] for index in np.flatnonzero(row)) for row in values]


def to_texts(path: Path, values: Values) -> list[str]:
    """Turn the values of an array into texts.

    Raises:
        DataError: bytes that are no text.
    """
    if values.dtype.kind == "U" and values.size:
        # numpy hands bytes that are no character on to Python, which fails in ways that no program can expect.
        largest = int(np.ascontiguousarray(values).view(values.dtype.str[0] + "u4").max())
        if largest > sys.maxunicode:
            raise DataError(f"cannot use '{path}' - a text in it holds {largest:#x}, no character - write it again.")
    return [str(value) for value in values.tolist()]
