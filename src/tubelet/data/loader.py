"""Deliver batches of clips from worker processes: the same stream for any number of them, and never a silent wait.

    EpochOrder  ->  worker 0: (epoch, index) ... (epoch, index)  ->  batch 0, 2, 4 ...  \
                ->  worker 1: ...                                ->  batch 1, 3, 5 ...  ->  batches in order

Each worker writes down which clip it is reading, so that a worker that dies, or that never comes back, can be answered
for: the error names the clip. A worker whose parent is gone, killed included, ends by itself.
"""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from tubelet.data.clip_cache import ClipCache
from tubelet.data.dataset import Batch, ClipDataset, Item, collate
from tubelet.errors import DataError

__all__ = ["ClipLoader", "EpochOrder", "LoaderOptions", "make_loader"]

_IDLE = -1
_POLL_S = 1.0
_GRACE_S = 60.0


@dataclass(frozen=True)
class LoaderOptions:
    """State how clips are read."""

    batch: int = 16
    """Samples in one batch."""
    workers: int = 0
    """Processes that read; 0 reads in the process that asks."""
    decoder: str = "pyav"
    """Which backend reads video."""
    cache_mb: int = 0
    """Megabytes (1e6 bytes) of decoded clips kept for the next epoch, shared by all workers."""
    cache_folder: str = ""
    """Where to keep them: a folder on a fast disk, or nothing for memory."""
    timeout_s: int = 300
    """Seconds that a batch may take a worker before the run stops."""


class EpochOrder(Sampler[list[tuple[int, ...]]]):
    """Give the batches of one epoch after another, each epoch in an order of its own, from any batch on.

    Args:
        count: number of samples.
        batch: samples in one batch; the last one may be smaller.
        seed: with the epoch, all that the order depends on; None keeps the samples in place.
        share: takes this process's part of a batch, where several processes share each.
        repeats: times that each sample of a batch comes in it, one after the other.
        strata: the class of each sample, where each class shall come equally often in an epoch of `count` samples.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int | None,
        share: Callable[[Sequence[int]], Sequence[int]] = lambda whole: whole,
        repeats: int = 1,
        strata: Sequence[int] | None = None,
    ) -> None:
        self.count = count
        self.batch = batch
        self.seed = seed
        self.share = share
        self.repeats = repeats
        self.strata = strata
        self.epoch = 0
        self.first_batch = 0

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Choose where the next iteration begins."""
        self.epoch = epoch
        self.first_batch = first_batch

    def __len__(self) -> int:
        return -(-self.count // self.batch) - self.first_batch

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        order = np.arange(self.count)
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch])
            order = generator.permutation(self.count)
            if self.strata is not None:
                order = _balance(order, np.array(self.strata), generator)
        for first in range(self.first_batch * self.batch, self.count, self.batch):
            turns = [()] if self.repeats == 1 else [(turn,) for turn in range(self.repeats)]
            own = self.share(order[first : first + self.batch].tolist())
            yield [(self.epoch, index, *turn) for index in own for turn in turns]


def _balance(
    order: Int64[np.ndarray, " count"], strata: Int64[np.ndarray, " count"], generator: np.random.Generator
) -> Int64[np.ndarray, " count"]:
    """Draw as many samples of each class: those of a rare one again and again, those of a frequent one in part."""
    classes = np.unique(strata)
    whole, more = divmod(len(order), len(classes))
    shares = np.full(len(classes), whole)
    shares[generator.permutation(len(classes))[:more]] += 1
    drawn = [np.resize(order[strata[order] == one], share) for one, share in zip(classes, shares, strict=True)]
    return np.concatenate(drawn)[generator.permutation(len(order))]


