"""Fix the order of classes beside the data: `classes.txt`, one name a line, in the order of their indices.

    ucf101/split1.csv                  organs/organs.npz
    ucf101/classes.txt                 organs/classes.txt

A table or .npz file that has such a neighbour takes its class list from there; without one, classes are sorted.
"""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tubelet import files
from tubelet.data.sample import quote_some
from tubelet.errors import DataError

__all__ = ["CLASS_LIST", "read_classes", "write_classes"]

CLASS_LIST = "classes.txt"
"""Name of the file beside a table that gives classes their order."""


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names, one a line; empty lines do not count.

    Raises:
        DataError: no such file, no text, no name in it, or a name that stands twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"cannot read the class list '{path}' - {reason} - write one class name a line.") from None
    names = [unicodedata.normalize("NFC", line.strip()) for line in text.splitlines() if line.strip()]
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated or not names:
        found = f"it names {quote_some(repeated)} twice" if repeated else "it names no class"
        raise DataError(f"cannot use the class list '{path}' - {found} - write each class once, one a line.")
    return tuple(names)


def write_classes(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Write class names, one a line."""
    files.write_text(path, "".join(f"{name}\n" for name in names))
