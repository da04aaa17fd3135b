"""Resolve names through tables, never through import paths: a configuration stays data.

People add models, data sets and decoders of their own with the `register_*` decorators, in a file that they name
themselves: `load_plugin`, or `--plugin my_models.py` of every command. No configuration and no checkpoint can name one.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Generic, TypeVar
from zlib import crc32

from tubelet.errors import ConfigError, UnknownName, name_nearest

__all__ = ["Registry", "load_plugin"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Map names to things of one kind, in order of registration.

    Args:
        kind: what the things are called in messages, such as `"model"`.
        listing: the command that lists them.

    Example:
        >>> shapes = Registry[int]("shape", "tubelet shapes")
        >>> shapes.add("square", 4)
        >>> shapes["square"]
        4
    """

    def __init__(self, kind: str, listing: str) -> None:
        self.kind = kind
        self.listing = listing
        self._things: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Register `thing` under `name`; a name that is taken is a programming error."""
        if name in self._things:
            raise ValueError(f"{self.kind} '{name}' is registered already")
        self._things[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates under `name`."""

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            near = name_nearest(name, self._things) or "."
            raise UnknownName(f"unknown {self.kind} '{name}'{near} '{self.listing}' lists all {len(self._things)}.")
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def match(self, pattern: str = "*") -> list[str]:
        """List the names that match a glob such as `vivit_*`, in order of registration."""
        return [name for name in self._things if fnmatchcase(name, pattern)]


def load_plugin(path: str | os.PathLike[str]) -> None:
    """Run a Python file, so that what it registers is known by name; a file that ran already does not run again.

    Only load files that you would run: their code has your rights.

    Raises:
        ConfigError: no such file, no Python file, or an error in it.

    Example:
        >>> load_plugin("my_models.py")  # doctest: +SKIP
    """
    place = Path(path).absolute()
    name = f"tubelet_plugin_{place.stem}_{crc32(os.fsencode(place.resolve())):08x}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, place) if place.suffix == ".py" and place.is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(
            f"cannot load the plugin {str(path)!r} - there is no such Python file - give the path of a .py file."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(
            f"cannot load the plugin {str(path)!r} - it raises {type(error).__name__}: {error} - correct the file."
        ) from error
