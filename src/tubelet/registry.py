"""Resolve names through tables, never through import paths: a configuration stays data."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from tubelet.errors import UnknownName, name_nearest

__all__ = ["Registry"]

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
