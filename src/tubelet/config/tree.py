"""Build trees of dataclasses from plain values, strictly, and change their leaves by dotted name."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tubelet.config.fields import SCALARS, describe_fields, find_default, find_section, list_types, name_kind
from tubelet.errors import ConfigError, name_nearest

__all__ = ["Place", "build", "build_at", "flatten", "override"]

T = TypeVar("T")

_REPR = Repr()
_REPR.maxstring = _REPR.maxlong = 60


@dataclass(frozen=True)
class Place:
    """Say where a value stands, for messages: the file, its lines by dotted name, and the value's own dotted name."""

    origin: str = ""
    """The file or whoever asks; empty where nobody is to be named."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line by dotted name; empty where there are no lines."""
    name: str = ""
    """Dotted name of the value; empty at the root."""

    def step(self, key: object) -> "Place":
        """Return the place of the value under `key`."""
        return replace(self, name=f"{self.name}.{key}" if self.name else str(key))

    def fail(self, message: str) -> ConfigError:
        """Make the error that says `message` about this place."""
        line = f"line {self.lines[self.name]}" if self.name in self.lines else ""
        where = ", ".join(part for part in (self.origin, line) if part)
        return ConfigError(f"{where}: {message}" if where else message)


def build(cls: type[T], mapping: Mapping[str, Any], origin: str = "") -> T:
    """Build a tree from nested mappings, such as those of a checkpoint's JSON, as strictly as `read_config`.

    Args:
        cls: the dataclass at the root.
        mapping: values by key; lists stand for tuples; keys that are left out keep their defaults.
        origin: where the mapping comes from; messages begin with it.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value that a class refuses.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> build(InputSpec, {"frames": 8, "mean": [0.4, 0.5, 0.6]}).mean
        (0.4, 0.5, 0.6)
    """
    tree: T = build_at(cls, mapping, Place(origin))
    return tree


def flatten(tree: object) -> dict[str, Any]:
    """List the value of every leaf by its dotted name.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> flatten(InputSpec())["frames"]
        16
    """
    assert is_dataclass(tree)
    leaves: dict[str, Any] = {}
    for one in fields(tree):
        value = getattr(tree, one.name)
        if is_dataclass(value):
            leaves |= {f"{one.name}.{name}": leaf for name, leaf in flatten(value).items()}
        else:
            leaves[one.name] = value
    return leaves


def override(tree: T, changes: Mapping[str, Any], origin: str = "") -> T:
    """Return a tree with some leaves changed; all changes of one section take effect, and are checked, together.

    Args:
        tree: stays as it is.
        changes: values by dotted name. A name below a mapping field changes that key and keeps the others.
        origin: who asks, such as `"the command line"`; messages begin with it.

    Raises:
        ConfigError: an unknown name, a wrong type, a value that a class refuses.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> override(InputSpec(), {"frames": 8}).frames
        8
    """
    changed: T = _override(tree, changes, Place(origin))
    return changed


def build_at(cls: Any, mapping: Any, place: Place) -> Any:
    """Build the section that stands at `place`; messages name the place."""
    types = list_types(cls)
    if not isinstance(mapping, Mapping):
        name = place.name or "a configuration"
        raise place.fail(
            f"'{name}' must have keys of its own - found {_REPR.repr(mapping)} - give any of {', '.join(types)}."
        )
    values = {}
    for key, value in mapping.items():
        inner = place.step(key)
        if key not in types:
            raise _unknown(inner, str(key), cls)
        values[key] = _fit(value, types[key], inner)
    for one in fields(cls):
        if one.name not in values and find_default(one) is MISSING:
            name, kind = place.step(one.name).name, name_kind(types[one.name])
            raise place.fail(f"the key '{name}' is missing - it has no default - give {kind}.")
    return _construct(lambda: cls(**values), place)


def _construct(make: Callable[[], Any], place: Place) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise place.fail(str(error)) from None


def _override(tree: Any, changes: Mapping[str, Any], place: Place) -> Any:
    cls: type = type(tree)
    types = list_types(cls)
    values: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if head not in types:
            raise _unknown(place.step(name), name, cls)
        if rest:
            below.setdefault(head, {})[rest] = value
        elif find_section(types[head]) and isinstance(value, Mapping):
            below.setdefault(head, {}).update(value)
        else:
            values[head] = _fit(value, types[head], place.step(head))
    for head, inner_changes in below.items():
        old = values.get(head, getattr(tree, head))
        values[head] = _override_below(old, types[head], inner_changes, place.step(head))
    return _construct(lambda: replace(tree, **values), place)


