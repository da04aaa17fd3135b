"""Print what an audit found, and how models compare."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tubelet.evaluation.audit import TITLES, TimeAudit
from tubelet.evaluation.comparison import Comparison
from tubelet.evaluation.verdict import WORDS, Change
from tubelet.metrics import Interval

__all__ = ["print_audit", "print_comparison"]

WIDTH = 160
"""Characters of a line: figures are never cut, a narrower terminal breaks lines."""


def print_audit(found: TimeAudit, output: Path | None, *, as_json: bool) -> None:
    """Print the accuracy in each order, what each class needs, and the verdicts."""
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False), flush=True)  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True, width=WIDTH)
    console.print(_list_orders(found))
    console.print()
    console.print(_list_classes(found))
    console.print()
    console.print(
        f"{WORDS[found.verdict]} ({found.n} clips of '{found.split}', {found.n_failed} failed)",
        style="bold",
        markup=False,
    )
    for remark in found.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)
    for bad in found.failed:
        console.print(bad.message, style="red", markup=False)
    if output is not None:
        console.print(f"written to {output}", markup=False)


def _list_orders(found: TimeAudit) -> Table:
    orders = Table("frames", box=None, header_style="bold")
    for name in ("accuracy", "95 % interval", "lost", "95 % interval"):
        orders.add_column(name, justify="right")
    for order, share in found.accuracy.items():
        orders.add_row(TITLES[order], f"{share:.1%}", _span(found.intervals[order]), *_tell(found.losses.get(order)))
    return orders


def _list_classes(found: TimeAudit) -> Table:
    classes = Table(Column("class", no_wrap=True), box=None, header_style="bold")
    for name in ("clips", "recall", "needs motion", "95 % interval", "needs order"):
        classes.add_column(name, justify="right")
    classes.add_column("verdict")
    for one in found.per_class:
        motion, order_lost = _tell(one.needs_motion), _tell(one.needs_order)
        words = WORDS[one.verdict]
        classes.add_row(escape(one.name), str(one.clips), f"{one.recall['ordered']:.1%}", *motion, order_lost[0], words)
    return classes


def _tell(change: Change | None) -> tuple[str, str]:
    return ("", "") if change is None else (f"{change.value:.1%}", _span(change.interval))


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.1%} to {interval.high:.1%}"


def print_comparison(found: Comparison, output: Path | None, *, as_json: bool) -> None:
    """Print the table, and a line for each pair."""
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False), flush=True)  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True, width=WIDTH)
    head, *rows = found.list_cells()
    table = Table(Column(head[0], no_wrap=True), box=None, header_style="bold")
    for name in head[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    for pair in found.pairs:
        console.print(pair.headline(), markup=False)
    for refusal in found.refused:
        console.print(refusal, style="red", markup=False)
    for remark in found.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)
    if output is not None:
        console.print(f"written to {output}", markup=False)
