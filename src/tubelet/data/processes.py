"""Do the same to many things in several processes, in order, and survive a process that dies of one of them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from tubelet.errors import ConfigError

__all__ = ["map_in_processes"]

_CHUNK = 4
"""Things that a process takes before it reports."""

T = TypeVar("T")
R = TypeVar("R")


def map_in_processes(
    work: Callable[[T], R], things: Sequence[T], workers: int, on_crash: Callable[[T], R]
) -> Iterator[R]:
    """Yield the result of each thing in order; 1 worker works in this process.

    Args:
        work: picklable; what it raises ends the iteration.
        things: picklable.
        workers: processes.
        on_crash: gives the result for a thing that ends the process, by a fault of a decoder or for want of memory.

    Raises:
        ConfigError: processes end whatever they are given, as in a program that lacks its main guard.
    """
    if workers <= 1:
        yield from map(work, things)
        return
    rest = things
    while rest:
        done = 0
        pool = _make_pool(workers)
        try:
            for result in pool.map(work, rest, chunksize=_CHUNK):
                yield result
                done += 1
        except BrokenProcessPool:
            _check_start()
            # One of the next brought a process down: which one?
            suspects = rest[done : done + workers * _CHUNK]
            yield from (_work_alone(work, thing, on_crash) for thing in suspects)
            done += len(suspects)
        finally:
            # Who stops in the middle, as with Ctrl-C, does not wait for all that was asked for.
            pool.shutdown(wait=done == len(rest), cancel_futures=True)
        rest = rest[done:]


def _check_start() -> None:
    """Tell things that end a process from processes that cannot even begin."""
    try:
        with _make_pool(1) as pool:
            pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise ConfigError(
            "cannot work in several processes - each ends as it begins - put what your program does below "
            "if __name__ == '__main__': (each process reads the program again), or work with workers=1."
        ) from None


def _work_alone(work: Callable[[T], R], thing: T, on_crash: Callable[[T], R]) -> R:
    """Work in a process of its own, which may die of it."""
    try:
        with _make_pool(1) as pool:
            return pool.submit(work, thing).result()
    except BrokenProcessPool:
        return on_crash(thing)


def _make_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_watch_parent)


def _watch_parent() -> None:
    """End with the process that asked for the work, and not before: Ctrl-C is its to answer.

    One that is killed cannot say so, and is watched.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
