"""Mute warnings while files are read, in any number of threads."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["muted_warnings"]

_lock = threading.Lock()
_readers = 0
_filters = ExitStack()


@contextmanager
def muted_warnings() -> Iterator[None]:
    """Mute warnings while the block lasts: oddities of a file that can be read nevertheless.

    Python keeps one list of filters for all threads: two that save and restore it in turns would leave it mute for
    good. So the first one in saves it, and the last one out restores it.
    """
    global _readers
    with _lock:
        _readers += 1
        if _readers == 1:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                _filters.close()
