"""Load what a package offers on first use, so that to import the package costs milliseconds."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["defer"]


def defer(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package whose names lie in modules not yet imported.

    Type checkers see the names where the package imports them, too, `if TYPE_CHECKING`.

    Args:
        package: its `__name__`.
        homes: the module of each name.

    Source: PEP 562.
    """
    own = vars(sys.modules[package])

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        own[name] = getattr(import_module(homes[name]), name)
        return own[name]

    return load, lambda: sorted({*own, *homes})