class ClipLoader:
    """Iterate over the batches of an epoch; each iteration begins where its `EpochOrder` says.

    Raises, while iterating:
        DataError: a worker died or took longer than `timeout_s`; the text names the clips that were being read.
    """

    def __init__(self, dataset: ClipDataset, order: EpochOrder, options: LoaderOptions) -> None:
        self._dataset = dataset
        self._order = order
        self._options = options
        self._desk = _Desk(options.workers)
        self._children: list[Any] = []
        self._owner = os.getpid()
        self._loader: DataLoader[Batch] = DataLoader(
            _Signed(dataset, self._desk),  # type: ignore[arg-type]  # typed by what it yields: batches
            batch_sampler=order,
            num_workers=options.workers,
            collate_fn=partial(collate, spec=dataset.spec),
            persistent_workers=options.workers > 0,
            timeout=_POLL_S if options.workers else 0,  # how soon a dead worker is noticed
            worker_init_fn=partial(_follow, parent=os.getpid()) if options.workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        batches, since_s = self._start(), time.monotonic()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                is_late = time.monotonic() - since_s >= self._options.timeout_s
                if _is_timeout(error) and not is_late:
                    continue
                raise self._explain(error) from error
            yield batch
            since_s = time.monotonic()

    def _start(self) -> Iterator[Batch]:
        """Begin an epoch.

        PyTorch would raise, in whatever the main thread does at that moment, when a worker dies; here the next batch
        says it, which knows the clip.
        """
        number = getattr(signal, "SIGCHLD", None)
        hears = number is not None and threading.current_thread() is threading.main_thread()
        before = signal.getsignal(number) if number is not None else None
        batches = iter(self._loader)
        if number is not None and hears:
            signal.signal(number, before or signal.SIG_DFL)
        self._children = multiprocessing.active_children()
        _OPEN.add(self)
        return batches

    def _explain(self, error: RuntimeError) -> Exception:
        """Say which clip a worker was reading when it died or stopped answering; other errors are left as they are."""
        ends = {child.pid: child.exitcode for child in self._children if child.exitcode is not None}
        dead = [row for row in self._desk.read() if row.pid in ends]
        if dead:
            ending = ends[dead[0].pid]
            what, rows = f"a process that reads clips died ({_name_end(ending)})", dead
            advice = _ADVICE.get(_name_end(ending), "leave that clip out")
        elif _is_timeout(error):
            what, rows = f"no batch came within {self._options.timeout_s} s", self._desk.read()
            advice = "leave that clip out, or raise data.timeout_s where the disk is slow"
            self.end_workers()
        else:
            return error
        busy = sorted((row for row in rows if row.index != _IDLE), key=lambda row: row.since_s)
        names = [
            f"{self._dataset.samples[row.index].name!r} ({time.monotonic() - row.since_s:.0f} s)" for row in busy
        ] or ["no clip: it was between two"]
        return DataError(f"cannot go on reading - {what} while it read {', '.join(names)} - {advice}.")

    def end_workers(self) -> None:
        """End the workers for good: one that hangs hears no gentler signal, and Python would wait for it at its end."""
        if os.getpid() != self._owner:
            return  # a copy in a process that was forked
        own = {row.pid for row in self._desk.read()}
        for child in self._children:
            if child.pid in own:
                child.kill()


_OPEN: "weakref.WeakSet[ClipLoader]" = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End what still reads when the program ends: a worker that is stuck would keep Python waiting for ever."""
    for loader in list(_OPEN):
        loader.end_workers()


def _is_timeout(error: RuntimeError) -> bool:
    return str(error).startswith("DataLoader timed out")


def _end_later(number: int, _frame: object) -> None:
    """End this process when its parent had time to stop by itself."""
    later = threading.Timer(_GRACE_S, os._exit, [128 + number])
    later.daemon = True
    later.start()


_ADVICE = {
    "killed by SIGKILL": "if memory ran out, lower data.workers or data.cache_mb; else leave that clip out",
    "killed by SIGBUS": "shared memory is full: give the container more (docker run --shm-size 8g), or set "
    "data.workers 0",
}
"""What to do about a worker that ended so; both signals have little to do with the clip in most cases."""


def _name_end(exit_code: int) -> str:
    return f"exit status {exit_code}" if exit_code >= 0 else f"killed by {signal.Signals(-exit_code).name}"


def make_loader(dataset: ClipDataset, order: EpochOrder, options: LoaderOptions) -> ClipLoader:
    """Make a loader whose stream of samples depends neither on the number of workers nor on the cache.

    Raises:
        ConfigError: the folder of the cache has no room, or cannot be written.
    """
    if options.cache_mb:
        dataset.cache = ClipCache(
            len(dataset), options.cache_mb * 1_000_000, writers=max(options.workers, 1), folder=options.cache_folder
        )
    return ClipLoader(dataset, order, options)


@dataclass(frozen=True)
class _Row:
    pid: int
    index: int
    since_s: float


class _Desk:
    """A page of shared memory on which each worker writes what it is reading: (process, index, since in ns)."""

    def __init__(self, workers: int) -> None:
        self._page: Int64[Tensor, "worker 3"] = torch.zeros((workers, 3), dtype=torch.int64)
        self._page.share_memory_()  # type: ignore[no-untyped-call]
        self._page[:, 1] = _IDLE

    def write(self, worker: int, index: int) -> None:
        self._page[worker] = torch.tensor([os.getpid(), index, time.monotonic_ns()])

    def read(self) -> list[_Row]:
        return [_Row(pid, index, since_ns / 1e9) for pid, index, since_ns in self._page.tolist()]


class _Signed(Dataset[Item]):
    """Read samples, and write down before each which one it is."""

    def __init__(self, dataset: ClipDataset, desk: _Desk) -> None:
        self._dataset = dataset
        self._desk = desk

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        worker = get_worker_info()
        if worker is None:
            return self._dataset[key]
        self._desk.write(worker.id, key[1])
        item = self._dataset[key]
        self._desk.write(worker.id, _IDLE)
        return item


def _follow(_worker: int, parent: int) -> None:
    """End this worker soon after its parent, and not before it.

    PyTorch's own watch misses a parent that dies before it begins. Signals that reach a whole group of processes ask
    the parent to finish its step, for which it needs what its workers hold.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end_later)

    def watch() -> None:
        owner = multiprocessing.parent_process()
        if os.getppid() != parent and owner is not None:  # begun by a fork server, which outlives the parent
            owner.join()
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()
