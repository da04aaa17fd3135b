"""Hold a configuration as one tree of frozen dataclasses, and carry it to YAML, to options and back.

    dataclass tree  --write_config-->  YAML with a comment per field  --read_config-->  the same tree
          |  ^
          |  '--override({"optimizer.lr": 3e-4})--  collect(options)  <--  `--optimizer.lr 3e-4`
          '--flatten-->  {"optimizer.lr": 3e-4, ...}

A field's default, its type and the string under it are stated once, in the class. Configuration is data: reading it builds
numbers, texts, tuples, mappings and the named dataclasses, and nothing else.

Fields may be `int`, `float`, `bool`, `str`, `Literal[...]`, `tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, another
dataclass, and unions of these with each other and with `None`.
"""

import ast
import inspect
import os
import re
import reprlib
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from tubelet.errors import ConfigError, name_nearest

__all__ = [
    "FieldText",
    "build",
    "collect",
    "describe_fields",
    "flatten",
    "overrides_type",
    "override",
    "read_config",
    "write_config",
]

T = TypeVar("T")

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 20
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|\.inf)|\.nan")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
_UNTYPED = object()  # what a mirror's field holds where its option was not typed; None is a value one may type


@dataclass(frozen=True)
class FieldText:
    """Hold what is known about one field of a tree: for help, comments and documentation pages."""

    text: str
    """The string under the field, on one line; empty where there is none."""
    kind: str
    """What it accepts, in words, such as `a number or null`."""
    default: Any
    """The value it takes when nobody says anything; `dataclasses.MISSING` where one must be given."""


@dataclass(frozen=True)
class _Place:
    """Where a value stands: its dotted name, its origin (a file), and the lines of that file."""

    origin: str
    lines: Mapping[str, int] = field(default_factory=dict)
    name: str = ""

    def step(self, key: str) -> "_Place":
        return replace(self, name=_join(self.name, key))

    def __str__(self) -> str:
        line = self.lines.get(self.name)
        return ", ".join(part for part in (self.origin, f"line {line}" if line else "") if part)

    def fail(self, message: str) -> ConfigError:
        return ConfigError(f"{self}: {message}" if str(self) else message)


