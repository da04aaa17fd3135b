"""Show recipes on the terminal."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from rich.console import Console
from rich.markup import escape

from tubelet.config import describe_fields, override, write_config, write_value
from tubelet.errors import UnknownName, name_nearest
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.shipped import SHIPPED as SHIPPED  # registers them

__all__ = ["print_fields", "print_recipe", "print_recipes"]


def print_recipes(pattern: str, *, as_json: bool) -> None:
    """Print what recipes there are.

    Raises:
        UnknownName: none matches.
    """
    names = sorted(RECIPES.match(pattern))
    if not names:
        near = name_nearest(pattern, RECIPES) or "."
        raise UnknownName(f"no recipe matches '{pattern}'{near} 'tubelet recipe list' lists all {len(RECIPES)}.")
    found = [(RECIPES[name], RECIPES[name].make()) for name in names]
    if as_json:
        rows = [
            {"name": one.name, "command": one.command, "model": recipe.model.name, "summary": one.summary}
            for one, recipe in found
        ]
        print(json.dumps({"recipes": rows}))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(name) for name in names)
    for one, _ in found:
        console.print(f"[bold]{one.name:<{width}}[/bold]  {escape(one.summary)}")
    console.print("\ntubelet train DATA --recipe NAME uses one; tubelet recipe show NAME > mine.yaml writes it down.")


def print_recipe(name: str, changes: Mapping[str, Any], *, with_comments: bool) -> None:
    """Print a recipe as YAML, below what is known about it.

    Raises:
        UnknownName: there is none of that name.
        ConfigError: a change that does not fit.
    """
    listed = RECIPES[name]
    text = write_config(override(listed.make(), changes, "command line"))
    about = "".join(f"# {line}".rstrip() + "\n" for line in listed.text.splitlines())
    lines = [line for line in text.splitlines() if with_comments or not line.lstrip().startswith("#")]
    print(f"{about}\n" + "\n".join(lines))  # noqa: T201 - YAML for a file


def print_fields(pattern: str, *, pretraining: bool, as_json: bool) -> None:
    """Print what every field means.

    Raises:
        UnknownName: none matches.
    """
    fields = describe_fields(PretrainingRecipe if pretraining else Recipe)
    names = [name for name in fields if fnmatchcase(name, pattern)]
    if not names:
        whole = " or ".join(repr(name) for name in fields if name.endswith(f".{pattern}"))
        near = f"; did you mean {whole}?" if whole else name_nearest(pattern, fields) or "."
        raise UnknownName(f"no field matches '{pattern}'{near} 'tubelet recipe fields' explains all {len(fields)}.")
    if as_json:
        rows = {
            name: {"text": fields[name].text, "kind": fields[name].kind, "default": write_value(fields[name].default)}
            for name in names
        }
        print(json.dumps(rows))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True)
    for name in names:
        field = fields[name]
        console.print(f"[bold]{name}[/bold] = {escape(write_value(field.default))}")
        console.print(f"    {field.text} Takes {field.kind}.", markup=False)
