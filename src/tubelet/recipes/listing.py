"""Find recipes by name: `dataset/model`, each a function that returns a tree of plain values."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import TypeVar

from tubelet.recipes.pretraining import AnyRecipe, PretrainingRecipe
from tubelet.registry import Registry

__all__ = ["RECIPES", "ListedRecipe", "register_recipe"]

Make = Callable[[], AnyRecipe]
M = TypeVar("M", bound=Make)


@dataclass(frozen=True)
class ListedRecipe:
    """Hold a recipe that has a name."""

    name: str
    make: Make
    text: str
    """What it is for, what it reached and what is different from its source: the docstring."""

    @property
    def summary(self) -> str:
        """What it is for, in a line."""
        return self.text.partition("\n")[0]

    @property
    def command(self) -> str:
        """The command that takes it."""
        return "pretrain" if isinstance(self.make(), PretrainingRecipe) else "train"


RECIPES: Registry[ListedRecipe] = Registry("recipe", "tubelet recipe list")
"""Every recipe by name."""


def register_recipe(name: str, text: str = "") -> Callable[[M], M]:
    """Return a decorator that registers a function without arguments that makes a recipe.

    Args:
        name: `dataset/model`.
        text: instead of the function's docstring.

    Example:
        >>> from tubelet.recipes.recipe import Recipe
        >>> @register_recipe("mine/vivit")
        ... def make_mine() -> Recipe:
        ...     \"\"\"Train on my clips.\"\"\"
        ...     return Recipe()
        >>> RECIPES["mine/vivit"].summary
        'Train on my clips.'
    """

    def decorate(make: M) -> M:
        RECIPES.add(name, ListedRecipe(name, make, text or getdoc(make) or ""))
        return make

    return decorate
