"""Describe a data set that is known by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tubelet.registry import Registry

__all__ = ["DATASETS", "Entry", "OnProgress", "data_home"]

OnProgress = Callable[[int, int], None]
"""Called with (done, total) while data is made or fetched."""


@dataclass(frozen=True)
class Entry:
    """Describe a data set and how to get it."""

    name: str
    summary: str
    """What it shows, in a few words."""
    classes: int
    license: str
    fetch: Callable[[Path, OnProgress], Path]
    """Make or download it below a folder, unless it is there, and return what `read_manifest` takes."""


DATASETS: Registry[Entry] = Registry("data set", "tubelet data list")
"""Every data set by name."""


def data_home() -> Path:
    """Return the folder of fetched data: `$TUBELET_HOME/data`, by default `~/.cache/tubelet/data`."""
    home = os.environ.get("TUBELET_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "tubelet") / "data"
