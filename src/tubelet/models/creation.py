"""Create models by name, with fresh weights or with published ones."""

from typing import Any

from tubelet.models.card import change_config
from tubelet.models.contract import VideoModel, build_model, find_card
from tubelet.models.published import find_published
from tubelet.models.weights.loading import load_weights

__all__ = ["create_model"]


def create_model(name: str, num_classes: int | None = None, *, pretrained: bool = False, **changes: Any) -> VideoModel:
    """Build a model by name.

    Args:
        name: a registered name, as `list_models()` gives them; with `.tag`, the published weights of that tag are
            loaded, such as `videomae_base.kinetics400`.
        num_classes: classes that the head scores; those of the published weights, or 400, where it is not given.
        pretrained: start from the weights that the model's card names first; the head is fresh where the number of
            classes is another.
        **changes: hyper-parameters that differ from the card's: any field of `find_card(name).config`.

    Raises:
        UnknownName: nobody registered the name.
        ConfigError: a hyper-parameter that the architecture does not have, a value that does not fit, or weights that
            nobody published.
        CheckpointError: weights that cannot be fetched or read.

    Example:
        >>> import torch
        >>> model = create_model("vivit_nano_factorized_encoder", num_classes=5, channels=1)
        >>> model(torch.zeros(2, 1, 16, 48, 48)).shape
        torch.Size([2, 5])

    Cost: under `torch.device("meta")` even the largest model takes no memory.
    """
    stem, dot, tag = name.partition(".")
    config = find_card(stem).config
    published = find_published(stem, tag) if dot or pretrained else None
    if num_classes is None:
        num_classes = (published.num_classes if published else 0) or config.num_classes
    model = build_model(change_config(config, {"num_classes": num_classes, **changes}))
    if published is not None:
        load_weights(model, published.source)
    return model
