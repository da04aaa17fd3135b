"""Print models: what they cost, what was published for them, what they are made of, and whether weights are right."""

import json
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tubelet.errors import UnknownName, name_nearest
from tubelet.models import find_card, list_models
from tubelet.models.published import Published, list_published
from tubelet.prediction.verification import Verification, draw_model, read_verified

__all__ = ["print_models", "print_plot", "print_verifications"]

_WIDTHS = {"model": 36, "parameters": 13, "GMACs": 9, "input": 10}
_COLUMNS = (("model", "left"), ("parameters", "right"), ("GMACs", "right"), ("input", "left"), ("summary", "left"))


def print_models(pattern: str, *, as_json: bool) -> None:
    """Print name, parameters, cost, input, and what was published; paper and license where few models are asked for."""
    names = list_models(pattern)
    if not names:
        near = name_nearest(pattern, list_models()) or "."
        raise UnknownName(f"no model matches '{pattern}'{near} 'tubelet models' lists all {len(list_models())}.")
    cards = [find_card(name) for name in names]
    verified = read_verified()
    if as_json:
        for card in cards:
            spec = card.input_spec
            row = {
                "name": card.name,
                "parameters": card.parameters,
                "gmacs": round(card.macs / 1e9, 3),
                "input": [spec.frames, spec.height, spec.width],
                "paper": card.paper,
                "license": card.license,
                "weights": [_describe(card.name, entry, verified) for entry in list_published(card.name)],
            }
            print(json.dumps(row, ensure_ascii=False), flush=True)  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True, width=200)
    table = Table(box=None, header_style="bold")
    for name, side in _COLUMNS:
        right = side == "right"
        # Names and figures are never cut: the summary gets what is left.
        table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=_WIDTHS.get(name))
    for card in cards:
        spec = card.input_spec
        size = f"{spec.frames}x{spec.height}x{spec.width}"
        table.add_row(card.name, f"{card.parameters:,}", f"{card.macs / 1e9:,.2f}", size, card.summary)
    console.print(table)
    _print_weights(console, [card.name for card in cards], verified)
    if 0 < len(cards) <= 3:
        for card in cards:
            console.print(f"{card.name}: {card.paper}; implementation {card.license}", markup=False)


def _print_weights(console: Console, names: list[str], verified: dict[str, str]) -> None:
    """Print what was published for these models."""
    table = Table(box=None, header_style="bold")
    for name, width in (("weights", 40), ("source", 50), ("top-1", 15), ("license", 13), ("checked", 12)):
        table.add_column(name, no_wrap=True, min_width=width)
    for name in names:
        for entry in list_published(name):
            row = _describe(name, entry, verified)
            accuracy = f"{entry.top1:.1f} % ({entry.views})" if entry.top1 else "pre-trained"
            table.add_row(str(row["name"]), entry.source, accuracy, entry.license, str(row["checked"]))
    if table.row_count:
        console.print()
        console.print(table)
        console.print("Accuracies are those of the authors. NC: not for commercial use.")


def _describe(name: str, entry: Published, verified: dict[str, str]) -> dict[str, object]:
    full = f"{name}.{entry.tag}"
    return {
        "name": full,
        "source": entry.source,
        "dataset": entry.dataset,
        "license": entry.license,
        "top1": entry.top1,
        "views": entry.views,
        "checked": verified.get(full, "unverified"),
    }


def print_plot(name: str, path: Path) -> None:
    """Draw one model, and say where the picture lies."""
    draw_model(name, path)
    Console(highlight=False, soft_wrap=True).print(f"written to {path}", markup=False)


def print_verifications(outcomes: Iterable[Verification], *, as_json: bool) -> int:
    """Print each outcome as soon as it is there; return 1 where some weights gave other logits or could not be had."""
    console, status = Console(highlight=False, soft_wrap=True), 0
    for outcome in outcomes:
        status = 1 if outcome.is_right is False else status
        if as_json:
            print(json.dumps(outcome.to_dict(), ensure_ascii=False), flush=True)  # noqa: T201
        else:
            mark, style = {True: ("ok  ", None), False: ("FAIL", "red"), None: ("skip", "yellow")}[outcome.is_right]
            console.print(f"{mark} {outcome.name}: {outcome.finding}", style=style, markup=False)
    return status
