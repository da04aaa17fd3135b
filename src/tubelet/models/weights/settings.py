"""Read and write single settings of a transformers `config.json`, in the terms of our configurations."""

from typing import Any, Literal

from tubelet.errors import ConfigError

__all__ = ["HUB_KEY", "MEMORY_NAMES", "choose_gelu", "name_gelu", "to_pair"]

Gelu = Literal["tanh", "none"]

HUB_KEY = "_hub_id"
"""Under which name the settings of a folder that came from the hub hold its id; no file of transformers has it."""

MEMORY_NAMES = (
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
"""What transformers 5 calls the layers of its ViT and ViViT in memory, and what its files call them."""

_GELUS: dict[str, Gelu] = {
    "gelu": "none",
    "gelu_python": "none",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_accurate": "tanh",
}
"""Their activations that are GELU: exact, or by its tanh approximation."""


def choose_gelu(name: Any) -> Gelu:
    """Return which of our activations one of theirs is.

    Raises:
        ConfigError: an activation that no model here has.
    """
    if not isinstance(name, str) or name not in _GELUS:
        raise ConfigError(f"hidden_act must be one of {', '.join(_GELUS)} - found {name} - others are not offered.")
    return _GELUS[name]


def name_gelu(gelu: Gelu) -> str:
    """Return their name of one of our activations."""
    return "gelu" if gelu == "none" else "gelu_pytorch_tanh"


def to_pair(size: Any) -> tuple[int, int]:
    """Return height and width of a size that is one number or two.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(size, int):
        return size, size
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ConfigError(f"a size must be one whole number or two - found {size!r}")
    return int(size[0]), int(size[1])
