"""Print what a benchmark measured: a table for people, and a line of JSON."""

import json

from rich.console import Console
from rich.table import Table

from tubelet.benchmarking.benchmark import Benchmark

__all__ = ["print_benchmark"]


def print_benchmark(found: Benchmark, *, as_json: bool) -> None:
    """Print a row for each figure and a column for each implementation; the JSON line follows."""
    if not as_json:
        console = Console(highlight=False, soft_wrap=True)
        gmacs = "" if found.gmacs is None else f", {found.gmacs:,.2f} GMACs a clip"
        console.print(
            f"{found.model}: {found.parameters / 1e6:,.2f} million parameters{gmacs}; {found.frames} frames of "
            f"{found.height} x {found.width}; {found.device}, {found.threads} threads, {found.precision}",
            markup=False,
        )
        console.print(_list_figures(found))
        if found.max_difference is not None:
            console.print(f"largest difference of logits: {found.max_difference:.1e}")
    print(json.dumps(found.to_dict()), flush=True)  # noqa: T201


def _list_figures(found: Benchmark) -> Table:
    table = Table("", box=None, header_style="bold")
    for speed in found.speeds:
        table.add_column(speed.name, justify="right")
    for index, first in enumerate(found.speeds[0].timings):
        timings = [speed.timings[index] for speed in found.speeds]
        cells = [f"{one.p50_ms:,.1f} / {one.p90_ms:,.1f} / {one.p99_ms:,.1f}" for one in timings]
        table.add_row(f"batch {first.batch}: ms (p50 / p90 / p99)", *cells)
        table.add_row(f"batch {first.batch}: clips/s", *(f"{one.clips_per_s:,.1f}" for one in timings))
        peaks = ["-" if one.peak_mb is None else f"{one.peak_mb:,.0f}" for one in timings]
        table.add_row(f"batch {first.batch}: peak memory, MB", *peaks)
    table.add_row("files read and prepared/s", *(f"{speed.files_per_s:,.1f}" for speed in found.speeds))
    table.add_row("frames decoded/s (whole files)", *(f"{speed.frames_per_s:,.0f}" for speed in found.speeds))
    table.add_row("files predicted/s, end to end", *(f"{speed.predictions_per_s:,.1f}" for speed in found.speeds))
    return table
