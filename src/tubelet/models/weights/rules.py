"""Rename and reshape the tensors of one program's weights into those of another, by rules that read both ways.

    theirs                                   ours
    layer.{i}.query.weight  \\
    layer.{i}.key.weight     > one rule <    blocks.{i}.attention.qkv.weight
    layer.{i}.value.weight  /

A rule names tensors on both sides by templates, in which `{i}` stands for the number of a layer, and says how values
go over. The rules of a family are data; this module applies them, from theirs to ours and back.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor

from tubelet.errors import CheckpointError, name_nearest

__all__ = ["Rule", "Schema", "State", "carry", "cut", "join", "recast", "same", "translate", "translate_back"]

State = Mapping[str, Shaped[Tensor, "..."]]
Carry = Callable[..., tuple[Tensor, ...]]


class Rule(NamedTuple):
    """State which tensors of theirs make which of ours, and how."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    into: Carry
    """Their tensors, in order, to ours."""
    back: Carry | None = None
    """Ours to theirs; None where there is no way back."""


@dataclass(frozen=True)
class Schema:
    """State how one program names the weights of one architecture."""

    title: str
    """What messages call it, such as `transformers' VideoMAE`."""
    sign: str
    """Regular expression of a key that such a file has, and no other program's file of any architecture."""
    rules: tuple[Rule, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    """Regular expressions of older or newer spellings, and what they are spelled here; tried before the rules."""
    ignored: str = "$^"
    """Regular expression of their keys that have no place in our model."""
    fresh: str = "$^"
    """Regular expression of our keys that such a file does not have; they keep their first values."""

    def recognizes(self, keys: Iterable[str]) -> bool:
        """Tell whether a file with these keys is of this schema."""
        return any(re.fullmatch(self.sign, self.spell(key)) for key in keys)

    def spell(self, key: str) -> str:
        """Return a key in the spelling of the rules."""
        for pattern, replacement in self.aliases:
            key = re.sub(pattern, replacement, key)
        return key


def carry(*values: Tensor) -> tuple[Tensor, ...]:
    """Hand values over as they are."""
    return values


def same(ours: str, theirs: str, parts: Sequence[str] = ("weight", "bias")) -> tuple[Rule, ...]:
    """Return the rules of a layer that only has another name: one for each of its parts."""
    return tuple(Rule((f"{ours}.{part}",), (f"{theirs}.{part}",), carry, carry) for part in parts)


def recast(ours: str, theirs: str, pattern: str, **sizes: int) -> Rule:
    """Return the rule of a tensor that has another shape there: an einops pattern from theirs to ours."""
    left, right = pattern.split("->")

    def into(value: Tensor) -> tuple[Tensor, ...]:
        return (rearrange(value, pattern, **sizes),)

    def back(value: Tensor) -> tuple[Tensor, ...]:
        return (rearrange(value, f"{right} -> {left}", **sizes),)

    return Rule((ours,), (theirs,), into, back)


def join(ours: str, theirs: Sequence[str]) -> Rule:
    """Return the rule of a tensor of ours that holds several of theirs, one after the other."""

    def into(*values: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat(values),)

    def back(value: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.chunk(len(theirs)))

    return Rule((ours,), tuple(theirs), into, back)


def cut(ours: Sequence[str], theirs: str, into: Carry, back: Carry | None = None) -> Rule:
    """Return the rule of a tensor of theirs that holds several of ours."""
    return Rule(tuple(ours), (theirs,), into, back)


def translate(state: State, schema: Schema) -> tuple[dict[str, Tensor], list[str]]:
    """Turn their weights into ours.

    Args:
        state: what their file holds; not changed.
        schema: how they are named there.

    Returns:
        Our weights by our names, and the keys of theirs that have no place here.

    Raises:
        CheckpointError: a key that the schema does not have, a tensor whose partner is missing, or one of a rank or
            size that no such model has.
    """
    rest = {schema.spell(key): value for key, value in state.items()}
    translated: dict[str, Tensor] = {}
    used: set[str] = set()
    for rule in schema.rules:
        for names in _find(rule.theirs, rest):
            missing = [name for name in names if name not in rest]
            if missing:
                raise CheckpointError(
                    f"{schema.title} keeps '{names[0]}' together with '{missing[0]}' - the second is missing among "
                    f"{len(rest)} keys - the file is incomplete; fetch it again."
                )
            index = _read_index(rule.theirs[0], names[0])
            values = _apply(rule.into, [rest[name] for name in names], names[0], schema.title)
            translated.update(zip((_fill(name, index) for name in rule.ours), values, strict=True))
            used.update(names)
    left = [key for key in rest if key not in used]
    unknown = [key for key in left if not re.fullmatch(schema.ignored, key)]
    if unknown:
        index = next(iter(re.findall(r"\d+", unknown[0])), "0")
        near = name_nearest(unknown[0], {_fill(name, index) for rule in schema.rules for name in rule.theirs})
        raise CheckpointError(
            f"{schema.title} has no weight '{unknown[0]}' - found it, and {len(unknown) - 1} more, among {len(rest)} "
            f"keys{near or ' -'} Check which program wrote the file, and which architecture it is of."
        )
    return translated, left


def translate_back(state: State, schema: Schema) -> dict[str, Tensor]:
    """Turn our weights into theirs: the other way through the same rules.

    Raises:
        CheckpointError: a weight of ours that they have no name for.
    """
    translated: dict[str, Tensor] = {}
    used: set[str] = set()
    for rule in schema.rules:
        if rule.back is None:
            continue
        for names in _find(rule.ours, state):
            if any(name not in state for name in names):
                continue
            index = _read_index(rule.ours[0], names[0])
            values = _apply(rule.back, [state[name] for name in names], names[0], schema.title)
            translated.update(zip((_fill(name, index) for name in rule.theirs), values, strict=True))
            used.update(names)
    left = [key for key in state if key not in used]
    if left:
        raise CheckpointError(
            f"{schema.title} has no place for '{left[0]}' - {len(left)} of {len(state)} weights would be lost - "
            "keep this model in tubelet's own format."
        )
    return {key: value.contiguous() for key, value in translated.items()}


def _find(templates: tuple[str, ...], state: State) -> list[tuple[str, ...]]:
    """List the names, one tuple a layer, of which `state` has at least one."""
    found: dict[str, tuple[str, ...]] = {}
    for template in templates:
        pattern = _to_pattern(template)
        for key in state if "{i}" in template else [template] if template in state else []:
            match = pattern.fullmatch(key)
            if match:
                index = match.groupdict().get("i", "")
                found.setdefault(index, tuple(_fill(name, index) for name in templates))
    return list(found.values())


def _to_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)"))


def _read_index(template: str, name: str) -> str:
    match = _to_pattern(template).fullmatch(name)
    return match.groupdict().get("i", "") if match else ""


def _fill(template: str, index: str) -> str:
    return template.replace("{i}", index)


def _apply(function: Carry, values: Sequence[Tensor], key: str, title: str) -> tuple[Tensor, ...]:
    try:
        return function(*values)
    except (ValueError, RuntimeError, ArithmeticError, IndexError) as error:  # einops' errors are RuntimeErrors
        shapes = ", ".join(str(tuple(value.shape)) for value in values)
        raise CheckpointError(
            f"cannot read '{key}' as a weight of {title} - found the shape {shapes}: {str(error).splitlines()[0]} - "
            "the weights are of another architecture."
        ) from None