def read_config(path: str | os.PathLike[str], cls: type[T]) -> T:
    """Read a YAML file into a tree, strictly: what it cannot mean is an error with file and line.

    Text is read by YAML 1.2's rules: `3e-4` is a number, `no` is a text, `1:30` is a text. Keys that are left out keep their
    defaults. Aliases and tags are refused, so a file cannot grow in memory or name a Python object.

    Raises:
        ConfigError: no such file, not YAML, an unknown or repeated key, a wrong type, a value that a class refuses.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        _check_events(text, path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{line}: not YAML: {problem}.") from None
    lines: dict[str, int] = {}
    mapping = {} if node is None else _convert(node, _Place(str(path), lines), lines)
    return _build(cls, {} if mapping is None else mapping, _Place(str(path), lines))


def build(cls: type[T], mapping: Mapping[str, Any], origin: str = "") -> T:
    """Build a tree from nested mappings, such as those of a checkpoint's JSON, as strictly as `read_config`.

    Args:
        cls: the dataclass at the root.
        mapping: values by key; lists stand for tuples.
        origin: where the mapping comes from; messages begin with it.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value that a class refuses.
    """
    return _build(cls, mapping, _Place(origin))


def write_config(tree: object) -> str:
    """Write a tree as YAML, with the string under each field as its comment.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> print(write_config(InputSpec(frames=8)).splitlines()[1])
        frames: 8
    """
    return "\n".join(_write_section(tree)).lstrip("\n") + "\n"


def describe_fields(cls: type) -> dict[str, FieldText]:
    """Describe every leaf of a tree by its dotted name.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> describe_fields(InputSpec)["frames"].text
        'Frames (or slices of a volume) in one clip.'
    """
    found = {}
    for one in fields(cls):
        hint = _hints(cls)[one.name]
        section = _section(hint)
        if section:
            found |= {_join(one.name, key): text for key, text in describe_fields(section).items()}
        else:
            found[one.name] = FieldText(_texts(cls).get(one.name, ""), _name_kind(hint), _default(one))
    return found


def flatten(tree: object) -> dict[str, Any]:
    """List every leaf's value by its dotted name.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> flatten(InputSpec())["frames"]
        16
    """
    leaves = {}
    for one in fields(cast(Any, tree)):
        value = getattr(tree, one.name)
        if is_dataclass(value):
            leaves |= {_join(one.name, key): leaf for key, leaf in flatten(value).items()}
        else:
            leaves[one.name] = value
    return leaves


def override(tree: T, changes: Mapping[str, Any], origin: str = "") -> T:
    """Return a tree with some leaves changed; all changes of one section are checked together.

    Args:
        tree: stays as it is.
        changes: values by dotted name. A key below a mapping field changes that key only.
        origin: who asks, such as `"the command line"`; messages begin with it.

    Raises:
        ConfigError: an unknown name, a wrong type, a value that a class refuses.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> override(InputSpec(), {"frames": 8}).frames
        8
    """
    return _override(tree, changes, _Place(origin))


def overrides_type(cls: type) -> type:
    """Make the type of a command's options: one option a leaf, none of them required.

    A command takes `overrides: Annotated[overrides_type(Recipe), Parameter(name="*")] | None = None`; `collect` then says which were
    typed, so that options win over a file, and a file over defaults. `--input.rate_fps none` is a typed `None`.
    """
    from cyclopts import Parameter

    members: list[tuple[str, Any, Any]] = []
    for one in fields(cls):
        hint = _hints(cls)[one.name]
        section = _section(hint)
        if section:
            mirror = overrides_type(section)
            members.append((one.name, mirror, field(default_factory=mirror)))
        else:
            default = "" if _default(one) is MISSING else f"[default: {_write_value(_default(one))}]"
            text = f"{_texts(cls).get(one.name, '')} {default}".strip()
            option = Parameter(help=text, show_default=False, consume_multiple=get_origin(hint) is tuple or None)
            members.append((one.name, Annotated[hint, option], field(default=_UNTYPED)))
    # cyclopts expands no class of a standard module, and make_dataclass would call this one `types`.
    return make_dataclass(f"{cls.__name__}Overrides", members, frozen=True, namespace={"__module__": cls.__module__})


def collect(overrides: object | None) -> dict[str, Any]:
    """List the options that were typed, by dotted name, out of an instance of an `overrides_type`."""
    return {} if overrides is None else {name: v for name, v in flatten(overrides).items() if v is not _UNTYPED}


# Reading: text -> plain values and their lines


def _read_text(path: Path) -> str:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_BYTES:
            raise ConfigError(f"{path}: a configuration has at most {_MAX_BYTES:,} bytes - this one has {size_bytes:,}.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = name_nearest(path.name, sorted(file.name for file in path.parent.glob("*")))
        raise ConfigError(f"no configuration file '{path}'{near or '.'}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, from byte {error.start} on.") from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration '{path}': {error.strerror}.") from None


def _check_events(text: str, path: Path) -> None:
    """Refuse what could run code, grow without bound or nest without end, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path}, line {line}: aliases (*{event.anchor}) are not read - write the value out.")
        if getattr(event, "tag", None):
            raise ConfigError(f"{path}, line {line}: tags ({event.tag}) are not read - write a plain value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path}, line {line}: nested deeper than {_MAX_DEPTH} levels.")


def _convert(node: yaml.Node, place: _Place, lines: dict[str, int]) -> Any:
    """Turn a YAML node into plain values, and note the line of every key."""
    lines.setdefault(place.name, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else _resolve(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, place.step(str(index)), lines) for index, item in enumerate(node.value)]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        inner = place.step(key)
        if key in values:
            line = key_node.start_mark.line + 1
            raise ConfigError(f"{place.origin}, line {line}: '{inner.name}' stands there twice, first in line {lines[inner.name]}.")
        lines[inner.name] = key_node.start_mark.line + 1
        values[key] = _convert(value_node, inner, lines)
    return values


