"""Offer every leaf of a tree as a command-line option."""

from collections.abc import Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from tubelet.config.document import write_value
from tubelet.config.fields import find_default, find_section, list_types, read_texts
from tubelet.config.tree import flatten

__all__ = ["collect", "overrides_type"]


class _Untyped:
    """What an option's field holds where nobody typed the option; `None` is a value that one may type."""

    def __repr__(self) -> str:
        return "untyped"


_UNTYPED = _Untyped()


class _Unchecked:
    """Keep pydantic from options: wherever some package has imported it, cyclopts has it check defaults too."""

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> object:
        from pydantic_core import core_schema

        return core_schema.any_schema()


def overrides_type(cls: type) -> type:
    """Make the type of a command's options: one option a leaf, none of them required.

    With `Overrides = overrides_type(Recipe)` a command takes the keyword
    `overrides: Annotated[Overrides | None, Parameter(name="*")] = None`, and `collect` says which options were typed,
    so that options win over a file, and a file over the defaults. `none` types a `None`: `--input.rate_fps none`.

    Returns:
        A frozen dataclass shaped like `cls`, with the string under each field, and its default, as help.
    """
    from cyclopts import Parameter

    members: list[tuple[str, Any, Any]] = []
    for one in fields(cls):
        hint = list_types(cls)[one.name]
        section = find_section(hint)
        if section:
            mirror = overrides_type(section)
            members.append((one.name, mirror, field(default_factory=mirror)))
            continue
        default = find_default(one)
        shown = "" if default is MISSING else f"[default: {write_value(default)}]"
        origins = {get_origin(hint), *map(get_origin, get_args(hint))}
        option = Parameter(
            help=f"{read_texts(cls)[one.name]} {shown}".strip(),
            show_default=False,
            consume_multiple=tuple in origins,
        )
        members.append((one.name, Annotated[_name_dicts(hint), option, _Unchecked()], field(default=_UNTYPED)))
    # make_dataclass would name `types` as the module, and cyclopts expands no class of the standard library.
    return make_dataclass(f"{cls.__name__}Overrides", members, frozen=True, namespace={"__module__": cls.__module__})


def _name_dicts(hint: Any) -> Any:
    """Return the type with `dict` for `Mapping`, under which name alone cyclopts knows it."""
    if get_origin(hint) is Mapping:
        return dict[get_args(hint)]  # type: ignore[misc]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(_name_dicts(member) for member in get_args(hint))]  # noqa: UP007 - made at run time
    return hint


def collect(overrides: object | None) -> dict[str, Any]:
    """List the options that were typed, by dotted name, out of an instance of an `overrides_type`."""
    return {} if overrides is None else {name: v for name, v in flatten(overrides).items() if v is not _UNTYPED}
