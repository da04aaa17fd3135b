"""State which leaves of a recipe a search varies, and how far.

optimizer.lr: {low: 1e-5, high: 1e-2, log: true}
loss.label_smoothing: {low: 0.0, high: 0.2}
training.batch: [8, 16, 32]
augmentation.crop_scale: [[0.3, 1.0], [0.8, 1.0]]
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from tubelet.config import build_at, override, read_values, write_value
from tubelet.errors import ConfigError
from tubelet.recipes.recipe import Recipe

__all__ = ["Choices", "Range", "Search", "Space", "make_space", "read_space", "write_space"]


@dataclass(frozen=True)
class Range:
    """State between which numbers a leaf is varied; whole numbers where the leaf is one."""

    low: int | float
    """The least value, itself included."""
    high: int | float
    """The largest value, itself included."""
    log: bool = False
    """Try as many values between 1e-4 and 1e-3 as between 1e-3 and 1e-2: for learning rates and their like."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConfigError(f"a range goes from low to high - found {self.low} to {self.high} - give a wider one.")
        if self.log and not self.low > 0:
            raise ConfigError(f"a range with 'log: true' begins above 0 - found low: {self.low} - raise it.")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """State which values of a leaf are tried."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Space:
    """Hold what is varied, by the dotted name of the leaf."""

    ranges: Mapping[str, Range | Choices]
    places: Mapping[str, str] = field(default_factory=dict)
    """File and line of each, for messages."""

    def without(self, names: Iterable[str]) -> "Space":
        """Leave some leaves as the recipe has them."""
        left_out = set(names)
        return replace(self, ranges={name: one for name, one in self.ranges.items() if name not in left_out})

    def fit(self, recipe: Recipe) -> "Space":
        """Bring all values into the types of the recipe's leaves.

        Raises:
            ConfigError: nothing to vary, a leaf that the recipe has not, or a value that it refuses.
        """
        if not self.ranges:
            raise ConfigError("cannot search - no field is varied - name one in a file: --search search.yaml.")
        return replace(self, ranges={name: self._fit(name, one, recipe) for name, one in self.ranges.items()})

    def _fit(self, name: str, one: Range | Choices, recipe: Recipe) -> Range | Choices:
        origin = self.places.get(name, "the search")
        if name.split(".")[0] == "data":
            raise ConfigError(
                f"{origin}: '{name}' cannot be varied - trials are compared on the same clips - remove it."
            )
        given = one.values if isinstance(one, Choices) else (one.low, one.high)
        values = tuple(read_leaf(override(recipe, {name: value}, origin), name) for value in given)
        if isinstance(one, Choices):
            return Choices(values)
        is_whole = all(type(value) is int for value in values)
        low, high = values if is_whole else map(float, values)
        return replace(one, low=low, high=high)

    def find_start(self, recipe: Recipe) -> dict[str, Any]:
        """List what the recipe says of the leaves that are varied, as far as the search would ever try it."""
        known = {name: read_leaf(recipe, name) for name in self.ranges}
        return {name: value for name, value in known.items() if value in self.ranges[name]}


@dataclass(frozen=True)
class Search:
    """State what is searched, how long, and how."""

    space: Space | None = None
    """What is varied; None takes what suits small sets, but for fields that are stated."""
    trials: int | None = None
    """Trainings in all, those before an interruption included; 20 where nothing is said."""
    timeout_min: float | None = None
    """Minutes after which no further trial begins; nothing is cut off."""
    seed: int = 42
    """Seed of what is tried; the trainings have `training.seed`."""
    prune: bool = True
    """End trials early that are below the median of the others at the same epoch."""
    keep_all: bool = False
    """Keep the weights of all trials, not of the best alone."""

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"a search takes at least one trial - found {self.trials} - give 20, say.")
        if self.timeout_min is not None and not self.timeout_min > 0:
            raise ConfigError(f"a search takes time - found {self.timeout_min} minutes - give more than 0.")


OPTIMIZATION: Mapping[str, Range | Choices] = MappingProxyType(
    {
        "optimizer.lr": Range(1e-4, 3e-3, log=True),
        "optimizer.weight_decay": Range(1e-3, 0.3, log=True),
        "loss.label_smoothing": Range(0.0, 0.2),
    }
)
"""What is varied of any training, unless a file says otherwise."""
VARIATION: Mapping[str, Range | Choices] = MappingProxyType(
    {
        "augmentation.crop_scale": Choices(((0.3, 1.0), (0.5, 1.0), (0.8, 1.0))),
        "augmentation.brightness": Range(0.0, 0.5),
        "augmentation.erasing": Range(0.0, 0.4),
        "augmentation.mixup": Choices((0.0, 0.2, 0.8)),
    }
)
"""And of one on pixels: how strongly clips are varied decides much where there are few."""


def make_space(recipe: Recipe) -> Space:
    """Choose what is varied where nobody says: what suits a few hundred or thousand clips, and what the recipe says."""
    ranges = {**OPTIMIZATION, **(VARIATION if recipe.input.kind == "pixels" else {})}
    return Space({name: _widen(one, read_leaf(recipe, name)) for name, one in ranges.items()})


def _widen(one: Range | Choices, value: Any) -> Range | Choices:
    """Take in a value, so that the recipe as it is can be tried first."""
    if value in one or (isinstance(one, Range) and one.log and value <= 0):
        return one
    if isinstance(one, Choices):
        return Choices((*one.values, value))
    return replace(one, low=min(one.low, value), high=max(one.high, value))


def read_space(path: str | os.PathLike[str]) -> Space:
    """Read a space from a YAML file: a mapping with `low` and `high`, or a list of values, for each dotted name.

    Raises:
        ConfigError: something else stands there; file and line are named.
    """
    values, place = read_values(path)
    if not isinstance(values, Mapping):
        raise place.fail(
            "a search names fields of the recipe - found none - write 'optimizer.lr: {low: 1e-4, high: 1e-2}'."
        )
    ranges: dict[str, Range | Choices] = {}
    places = {}
    for name, stated in values.items():
        here = place.step(name)
        places[name] = f"{path}, line {place.lines[name]}"
        if isinstance(stated, list):
            if not stated:
                raise here.fail(f"'{name}' has no value to try - give some.")
            ranges[name] = Choices(tuple(stated))
        elif isinstance(stated, Mapping):
            ranges[name] = build_at(Range, stated, here)
        else:
            raise here.fail(
                f"'{name}' must be a list of values, or low and high - found {stated!r} - write [1, 2], say."
            )
    return Space(ranges, places)


def write_space(space: Space) -> str:
    """Write a space as `read_space` reads it."""
    lines = []
    for name, one in space.ranges.items():
        value = one.values if isinstance(one, Choices) else {"low": one.low, "high": one.high, "log": one.log}
        lines.append(f"{name}: {write_value(value)}\n")
    return "".join(lines)


def read_leaf(tree: object, name: str) -> Any:
    """Read what a dotted name stands for; None where a mapping has no such key."""
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else getattr(tree, part)
    return tree