def _resolve(text: str) -> bool | int | float | str | None:
    """Read an unquoted scalar by the rules of YAML 1.2's core schema (without octal and hexadecimal)."""
    words: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text in words:
        return words[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text


# Building: plain values -> the types that the fields state


def _build(cls: type[T], mapping: Any, place: _Place) -> T:
    hints = _hints(cls)
    if not isinstance(mapping, Mapping):
        raise place.fail(f"'{place.name or cls.__name__}' has keys of its own - found {_show(mapping)} - use: {_list(hints)}.")
    values = {}
    for key, value in mapping.items():
        inner = place.step(str(key))
        if key not in hints:
            raise inner.fail(f"unknown key '{inner.name}'{_nearest(key, cls)} It may be: {_list(hints)}.")
        values[key] = _fit(value, hints[key], inner)
    for one in fields(cast(Any, cls)):
        if one.name not in values and _default(one) is MISSING:
            raise place.fail(f"the key '{place.step(one.name).name}' is missing; it has no default.")
    return _construct(lambda: cls(**values), place)


def _construct(make: Any, place: _Place) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise place.fail(str(error)) from None


def _fit(value: Any, hint: Any, place: _Place) -> Any:
    """Return `value` as the type that `hint` states, or raise; `_SHAPES` holds the ways that are not plain types."""
    if is_dataclass(hint):
        whole = isinstance(value, cast(type, hint))
        return value if whole else _build(cast(type, hint), {} if value is None else value, place)
    origin = get_origin(hint)
    if origin in _SHAPES:
        return _SHAPES[origin](value, hint, place)
    if hint is float and type(value) is int:
        return float(value)
    if hint not in _KINDS:
        raise TypeError(f"the field '{place.name}' has a type that configurations do not know: {hint}")
    if type(value) is not hint:
        raise _mismatch(value, hint, place)
    return value


def _fit_union(value: Any, hint: Any, place: _Place) -> Any:
    members = get_args(hint)
    if value is None and NoneType in members:
        return None
    exact = [member for member in members if member is type(value)]
    failure = _mismatch(value, hint, place)
    for member in [*exact, *(member for member in members if member is not NoneType)]:
        try:
            return _fit(value, member, place)
        except ConfigError as error:
            # Where only one thing is possible, its own message says more than the list of kinds.
            failure = error if len([m for m in members if m is not NoneType]) == 1 else failure
    raise failure


def _fit_choice(value: Any, hint: Any, place: _Place) -> Any:
    for choice in get_args(hint):
        if type(choice) is type(value) and choice == value:
            return choice
    near = name_nearest(value, [str(choice) for choice in get_args(hint)]) if isinstance(value, str) else ""
    raise place.fail(f"'{place.name}' must be {_name_kind(hint)} - found {_show(value)}{near or '.'}")


def _fit_tuple(value: Any, hint: Any, place: _Place) -> Any:
    members = get_args(hint)
    if not isinstance(value, list | tuple):
        raise _mismatch(value, hint, place)
    if members[-1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(members) != len(value):
        raise place.fail(f"'{place.name}' must have {len(members)} entries - found {len(value)}: {_show(value)}.")
    return tuple(_fit(item, kind, place.step(str(i))) for i, (item, kind) in enumerate(zip(value, members, strict=True)))


def _fit_mapping(value: Any, hint: Any, place: _Place) -> Any:
    if not isinstance(value, Mapping):
        raise _mismatch(value, hint, place)
    return {str(key): _fit(item, get_args(hint)[1], place.step(str(key))) for key, item in value.items()}


_SHAPES: dict[Any, Any] = {
    Union: _fit_union,
    UnionType: _fit_union,
    Literal: _fit_choice,
    tuple: _fit_tuple,
    Mapping: _fit_mapping,
    dict: _fit_mapping,
}


def _override(tree: Any, changes: Mapping[str, Any], place: _Place) -> Any:
    cls, hints = type(tree), _hints(type(tree))
    below: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        inner = place.step(head)
        if head not in hints:
            raise inner.fail(f"unknown key '{place.step(name).name}'{_nearest(name, cls)} It may be: {_list(hints)}.")
        if rest:
            below.setdefault(head, {})[rest] = value
        elif _section(hints[head]) and isinstance(value, Mapping):
            below.setdefault(head, {}).update(value)
        else:
            values[head] = _fit(value, hints[head], inner)
    for head, inner_changes in below.items():
        inner, old = place.step(head), values.get(head, getattr(tree, head))
        section = _section(hints[head])
        if section:
            values[head] = _build(section, inner_changes, inner) if old is None else _override(old, inner_changes, inner)
        elif isinstance(old, Mapping):
            values[head] = _fit({**old, **inner_changes}, hints[head], inner)
        else:
            raise inner.fail(f"'{inner.name}' is {_name_kind(hints[head])} and has no keys below it, such as '{next(iter(inner_changes))}'.")
    return _construct(lambda: replace(tree, **values), place)
