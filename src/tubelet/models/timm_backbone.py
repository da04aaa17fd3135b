"""Take an image network of timm as the backbone of a model of sequences (the extra `tubelet[timm]`).

Source: huggingface.co/docs/timm, `timm.create_model` and "Feature Extraction": with `num_classes=0` a model returns its
pooled features, `head_hidden_size` or (before there was that) `num_features` long.
"""

from jaxtyping import Float
from torch import Tensor, nn

from tubelet.errors import ConfigError, MissingExtra
from tubelet.models.backbones_config import TIMM

__all__ = ["TimmCnn"]


class TimmCnn(nn.Module):
    """Turn frames into the pooled features of a network of timm's.

    Args:
        name: `timm:` and a name that timm lists, such as `timm:resnet18`.
        channels: channels of a frame; timm adapts published weights to other than 3.
        pretrained: fetch published weights, from the network on first use.

    Raises:
        MissingExtra: timm is not installed.
        ConfigError: timm cannot make such a model; its reason is in the text.
    """

    def __init__(self, name: str, channels: int, *, pretrained: bool) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingExtra(
                f"cannot make the backbone '{name}' - {error} - pip install 'tubelet[timm]', or use backbone=small."
            ) from None
        try:
            self.body: nn.Module = timm.create_model(
                name.removeprefix(TIMM), pretrained=pretrained, num_classes=0, in_chans=channels
            )
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise ConfigError(
                f"cannot make the backbone '{name}' - timm says: {error} - 'timm.list_models()' lists what it has; "
                "backbone_pretrained=False fetches nothing."
            ) from None
        self.dim: int = getattr(self.body, "head_hidden_size", None) or self.body.num_features

    def forward(self, frames: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame {self.dim}"]:
        """Return the feature vector of each frame."""
        vectors: Tensor = self.body(frames)
        return vectors