def _override_below(old: Any, hint: Any, changes: dict[str, Any], place: Place) -> Any:
    section = find_section(hint)
    if section:
        return build_at(section, _nest(changes), place) if old is None else _override(old, changes, place)
    if isinstance(old, Mapping):
        return _fit({**old, **changes}, hint, place)
    raise place.fail(
        f"'{place.name}' is {name_kind(hint)} - there is nothing below it to change, such as '{next(iter(changes))}'."
    )


def _nest(changes: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            nested[head] = {**nested.get(head, {}), **_nest({rest: value})}
        else:
            nested[head] = value
    return nested


def _fit(value: Any, hint: Any, place: Place) -> Any:
    """Return `value` as the type that `hint` states, or raise."""
    if isinstance(hint, type) and is_dataclass(hint):
        # `optimizer:` with every line below it commented out means all defaults.
        return value if isinstance(value, hint) else build_at(hint, {} if value is None else value, place)
    if get_origin(hint) in _SHAPES:
        return _SHAPES[get_origin(hint)](value, hint, place)
    if hint not in SCALARS:
        raise TypeError(f"the field '{place.name}' has a type that configurations do not know: {hint}")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _mismatch(value, hint, place)
    return value


def _fit_union(value: Any, hint: Any, place: Place) -> Any:
    members = get_args(hint)
    others = [member for member in members if member is not NoneType]
    if value is None and NoneType in members:
        return None
    if len(others) == 1 and others[0] not in SCALARS:
        return _fit(value, others[0], place)  # its own message says more
    for member in sorted(others, key=lambda member: member is not type(value)):
        with suppress(ConfigError):
            return _fit(value, member, place)
    raise _mismatch(value, hint, place)


def _fit_choice(value: Any, hint: Any, place: Place) -> Any:
    for choice in get_args(hint):
        if type(choice) is type(value) and choice == value:
            return choice
    raise _mismatch(value, hint, place)


def _fit_tuple(value: Any, hint: Any, place: Place) -> Any:
    members = get_args(hint)
    if not isinstance(value, list | tuple):
        raise _mismatch(value, hint, place)
    if members[-1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(members) != len(value):
        raise _mismatch(value, hint, place)
    pairs = zip(value, members, strict=True)
    return tuple(_fit(item, member, place.step(index)) for index, (item, member) in enumerate(pairs))


def _fit_mapping(value: Any, hint: Any, place: Place) -> Any:
    if not isinstance(value, Mapping):
        raise _mismatch(value, hint, place)
    return {str(key): _fit(item, get_args(hint)[1], place.step(key)) for key, item in value.items()}


_SHAPES: dict[Any, Callable[[Any, Any, Place], Any]] = {
    Union: _fit_union,
    UnionType: _fit_union,
    Literal: _fit_choice,
    tuple: _fit_tuple,
    Mapping: _fit_mapping,
    dict: _fit_mapping,
}


def _mismatch(value: Any, hint: Any, place: Place) -> ConfigError:
    choices = [choice for choice in get_args(hint) if isinstance(choice, str)] if get_origin(hint) is Literal else []
    near = name_nearest(value, choices) if isinstance(value, str) else ""
    return place.fail(f"'{place.name}' must be {name_kind(hint)} - found {_REPR.repr(value)}{near or '.'}")


def _unknown(place: Place, key: str, cls: type) -> ConfigError:
    """Name the key that was probably meant: a sibling, or a key of that name elsewhere below."""
    dotted = list(describe_fields(cls))
    if key in dotted:
        near = " - nest its parts as keys below each other."
    else:
        elsewhere = [name for name in dotted if name.rpartition(".")[2] == key]
        near = f"; did you mean '{elsewhere[0]}'?" if elsewhere else name_nearest(key, [*list_types(cls), *dotted])
    return place.fail(f"unknown key '{place.name}'{near or '.'} Keys here: {', '.join(list_types(cls))}.")
