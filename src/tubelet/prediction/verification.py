"""Check published weights against the figures of their authors, and remember which were checked on this machine."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubelet import files
from tubelet.errors import CheckpointError, ConfigError, TubeletError, name_nearest
from tubelet.models import create_model, find_card, list_models
from tubelet.models.anatomy import list_parts
from tubelet.models.published import Published, Reference, list_published
from tubelet.models.weights.hub import place_of
from tubelet.report.diagrams import draw_parts
from tubelet.transforms.preparation import fit, normalize
from tubelet.video.spec import InputSpec

__all__ = ["Verification", "draw_model", "read_verified", "verify_published"]

TOLERANCE = 1e-3
"""Largest difference of a logit: the published figures have four digits, and were computed on another machine."""

_CLIPS = "hf-internal-testing/spaghetti-video"


@dataclass(frozen=True)
class Verification:
    """State what came of checking one set of published weights."""

    name: str
    is_right: bool | None
    """None where nobody published anything to compare with."""
    finding: str
    """What was found, in words."""
    difference: float | None = None
    """Largest difference from the published logits; None where there is nothing to compare."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


def verify_published(pattern: str = "*") -> Iterator[Verification]:
    """Fetch published weights, load them, and compare their logits on a public clip with the published ones.

    What is right is remembered in our cache, and `tubelet models` shows it.

    Args:
        pattern: glob over names with tags, such as `videomae_base.*`; a name alone stands for all of its tags.

    Raises:
        ConfigError: at once, where nothing was published under such a name.
    """
    named = [(name, entry) for name in list_models() for entry in list_published(name)]
    chosen = [(name, entry) for name, entry in named if fnmatchcase(f"{name}.{entry.tag}", pattern) or name == pattern]
    if not chosen:
        near = name_nearest(pattern, [f"{name}.{entry.tag}" for name, entry in named]) or " -"
        raise ConfigError(f"no published weights match {pattern!r}{near} 'tubelet models' lists them.")
    return (_verify(name, entry) for name, entry in chosen)


def _verify(name: str, entry: Published) -> Verification:
    full = f"{name}.{entry.tag}"
    if entry.reference is None:
        return Verification(full, None, "its authors published no logits to compare with; unverified")
    try:
        difference = _compare(name, entry, entry.reference)
    except TubeletError as error:
        return Verification(full, False, str(error))
    is_right = difference <= TOLERANCE
    if is_right:
        _remember(full, f"logits within {difference:.1e}")
    finding = f"logits differ by {difference:.1e} at most from the published ones ({TOLERANCE:g} allowed)"
    return Verification(full, is_right, finding, difference)


def _compare(name: str, entry: Published, reference: Reference) -> float:
    """Return the largest difference from the published logits; they were computed with transformers' settings."""
    changes: dict[str, Any] = {"heads": reference.heads} if reference.heads else {}
    card = find_card(name)
    if card.architecture == "videomae":
        changes |= {"eps": 1e-12, "final_eps": 1e-5}
    model = create_model(f"{name}.{entry.tag}", **changes).eval()
    config = model.config
    spec = InputSpec(
        frames=reference.frames,
        height=config.height,
        width=config.width,
        mean=(reference.mean,),
        std=(reference.std,),
    )
    clip = fit(_fetch_clip(reference.clip)[: reference.frames], spec)
    with torch.inference_mode():
        logits = model(normalize(clip[None], spec))[0]
    expected = torch.tensor(reference.logits)
    return float((logits[: len(expected)] - expected).abs().max())


def _fetch_clip(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    place = place_of(_CLIPS) / name
    if not place.is_file():
        from huggingface_hub import hf_hub_download

        try:
            place = Path(hf_hub_download(_CLIPS, name, repo_type="dataset"))
        except Exception as error:
            raise CheckpointError(
                f"cannot fetch the clip {name!r} - {type(error).__name__}: {error} - download it from the data set "
                f"{_CLIPS} of the hub and put it at {str(place)!r}."
            ) from None
    clip: np.ndarray[Any, np.dtype[np.uint8]] = np.load(place, allow_pickle=False)
    return clip


def _verified_path() -> Path:
    return place_of("verified").with_suffix(".json")


def read_verified() -> dict[str, str]:
    """Read which published weights were found right on this machine, and how near they came."""
    try:
        content = json.loads(_verified_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(text) for name, text in content.items()} if isinstance(content, dict) else {}


def _remember(name: str, text: str) -> None:
    files.write_json(_verified_path(), {**read_verified(), name: text})


def draw_model(name: str, path: Path) -> None:
    """Draw the parts of one registered model with their shapes and parameters.

    Raises:
        UnknownName: no such model.
    """
    card = find_card(name)
    with torch.device("meta"):
        model = create_model(name)
    spec = card.input_spec
    size = f"{spec.frames} frames of {spec.height} x {spec.width}, {model.config.channels} channels"
    cost = f"{card.macs / 1e9:,.2f} GMACs" if card.macs else ""
    total = math.fsum(parameter.numel() for parameter in model.parameters())
    title = "  ".join(text for text in (name, f"{total:,.0f} parameters", cost) if text)
    draw_parts(title, f"clip: {size}", list_parts(model), f"scores of {model.num_classes} classes", path)
