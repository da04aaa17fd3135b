"""`tubelet recipe`: which recipes ship, what is in one, what every field of it means."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from tubelet.config import collect, overrides_type
from tubelet.recipes.recipe import Recipe

__all__ = ["recipe_app"]

recipe_app = App(name="recipe", help="List recipes, print one as YAML, explain their fields.")

RecipeOptions: Any = overrides_type(Recipe)


@recipe_app.command(name="list")
def list_recipes(pattern: str = "*", *, json: bool = False) -> None:
    """List the recipes that ship.

    Parameters
    ----------
    pattern: str
        Which of them, such as 'ucf101/*'.
    json: bool
        Print one JSON object instead of a table.
    """
    from tubelet.cli.recipe_tables import print_recipes

    print_recipes(pattern, as_json=json)


@recipe_app.command(name="show")
def show_recipe(
    name: str, *, fields: Annotated[RecipeOptions | None, Parameter(name="*")] = None, comments: bool = True
) -> None:
    """Print a recipe as YAML, for 'tubelet train --config FILE'.

    Parameters
    ----------
    name: str
        A name that 'tubelet recipe list' shows.
    comments: bool
        What each field means, above it.
    """
    from tubelet.cli.recipe_tables import print_recipe

    print_recipe(name, collect(fields), with_comments=comments)


@recipe_app.command(name="fields")
def list_fields(pattern: str = "*", *, pretraining: bool = False, json: bool = False) -> None:
    """Explain every field of a recipe: what it means, what it takes, its default.

    Parameters
    ----------
    pattern: str
        Which of them, such as 'optimizer.*'.
    pretraining: bool
        Those of a pre-training.
    json: bool
        Print one JSON object instead of text.
    """
    from tubelet.cli.recipe_tables import print_fields

    print_fields(pattern, pretraining=pretraining, as_json=json)
