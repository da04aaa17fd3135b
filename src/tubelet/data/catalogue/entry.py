"""Describe a data set that is known by name, and what somebody wants of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.registry import Registry

__all__ = [
    "DATASETS",
    "DEFAULT_REQUEST",
    "Entry",
    "Fetch",
    "Kind",
    "OnProgress",
    "Request",
    "data_home",
    "register_dataset",
]

OnProgress = Callable[[int, int], None]
"""Called with (done, total) while data is made or fetched: clips, or bytes; the total is 0 where nobody knows it."""


@dataclass(frozen=True)
class Request:
    """State what is wanted of a data set, and how it may be got."""

    fold: int = 1
    """Which of the official splits, counted from 1."""
    classes: tuple[str, ...] = ()
    """Only these classes, in the data set's own order; all where none is named."""
    mirror: str | None = None
    """Address to fetch from instead: of a file, or of a folder (ending in `/`) laid out as the official host is."""
    archive: Path | None = None
    """An archive or a folder on this machine to use instead of fetching; a folder stays where it is."""
    offline: bool = False
    """Refuse to fetch anything; what can be made on this machine is made."""
    refresh: bool = False
    """Look at the clips again, instead of taking the table that was made of them before."""
    on_progress: OnProgress = lambda _done, _total: None
    """Told how far the making or fetching is."""
    on_remark: Callable[[str], None] = lambda _text: None
    """Told what begins, with size and license, before the first byte is fetched."""


DEFAULT_REQUEST = Request()
"""The first official split, all of it, fetched where it is not there."""

Fetch = Callable[[Path, Request], str | os.PathLike[str]]
"""Get a data set below a folder, unless it is there, and return what `read_manifest` takes."""

Kind = Literal["videos", "volumes", "synthetic"]
"""Videos of things in the world; gray volumes; or clips that are made here, which no published weights know."""


@dataclass(frozen=True)
class Entry:
    """Describe a data set and how to get it."""

    name: str
    summary: str
    """What it shows, in a few words."""
    classes: int
    license: str
    fetch: Fetch
    """Make or download it below a folder, unless it is there, and return what `read_manifest` takes."""
    size_bytes: int = 0
    """Of the download, about; 0 where it is made here, or where nobody states it."""
    splits: int = 1
    """How many official divisions into train and test there are."""
    citation: str = ""
    """Whom to cite: authors, title, year."""
    homepage: str = ""
    """Where it is described, and its terms stand."""
    kind: Kind = "videos"
    """What it holds: a training of which nothing more is said begins accordingly."""

    def check_request(self, request: Request) -> None:
        """Refuse a split that the data set does not have.

        Raises:
            ConfigError: with the splits there are.
        """
        if not 1 <= request.fold <= self.splits:
            known = f"{self.splits} official splits" if self.splits > 1 else "one official split"
            raise ConfigError(
                f"split {request.fold} of '{self.name}' was asked for - it has {known} - give --fold 1"
                + (f" to {self.splits}." if self.splits > 1 else ", or leave it out.")
            )


DATASETS: Registry[Entry] = Registry("data set", "tubelet data list")
"""Every data set by name."""


def register_dataset(
    name: str,
    *,
    summary: str,
    classes: int,
    license: str,  # noqa: A002 - the field's own name
    size_bytes: int = 0,
    splits: int = 1,
    citation: str = "",
    homepage: str = "",
    kind: Kind = "videos",
) -> Callable[[Fetch], Fetch]:
    """Return a decorator that makes a function of yours a data set that is known by name.

    The function takes the folder of all data sets and a `Request`, and returns what `read_manifest` takes: a folder of
    class folders, a table, an .npz file or a list.

    Raises:
        ValueError: a name that is taken.

    Example:
        >>> @register_dataset("my-clips", summary="my clips", classes=2, license="mine")  # doctest: +SKIP
        ... def fetch_my_clips(folder, request):
        ...     return folder / "my-clips" / "manifest.csv"
    """

    def decorate(fetch: Fetch) -> Fetch:
        entry = Entry(name, summary, classes, license, fetch, size_bytes, splits, citation, homepage, kind)
        DATASETS.add(name, entry)
        return fetch

    return decorate


def data_home() -> Path:
    """Return the folder of fetched data: `$TUBELET_HOME/data`, by default `~/.cache/tubelet/data`."""
    home = os.environ.get("TUBELET_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "tubelet") / "data"
