"""Measure what an epoch took: time, and memory at its peak."""

import math
import re
import sys
from pathlib import Path

import torch

from tubelet.training.loop import Totals

__all__ = ["PACE", "measure_memory", "measure_pace"]

PACE = ("wait_s", "compute_s", "clips_per_s", "memory_mb")
"""Columns of metrics.csv that differ each time a run is repeated; all others are the same."""

MEGABYTE = 10**6


def measure_pace(totals: Totals, device: torch.device) -> dict[str, float]:
    """Say how long an epoch waited and computed, how many clips it took a second, and the peak of memory so far.

    A clip that `augmentation.repeats` varies twice counts twice. Validation is not counted.
    """
    took_s = totals.wait_s + totals.compute_s
    rate = totals.seen / took_s if took_s else math.nan
    return dict(zip(PACE, (totals.wait_s, totals.compute_s, rate, measure_memory(device) / MEGABYTE), strict=True))


def measure_memory(device: torch.device) -> float:
    """Measure the most memory that this process has held so far, in bytes: on a GPU what tensors took there.

    Elsewhere it is resident memory, without the processes that decode; NaN on a system that does not tell.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # getrusage says there what a parent held, too, where this process was forked from it
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii", errors="replace"))
        return 1024.0 * int(found[1]) if found else math.nan
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
