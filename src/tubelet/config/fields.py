"""Read what a dataclass says about its fields: names, types, defaults, and the string under each."""

import ast
import inspect
import textwrap
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = [
    "SCALARS",
    "FieldText",
    "describe_fields",
    "find_default",
    "find_section",
    "list_types",
    "name_kind",
    "read_texts",
]

SCALARS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}
"""The types of a leaf that is one value, and how messages call them."""


@dataclass(frozen=True)
class FieldText:
    """Hold what is known about one leaf of a tree: for help, comments and documentation pages."""

    text: str
    """The string under the field, on one line; empty where there is none."""
    kind: str
    """What it accepts, in words, such as `a number or null`."""
    default: Any
    """The value it takes when nobody says anything; `dataclasses.MISSING` where one must be given."""


def describe_fields(cls: type) -> dict[str, FieldText]:
    """Describe every leaf of a tree by its dotted name.

    Example:
        >>> from tubelet.video.spec import InputSpec
        >>> describe_fields(InputSpec)["frames"].text
        'Frames (or slices of a volume) in one clip.'
    """
    found: dict[str, FieldText] = {}
    for one in fields(cls):
        hint = list_types(cls)[one.name]
        section = find_section(hint)
        if section:
            found |= {f"{one.name}.{name}": text for name, text in describe_fields(section).items()}
        else:
            found[one.name] = FieldText(read_texts(cls)[one.name], name_kind(hint), find_default(one))
    return found


@cache
def list_types(cls: type) -> dict[str, Any]:
    """List the fields of a dataclass with their types, in order."""
    hints = get_type_hints(cls)
    return {one.name: hints[one.name] for one in fields(cls)}


@cache
def read_texts(cls: type) -> dict[str, str]:
    """Read the string under each field, on one line; empty where there is none or the source is not at hand.

    A section without a string of its own takes the first line of its class.
    """
    texts: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        texts |= _parse_texts(owner) if is_dataclass(owner) else {}
    for name, hint in list_types(cls).items():
        section = find_section(hint)
        document = (section.__doc__ or "") if section else ""
        # A dataclass without a docstring gets its signature for one.
        first = "" if section and document.startswith(f"{section.__name__}(") else document.strip().split("\n")[0]
        texts.setdefault(name, first)
    return texts


def _parse_texts(cls: type) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):  # made at run time or typed into a shell: there is no source
        return {}
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    texts[statement.target.id] = " ".join(text.split())
    return texts


def find_section(hint: Any) -> type | None:
    """Return the dataclass that a field holds, also where it may be `None` instead; `None` for a leaf."""
    members = [member for member in get_args(hint) if member is not NoneType] if _is_union(hint) else [hint]
    section = members[0]
    return section if len(members) == 1 and isinstance(section, type) and is_dataclass(section) else None


def find_default(one: "Field[Any]") -> Any:
    """Return a field's default, made where it has a factory; `dataclasses.MISSING` where it has none."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def name_kind(hint: Any) -> str:
    """Say in words what a field accepts.

    Example:
        >>> name_kind(tuple[float, ...] | None)
        'a list (each a number) or null'
    """
    members = get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if _is_union(hint):
        return " or ".join(name_kind(member) for member in members)
    if get_origin(hint) is Literal:
        return " or ".join(repr(member) for member in members)
    if get_origin(hint) is tuple:
        kinds = [name_kind(member) for member in members if member is not Ellipsis]
        return f"a list (each {kinds[0]})" if Ellipsis in members else f"a list ({', '.join(kinds)})"
    return "a section with keys of its own"


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
