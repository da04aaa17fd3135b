"""Read and write trees of dataclasses as YAML that people edit by hand."""

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from tubelet.config.fields import list_types, read_texts
from tubelet.config.tree import Place, build_at
from tubelet.errors import ConfigError, name_nearest

__all__ = ["read_config", "read_values", "write_config", "write_value"]

T = TypeVar("T")

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 20
_WIDTH = 120
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}
# What other YAML readers take for a truth value or for nothing, in any case, must stand in quotes.
_QUOTED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")


def read_config(path: str | os.PathLike[str], cls: type[T]) -> T:
    """Read a YAML file into a tree, strictly: what it cannot mean is an error with file and line.

    Unquoted text is read by YAML 1.2's rules: `3e-4` is a number; `no` and `1:30` are texts. Keys that are left out
    keep their defaults. Aliases and tags are refused, so that a file can neither grow in memory nor name an object.

    Raises:
        ConfigError: no such file, not YAML, an unknown or repeated key, a wrong type, a value that a class refuses.
    """
    values, place = read_values(path)
    tree: T = build_at(cls, {} if values is None else values, place)
    return tree


def read_values(path: str | os.PathLike[str]) -> tuple[Any, Place]:
    """Read a YAML file as strictly into plain values, for files whose keys are no fields of a class.

    Returns:
        The values (None for an empty file), and their place, which knows the line of each by its dotted name.

    Raises:
        ConfigError: no such file, not YAML, a repeated key.
    """
    path = Path(path)
    text = _read_text(path)
    lines: dict[str, int] = {}
    place = Place(str(path), lines)
    try:
        _check_events(text, place)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _at(place, mark.line + 1 if mark else None, f"this is not YAML - {problem}.") from None
    return None if node is None else _convert(node, place, lines), place


def write_config(tree: object) -> str:
    """Write a tree as YAML, with the string under each field as its comment.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> print(write_config(InputSpec(frames=8)))  # doctest: +ELLIPSIS
        # Frames (or slices of a volume) in one clip.
        frames: 8
        # Height of the model's input in pixels.
        height: 224
        ...
    """
    return "\n".join(_write_section(tree, 0)).lstrip("\n") + "\n"


def write_value(value: Any) -> str:
    """Write one leaf as YAML on one line.

    Example:
        >>> write_value((0.5, None, "no"))
        '[0.5, null, "no"]'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_value(key)}: {write_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item) for item in value) + "]"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _QUOTED:
            return value
        return str(yaml.safe_dump(value, default_style='"', allow_unicode=True, width=2**31)).strip()
    if isinstance(value, float):
        # Older readers know a number with an exponent only by its point.
        text = str(value).replace("inf", ".inf").replace("nan", ".nan")
        return text if "." in text else text.replace("e", ".0e")
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_section(tree: Any, depth: int) -> list[str]:
    lines: list[str] = []
    cls: type = type(tree)
    margin = "  " * depth
    for one in fields(tree):
        value, hint = getattr(tree, one.name), list_types(cls)[one.name]
        text = read_texts(cls)[one.name]
        if get_origin(hint) is Literal:
            text = f"{text} One of: {', '.join(write_value(choice) for choice in get_args(hint))}.".strip()
        if is_dataclass(value) and not depth:
            lines.append("")
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"{margin}# ", subsequent_indent=f"{margin}# ")
        if is_dataclass(value):
            inner = _write_section(value, depth + 1)
            lines += [f"{margin}{one.name}:" if inner else f"{margin}{one.name}: {{}}", *inner]
        else:
            lines.append(f"{margin}{one.name}: {write_value(value)}")
    return lines


def _read_text(path: Path) -> str:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_BYTES:
            raise ConfigError(
                f"{path}: a configuration has at most {_MAX_BYTES:,} bytes - this one has {size_bytes:,}."
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = name_nearest(path.name, sorted(file.name for file in path.parent.glob("*")))
        raise ConfigError(f"there is no configuration file '{path}'{near or '.'}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is not UTF-8 text - byte {error.start} cannot be read.") from None
    except OSError as error:
        raise ConfigError(f"the configuration '{path}' cannot be read - {error.strerror}.") from None


def _check_events(text: str, place: Place) -> None:
    """Refuse what could run code, grow without bound or nest without end, before anything is built."""
    depth = 0
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise _at(place, line, f"aliases are not read - found *{event.anchor} - write the value out.")
        if getattr(event, "tag", None):
            raise _at(place, line, f"tags are not read - found {event.tag} - write a plain value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _at(place, line, f"nested deeper than {_MAX_DEPTH} levels.")


def _convert(node: yaml.Node, place: Place, lines: dict[str, int]) -> Any:
    """Turn a YAML node into plain values, and note the line of every key."""
    lines.setdefault(place.name, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else _resolve(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, place.step(index), lines) for index, item in enumerate(node.value)]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _at(place, line, "a key must be a text - found a list or a section.")
        inner = place.step(key_node.value)
        if key_node.value in values:
            raise _at(
                place, line, f"the key '{inner.name}' is there twice - first in line {lines[inner.name]} - remove one."
            )
        lines[inner.name] = line
        values[key_node.value] = _convert(value_node, inner, lines)
    return values


def _resolve(text: str) -> bool | int | float | str | None:
    """Read an unquoted scalar by YAML 1.2's core schema, without its octal and hexadecimal numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit() else text


def _at(place: Place, line: int | None, message: str) -> ConfigError:
    return Place(place.origin, {"": line} if line else {}).fail(message)
