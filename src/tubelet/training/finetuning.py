"""Choose which weights move: all, those of the last layers, the head for a while, or adapters and the head."""

from torch import nn

from tubelet.errors import ConfigError
from tubelet.models.adapters import AdaptedLinear, add_adapters
from tubelet.models.depth import HEAD, count_layers, list_layers
from tubelet.recipes.optimization import FinetuningRecipe

__all__ = ["Freezing"]


class Freezing:
    """Hold some weights of a model where they are.

    Args:
        model: gets adapters, in place, where the recipe wants them; so its weights must be there already.
        recipe: what moves.

    Raises:
        ConfigError: more layers than there are, or adapters for a model without attention.
    """

    def __init__(self, model: nn.Module, recipe: FinetuningRecipe) -> None:
        self.model = model
        self.recipe = recipe
        layers = list_layers(model)
        last = count_layers(model) - 1
        if recipe.frozen_layers > last:
            raise ConfigError(
                f"finetuning.frozen_layers can be {last} at most, and -1 for all but the head - found "
                f"{recipe.frozen_layers} - the model has {last} layers before its head."
            )
        if recipe.adapter_rank:
            add_adapters(model, recipe.adapter_rank, recipe.adapter_scale)
            inside = tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, AdaptedLinear))
            self.moving = {
                name
                for name, _ in model.named_parameters()
                if name.startswith(HEAD) or (name.startswith(inside) and name.endswith((".down", ".up")))
            }
        elif recipe.frozen_layers == -1:
            self.moving = {name for name in layers if name.startswith(HEAD)}
        else:
            self.moving = {name for name, layer in layers.items() if layer >= recipe.frozen_layers}
        self._apply(is_head_alone=False)

    def start_epoch(self, epoch: int) -> None:
        """Make the model ready to be trained in an epoch, counted from 0.

        What does not move behaves as it does when clips are scored: no dropout, no running statistics.
        """
        self.model.train()
        self._apply(is_head_alone=epoch < self.recipe.head_epochs)
        for module in self.model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()

    def _apply(self, *, is_head_alone: bool) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.moving and (name.startswith(HEAD) or not is_head_alone))

    def describe(self) -> str:
        """Say in a few words what moves; an empty text where everything always does."""
        total = sum(parameter.numel() for parameter in self.model.parameters())
        moving = sum(value.numel() for name, value in self.model.named_parameters() if name in self.moving)
        parts = [] if moving == total else [f"{moving:,} of {total:,} parameters move"]
        if self.recipe.head_epochs:
            parts.append(f"only the head in the first {self.recipe.head_epochs} epochs")
        return ", ".join(parts)
